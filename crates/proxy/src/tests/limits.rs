//! Limits on how many requests are taken and how large they may be, through a whole proxy.

use std::sync::Arc;
use std::time::Duration;

use lateen_model::*;

use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;

fn route_key() -> Key {
    Key::new(Origin::HttpRoute, Namespace::default(), "all")
}

fn service_id() -> ServiceId {
    let hostname = Hostname::parse("app.default.svc.cluster.local").expect("a name");
    ServiceId { namespace: Namespace::default(), hostname }
}

/// A route for everything that is sent to `app`.
fn route() -> Arc<Entry> {
    let target = BackendTarget::Service { service: service_id(), port: 80, subset: None };
    let backends = vec![Backend { target, weight: 1, filters: Vec::new() }];
    let route = Route {
        key: route_key(),
        parents: vec![Parent::Service { service: service_id(), port: None }],
        hosts: Vec::new(),
        rules: vec![Rule { name: "0".into(), backends, ..Rule::default() }],
        precedence: Precedence::MostSpecific,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    Arc::new(Entry::for_everyone(route_key(), Resource::Route(route)))
}

/// A policy for that route.
fn limit(origin: Origin, name: &str, kind: PolicyKind) -> Arc<Entry> {
    let id = Key::new(origin, Namespace::default(), name);
    let target = Target::Route(route_key());
    let policy = Policy { id: id.clone(), target, created: Created::UNKNOWN, kind };
    Arc::new(Entry::for_everyone(id, Resource::Policy(policy)))
}

fn rate(key: Vec<Descriptor>, requests: u32, path: &str) -> Arc<Entry> {
    let path = (!path.is_empty()).then(|| PathMatch::Text(StringMatch::Prefix(path.into())));
    let matches = path.into_iter().map(|path| RequestMatch { path: Some(path), ..RequestMatch::default() });
    let per = Duration::from_secs(3600);
    let matches = matches.collect();
    let rule = LimitRule { name: "hourly".into(), matches, key, requests, per, burst: requests };
    let kind = PolicyKind::RateLimit(RateLimit { rules: vec![rule] });
    limit(Origin::RateLimitPolicy, "rate", kind)
}

fn sizes(sizes: RequestLimit) -> Arc<Entry> {
    limit(Origin::RequestLimitPolicy, "size", PolicyKind::RequestLimit(sizes))
}

/// What a client's proxy knows, with this policy.
fn mesh(at: std::net::SocketAddr, policy: Arc<Entry>) -> Vec<Arc<Entry>> {
    vec![service("app", HTTP), instance_of("app-0", "app", at, HTTP, Tunnel::None), route(), policy]
}

#[tokio::test]
async fn requests_beyond_the_rate_are_answered_429_and_say_when_to_come_back() {
    let at = echo("app").await;
    let (proxy, front) = front_of(&mesh(at, rate(Vec::new(), 2, "/api")), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for left in ["1", "0"] {
        caller.send(get("/api/x")).await;
        let head = caller.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("ratelimit-limit: 2\r\n"), "{head}");
        assert!(head.contains(&format!("ratelimit-remaining: {left}\r\n")), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        caller.exactly(length.expect("a length").parse().expect("a number")).await;
    }
    caller.send(get("/api/y")).await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(head.contains("ratelimit-remaining: 0\r\n") && head.contains("retry-after: 1800\r\n"), "{head}");
    assert_eq!(caller.exactly(12).await, b"rate limited");
    // What the rule does not match is not counted, and the connection goes on.
    let (status, _) = caller.ask(&get("/other")).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let records = proxy.records.wait(4).await;
    assert_eq!(
        records[2],
        "GET /api/y 429 RL rate_limited[ns[default]-policy[rate]-rule[hourly]] peer=- tries=0"
    );
}

#[tokio::test]
async fn each_value_of_the_key_has_a_bucket_of_its_own() {
    let at = echo("app").await;
    let key = vec![Descriptor::Header("x-user".into())];
    let (_proxy, front) = front_of(&mesh(at, rate(key, 1, "")), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for (user, expected) in [("ann", 200), ("bob", 200), ("ann", 429), ("carl", 200), ("bob", 429)] {
        let request = format!("GET / HTTP/1.1\r\nHost: app\r\nX-User: {user}\r\n\r\n");
        let (status, _) = caller.ask(&request).await;
        assert!(status.starts_with(&format!("HTTP/1.1 {expected} ")), "{user}: {status}");
    }
}

#[tokio::test]
async fn a_snapshot_that_changes_something_else_keeps_what_was_counted() {
    let at = echo("app").await;
    let (proxy, front) = front_of(&mesh(at, rate(Vec::new(), 1, "")), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 200 OK");
    let mut more = mesh(at, rate(Vec::new(), 1, ""));
    more.push(service("other", HTTP));
    proxy.publish("client", &more);
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 429 Too Many Requests");
    // A limit that changed begins anew.
    proxy.publish("client", &mesh(at, rate(Vec::new(), 2, "")));
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let (mut app, at) = app().await;
    let policy = sizes(RequestLimit { request_body: Some(10), ..RequestLimit::default() });
    let (proxy, front) = front_of(&mesh(at, policy), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let (status, body) = caller.ask("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 11\r\n\r\n").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 413 Payload Too Large", "payload too large"));
    assert!(app.try_recv().is_err(), "the application was not asked");
    let expected = "POST / 413 - request_payload_too_large[ns[default]-policy[size]] peer=- tries=0";
    assert_eq!(proxy.records.wait(1).await[0], expected);
}

#[tokio::test]
async fn a_body_that_becomes_too_long_ends_there() {
    let (mut app, at) = app().await;
    let policy = sizes(RequestLimit { request_body: Some(10), ..RequestLimit::default() });
    let (proxy, front) = front_of(&mesh(at, policy), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n").await;
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    assert_eq!(app.exactly(10).await, b"5\r\n12345\r\n");
    caller.send("6\r\n678901\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 413 "));
    assert_eq!(app.rest().await, "", "the request never ended");
    assert!(proxy.records.wait(1).await[0].contains("request_payload_too_large"));
}

#[tokio::test]
async fn heads_have_limits_of_their_own() {
    let at = echo("app").await;
    let policy =
        sizes(RequestLimit { request_head: Some(200), request_headers: Some(6), ..RequestLimit::default() });
    let (_proxy, front) = front_of(&mesh(at, policy), |_| ()).await;
    for (headers, expected) in [
        (String::new(), "200 OK"),
        (format!("x: {}\r\n", "y".repeat(200)), "431 Request Header Fields Too Large"),
        ("a: b\r\n".repeat(9), "431 Request Header Fields Too Large"),
    ] {
        let mut caller = Wire::connect(front).await;
        let request = format!("GET / HTTP/1.1\r\nHost: app\r\n{headers}\r\n");
        assert_eq!(caller.ask(&request).await.0, format!("HTTP/1.1 {expected}"));
    }
}

#[tokio::test]
async fn answers_may_be_too_long_too() {
    let (mut app, at) = app().await;
    let policy = sizes(RequestLimit { response_body: Some(10), ..RequestLimit::default() });
    let (proxy, front) = front_of(&mesh(at, policy), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/said")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 502 "));
    let mut caller = Wire::connect(front).await;
    caller.send(get("/grown")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(caller.exactly(10).await, b"5\r\n12345\r\n");
    wire.send("6\r\n678901\r\n").await;
    assert_eq!(caller.rest().await, "", "the answer never ended");
    let records = proxy.records.wait(2).await;
    assert!(records.iter().all(|record| record.contains("response_payload_too_large")), "{records:?}");
}

#[tokio::test]
async fn a_connection_that_becomes_a_tunnel_is_told_too() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front_of(&mesh(at, rate(Vec::new(), 5, "")), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let ask = "GET / HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    caller.send(ask).await;
    let mut app = app.recv().await.expect("a connection");
    app.head().await;
    app.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("ratelimit-remaining: 4\r\n"), "{head}");
    caller.send("ping").await;
    assert_eq!(app.exactly(4).await, b"ping");
}
