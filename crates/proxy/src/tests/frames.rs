//! HTTP/2 as bytes on the wire: what RFC 9113 says must be refused, written frame by frame, as h2spec does.
//!
//! The `h2` crate says PROTOCOL_ERROR where the RFC names a code that is closer, and ends the connection where a stream
//! would do. What matters, and is held here, is that each is refused and costs nobody else anything.

use std::net::SocketAddr;

use lateen_model::AppProtocol;

use super::mesh::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Error codes (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Fields as literals without indexing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "app"), (":path", "/")];

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&GET, more].concat())
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET))
}

/// A POST whose body is still to come.
fn open(more: &[(&str, &str)]) -> Vec<u8> {
    let post = [&[(":method", "POST")], &GET[1..], more].concat();
    frame(HEADERS, END_HEADERS, 1, &block(&post))
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum Ends {
    /// The connection, with this code.
    Connection(u32),
    /// One stream, with this code.
    Stream(u32),
    /// An answer to the stream came.
    Answer,
}
use Ends::{Answer, Connection, Stream};

/// A connection of HTTP/2 as bytes.
pub(super) struct Raw(Wire);

impl Raw {
    async fn connect(at: SocketAddr) -> Self {
        Self::over(Wire::connect(at).await).await
    }

    /// Over a connection that has become one of HTTP/2.
    pub(super) async fn over(mut wire: Wire) -> Self {
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        Self(wire)
    }

    pub(super) async fn request(&mut self, stream: u32) {
        self.0.send(request(stream)).await;
    }

    /// Lets so many more bytes come on a stream.
    pub(super) async fn allow(&mut self, stream: u32, bytes: u32) {
        self.0.send(frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())).await;
    }

    /// So many bytes of a stream's body, and no more than those until more are allowed: a ping is answered first.
    pub(super) async fn data_of(&mut self, of: u32, count: usize) -> Vec<u8> {
        let mut data = Vec::new();
        let mut asked = false;
        loop {
            if data.len() >= count && !asked {
                asked = true;
                self.0.send(frame(PING, 0, 0, &[7; 8])).await;
            }
            let (kind, flags, stream, payload) = self.next().await.expect("a frame");
            match kind {
                DATA if stream == of => data.extend(payload),
                PING if flags & ACK != 0 => {
                    assert_eq!(data.len(), count);
                    return data;
                }
                GOAWAY | RST_STREAM => panic!("an error: {payload:?}"),
                _ => {}
            }
        }
    }

    /// The body of a stream to its end.
    pub(super) async fn rest_of(&mut self, of: u32) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            let (kind, flags, stream, payload) = self.next().await.expect("a frame");
            assert!(kind != GOAWAY && kind != RST_STREAM, "an error: {payload:?}");
            if kind == DATA && stream == of {
                data.extend(payload);
            }
            if stream == of && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return data;
            }
        }
    }

    /// The next frame: kind, flags, stream, payload. None at the end.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head = self.0.try_exactly(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.try_exactly(length).await?;
        Some((head[3], head[4], stream, payload))
    }

    /// Whatever comes first of an error or an answer.
    async fn ends(&mut self) -> Ends {
        self.try_ends().await.expect("an error or an answer before the end")
    }

    async fn try_ends(&mut self) -> Option<Ends> {
        loop {
            let (kind, _, _, payload) = self.next().await?;
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
            match kind {
                GOAWAY => return Some(Connection(code(4))),
                RST_STREAM => return Some(Stream(code(0))),
                HEADERS => return Some(Answer),
                _ => {}
            }
        }
    }
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat()
}

