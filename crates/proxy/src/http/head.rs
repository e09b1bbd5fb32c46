//! Message heads: one buffer with ranges into it, whatever the protocol they came by.
//!
//! A head of HTTP/1.1 and a head of HTTP/2 become the same value, so that everything behind the door
//! (decisions, filters, retries, records) is written once. A head is recycled from request to request: after the
//! first few requests of a connection neither its text nor its list of fields allocates.

use std::str;

use super::grpc_web::Coding;

mod fields;
mod known;

pub use fields::{Field, Fields, is_value};
pub use known::Known;

/// A range of a head's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes that this span names in `text`.
    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(self) -> usize {
        self.end as usize
    }

    /// Whether nothing is named.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The protocol that a message came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, no keep-alive unless asked.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As access logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// How the end of a body is known (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks, then trailers; for HTTP/2 a body of unknown length.
    Chunked,
    /// Everything until the stream ends: responses only.
    UntilClose,
}

impl Framing {
    /// Whether the message ends with its head.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }

    /// The length, if it is known before the body.
    #[must_use]
    pub fn length(self) -> Option<u64> {
        match self {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

/// The methods that the proxy itself treats differently; every other is a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MethodKind {
    /// Safe and idempotent: GET, OPTIONS, TRACE.
    #[default]
    Safe,
    /// HEAD: safe, and its response has no body.
    Head,
    /// PUT and DELETE: may be sent twice (RFC 9110 section 9.2.2).
    Idempotent,
    /// CONNECT: asks for a tunnel.
    Connect,
    /// POST, PATCH and all names that are unknown.
    Other,
}

impl MethodKind {
    /// The kind of a method name, which is case-sensitive.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" | b"OPTIONS" | b"TRACE" => MethodKind::Safe,
            b"HEAD" => MethodKind::Head,
            b"PUT" | b"DELETE" => MethodKind::Idempotent,
            b"CONNECT" => MethodKind::Connect,
            _ => MethodKind::Other,
        }
    }

    /// Whether sending the request twice means the same as sending it once.
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(self, MethodKind::Safe | MethodKind::Head | MethodKind::Idempotent)
    }
}

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Header fields, and the text that all spans of this head are ranges of.
    pub fields: Fields,
    pub(crate) method: Span,
    pub(crate) authority: Span,
    pub(crate) path: Span,
    /// Path and query before a rewrite.
    received: Option<Span>,
    /// What the method means to the proxy.
    pub kind: MethodKind,
    /// The protocol that the request came by.
    pub version: Version,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client will use the connection again.
    pub persistent: bool,
    /// `expect: 100-continue`: the client waits before it sends the body.
    pub expects_continue: bool,
    /// `connection: upgrade` with an `upgrade` field.
    pub upgrade: bool,
    /// `te: trailers`.
    pub accepts_trailers: bool,
    /// The target named an authority (absolute-form), as requests to an explicit proxy do.
    pub absolute_form: bool,
    /// `connection: upgrade` to HTTP/2 over cleartext, which is between the caller and us and is never sent on.
    pub h2c: bool,
    /// The caller speaks gRPC-Web, and this is a translation.
    pub grpc_web: Option<Coding>,
}

impl RequestHead {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        self.str(self.method)
    }

    /// The method's name as it is sent on.
    pub(crate) fn method_bytes(&self) -> &[u8] {
        self.method.of(self.fields.text())
    }

    /// Path and query as they are sent on.
    pub(crate) fn target_bytes(&self) -> &[u8] {
        self.path.of(self.fields.text())
    }

    /// `host[:port]`: of the target if it names one, else of the `host` field; empty if neither does.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.str(self.authority)
    }

    /// Path and query as they are sent on; `*` for `OPTIONS *`, empty for CONNECT.
    #[must_use]
    pub fn target(&self) -> &str {
        self.str(self.path)
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// Replaces path and query.
    pub fn set_target(&mut self, target: &str) {
        self.path = self.fields.append(target.as_bytes());
    }

    /// Path and query as they came, before a rewrite.
    #[must_use]
    pub fn received_target(&self) -> &str {
        self.str(self.received.unwrap_or(self.path))
    }

    /// Replaces path and query, and says what they were.
    pub fn rewrite_target(&mut self, target: &str) {
        self.received.get_or_insert(self.path);
        self.fields.set_span(b"x-envoy-original-path", self.path);
        self.set_target(target);
    }

    /// Replaces the authority, and says what it was.
    pub fn rewrite_authority(&mut self, authority: &str) {
        self.fields.set_span(b"x-envoy-original-host", self.authority);
        self.set_authority(authority);
    }

    /// Replaces the authority, in the target and in `host`.
    pub fn set_authority(&mut self, authority: &str) {
        self.authority = self.fields.append(authority.as_bytes());
        self.fields.replace_known(Known::Host, b"host", self.authority);
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    fn str(&self, span: Span) -> &str {
        // The parsers accept only visible ASCII in method, authority and path.
        str::from_utf8(span.of(self.fields.text())).unwrap_or_default()
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Header fields.
    pub fields: Fields,
    /// 100 to 599.
    pub status: u16,
    pub(crate) reason: Span,
    /// The protocol that the response came by.
    pub version: Version,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the server will take another request on the connection.
    pub persistent: bool,
}

impl ResponseHead {
    /// The reason phrase as it was sent; often empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.of(self.fields.text())
    }

    /// Whether another head follows this one (RFC 9110 section 15.2); 101 is final.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}
