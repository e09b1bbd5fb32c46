//! HTTP/1.1 from a caller to an application, through one proxy.

use std::time::Duration;

use lateen_model::{AppProtocol, Tunnel};
use tokio::io::AsyncWriteExt;

use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;

#[tokio::test]
async fn a_head_is_sent_on_as_it_came_but_for_what_belongs_to_one_connection() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller
        .send("GET /a?b HTTP/1.1\r\nHOST: app\r\nX-Case: Kept\r\nConnection: keep-alive, x-drop\r\nX-Drop: 1\r\nx-request-id: 7\r\n\r\n")
        .await;
    let mut app = app.recv().await.expect("a connection");
    assert_eq!(
        app.head().await,
        "GET /a?b HTTP/1.1\r\nHOST: app\r\nX-Case: Kept\r\nx-request-id: 7\r\nx-forwarded-proto: http\r\nx-envoy-attempt-count: 1\r\n\r\n"
    );
    app.send("HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-Answer: Yes\r\nx-lateen-fault: forged\r\nKeep-Alive: 5\r\n\r\nok")
        .await;
    assert_eq!(caller.head().await, "HTTP/1.1 200 Fine\r\nX-Answer: Yes\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(caller.exactly(2).await, b"ok");
}

#[tokio::test]
async fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send([get("/1"), get("/2"), get("/3")].concat()).await;
    let mut wire = app.recv().await.expect("a connection");
    for path in ["/1", "/2", "/3"] {
        assert!(wire.head().await.starts_with(&format!("GET {path} ")));
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{path}")).await;
        assert_eq!(caller.answer().await, ("HTTP/1.1 200 OK".to_owned(), path.to_owned()));
    }
    // Another caller's request goes over the same connection.
    let mut other = Wire::connect(front).await;
    other.send(get("/4")).await;
    assert!(wire.head().await.starts_with("GET /4 "));
    wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(other.head().await, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(proxy.records.wait(4).await.len(), 4);
    assert!(app.try_recv().is_err(), "one connection was enough");
}

#[tokio::test]
async fn an_early_answer_goes_out_while_the_body_still_comes() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\nfirst").await;
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    assert_eq!(app.exactly(5).await, b"first");
    app.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
    assert_eq!(caller.answer().await, ("HTTP/1.1 413 Too Large".to_owned(), "big".to_owned()));
    // The rest of the body is taken and thrown away, then the connection ends.
    caller.send(vec![b'x'; 10_000]).await;
    caller.tcp.shutdown().await.expect("half-close");
    assert_eq!(caller.rest().await, "");
}

#[tokio::test]
async fn both_directions_flow_at_the_same_time() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(caller.head().await.ends_with("transfer-encoding: chunked\r\n\r\n"));
    for turn in 0..5 {
        caller.send(format!("4;extension=dropped\r\nup-{turn}\r\n")).await;
        assert_eq!(app.exactly(9).await, format!("4\r\nup-{turn}\r\n").as_bytes());
        app.send(format!("4\r\ndn-{turn}\r\n")).await;
        assert_eq!(caller.exactly(9).await, format!("4\r\ndn-{turn}\r\n").as_bytes());
    }
    caller.send("0\r\nx-sum: 5\r\n\r\n").await;
    assert_eq!(app.exactly(15).await, b"0\r\nx-sum: 5\r\n\r\n");
    app.send("0\r\n\r\n").await;
    assert_eq!(caller.exactly(5).await, b"0\r\n\r\n");
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways() {
    const SIZE: usize = 5_000_000;
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 7 % 251) as u8).collect();
    for chunked in [false, true] {
        let (mut app, at) = app().await;
        let (proxy, front) = front(HTTP, &[at], |_| ()).await;
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {SIZE}") };
        let sent = {
            let (body, framing) = (body.clone(), framing.clone());
            tokio::spawn(async move {
                let mut caller = Wire::connect(front).await;
                caller.send(format!("PUT / HTTP/1.1\r\nHost: app\r\n{framing}\r\n\r\n")).await;
                if chunked {
                    for piece in body.chunks(70_001) {
                        caller.send(format!("{:x}\r\n", piece.len())).await;
                        caller.send(piece).await;
                        caller.send("\r\n").await;
                    }
                    caller.send("0\r\n\r\n").await;
                } else {
                    caller.send(&body).await;
                }
                let (status, _) = (caller.head().await, ());
                assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
                caller.exactly(SIZE).await
            })
        };
        let mut app = app.recv().await.expect("a connection");
        let head = app.head().await;
        let received = if chunked { app.chunked().await } else { app.exactly(SIZE).await };
        assert!(received == body, "{head}");
        app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        app.send(&received).await;
        assert!(in_time(sent).await.expect("the caller ends") == body);
        assert_eq!(proxy.records.wait(1).await, ["PUT / 200 - via_upstream peer=- tries=1"]);
    }
}

