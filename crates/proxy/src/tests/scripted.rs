//! Whole exchanges with both sides scripted: fragments of requests and answers, valid and broken, in any order, cut
//! anywhere. Time is virtual, so that whoever waits for ever is found at once.
//!
//! Held for each script: nothing panics, everything ends, and what the application got is read by our own parser, in one
//! piece, as requests that the caller sent, in their order, with the same bodies and the same ends.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use lateen_engine::{ConnectionFacts, Direction, Hop};
use lateen_model::{AppProtocol, Tunnel};
use lateen_runtime::drain;
use lateen_runtime::live::Live;
use lateen_runtime::stream::Stream;
use lateen_runtime::workers::Workers;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::mesh::*;
use crate::http::exchange::Entry;
use crate::http::h1::chunk::{ChunkDecoder, Piece};
use crate::http::h1::parse::{HeadLimits, HeadScan, parse_request};
use crate::http::head::{Framing, RequestHead};
use crate::http::serve;
use crate::worker::{Settings, Worker};

const CALLER: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: app\r\n\r\n",
    "POST /b HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\nabc",
    "POST /c HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n",
    "HEAD /d HTTP/1.1\r\nHost: app\r\n\r\n",
    "GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /f HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "PUT /g HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    "CONNECT app:80 HTTP/1.1\r\nHost: app\r\n\r\n",
    "GET /../h HTTP/1.1\r\nHost: app\r\n\r\n",
    "GET /i HTTP/1.1\r\n",
    "POST /j HTTP/1.1\r\n",
    "Host: app\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 4\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "X: y\r\n folded\r\n",
    "\r\n",
    "3\r\nabc\r\n",
    "3;x=y\r\nabc\r\n",
    "3\r\nabcd\r\n",
    "0\r\n\r\n",
    "ffffffffffffffffff\r\n",
    "abc",
    "\n",
    "\r",
    "\0",
    " ",
    ":",
    "GET /k HTTP/1.1\r\nHost: app\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

const APPLICATION: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "\r\n",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "abc",
    "\n",
];

