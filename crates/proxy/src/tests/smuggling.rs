//! The known ways to hide a request in another: each is refused, or sent on so that it can be read in one way only.
//!
//! An application that reads what it gets to the letter (a length, or chunks) must never find the hidden request.

use lateen_model::AppProtocol;

use super::mesh::*;

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: app\r\n\r\n";

/// An application that answers each request it finds, and tells which it found.
async fn strict_app() -> (tokio::sync::mpsc::UnboundedReceiver<String>, std::net::SocketAddr) {
    let (mut connections, at) = app().await;
    let (told, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(mut wire) = connections.recv().await {
            let told = told.clone();
            tokio::spawn(async move {
                while let Some(head) = wire.try_head().await {
                    let lower = head.to_ascii_lowercase();
                    if lower.contains("transfer-encoding: chunked\r\n") {
                        wire.chunked().await;
                    } else if let Some(length) =
                        lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok())
                    {
                        wire.exactly(length).await;
                    }
                    if told.send(head).is_err() {
                        return;
                    }
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    (seen, at)
}

#[tokio::test]
async fn nothing_hidden_is_found() {
    let (mut seen, at) = strict_app().await;
    let (proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
    let length = HIDDEN.len();
    let zero = "0\r\n\r\n";
    // Fields and body of a POST; whether it is refused.
    let cases: Vec<(String, String, bool)> = vec![
        // CL.TE and TE.CL, in both orders.
        (
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + length),
            format!("{zero}{HIDDEN}"),
            true,
        ),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".into(), format!("{zero}{HIDDEN}"), true),
        // TE.TE: one of the two sides shall not see it.
        ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("Transfer-Encoding: chunked, identity\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("Transfer-Encoding: xchunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("Transfer-Encoding: \"chunked\"\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("Transfer-Encoding : chunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("Transfer-Encoding:\x0bchunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("X: x\r\n Transfer-Encoding: chunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("X: x\nTransfer-Encoding: chunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("X: x\rTransfer-Encoding: chunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        ("Transfer\0-Encoding: chunked\r\n".into(), format!("{zero}{HIDDEN}"), true),
        // CL.CL, and lengths that are read in two ways.
        (format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), HIDDEN.into(), true),
        (format!("Content-Length: 0, {length}\r\n"), HIDDEN.into(), true),
        (format!("Content-Length: +{length}\r\n"), HIDDEN.into(), true),
        (format!("Content-Length: 0x{length:x}\r\n"), HIDDEN.into(), true),
        (format!("Content-Length: {length} 0\r\n"), HIDDEN.into(), true),
        (format!("Content-Length: \r\n {length}\r\n"), HIDDEN.into(), true),
        (format!("Content-Length : {length}\r\n"), HIDDEN.into(), true),
        // Expectations that are read in two ways (0.CL).
        (format!("Expect: y 100-continue\r\nContent-Length: {length}\r\n"), HIDDEN.into(), true),
        // Chunks: sizes and ends that are read in two ways.
        ("Transfer-Encoding: chunked\r\n".into(), format!("0x{length:x}\r\n{HIDDEN}\r\n{zero}"), true),
        ("Transfer-Encoding: chunked\r\n".into(), format!("{length:x} \r\n{HIDDEN}\r\n{zero}"), true),
        ("Transfer-Encoding: chunked\r\n".into(), format!("-1\r\n{HIDDEN}\r\n{zero}"), true),
        ("Transfer-Encoding: chunked\r\n".into(), format!("{length:x}\n{HIDDEN}\r\n{zero}"), true),
        ("Transfer-Encoding: chunked\r\n".into(), format!("{length:x}\r{HIDDEN}\r\n{zero}"), true),
        ("Transfer-Encoding: chunked\r\n".into(), format!("1\r\nxx{length:x}\r\n{HIDDEN}\r\n{zero}"), true),
        (
            "Transfer-Encoding: chunked\r\n".into(),
            format!("2;\nxx\r\n{length:x}\r\n{HIDDEN}\r\n{zero}"),
            true,
        ),
        ("Transfer-Encoding: chunked\r\n".into(), format!("10000000000000000{length:x}\r\n{HIDDEN}"), true),
        // What is legal, and carries the hidden request as what it is: a body.
        (format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), HIDDEN.into(), false),
        (format!("Content-Length:  {length}\t\r\n"), HIDDEN.into(), false),
        (format!("Content-Length: 000{length}\r\n"), HIDDEN.into(), false),
        ("Transfer-Encoding: CHUNKED\r\n".into(), format!("{length:x};a=\"b\"\r\n{HIDDEN}\r\n{zero}"), false),
        ("Transfer-Encoding: chunked\r\n".into(), format!("000{length:X}\r\n{HIDDEN}\r\n{zero}"), false),
        ("Transfer-Encoding: chunked\r\n".into(), "0\r\nX: GET /hidden HTTP/1.1\r\n\r\n".into(), false),
    ];
    for (fields, body, refused) in cases {
        let mut caller = Wire::connect(front).await;
        caller.send(format!("POST /open HTTP/1.1\r\nHost: app\r\n{fields}\r\n{body}")).await;
        let (status, _) = caller.answer().await;
        assert_eq!(status.starts_with("HTTP/1.1 4"), refused, "{fields:?} {body:?}: {status}");
        if refused {
            assert_eq!(caller.rest().await, "", "{fields:?} {body:?}");
        } else {
            // The same connection, and the application's, still agree on where requests begin.
            assert_eq!(caller.ask(&get("/last")).await.0, "HTTP/1.1 200 OK", "{fields:?} {body:?}");
        }
    }
    drop(proxy);
    while let Ok(head) = seen.try_recv() {
        let line = head.lines().next().unwrap_or_default();
        assert!(matches!(line, "POST /open HTTP/1.1" | "GET /last HTTP/1.1"), "{head}");
        let lower = head.to_ascii_lowercase();
        let framings =
            lower.matches("content-length: ").count() + lower.matches("transfer-encoding: ").count();
        assert!(framings <= 1, "{head}");
    }
}

/// An answer that could be read in two ways is not given to anybody, and its connection not used again.
#[tokio::test]
async fn answers_are_as_strict() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
    ] {
        let (mut app, at) = app().await;
        let (_proxy, front) = front(AppProtocol::Http1, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send(answer).await;
        assert_eq!(caller.answer().await.0, "HTTP/1.1 502 Bad Gateway", "{answer:?}");
        assert_eq!(wire.rest().await, "", "{answer:?}");
    }
}
