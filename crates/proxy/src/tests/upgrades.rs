//! Connections that change their protocol: WebSocket by both versions of HTTP, HTTP/2 by upgrade, and what is refused.

use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;
use lateen_model::AppProtocol;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::http2::{body, piece, send};
use super::mesh::*;
use super::pair::pair;

const HTTP: AppProtocol = AppProtocol::Http1;
const ASK: &str = "GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn a_websocket_goes_through_two_proxies_with_mtls() {
    let (mut app, at) = app().await;
    let (client, server, front) = pair(at, HTTP).await;
    let mut caller = Wire::connect(front).await;
    caller.send(ASK).await;
    let mut wire = app.recv().await.expect("a connection");
    let head = wire.head().await;
    assert!(head.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{head}");
    wire.send(YES).await;
    let head = caller.head().await;
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    for turn in 0..3 {
        caller.send(format!("up-{turn}")).await;
        assert_eq!(wire.exactly(4).await, format!("up-{turn}").as_bytes());
        wire.send(format!("dn-{turn}")).await;
        assert_eq!(caller.exactly(4).await, format!("dn-{turn}").as_bytes());
    }
    caller.tcp.shutdown().await.expect("half-close");
    assert_eq!(wire.rest().await, "");
    wire.send("last words").await;
    drop(wire);
    assert_eq!(caller.rest().await, "last words");
    for proxy in [client, server] {
        assert!(proxy.records.wait(1).await[0].starts_with("GET /ws 101 - "));
    }
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_answer_like_any_other() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(ASK).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(caller.answer().await, ("HTTP/1.1 426 Upgrade Required".to_owned(), "no".to_owned()));
    caller.send(get("/next")).await;
    assert!(wire.head().await.starts_with("GET /next "));
}

/// An upgrade is passed on when it is asked for by all the rules, and is otherwise nothing.
#[tokio::test]
async fn what_asks_for_an_upgrade() {
    for (fields, passed) in [
        ("Connection: upgrade\r\nUpgrade: anything/2\r\n", true),
        ("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", true),
        ("Upgrade: websocket\r\n", false),
        ("Connection: upgrade\r\n", false),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", false),
    ] {
        let (mut app, at) = app().await;
        let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send(format!("POST / HTTP/1.1\r\nHost: app\r\n{fields}\r\nx")).await;
        let mut wire = app.recv().await.expect("a connection");
        let head = wire.head().await.to_ascii_lowercase();
        assert_eq!(head.contains("upgrade"), passed, "{fields:?}: {head}");
        // Nobody who did not ask is switched.
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
        let status = if passed { "101 Switching Protocols" } else { "502 Bad Gateway" };
        assert!(caller.head().await.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{fields:?}");
    }
}

/// A caller of HTTP/2 that knows whether tunnels may be asked for.
async fn caller2(front: std::net::SocketAddr) -> h2::client::SendRequest<Bytes> {
    let tcp = TcpStream::connect(front).await.expect("connect");
    let (requests, mut connection) = h2::client::handshake(tcp).await.expect("handshake");
    let mut ping = connection.ping_pong().expect("the first to ask");
    tokio::spawn(async move {
        // Its end is seen by the requests.
        let _ = connection.await;
    });
    // What comes back after this comes after the settings.
    in_time(ping.ping(h2::Ping::opaque())).await.expect("a pong");
    requests
}

fn connect(protocol: &'static str) -> Request<()> {
    let request = Request::builder().method("CONNECT").uri("http://app/ws");
    request
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static(protocol))
        .body(())
        .expect("a request")
}

