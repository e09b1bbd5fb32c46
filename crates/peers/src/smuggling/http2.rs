//! Attacks of HTTP/2, frame by frame: what a library would refuse to say.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::Reads;
use crate::client::{CALLER, PATIENCE};

/// An attack of HTTP/2: `{n}` in a value is its number.
pub struct Attack2 {
    /// Its name, the family first.
    pub name: &'static str,
    /// Fields instead of, or besides, those of `PLAIN`; a field of `PLAIN` whose name is here is left out.
    pub fields: &'static [(&'static str, &'static str)],
    /// The body; none ends the stream with the head.
    pub body: Option<&'static str>,
    /// Trailers.
    pub trailers: &'static [(&'static str, &'static str)],
    /// What a backend that speaks HTTP/1.1 may see of it.
    pub reads: Reads,
}

/// What a head has where an attack says nothing else.
const PLAIN: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/{n}/a")];

const NOTHING: Reads = &[];
const HELLO: Reads = &[("POST", "a", "hello")];
const EMPTY: Reads = &[("POST", "a", "")];

type Fields = &'static [(&'static str, &'static str)];

const fn refused(name: &'static str, fields: Fields) -> Attack2 {
    Attack2 { name, fields, body: Some("hello"), trailers: &[], reads: NOTHING }
}

const fn reads(name: &'static str, fields: Fields) -> Attack2 {
    Attack2 { name, fields, body: Some("hello"), trailers: &[], reads: HELLO }
}

const fn bare(name: &'static str, fields: Fields, reads: Reads) -> Attack2 {
    Attack2 { name, fields, body: None, trailers: &[], reads }
}

const fn trailers(name: &'static str, trailers: Fields, reads: Reads) -> Attack2 {
    Attack2 { name, fields: &[], body: Some("hello"), trailers, reads }
}

