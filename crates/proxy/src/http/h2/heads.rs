//! Heads of HTTP/2 to our heads and back (RFC 9113 section 8).
//!
//! Inside, a head is one text with ranges; the `http` crate's maps exist only between `h2` and here.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};

use crate::http::h1::parse::is_authority;
use crate::http::head::{Fields, Framing, Known, MethodKind, RequestHead, ResponseHead, Version};

/// Why a head cannot cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHead {
    /// More fields than the limit.
    #[error("the head has too many fields")]
    TooManyFields,
    /// `content-length` that is no number, or several.
    #[error("content-length is malformed or repeated")]
    ContentLength,
    /// Method or path that the other protocol has no form for.
    #[error("the request target is malformed")]
    Target,
    /// No authority, several hosts in its place, or one that is none.
    #[error("the authority is missing, repeated or malformed")]
    Authority,
    /// `:protocol` that no upgrade can be asked for by.
    #[error("the protocol of the tunnel is malformed or not served")]
    Protocol,
    /// `expect` with anything but `100-continue`.
    #[error("an expectation is not supported")]
    Expectation,
}

impl InvalidHead {
    /// The status that answers such a request.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            InvalidHead::TooManyFields => 431,
            InvalidHead::Expectation => 417,
            _ => 400,
        }
    }

    /// A name for access logs.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            InvalidHead::TooManyFields => "http2.too_many_headers",
            InvalidHead::ContentLength => "http2.unexpected_content_length",
            InvalidHead::Target => "http2.invalid_path",
            InvalidHead::Authority => "http2.invalid_authority",
            InvalidHead::Protocol => "http2.invalid_protocol",
            InvalidHead::Expectation => "http2.unsupported_expectation",
        }
    }
}

/// Reads the head of a request. `ends` says that no body follows.
///
/// # Errors
/// What HTTP/1.1 could not say after translation, or would read otherwise.
pub fn read_request(
    parts: &http::request::Parts,
    ends: bool,
    most_fields: usize,
    head: &mut RequestHead,
) -> Result<(), InvalidHead> {
    head.clear();
    head.version = Version::Http2;
    head.persistent = true;
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    // Inside, a tunnel that was asked for by extended CONNECT (RFC 8441) is what it is in HTTP/1.1: a GET that asks for
    // an upgrade. Routes and policies see one spelling.
    let method = if protocol.is_some() { &http::Method::GET } else { &parts.method };
    head.method = head.fields.append(method.as_str().as_bytes());
    head.kind = MethodKind::of(method.as_str().as_bytes());
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if head.kind != MethodKind::Connect {
        let valid = target.starts_with('/') || (target == "*" && *method == http::Method::OPTIONS);
        if !valid || !target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(InvalidHead::Target);
        }
        head.path = head.fields.append(target.as_bytes());
    }
    let length = read_fields(&parts.headers, most_fields, &mut head.fields)?;
    head.framing = match (ends, length) {
        (true, _) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    };
    take_authority(parts.uri.authority(), head)?;
    // `h2` has refused any other value.
    head.accepts_trailers = head.fields.known(Known::Te).is_some();
    head.expects_continue = match head.fields.known(Known::Expect) {
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
        Some(_) => return Err(InvalidHead::Expectation),
        None => false,
    };
    if let Some(protocol) = protocol {
        let name = protocol.as_str().as_bytes();
        if !is_protocol(name) {
            return Err(InvalidHead::Protocol);
        }
        head.fields.set(b"upgrade", name);
        (head.upgrade, head.framing) = (true, Framing::None);
    }
    Ok(())
}

/// Whether a tunnel may be asked for by this name. `h2` takes any text; in HTTP/1.1 it is the value of `upgrade`, where a
/// line end would begin a field, and a list would offer more than was looked at. HTTP/2 itself is none: its requests would
/// pass through the tunnel unseen.
fn is_protocol(name: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    !name.is_empty() && name.iter().all(token) && !name.eq_ignore_ascii_case(b"h2c")
}

/// `:authority`, or exactly one `host` in its place (RFC 9113 section 8.3.1). Where both are, the former counts and is
/// what is sent on.
fn take_authority(said: Option<&Authority>, head: &mut RequestHead) -> Result<(), InvalidHead> {
    let authority = match said {
        Some(authority) => authority.as_str().to_owned(),
        None => {
            let mut hosts = head.fields.iter_known().filter(|(known, ..)| *known == Known::Host);
            match (hosts.next(), hosts.next()) {
                (Some((.., host)), None) => String::from_utf8_lossy(host).into_owned(),
                _ => return Err(InvalidHead::Authority),
            }
        }
    };
    if authority.is_empty() || !is_authority(authority.as_bytes()) {
        return Err(InvalidHead::Authority);
    }
    head.set_authority(&authority);
    Ok(())
}

