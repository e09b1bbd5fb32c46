//! What is written, and that it reads back as what it was.

use super::*;
use crate::http::h1::chunk::{ChunkDecoder, Piece};
use crate::http::h1::parse::{BodyOf, HeadLimits, parse_request, parse_response};
use proptest::prelude::*;

fn read_request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    parse_request(bytes, HeadLimits::default(), &mut head)
        .unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
    head
}

fn read_response(bytes: &[u8]) -> ResponseHead {
    let mut head = ResponseHead::default();
    parse_response(bytes, HeadLimits::default(), BodyOf::Other, &mut head)
        .unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
    head
}

fn written(head: &RequestHead) -> String {
    let mut out = BytesMut::new();
    request(&mut out, head, head.framing);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn requests() {
    for (input, expected) in [
        ("GET /a HTTP/1.1\r\nHOST: a\r\nX-y: 1\r\n\r\n", "GET /a HTTP/1.1\r\nHOST: a\r\nX-y: 1\r\n\r\n"),
        ("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: b\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Drop, host, Authorization\r\nx-drop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nAuthorization: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\nTE: trailers, gzip\r\nTrailer: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 007\r\nHost: a\r\nContent-Length: 007\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 7\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n"),
        ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: \r\n\r\n"),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n"),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        ),
    ] {
        assert_eq!(written(&read_request(input.as_bytes())), expected, "{input:?}");
    }
}

#[test]
fn responses() {
    let shape =
        |framing, persistent, version| ResponseShape { framing, persistent, version, describes_body: false };
    let ok = "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nConnection: keep-alive\r\nA: b\r\n\r\n";
    for (input, shape, expected) in [
        (
            ok,
            shape(Framing::Length(3), true, Version::Http11),
            "HTTP/1.1 200 Fine\r\nA: b\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            ok,
            shape(Framing::UntilClose, false, Version::Http10),
            "HTTP/1.1 200 Fine\r\nA: b\r\nconnection: close\r\n\r\n",
        ),
        (
            ok,
            shape(Framing::Length(0), true, Version::Http10),
            "HTTP/1.1 200 Fine\r\nA: b\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n",
        ),
        (
            ok,
            ResponseShape { describes_body: true, ..shape(Framing::None, true, Version::Http11) },
            "HTTP/1.1 200 Fine\r\nA: b\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            shape(Framing::None, true, Version::Http11),
            "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        (
            "HTTP/1.1 503\r\nTransfer-Encoding: chunked\r\n\r\n",
            shape(Framing::Chunked, true, Version::Http11),
            "HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
    ] {
        let mut out = BytesMut::new();
        response(&mut out, &read_response(input.as_bytes()), shape);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{input:?}");
    }
}

proptest! {
    #[test]
    fn a_written_request_reads_back_and_is_written_the_same(
        method in "[A-Z]{1,8}",
        path in "/[a-zA-Z0-9/?=&%._~-]{0,30}",
        fields in proptest::collection::vec(("x-[a-zA-Z!#$_-]{1,12}", "[!-~]([ -~\t]{0,20}[!-~])?"), 0..12),
        length in proptest::option::of(any::<u64>()),
    ) {
        prop_assume!(method != "CONNECT");
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: a.b:80\r\n");
        for (name, value) in &fields {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = length {
            text += &format!("content-length: {length}\r\n");
        }
        text += "\r\n";
        let head = read_request(text.as_bytes());
        prop_assert_eq!(&written(&head), &text);
    }

    #[test]
    fn chunks_read_back(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..10)) {
        let mut out = BytesMut::new();
        for piece in &pieces {
            chunk(&mut out, piece);
        }
        last_chunk(&mut out, None);
        let (mut decoder, mut data, mut at) = (ChunkDecoder::default(), Vec::new(), 0);
        loop {
            let (piece, used) = decoder.next(&out[at..]).expect("what we write is right");
            match piece {
                Piece::Data(range) => data.extend_from_slice(&out[at..][range]),
                Piece::End => { at += used; break }
                Piece::Starved => prop_assert!(false, "ended early"),
            }
            at += used;
        }
        prop_assert_eq!(at, out.len());
        prop_assert_eq!(data, pieces.concat());
    }
}
