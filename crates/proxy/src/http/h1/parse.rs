//! Bytes to message heads, strictly (RFC 9112).
//!
//! `httparse` splits the tokens; what a message means is decided here, and whatever two parsers could read in two
//! ways is refused: that is what request smuggling lives on. Nothing here reads a socket.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use crate::http::head::{Known, MethodKind, RequestHead, ResponseHead, Span, Version};

mod framing;

pub use framing::BodyOf;
pub(crate) use framing::tokens;

/// The most fields a head may ever have, whatever the settings say: their list lives on the stack.
const MOST_FIELDS: usize = 256;
/// Empty lines that may stand before a request line (RFC 9112 section 2.2 asks for one).
const LEADING_EMPTY_LINES: usize = 2;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first of the start line to the empty line.
    pub bytes: usize,
    /// Number of header fields; at most 256.
    pub fields: usize,
}

impl Default for HeadLimits {
    /// What Envoy takes by default: 60 KiB and 100 fields.
    fn default() -> Self {
        Self { bytes: 60 * 1024, fields: 100 }
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHead {
    /// A bare line feed, or a carriage return without one.
    #[error("a line does not end in carriage return and line feed")]
    LineEnd,
    /// The head does not fit in the limit.
    #[error("the head is too large")]
    TooLarge,
    /// The first line alone does not fit in the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// More fields than the limit.
    #[error("the head has too many fields")]
    TooManyFields,
    /// The first line is no request line or status line.
    #[error("the start line is malformed")]
    StartLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the protocol version is not supported")]
    Version,
    /// The request target is none of the four forms.
    #[error("the request target is malformed")]
    Target,
    /// A field name that is no token, a space before the colon, a folded line.
    #[error("a field name is malformed")]
    FieldName,
    /// A control character in a value.
    #[error("a field value is malformed")]
    FieldValue,
    /// No `host`, or several, or one that is no authority.
    #[error("the host field is missing, repeated or malformed")]
    Host,
    /// `content-length` that is no number, or several that differ.
    #[error("content-length is malformed or contradicts itself")]
    ContentLength,
    /// Both ways to say where the body ends.
    #[error("both content-length and transfer-encoding")]
    TwoFramings,
    /// `transfer-encoding` that does not end in `chunked`, or in HTTP/1.0.
    #[error("transfer-encoding is malformed")]
    TransferEncoding,
    /// A transfer coding besides `chunked`.
    #[error("a transfer coding is not supported")]
    TransferCoding,
    /// `expect` with anything but `100-continue`: whoever reads it otherwise waits for another body than we do.
    #[error("an expectation is not supported")]
    Expectation,
}

impl InvalidHead {
    /// The status that answers such a request.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            InvalidHead::TooLarge | InvalidHead::TooManyFields => 431,
            InvalidHead::TargetTooLong => 414,
            InvalidHead::Expectation => 417,
            InvalidHead::Version => 505,
            InvalidHead::TransferCoding => 501,
            _ => 400,
        }
    }

    /// A name for access logs.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            InvalidHead::LineEnd => "http1.invalid_line_end",
            InvalidHead::TooLarge => "http1.headers_too_large",
            InvalidHead::TargetTooLong => "http1.url_too_long",
            InvalidHead::TooManyFields => "http1.too_many_headers",
            InvalidHead::Expectation => "http1.unsupported_expectation",
            InvalidHead::StartLine => "http1.invalid_start_line",
            InvalidHead::Version => "http1.invalid_version",
            InvalidHead::Target => "http1.invalid_url",
            InvalidHead::FieldName => "http1.invalid_header_name",
            InvalidHead::FieldValue => "http1.invalid_header_value",
            InvalidHead::Host => "http1.invalid_host",
            InvalidHead::ContentLength => "http1.unexpected_content_length",
            InvalidHead::TwoFramings => "http1.content_length_and_chunked",
            InvalidHead::TransferEncoding | InvalidHead::TransferCoding => "http1.invalid_transfer_encoding",
        }
    }
}

/// Finds the end of a head in bytes that arrive piece by piece; looks at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    scanned: usize,
    line: usize,
    empty_lines: usize,
}

/// Where a head lies in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadAt {
    /// After the empty lines that may precede it.
    pub start: usize,
    /// After its own empty line.
    pub end: usize,
}

