//! The answer of a test service: what it received, who it is, who called, and what others said.

use std::net::SocketAddr;

use hyper::header::HeaderMap;
use hyper::{Version, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::Config;
use super::xfcc::{self, Certificate};

/// The header by which a proxy says whom it verified.
pub const IDENTITY_HEADER: &str = "x-forwarded-client-cert";

/// What the service says, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub service: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    pub host: String,
    pub request: Received,
    pub caller: Caller,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Called>,
}

/// The request as it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Received {
    pub method: String,
    /// With its query.
    pub path: String,
    pub authority: String,
    /// `HTTP/1.1`, `HTTP/2` or `gRPC`.
    pub protocol: String,
    /// In the order received; names in lower case, the values of a repeated name together.
    pub headers: Vec<(String, String)>,
    pub body_bytes: u64,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The other end of the connection: a proxy, in a mesh.
    pub address: String,
    /// The verified identity of the nearest caller, from `x-forwarded-client-cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The identity of the proxy that verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// Every element of the header, the nearest caller last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
}

/// What another service said, or why it did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Called {
    pub url: String,
    pub milliseconds: f64,
    /// HTTP status; for gRPC the status that HTTP would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its answer: an [`Answer`] where it is an echo service, else any JSON, else its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
}

impl Called {
    /// Whether the service could not be reached or said that it failed.
    pub fn is_failed(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|status| status >= 500)
    }
}

impl Answer {
    /// An answer of this service.
    pub(super) fn new(config: &Config, request: Received, caller: Caller, calls: Vec<Called>) -> Self {
        Answer {
            service: config.name.clone(),
            version: config.version.clone(),
            host: config.host.clone(),
            request,
            caller,
            calls,
        }
    }
}

impl Received {
    pub(super) fn new(head: &Parts, body_bytes: u64) -> Self {
        let host = head.headers.get(hyper::header::HOST).map(text);
        Received {
            method: head.method.to_string(),
            path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authority: head.uri.authority().map(ToString::to_string).or(host).unwrap_or_default(),
            protocol: protocol(head.version).to_owned(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body_bytes,
        }
    }
}

impl Caller {
    pub(super) fn new(peer: SocketAddr, headers: &HeaderMap) -> Self {
        let values = headers.get_all(IDENTITY_HEADER).iter().map(text).collect::<Vec<_>>().join(",");
        let certificates = xfcc::parse(&values);
        let nearest = certificates.last();
        Caller {
            address: peer.to_string(),
            identity: nearest.and_then(|certificate| certificate.uri.first().cloned()),
            verified_by: nearest.and_then(|certificate| certificate.by.first().cloned()),
            certificates,
        }
    }
}

fn text(value: &hyper::header::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The name of a version of HTTP, as access logs give it.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
