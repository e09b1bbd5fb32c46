//! What to send, where to, how often.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Uri};

use super::Error;

/// A load, fully described.
#[derive(Debug, Clone)]
pub struct Plan {
    pub target: Target,
    /// Requests per second over all connections; `None` sends as fast as answers come.
    pub rate: Option<f64>,
    pub connections: u32,
    pub threads: u32,
    pub duration: Duration,
    pub warmup: Duration,
    /// For one answer.
    pub timeout: Duration,
    pub method: Method,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// Requests under way at a time on each HTTP/2 connection; `None` speaks HTTP/1.1.
    pub http2_streams: Option<u32>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` or `host`, as written.
    pub authority: String,
    /// Path and query.
    pub path: String,
    host: String,
    port: u16,
}

/// Why a load cannot be as described.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPlan {
    #[error("`{0}` is not an http:// address; write http://HOST:PORT/PATH")]
    Url(String),
    #[error("`{0}` is not a header; write `name: value`")]
    Header(String),
    #[error("`{0}` is not a method")]
    Method(String),
    #[error("{0} is not a rate; write requests per second, or 0 for as fast as answers come")]
    Rate(f64),
}

impl Plan {
    /// A closed loop of GET requests on 16 connections for 10 s; the rest is set by field.
    pub fn new(url: &str) -> Result<Self, InvalidPlan> {
        Ok(Plan {
            target: url.parse()?,
            rate: None,
            connections: 16,
            threads: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4) as u32),
            duration: Duration::from_secs(10),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(10),
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            http2_streams: None,
        })
    }

    /// The time between two requests of the whole load.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate))
    }

    /// The head of an HTTP/1.1 request, the same each time. `host` among the headers replaces ours.
    pub(super) fn http1_head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target.path).into_bytes();
        if !self.headers.iter().any(|(name, _)| *name == hyper::header::HOST) {
            head.extend_from_slice(format!("host: {}\r\n", self.target.authority).as_bytes());
        }
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() || matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            head.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Whether a request may be sent again when a kept connection closed before any answer
    /// (RFC 9110, 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }
}

impl std::str::FromStr for Target {
    type Err = InvalidPlan;

    fn from_str(url: &str) -> Result<Self, InvalidPlan> {
        let invalid = || InvalidPlan::Url(url.to_owned());
        let uri = url.parse::<Uri>().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(invalid)?;
        if authority.as_str().contains('@') {
            return Err(invalid());
        }
        Ok(Target {
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
        })
    }
}

impl Target {
    /// The first of the host's addresses that takes a connection.
    pub(super) fn reach(&self, timeout: Duration) -> Result<SocketAddr, Error> {
        let resolved = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses = resolved.map_err(|source| Error::Resolve { host: self.host.clone(), source })?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout.max(Duration::from_millis(1))) {
                Ok(_) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(Error::Connect { authority: self.authority.clone(), source: last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_apart() {
        let target: Target = "http://[::1]:8080/a/b?c=d".parse().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 8080));
        assert_eq!((target.authority.as_str(), target.path.as_str()), ("[::1]:8080", "/a/b?c=d"));
        let target: Target = "http://localhost".parse().unwrap();
        assert_eq!((target.port, target.path.as_str()), (80, "/"));
        for url in ["localhost:80", "https://localhost/", "http://", "http://user@host/", "/"] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_header_replaces_ours() {
        let mut plan = Plan::new("http://localhost:1/x").unwrap();
        assert_eq!(plan.http1_head(), b"GET /x HTTP/1.1\r\nhost: localhost:1\r\n\r\n");
        plan.headers.push((hyper::header::HOST, HeaderValue::from_static("shop")));
        plan.method = Method::POST;
        assert_eq!(plan.http1_head(), b"POST /x HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n");
    }
}
