//! What is read, what is refused, and that neither depends on how the bytes arrive.

use super::*;
use crate::http::head::Framing;

fn read(bytes: &[u8]) -> Result<Option<RequestHead>, InvalidHead> {
    read_in(&[bytes], HeadLimits::default())
}

/// Reads as a connection does: bytes arrive in pieces, the scan goes on where it stopped.
fn read_in(pieces: &[&[u8]], limits: HeadLimits) -> Result<Option<RequestHead>, InvalidHead> {
    let (mut scan, mut buffer, mut head) = (HeadScan::default(), Vec::new(), RequestHead::default());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Some(at) = scan.find(&buffer, limits.bytes)? {
            parse_request(&buffer[at.start..at.end], limits, &mut head)?;
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn describe(head: &RequestHead) -> String {
    let fields: Vec<_> =
        head.fields.iter().map(|(n, v)| format!("{}={}", n.escape_ascii(), v.escape_ascii())).collect();
    let framing = match head.framing {
        Framing::None => "none".to_owned(),
        Framing::Length(n) => n.to_string(),
        Framing::Chunked => "chunked".to_owned(),
        Framing::UntilClose => "close".to_owned(),
    };
    let keep = if head.persistent { "keep" } else { "close" };
    format!("{} {} {} {framing} {keep} {}", head.method(), head.authority(), head.target(), fields.join(" "))
}

#[test]
fn requests_that_are_understood() {
    for (input, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a / none keep Host=a"),
        ("\r\n\r\nGET /x?y=1 HTTP/1.1\r\nhost:a:80 \r\n\r\n", "GET a:80 /x?y=1 none keep host=a:80"),
        ("GET / HTTP/1.0\r\n\r\n", "GET  / none close "),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET  / none keep Connection=Keep-Alive"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
            "GET a / none close Host=a Connection=x, close",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n",
            "POST a / 5 keep Host=a content-length=5",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST a / chunked keep Host=a Transfer-Encoding=Chunked",
        ),
        (
            "GET http://b:8080/x HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
            "GET b:8080 /x none keep Host=b:8080 X=1",
        ),
        ("GET HTTP://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET b /?q none keep Host=b"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS a * none keep Host=a"),
        ("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT b:443  none keep Host=b:443"),
        (
            "PURGE /%2e%00 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "PURGE [::1]:80 /%2e%00 none keep Host=[::1]:80",
        ),
        ("GET / HTTP/1.1\r\nHost:\r\nA:\u{e4}\r\n\r\n", "GET  / none keep Host= A=\\xc3\\xa4"),
    ] {
        let head = read(input.as_bytes()).unwrap_or_else(|e| panic!("{input:?}: {e}")).expect("a whole head");
        assert_eq!(describe(&head), expected, "{input:?}");
    }
}

/// Each of these has been read in two ways by two servers somewhere.
#[test]
fn requests_that_smuggle() {
    use InvalidHead::*;
    for (rest, expected) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", TwoFramings),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", TwoFramings),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", ContentLength),
        ("Content-Length: 5, 5\r\n", ContentLength),
        ("Content-Length: +5\r\n", ContentLength),
        ("Content-Length: -1\r\n", ContentLength),
        ("Content-Length: 0x5\r\n", ContentLength),
        ("Content-Length: 5 5\r\n", ContentLength),
        ("Content-Length:\r\n", ContentLength),
        ("Content-Length: 99999999999999999999\r\n", ContentLength),
        ("Transfer-Encoding: chunked, identity\r\n", TransferEncoding),
        ("Transfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", TransferEncoding),
        ("Transfer-Encoding:\r\n", TransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", FieldValue),
        ("Transfer-Encoding: gzip, chunked\r\n", TransferCoding),
        ("Transfer-Encoding : chunked\r\n", FieldName),
        ("Transfer-Encoding\t: chunked\r\n", FieldName),
        (" Transfer-Encoding: chunked\r\n", FieldName),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", FieldName),
        ("X: y\r\n\tfolded\r\n", FieldName),
        ("X Y: z\r\n", FieldName),
        (": empty\r\n", FieldName),
        ("no colon\r\n", FieldName),
        ("X: a\nTransfer-Encoding: chunked\r\n", LineEnd),
        ("X: a\rTransfer-Encoding: chunked\r\n", FieldValue),
        ("X: a\0b\r\n", FieldValue),
        ("X: a\x7fb\r\n", FieldValue),
        ("X\0: a\r\n", FieldName),
        ("X\u{e9}: a\r\n", FieldName),
        ("Host: b\r\n", Host),
        ("\n", LineEnd),
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
        assert_eq!(read(input.as_bytes()).map(|h| h.map(|h| describe(&h))), Err(expected), "{rest:?}");
    }
}

#[test]
fn start_lines_that_are_refused() {
    use InvalidHead::*;
    for (line, expected) in [
        ("GET / HTTP/2.0\r\nHost: a", Version),
        ("GET / HTTP/1.2\r\nHost: a", Version),
        ("GET / http/1.1\r\nHost: a", StartLine),
        ("GET /\r\nHost: a", StartLine),
        ("GET  / HTTP/1.1\r\nHost: a", StartLine),
        ("GET / HTTP/1.1 \r\nHost: a", LineEnd),
        ("GET\t/ HTTP/1.1\r\nHost: a", StartLine),
        (" GET / HTTP/1.1\r\nHost: a", StartLine),
        ("G\u{e9}T / HTTP/1.1\r\nHost: a", StartLine),
        ("GET /a b HTTP/1.1\r\nHost: a", StartLine),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a", Target),
        ("GET /a#b HTTP/1.1\r\nHost: a", Target),
        ("GET a HTTP/1.1\r\nHost: a", Target),
        ("GET * HTTP/1.1\r\nHost: a", Target),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a", Target),
        ("GET http:///x HTTP/1.1\r\nHost: a", Target),
        ("GET http://u@b/ HTTP/1.1\r\nHost: a", Target),
        ("CONNECT b HTTP/1.1\r\nHost: a", Target),
        ("CONNECT /x HTTP/1.1\r\nHost: a", Target),
        ("GET / HTTP/1.1\r\nX: a", Host),
        ("GET / HTTP/1.1\r\nHost: a b", Host),
        ("GET / HTTP/1.1\r\nHost: a/b", Host),
        ("GET / HTTP/1.1\r\nHost: a, b", Host),
        ("GET / HTTP/1.1\r\nHost: u@a", Host),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked", TransferEncoding),
        ("CONNECT b:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3", TwoFramings),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a", StartLine),
        ("\x16\x03\x01\x02\r\n", StartLine),
    ] {
        let input = format!("{line}\r\n\r\n");
        let seen = read(input.as_bytes()).map(|h| h.map(|h| describe(&h)));
        assert_eq!(seen, Err(expected), "{line:?}");
    }
}

#[test]
fn heads_over_the_limits() {
    let limits = HeadLimits { bytes: 100, fields: 3 };
    let sized = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(n - 32));
    assert!(read_in(&[sized(100).as_bytes()], limits).is_ok_and(|h| h.is_some()));
    assert_eq!(read_in(&[sized(101).as_bytes()], limits).map(|_| ()), Err(InvalidHead::TooLarge));
    let endless = [b'a'; 101];
    assert_eq!(read_in(&[&endless], limits).map(|_| ()), Err(InvalidHead::TargetTooLong));
    let after_a_line = [b"\r\nGET / HTTP/1.1\r\n".as_slice(), &endless].concat();
    assert_eq!(read_in(&[&after_a_line], limits).map(|_| ()), Err(InvalidHead::TooLarge));
    let many = "GET / HTTP/1.1\r\nHost: a\r\na: b\r\nc: d\r\ne: f\r\n\r\n";
    assert_eq!(read_in(&[many.as_bytes()], limits).map(|_| ()), Err(InvalidHead::TooManyFields));
    assert_eq!((InvalidHead::TooLarge.status(), InvalidHead::TooManyFields.status()), (431, 431));
    assert_eq!(InvalidHead::TargetTooLong.status(), 414);
}

