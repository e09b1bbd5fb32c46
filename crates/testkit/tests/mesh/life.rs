//! Pods that come to an end, and proxies with several workers.

use lateen_testkit::{Manner, Mesh, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::objects::{client, process, server, servers, service};

#[tokio::test]
async fn a_pod_that_goes_leaves_the_endpoints_and_fails_no_request() {
    let mut mesh = Mesh::from_yaml(&(client("client") + &servers("cart", "default", 2))).await;
    for _ in 0..10 {
        assert_eq!(mesh.request("client", "GET http://cart/").await.status, 200);
    }
    mesh.remove("cart-1").await;
    for _ in 0..20 {
        let answer = mesh.request("client", "GET http://cart/").await;
        assert_eq!((answer.status, answer.app()), (200, "cart-0"));
    }
    assert!(mesh.logged("client").iter().all(|line| line["response_code"] == 200));
}

#[tokio::test]
async fn tunnels_are_spread_over_the_workers_and_every_worker_serves() {
    let objects = client("client") + &client("other") + &server("cart");
    let mesh = Mesh::with_workers(&objects, 3).await;
    let mut asking = tokio::task::JoinSet::new();
    for caller in ["client", "other"].repeat(30) {
        asking.spawn(mesh.request(caller, "GET http://cart/").attempt());
    }
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.expect("no panic").expect("an answer").status, 200);
    }
    assert_eq!(mesh.requests("cart"), 60);
    let counted = async || {
        let page = mesh.page("cart", "/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with("istio_requests_total{"));
        let total: f64 = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        (total >= 60.0).then_some(total)
    };
    assert!((eventually("60 requests in the metrics", counted).await - 60.0).abs() < 0.5);
}

#[tokio::test]
async fn a_proxy_that_drains_finishes_what_it_began() {
    let mut mesh = Mesh::from_yaml(&(client("client") + &server("cart"))).await;
    mesh.behave("cart", Manner::Silent { times: 1 });
    let waiting = tokio::spawn(mesh.request("client", "GET http://cart/").attempt());
    eventually("the request", async || (mesh.requests("cart") == 1).then_some(())).await;
    let drained = mesh.drain("client");
    // The application never answers: it is its end that ends the request, not that of the proxy.
    mesh.crash("cart").await;
    let answer = waiting.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    drained.await;
}

#[tokio::test]
async fn bytes_pass_and_are_counted() {
    let raw = process("raw", "default", 1, "ports: [{name: tcp, port: 80}]")
        + &service("raw", "default", "app: raw", "tcp");
    let mesh = Mesh::from_yaml(&(client("client") + &raw)).await;
    let mut stream = mesh.connect("client", "raw:80").await;
    stream.write_all(b"hello\n").await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"raw-0 hello\n");
    drop(stream);
    let line = mesh.log("raw", |line| line["protocol"] == "TCP").await;
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&6.into(), &12.into()), "{line}");
    assert_eq!(line["source_principal"], "spiffe://cluster.local/ns/default/sa/client");
    let page = mesh.page("raw", "/metrics").await;
    let counted = page.lines().find(|line| line.starts_with("istio_tcp_received_bytes_total{"));
    assert!(counted.is_some_and(|line| line.ends_with(" 6")), "{counted:?}");
}
