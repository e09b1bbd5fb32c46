//! Ports whose protocol nobody declared. The time that detection may take is an hour here: who waits for it fails.

use std::time::Duration;

use lateen_model::AppProtocol;

use super::mesh::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_server_that_speaks_first_is_not_waited_for() {
    for begun in ["", "AUTH"] {
        let (mut app, at) = app().await;
        let (proxy, front) = front(AppProtocol::Detect, &[at], |settings| settings.detect = HOUR).await;
        let mut caller = Wire::connect(front).await;
        // Undecided: it may become a request line.
        caller.send(begun).await;
        let mut wire = app.recv().await.expect("a connection");
        wire.send("220 hello\r\n").await;
        assert_eq!(caller.exactly(11).await, b"220 hello\r\n");
        caller.send(" QUIT\r\n").await;
        assert_eq!(wire.exactly(begun.len() + 7).await, format!("{begun} QUIT\r\n").as_bytes());
        drop((caller, wire));
        assert!(proxy.records.wait(1).await[0].starts_with(&format!("tcp {}/11 ", begun.len() + 7)));
    }
}

#[tokio::test]
async fn a_caller_of_http_gets_an_answer_even_where_nobody_could_be_connected_ahead() {
    let (listener, dead) = app_listener().await;
    drop(listener);
    let (proxy, front) = front(AppProtocol::Detect, &[dead], |settings| settings.detect = HOUR).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 503 Service Unavailable");
    assert!(proxy.records.wait(1).await[0].starts_with("GET / 503 UF,URX "));
}

/// Nobody speaks and nobody can be reached: the caller is told so by the end of its connection.
#[tokio::test]
async fn a_silent_caller_does_not_wait_for_nobody() {
    let (listener, dead) = app_listener().await;
    drop(listener);
    let short = Duration::from_millis(50);
    let (proxy, front) = front(AppProtocol::Detect, &[dead], |settings| settings.detect = short).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(caller.rest().await, "");
    assert!(proxy.records.wait(1).await[0].starts_with("tcp 0/0 UF "));
}

#[tokio::test]
async fn a_connection_made_ahead_carries_the_first_request() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(AppProtocol::Detect, &[at], |settings| settings.detect = HOUR).await;
    let mut caller = Wire::connect(front).await;
    let mut wire = app.recv().await.expect("a connection before a byte was sent");
    caller.send(get("/late")).await;
    assert!(wire.head().await.starts_with("GET /late "));
    wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    caller.head().await;
    assert!(app.try_recv().is_err(), "one connection was enough");
}