impl HeadScan {
    /// Looks on in `buffer`, which holds what was there at the last call and more.
    ///
    /// # Errors
    /// A bare line feed, or a head over the limit.
    pub fn find(&mut self, buffer: &[u8], limit: usize) -> Result<Option<HeadAt>, InvalidHead> {
        if self.scanned == 0
            && let Some(end) = whole_head(buffer).filter(|end| *end <= limit)
        {
            return Ok(Some(HeadAt { start: 0, end }));
        }
        let skipped = self.empty_lines * 2;
        while let Some(found) = memchr::memchr(b'\n', &buffer[self.scanned..]) {
            let at = self.scanned + found;
            if at == self.line || buffer[at - 1] != b'\r' {
                return Err(InvalidHead::LineEnd);
            }
            self.scanned = at + 1;
            let empty = at == self.line + 1;
            let first = self.line == self.empty_lines * 2;
            self.line = at + 1;
            match (empty, first) {
                (true, true) if self.empty_lines == LEADING_EMPTY_LINES => {
                    return Err(InvalidHead::StartLine);
                }
                (true, true) => self.empty_lines += 1,
                (true, false) if at + 1 - self.empty_lines * 2 > limit => return Err(InvalidHead::TooLarge),
                (true, false) => return Ok(Some(HeadAt { start: self.empty_lines * 2, end: at + 1 })),
                (false, _) => {}
            }
        }
        self.scanned = buffer.len();
        match buffer.len() > limit + skipped {
            true if self.line == self.empty_lines * 2 => Err(InvalidHead::TargetTooLong),
            true => Err(InvalidHead::TooLarge),
            false => Ok(None),
        }
    }

    /// Whether anything but empty lines was seen: then silence is a slow head, not an idle connection.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.scanned > self.empty_lines * 2
    }
}

/// The end of a head that is there as a whole and has nothing to object to, as nearly all have: found a vector at a
/// time instead of line by line. `None` says nothing.
fn whole_head(buffer: &[u8]) -> Option<usize> {
    if matches!(buffer.first(), None | Some(b'\r' | b'\n')) {
        return None;
    }
    let end = END_OF_HEAD.find(buffer)? + 4;
    let (before, line_ends) = (&buffer[..end - 1], &buffer[1..end]);
    let pairs = before.iter().zip(line_ends);
    let bare = pairs.fold(false, |bare, (before, at)| bare | (*at == b'\n' && *before != b'\r'));
    (!bare).then_some(end)
}

static END_OF_HEAD: LazyLock<memchr::memmem::Finder<'static>> =
    LazyLock::new(|| memchr::memmem::Finder::new(b"\r\n\r\n"));

/// Reads a request head; `bytes` is exactly one head, from its first byte through its empty line.
///
/// # Errors
/// Says what is wrong; `head` is then only good for the log.
pub fn parse_request(bytes: &[u8], limits: HeadLimits, head: &mut RequestHead) -> Result<(), InvalidHead> {
    head.clear();
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let fields = &mut fields[..limits.fields.min(MOST_FIELDS)];
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_request_with_uninit_headers(&mut request, bytes, fields)
        .map_err(|error| start_line_or(error, bytes))?;
    if parsed != httparse::Status::Complete(bytes.len()) {
        return Err(InvalidHead::StartLine);
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    head.version = version(request.version)?;
    load(&mut head.fields, bytes, request.headers);
    head.method = span_in(bytes, method.as_bytes());
    head.kind = MethodKind::of(method.as_bytes());
    split_target(head, bytes, target.as_bytes())?;
    take_host(head)?;
    framing::of_request(head)
}

/// Reads a response head; `bytes` is exactly one head. `body_of` says what the request was: it decides whether there is a body.
///
/// # Errors
/// Says what is wrong.
pub fn parse_response(
    bytes: &[u8],
    limits: HeadLimits,
    body_of: BodyOf,
    head: &mut ResponseHead,
) -> Result<(), InvalidHead> {
    head.clear();
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let fields = &mut fields[..limits.fields.min(MOST_FIELDS)];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, fields)
        .map_err(|error| start_line_or(error, bytes))?;
    if parsed != httparse::Status::Complete(bytes.len()) {
        return Err(InvalidHead::StartLine);
    }
    head.version = version(response.version)?;
    head.status = response.code.filter(|code| (100..600).contains(code)).ok_or(InvalidHead::StartLine)?;
    load(&mut head.fields, bytes, response.headers);
    head.reason = span_in(bytes, response.reason.unwrap_or_default().as_bytes());
    framing::of_response(head, body_of)
}

