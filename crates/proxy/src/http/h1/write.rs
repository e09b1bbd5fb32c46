//! Heads and chunks to bytes, into a buffer that one write sends.
//!
//! Names keep the case and the order in which they came. Fields of one connection only are left out and written
//! anew: what frames the message is decided by the writer, never copied from the reader.

use bytes::BytesMut;

use super::parse::tokens;
use crate::http::head::{Fields, Framing, Known, MethodKind, RequestHead, ResponseHead, Version};

/// What a head may need besides its own text.
const SPARE: usize = 256;

/// Writes a request head in origin-form (authority-form for CONNECT).
pub fn request(out: &mut BytesMut, head: &RequestHead, framing: Framing) {
    out.reserve(head.fields.text().len() + SPARE);
    out.extend_from_slice(head.method_bytes());
    out.extend_from_slice(b" ");
    let connect = head.kind == MethodKind::Connect;
    out.extend_from_slice(if connect { head.authority().as_bytes() } else { head.target_bytes() });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if head.fields.known(Known::Host).is_none() {
        field(out, b"host", head.authority().as_bytes());
    }
    let upgrade = head.upgrade.then(|| head.fields.known(Known::Upgrade)).flatten();
    fields(out, &head.fields);
    if head.accepts_trailers {
        field(out, b"te", b"trailers");
    }
    if let Some(protocol) = upgrade {
        field(out, b"connection", b"upgrade");
        field(out, b"upgrade", protocol);
    } else if head.accepts_trailers {
        field(out, b"connection", b"te");
    }
    match framing {
        Framing::Length(length) => content_length(out, length),
        Framing::Chunked => field(out, b"transfer-encoding", b"chunked"),
        // Servers answer 411 to a POST that says nothing of its body (RFC 9110 section 8.6); HTTP/2 does not say it.
        Framing::None if !head.upgrade && matches!(head.method(), "POST" | "PUT" | "PATCH") => {
            content_length(out, 0);
        }
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// What a response's head says besides its own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseShape {
    /// How the body will be framed towards this client.
    pub framing: Framing,
    /// Whether the connection stays open.
    pub persistent: bool,
    /// What the client speaks: HTTP/1.0 must be told that a connection stays open.
    pub version: Version,
    /// The response has no body, but its fields describe one: answers to HEAD, and 304.
    pub describes_body: bool,
}

/// Writes a response head.
pub fn response(out: &mut BytesMut, head: &ResponseHead, shape: ResponseShape) {
    out.reserve(head.fields.text().len() + SPARE);
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = head.status;
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    match head.reason() {
        [] => out.extend_from_slice(reason_phrase(status).as_bytes()),
        reason => out.extend_from_slice(reason),
    }
    out.extend_from_slice(b"\r\n");
    fields(out, &head.fields);
    if status == 101 {
        field(out, b"connection", b"upgrade");
        if let Some(protocol) = head.fields.known(Known::Upgrade) {
            field(out, b"upgrade", protocol);
        }
        out.extend_from_slice(b"\r\n");
        return;
    }
    match shape.framing {
        Framing::Length(length) => content_length(out, length),
        Framing::Chunked => field(out, b"transfer-encoding", b"chunked"),
        Framing::None if shape.describes_body => {
            if let Some(length) = head.fields.known(Known::ContentLength) {
                field(out, b"content-length", length);
            }
        }
        Framing::None | Framing::UntilClose => {}
    }
    match (shape.persistent, shape.version) {
        (false, _) if !head.is_interim() => field(out, b"connection", b"close"),
        (true, Version::Http10) => field(out, b"connection", b"keep-alive"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// `HTTP/1.1 100 Continue`, whole.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes one chunk; nothing for no data, since an empty chunk ends the body.
pub fn chunk(out: &mut BytesMut, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut size = data.len();
    while size > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[size & 15];
        size >>= 4;
    }
    out.reserve(data.len() + 20);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Every field but those of one connection, those that frame the body and those that `connection` names.
fn fields(out: &mut BytesMut, fields: &Fields) {
    let names_some =
        fields.iter_known().any(|(known, _, value)| known == Known::Connection && names_fields(value));
    let kept = fields.spans().filter(|(known, name, _)| {
        let skip = known.is_hop_by_hop()
            || *known == Known::ContentLength
            || (names_some && !known.is_end_to_end() && is_named(fields, name.of(fields.text())));
        !skip
    });
    // Lines that lie one behind the other as they are to be written are copied at once.
    let text = fields.text();
    let pair =
        |at: usize, first: u8, second: u8| text.get(at) == Some(&first) && text.get(at + 1) == Some(&second);
    let (mut begin, mut end) = (0, 0);
    for (_, name, value) in kept {
        let as_written = value.start() == name.end() + 2
            && pair(name.end(), b':', b' ')
            && pair(value.end(), b'\r', b'\n');
        if as_written && name.start() == end {
            end = value.end() + 2;
            continue;
        }
        out.extend_from_slice(&text[begin..end]);
        (begin, end) = (0, 0);
        if as_written {
            (begin, end) = (name.start(), value.end() + 2);
        } else {
            field(out, name.of(text), value.of(text));
        }
    }
    out.extend_from_slice(&text[begin..end]);
}

/// Whether a `connection` value names anything but the usual options.
fn names_fields(value: &[u8]) -> bool {
    tokens(value)
        .any(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
}

pub(crate) fn is_named(fields: &Fields, name: &[u8]) -> bool {
    let mut connections = fields.iter_known().filter(|(known, ..)| *known == Known::Connection);
    connections.any(|(.., value)| tokens(value).any(|token| token.eq_ignore_ascii_case(name)))
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut BytesMut, length: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    field(out, b"content-length", &digits[at..]);
}

fn digit(number: u16) -> u8 {
    b'0' + (number % 10) as u8
}

fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