/// Reads the head of a response; `bodiless` when the request was HEAD, `ends` when no body follows.
///
/// # Errors
/// As for requests.
pub fn read_response(
    parts: &http::response::Parts,
    bodiless: bool,
    ends: bool,
    most_fields: usize,
    head: &mut ResponseHead,
) -> Result<(), InvalidHead> {
    head.clear();
    head.version = Version::Http2;
    head.persistent = true;
    head.status = parts.status.as_u16();
    let length = read_fields(&parts.headers, most_fields, &mut head.fields)?;
    head.framing = match length {
        _ if bodiless || ends || matches!(head.status, 100..200 | 204 | 304) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    Ok(())
}

/// Reads trailers.
pub fn read_trailers(map: &HeaderMap, fields: &mut Fields) {
    fields.clear();
    for (name, value) in map {
        let known = Known::of(name.as_str().as_bytes());
        if !known.is_hop_by_hop() && (known == Known::GrpcStatus || !known.is_end_to_end()) {
            fields.add(name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn read_fields(map: &HeaderMap, most: usize, fields: &mut Fields) -> Result<Option<u64>, InvalidHead> {
    if map.len() > most {
        return Err(InvalidHead::TooManyFields);
    }
    let (mut length, mut cookies) = (None, 0);
    for (name, value) in map {
        let known = Known::of(name.as_str().as_bytes());
        match known {
            Known::ContentLength => {
                let number =
                    value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let number = number.and_then(|text| text.parse().ok()).ok_or(InvalidHead::ContentLength)?;
                if length.replace(number).is_some() {
                    return Err(InvalidHead::ContentLength);
                }
            }
            Known::Cookie => cookies += 1,
            _ => {}
        }
        // Space around a value is no part of it (RFC 9113 section 8.2.1), and HTTP/1.1 could not keep it.
        fields.add(name.as_str().as_bytes(), value.as_bytes().trim_ascii());
    }
    if cookies > 1 {
        // Crumbs are joined again for whoever may not speak HTTP/2 (RFC 9113 section 8.2.3).
        let crumbs: Vec<&[u8]> =
            map.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        fields.set(b"cookie", &crumbs.join(b"; ".as_slice()));
    }
    Ok(length)
}

/// Makes the head of a request.
///
/// # Errors
/// A target that is none in HTTP/2.
pub fn write_request(
    head: &RequestHead,
    framing: Framing,
    scheme: &'static str,
) -> Result<http::Request<()>, InvalidHead> {
    let mut request = http::Request::new(());
    *request.method_mut() =
        http::Method::from_bytes(head.method().as_bytes()).map_err(|_| InvalidHead::Target)?;
    let mut uri = http::uri::Parts::default();
    let authority = if head.authority().is_empty() { "localhost" } else { head.authority() };
    uri.authority = Some(Authority::try_from(authority).map_err(|_| InvalidHead::Target)?);
    if head.kind != MethodKind::Connect {
        uri.scheme = Some(if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP });
        uri.path_and_query = Some(path_and_query(head.target())?);
    }
    *request.uri_mut() = http::Uri::from_parts(uri).map_err(|_| InvalidHead::Target)?;
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    write_fields(&head.fields, headers);
    if head.accepts_trailers {
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    if let Framing::Length(length) = framing {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

/// A target that HTTP/1.1 brought. Characters that no URI may hold, which browsers send all the same, are escaped.
fn path_and_query(target: &str) -> Result<PathAndQuery, InvalidHead> {
    PathAndQuery::try_from(target).or_else(|_| {
        let mut escaped = String::with_capacity(target.len() + 16);
        for character in target.chars() {
            match character {
                '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                    escaped.push_str(&format!("%{:02X}", u32::from(character)));
                }
                other => escaped.push(other),
            }
        }
        PathAndQuery::try_from(escaped).map_err(|_| InvalidHead::Target)
    })
}

/// Makes the head of a response. `describes_body` keeps the length of a body that is not sent (HEAD, 304).
pub fn write_response(head: &ResponseHead, framing: Framing, describes_body: bool) -> http::Response<()> {
    let mut response = http::Response::new(());
    // The yes to an extended CONNECT (RFC 8441 section 5).
    let switched = head.status == 101;
    let status = if switched { 200 } else { head.status };
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    *response.version_mut() = http::Version::HTTP_2;
    let headers = response.headers_mut();
    write_fields(&head.fields, headers);
    if switched {
        headers.remove(http::header::SEC_WEBSOCKET_ACCEPT);
    }
    match framing {
        Framing::Length(length) => {
            headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        Framing::None if describes_body => {
            let length =
                head.fields.known(Known::ContentLength).and_then(|v| HeaderValue::from_bytes(v).ok());
            if let Some(length) = length {
                headers.insert(http::header::CONTENT_LENGTH, length);
            }
        }
        _ => {}
    }
    response
}

/// Makes trailers.
pub fn write_trailers(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    write_fields(fields, &mut map);
    map
}

fn write_fields(fields: &Fields, map: &mut HeaderMap) {
    for (known, name, value) in fields.iter_known() {
        if known.is_hop_by_hop() || matches!(known, Known::Host | Known::ContentLength) {
            continue;
        }
        let named = fields.known(Known::Connection).is_some()
            && !known.is_end_to_end()
            && crate::http::h1::write::is_named(fields, name);
        if named {
            continue;
        }
        // Both were checked when the head was read; what does not fit is left out rather than sent half.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_no_uri_is_are_escaped() {
        for (target, expected) in
            [("/a?b=%7c|", "/a?b=%7c|"), ("/a<b>?`", "/a%3Cb%3E?%60"), ("/a^b`c", "/a%5Eb%60c"), ("*", "*")]
        {
            assert_eq!(path_and_query(target).expect("a target").as_str(), expected);
        }
    }

    #[test]
    fn the_name_of_a_tunnel_can_say_nothing_else() {
        for (protocol, valid) in [
            ("websocket", true),
            ("connect-udp", true),
            ("foo/2", true),
            ("", false),
            ("websocket\r\nx-admin: yes", false),
            ("websocket\r\n\r\nGET /admin HTTP/1.1", false),
            ("websocket, h2c", false),
            ("web socket", false),
            ("H2C", false),
            ("\u{e9}", false),
        ] {
            let request = http::Request::connect("http://a/chat");
            let request = request.extension(h2::ext::Protocol::from(protocol)).body(()).expect("a request");
            let (parts, ()) = request.into_parts();
            let mut head = RequestHead::default();
            let read = read_request(&parts, false, 100, &mut head);
            assert_eq!(read, if valid { Ok(()) } else { Err(InvalidHead::Protocol) }, "{protocol:?}");
        }
    }
}
