//! Gateways, explicit proxies, addresses that nobody declared; and what a connection costs.

use std::net::SocketAddr;
use std::sync::Arc;

use lateen_model::*;

use super::mesh::*;
use crate::enter::Door;

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

async fn explicit(apps: &[SocketAddr], protocol: AppProtocol) -> (Proxy, SocketAddr) {
    let mut resources = vec![service("app", protocol)];
    for (index, at) in apps.iter().enumerate() {
        resources.push(instance_of(&format!("app-{index}"), "app", *at, protocol, Tunnel::None));
    }
    let (proxy, doors) = Plan::sidecar("client", &resources).door(any(), Door::Proxy).start().await;
    (proxy, doors[0])
}

#[tokio::test]
async fn an_explicit_proxy_knows_the_names_of_the_mesh() {
    let at = echo("app").await;
    let (_proxy, front) = explicit(&[at], AppProtocol::Http1).await;
    let mut caller = Wire::connect(front).await;
    for host in ["app", "app.default", "app.default.svc.cluster.local"] {
        let (status, body) =
            caller.ask(&format!("GET http://{host}/x HTTP/1.1\r\nHost: other\r\n\r\n")).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            body.contains("GET /x HTTP/1.1\r\n") && body.contains(&format!("Host: {host}\r\n")),
            "{body}"
        );
    }
}

#[tokio::test]
async fn an_explicit_proxy_makes_tunnels() {
    let at = echo("app").await;
    let (proxy, front) = explicit(&[at], AppProtocol::Tcp).await;
    for authority in ["app:80".to_owned(), at.to_string()] {
        let mut caller = Wire::connect(front).await;
        caller.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        assert_eq!(caller.head().await, "HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(caller.ask(&get("/through")).await.0, "HTTP/1.1 200 OK");
    }
    let mut caller = Wire::connect(front).await;
    let (listener, dead) = app_listener().await;
    drop(listener);
    caller.send(format!("CONNECT {dead} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(caller.rest().await.starts_with("HTTP/1.1 503 "));
    assert!(proxy.records.wait(3).await.iter().any(|line| line.starts_with("tcp 0/0 UF ")));
}

fn gateway_resources(app: SocketAddr) -> Vec<Arc<Entry>> {
    let at = |origin, name: &str| Key::new(origin, Namespace::default(), name);
    let key = at(Origin::Gateway, "edge");
    let listener = Listener {
        name: "http".into(),
        port: 80,
        protocol: ListenerProtocol::Http,
        hosts: Vec::new(),
        tls: None,
    };
    let gateway = Gateway {
        key: key.clone(),
        selector: Selector::new([("app", "edge")].into_iter().collect()),
        selector_namespace: None,
        listeners: vec![listener],
    };
    let hostname = Hostname::parse("app.default.svc.cluster.local").expect("a name");
    let target = BackendTarget::Service {
        service: ServiceId { namespace: Namespace::default(), hostname },
        port: 80,
        subset: None,
    };
    let edit = HeaderEdit { set: vec![("x-by".into(), Format::literal("edge"))], ..HeaderEdit::default() };
    let rule = Rule {
        name: "0".into(),
        matches: Vec::new(),
        filters: vec![Filter::RequestHeaders(edit.clone()), Filter::ResponseHeaders(edit)],
        backends: vec![Backend { target, weight: 1, filters: Vec::new() }],
        timeout: None,
        retry: None,
        ..Rule::default()
    };
    let route = Route {
        key: at(Origin::HttpRoute, "all"),
        parents: vec![Parent::Gateway { gateway: key.clone(), listener: None, port: None }],
        hosts: vec![HostPattern::parse("shop.example").expect("a pattern")],
        rules: vec![rule],
        precedence: Precedence::MostSpecific,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    vec![
        service("app", AppProtocol::Http1),
        instance("app", app, AppProtocol::Http1, Tunnel::None),
        instance("edge", SocketAddr::new(own_address(), 80), AppProtocol::Http1, Tunnel::Hbone),
        Arc::new(Entry::for_everyone(key, Resource::Gateway(gateway))),
        Arc::new(Entry::for_everyone(route.key.clone(), Resource::Route(route))),
    ]
}

#[tokio::test]
async fn a_gateway_serves_its_hosts_and_edits_heads() {
    let app = echo("app").await;
    let mut plan =
        Plan::sidecar("edge", &gateway_resources(app)).door(any(), Door::Gateway { port: 80, tls: None });
    plan.viewer = viewer("edge", ProxyRole::Gateway);
    let (proxy, doors) = plan.start().await;
    let mut caller = Wire::connect(doors[0]).await;
    caller
        .send(
            "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Request-Id: mine\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
        )
        .await;
    let head = caller.head().await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("x-by: edge\r\n"),
        "{:?}",
        proxy.records.wait(1).await
    );
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let body = String::from_utf8(caller.exactly(length.parse().expect("a number")).await).expect("text");
    for line in ["x-by: edge\r\n", "x-forwarded-for: 9.9.9.9,127.0.0.1\r\n", "x-forwarded-proto: http\r\n"] {
        assert!(body.contains(line), "{line}: {body}");
    }
    assert!(!body.contains("mine"), "{body}");
    let (status, _) = caller.ask("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
}

/// What each open connection costs; measured, so that it does not grow unseen.
#[test]
fn the_future_of_a_connection_is_small() {
    fn size<F: Future>(
        _: impl FnOnce(std::rc::Rc<crate::worker::Worker>, tokio::net::TcpStream, Door) -> F,
    ) -> usize {
        size_of::<F>()
    }
    let size = size(crate::enter::serve);
    assert!(size <= 5 * 1024, "the future of a connection has {size} bytes");
}
