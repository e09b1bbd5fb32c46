//! Copies of requests, and trouble on purpose, through a whole proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_model::*;

use super::mesh::*;

const HTTP: AppProtocol = AppProtocol::Http1;

fn id_of(name: &str) -> ServiceId {
    let hostname = Hostname::parse(&format!("{name}.default.svc.cluster.local")).expect("a name");
    ServiceId { namespace: Namespace::default(), hostname }
}

fn target(name: &str) -> BackendTarget {
    BackendTarget::Service { service: id_of(name), port: 80, subset: None }
}

/// A route for everything that is sent to `app`, which does this on its way.
fn route(filters: Vec<Filter>) -> Arc<Entry> {
    let key = Key::new(Origin::VirtualService, Namespace::default(), "all");
    let backends = vec![Backend { target: target("app"), weight: 1, filters: Vec::new() }];
    let route = Route {
        key: key.clone(),
        parents: vec![Parent::Service { service: id_of("app"), port: None }],
        hosts: Vec::new(),
        rules: vec![Rule { name: "0".into(), filters, backends, ..Rule::default() }],
        precedence: Precedence::Listed,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    Arc::new(Entry::for_everyone(key, Resource::Route(route)))
}

fn mesh(at: SocketAddr, copy: Option<SocketAddr>, filters: Vec<Filter>) -> Vec<Arc<Entry>> {
    let mut resources =
        vec![service("app", HTTP), instance_of("app-0", "app", at, HTTP, Tunnel::None), route(filters)];
    if let Some(copy) = copy {
        resources.push(service("copy", HTTP));
        resources.push(instance_of("copy-0", "copy", copy, HTTP, Tunnel::None));
    }
    resources
}

fn mirror(share: Share) -> Filter {
    Filter::Mirror(Mirror { target: target("copy"), share })
}

fn trouble(delay: Option<u64>, abort: Option<Abort>) -> Filter {
    Filter::Fault(FaultInjection {
        delay: delay.map(|millis| (Duration::from_millis(millis), Share::ALL)),
        abort: abort.map(|abort| (abort, Share::ALL)),
    })
}

#[tokio::test]
async fn a_copy_is_sent_elsewhere_and_its_answer_thrown_away() {
    let ((mut app, at), (mut copy, copy_at)) = (app().await, app().await);
    let resources = mesh(at, Some(copy_at), vec![mirror(Share::ALL)]);
    let (proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send("POST /x HTTP/1.1\r\nHost: app:80\r\nContent-Length: 4\r\n\r\nbody").await;
    let mut app = app.recv().await.expect("a connection");
    assert!(app.head().await.contains("\r\nHost: app:80\r\n"));
    assert_eq!(app.exactly(4).await, b"body");
    app.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(caller.answer().await, ("HTTP/1.1 200 OK".to_owned(), "ok".to_owned()));
    let mut copy = copy.recv().await.expect("a connection");
    let head = copy.head().await.to_ascii_lowercase();
    assert!(head.starts_with("post /x http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: app-shadow:80\r\n"), "{head}");
    assert_eq!(copy.exactly(4).await, b"body");
    copy.send("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
    // The next copy takes the same connection.
    caller.send(get("/y")).await;
    app.head().await;
    app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    caller.head().await;
    assert!(copy.head().await.starts_with("GET /y "));
    // Only what was asked for is told.
    assert_eq!(proxy.records.wait(2).await.len(), 2);
}

#[tokio::test]
async fn a_copy_that_cannot_be_sent_is_nobodys_trouble() {
    let at = echo("app").await;
    let (listener, nobody) = app_listener().await;
    drop(listener);
    let resources = mesh(at, Some(nobody), vec![mirror(Share::ALL)]);
    let (_proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..3 {
        assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn a_share_of_requests_is_copied() {
    let (at, (mut copies, copy_at)) = (echo("app").await, app().await);
    let resources = mesh(at, Some(copy_at), vec![mirror(Share::per_million(0))]);
    let (_proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    for _ in 0..50 {
        caller.ask(&get("/")).await;
    }
    assert!(copies.try_recv().is_err());
}

#[tokio::test]
async fn requests_are_aborted_on_purpose() {
    let (mut app, at) = app().await;
    let resources = mesh(at, None, vec![trouble(None, Some(Abort::Http(418)))]);
    let (proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let (status, body) = caller.ask(&get("/")).await;
    assert!(status.starts_with("HTTP/1.1 418 "), "{status}");
    assert_eq!(body, "fault filter abort");
    assert_eq!(proxy.records.wait(1).await[0], "GET / 418 FI fault_filter_abort peer=- tries=0");
    assert!(app.try_recv().is_err(), "the application was not asked");
}

#[tokio::test]
async fn callers_of_grpc_are_told_in_their_way() {
    let at = echo("app").await;
    let resources = mesh(at, None, vec![trouble(None, Some(Abort::Grpc(14)))]);
    let (_proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    assert!(caller.ask(&get("/")).await.0.starts_with("HTTP/1.1 503 "));
    let call = "POST / HTTP/1.1\r\nHost: app\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    caller.send(call).await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("grpc-status: 14\r\n"), "{head}");
}

#[tokio::test]
async fn requests_are_delayed_on_purpose() {
    let at = echo("app").await;
    let resources = mesh(at, None, vec![trouble(Some(20), None)]);
    let (proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    let began = std::time::Instant::now();
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 200 OK");
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert_eq!(proxy.records.wait(1).await[0], "GET / 200 DI via_upstream peer=- tries=1");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_delay() {
    let (mut app, at) = app().await;
    let resources = mesh(at, None, vec![trouble(Some(3_600_000), Some(Abort::Http(500)))]);
    let (proxy, front) = front_of(&resources, |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/")).await;
    drop(caller);
    let record = &proxy.records.wait(1).await[0];
    assert!(record.contains(" DC "), "{record}");
    assert!(app.try_recv().is_err(), "the application was not asked");
}
