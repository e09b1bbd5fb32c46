//! The one reading of HTTP/1.1 that is allowed towards a backend: nothing that two parsers could take differently.
//!
//! What a proxy sends on must be readable by this. It is not shared with the proxy's own parser on purpose.

/// The head of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The target, as it came.
    pub target: String,
    /// The fields, as they came.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Where the body ends.
    pub framing: Framing,
}

/// Where a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With the last chunk.
    Chunked,
}

/// A body and what follows it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Something that could be read in two ways, and what.
pub type Ambiguous = String;

/// What is there so far: a value and its length, or nothing complete yet.
pub type Read<T> = Result<Option<(T, usize)>, Ambiguous>;

impl Head {
    /// The only value of a field, names in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

/// Reads the head at the beginning of `bytes`.
///
/// # Errors
/// When it is ambiguous.
pub fn head(bytes: &[u8]) -> Read<Head> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > 128 * 1024 { Err("a head without end".to_owned()) } else { Ok(None) };
    };
    let mut lines = lines(&bytes[..end])?.into_iter();
    let start = lines.next().unwrap_or_default();
    let start = std::str::from_utf8(start).map_err(|_| "the request line is no text".to_owned())?;
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err(format!("the request line {start:?}"));
    };
    if !is_token(method) || target.is_empty() || !target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err(format!("the request line {start:?}"));
    }
    let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
    let framing = framing(&fields)?;
    let head = Head { method: method.to_owned(), target: target.to_owned(), fields, framing };
    Ok(Some((head, end + 4)))
}

/// Reads the body of `head` at the beginning of `bytes`.
///
/// # Errors
/// When it is ambiguous.
pub fn body(head: &Head, bytes: &[u8]) -> Read<Body> {
    match head.framing {
        Framing::Length(length) if bytes.len() < length => Ok(None),
        Framing::Length(length) => {
            Ok(Some((Body { bytes: bytes[..length].to_vec(), trailers: Vec::new() }, length)))
        }
        Framing::Chunked => chunks(bytes),
    }
}

/// Every request of a connection.
///
/// # Errors
/// When it is ambiguous, or the last is not complete.
pub fn all(mut bytes: &[u8]) -> Result<Vec<(Head, Body)>, Ambiguous> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, length) = head(bytes)?.ok_or("the last head is cut off")?;
        let (body, more) = body(&head, &bytes[length..])?.ok_or("the last body is cut off")?;
        bytes = &bytes[length + more..];
        found.push((head, body));
    }
    Ok(found)
}

fn chunks(bytes: &[u8]) -> Read<Body> {
    let (mut body, mut at) = (Body::default(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else {
            return if bytes.len() - at > 64 { Err("a chunk size without end".to_owned()) } else { Ok(None) };
        };
        let digits = &bytes[at..at + end];
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("the chunk size {:?}", digits.escape_ascii().to_string()));
        }
        let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.ok_or("a chunk size")?;
        at += end + 2;
        if size == 0 {
            return trailers(body, bytes, at);
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if &data[size..] != b"\r\n" {
            return Err("a chunk does not end where it said".to_owned());
        }
        body.bytes.extend_from_slice(&data[..size]);
        at += size + 2;
    }
}

fn trailers(mut body: Body, bytes: &[u8], at: usize) -> Read<Body> {
    if bytes[at..].starts_with(b"\r\n") {
        return Ok(Some((body, at + 2)));
    }
    let Some(end) = find(&bytes[at..], b"\r\n\r\n") else { return Ok(None) };
    body.trailers = lines(&bytes[at..at + end])?.into_iter().map(field).collect::<Result<_, _>>()?;
    Ok(Some((body, at + end + 4)))
}

/// Lines that end in exactly carriage return and line feed, and hold neither, nor NUL.
fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, Ambiguous> {
    let (mut lines, mut rest) = (Vec::new(), bytes);
    loop {
        let end = find(rest, b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(format!("the line {:?}", line.escape_ascii().to_string()));
        }
        lines.push(line);
        match rest.get(end + 2..) {
            Some(more) => rest = more,
            None => return Ok(lines),
        }
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), Ambiguous> {
    let wrong = || format!("the field {:?}", line.escape_ascii().to_string());
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
    let name = std::str::from_utf8(&line[..colon]).map_err(|_| wrong())?;
    let value = &line[colon + 1..];
    if !is_token(name) || value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.trim_ascii().to_vec()))
}

fn framing(fields: &[(String, Vec<u8>)]) -> Result<Framing, Ambiguous> {
    let values = |wanted: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| value.as_slice()).collect()
    };
    if values("host").len() != 1 {
        return Err(format!("{} host fields", values("host").len()));
    }
    match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([one], []) if one.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], [one]) if !one.is_empty() && one.len() < 16 && one.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(one).ok().and_then(|text| text.parse().ok());
            length.map(Framing::Length).ok_or_else(|| "content-length".to_owned())
        }
        (encodings, lengths) => {
            let show = |values: &[&[u8]]| -> Vec<String> {
                values.iter().map(|value| value.escape_ascii().to_string()).collect()
            };
            Err(format!("transfer-encoding {:?}, content-length {:?}", show(encodings), show(lengths)))
        }
    }
}

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_could_read_differently_is_ambiguous() {
        for bytes in [
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0;a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        ] {
            assert!(all(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn plain_requests_are_read() {
        let bytes = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n";
        let found = all(bytes).expect("not ambiguous");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].1.bytes.as_slice(), found[0].1.trailers.len()), (b"abc".as_slice(), 1));
        assert_eq!(found[1].0.target, "/b");
    }
}
