//! Where a body ends (RFC 9112 section 6.3), and what `connection` says.

use super::InvalidHead;
use crate::http::head::{Fields, Framing, Known, MethodKind, RequestHead, ResponseHead, Version};

/// What the request of a response was, as far as the body of the response depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyOf {
    /// An answer to HEAD has no body, whatever its fields say.
    Head,
    /// A 2xx to CONNECT begins a tunnel.
    Connect,
    /// Any other method.
    #[default]
    Other,
}

impl BodyOf {
    /// For a response to a request of this kind.
    #[must_use]
    pub fn method(kind: MethodKind) -> Self {
        match kind {
            MethodKind::Head => BodyOf::Head,
            MethodKind::Connect => BodyOf::Connect,
            _ => BodyOf::Other,
        }
    }
}

/// What the framing fields say together.
struct Said {
    length: Option<u64>,
    chunked: bool,
    connection: Connection,
}

#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

pub(super) fn of_request(head: &mut RequestHead) -> Result<(), InvalidHead> {
    let said = read(&mut head.fields, head.version)?;
    head.framing = match (said.chunked, said.length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::None,
    };
    head.persistent = persistent(head.version, &said.connection);
    for (known, _, value) in head.fields.iter_known() {
        match known {
            Known::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(InvalidHead::Expectation);
            }
            Known::Expect => head.expects_continue = head.version == Version::Http11,
            Known::Upgrade if said.connection.upgrade && head.version == Version::Http11 => {
                head.h2c |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"h2c"));
                head.upgrade = true;
            }
            Known::Te => {
                head.accepts_trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
    }
    // A body of an upgrade or a CONNECT would be taken for the new protocol by one side and not by the other.
    if head.kind == MethodKind::Connect && head.framing != Framing::None {
        return Err(InvalidHead::TwoFramings);
    }
    head.upgrade &= head.framing.is_empty() && !head.h2c;
    head.h2c &= head.framing.is_empty();
    Ok(())
}

pub(super) fn of_response(head: &mut ResponseHead, body_of: BodyOf) -> Result<(), InvalidHead> {
    let said = read(&mut head.fields, head.version)?;
    let bodiless = body_of == BodyOf::Head
        || matches!(head.status, 100..200 | 204 | 304)
        || (body_of == BodyOf::Connect && (200..300).contains(&head.status));
    head.framing = match (bodiless, said.chunked, said.length) {
        (true, ..) => Framing::None,
        (_, true, _) => Framing::Chunked,
        (_, _, Some(length)) => Framing::Length(length),
        _ => Framing::UntilClose,
    };
    head.persistent = persistent(head.version, &said.connection) && head.framing != Framing::UntilClose;
    Ok(())
}

fn persistent(version: Version, connection: &Connection) -> bool {
    !connection.close && (version == Version::Http11 || connection.keep_alive)
}

/// Reads the fields that decide where the body ends, and drops copies of `content-length`.
fn read(fields: &mut Fields, version: Version) -> Result<Said, InvalidHead> {
    let mut said = Said { length: None, chunked: false, connection: Connection::default() };
    let (mut lengths, mut codings) = (0, 0);
    for (known, _, value) in fields.iter_known() {
        match known {
            Known::ContentLength => {
                let length = content_length(value)?;
                if said.length.replace(length).is_some_and(|before| before != length) {
                    return Err(InvalidHead::ContentLength);
                }
                lengths += 1;
            }
            Known::TransferEncoding => {
                said.chunked = is_chunked(value)?;
                codings += 1;
            }
            Known::Connection => read_connection(value, &mut said.connection),
            _ => {}
        }
    }
    match (codings, version) {
        (0, _) => {}
        (1, Version::Http11) if lengths == 0 => {}
        (_, Version::Http11) if lengths > 0 => return Err(InvalidHead::TwoFramings),
        _ => return Err(InvalidHead::TransferEncoding),
    }
    if lengths > 1 {
        let value = fields.known(Known::ContentLength).unwrap_or_default().to_vec();
        fields.set(b"content-length", &value);
    }
    Ok(said)
}

/// Digits only: no sign, no list, no overflow.
fn content_length(value: &[u8]) -> Result<u64, InvalidHead> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(InvalidHead::ContentLength);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(InvalidHead::ContentLength)
}

/// Only `chunked`: a coding that we do not undo must not be sent on under another framing.
fn is_chunked(value: &[u8]) -> Result<bool, InvalidHead> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    let several = value.contains(&b',');
    let coding_before =
        several && !tokens(&value[..value.len() - last.len()]).any(|t| t.eq_ignore_ascii_case(b"chunked"));
    if last.eq_ignore_ascii_case(b"chunked") && coding_before {
        Err(InvalidHead::TransferCoding)
    } else {
        Err(InvalidHead::TransferEncoding)
    }
}

fn read_connection(value: &[u8], connection: &mut Connection) {
    for token in tokens(value) {
        if token.eq_ignore_ascii_case(b"close") {
            connection.close = true;
        } else if token.eq_ignore_ascii_case(b"keep-alive") {
            connection.keep_alive = true;
        } else if token.eq_ignore_ascii_case(b"upgrade") {
            connection.upgrade = true;
        }
    }
}

/// The elements of a comma-separated list, without parameters' meaning and without empty ones.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
