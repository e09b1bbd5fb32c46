//! gRPC and gRPC-Web through one proxy: deadlines, statuses, translation.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Response};
use lateen_model::AppProtocol;

use super::http2::*;
use super::mesh::*;

const GRPC: AppProtocol = AppProtocol::Grpc;

fn with_timeout(timeout: &str) -> http::Request<()> {
    let mut request = grpc("/shop.Cart/Get");
    request.headers_mut().insert("grpc-timeout", timeout.parse().expect("a value"));
    request
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).expect("a response")
}

#[tokio::test]
async fn a_deadline_ends_a_call_before_its_answer() {
    let (mut app, at) = app2().await;
    let (proxy, front) = front(GRPC, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let (response, _up) = caller.send_request(with_timeout("60m"), true).expect("sent");
    let (_incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let response = in_time(response).await.expect("a response");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"4".parse().expect(""))
    );
    // Nobody waits for the application any more, and it is told so.
    let reset = in_time(std::future::poll_fn(|context| respond.poll_reset(context))).await;
    assert_eq!(reset.expect("a reason"), h2::Reason::CANCEL);
    let records = proxy.records.wait(1).await;
    assert!(records[0].starts_with("POST /shop.Cart/Get 200 UT response_timeout "), "{records:?}");
    assert!(records[0].ends_with(" grpc=4"), "{records:?}");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_with_a_status_in_its_trailers() {
    let (mut app, at) = app2().await;
    let (proxy, front) = front(GRPC, &[at], |_| ()).await;
    let mut caller = caller2(front).await;
    let (response, _up) = caller.send_request(with_timeout("200m"), false).expect("sent");
    let (_incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let mut down = respond.send_response(head(), false).expect("sent");
    send(&mut down, "first");
    let mut answer = in_time(response).await.expect("a response").into_body();
    let (seen, told) = body(&mut answer).await;
    assert_eq!(seen, b"first");
    assert_eq!(told.expect("trailers")["grpc-status"], "4");
    let reset = in_time(std::future::poll_fn(|context| down.poll_reset(context))).await;
    assert_eq!(reset.expect("a reason"), h2::Reason::CANCEL);
    assert!(proxy.records.wait(1).await[0].ends_with(" grpc=4"));
}

/// The same for a caller of gRPC-Web, whose trailers are the last frame of the body.
#[tokio::test]
async fn a_deadline_ends_a_stream_of_grpc_web_too() {
    let (mut app, at) = app2().await;
    let (proxy, front) = front(GRPC, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller
        .send(
            "POST /shop.Cart/Get HTTP/1.1\r\nHost: app\r\nContent-Type: application/grpc-web\r\n\
             grpc-timeout: 200m\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    let (_incoming, mut respond) = in_time(app.recv()).await.expect("a request");
    let mut down = respond.send_response(head(), false).expect("sent");
    down.send_data(Bytes::from_static(MESSAGE), false).expect("sent");
    assert!(caller.head().await.contains("content-type: application/grpc-web+proto\r\n"));
    let body = caller.chunked().await;
    let (message, trailers) = body.split_at(MESSAGE.len());
    assert_eq!((message, trailers[0]), (MESSAGE, 0x80));
    assert!(trailers[5..].starts_with(b"grpc-status: 4\r\n"), "{}", trailers.escape_ascii());
    assert!(proxy.records.wait(1).await[0].ends_with(" grpc=4"));
}

/// What the application says, in a head alone or in trailers, is what is told.
#[tokio::test]
async fn statuses_are_recorded_wherever_they_stand() {
    let (mut app, at) = app2().await;
    let (proxy, front) = front(GRPC, &[at], |_| ()).await;
    for (index, trailers_only) in [true, false].into_iter().enumerate() {
        let mut caller = caller2(front).await;
        // A deadline that nobody can read is the application's to refuse.
        let (response, _up) = caller.send_request(with_timeout("soon"), true).expect("sent");
        let (incoming, mut respond) = in_time(app.recv()).await.expect("a request");
        assert_eq!(incoming.headers()["grpc-timeout"], "soon");
        if trailers_only {
            let mut head = head();
            head.headers_mut().insert("grpc-status", 9.into());
            respond.send_response(head, true).expect("sent");
        } else {
            let mut down = respond.send_response(head(), false).expect("sent");
            down.send_trailers(trailers("9")).expect("sent");
        }
        let (head, mut answer) = in_time(response).await.expect("a response").into_parts();
        let (_, told) = body(&mut answer).await;
        let status = told.as_ref().and_then(|map| map.get("grpc-status")).or(head.headers.get("grpc-status"));
        assert_eq!(status.expect("a status"), "9");
        assert_eq!(told.is_none(), trailers_only);
        assert!(proxy.records.wait(index + 1).await[index].ends_with(" grpc=9"));
    }
}

/// What the proxy itself answers, as gRPC.
#[tokio::test]
async fn failures_are_statuses() {
    let (listener, dead) = app_listener().await;
    drop(listener);
    for (apps, status, message) in [
        (vec![], "14", "no healthy upstream"),
        (vec![dead], "14", "upstream connect error or disconnect/reset before headers"),
    ] {
        let (proxy, front) = front(GRPC, &apps, |_| ()).await;
        let mut caller = caller2(front).await;
        let (response, _up) = caller.send_request(grpc("/x.Y/Z"), true).expect("sent");
        let response = in_time(response).await.expect("a response");
        assert_eq!(response.headers()["grpc-status"], status);
        assert_eq!(response.headers()["grpc-message"], message);
        assert!(proxy.records.wait(1).await[0].contains(&format!(" grpc={status}")));
    }
}

/// One message, framed as both gRPC and gRPC-Web do.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
const TRAILERS: &[u8] = b"\x80\0\0\0\x10grpc-status: 0\r\n";

async fn web(front: SocketAddr, kind: &str, accept: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut caller = Wire::connect(front).await;
    let length = body.len();
    let head = format!(
        "POST /shop.Cart/Get HTTP/1.1\r\nHost: app\r\nContent-Type: {kind}\r\nAccept: {accept}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    caller.send([head.as_bytes(), body].concat()).await;
    let head = caller.head().await;
    let body = if head.contains("chunked") { caller.chunked().await } else { Vec::new() };
    (head, body)
}

#[tokio::test]
async fn grpc_web_is_translated_both_ways() {
    let (mut app, at) = app2().await;
    let (proxy, front) = front(GRPC, &[at], |_| ()).await;
    tokio::spawn(async move {
        while let Some((incoming, mut respond)) = app.recv().await {
            let (parts, mut incoming) = incoming.into_parts();
            assert!(
                parts.headers.get("content-length").is_none_or(|length| *length == MESSAGE.len().to_string())
            );
            assert_eq!(parts.headers["content-type"], "application/grpc+proto");
            assert_eq!(parts.headers["te"], "trailers");
            let (seen, _) = body(&mut incoming).await;
            assert_eq!(seen, MESSAGE);
            let mut down = respond.send_response(head(), false).expect("sent");
            down.send_data(Bytes::from_static(MESSAGE), false).expect("sent");
            down.send_trailers(trailers("0")).expect("sent");
        }
    });
    let text = BASE64.encode(MESSAGE);
    // A piece each, padded by itself.
    let pieces = [BASE64.encode(&MESSAGE[..4]), BASE64.encode(&MESSAGE[4..])].concat();
    let (binary, base64) = ("application/grpc-web+proto", "application/grpc-web-text+proto");
    for (index, (kind, accept, sent, expected)) in [
        (binary, "*/*", MESSAGE, binary),
        (binary, binary, MESSAGE, binary),
        (base64, base64, text.as_bytes(), base64),
        (base64, "*/*", pieces.as_bytes(), base64),
        (base64, binary, text.as_bytes(), binary),
    ]
    .into_iter()
    .enumerate()
    {
        let (head, body) = web(front, kind, accept, sent).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("content-type: {expected}\r\n")), "{head}");
        let body = if expected == base64 { decode_pieces(&body) } else { body };
        assert_eq!(body, [MESSAGE, TRAILERS].concat(), "{kind} {accept}");
        let records = proxy.records.wait(index + 1).await;
        assert!(records[index].ends_with(" grpc=0"), "{records:?}");
    }
}

fn decode_pieces(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|group| BASE64.decode(group).expect("base64")).collect()
}

#[tokio::test]
async fn grpc_web_that_goes_wrong_is_answered_in_grpc_web() {
    // What is no base64 never reaches the application whole.
    let (_app, at) = app2().await;
    let (_proxy, front) = front(GRPC, &[at], |_| ()).await;
    let (head, _) = web(front, "application/grpc-web-text", "*/*", b"AAA*").await;
    assert!(head.contains("grpc-status: 13\r\n"), "{head}");
    // Nobody is there.
    let (_proxy, front) = super::mesh::front(GRPC, &[], |_| ()).await;
    for kind in ["application/grpc-web+proto", "application/grpc-web-text+proto"] {
        let (head, _) = web(front, kind, kind, MESSAGE).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("grpc-status: 14\r\n"), "{head}");
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{head}");
    }
}

/// Trailers-only answers stay heads, and what is no gRPC stays what it is.
#[tokio::test]
async fn heads_of_grpc_web_without_a_body() {
    let (mut app, at) = app2().await;
    let (_proxy, front) = front(GRPC, &[at], |_| ()).await;
    tokio::spawn(async move {
        let (_, mut respond) = app.recv().await.expect("a request");
        let mut only = head();
        only.headers_mut().insert("grpc-status", 5.into());
        respond.send_response(only, true).expect("sent");
        let (_, mut respond) = app.recv().await.expect("a request");
        let html =
            Response::builder().status(404).header("content-type", "text/html").body(()).expect("a head");
        let mut down = respond.send_response(html, false).expect("sent");
        down.send_data(Bytes::from_static(b"<html>"), false).expect("sent");
        down.send_trailers(HeaderMap::new()).expect("sent");
    });
    let (head, _) = web(front, "application/grpc-web", "*/*", MESSAGE).await;
    assert!(head.contains("grpc-status: 5\r\n") && head.contains("application/grpc-web+proto\r\n"), "{head}");
    let (head, body) = web(front, "application/grpc-web", "*/*", MESSAGE).await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n") && head.contains("text/html\r\n"), "{head}");
    assert_eq!(body, b"<html>");
}

/// Ports that are not of gRPC may understand gRPC-Web themselves.
#[tokio::test]
async fn grpc_web_towards_other_ports_is_left_alone() {
    let at = echo("app").await;
    let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let request = "POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/grpc-web-text\r\n\
                   Content-Length: 4\r\n\r\nAAAA";
    let (status, body) = caller.ask(request).await;
    assert!(status.contains("200") && body.contains("Content-Type: application/grpc-web-text\r\n"), "{body}");
    assert!(body.ends_with("\r\n\r\nAAAA"), "{body}");
}