/// All of them.
#[rustfmt::skip]
pub const ATTACKS: &[Attack2] = &[
    reads("plain: body", &[]),
    reads("plain: length", &[("content-length", "5")]),
    bare("plain: no body", &[], EMPTY),
    refused("H2.CL: too long", &[("content-length", "50")]),
    // The request is complete before its body contradicts it; the body goes nowhere.
    Attack2 { name: "H2.CL: too short", fields: &[("content-length", "0")], body: Some("hello"), trailers: &[], reads: EMPTY },
    refused("H2.CL: shorter", &[("content-length", "3")]),
    bare("H2.CL: no body at all", &[("content-length", "5")], NOTHING),
    refused("H2.CL: two that differ", &[("content-length", "5"), ("content-length", "0")]),
    refused("H2.CL: a list", &[("content-length", "5, 0")]),
    refused("H2.CL: plus", &[("content-length", "+5")]),
    refused("H2.CL: space", &[("content-length", " 5")]),
    refused("H2.CL: text", &[("content-length", "x")]),
    refused("H2.TE: chunked", &[("transfer-encoding", "chunked")]),
    refused("H2.TE: with length", &[("transfer-encoding", "chunked"), ("content-length", "5")]),
    refused("H2.TE: identity", &[("transfer-encoding", "identity")]),
    refused("H2.TE: upper case name", &[("Transfer-Encoding", "chunked")]),
    refused("H2: connection", &[("connection", "close")]),
    refused("H2: connection names a field", &[("connection", "content-length")]),
    refused("H2: keep-alive", &[("keep-alive", "5")]),
    refused("H2: proxy-connection", &[("proxy-connection", "close")]),
    refused("H2: upgrade", &[("upgrade", "h2c")]),
    refused("H2: te that is not trailers", &[("te", "chunked")]),
    refused("H2: line end in a value", &[("x", "a\r\ntransfer-encoding: chunked")]),
    refused("H2: request in a value", &[("x", "a\r\n\r\nGET /{n}/smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n")]),
    refused("H2: line feed in a value", &[("x", "a\ntransfer-encoding: chunked")]),
    refused("H2: carriage return in a value", &[("x", "a\rb")]),
    refused("H2: NUL in a value", &[("x", "a\0b")]),
    refused("H2: line end at the end of a value", &[("x", "a\r\n")]),
    refused("H2: line end in a name", &[("x: y\r\ntransfer-encoding", "chunked")]),
    refused("H2: colon in a name", &[("x:y", "z")]),
    refused("H2: transfer-encoding and colon in a name", &[("transfer-encoding: chunked\r\nx", "y")]),
    refused("H2: space in a name", &[("transfer-encoding ", "chunked")]),
    refused("H2: empty name", &[("", "x")]),
    refused("H2: upper case in a name", &[("X", "y")]),
    refused("H2: NUL in a name", &[("x\0", "y")]),
    refused("H2: line end in cookie", &[("cookie", "a=1\r\nx: y")]),
    refused("H2: space in the path", &[(":path", "/{n}/a HTTP/1.1")]),
    refused("H2: line end in the path", &[(":path", "/{n}/a HTTP/1.1\r\nhost: a.test\r\n\r\nGET /{n}/smuggled")]),
    refused("H2: line feed in the path", &[(":path", "/{n}/a\nx")]),
    refused("H2: tab in the path", &[(":path", "/{n}/a\tx")]),
    refused("H2: NUL in the path", &[(":path", "/{n}/a\0")]),
    // These are brought to one meaning: without fragment, to the authority, without the field.
    reads("H2: fragment in the path", &[(":path", "/{n}/a#b")]),
    refused("H2: empty path", &[(":path", "")]),
    refused("H2: path without slash", &[(":path", "{n}/a")]),
    refused("H2: absolute path", &[(":path", "http://b.test/{n}/a")]),
    refused("H2: two paths", &[(":path", "/{n}/a"), (":path", "/{n}/b")]),
    refused("H2: space in the method", &[(":method", "GET /{n}/smuggled HTTP/1.1\r\nx:")]),
    refused("H2: line end in the method", &[(":method", "POST\r\n")]),
    refused("H2: empty method", &[(":method", "")]),
    refused("H2: two methods", &[(":method", "POST"), (":method", "GET")]),
    refused("H2: line end in the authority", &[(":authority", "a.test\r\nx: y")]),
    refused("H2: space in the authority", &[(":authority", "a.test b.test")]),
    refused("H2: user in the authority", &[(":authority", "u@a.test")]),
    refused("H2: path in the authority", &[(":authority", "a.test/b")]),
    refused("H2: two authorities", &[(":authority", "a.test"), (":authority", "b.test")]),
    reads("H2: two hosts", &[("host", "a.test"), ("host", "b.test")]),
    reads("H2: host and authority that differ", &[("host", "b.test")]),
    refused("H2: line end in the scheme", &[(":scheme", "http\r\n")]),
    refused("H2: scheme with an address", &[(":scheme", "http://b.test/x?")]),
    refused("H2: pseudo-header that is unknown", &[(":x", "y")]),
    refused("H2: pseudo-header of a response", &[(":status", "200")]),
    refused("H2: pseudo-header behind a field", &[(":path", ""), ("x", "y"), (":path", "/{n}/a")]),
    trailers("H2: trailers", &[("x", "y")], HELLO),
    trailers("H2: length in trailers", &[("content-length", "99")], HELLO),
    trailers("H2: transfer-encoding in trailers", &[("transfer-encoding", "chunked")], NOTHING),
    trailers("H2: pseudo-header in trailers", &[(":path", "/{n}/smuggled")], HELLO),
    trailers("H2: line end in trailers", &[("x", "y\r\n\r\nGET /{n}/smuggled HTTP/1.1")], NOTHING),
    trailers("H2: upper case in trailers", &[("X", "y")], NOTHING),
];

