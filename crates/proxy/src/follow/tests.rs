use lateen_engine::{ConnectionFacts, Decision, Direction, decide_connection};
use lateen_model::{AppProtocol, Entry, ProxyRole, Tunnel};
use lateen_wire::convert::{TypeUrl, decode};
use lateen_wire::json;

use super::*;
use crate::tests::mesh::{instance, service, viewer};

fn batch(revision: u64, set: Vec<Arc<Entry>>) -> Batch {
    Batch { delta: Delta { set, removed: Vec::new() }, revision: Revision(revision), refused: Vec::new() }
}

fn app(name: &str) -> Vec<Arc<Entry>> {
    let at = "10.0.0.7:80".parse().expect("an address");
    vec![service(name, AppProtocol::Http1), instance(name, at, AppProtocol::Http1, Tunnel::None)]
}

#[tokio::test]
async fn a_batch_taken_is_a_batch_published() {
    let registry = Registry::new();
    let snapshots = Snapshots::start(viewer("app", ProxyRole::Sidecar), &registry).expect("a thread");
    assert_eq!(snapshots.snapshots().current().services().count(), 0);
    snapshots.take(batch(7, app("app"))).await;
    snapshots.take(batch(9, app("other"))).await;
    assert_eq!(snapshots.snapshots().current().services().count(), 2);
    assert!(snapshots.snapshots().current().own().is_some());
    assert_eq!(snapshots.held().current().catalog.revision(), Revision(9));
    let metrics = registry.render(Default::default());
    assert!(metrics.contains("lateen_snapshot_revision 9\n"), "{metrics}");
    assert!(metrics.contains("lateen_snapshot_resources 4\n"), "{metrics}");
}

#[tokio::test]
async fn what_is_dumped_can_be_loaded() {
    let registry = Registry::new();
    let snapshots = Snapshots::start(viewer("app", ProxyRole::Sidecar), &registry).expect("a thread");
    snapshots.take(batch(7, app("app"))).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), json::to_yaml(&snapshots.held().current().catalog)).expect("written");
    let loaded = load(file.path()).expect("loads");
    assert_eq!(loaded, batch(7, snapshots.held().current().catalog.to_delta().set));
    std::fs::write(file.path(), "items: 7").expect("written");
    assert!(matches!(load(file.path()), Err(FilesError::Parse(..))));
    assert!(matches!(load("/nowhere.yaml".as_ref()), Err(FilesError::Read(..))));
}

#[tokio::test]
async fn a_refused_policy_denies_its_target() {
    let name = "AuthorizationPolicy/default/closed";
    let mut refused = decode(TypeUrl::Policy, name, vec![0xff].into()).expect_err("no message");
    let stand_in = Arc::new(*refused.stand_in.take().expect("a policy has a stand-in"));
    let mut batch = batch(1, app("app"));
    batch.delta.set.push(stand_in);
    batch.refused.push(refused);
    let registry = Registry::new();
    let snapshots = Snapshots::start(viewer("app", ProxyRole::Sidecar), &registry).expect("a thread");
    snapshots.take(batch).await;
    let facts = ConnectionFacts {
        direction: Direction::Inbound,
        client: "10.0.0.1:1234".parse().expect("an address"),
        destination: "10.0.0.7:81".parse().expect("an address"),
        destination_host: None,
        peer: None,
        sni: None,
        tls: false,
    };
    let decision = decide_connection(&snapshots.snapshots().current(), &facts);
    let Decision::Detect(otherwise) = decision else { panic!("{decision:?}") };
    assert!(matches!(*otherwise, Decision::Deny(_)), "{otherwise:?}");
    assert!(registry.render(Default::default()).contains("lateen_snapshot_refused_resources 1\n"));
}