/// What a side does.
#[derive(Clone, Debug)]
enum Step {
    Write(&'static [u8]),
    /// Lets everybody else go on first.
    Yield,
}

/// One byte of the script is one fragment: whose, cut or not, followed by a pause or not.
fn script(bytes: &[u8]) -> (Vec<Step>, Vec<Step>) {
    let (mut caller, mut application) = (Vec::new(), Vec::new());
    for pair in bytes.chunks(2) {
        let (which, how) = (usize::from(pair[0]), pair.get(1).copied().unwrap_or_default());
        let (steps, text) = match how & 1 {
            0 => (&mut caller, CALLER[which % CALLER.len()].as_bytes()),
            _ => (&mut application, APPLICATION[which % APPLICATION.len()].as_bytes()),
        };
        let cut = if how & 2 != 0 { usize::from(how >> 3) % text.len() } else { 0 };
        if cut > 0 {
            steps.extend([Step::Write(&text[..cut]), Step::Yield]);
        }
        steps.push(Step::Write(&text[cut..]));
        if how & 4 != 0 {
            steps.push(Step::Yield);
        }
    }
    (caller, application)
}

async fn play(
    mut to: WriteHalf<DuplexStream>,
    steps: Vec<Step>,
    end: bool,
) -> Option<WriteHalf<DuplexStream>> {
    for step in steps {
        match step {
            Step::Write(bytes) if to.write_all(bytes).await.is_err() => return None,
            Step::Write(_) => {}
            Step::Yield => {
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    if end {
        // Whoever has gone needs no end.
        let _ = to.shutdown().await;
    }
    // Kept open until everything is over, if it is not to end.
    Some(to)
}

async fn read_all(
    mut from: ReadHalf<DuplexStream>,
    mut first: Option<tokio::sync::oneshot::Sender<()>>,
) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(1..) = from.read_buf(&mut all).await {
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
    }
    all
}

/// What both sides got.
struct Seen {
    application: Vec<u8>,
    caller: Vec<u8>,
    in_time: bool,
}

fn entry() -> Entry {
    let facts = ConnectionFacts {
        direction: Direction::Outbound,
        client: "127.0.0.1:1".parse().expect("an address"),
        destination: "127.0.0.1:80".parse().expect("an address"),
        destination_host: Some("app.default.svc.cluster.local".into()),
        peer: None,
        sni: None,
        tls: false,
    };
    Entry::new(facts)
}

/// One script between a caller and an application, whose one connection is in the pool already.
async fn run(worker: Rc<Worker>, hop: Hop, bytes: Vec<u8>) -> Seen {
    let (caller_steps, application_steps) = script(&bytes);
    let first = bytes.first().copied().unwrap_or_default();
    let (caller_ends, application_ends) = (first & 128 == 0, first & 64 == 0);
    let (caller, down) = tokio::io::duplex(4096);
    let (application, up) = tokio::io::duplex(4096);
    let upstream = crate::connect::pool::Upstream { hop: &hop, group: None };
    worker.pool.put_stream(&worker, upstream, Stream::Memory(up), None);
    let serving = serve::h1(Rc::clone(&worker), Stream::Memory(down), BytesMut::new(), entry());
    drop(worker);
    let (caller_reads, caller_writes) = tokio::io::split(caller);
    let (application_reads, application_writes) = tokio::io::split(application);
    let (told, begun) = tokio::sync::oneshot::channel();
    let got = tokio::task::spawn_local(read_all(application_reads, Some(told)));
    let answered = tokio::task::spawn_local(async move {
        // An answer before its question is another test's.
        let _ = begun.await;
        play(application_writes, application_steps, application_ends).await
    });
    let heard = tokio::task::spawn_local(read_all(caller_reads, None));
    let asked = tokio::task::spawn_local(play(caller_writes, caller_steps, caller_ends));
    let in_time = tokio::time::timeout(Duration::from_secs(3600), serving).await.is_ok();
    asked.abort();
    answered.abort();
    let (application, caller) = (got.await.unwrap_or_default(), heard.await.unwrap_or_default());
    Seen { application, caller, in_time }
}

/// A request as our parser reads it.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    line: String,
    body: Vec<u8>,
    whole: bool,
    upgrade: bool,
}

/// Reads requests from bytes that are all there; stops at the first that is refused.
fn parse(mut bytes: &[u8]) -> Vec<Parsed> {
    let (limits, mut all) = (HeadLimits::default(), Vec::new());
    while let Ok(Some(at)) = HeadScan::default().find(bytes, limits.bytes) {
        let mut head = RequestHead::default();
        if parse_request(&bytes[at.start..at.end], limits, &mut head).is_err() {
            break;
        }
        bytes = &bytes[at.end..];
        let line = format!("{} {}", head.method(), head.target());
        let mut one = Parsed { line, body: Vec::new(), whole: true, upgrade: head.upgrade || head.h2c };
        match head.framing {
            Framing::Length(length) => {
                let there = bytes.len().min(length as usize);
                one.body.extend_from_slice(&bytes[..there]);
                (one.whole, bytes) = (there as u64 == length, &bytes[there..]);
            }
            Framing::Chunked => one.whole = dechunk(&mut bytes, &mut one.body),
            Framing::None | Framing::UntilClose => {}
        }
        let last = !one.whole || !head.persistent || one.upgrade;
        all.push(one);
        if last {
            break;
        }
    }
    all
}

fn dechunk(bytes: &mut &[u8], body: &mut Vec<u8>) -> bool {
    let mut decoder = ChunkDecoder::default();
    loop {
        let Ok((piece, used)) = decoder.next(bytes) else { return false };
        let ended = piece == Piece::End;
        match piece {
            Piece::Data(range) => body.extend_from_slice(&bytes[range]),
            Piece::Starved => return false,
            Piece::End => {}
        }
        *bytes = &bytes[used..];
        if ended {
            return true;
        }
    }
}

fn check(bytes: &[u8], seen: &Seen) {
    let told = || {
        let (caller, application) = script(bytes);
        let got = (seen.application.escape_ascii(), seen.caller.escape_ascii());
        format!("{caller:?}\n{application:?}\napplication got {}\ncaller got {}", got.0, got.1)
    };
    assert!(seen.in_time, "it never ended: {}", told());
    assert!(seen.caller.is_empty() || seen.caller.starts_with(b"HTTP/1.1 "), "{}", told());
    let sent: Vec<u8> = script(bytes)
        .0
        .into_iter()
        .flat_map(|step| if let Step::Write(bytes) = step { bytes.to_vec() } else { Vec::new() })
        .collect();
    let mut sent = parse(&sent).into_iter();
    for forwarded in parse(&seen.application) {
        let found = sent.by_ref().find(|sent| {
            sent.line == forwarded.line
                && sent.body.starts_with(&forwarded.body)
                && (!forwarded.whole || (sent.whole && sent.body == forwarded.body))
        });
        assert!(found.is_some(), "nobody sent {forwarded:?}: {}", told());
    }
}

#[test]
fn no_script_breaks_an_exchange() {
    let address: SocketAddr = "127.0.0.2:1".parse().expect("an address");
    let hop = Hop::Plain(address);
    let resources =
        [service("app", AppProtocol::Http1), instance("app", address, AppProtocol::Http1, Tunnel::None)];
    let settings = Settings {
        head_time: Duration::from_secs(2),
        idle: Duration::from_secs(5),
        stream_idle: Duration::from_secs(3),
        tcp_idle: Duration::from_secs(10),
        ..Settings::default()
    };
    let live = Live::new(lateen_engine::Snapshot::clone(&compile(
        viewer("client", lateen_model::ProxyRole::Sidecar),
        resources.to_vec(),
    )));
    let credentials = Live::new(None);
    let (_drainer, drain) = drain::channel();
    let shared = Arc::new(shared(settings, &live, &credentials, drain));
    let workers = Workers::start(1, "scripted").expect("a thread");
    let waiting = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    waiting.block_on(workers.run(0, |_| async { tokio::time::pause() })).expect("paused");
    let test = AssertUnwindSafe((&workers, &waiting, &shared, &hop));
    bolero::check!().with_iterations(3_000).with_type::<Vec<u8>>().for_each(|bytes: &Vec<u8>| {
        let (workers, waiting, shared, hop) = *test;
        let (shared, hop, script) = (Arc::clone(shared), hop.clone(), bytes.clone());
        let running = workers.run(0, |context| async move {
            run(Worker::new(shared, context, Box::new(Records::default())), hop, script).await
        });
        let seen = waiting.block_on(running).expect("no panic");
        check(bytes, &seen);
        assert_eq!(workers.panics(), 0);
    });
}