/// Sends an attack on a connection of its own; says in a word what came back.
///
/// # Errors
/// When nobody listens.
pub fn send(at: SocketAddr, attack: &Attack2, number: usize) -> io::Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&CALLER.into())?;
    socket.connect_timeout(&at.into(), PATIENCE)?;
    let mut tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(std::time::Duration::from_millis(400)))?;
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    let said = |name: &str| attack.fields.iter().any(|(found, _)| *found == name);
    let plain = PLAIN.iter().filter(|(name, _)| !said(name));
    let pseudo = attack.fields.iter().filter(|(name, _)| name.starts_with(':'));
    let rest = attack.fields.iter().filter(|(name, _)| !name.starts_with(':'));
    let block = if attack.name.ends_with("behind a field") {
        let plain = PLAIN.iter().filter(|(name, _)| *name != ":path");
        block(plain.chain(&attack.fields[1..]), number)
    } else {
        block(plain.chain(pseudo).chain(rest), number)
    };
    let last = attack.trailers.is_empty();
    frame(&mut out, HEADERS, END_HEADERS | if attack.body.is_none() { END_STREAM } else { 0 }, 1, &block);
    if let Some(body) = attack.body {
        frame(&mut out, DATA, if last { END_STREAM } else { 0 }, 1, body.as_bytes());
    }
    if !last {
        let block = self::block(attack.trailers.iter(), number);
        frame(&mut out, HEADERS, END_HEADERS | END_STREAM, 1, &block);
    }
    // A peer that has gone already has answered.
    let _ = tcp.write_all(&out);
    Ok(answer(&mut tcp))
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Literal fields, never indexed, never compressed.
fn block<'a>(fields: impl Iterator<Item = &'a (&'a str, &'a str)>, number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        for text in [name, value] {
            let text = text.replace("{n}", &number.to_string());
            length(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A length in seven bits and more (RFC 7541 section 5.1).
fn length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    if rest < 127 {
        out.push(u8::try_from(rest).unwrap_or_default());
        return;
    }
    out.push(127);
    rest -= 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

/// Reads until the stream has an answer or the connection ends.
fn answer(tcp: &mut TcpStream) -> String {
    let mut head = [0; 9];
    loop {
        if let Err(error) = tcp.read_exact(&mut head) {
            let closed = error.kind() == io::ErrorKind::UnexpectedEof
                || error.kind() == io::ErrorKind::ConnectionReset;
            return if closed { "closed" } else { "silent" }.to_owned();
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        if tcp.read_exact(&mut payload).is_err() {
            return "closed".to_owned();
        }
        match head[3] {
            HEADERS => return status(&payload),
            RST_STREAM => return "reset".to_owned(),
            GOAWAY => return "goaway".to_owned(),
            _ => {}
        }
    }
}

/// The status, which is the first field of a head: of the static table, or a literal, maybe in Huffman's code.
fn status(block: &[u8]) -> String {
    let mut block = block;
    // The size of the dynamic table may be told first.
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        block = rest;
    }
    let listed = ["200", "204", "206", "304", "400", "404", "500"];
    match block {
        [index @ 0x88..=0x8e, ..] => listed[usize::from(index - 0x88)].to_owned(),
        [0x08 | 0x18 | 0x48, length, text @ ..] if length & 0x80 == 0 => {
            String::from_utf8_lossy(&text[..usize::from(*length).min(text.len())]).into_owned()
        }
        [0x08 | 0x18 | 0x48, length, text @ ..] => {
            digits(&text[..usize::from(length & 0x7f).min(text.len())])
        }
        _ => "garbled".to_owned(),
    }
}

/// Digits in Huffman's code (RFC 7541 appendix B): 0 to 2 have five bits, 3 to 9 have six.
fn digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let (mut text, mut at) = (String::new(), 0);
    let value = |bits: &[u8]| bits.iter().fold(0_u8, |all, bit| all << 1 | bit);
    while at + 5 <= bits.len() && text.len() < 3 {
        let five = value(&bits[at..at + 5]);
        if five < 3 {
            text.push(char::from(b'0' + five));
            at += 5;
        } else if let Some(six) = bits.get(at..at + 6).map(value) {
            text.push(char::from(b'0' + (six.wrapping_sub(0b01_1001)).wrapping_add(3)));
            at += 6;
        } else {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        for (block, expected) in [
            (&[0x88][..], "200"),
            (&[0x20, 0x8c], "400"),
            (&[0x08, 3, b'5', b'0', b'3'], "503"),
            // RFC 7541 appendix C.6.1: 302.
            (&[0x48, 0x82, 0x64, 0x02], "302"),
        ] {
            assert_eq!(status(block), expected);
        }
    }
}
