//! Two proxies with mTLS between them.

use lateen_model::{AppProtocol, Tunnel};
use std::net::SocketAddr;
use std::sync::Arc;

use super::mesh::*;
use crate::enter::Door;

/// A client's proxy and a server's, which knows `app` as its own application.
pub(super) async fn pair(app: SocketAddr, protocol: AppProtocol) -> (Proxy, Proxy, SocketAddr) {
    let authority = Authority::new();
    let resources = [service("app", protocol), instance("app", app, protocol, Tunnel::Hbone)];
    let hbone = SocketAddr::new(app.ip(), 15008);
    let (server, _) =
        Plan::sidecar("app", &resources).certified(&authority).door(hbone, Door::Hbone).start().await;
    let (client, at) = client_of(&authority, &resources, "client").await;
    (client, server, at)
}

pub(super) async fn client_of(
    authority: &Authority,
    resources: &[Arc<lateen_model::Entry>],
    name: &str,
) -> (Proxy, SocketAddr) {
    let door = Door::Service { host: "app.default.svc.cluster.local".into(), port: 80 };
    let any = "127.0.0.1:0".parse().expect("an address");
    let plan = Plan::sidecar(name, resources).certified(authority).door(any, door);
    let (client, doors) = plan.start().await;
    (client, doors[0])
}

#[tokio::test]
async fn a_request_goes_through_two_proxies_with_mtls() {
    let app = echo("app").await;
    let (client, server, at) = pair(app, AppProtocol::Http1).await;
    let mut caller = Wire::connect(at).await;
    for _ in 0..3 {
        let (status, body) = caller
            .ask("GET /x HTTP/1.1\r\nHost: app\r\nx-forwarded-client-cert: forged\r\nx-lateen-fault: y\r\n\r\n")
            .await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let certificate =
            body.lines().find(|line| line.starts_with("x-forwarded-client-cert: ")).expect(&body);
        assert!(
            certificate
                .starts_with("x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/app;Hash=")
                && certificate.ends_with(";Subject=\"\";URI=spiffe://cluster.local/ns/default/sa/client"),
            "{certificate}"
        );
        assert!(!body.contains("forged") && !body.contains("x-lateen"), "{body}");
    }
    let at_server = server.records.wait(3).await;
    assert_eq!(at_server, ["GET /x 200 - via_upstream peer=client tries=1"; 3]);
    assert_eq!(client.records.wait(3).await, ["GET /x 200 - via_upstream peer=- tries=1"; 3]);
}

#[tokio::test]
async fn many_requests_share_few_tunnels_and_connections() {
    let (mut app, at) = app().await;
    let (client, _server, front) = pair(at, AppProtocol::Http1).await;
    let mut callers = Vec::new();
    for _ in 0..4 {
        let mut caller = Wire::connect(front).await;
        caller.send(get("/")).await;
        callers.push(caller);
    }
    let mut wires = Vec::new();
    for _ in 0..4 {
        let mut wire = app.recv().await.expect("a connection");
        wire.head().await;
        wires.push(wire);
    }
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for wire in &mut wires {
        wire.send(ok).await;
    }
    for caller in &mut callers {
        caller.answer().await;
    }
    // A second round uses what is there, all the way to the application.
    for caller in &mut callers {
        caller.send(get("/again")).await;
    }
    for wire in &mut wires {
        assert!(wire.head().await.starts_with("GET /again "));
        wire.send(ok).await;
    }
    for caller in &mut callers {
        assert_eq!(caller.answer().await.0, "HTTP/1.1 200 OK");
    }
    assert!(app.try_recv().is_err());
    assert!(client.records.wait(8).await.iter().all(|line| line.ends_with("tries=1")));
}

#[tokio::test]
async fn whoever_is_not_expected_may_not_answer() {
    let authority = Authority::new();
    let app = echo("app").await;
    let resources =
        [service("app", AppProtocol::Http1), instance("app", app, AppProtocol::Http1, Tunnel::Hbone)];
    // Somebody else sits at the address, with a certificate of the same authority.
    let hbone = SocketAddr::new(app.ip(), 15008);
    let (_other, _) =
        Plan::sidecar("other", &resources).certified(&authority).door(hbone, Door::Hbone).start().await;
    let (client, at) = client_of(&authority, &resources, "client").await;
    let mut caller = Wire::connect(at).await;
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 503 Service Unavailable");
    let records = client.records.wait(1).await;
    assert!(
        records[0].starts_with("GET / 503 UF,URX upstream_reset_before_response_started{tls_failure}"),
        "{records:?}"
    );
}

