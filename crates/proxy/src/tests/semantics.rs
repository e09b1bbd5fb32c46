//! What HTTP/1.1 means, at the proxy: expectations, bodies that are not there, connections that go on or end, and fields
//! that belong to one connection only.

use lateen_model::AppProtocol;

use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;
const NOTHING: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// The request as it is sent, the answer as the application gives it, and as the caller gets it.
#[tokio::test]
async fn answers_with_and_without_bodies() {
    for (method, answer, expected) in [
        ("HEAD", "200 OK\r\nContent-Length: 7", "200 OK\r\ncontent-length: 7"),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", "200 OK"),
        ("HEAD", "200 OK", "200 OK"),
        ("HEAD", "404 Not Found\r\nContent-Length: 9", "404 Not Found\r\ncontent-length: 9"),
        ("GET", "204 No Content", "204 No Content"),
        ("GET", "204 No Content\r\nContent-Length: 5", "204 No Content"),
        ("GET", "204 No Content\r\nTransfer-Encoding: chunked", "204 No Content"),
        ("GET", "304 Not Modified\r\nETag: x", "304 Not Modified\r\nETag: x"),
        ("GET", "304 Not Modified\r\nContent-Length: 5", "304 Not Modified\r\ncontent-length: 5"),
        ("GET", "200 OK\r\nContent-Length: 0", "200 OK\r\ncontent-length: 0"),
        ("DELETE", "205 Reset Content\r\nContent-Length: 0", "205 Reset Content\r\ncontent-length: 0"),
    ] {
        let (mut app, at) = app().await;
        let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send(format!("{method} / HTTP/1.1\r\nHost: app\r\n\r\n")).await;
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send(format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        assert_eq!(caller.head().await, format!("HTTP/1.1 {expected}\r\n\r\n"), "{method} {answer:?}");
        // Both connections go on: whatever the fields said, there was no body.
        caller.send(get("/next")).await;
        assert!(wire.head().await.starts_with("GET /next "), "{method} {answer:?}");
        wire.send(NOTHING).await;
        assert_eq!(caller.head().await, NOTHING);
    }
}

#[tokio::test]
async fn an_expectation_is_refused_early_and_the_body_never_asked_for() {
    for by_the_application in [true, false] {
        let (mut app, at) = app().await;
        let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        let expect = if by_the_application { "100-continue" } else { "200-maybe" };
        caller
            .send(format!("POST / HTTP/1.1\r\nHost: app\r\nExpect: {expect}\r\nContent-Length: 9\r\n\r\n"))
            .await;
        if by_the_application {
            let mut wire = app.recv().await.expect("a connection");
            wire.head().await;
            wire.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
            // Nobody knows whether the body comes: neither connection is used again.
            assert_eq!(wire.rest().await, "");
        }
        let answer = caller.rest().await;
        assert!(answer.starts_with("HTTP/1.1 417 Expectation Failed\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n") && !answer.contains("100 Continue"), "{answer}");
        assert!(by_the_application || app.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_broken_request_among_pipelined_ones_ends_the_answers_in_its_place() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let broken = "POST /2 HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx";
    caller.send([get("/1"), broken.to_owned(), get("/3")].concat()).await;
    let mut wire = app.recv().await.expect("a connection");
    assert!(wire.head().await.starts_with("GET /1 "));
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await;
    assert_eq!(caller.answer().await, ("HTTP/1.1 200 OK".to_owned(), "one".to_owned()));
    assert_eq!(caller.answer().await.0, "HTTP/1.1 400 Bad Request");
    assert_eq!(caller.rest().await, "");
    let records = proxy.records.wait(2).await;
    assert!(records[1].contains(" 400 DPE http1.unexpected_content_length "), "{records:?}");
    drop(proxy);
    // The application has seen nothing of what came after the first request.
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn fields_of_one_connection_stay_there_both_ways() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller
        .send(
            "GET / HTTP/1.1\r\nHost: app\r\nConnection: close, X-Hop, TE\r\nX-Hop: 1\r\nTE: trailers, deflate\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
             X-End: 2\r\n\r\n",
        )
        .await;
    let mut wire = app.recv().await.expect("a connection");
    let head = wire.head().await.to_ascii_lowercase();
    for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade", "http2-settings", "deflate", "close"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(head.contains("x-end: 2\r\n") && head.contains("te: trailers\r\nconnection: te\r\n"), "{head}");
    wire.send(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n\
         Content-Length: 0\r\nX-End: 2\r\n\r\n",
    )
    .await;
    assert_eq!(
        caller.rest().await,
        "HTTP/1.1 200 OK\r\nX-End: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    // Its `close` was for us, ours was for the caller.
    assert_eq!(wire.rest().await, "");
}

/// A field that decides what the message means cannot be named away.
#[tokio::test]
async fn connection_cannot_name_what_the_message_needs() {
    let at = echo("app").await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let request = "POST / HTTP/1.1\r\nHost: app\r\nAuthorization: x\r\nContent-Length: 4\r\n\
                   Connection: host, authorization, content-length, x-request-id\r\n\r\nbody";
    let (status, body) = caller.ask(request).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for kept in ["Host: app\r\n", "Authorization: x\r\n", "content-length: 4\r\n", "x-request-id: "] {
        assert!(body.contains(kept), "{kept}: {body}");
    }
    assert!(body.ends_with("\r\n\r\nbody"), "{body}");
}

#[tokio::test]
async fn trailers_go_both_ways_without_those_that_would_change_the_message() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let ends =
        "0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: x\r\nx-forwarded-for: y\r\n\r\n";
    caller
        .send(format!("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n{ends}"))
        .await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    let expected = b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n";
    assert_eq!(wire.exactly(expected.len()).await, expected);
    wire.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n{ends}")).await;
    caller.head().await;
    assert_eq!(caller.exactly(expected.len()).await, expected);
    // Nothing is left over on either side.
    caller.send(get("/next")).await;
    assert!(wire.head().await.starts_with("GET /next "));
}

#[tokio::test]
async fn connections_of_http_1_0_are_kept_when_asked() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for turn in 0..2 {
        caller.send("GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n").await;
        // The application speaks HTTP/1.0 and ends its connection each time.
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send(format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n{turn}")).await;
        assert_eq!(
            caller.head().await,
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n"
        );
        assert_eq!(caller.exactly(1).await, turn.to_string().as_bytes());
    }
    caller.send("GET / HTTP/1.0\r\nHost: app\r\n\r\n").await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send(NOTHING).await;
    assert_eq!(caller.rest().await, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// Which line is too long decides the status.
#[tokio::test]
async fn long_targets_and_long_heads_are_told_apart() {
    let at = echo("app").await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let long = "x".repeat(70_000);
    for (index, (request, status, details)) in [
        (format!("GET /{long}"), "414 URI Too Long", "http1.url_too_long"),
        (
            format!("GET / HTTP/1.1\r\nHost: app\r\nX: {long}"),
            "431 Request Header Fields Too Large",
            "http1.headers_too_large",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = Wire::connect(front).await;
        caller.send(request).await;
        assert!(caller.head().await.starts_with(&format!("HTTP/1.1 {status}\r\n")));
        assert!(proxy.records.wait(index + 1).await[index].contains(details));
    }
}

#[tokio::test]
async fn hosts_are_one_and_are_authorities() {
    let at = echo("app").await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    for (target, fields, expected) in [
        ("/", "Host: app\r\n", Some("Host: app\r\n")),
        ("http://app/", "Host: other\r\n", Some("Host: app\r\n")),
        ("http://app", "Host: app\r\n", Some("GET / HTTP/1.1\r\n")),
        ("/", "Host: app:80\r\n", Some("Host: app:80\r\n")),
        ("/", "", None),
        ("/", "Host: app\r\nHost: app\r\n", None),
        ("/", "Host: app:80:80\r\n", None),
        ("/", "Host: app:x\r\n", None),
        ("/", "Host: [::1\r\n", None),
        ("/", "Host: app/x\r\n", None),
        ("/", "Host: user@app\r\n", None),
        ("http://user@app/", "Host: app\r\n", None),
    ] {
        let mut caller = Wire::connect(front).await;
        let (status, body) = caller.ask(&format!("GET {target} HTTP/1.1\r\n{fields}\r\n")).await;
        match expected {
            Some(line) => {
                assert!(status == "HTTP/1.1 200 OK" && body.contains(line), "{target} {fields:?}: {body}");
                assert_eq!(body.to_ascii_lowercase().matches("host: ").count(), 1, "{body}");
            }
            None => assert_eq!(status, "HTTP/1.1 400 Bad Request", "{target} {fields:?}"),
        }
    }
}

/// The first event of a stream is with its reader before the second exists.
#[tokio::test]
async fn events_are_not_held_back() {
    for through_a_pair in [false, true] {
        let (mut app, at) = app().await;
        let (first, second, front) = if through_a_pair {
            let (client, server, front) = super::pair::pair(at, HTTP).await;
            (client, Some(server), front)
        } else {
            let (proxy, front) = front(HTTP, &[at], |_| ()).await;
            (proxy, None, front)
        };
        let mut caller = Wire::connect(front).await;
        caller.send("GET /events HTTP/1.1\r\nHost: app\r\nAccept: text/event-stream\r\n\r\n").await;
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        assert!(caller.head().await.contains("text/event-stream"));
        for turn in 0..5 {
            let event = format!("9\r\ndata: {turn}\n\n\r\n");
            wire.send(&event).await;
            assert_eq!(caller.exactly(event.len()).await, event.as_bytes());
        }
        wire.send("0\r\n\r\n").await;
        assert_eq!(caller.exactly(5).await, b"0\r\n\r\n");
        drop((first, second));
    }
}
