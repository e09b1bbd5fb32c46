//! Callers and applications that mean harm, or are broken.

use std::time::Duration;

use lateen_model::AppProtocol;

use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;

/// What was sent, the status line that answers, and what the record says. After each the connection is closed.
#[tokio::test]
async fn requests_that_are_refused() {
    let long = format!("GET / HTTP/1.1\r\nHost: app\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: app\r\n{}\r\n", "a: b\r\n".repeat(200));
    let at = echo("app").await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let bad = "400 Bad Request";
    for (index, (request, status, details)) in [
        (
            "GET / HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            bad,
            "http1.content_length_and_chunked",
        ),
        ("GET / HTTP/1.1\nHost: app\n\n", bad, "http1.invalid_line_end"),
        ("GET / HTTP/1.1\r\nHost : app\r\n\r\n", bad, "http1.invalid_header_name"),
        ("GET / HTTP/1.1\r\nHost: app\r\n folded\r\n\r\n", bad, "http1.invalid_header_name"),
        ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", bad, "http1.invalid_header_value"),
        ("GET / HTTP/1.1\r\n\r\n", bad, "http1.invalid_host"),
        ("GET / HTTP/3.0\r\nHost: app\r\n\r\n", "505 HTTP Version Not Supported", "http1.invalid_version"),
        ("\x16\x03\x01\x02\x00\x01\n", bad, "http1.invalid_line_end"),
        ("GET /../x HTTP/1.1\r\nHost: app\r\n\r\n", bad, "http.invalid_request"),
        ("GET /%00 HTTP/1.1\r\nHost: app\r\n\r\n", bad, "http.invalid_request"),
        (&long, "431 Request Header Fields Too Large", "http1.headers_too_large"),
        (&many, "431 Request Header Fields Too Large", "http1.too_many_headers"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = Wire::connect(front).await;
        caller.send(request).await;
        let head = caller.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {head}");
        let kept = details == "http.invalid_request";
        if !kept {
            assert!(head.contains("connection: close"), "{head}");
        }
        let records = proxy.records.wait(index + 1).await;
        assert!(records[index].contains(details), "{request:.60?}: {}", records[index]);
    }
}

/// What follows a refused request is never taken for another.
#[tokio::test]
async fn nothing_is_read_after_a_refused_request() {
    let at = echo("app").await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let smuggled = "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n";
    caller.send(smuggled).await;
    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("smuggled"), "{answer}");
    assert_eq!(proxy.records.wait(1).await.len(), 1);
}

#[tokio::test]
async fn broken_chunks_end_the_connection_and_never_reach_the_application_whole() {
    for body in [
        "x\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
    ] {
        let (mut app, at) = app().await;
        let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller
            .send(format!("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
            .await;
        let answer = caller.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        if let Some(mut wire) = app.recv().await {
            assert!(!wire.rest().await.ends_with("0\r\n\r\n"), "{body:?}");
        }
    }
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |settings| {
        settings.head_time = Duration::from_millis(100);
        settings.stream_idle = Duration::from_millis(100);
    })
    .await;
    let mut head = Wire::connect(front).await;
    head.send("GET / HTTP/1.1\r\nHost: ").await;
    assert!(head.rest().await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    let mut body = Wire::connect(front).await;
    body.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nx").await;
    assert!(body.rest().await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    let _app = app.recv().await;
    let records = proxy.records.wait(2).await;
    assert!(records[0].contains("408 SI request_header_timeout"), "{records:?}");
    assert!(records[1].contains("408 SI request_timeout"), "{records:?}");
}

#[tokio::test]
async fn idle_connections_and_too_many_are_closed() {
    let at = echo("app").await;
    let (proxy, front) = front(HTTP, &[at], |settings| {
        settings.idle = Duration::from_millis(100);
        settings.most_connections = 2;
    })
    .await;
    let mut idle = Wire::connect(front).await;
    assert_eq!(idle.rest().await, "");
    let (mut first, mut second) = (Wire::connect(front).await, Wire::connect(front).await);
    first.ask(&get("/")).await;
    second.ask(&get("/")).await;
    let mut third = Wire::connect(front).await;
    assert_eq!(third.rest().await, "");
    assert_eq!(proxy.records.wait(2).await.len(), 2);
}

/// Applications that answer with what is no answer.
#[tokio::test]
async fn answers_that_are_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let (mut app, at) = app().await;
        let (proxy, front) = front(HTTP, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send(answer).await;
        assert_eq!(caller.answer().await.0, "HTTP/1.1 502 Bad Gateway", "{answer:?}");
        assert!(proxy.records.wait(1).await[0].contains(" UPE "), "{answer:?}");
    }
}

/// An answer that nobody asked for is not given to the next request.
#[tokio::test]
async fn answers_ahead_of_their_request_are_not_used() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/1")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
    wire.send(format!("{ok}trueHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")).await;
    assert_eq!(caller.answer().await.1, "true");
    caller.send(get("/2")).await;
    let mut wire = app.recv().await.expect("a new connection");
    wire.head().await;
    wire.send(format!("{ok}good")).await;
    assert_eq!(caller.answer().await.1, "good");
}
