//! HTTP/2: from callers, to applications, between proxies, and against HTTP/1.1 on the other side.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use lateen_model::{AppProtocol, Tunnel};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::mesh::*;
use super::pair::pair;

pub(super) type Incoming = (Request<RecvStream>, h2::server::SendResponse<Bytes>);

/// An application of HTTP/2 that hands out its requests.
pub(super) async fn app2() -> (mpsc::UnboundedReceiver<Incoming>, SocketAddr) {
    let (listener, address) = app_listener().await;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.expect("handshake");
                while let Some(Ok(incoming)) = connection.accept().await {
                    if sender.send(incoming).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (receiver, address)
}

/// A caller of HTTP/2.
pub(super) async fn caller2(at: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let tcp = TcpStream::connect(at).await.expect("connect");
    let (requests, connection) = h2::client::handshake(tcp).await.expect("handshake");
    tokio::spawn(async move {
        // Its end is seen by the requests.
        let _ = connection.await;
    });
    requests.ready().await.expect("ready")
}

pub(super) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://app{path}"))
}

pub(super) fn grpc(path: &str) -> Request<()> {
    request("POST", path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request")
}

pub(super) async fn body(stream: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = in_time(stream.data()).await {
        let data = data.expect("data");
        stream.flow_control().release_capacity(data.len()).expect("released");
        all.extend_from_slice(&data);
    }
    (all, in_time(stream.trailers()).await.expect("trailers"))
}

pub(super) async fn piece(stream: &mut RecvStream) -> Bytes {
    let data = in_time(stream.data()).await.expect("data").expect("data");
    stream.flow_control().release_capacity(data.len()).expect("released");
    data
}

pub(super) fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().expect("a name"), status.parse().expect("a value"))])
}

pub(super) fn send(stream: &mut SendStream<Bytes>, text: &'static str) {
    stream.send_data(Bytes::from_static(text.as_bytes()), false).expect("sent");
}