async fn check(cases: Vec<(&str, Vec<Vec<u8>>, Ends)>) {
    let at = echo("app").await;
    let (proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut wrong = Vec::new();
    for (name, frames, expected) in cases {
        let mut raw = Raw::connect(front).await;
        raw.0.send(frames.concat()).await;
        let found = raw.ends().await;
        if found != expected {
            wrong.push(format!("{name}: {found:?}, not {expected:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Whatever was sent, others are served.
    let mut raw = Raw::connect(front).await;
    raw.0.send(request(1)).await;
    assert_eq!(raw.ends().await, Answer);
    assert_eq!(proxy.panics(), 0);
}

#[tokio::test]
async fn frames_out_of_place() {
    check(vec![
        ("DATA on an idle stream", vec![frame(DATA, 0, 1, b"x")], Connection(PROTOCOL_ERROR)),
        ("RST_STREAM on an idle stream", vec![frame(RST_STREAM, 0, 1, &[0; 4])], Connection(PROTOCOL_ERROR)),
        (
            "WINDOW_UPDATE on an idle stream",
            vec![frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            Connection(PROTOCOL_ERROR),
        ),
        ("HEADERS on an even stream", vec![request(2)], Connection(PROTOCOL_ERROR)),
        ("HEADERS on stream 0", vec![request(0)], Connection(PROTOCOL_ERROR)),
        ("DATA on stream 0", vec![frame(DATA, 0, 0, b"x")], Connection(PROTOCOL_ERROR)),
        ("RST_STREAM on stream 0", vec![frame(RST_STREAM, 0, 0, &[0; 4])], Connection(PROTOCOL_ERROR)),
        ("CONTINUATION on its own", vec![frame(CONTINUATION, 4, 1, &[])], Connection(PROTOCOL_ERROR)),
        (
            "another frame within a head",
            vec![frame(HEADERS, END_STREAM, 1, &block(&GET)), frame(PING, 0, 0, &[0; 8])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION of another stream",
            vec![frame(HEADERS, END_STREAM, 1, &block(&GET)), frame(CONTINUATION, 4, 3, &[])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "PUSH_PROMISE by a client",
            vec![frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])],
            Connection(PROTOCOL_ERROR),
        ),
        ("GOAWAY on a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], Connection(PROTOCOL_ERROR)),
        ("PING on a stream", vec![frame(PING, 0, 1, &[0; 8])], Connection(PROTOCOL_ERROR)),
        ("SETTINGS on a stream", vec![frame(SETTINGS, 0, 1, &[])], Connection(PROTOCOL_ERROR)),
        (
            "a head again, and not the last",
            vec![open(&[]), frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")]))],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "DATA after the end of the body",
            vec![open(&[]), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, END_STREAM, 1, b"x")],
            Connection(PROTOCOL_ERROR),
        ),
        ("an unknown frame", vec![frame(0xee, 0xff, 0, b"x"), request(1)], Answer),
        ("an unknown setting", vec![frame(SETTINGS, 0, 0, &setting(0xee, 1)), request(1)], Answer),
    ])
    .await;
}

#[tokio::test]
async fn frames_that_are_malformed() {
    let huge = vec![0; 16_385];
    check(vec![
        ("a frame over the limit", vec![open(&[]), frame(DATA, 0, 1, &huge)], Connection(FRAME_SIZE_ERROR)),
        ("PING of seven bytes", vec![frame(PING, 0, 0, &[0; 7])], Connection(PROTOCOL_ERROR)),
        ("SETTINGS of five bytes", vec![frame(SETTINGS, 0, 0, &[0; 5])], Connection(PROTOCOL_ERROR)),
        ("ACK with settings", vec![frame(SETTINGS, ACK, 0, &setting(3, 1))], Connection(PROTOCOL_ERROR)),
        (
            "RST_STREAM of three bytes",
            vec![open(&[]), frame(RST_STREAM, 0, 1, &[0; 3])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "WINDOW_UPDATE of three bytes",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "more padding than frame",
            vec![open(&[]), frame(DATA, PADDED, 1, &[9, 0, 0])],
            Connection(PROTOCOL_ERROR),
        ),
        ("ENABLE_PUSH of 2", vec![frame(SETTINGS, 0, 0, &setting(2, 2))], Connection(PROTOCOL_ERROR)),
        (
            "a window over 2^31-1",
            vec![frame(SETTINGS, 0, 0, &setting(4, 1 << 31))],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "frames of at most 100 bytes",
            vec![frame(SETTINGS, 0, 0, &setting(5, 100))],
            Connection(PROTOCOL_ERROR),
        ),
        ("a window grown by 0", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])], Connection(PROTOCOL_ERROR)),
        (
            "the window of the connection over its limit",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "the window of a stream over its limit",
            vec![open(&[]), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])],
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "a head that is no HPACK",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a stream that depends on itself",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])],
            Stream(PROTOCOL_ERROR),
        ),
    ])
    .await;
}

#[tokio::test]
async fn heads_that_are_malformed() {
    let head = |fields: &[(&str, &str)]| vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))];
    let and = |more: &[(&str, &str)]| vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &with(more))];
    let [method, scheme, authority, path] = GET;
    let mut cases = vec![
        ("no :method", head(&[scheme, authority, path])),
        ("no :scheme", head(&[method, authority, path])),
        ("no :path", head(&[method, scheme, authority])),
        ("no pseudo field", head(&[("x", "y")])),
        ("two of :method", head(&[method, method, scheme, authority, path])),
        ("two of :path", head(&[method, scheme, authority, path, path])),
        ("an empty :path", head(&[method, scheme, authority, (":path", "")])),
        ("two of :authority", head(&[method, scheme, authority, authority, path])),
        ("a pseudo field of responses", head(&[method, scheme, authority, path, (":status", "200")])),
        ("a pseudo field after others", head(&[method, scheme, authority, ("x", "y"), path])),
        (":protocol without CONNECT", head(&[method, scheme, authority, path, (":protocol", "websocket")])),
        (":path in CONNECT", head(&[(":method", "CONNECT"), authority, path])),
        ("connection", and(&[("connection", "close")])),
        ("keep-alive", and(&[("keep-alive", "1")])),
        ("proxy-connection", and(&[("proxy-connection", "close")])),
        ("transfer-encoding", and(&[("transfer-encoding", "chunked")])),
        ("upgrade", and(&[("upgrade", "h2c")])),
        ("te of more than trailers", and(&[("te", "gzip")])),
        ("a length without a body", and(&[("content-length", "5")])),
    ];
    cases.push((
        "a body shorter than its length",
        vec![open(&[("content-length", "5")]), frame(DATA, END_STREAM, 1, b"four")],
    ));
    cases.push((
        "a body longer than its length",
        vec![open(&[("content-length", "3")]), frame(DATA, END_STREAM, 1, b"four")],
    ));
    let cases = cases.into_iter().map(|(name, frames)| (name, frames, Stream(PROTOCOL_ERROR)));
    // What is found while the head is decoded ends the connection.
    let decoding = [
        ("an upper-case name", and(&[("X", "y")])),
        ("a space in a name", and(&[("x y", "z")])),
        ("an empty name", and(&[("", "z")])),
        ("a line end in a value", and(&[("x", "y\r\nz: 1")])),
        ("a NUL in a value", and(&[("x", "y\0")])),
    ];
    let decoding = decoding.into_iter().map(|(name, frames)| (name, frames, Connection(PROTOCOL_ERROR)));
    check(cases.chain(decoding).collect()).await;
}