#[tokio::test]
async fn a_websocket_of_http_2_becomes_one_of_http_1() {
    for through_a_pair in [false, true] {
        let (mut app, at) = app().await;
        let (first, second, front) = if through_a_pair {
            let (client, server, front) = pair(at, HTTP).await;
            (client, Some(server), front)
        } else {
            let (proxy, front) = front(HTTP, &[at], |_| ()).await;
            (proxy, None, front)
        };
        let mut caller = caller2(front).await;
        assert!(caller.is_extended_connect_protocol_enabled());
        let (response, mut up) = caller.send_request(connect("websocket"), false).expect("sent");
        let mut wire = app.recv().await.expect("a connection");
        let head = wire.head().await;
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
        for line in ["host: app\r\n", "connection: upgrade\r\nupgrade: websocket\r\n", "sec-websocket-key: "]
        {
            assert!(head.contains(line), "{line}: {head}");
        }
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
        wire.send(format!("{YES}hello")).await;
        let (head, mut answer) = in_time(response).await.expect("a response").into_parts();
        assert_eq!(head.status, 200);
        assert!(head.headers.get("sec-websocket-accept").is_none() && head.headers.get("upgrade").is_none());
        assert_eq!(piece(&mut answer).await, "hello");
        send(&mut up, "question");
        assert_eq!(wire.exactly(8).await, b"question");
        // Each side ends by itself.
        up.send_data(Bytes::new(), true).expect("sent");
        assert_eq!(wire.rest().await, "");
        wire.send("last words").await;
        drop(wire);
        assert_eq!(body(&mut answer).await.0, b"last words");
        assert!(first.records.wait(1).await[0].starts_with("GET /ws 101 - "));
        drop((first, second));
    }
}

#[tokio::test]
async fn a_refusal_of_a_websocket_reaches_a_caller_of_http_2() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let (response, _up) = caller.send_request(connect("websocket"), false).expect("sent");
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, mut answer) = in_time(response).await.expect("a response").into_parts();
    assert_eq!(head.status, 404);
    assert_eq!(body(&mut answer).await.0, b"no");
}

#[tokio::test]
async fn a_tunnel_that_breaks_is_a_stream_that_is_reset() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let (response, up) = caller.send_request(connect("websocket"), false).expect("sent");
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send(YES).await;
    let response = in_time(response).await.expect("a response");
    // The caller resets: the application's connection ends.
    drop((up, response));
    assert_eq!(wire.rest().await, "");
}

/// `Upgrade: h2c`: the request is answered as stream 1 of HTTP/2, and others follow on the same connection.
#[tokio::test]
async fn http_2_by_upgrade() {
    let at = echo("app").await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut wire = Wire::connect(front).await;
    // Requests before it do not hinder.
    assert_eq!(wire.ask(&get("/before")).await.0, "HTTP/1.1 200 OK");
    wire.send(
        "GET /upgraded HTTP/1.1\r\nHost: app\r\nConnection: Upgrade, HTTP2-Settings, X-Hop\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAABk\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\n",
    )
    .await;
    assert_eq!(
        wire.head().await,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    );
    let mut raw = super::frames::Raw::over(wire).await;
    // The window of the upgrade's settings holds: 100 bytes, until more is allowed.
    let first = raw.data_of(1, 100).await;
    assert!(first.starts_with(b"app\nGET /upgraded HTTP/1.1\r\n"), "{}", first.escape_ascii());
    raw.allow(1, 10_000).await;
    let rest = [first, raw.rest_of(1).await].concat();
    let seen = String::from_utf8(rest).expect("text");
    assert!(seen.contains("x-kept: 2\r\n") && seen.contains("host: app\r\n"), "{seen}");
    for gone in ["x-hop", "upgrade: ", "http2-settings", "connection"] {
        assert!(!seen.to_ascii_lowercase().contains(gone), "{gone}: {seen}");
    }
    raw.request(3).await;
    raw.allow(3, 10_000).await;
    assert!(raw.rest_of(3).await.starts_with(b"app\nGET / HTTP/1.1\r\n"));
    let records = proxy.records.wait(3).await;
    assert!(records[1].starts_with("GET /upgraded 200 - "), "{records:?}");
}

/// What does not ask by the rules of RFC 7540 is served as HTTP/1.1, and the wish is not sent on.
#[tokio::test]
async fn upgrades_to_http_2_that_are_none() {
    let at = echo("app").await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    for (method, fields) in [
        ("GET", "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
        ("GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAA\r\n"),
        ("GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: !\r\n"),
        ("GET", "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        (
            "POST",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 0\r\nContent-Type: x\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
    ] {
        let mut wire = Wire::connect(front).await;
        let (status, body) = wire.ask(&format!("{method} / HTTP/1.1\r\nHost: app\r\n{fields}\r\n")).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{fields}");
        assert!(!body.to_ascii_lowercase().contains("h2"), "{body}");
    }
}