fn start_line_or(error: httparse::Error, bytes: &[u8]) -> InvalidHead {
    match error {
        httparse::Error::HeaderName => InvalidHead::FieldName,
        httparse::Error::HeaderValue => InvalidHead::FieldValue,
        httparse::Error::NewLine => InvalidHead::LineEnd,
        httparse::Error::TooManyHeaders => InvalidHead::TooManyFields,
        httparse::Error::Version if is_some_http(bytes) => InvalidHead::Version,
        _ => InvalidHead::StartLine,
    }
}

/// Whether the first line has three parts and ends in `HTTP/digit.digit`: a version of HTTP, though not one of ours.
fn is_some_http(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let three = line.iter().filter(|&&byte| byte == b' ').count() == 2;
    let digits = |a: &u8, b: &u8| a.is_ascii_digit() && b.is_ascii_digit();
    three && matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', a, b'.', b] if digits(a, b))
}

fn version(minor: Option<u8>) -> Result<Version, InvalidHead> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(InvalidHead::Version),
    }
}

fn load(into: &mut crate::http::head::Fields, bytes: &[u8], fields: &[httparse::Header<'_>]) {
    into.load(bytes);
    for field in fields {
        let name = field.name.as_bytes();
        into.push(span_in(bytes, name), span_in(bytes, field.value), Known::of(name));
    }
}

/// The span of a slice that httparse cut out of `bytes`; empty slices may point anywhere.
fn span_in(bytes: &[u8], part: &[u8]) -> Span {
    if part.is_empty() {
        return Span::default();
    }
    let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
    Span::new(start, start + part.len())
}

/// The four forms of a request target (RFC 9112 section 3.2).
fn split_target(head: &mut RequestHead, bytes: &[u8], target: &[u8]) -> Result<(), InvalidHead> {
    if target.is_empty() || target.iter().any(|&byte| !(0x21..0x7f).contains(&byte) || byte == b'#') {
        return Err(InvalidHead::Target);
    }
    if head.kind == MethodKind::Connect {
        head.authority = span_in(bytes, target);
        return if is_authority(target) && target.contains(&b':') {
            Ok(())
        } else {
            Err(InvalidHead::Target)
        };
    }
    if target[0] == b'/' || (target == b"*" && head.method() == "OPTIONS") {
        head.path = span_in(bytes, target);
        return Ok(());
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (begin, rest) = target.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let rest = rest.ok_or(InvalidHead::Target)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_authority(authority) {
        return Err(InvalidHead::Target);
    }
    head.absolute_form = true;
    head.authority = span_in(bytes, authority);
    head.path = match path.first() {
        Some(b'/') => span_in(bytes, path),
        // `http://host?query` has an empty path, which is sent on as `/`.
        _ => head.fields.append(&[b"/", path].concat()),
    };
    Ok(())
}

/// Exactly one `host` in HTTP/1.1 (RFC 9112 section 3.2); an authority in the target overrides it.
fn take_host(head: &mut RequestHead) -> Result<(), InvalidHead> {
    let mut hosts = head.fields.iter_known().filter(|(known, ..)| *known == Known::Host);
    let first = hosts.next().map(|(.., value)| value);
    let more = hosts.next().is_some();
    drop(hosts);
    if more || (first.is_none() && head.version == Version::Http11) {
        return Err(InvalidHead::Host);
    }
    if let Some(host) = first
        && !is_authority(host)
    {
        return Err(InvalidHead::Host);
    }
    let host = first.map_or_else(Span::default, |host| span_in(head.fields.text(), host));
    if head.authority.is_empty() {
        head.authority = host;
    } else {
        head.fields.replace_known(Known::Host, b"host", head.authority);
    }
    Ok(())
}

/// Whether `text` can be a host with an optional port: no user information, no path, no space, no list, one port.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (host, port) = (&rest[..end], &rest[end + 1..]);
            if !host.iter().all(|&byte| byte.is_ascii_hexdigit() || b":.%".contains(&byte)) {
                return false;
            }
            (&host[..0], port)
        }
        None => text.split_at(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(byte);
    let port_is_valid = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    port_is_valid && host.iter().all(allowed)
}

#[cfg(test)]
mod tests;
