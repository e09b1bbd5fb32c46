use std::time::Duration;

use lateen_model::{ProxyRole, Revision};
use lateen_runtime::clock::Clock;
use lateen_wire::session::Batch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;
use crate::follow::Snapshots;
use crate::identity::Published;
use crate::tests::mesh::{self, Authority, in_time, service, viewer};

/// One answer of pages on a socket, whole.
async fn ask(path: &std::path::Path, request: &str) -> String {
    let mut stream = in_time(UnixStream::connect(path)).await.expect("connect");
    let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.expect("read");
    answer
}

#[tokio::test]
async fn every_page_says_what_it_should() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let (registry, published, ready) = (Registry::new(), Published::new(), Ready::new());
    let snapshots = Snapshots::start(viewer("app", ProxyRole::Sidecar), &registry).expect("a thread");
    let delta = lateen_model::Delta {
        set: vec![service("app", lateen_model::AppProtocol::Http1)],
        removed: Vec::new(),
    };
    snapshots.take(Batch { delta, revision: Revision(12), refused: Vec::new() }).await;
    let at = Bound { name: "outbound".to_owned(), address: "127.0.0.1:15001".parse().expect("an address") };
    let (_listening, bound) = watch::channel(vec![at]);
    let ending = Ending::default();
    let pages = Pages {
        registry,
        ready,
        held: snapshots.held().clone(),
        holding: published.holding.handle(),
        listening: vec![bound],
        log: None,
        ending: ending.clone(),
    };
    let (drainer, drain) = lateen_runtime::drain::channel();
    let (listener, file) = bind(&Endpoint::Socket(path.clone())).expect("bind");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let served = tokio::spawn(pages.build().serve(listener, drain));
    let holds = async |request: &str, parts: &[&str]| {
        let answer = ask(&path, request).await;
        for part in parts {
            assert!(answer.contains(part), "{request}: {part}: {answer}");
        }
    };
    holds("GET /healthz/ready", &["200", "ready"]).await;
    holds("GET /metrics", &["lateen_snapshot_revision 12"]).await;
    holds("GET /stats/prometheus", &["lateen_snapshot_revision 12"]).await;
    holds("GET /dump", &["revision: \"12\"", "app.default.svc.cluster.local"]).await;
    holds("GET /listeners", &["127.0.0.1:15001", "outbound"]).await;
    holds("GET /logging", &["501"]).await;
    holds("POST /logging?level=debug", &["501"]).await;
    holds("POST /logging", &["400", "expected ?level=info"]).await;
    holds("GET /certs", &["waiting"]).await;
    let (tls, certified) = Authority::new().certify(&mesh::identity("app"));
    published.publish(Holding { certified, bundle: tls.bundle }, Clock::system());
    holds(
        "GET /certs",
        &["spiffe://cluster.local/ns/default/sa/app", "notAfter\": \"20", "BEGIN CERTIFICATE"],
    )
    .await;
    let certificates = ask(&path, "GET /certs").await;
    assert!(!certificates.contains("PRIVATE"), "{certificates}");
    holds("GET /drain", &["405"]).await;
    holds("POST /drain", &["draining"]).await;
    in_time(ending.asked()).await;
    holds("POST /quitquitquit", &["quitting"]).await;
    in_time(ending.insisted()).await;
    drainer.drain(Duration::ZERO).await;
    in_time(served).await.expect("no panic").expect("ends well");
    drop(file);
    assert!(!path.exists());
}