#[tokio::test]
async fn strangers_do_not_come_in() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let app = echo("app").await;
    let resources =
        [service("app", AppProtocol::Http1), instance("app", app, AppProtocol::Http1, Tunnel::Hbone)];
    let hbone = SocketAddr::new(app.ip(), 15008);
    let (server, _) =
        Plan::sidecar("app", &resources).certified(&ours).door(hbone, Door::Hbone).start().await;
    let (_client, at) = client_of(&foreign, &resources, "client").await;
    let mut caller = Wire::connect(at).await;
    assert_eq!(caller.ask(&get("/")).await.0, "HTTP/1.1 503 Service Unavailable");
    let records = server.records.wait(1).await;
    assert!(records[0].starts_with("tcp 0/0 DC "), "{records:?}");
    // Nor does plaintext at the door of tunnels.
    let mut plain = Wire::connect(hbone).await;
    plain.send(get("/")).await;
    assert!(!plain.rest().await.contains("HTTP/1.1"));
}

#[tokio::test]
async fn an_application_that_is_gone_is_a_connect_failure_of_the_caller() {
    let authority = Authority::new();
    let alive = echo("alive").await;
    let (listener, dead) = app_listener().await;
    drop(listener);
    let http = AppProtocol::Http1;
    let resources = [
        service("app", http),
        instance_of("alive", "app", alive, http, Tunnel::Hbone),
        instance_of("dead", "app", dead, http, Tunnel::Hbone),
    ];
    let mut servers = Vec::new();
    for (name, at) in [("alive", alive), ("dead", dead)] {
        let hbone = SocketAddr::new(at.ip(), 15008);
        let plan = Plan::sidecar(name, &resources).certified(&authority).door(hbone, Door::Hbone);
        servers.push(plan.start().await.0);
    }
    let (client, at) = client_of(&authority, &resources, "client").await;
    let mut caller = Wire::connect(at).await;
    // So many that the dice fall on the dead one.
    for _ in 0..40 {
        // Even a POST may go elsewhere: nobody has seen it.
        let request = "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nbody";
        let (status, body) = caller.ask(request).await;
        assert!(status == "HTTP/1.1 200 OK" && body.starts_with("alive\n"), "{status} {body}");
    }
    let records = client.records.wait(40).await;
    assert!(records.iter().any(|line| line.ends_with("tries=2")), "{records:?}");
    let at_dead = servers[1].records.wait(1).await;
    assert!(at_dead[0].contains(" 503 UF "), "{at_dead:?}");
}

#[tokio::test]
async fn a_failure_that_cannot_be_repaired_is_not_told_to_the_caller_in_our_words() {
    let (listener, dead) = app_listener().await;
    drop(listener);
    let (client, _server, at) = pair(dead, AppProtocol::Http1).await;
    let mut caller = Wire::connect(at).await;
    caller.send(get("/")).await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && !head.contains("x-lateen"), "{head}");
    let records = client.records.wait(1).await;
    assert!(records[0].contains(" 503 UF,URX ") && records[0].ends_with("tries=3"), "{records:?}");
}

#[tokio::test]
async fn a_policy_is_enforced_by_the_callers_identity_and_named_in_the_record() {
    let authority = Authority::new();
    let app = echo("app").await;
    let mut resources =
        vec![service("app", AppProtocol::Http1), instance("app", app, AppProtocol::Http1, Tunnel::Hbone)];
    resources.push(deny("no-front", "front"));
    let hbone = SocketAddr::new(app.ip(), 15008);
    let (server, _) =
        Plan::sidecar("app", &resources).certified(&authority).door(hbone, Door::Hbone).start().await;
    for (name, status) in [("front", "HTTP/1.1 403 Forbidden"), ("cart", "HTTP/1.1 200 OK")] {
        let (_client, at) = client_of(&authority, &resources, name).await;
        let mut caller = Wire::connect(at).await;
        let (seen, body) = caller.ask(&get("/")).await;
        assert_eq!(seen, status);
        assert!(status.contains("200") || body == "RBAC: access denied", "{body}");
    }
    let records = server.records.wait(2).await;
    assert_eq!(
        records[0],
        "GET / 403 - rbac_access_denied_matched_policy[ns[default]-policy[no-front]-rule[0]] peer=front tries=0"
    );
}

