//! Limits and times of connections to a group of endpoints, through a whole proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_model::*;
use lateen_runtime::sock;
use tokio::io::AsyncReadExt;

use super::http2::{app2, caller2, request};
use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const OVERFLOW: &str = "503 UO upstream_reset_before_response_started{overflow}";

/// What clients of `app` are told.
pub(super) fn treat(traffic: TrafficPolicy) -> Arc<Entry> {
    let host = HostPattern::parse("app.default.svc.cluster.local").expect("a name");
    let destination = DestinationPolicy {
        host,
        traffic,
        subsets: Vec::new(),
        clients: Selector::default(),
        visibility: Visibility::Public,
    };
    let id = Key::new(Origin::DestinationRule, Namespace::default(), "app");
    let kind = PolicyKind::Destination(Box::new(destination));
    let policy = Policy { id: id.clone(), target: Target::Mesh, created: Created::UNKNOWN, kind };
    Arc::new(Entry::for_everyone(id, Resource::Policy(policy)))
}

fn mesh(protocol: AppProtocol, at: SocketAddr, connections: ConnectionPool) -> Vec<Arc<Entry>> {
    let policy = treat(TrafficPolicy { connections, ..TrafficPolicy::default() });
    vec![service("app", protocol), instance_of("app-0", "app", at, protocol, Tunnel::None), policy]
}

async fn limited(protocol: AppProtocol, at: SocketAddr, connections: ConnectionPool) -> (Proxy, SocketAddr) {
    front_of(&mesh(protocol, at, connections), |_| ()).await
}

