//! Two proxies with mTLS between them.

use lateen_model::{AppProtocol, Tunnel};
use std::net::SocketAddr;
use std::sync::Arc;

use super::mesh::*;
use crate::enter::Door;

/// A client's proxy and a server's, which knows `app` as its own application.
async fn pair(app: SocketAddr, protocol: AppProtocol) -> (Proxy, Proxy, SocketAddr) {
    let authority = Authority::new();
    let resources = [service("app", protocol), instance("app", app, protocol, Tunnel::Hbone)];
    let hbone = SocketAddr::new(app.ip(), 15008);
    let (server, _) =
        Plan::sidecar("app", &resources).certified(&authority).door(hbone, Door::Hbone).start().await;
    let (client, at) = client_of(&authority, &resources, "client").await;
    (client, server, at)
}

async fn client_of(
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