/// The application waits for the end of the body, so that nothing but the trailers can end the stream.
#[tokio::test]
async fn trailers_that_are_malformed() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let ended = |fields: &[(&str, &str)]| {
        [open(&[]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))].concat()
    };
    // Pseudo fields are none of trailers: `h2` drops them.
    let mut raw = Raw::connect(front).await;
    raw.0.send(ended(&[(":path", "/"), ("x", "y")])).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    assert_eq!(wire.exactly(11).await, b"0\r\nx: y\r\n\r\n");
    let mut raw = Raw::connect(front).await;
    raw.0.send(ended(&[("connection", "close")])).await;
    assert_eq!(raw.ends().await, Stream(PROTOCOL_ERROR));
}

/// What HTTP/2 allows and we do not send on: these get an answer, which says so.
#[tokio::test]
async fn heads_that_are_refused_with_an_answer() {
    let at = echo("app").await;
    let (proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let [method, scheme, authority, _] = GET;
    for (index, (fields, expected)) in [
        (vec![method, scheme, authority, (":path", "*")], "400 DPE http2.invalid_path"),
        (vec![method, scheme, (":path", "/")], "400 DPE http2.invalid_authority"),
        (
            vec![method, scheme, (":path", "/"), ("host", "a"), ("host", "b")],
            "400 DPE http2.invalid_authority",
        ),
        (vec![method, scheme, (":path", "/"), ("host", "a/b")], "400 DPE http2.invalid_authority"),
        (vec![method, scheme, (":path", "/"), (":authority", "u@a")], "400 DPE http2.invalid_authority"),
        (
            vec![method, scheme, authority, (":path", "/"), ("expect", "y")],
            "417 DPE http2.unsupported_expectation",
        ),
        (vec![(":method", "CONNECT"), authority], "405 DPE http.invalid_request"),
        (vec![method, scheme, authority, (":path", "/.."), ("x", "y")], "400 DPE http.invalid_request"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::connect(front).await;
        raw.0.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))).await;
        assert_eq!(raw.ends().await, Answer, "{fields:?}");
        let records = proxy.records.wait(index + 1).await;
        assert!(records[index].contains(expected), "{fields:?}: {}", records[index]);
    }
}

