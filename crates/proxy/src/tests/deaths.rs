//! Endpoints that end their connections, or die: whom it costs a request.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use lateen_model::*;

use super::http2::{caller2, request};
use super::mesh::*;

/// A route that never tries again.
fn never_again() -> Arc<Entry> {
    let key = Key::new(Origin::VirtualService, Namespace::default(), "app");
    let hostname = Hostname::parse("app.default.svc.cluster.local").expect("a name");
    let service = ServiceId { namespace: Namespace::default(), hostname: hostname.clone() };
    let backend = Backend {
        target: BackendTarget::Service { service, port: 80, subset: None },
        weight: 1,
        filters: Vec::new(),
    };
    let rule = Rule {
        name: "0".into(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: vec![backend],
        timeout: None,
        retry: Some(RetryPolicy { attempts: 0, ..RetryPolicy::default() }),
        ..Rule::default()
    };
    let route = Route {
        key: key.clone(),
        parents: vec![Parent::Mesh],
        hosts: vec![HostPattern::Exact(hostname)],
        rules: vec![rule],
        precedence: Precedence::Listed,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    Arc::new(Entry::for_everyone(key, Resource::Route(route)))
}

#[tokio::test]
async fn what_an_ending_http_2_connection_has_not_looked_at_is_sent_again() {
    let (listener, at) = app_listener().await;
    let protocol = AppProtocol::Http2;
    let resources = [service("app", protocol), instance("app", at, protocol, Tunnel::None), never_again()];
    let (_proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = caller2(front).await;
    let answer = |respond: &mut h2::server::SendResponse<Bytes>| {
        respond.send_response(Response::new(()), true).map(drop).expect("answered");
    };
    let (first, _) =
        caller.send_request(request("POST", "/1").body(()).expect("a request"), true).expect("sent");
    let (tcp, _) = in_time(listener.accept()).await.expect("a connection");
    let mut ending = h2::server::handshake(tcp).await.expect("handshake");
    let (_, mut respond) = in_time(ending.accept()).await.expect("a request").expect("whole");
    answer(&mut respond);
    in_time(async {
        tokio::select! {
            _ = ending.accept() => panic!("nothing else was sent"),
            first = first => assert_eq!(first.expect("answered").status(), 200),
        }
    })
    .await;
    // It ends while the next request is on its way to it.
    ending.abrupt_shutdown(h2::Reason::NO_ERROR);
    let (second, _) =
        caller.send_request(request("POST", "/2").body(()).expect("a request"), true).expect("sent");
    let again = async {
        let (tcp, _) = listener.accept().await.expect("a new connection");
        let mut fresh = h2::server::handshake(tcp).await.expect("handshake");
        let (head, mut respond) = fresh.accept().await.expect("a request").expect("whole");
        assert_eq!(head.uri().path(), "/2");
        answer(&mut respond);
        // Until the caller has gone.
        while fresh.accept().await.is_some() {}
    };
    in_time(async {
        tokio::select! {
            // Written once the proxy has sent its request there.
            () = async { while ending.accept().await.is_some() {} std::future::pending().await } => {}
            () = again => panic!("the answer was not sent on"),
            second = second => assert_eq!(second.expect("answered").status(), 200),
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_may_be_sent_twice_survives_the_death_of_its_endpoint() {
    let (mut dying, at) = app().await;
    tokio::spawn(async move {
        while let Some(mut wire) = dying.recv().await {
            // It has seen the request, and dies over it.
            let _ = wire.try_head().await;
        }
    });
    let alive = echo("alive").await;
    let (proxy, front) = front(AppProtocol::Http1, &[at, alive], |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..20 {
        assert_eq!(caller.ask("GET / HTTP/1.1\r\nHost: app\r\n\r\n").await.0, "HTTP/1.1 200 OK");
    }
    let mut failed = 0;
    for _ in 0..40 {
        let (status, _) = caller.ask("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n").await;
        failed += usize::from(status == "HTTP/1.1 503 Service Unavailable");
    }
    assert!(failed > 0, "a POST is never sent twice");
    let records = proxy.records.wait(60).await;
    let told = records.iter().filter(|line| line.starts_with("POST / 503 UC ")).count();
    assert_eq!(told, failed, "{records:?}");
}
