//! Changes, broken ones too, and a control plane that goes away.

use lateen_control::api::types::ObjectState;
use lateen_testkit::{Mesh, eventually};

use crate::objects::{client, policy, server, split, versions};

#[tokio::test]
async fn a_broken_document_keeps_its_last_good_version_and_says_so() {
    let mesh = Mesh::from_yaml(&(client("client") + &versions("cart"))).await;
    mesh.edit("route.yaml", &split("cart", 0, 100)).await;
    mesh.write("route.yaml", &split("cart", 100, 0).replace("weight: 100", "weight: most"));
    let stale = eventually("a stale route", async || {
        mesh.object("VirtualService", "cart").await.filter(|object| object.state == ObjectState::Stale)
    })
    .await;
    let problem = stale.problems.first().expect("a problem");
    assert!(problem.line > 0 && problem.message.contains("expected a number"), "{stale:?}");
    for _ in 0..10 {
        assert_eq!(mesh.request("client", "GET http://cart/").await.app(), "cart-v2-0");
    }
    mesh.edit("route.yaml", &split("cart", 100, 0)).await;
    assert_eq!(mesh.request("client", "GET http://cart/").await.app(), "cart-v1-0");
}

#[tokio::test]
async fn a_policy_that_was_never_good_denies_whom_it_is_for() {
    let mesh = Mesh::from_yaml(&(client("client") + &server("cart") + &server("till"))).await;
    let broken = policy("typo", "cart", "rules: [{form: [{source: {principals: ['*']}}]}]");
    mesh.edit("policy.yaml", &broken).await;
    assert_eq!(mesh.request("client", "GET http://cart/").await.status, 403);
    assert_eq!(mesh.request("client", "GET http://till/").await.status, 200);
}

#[tokio::test]
async fn a_control_plane_that_starts_again_loses_nothing() {
    let mut mesh = Mesh::from_yaml(&(client("client") + &versions("cart") + &split("cart", 0, 100))).await;
    let before = mesh.status().await;
    mesh.stop_control().await;
    for _ in 0..10 {
        assert_eq!(mesh.request("client", "GET http://cart/").await.app(), "cart-v2-0");
    }
    mesh.start_control().await;
    mesh.settled().await;
    let after = mesh.status().await;
    assert!(after.revision >= before.revision, "{} after {}", after.revision, before.revision);
    assert_eq!(after.resources, before.resources);
    assert_eq!(mesh.request("client", "GET http://cart/").await.app(), "cart-v2-0");
    let objects = client("client") + &versions("cart") + &split("cart", 100, 0);
    mesh.edit("mesh.yaml", &objects).await;
    assert_eq!(mesh.request("client", "GET http://cart/").await.app(), "cart-v1-0");
    assert!(mesh.logged("client").iter().all(|line| line["response_code"] == 200), "no request was lost");
}
