//! Retries by every condition, and timeouts, against applications that follow a script.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_model::*;

use super::circuit::treat;
use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn service_id() -> ServiceId {
    let hostname = Hostname::parse("app.default.svc.cluster.local").expect("a name");
    ServiceId { namespace: Namespace::default(), hostname }
}

fn rule(rule: Rule) -> Arc<Entry> {
    let key = Key::new(Origin::VirtualService, Namespace::default(), "all");
    let target = BackendTarget::Service { service: service_id(), port: 80, subset: None };
    let backends = vec![Backend { target, weight: 1, filters: Vec::new() }];
    let route = Route {
        key: key.clone(),
        parents: vec![Parent::Service { service: service_id(), port: None }],
        hosts: Vec::new(),
        rules: vec![Rule { name: "0".into(), backends, ..rule }],
        precedence: Precedence::Listed,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    Arc::new(Entry::for_everyone(key, Resource::Route(route)))
}

fn retry(attempts: u32, on: RetryConditions) -> RetryPolicy {
    RetryPolicy { attempts, on, backoff: Duration::from_millis(1), ..RetryPolicy::default() }
}

/// A proxy before one application, with this rule and whatever else.
async fn ruled(at: SocketAddr, with: Rule, more: &[Arc<Entry>]) -> (Proxy, SocketAddr) {
    let mut resources =
        vec![service("app", HTTP), instance_of("app-0", "app", at, HTTP, Tunnel::None), rule(with)];
    resources.extend_from_slice(more);
    front_of(&resources, |_| ()).await
}

async fn retried(at: SocketAddr, policy: RetryPolicy) -> (Proxy, SocketAddr) {
    ruled(at, Rule { retry: Some(policy), ..Rule::default() }, &[]).await
}

/// What the application does with the first try (nothing is a close), the condition that asks for another, and one
/// that does not.
#[tokio::test]
async fn each_condition_by_what_the_application_does() {
    let none = RetryConditions::default;
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    let grpc = |status: u32| format!("HTTP/1.1 200 OK\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n");
    let limited = "HTTP/1.1 503 x\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n".to_owned();
    let all = || RetryConditions { server_error: true, gateway_error: true, reset: true, ..none() };
    for (name, does, on, not_on) in [
        (
            "reset",
            String::new(),
            RetryConditions { reset: true, ..none() },
            RetryConditions { reset_before_request: true, connect_failure: true, conflict: true, ..none() },
        ),
        (
            "gateway-error",
            answer("503 x"),
            RetryConditions { gateway_error: true, ..none() },
            RetryConditions { reset: true, conflict: true, ..none() },
        ),
        (
            "gateway-error of no answer",
            String::new(),
            RetryConditions { gateway_error: true, ..none() },
            none(),
        ),
        (
            "5xx",
            answer("500 x"),
            RetryConditions { server_error: true, ..none() },
            RetryConditions { gateway_error: true, ..none() },
        ),
        ("5xx of no answer", String::new(), RetryConditions { server_error: true, ..none() }, none()),
        ("retriable-4xx", answer("409 x"), RetryConditions { conflict: true, ..none() }, all()),
        ("retriable-status-codes", answer("418 x"), RetryConditions { statuses: vec![418], ..none() }, all()),
        ("envoy-ratelimited", limited, RetryConditions { rate_limited: true, ..none() }, all()),
        ("cancelled", grpc(1), RetryConditions { cancelled: true, ..none() }, all()),
        ("deadline-exceeded", grpc(4), RetryConditions { deadline_exceeded: true, ..none() }, all()),
        ("resource-exhausted", grpc(8), RetryConditions { resource_exhausted: true, ..none() }, all()),
        ("internal", grpc(13), RetryConditions { internal: true, ..none() }, all()),
        ("unavailable", grpc(14), RetryConditions { unavailable: true, ..none() }, all()),
    ] {
        for (on, again) in [(on, true), (not_on, false)] {
            let (mut app, at) = app().await;
            let (proxy, front) = retried(at, retry(1, on)).await;
            let mut caller = Wire::connect(front).await;
            caller.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nbody").await;
            let mut wire = app.recv().await.expect("a connection");
            wire.head().await;
            wire.exactly(4).await;
            wire.send(&does).await;
            if does.is_empty() {
                drop(wire);
            } else {
                // The answer says that the connection goes on, so its next request comes by it or by another.
                tokio::spawn(async move {
                    while wire.try_head().await.is_some() {
                        wire.exactly(4).await;
                        wire.send(OK).await;
                    }
                });
            }
            if again && let Some(mut wire) = in_time(app.recv()).await {
                assert!(wire.head().await.contains("x-envoy-attempt-count: 2\r\n"), "{name}");
                assert_eq!(wire.exactly(4).await, b"body", "{name}: the body is sent again");
                wire.send(OK).await;
            }
            caller.head().await;
            let record = proxy.records.wait(1).await.remove(0);
            let tries = if again { "tries=2" } else { "tries=1" };
            assert!(record.contains(tries), "{name}: {record}");
            assert!(!again || record.starts_with("POST / 200 - "), "{name}: {record}");
        }
    }
}

#[tokio::test]
async fn retries_end_and_say_so() {
    let (mut app, at) = app().await;
    let on = RetryConditions { server_error: true, ..RetryConditions::default() };
    let (proxy, front) = retried(at, retry(2, on)).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    for _ in 0..3 {
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send("HTTP/1.1 500 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    }
    // The last answer is the application's own.
    assert_eq!(caller.answer().await.0, "HTTP/1.1 500 x");
    assert_eq!(proxy.records.wait(1).await, ["GET / 500 URX via_upstream peer=- tries=3"]);
}

#[tokio::test]
async fn an_endpoint_that_failed_is_asked_again_only_where_the_policy_says_so() {
    for ignore_previous_hosts in [true, false] {
        let ((mut one, at_one), (mut other, at_other)) = (app().await, app().await);
        let on = RetryConditions { server_error: true, ..RetryConditions::default() };
        let policy = RetryPolicy { ignore_previous_hosts, ..retry(30, on) };
        let resources = [
            service("app", HTTP),
            instance_of("app-0", "app", at_one, HTTP, Tunnel::None),
            instance_of("app-1", "app", at_other, HTTP, Tunnel::None),
            rule(Rule { retry: Some(policy), ..Rule::default() }),
        ];
        let (_proxy, front) = front_of(&resources, |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        let (mut last, mut same) = (None, 0);
        for turn in 0..30 {
            let (which, wire) = tokio::select! {
                wire = one.recv() => (1, wire),
                wire = other.recv() => (2, wire),
            };
            let mut wire = wire.expect("a connection");
            wire.head().await;
            same += usize::from(last == Some(which));
            last = Some(which);
            let status = if turn == 29 { "200 OK" } else { "500 x" };
            wire.send(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")).await;
            // The second try goes to the other one; once all were tried any may be asked.
            assert!(turn != 1 || !ignore_previous_hosts || same == 0);
        }
        assert_eq!(caller.answer().await.0, "HTTP/1.1 200 OK");
        assert!(ignore_previous_hosts || same > 0, "one of thirty is asked twice in a row");
    }
}

#[tokio::test]
async fn a_budget_and_a_limit_bound_retries_under_way() {
    let none = ConnectionPool { max_retries: Some(0), ..ConnectionPool::default() };
    let budget =
        RetryBudget { share: Share::per_million(0), minimum_concurrency: 0, interval: Duration::ZERO };
    for traffic in [
        TrafficPolicy { connections: none, ..TrafficPolicy::default() },
        TrafficPolicy { retry_budget: Some(budget), ..TrafficPolicy::default() },
    ] {
        let (mut app, at) = app().await;
        let on = RetryConditions { server_error: true, ..RetryConditions::default() };
        let with = Rule { retry: Some(retry(2, on)), ..Rule::default() };
        let (proxy, front) = ruled(at, with, &[treat(traffic)]).await;
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(caller.answer().await.0, "HTTP/1.1 500 x");
        assert_eq!(proxy.records.wait(1).await, ["GET / 500 UO via_upstream peer=- tries=1"]);
    }
}

#[tokio::test]
async fn times_are_bounded_and_told_apart() {
    let short = Some(Duration::from_millis(1));
    let on = RetryConditions { reset: true, ..RetryConditions::default() };
    let per_try = RetryPolicy { per_try_timeout: short, ..retry(1, on) };
    for (with, expected) in [
        (Rule { timeout: short, ..Rule::default() }, "GET / 504 UT response_timeout peer=- tries=1"),
        (
            Rule { retry: Some(per_try), ..Rule::default() },
            "GET / 504 UT,URX upstream_per_try_timeout peer=- tries=2",
        ),
    ] {
        let (mut app, at) = app().await;
        let (proxy, front) = ruled(at, with, &[]).await;
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        let mut first = app.recv().await.expect("a connection");
        assert_eq!(caller.answer().await.0, "HTTP/1.1 504 Gateway Timeout");
        assert_eq!(proxy.records.wait(1).await, [expected]);
        // The try whose time was over is over for the application too.
        first.rest().await;
    }
}

#[tokio::test]
async fn the_time_of_a_try_goes_on_until_its_answer_is_complete() {
    let (mut app, at) = app().await;
    let policy = RetryPolicy {
        per_try_timeout: Some(Duration::from_millis(300)),
        ..retry(1, RetryConditions::default())
    };
    let (proxy, front) = retried(at, policy).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    caller.head().await;
    assert_eq!(caller.rest().await, "half");
    assert!(proxy.records.wait(1).await[0].starts_with("GET / 200 UT upstream_per_try_timeout "));
}

/// A server ends connections that wait, and says when; the proxy is the one to close them.
#[tokio::test]
async fn a_connection_is_given_up_before_its_server_does() {
    let (mut app, at) = app().await;
    let (_proxy, front) = front(HTTP, &[at], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..2 {
        caller.send(get("/")).await;
        let mut wire = app.recv().await.expect("a new connection, since the old one may end at any time");
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 0\r\n\r\n").await;
        caller.answer().await;
        assert_eq!(wire.rest().await, "");
    }
}

/// The server closes the idle connection exactly when the request is written.
#[tokio::test]
async fn a_close_that_crosses_the_request() {
    for (method, again) in [("GET", true), ("POST", false)] {
        let (mut app, at) = app().await;
        let (proxy, front) = front(HTTP, &[at], |_| ()).await;
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wire.send(OK).await;
        caller.answer().await;
        caller.send(format!("{method} /again HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n")).await;
        // A byte has come, so the proxy could not have seen the close before it wrote.
        wire.exactly(1).await;
        drop(wire);
        if again {
            let mut wire = app.recv().await.expect("another connection");
            assert!(wire.head().await.starts_with("GET /again "));
            wire.send(OK).await;
            assert_eq!(caller.answer().await.0, "HTTP/1.1 200 OK");
        } else {
            assert_eq!(caller.answer().await.0, "HTTP/1.1 503 Service Unavailable");
            assert!(app.try_recv().is_err(), "it is not sent twice");
        }
        let records = proxy.records.wait(2).await;
        let expected = if again { "GET /again 200 - via_upstream" } else { "POST /again 503 UC " };
        assert!(records[1].starts_with(expected), "{records:?}");
    }
}

/// An application of HTTP/2 that is on its way out closes what comes without a word. No request was seen by it, so even one
/// that may not be sent twice goes elsewhere.
#[tokio::test]
async fn a_server_that_closes_before_its_first_word_has_seen_no_request() {
    let (leaving, gone) = app_listener().await;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = leaving.accept().await {
            let mut wire = Wire::new(tcp);
            // The preface, so that closing is a clean end and no reset.
            wire.exactly(24).await;
        }
    });
    let (mut app, at) = super::http2::app2().await;
    tokio::spawn(async move {
        while let Some((_, mut respond)) = app.recv().await {
            let answer = http::Response::builder().status(204).body(()).expect("an answer");
            respond.send_response(answer, true).expect("sent");
        }
    });
    let (_proxy, front) = front(AppProtocol::Http2, &[gone, at], |_| ()).await;
    for _ in 0..8 {
        let mut caller = Wire::connect(front).await;
        let (status, _) = caller.ask("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\nx").await;
        assert_eq!(status, "HTTP/1.1 204 No Content");
    }
}