#[tokio::test]
async fn what_is_no_preface_is_no_http_2() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut wire = Wire::connect(front).await;
    wire.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(wire.rest().await.starts_with("HTTP/1.1 505 "));
}

/// CVE-2024-27316 and its kin: a head that never ends.
#[tokio::test]
async fn heads_without_end_are_bounded() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    for piece in [vec![], block(&[("x", "y")]).repeat(1000)] {
        let mut raw = Raw::connect(front).await;
        raw.0.send(frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
        for _ in 0..10_000 {
            raw.0.send(frame(CONTINUATION, 0, 1, &piece)).await;
        }
        match raw.try_ends().await {
            None | Some(Connection(ENHANCE_YOUR_CALM | PROTOCOL_ERROR | COMPRESSION_ERROR)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A head that is larger than was allowed is answered, and does not cost the connection.
#[tokio::test]
async fn heads_over_the_limit_are_refused() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut raw = Raw::connect(front).await;
    let fields = with(&[("x", &"y".repeat(126))]);
    raw.0.send(frame(HEADERS, END_STREAM, 1, &fields)).await;
    let many = block(&[("x", &"y".repeat(100))]).repeat(150);
    for index in 0..5 {
        let flags = if index == 4 { END_HEADERS } else { 0 };
        raw.0.send(frame(CONTINUATION, flags, 1, &many)).await;
    }
    assert_eq!(raw.ends().await, Answer);
    raw.0.send(request(3)).await;
    loop {
        let (kind, _, stream, _) = raw.next().await.expect("an answer");
        assert!(kind != GOAWAY && kind != RST_STREAM);
        if (kind, stream) == (HEADERS, 3) {
            return;
        }
    }
}

#[tokio::test]
async fn streams_over_the_limit_are_refused() {
    let (_app, at) = app().await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut raw = Raw::connect(front).await;
    let requests: Vec<u8> = (0..257).flat_map(|index| request(index * 2 + 1)).collect();
    raw.0.send(requests).await;
    assert_eq!(raw.ends().await, Stream(REFUSED_STREAM));
}

/// CVE-2023-44487: requests that are given up as soon as they have cost something.
#[tokio::test]
async fn callers_that_only_give_up_lose_their_connection() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut raw = Raw::connect(front).await;
    for index in 0..600 {
        let stream = index * 2 + 1;
        raw.0.send(request(stream)).await;
        // Only when it has reached the application is it given up.
        let reached = tokio::select! {
            wire = app.recv() => wire,
            ended = raw.try_ends() => {
                assert_eq!(ended, Some(Connection(ENHANCE_YOUR_CALM)));
                assert!(index >= 500, "ended after {index}");
                return;
            }
        };
        let mut wire = reached.expect("a connection");
        wire.head().await;
        raw.0.send(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
        assert_eq!(wire.rest().await, "");
    }
    panic!("600 requests were given up");
}

/// All at once, without waiting.
#[tokio::test]
async fn a_burst_of_given_up_requests_ends_the_connection() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut raw = Raw::connect(front).await;
    let burst: Vec<u8> = (0..2000)
        .flat_map(|index| {
            [request(index * 2 + 1), frame(RST_STREAM, 0, index * 2 + 1, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    raw.0.send(burst).await;
    loop {
        match raw.try_ends().await {
            None | Some(Connection(ENHANCE_YOUR_CALM)) => return,
            Some(Connection(code)) => panic!("{code}"),
            Some(_) => {}
        }
    }
}

/// Whether or not the caller says that it has heard.
#[tokio::test]
async fn idle_connections_are_told_and_closed() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |settings| {
        settings.idle = std::time::Duration::from_millis(50);
        settings.head_time = std::time::Duration::from_millis(50);
    })
    .await;
    let mut raw = Raw::connect(front).await;
    assert_eq!(raw.ends().await, Connection(0));
    while raw.next().await.is_some() {}
}

/// A drain says GOAWAY, finishes what is under way and then ends.
#[tokio::test]
async fn a_drain_says_so_and_finishes_what_is_under_way() {
    let (mut app, at) = app().await;
    let (mut proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut raw = Raw::connect(front).await;
    raw.0.send(request(1)).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    let finishing = async {
        loop {
            let (kind, flags, _, payload) = raw.next().await.expect("a frame");
            match kind {
                GOAWAY => {
                    assert_eq!(payload[4..8], [0; 4], "without blame");
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
                }
                // The second GOAWAY is preceded by a ping, so that nothing that is on its way is lost.
                PING if flags & ACK == 0 => raw.0.send(frame(PING, ACK, 0, &payload)).await,
                DATA if !payload.is_empty() => {
                    assert_eq!(payload, b"done");
                    break;
                }
                _ => {}
            }
        }
        while raw.next().await.is_some() {}
    };
    let drained = proxy.drain(std::time::Duration::from_secs(20));
    let (drained, ()) = Box::pin(in_time(async { tokio::join!(drained, finishing) })).await;
    assert_eq!(drained, lateen_runtime::drain::Drained::Clean);
}

/// The application's side as frames: it has read the preface and the head of one request.
async fn asked(wire: Wire) -> (Raw, u32) {
    let mut raw = Raw(wire);
    assert_eq!(raw.0.exactly(PREFACE.len()).await, PREFACE);
    raw.0.send(frame(SETTINGS, 0, 0, &[])).await;
    loop {
        let (kind, _, stream, _) = raw.next().await.expect("a frame");
        if kind == HEADERS {
            return (raw, stream);
        }
    }
}

/// What an application says of a request that it has not acted on lets even a POST be sent again; what it may have acted
/// on does not.
#[tokio::test]
async fn requests_that_nobody_acted_on_are_sent_again() {
    let no_error = [0; 8];
    let refused = REFUSED_STREAM.to_be_bytes();
    let internal = 2_u32.to_be_bytes();
    for (name, kind, payload, again) in [
        ("GOAWAY before the request", GOAWAY, no_error.as_slice(), true),
        ("REFUSED_STREAM", RST_STREAM, refused.as_slice(), true),
        ("INTERNAL_ERROR", RST_STREAM, internal.as_slice(), false),
    ] {
        let (mut app, at) = app().await;
        let (_proxy, front) = front(AppProtocol::Http2, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nbody").await;
        let (mut raw, stream) = asked(app.recv().await.expect("a connection")).await;
        raw.0.send(frame(kind, 0, if kind == GOAWAY { 0 } else { stream }, payload)).await;
        if !again {
            assert_eq!(caller.answer().await.0, "HTTP/1.1 503 Service Unavailable", "{name}");
            continue;
        }
        let (mut raw, stream) = if kind == GOAWAY {
            // Its connection ends, so there is another.
            let next = app.recv().await.expect("another connection");
            asked(next).await
        } else {
            loop {
                let (kind, _, stream, _) = raw.next().await.expect("a frame");
                if kind == HEADERS {
                    break (raw, stream);
                }
            }
        };
        // `:status: 204`, as the table of HPACK has it.
        raw.0.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x89])).await;
        assert_eq!(caller.head().await, "HTTP/1.1 204 No Content\r\n\r\n", "{name}");
    }
}
