//! Flow control from end to end: whoever reads slowly stops whoever writes, and nothing between them grows.
//!
//! No time is measured: a writer is stopped when it can write nothing while the same proxy serves a hundred requests of
//! others. What it could write until then is bounded by the windows and the kernel's buffers, however much there is.

use std::net::SocketAddr;

use bytes::Bytes;
use lateen_model::AppProtocol;
use tokio::io::AsyncWriteExt;

use super::http2::{app2, caller2};
use super::mesh::*;

/// There is ten times as much to send as all that is between may hold.
const TO_SEND: usize = 100 * 1024 * 1024;
const MAY_HOLD: usize = 24 * 1024 * 1024;

/// Requests of others, which the proxy answers itself.
async fn meanwhile(front: SocketAddr) {
    let mut other = Wire::connect(front).await;
    for _ in 0..100 {
        assert_eq!(other.ask("GET /.. HTTP/1.1\r\nHost: app\r\n\r\n").await.0, "HTTP/1.1 400 Bad Request");
    }
}

/// Writes to a connection of HTTP/1.1 until it is stopped.
async fn written_h1(wire: &mut Wire, front: SocketAddr) -> usize {
    let piece = vec![b'x'; 64 * 1024];
    let mut written = 0;
    while written < TO_SEND {
        tokio::select! {
            biased;
            count = wire.tcp.write(&piece) => written += count.expect("open"),
            () = meanwhile(front) => break,
        }
    }
    written
}

/// The same for a stream of HTTP/2.
async fn written_h2(stream: &mut h2::SendStream<Bytes>, front: SocketAddr) -> usize {
    let mut written = 0;
    while written < TO_SEND {
        stream.reserve_capacity(64 * 1024);
        let window = tokio::select! {
            biased;
            window = std::future::poll_fn(|context| stream.poll_capacity(context)) => window,
            () = meanwhile(front) => break,
        };
        let window = window.expect("open").expect("open");
        stream.send_data(vec![b'x'; window].into(), false).expect("sent");
        written += window;
    }
    written
}

#[tokio::test]
async fn a_slow_reader_of_an_answer_stops_the_application() {
    for (caller_h2, app_h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let way = format!("HTTP/2: caller {caller_h2}, application {app_h2}");
        let (mut apps1, mut apps2) = (app().await, app2().await);
        let (protocol, at) =
            if app_h2 { (AppProtocol::Http2, apps2.1) } else { (AppProtocol::Http1, apps1.1) };
        let (_proxy, front) = front(protocol, &[at], |_| ()).await;
        // Neither reads more than the head of the answer.
        let mut wire = Wire::connect(front).await;
        let mut stream = None;
        if caller_h2 {
            let mut caller = caller2(front).await;
            let request = http::Request::get("http://app/").body(()).expect("a request");
            stream = Some((caller.send_request(request, true).expect("sent"), caller));
        } else {
            wire.send(get("/")).await;
        }
        let written = if app_h2 {
            let (_, mut respond) = in_time(apps2.0.recv()).await.expect("a request");
            written_h2(&mut respond.send_response(http::Response::new(()), false).expect("sent"), front).await
        } else {
            let mut app = apps1.0.recv().await.expect("a connection");
            app.head().await;
            app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TO_SEND}\r\n\r\n")).await;
            written_h1(&mut app, front).await
        };
        assert!(written > 0 && written < MAY_HOLD, "{way}: {written} bytes are held");
        drop((wire, stream));
    }
}

#[tokio::test]
async fn a_slow_reader_of_a_request_stops_the_caller() {
    for (caller_h2, app_h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let way = format!("HTTP/2: caller {caller_h2}, application {app_h2}");
        let (mut apps1, mut apps2) = (app().await, app2().await);
        let (protocol, at) =
            if app_h2 { (AppProtocol::Http2, apps2.1) } else { (AppProtocol::Http1, apps1.1) };
        let (_proxy, front) = front(protocol, &[at], |_| ()).await;
        let mut wire = Wire::connect(front).await;
        let (written, _held) = if caller_h2 {
            let mut caller = caller2(front).await;
            let request = http::Request::post("http://app/").body(()).expect("a request");
            let (response, mut up) = caller.send_request(request, false).expect("sent");
            (written_h2(&mut up, front).await, Some((response, up, caller)))
        } else {
            wire.send(format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {TO_SEND}\r\n\r\n")).await;
            (written_h1(&mut wire, front).await, None)
        };
        // The application has the request, and reads none of it.
        let held = if app_h2 { apps2.0.try_recv().is_ok() } else { apps1.0.try_recv().is_ok() };
        assert!(held && written > 0 && written < MAY_HOLD, "{way}: {written} bytes are held");
    }
}