#[tokio::test]
async fn bytes_go_through_with_half_close_and_server_first() {
    let (mut app, at) = app().await;
    let (client, server, front) = pair(at, AppProtocol::Tcp).await;
    let mut caller = Wire::connect(front).await;
    let mut app = app.recv().await.expect("a connection");
    app.send("220 hello\r\n").await;
    assert_eq!(caller.exactly(11).await, b"220 hello\r\n");
    caller.send("request").await;
    tokio::io::AsyncWriteExt::shutdown(&mut caller.tcp).await.expect("half-close");
    assert_eq!(app.rest().await, "request");
    app.send("answer").await;
    drop(app);
    assert_eq!(caller.rest().await, "answer");
    assert_eq!(client.records.wait(1).await, ["tcp 7/17 - - peer=- tries=1"]);
    assert_eq!(server.records.wait(1).await, ["tcp 7/17 - - peer=client tries=1"]);
}

#[tokio::test]
async fn a_tunnel_says_yes_only_when_the_application_was_reached() {
    let (listener, dead) = app_listener().await;
    drop(listener);
    let (client, server, front) = pair(dead, AppProtocol::Tcp).await;
    let mut caller = Wire::connect(front).await;
    assert_eq!(caller.rest().await, "");
    assert!(client.records.wait(1).await[0].starts_with("tcp 0/0 UF "));
    assert!(server.records.wait(1).await[0].starts_with("tcp 0/0 UF "));
}

#[tokio::test]
async fn what_is_not_declared_is_looked_at() {
    for (sent, http) in [("GET / HTTP/1.1\r\nHost: app\r\n\r\n", true), ("PING\r\n", false)] {
        let (mut app, at) = app().await;
        let (client, server, front) = pair(at, AppProtocol::Detect).await;
        let mut caller = Wire::connect(front).await;
        caller.send(sent).await;
        let mut wire = app.recv().await.expect("a connection");
        if http {
            assert!(wire.head().await.contains("x-forwarded-client-cert: By="));
            wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            assert!(caller.head().await.starts_with("HTTP/1.1 204 "));
        } else {
            assert_eq!(wire.exactly(6).await, b"PING\r\n");
            drop((wire, caller));
        }
        let expected = if http { "GET / 204 -" } else { "tcp 6/0 " };
        for proxy in [&client, &server] {
            let records = proxy.records.wait(1).await;
            assert!(records[0].starts_with(expected), "{sent:?}: {records:?}");
        }
    }
}