#[tokio::test]
async fn requests_beyond_the_limit_are_answered_at_once() {
    let (mut app, at) = app().await;
    let pool = ConnectionPool { max_requests: Some(1), ..ConnectionPool::default() };
    let (proxy, front) = limited(HTTP, at, pool).await;
    let (mut first, mut second) = (Wire::connect(front).await, Wire::connect(front).await);
    first.send(get("/1")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    second.send(get("/2")).await;
    let head = second.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("x-envoy-overloaded: true\r\n"), "{head}");
    assert!(proxy.records.wait(1).await[0].starts_with(&format!("GET /2 {OVERFLOW} ")));
    wire.send(OK).await;
    first.answer().await;
    // Once the first is over there is room.
    let mut third = Wire::connect(front).await;
    third.send(get("/3")).await;
    assert!(wire.head().await.starts_with("GET /3 "));
    wire.send(OK).await;
    assert_eq!(third.answer().await.0, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_request_waits_for_the_only_connection_and_no_more_wait_than_may() {
    let (mut app, at) = app().await;
    let pool = ConnectionPool {
        max_connections: Some(1),
        max_pending_requests: Some(1),
        ..ConnectionPool::default()
    };
    let (proxy, front) = limited(HTTP, at, pool).await;
    let mut callers = Vec::new();
    let mut wire: Option<Wire> = None;
    for turn in 0..3 {
        let mut caller = Wire::connect(front).await;
        caller.send(get(&format!("/{turn}"))).await;
        if turn == 0 {
            let mut connection = app.recv().await.expect("a connection");
            connection.head().await;
            wire = Some(connection);
        }
        callers.push(caller);
    }
    let mut wire = wire.expect("a connection");
    // One of the two that came later waits; there is no place for the other.
    let refused = proxy.records.wait(1).await;
    assert!(refused[0].contains(OVERFLOW), "{refused:?}");
    wire.send(OK).await;
    callers[0].answer().await;
    let waited = usize::from(refused[0].starts_with("GET /1 ")) + 1;
    assert!(wire.head().await.starts_with(&format!("GET /{waited} ")));
    wire.send(OK).await;
    assert_eq!(callers[waited].answer().await.0, "HTTP/1.1 200 OK");
    assert!(app.try_recv().is_err(), "there was one connection");
}

#[tokio::test]
async fn a_waiting_request_takes_the_first_connection_that_becomes_free() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut first = Wire::connect(front).await;
    first.send(get("/1")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send(OK).await;
    first.answer().await;
    // Requests one after another, from many callers: never more than one connection.
    for turn in 2..20 {
        let mut caller = Wire::connect(front).await;
        caller.send(get(&format!("/{turn}"))).await;
        assert!(wire.head().await.starts_with(&format!("GET /{turn} ")));
        wire.send(OK).await;
        caller.answer().await;
    }
    assert!(app.try_recv().is_err());
}

#[tokio::test]
async fn another_endpoint_of_the_group_gets_the_place_of_an_idle_connection() {
    let ((mut one, at_one), (mut other, at_other)) = (app().await, app().await);
    let pool = ConnectionPool { max_connections: Some(1), ..ConnectionPool::default() };
    let traffic = TrafficPolicy {
        balance: Some(BalanceAlgorithm::RoundRobin.into()),
        connections: pool,
        ..TrafficPolicy::default()
    };
    let resources = [
        service("app", HTTP),
        instance_of("app-0", "app", at_one, HTTP, Tunnel::None),
        instance_of("app-1", "app", at_other, HTTP, Tunnel::None),
        treat(traffic),
    ];
    let (_proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..4 {
        caller.send(get("/")).await;
        let mut wire = tokio::select! {
            wire = one.recv() => wire,
            wire = other.recv() => wire,
        }
        .expect("a new connection each time: the endpoints take turns");
        wire.head().await;
        wire.send(OK).await;
        assert_eq!(caller.answer().await.0, "HTTP/1.1 200 OK");
        tokio::spawn(async move { wire.rest().await });
    }
}

#[tokio::test]
async fn a_connection_serves_so_many_requests() {
    let (mut app, at) = app().await;
    let pool = ConnectionPool { max_requests_per_connection: Some(2), ..ConnectionPool::default() };
    let (_proxy, front) = limited(HTTP, at, pool).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..2 {
        let mut wire: Option<Wire> = None;
        for turn in 0..2 {
            caller.send(get("/")).await;
            if turn == 0 {
                wire = app.recv().await;
            }
            let wire = wire.as_mut().expect("a connection");
            wire.head().await;
            wire.send(OK).await;
            caller.answer().await;
        }
        assert_eq!(wire.expect("a connection").rest().await, "", "it is closed after the second");
    }
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_not_used_again() {
    let (mut app, at) = app().await;
    let pool = ConnectionPool {
        max_connection_duration: Some(Duration::from_nanos(1)),
        ..ConnectionPool::default()
    };
    let (_proxy, front) = limited(HTTP, at, pool).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..2 {
        caller.send(get("/")).await;
        let mut wire = app.recv().await.expect("a new connection");
        wire.head().await;
        wire.send(OK).await;
        caller.answer().await;
        assert_eq!(wire.rest().await, "");
    }
}

#[tokio::test]
async fn forwarded_connections_are_counted_idle_and_old() {
    let nanosecond = Some(Duration::from_nanos(1));
    for (pool, expected) in [
        (ConnectionPool { max_connections: Some(1), ..ConnectionPool::default() }, "tcp 0/0 UO "),
        (ConnectionPool { tcp_idle_timeout: nanosecond, ..ConnectionPool::default() }, "tcp 0/0 SI "),
        (ConnectionPool { max_connection_duration: nanosecond, ..ConnectionPool::default() }, "tcp 0/0 DT "),
    ] {
        let (mut app, at) = app().await;
        let counted = pool.max_connections.is_some();
        let (proxy, front) = limited(AppProtocol::Tcp, at, pool).await;
        let first = Wire::connect(front).await;
        let held = app.recv().await.expect("a connection");
        if counted {
            let mut second = Wire::connect(front).await;
            assert_eq!(in_time(second.tcp.read(&mut [0])).await.unwrap_or(0), 0);
        }
        let records = proxy.records.wait(1).await;
        assert!(records[0].starts_with(expected), "{records:?}");
        drop((first, held));
    }
}

#[tokio::test]
async fn connecting_takes_no_longer_than_the_policy_allows() {
    // A listener whose queue is full takes no connection.
    let options = sock::ListenOptions { backlog: 0, ..sock::ListenOptions::default() };
    let listener = sock::listen(SocketAddr::new(own_address(), 0), &options).expect("listen");
    let at = listener.local_addr().expect("an address");
    let mut queued = Vec::new();
    for _ in 0..4 {
        queued.push(tokio::spawn(tokio::net::TcpStream::connect(at)));
    }
    let pool =
        ConnectionPool { connect_timeout: Some(Duration::from_millis(1)), ..ConnectionPool::default() };
    let policy = treat(TrafficPolicy { connections: pool, ..TrafficPolicy::default() });
    let instance = instance_of("app-0", "app", at, HTTP, Tunnel::None);
    let (proxy, front) = front_of(&[service("app", HTTP), instance, policy], |_| ()).await;
    let mut last = String::new();
    for _ in 0..4 {
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        last = caller.head().await;
        assert!(last.starts_with("HTTP/1.1 503 "), "{last}");
    }
    let records = proxy.records.wait(4).await;
    assert!(
        records[3].contains("UF,URX upstream_reset_before_response_started{connection_timeout}"),
        "{records:?} {last}"
    );
    queued.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_policy_chooses_the_protocol() {
    // HTTP/1.1 becomes HTTP/2.
    let (mut app, at) = app2().await;
    let pool = ConnectionPool { h2_upgrade: Some(H2Upgrade::Upgrade), ..ConnectionPool::default() };
    let (_proxy, front) = limited(HTTP, at, pool).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/up")).await;
    let (asked, mut respond) = in_time(app.recv()).await.expect("a request of HTTP/2");
    assert_eq!(asked.uri().path(), "/up");
    let response = http::Response::builder().status(204).body(()).expect("a response");
    respond.send_response(response, true).expect("sent");
    assert!(caller.head().await.starts_with("HTTP/1.1 204 "));
    // A caller of HTTP/1.1 keeps it although the service says HTTP/2, and one of HTTP/2 keeps that although it says 1.1.
    let as_caller = ConnectionPool { use_client_protocol: Some(true), ..ConnectionPool::default() };
    let at = echo("one").await;
    let (_proxy, front) = limited(AppProtocol::Http2, at, as_caller.clone()).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 200 OK");
    let (mut app, at) = app2().await;
    let (_proxy, front) = limited(HTTP, at, as_caller).await;
    let mut caller = caller2(front).await;
    let (answer, _) =
        caller.send_request(request("GET", "/").body(()).expect("a request"), true).expect("sent");
    let (_, mut respond) = in_time(app.recv()).await.expect("a request of HTTP/2");
    let response = http::Response::builder().status(204).body(()).expect("a response");
    respond.send_response(response, true).expect("sent");
    assert_eq!(in_time(answer).await.expect("an answer").status(), 204);
}

#[tokio::test]
async fn streams_of_one_connection_are_limited_and_others_wait_or_get_their_own() {
    for connections in [1, 2] {
        let (mut app, at) = app2().await;
        let pool = ConnectionPool {
            max_concurrent_streams: Some(1),
            max_connections: Some(connections),
            ..ConnectionPool::default()
        };
        let (_proxy, front) = limited(AppProtocol::Http2, at, pool).await;
        let mut callers = Vec::new();
        for path in ["/1", "/2"] {
            let mut caller = Wire::connect(front).await;
            caller.send(get(path)).await;
            callers.push(caller);
        }
        let (first, mut respond) = in_time(app.recv()).await.expect("a request");
        if connections == 2 {
            // The other has a connection of its own: it need not wait for the first.
            let (second, _respond) = in_time(app.recv()).await.expect("the other request");
            assert_ne!(first.uri().path(), second.uri().path());
            continue;
        }
        let response = http::Response::builder().status(204).body(()).expect("a response");
        respond.send_response(response.clone(), true).expect("sent");
        let (second, mut respond) = in_time(app.recv()).await.expect("the other request");
        assert_ne!(first.uri().path(), second.uri().path());
        respond.send_response(response, true).expect("sent");
        for caller in &mut callers {
            assert!(caller.head().await.starts_with("HTTP/1.1 204 "));
        }
    }
}

#[tokio::test]
async fn many_requests_of_http_2_at_once_open_one_connection() {
    let (listener, at) = app_listener().await;
    let (_proxy, front) = front(AppProtocol::Http2, &[at], |_| ()).await;
    let mut callers = Vec::new();
    for _ in 0..10 {
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        callers.push(caller);
    }
    let (tcp, _) = in_time(listener.accept()).await.expect("a connection");
    let mut connection = h2::server::handshake(tcp).await.expect("handshake");
    for _ in 0..10 {
        let (_, mut respond) = in_time(connection.accept()).await.expect("a request").expect("a request");
        let response = http::Response::builder().status(204).body(()).expect("a response");
        respond.send_response(response, true).expect("sent");
    }
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    for caller in &mut callers {
        assert!(caller.head().await.starts_with("HTTP/1.1 204 "));
    }
}

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_given_up() {
    let (mut app, at) = app().await;
    let pings = Http2Keepalive { interval: Duration::from_millis(1), timeout: Duration::from_millis(1) };
    let pool = ConnectionPool { http2_keepalive: Some(pings), ..ConnectionPool::default() };
    let (proxy, front) = limited(AppProtocol::Http2, at, pool).await;
    let mut caller = Wire::connect(front).await;
    caller.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n").await;
    // It says its settings and then nothing any more.
    let mut wire = app.recv().await.expect("a connection");
    wire.send(b"\0\0\0\x04\0\0\0\0\0").await;
    let preface = wire.exactly(24).await;
    assert_eq!(preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(caller.head().await.starts_with("HTTP/1.1 503 "));
    assert!(proxy.records.wait(1).await[0].starts_with("POST / 503 UC "));
}

#[tokio::test]
async fn connections_to_an_endpoint_that_is_gone_are_closed() {
    let ((mut app, at), (mut other, at_other)) = (app().await, app().await);
    let (proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send(OK).await;
    caller.answer().await;
    // A look that sees the endpoint, then it is replaced.
    proxy.publish(
        "client",
        &[service("app", HTTP), instance_of("app-1", "app", at_other, HTTP, Tunnel::None)],
    );
    caller.send(get("/")).await;
    let mut second = other.recv().await.expect("a connection");
    second.head().await;
    second.send(OK).await;
    caller.answer().await;
    assert_eq!(wire.rest().await, "");
}