#[tokio::test]
async fn expect_continue_is_passed_on_and_answered() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("POST / HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let mut app = app.recv().await.expect("a connection");
    assert!(app.head().await.contains("Expect: 100-continue\r\n"));
    app.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(caller.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    caller.send("body").await;
    assert_eq!(app.exactly(4).await, b"body");
    app.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(caller.head().await, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
    assert_eq!(caller.head().await, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[tokio::test]
async fn http_1_0_callers_get_what_they_can_read() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("GET / HTTP/1.0\r\nHost: app\r\n\r\n").await;
    let mut app = app.recv().await.expect("a connection");
    assert!(app.head().await.starts_with("GET / HTTP/1.1\r\n"));
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(caller.rest().await, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcde");
}

#[tokio::test]
async fn answers_to_head_have_a_length_and_no_body() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(["HEAD / HTTP/1.1\r\nHost: app\r\n\r\n".to_owned(), get("/next")].concat()).await;
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    assert_eq!(caller.head().await, "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n");
    assert!(app.head().await.starts_with("GET /next "));
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_chunked_for_the_caller() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    app.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    drop(app);
    assert!(caller.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(caller.exactly(23).await, b"d\r\nuntil the end\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_truncated_answer_is_never_made_whole() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    caller.head().await;
    assert_eq!(caller.exactly(8).await, b"3\r\nabc\r\n");
    drop(wire);
    assert_eq!(caller.rest().await, "");
    let records = proxy.records.wait(1).await;
    assert!(records[0].starts_with("GET / 200 UC "), "{records:?}");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_no_request() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/1")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    caller.answer().await;
    // Closed while idle: seen before it is used again, so even a POST may go.
    drop(wire);
    caller.send("POST /2 HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\nx").await;
    let mut wire = app.recv().await.expect("a new connection");
    assert!(wire.head().await.starts_with("POST /2 "));
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    caller.answer().await;
    // Closed just when the request arrives: a GET is sent again, with its head complete.
    caller.send(get("/3")).await;
    wire.exactly(1).await;
    wire.head().await;
    drop(wire);
    let mut wire = app.recv().await.expect("a new connection");
    assert!(wire.head().await.starts_with("GET /3 "));
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(caller.answer().await.0, "HTTP/1.1 200 OK");
    // A POST is not: the application may have acted on it.
    caller.send("POST /4 HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\nx").await;
    wire.head().await;
    drop(wire);
    assert_eq!(caller.answer().await.0, "HTTP/1.1 503 Service Unavailable");
    let records = proxy.records.wait(4).await;
    assert!(records[3].starts_with("POST /4 503 UC "), "{records:?}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_left_out() {
    let (dead_listener, dead) = app_listener().await;
    drop(dead_listener);
    let alive = echo("alive").await;
    let (proxy, front) = front(HTTP, &[dead, alive], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let mut second_tries = 0;
    // So many that the dice fall on the dead one.
    for _ in 0..40 {
        let request =
            "POST / HTTP/1.1\r\nHost: app\r\nx-envoy-attempt-count: 7\r\nContent-Length: 4\r\n\r\nbody";
        let (status, body) = caller.ask(request).await;
        assert!(status == "HTTP/1.1 200 OK" && body.ends_with("body"), "{status} {body}");
        assert!(!body.contains("attempt-count: 7"), "{body}");
        second_tries += usize::from(body.contains("x-envoy-attempt-count: 2\r\n"));
    }
    let records = proxy.records.wait(40).await;
    assert_eq!(records.iter().filter(|line| line.ends_with("tries=2")).count(), second_tries);
    assert!(records.iter().any(|line| line.ends_with("tries=2")), "{records:?}");
}

#[tokio::test]
async fn nobody_to_ask_is_said_so() {
    let (proxy, front) = front(HTTP, &[], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(
        caller.ask(&get("/")).await,
        ("HTTP/1.1 503 Service Unavailable".into(), "no healthy upstream".into())
    );
    let (listener, dead) = app_listener().await;
    drop(listener);
    let (refused, front) = super::mesh::front(HTTP, &[dead], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(proxy.records.wait(1).await, ["GET / 503 UH no_healthy_upstream peer=- tries=0"]);
    let records = refused.records.wait(1).await;
    assert!(records[0].starts_with("GET / 503 UF,URX ") && records[0].ends_with("tries=3"), "{records:?}");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_request() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    drop(caller);
    assert_eq!(wire.rest().await, "");
    let records = proxy.records.wait(1).await;
    assert!(records[0].starts_with("GET / 0 DC "), "{records:?}");
}

#[tokio::test]
async fn silence_of_the_application_is_bounded() {
    let (mut app, at) = app().await;
    let (proxy, front) =
        front(HTTP, &[at], |settings| settings.stream_idle = Duration::from_millis(100)).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    let _app = app.recv().await.expect("a connection");
    assert_eq!(caller.answer().await.0, "HTTP/1.1 504 Gateway Timeout");
    assert!(proxy.records.wait(1).await[0].starts_with("GET / 504 SI "));
}

#[tokio::test]
async fn an_upgrade_makes_a_tunnel_with_half_close() {
    let (mut app, at) = app().await;
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller
        .send("GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead")
        .await;
    let mut app = app.recv().await.expect("a connection");
    assert!(app.head().await.ends_with("connection: upgrade\r\nupgrade: websocket\r\n\r\n"));
    app.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
        .await;
    assert_eq!(
        caller.head().await,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    assert_eq!(caller.exactly(5).await, b"hello");
    assert_eq!(app.exactly(5).await, b"ahead");
    caller.tcp.shutdown().await.expect("half-close");
    assert_eq!(app.rest().await, "");
    app.send("last words").await;
    drop(app);
    assert_eq!(caller.rest().await, "last words");
    assert!(proxy.records.wait(1).await[0].starts_with("GET /ws 101 - "));
}

#[tokio::test]
async fn connect_is_refused_clearly() {
    let (proxy, front) = front(HTTP, &[], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n").await;
    assert_eq!(
        caller.answer().await,
        ("HTTP/1.1 405 Method Not Allowed".into(), "CONNECT is not served here".into())
    );
    assert!(proxy.records.wait(1).await[0].starts_with("CONNECT  405 "));
}

#[tokio::test]
async fn a_drain_ends_idle_connections_and_finishes_requests() {
    let (mut app, at) = app().await;
    let (mut proxy, front) = front(HTTP, &[at], |_| ()).await;
    let (mut idle, mut busy) = (Wire::connect(front).await, Wire::connect(front).await);
    busy.send(get("/")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    let finishing = async {
        assert_eq!(idle.rest().await, "");
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
        busy.rest().await
    };
    let drained = proxy.drain(Duration::from_secs(20));
    let (drained, answer) = Box::pin(in_time(async { tokio::join!(drained, finishing) })).await;
    assert_eq!(drained, lateen_runtime::drain::Drained::Clean);
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone");
}

#[tokio::test]
async fn a_request_holds_the_snapshot_it_began_with_and_the_next_one_takes_the_new() {
    let (old, new) = (echo("old").await, echo("new").await);
    let resources = |at| [service("app", HTTP), instance("app", at, HTTP, Tunnel::None)];
    let (proxy, front) = front_of(&resources(old), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    assert!(caller.ask(&get("/")).await.1.starts_with("old\n"));
    proxy.publish("client", &resources(new));
    assert!(caller.ask(&get("/")).await.1.starts_with("new\n"));
}

#[tokio::test]
async fn a_drain_without_patience_left_ends_what_is_under_way() {
    let (mut app, at) = app().await;
    let (mut proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut busy = Wire::connect(front).await;
    busy.send(get("/")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    let drained = in_time(proxy.drain(Duration::from_millis(50))).await;
    assert_eq!(drained, lateen_runtime::drain::Drained::Forced { holders: 1 });
    assert_eq!(busy.rest().await, "");
    assert_eq!(wire.rest().await, "");
}
