//! What an application answers: a description of the request, in the way that the request asks for.

use serde_json::{Value, json};

/// How to answer, as `key=value` separated by `;`: `status`, `body` (`length`, `chunked`, `close`, `none`), `header`
/// and `trailer` (`name:value`), `reset`, `delay` in milliseconds, `late` (only after so many tries by the same `user-agent`).
pub const ANSWER: &str = "x-answer";

/// The answer that a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) status: u16,
    pub(super) body: Body,
    pub(super) headers: Vec<(String, String)>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) reset: bool,
    pub(super) delay: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Length,
    Chunked,
    Close,
    None,
}

impl Wanted {
    pub(super) fn parse(text: &str) -> Self {
        let mut wanted = Self {
            status: 200,
            body: Body::Length,
            headers: Vec::new(),
            trailers: Vec::new(),
            reset: false,
            delay: 0,
        };
        let pair = |value: &str| {
            let (name, value) = value.split_once(':').unwrap_or((value, ""));
            (name.to_owned(), value.to_owned())
        };
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (key, value) {
                ("status", value) => wanted.status = value.parse().unwrap_or(500),
                ("body", "chunked") => wanted.body = Body::Chunked,
                ("body", "close") => wanted.body = Body::Close,
                ("body", "none") => wanted.body = Body::None,
                ("header", value) => wanted.headers.push(pair(value)),
                ("trailer", value) => wanted.trailers.push(pair(value)),
                ("delay", value) => wanted.delay = value.parse().unwrap_or(0),
                ("reset", _) => wanted.reset = true,
                _ => {}
            }
        }
        if matches!(wanted.status, 204 | 304) {
            wanted.body = Body::None;
        }
        wanted
    }
}

/// What was received.
pub(super) struct Received<'a> {
    pub(super) protocol: &'a str,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) authority: &'a [u8],
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: &'a [u8],
    pub(super) trailers: Vec<(String, Vec<u8>)>,
}

impl Received<'_> {
    /// As JSON, bytes that are no ASCII escaped.
    pub(super) fn describe(&self, name: &str) -> Vec<u8> {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let pairs = |fields: &[(String, Vec<u8>)]| -> Value {
            fields.iter().map(|(name, value)| json!([name.to_ascii_lowercase(), text(value)])).collect()
        };
        let json = json!({
            "backend": name,
            "protocol": self.protocol,
            "method": self.method,
            "target": self.target,
            "authority": text(self.authority),
            "fields": pairs(&self.fields),
            "body": text(self.body),
            "trailers": pairs(&self.trailers),
        });
        json.to_string().into_bytes()
    }
}