#[tokio::test]
async fn grpc_streams_both_ways_through_two_proxies_and_ends_with_trailers() {
    let (mut app, at) = app2().await;
    let (client, server, front) = pair(at, AppProtocol::Grpc).await;
    let mut caller = caller2(front).await;
    let (response, mut up) = caller.send_request(grpc("/shop.Cart/Watch"), false).expect("sent");
    let (incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let (parts, mut incoming) = incoming.into_parts();
    assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/shop.Cart/Watch"));
    assert_eq!(parts.uri.authority().map(ToString::to_string).as_deref(), Some("app"));
    assert!(parts.headers["x-forwarded-client-cert"].to_str().expect("text").ends_with("/sa/client"));
    assert_eq!(parts.headers["te"], "trailers");
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a response");
    let mut down = respond.send_response(head, false).expect("sent");
    let (head, mut answer) = in_time(response).await.expect("a response").into_parts();
    assert_eq!(head.status, 200);
    for _ in 0..3 {
        send(&mut up, "ping");
        assert_eq!(piece(&mut incoming).await, "ping");
        send(&mut down, "pong");
        assert_eq!(piece(&mut answer).await, "pong");
    }
    up.send_data(Bytes::new(), true).expect("ended");
    assert_eq!(body(&mut incoming).await.0, b"");
    down.send_trailers(trailers("5")).expect("sent");
    let (rest, told) = body(&mut answer).await;
    assert_eq!((rest, told.expect("trailers")["grpc-status"].to_str().expect("text")), (vec![], "5"));
    for proxy in [client, server] {
        let records = proxy.records.wait(1).await;
        assert!(records[0].starts_with("POST /shop.Cart/Watch 200 - "), "{records:?}");
    }
}

#[tokio::test]
async fn a_caller_of_http_1_reaches_an_application_of_http_2() {
    let (mut app, at) = app2().await;
    let (_proxy, front) = front(AppProtocol::Http2, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller
        .send("POST /x HTTP/1.1\r\nHost: app\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-Upper: Yes\r\n\r\n4\r\nbody\r\n0\r\nx-end: 1\r\n\r\n")
        .await;
    let (incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let (parts, mut incoming) = incoming.into_parts();
    assert!(parts.headers.get("transfer-encoding").is_none() && parts.headers["x-upper"] == "Yes");
    let (sent, ended) = body(&mut incoming).await;
    assert_eq!(
        (sent.as_slice(), ended.expect("trailers")["x-end"].to_str().expect("text")),
        (b"body".as_slice(), "1")
    );
    let mut down = respond.send_response(Response::new(()), false).expect("sent");
    send(&mut down, "answer");
    down.send_trailers(trailers("0")).expect("sent");
    assert!(caller.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    let expected = b"6\r\nanswer\r\n0\r\ngrpc-status: 0\r\n\r\n";
    assert_eq!(caller.exactly(expected.len()).await, expected);
}

#[tokio::test]
async fn a_caller_of_http_2_reaches_an_application_of_http_1() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let head =
        request("POST", "/x?y").header("cookie", "a=1").header("cookie", "b=2").header("content-length", "4");
    let (response, mut up) = caller.send_request(head.body(()).expect("a request"), false).expect("sent");
    up.send_data(Bytes::from_static(b"body"), true).expect("sent");
    let (head, mut answer) = in_time(response).await.expect("a response").into_parts();
    assert!(head.headers.get("connection").is_none());
    let (seen, _) = body(&mut answer).await;
    let seen = String::from_utf8(seen).expect("text");
    assert!(seen.starts_with("app\nPOST /x?y HTTP/1.1\r\n") && seen.ends_with("\r\n\r\nbody"), "{seen}");
    for line in ["cookie: a=1; b=2\r\n", "host: app\r\n", "content-length: 4\r\n"] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
}

#[tokio::test]
async fn many_streams_share_one_connection_to_the_application() {
    let (mut app, at) = app2().await;
    let (_proxy, front) = front(AppProtocol::Http2, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let mut responses = Vec::new();
    for index in 0..20 {
        caller = caller.ready().await.expect("ready");
        let head = request("GET", &format!("/{index}")).body(()).expect("a request");
        responses.push(caller.send_request(head, true).expect("sent").0);
    }
    for _ in 0..20 {
        let (incoming, mut respond) = in_time(app.recv()).await.expect("a request");
        let path = incoming.uri().path().to_owned();
        let head = Response::builder().header("x-path", path).body(()).expect("a response");
        respond.send_response(head, true).expect("sent");
    }
    for (index, response) in responses.into_iter().enumerate() {
        let response = in_time(response).await.expect("a response");
        assert_eq!(response.headers()["x-path"], format!("/{index}"));
    }
}

#[tokio::test]
async fn a_caller_cannot_send_more_than_the_application_takes() {
    let (mut app, at) = app2().await;
    let (_proxy, front) = front(AppProtocol::Http2, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let (_response, mut up) =
        caller.send_request(request("POST", "/").body(()).expect("a request"), false).expect("sent");
    let (_incoming, _respond) = in_time(app.recv()).await.expect("a request");
    // The application reads nothing: after the windows of the way are full, nothing more goes.
    let mut sent = 0;
    loop {
        up.reserve_capacity(64 * 1024);
        let window = std::future::poll_fn(|context| up.poll_capacity(context));
        let Ok(window) = tokio::time::timeout(std::time::Duration::from_millis(300), window).await else {
            break;
        };
        let window = window.expect("open").expect("open");
        up.send_data(vec![0; window].into(), false).expect("sent");
        sent += window;
        assert!(sent < 4_000_000, "the way holds {sent} bytes");
    }
    assert!(sent > 0);
}

#[tokio::test]
async fn large_bodies_cross_protocols_whole() {
    const SIZE: usize = 3_000_000;
    let (mut app, at) = app2().await;
    let (_client, _server, front) = pair(at, AppProtocol::Http2).await;
    let bytes: Vec<u8> = (0..SIZE).map(|i| (i * 13 % 251) as u8).collect();
    let expected = bytes.clone();
    let calling = tokio::spawn(async move {
        let mut caller = Wire::connect(front).await;
        caller.send(format!("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let (mut read, mut write) = caller.tcp.into_split();
        let writing = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await.expect("sent");
            write
        });
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            let mut piece = vec![0; 65_536];
            let count = tokio::io::AsyncReadExt::read(&mut read, &mut piece).await.expect("read");
            assert!(count > 0, "ended after {}", answer.len());
            answer.extend_from_slice(&piece[..count]);
        }
        drop(writing.await);
        answer
    });
    let (incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let mut incoming = incoming.into_body();
    let mut down = respond.send_response(Response::new(()), false).expect("sent");
    // Echoed while it comes.
    let mut seen = Vec::new();
    while let Some(data) = in_time(incoming.data()).await {
        let mut data = data.expect("data");
        incoming.flow_control().release_capacity(data.len()).expect("released");
        seen.extend_from_slice(&data);
        while !data.is_empty() {
            down.reserve_capacity(data.len());
            let window = in_time(std::future::poll_fn(|context| down.poll_capacity(context))).await;
            let window = window.expect("open").expect("open");
            down.send_data(data.split_to(window.min(data.len())), false).expect("sent");
        }
    }
    down.send_data(Bytes::new(), true).expect("ended");
    assert!(seen == expected);
    assert!(in_time(calling).await.expect("the caller ends").len() > SIZE);
}

#[tokio::test]
async fn a_denial_of_grpc_is_a_status_of_grpc() {
    let authority = Authority::new();
    let (_app, at) = app2().await;
    let resources = [
        service("app", AppProtocol::Grpc),
        instance("app", at, AppProtocol::Grpc, Tunnel::Hbone),
        deny("no", "client"),
    ];
    let hbone = SocketAddr::new(at.ip(), 15008);
    let (_server, _) = Plan::sidecar("app", &resources)
        .certified(&authority)
        .door(hbone, crate::enter::Door::Hbone)
        .start()
        .await;
    let (_client, front) = super::pair::client_of(&authority, &resources, "client").await;
    let mut caller = caller2(front).await;
    let (response, _up) = caller.send_request(grpc("/x"), true).expect("sent");
    let response = in_time(response).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "7");
    assert_eq!(response.headers()["grpc-message"], "RBAC: access denied");
}

#[tokio::test]
async fn a_reset_travels_to_the_other_end() {
    let (mut app, at) = app2().await;
    let (proxy, front) = front(AppProtocol::Http2, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    // The caller gives up.
    let (response, up) =
        caller.send_request(request("POST", "/up").body(()).expect("a request"), false).expect("sent");
    let (incoming, respond) = in_time(app.recv()).await.expect("a request");
    drop((response, up));
    let mut incoming = incoming.into_body();
    assert!(in_time(incoming.data()).await.expect("an end").is_err());
    drop(respond);
    // The application gives up in the middle of its answer.
    caller = caller.ready().await.expect("ready");
    let (response, _up) =
        caller.send_request(request("GET", "/down").body(()).expect("a request"), true).expect("sent");
    let (_incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let mut down = respond.send_response(Response::new(()), false).expect("sent");
    send(&mut down, "half");
    let mut answer = in_time(response).await.expect("a response").into_body();
    assert_eq!(piece(&mut answer).await, "half");
    down.send_reset(h2::Reason::INTERNAL_ERROR);
    assert!(in_time(answer.data()).await.expect("an end").is_err());
    let records = proxy.records.wait(2).await;
    assert!(
        records[0].starts_with("POST /up 0 DC ") && records[1].starts_with("GET /down 200 UC "),
        "{records:?}"
    );
}

#[tokio::test]
async fn an_early_answer_is_whole_and_the_rest_of_the_body_unwanted() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let head = request("POST", "/").body(()).expect("a request");
    let (response, mut up) = caller.send_request(head, false).expect("sent");
    send(&mut up, "first");
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    let answer = "x".repeat(100_000);
    app.send(format!("HTTP/1.1 413 Too Large\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())).await;
    let response = in_time(response).await.expect("a response");
    assert_eq!(response.status(), 413);
    assert_eq!(body(&mut response.into_body()).await.0, answer.as_bytes());
    let reset = in_time(std::future::poll_fn(|context| up.poll_reset(context))).await;
    assert_eq!(reset.expect("a reason"), h2::Reason::NO_ERROR);
}