#[test]
fn responses() {
    let limits = HeadLimits::default();
    let read = |input: &str, of| {
        let mut head = ResponseHead::default();
        parse_response(input.as_bytes(), limits, of, &mut head)
            .map(|()| (head.status, head.framing, head.persistent))
    };
    use Framing::*;
    for (input, of, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", BodyOf::Other, Ok((200, Length(3), true))),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", BodyOf::Other, Ok((200, Length(0), true))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", BodyOf::Head, Ok((200, None, true))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", BodyOf::Other, Ok((200, Chunked, true))),
        ("HTTP/1.1 200 OK\r\n\r\n", BodyOf::Other, Ok((200, UntilClose, false))),
        ("HTTP/1.1 200 OK\r\n\r\n", BodyOf::Connect, Ok((200, None, true))),
        ("HTTP/1.1 502 No\r\nContent-Length: 1\r\n\r\n", BodyOf::Connect, Ok((502, Length(1), true))),
        ("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", BodyOf::Other, Ok((204, None, true))),
        ("HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", BodyOf::Other, Ok((304, None, true))),
        ("HTTP/1.1 100 Continue\r\n\r\n", BodyOf::Other, Ok((100, None, true))),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", BodyOf::Other, Ok((200, Length(3), false))),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            BodyOf::Other,
            Err(InvalidHead::TwoFramings),
        ),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", BodyOf::Other, Err(InvalidHead::FieldName)),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", BodyOf::Other, Err(InvalidHead::FieldName)),
        ("HTTP/1.1 099 X\r\n\r\n", BodyOf::Other, Err(InvalidHead::StartLine)),
        ("HTTP/1.1 600 X\r\n\r\n", BodyOf::Other, Err(InvalidHead::StartLine)),
        ("HTTP/2.0 200 X\r\n\r\n", BodyOf::Other, Err(InvalidHead::StartLine)),
    ] {
        assert_eq!(read(input, of), expected, "{input:?}");
    }
}