#[tokio::test]
async fn plaintext_comes_in_unless_mtls_is_required() {
    let app = echo("app").await;
    let base = [service("app", AppProtocol::Http1), instance("app", app, AppProtocol::Http1, Tunnel::Hbone)];
    for strict in [false, true] {
        let mut resources = base.to_vec();
        resources.extend(strict.then(strict_everywhere));
        // Plain mode: the proxy listens beside the application, on an address that stands for the workload's.
        let any = SocketAddr::new(app.ip(), 0);
        let door = Door::Port { port: app.port() };
        let (server, doors) = Plan::sidecar("app", &resources).door(any, door).start().await;
        let mut caller = Wire::connect(doors[0]).await;
        caller.send("GET / HTTP/1.1\r\nHost: app\r\nX-Forwarded-Client-Cert: forged\r\n\r\n").await;
        if strict {
            assert_eq!(caller.rest().await, "");
            assert!(server.records.wait(1).await[0].contains("plaintext_refused_mtls_required"));
        } else {
            let (status, body) = caller.answer().await;
            assert!(status == "HTTP/1.1 200 OK" && !body.contains("forged"), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn where_nobody_speaks_at_once_whoever_does_decides() {
    for (server_first, http) in [(true, false), (false, true), (false, false)] {
        let (mut app, at) = app().await;
        let (client, _server, front) = pair(at, AppProtocol::Detect).await;
        let mut caller = Wire::connect(front).await;
        // Connected without a byte from the caller.
        let mut wire = app.recv().await.expect("a connection");
        if server_first {
            wire.send("220 hello\r\n").await;
            assert_eq!(caller.exactly(11).await, b"220 hello\r\n");
        } else if http {
            caller.send(get("/late")).await;
            assert!(wire.head().await.starts_with("GET /late "));
            wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            caller.head().await;
        } else {
            caller.send("QUIT\r\n").await;
            assert_eq!(wire.exactly(6).await, b"QUIT\r\n");
        }
        drop((caller, wire));
        let records = client.records.wait(1).await;
        let expected = if http { "GET /late 204 " } else { "tcp " };
        assert!(records[0].starts_with(expected), "{records:?}");
    }
}

#[tokio::test]
async fn a_policy_that_comes_later_ends_what_it_denies() {
    let (mut app, at) = app().await;
    let (client, server, front) = pair(at, AppProtocol::Tcp).await;
    let mut caller = Wire::connect(front).await;
    caller.send("hello").await;
    let mut wire = app.recv().await.expect("a connection");
    assert_eq!(wire.exactly(5).await, b"hello");
    let resources = [
        service("app", AppProtocol::Tcp),
        instance("app", at, AppProtocol::Tcp, Tunnel::Hbone),
        deny("no-client", "client"),
    ];
    server.publish("app", &resources);
    assert_eq!(wire.rest().await, "");
    assert_eq!(caller.rest().await, "");
    let records = server.records.wait(1).await;
    assert!(records[0].contains("policy[no-client]") && records[0].starts_with("tcp 5/0 "), "{records:?}");
    drop(client);
}

/// What the door of tunnels answers to what a proxy of ours would not ask.
#[tokio::test]
async fn the_door_of_tunnels_refuses_in_the_words_of_hbone() {
    let authority = Authority::new();
    let (listener, dead) = app_listener().await;
    drop(listener);
    let tcp = AppProtocol::Tcp;
    let resources =
        [service("app", tcp), instance("app", dead, tcp, Tunnel::Hbone), deny("no-front", "front")];
    let hbone = SocketAddr::new(dead.ip(), 15008);
    let (_server, _) =
        Plan::sidecar("app", &resources).certified(&authority).door(hbone, Door::Hbone).start().await;
    let (dead, own) = (dead.to_string(), hbone.to_string());
    for (caller, method, target, status) in [
        ("client", "GET", "https://app/", 400),
        ("client", "CONNECT", "app.default:80", 400),
        ("client", "CONNECT", own.as_str(), 503),
        ("client", "CONNECT", "10.9.8.7:80", 401),
        ("front", "CONNECT", dead.as_str(), 401),
        ("client", "CONNECT", dead.as_str(), 503),
    ] {
        let (tls, certified) = authority.certify(&identity(caller));
        let accepted = lateen_pki::tls::Accepted::Identities(Arc::from([identity("app")]));
        let settings = tls.client(Some(&certified), accepted, &[b"h2"]);
        let tcp = tokio::net::TcpStream::connect(hbone).await.expect("connect");
        let name = rustls::pki_types::ServerName::IpAddress(hbone.ip().into());
        let stream = tokio_rustls::TlsConnector::from(settings).connect(name, tcp).await.expect("TLS");
        let (requests, connection) = h2::client::handshake(stream).await.expect("handshake");
        tokio::spawn(async move {
            // Its end is seen by the requests.
            let _ = connection.await;
        });
        let mut requests: h2::client::SendRequest<bytes::Bytes> = requests.ready().await.expect("ready");
        let request = http::Request::builder().method(method).uri(target).body(()).expect("a request");
        let (response, _up) = requests.send_request(request, method == "GET").expect("sent");
        let response = in_time(response).await.expect("a response");
        assert_eq!(response.status(), status, "{caller} {method} {target}");
    }
}