/// Bytes that look enough like HTTP to reach the deep places.
fn alphabet(seed: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 24] = [
        b"GET ",
        b"POST / HTTP/1.1\r\n",
        b"/",
        b" HTTP/1.1\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: a\r\n",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close, x\r\n",
        b": ",
        b"a",
        b" ",
        b"\t",
        b"\0",
        b"http://a",
        b"CONNECT a:1",
        b"Expect: 100-continue\r\n",
        b"Upgrade: x\r\n",
        b"\xff",
        b"HTTP/1.0",
        b"#",
        b"*",
    ];
    seed.iter().flat_map(|&byte| WORDS[byte as usize % WORDS.len()].iter().copied()).collect()
}

#[test]
fn any_bytes_are_read_alike_however_they_are_split() {
    bolero::check!().with_iterations(20_000).for_each(|seed: &[u8]| {
        for input in [seed.to_vec(), alphabet(seed)] {
            let whole = read(&input).map(|head| head.map(|head| describe(&head)));
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            let split = read_in(&bytes, HeadLimits::default()).map(|head| head.map(|head| describe(&head)));
            // A head that ends early in the bytes is found before what comes after is looked at.
            assert_eq!(whole, split, "{}", input.escape_ascii());
        }
    });
}

#[test]
fn nothing_accepted_holds_a_bare_line_end() {
    bolero::check!().with_iterations(20_000).for_each(|seed: &[u8]| {
        let input =
            [b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), alphabet(seed), b"\r\n\r\n".to_vec()].concat();
        if let Ok(Some(head)) = read(&input) {
            for (name, value) in head.fields.iter() {
                assert!(crate::http::head::is_value(value) && crate::http::head::is_value(name));
            }
        }
    });
}
