//! The control plane as the command line and the supervisor see it: files in, API out.

use crate::common::{Home, eventually};
use lateen_control::api::types::{Instance, ObjectState, TokenRequest};

const CART: &str = "
apiVersion: lateen.dev/v1alpha1
kind: Process
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {command: [./cart], ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

fn instance() -> Instance {
    let text = r#"{"process": "cart", "labels": {"app": "cart"}, "addresses": ["10.0.0.1"], "ready": true}"#;
    serde_json::from_str(text).expect("an instance")
}

#[tokio::test]
async fn processes_are_told_as_files_change() {
    let home = Home::new();
    home.write("cart.yaml", CART);
    let plane = home.start().await;
    let mut watch = home.api().watch_processes().await.expect("watch");
    let names = |processes: lateen_control::api::types::Processes| {
        processes.processes.into_iter().map(|process| process.name).collect::<Vec<_>>()
    };
    let first = watch.next().await.expect("no error").expect("a state");
    assert_eq!(first.processes[0].ports[0].port, 8080);
    assert_eq!(names(first), ["cart"]);
    home.write("more.yaml", &CART.replace("cart", "till"));
    assert_eq!(names(watch.next().await.expect("no error").expect("a state")), ["cart", "till"]);
    // A change that is no change of processes is not told here: the next line is that of the removal.
    home.write("cart.yaml", &CART.replace("port: 80,", "port: 81,"));
    std::fs::remove_file(home.path("mesh/more.yaml")).expect("remove");
    assert_eq!(names(watch.next().await.expect("no error").expect("a state")), ["cart"]);
    plane.stop().await;
    assert!(watch.next().await.expect("no error").is_none(), "the stream ends with the control plane");
    assert!(!home.config().api_socket().exists() && !home.config().control_socket().exists());
}

#[tokio::test]
async fn a_broken_save_keeps_the_last_good_version_also_over_a_restart() {
    let home = Home::new();
    home.write("cart.yaml", CART);
    let plane = home.start().await;
    let api = home.api();
    let catalog = eventually("a catalog", async || api.catalog().await.ok()).await;
    assert!(catalog.contains("cart.shop.svc.cluster.local"), "{catalog}");
    home.write("cart.yaml", &CART.replace("port: 80,", "port: eighty,"));
    let stale = async || {
        let objects = api.objects().await.ok()?.objects;
        objects.into_iter().find(|object| object.kind == "Service" && object.state == ObjectState::Stale)
    };
    let object = eventually("a stale object", stale).await;
    assert_eq!((&*object.file, object.line), ("cart.yaml", 7));
    assert!(
        object.problems.iter().any(|problem| problem.severity == "error" && problem.line == 10),
        "{object:?}"
    );
    assert_eq!(api.catalog().await.expect("catalog"), catalog);
    let status = api.status().await.expect("status");
    assert!(status.ready && status.objects.contains(&object), "{status:?}");
    plane.stop().await;
    let plane = home.start().await;
    eventually("a stale object", stale).await;
    let after = api.status().await.expect("status");
    assert!(after.revision > status.revision, "{} after {}", after.revision, status.revision);
    let content = |catalog: &str| catalog.split_once("\n").map(|(_revision, items)| items.to_owned());
    let again = api.catalog().await.expect("catalog");
    assert_eq!(content(&again), content(&catalog), "same addresses, same content");
    assert_eq!(after.authority.map(|it| it.roots), status.authority.map(|it| it.roots), "same root");
    plane.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_its_objects_also_over_a_restart() {
    let home = Home::new();
    home.write("cart.yaml", CART);
    let plane = home.start().await;
    let api = home.api();
    let services = async || {
        let status = api.status().await.ok().filter(|status| status.ready)?;
        Some((
            status.resources.get("services").copied().unwrap_or_default(),
            status.sources[0].problems.len(),
        ))
    };
    assert_eq!(eventually("readiness", services).await, (1, 0));
    let hidden = async || services().await.filter(|(_, problems)| *problems == 1);
    std::fs::write(home.path("mesh/cart.yaml"), b"\xff").expect("write");
    assert_eq!(eventually("a problem", hidden).await, (1, 1));
    plane.stop().await;
    let plane = home.start().await;
    assert_eq!(eventually("the problem again", hidden).await, (1, 1));
    let stale = api.objects().await.expect("objects").objects;
    assert!(stale.iter().all(|object| object.state == ObjectState::Stale), "{stale:?}");
    std::fs::remove_file(home.path("mesh/cart.yaml")).expect("remove");
    eventually("the removal", async || services().await.filter(|seen| *seen == (0, 0))).await;
    plane.stop().await;
}

#[tokio::test]
async fn registrations_become_workloads_and_survive_a_restart() {
    let home = Home::new();
    home.write("cart.yaml", CART);
    let plane = home.start().await;
    let api = home.api();
    api.put_instance("shop", "cart-0", &instance()).await.expect("put");
    let workloads = async |count| {
        let status = api.status().await.ok()?;
        (status.ready && status.resources.get("workloads").copied().unwrap_or_default() == count)
            .then_some(())
    };
    eventually("a workload", async || workloads(1).await).await;
    plane.stop().await;
    let plane = home.start().await;
    eventually("the workload again", async || workloads(1).await).await;
    assert_eq!(api.instances().await.expect("list").len(), 1);
    for _ in 0..2 {
        api.remove_instance("shop", "cart-0").await.expect("remove");
    }
    eventually("no workload", async || workloads(0).await).await;
    let error = api.put_instance("shop", "..", &instance()).await.expect_err("no name").to_string();
    assert!(error.contains("400"), "{error}");
    plane.stop().await;
}

#[tokio::test]
async fn tokens_are_for_identities_of_this_mesh() {
    let home = Home::new();
    let plane = home.start().await;
    let api = home.api();
    let mint = async |identity: &str| {
        let request = TokenRequest { identity: identity.to_owned(), uid: None };
        api.mint_token(&request).await
    };
    let answer =
        eventually("a token", async || mint("spiffe://cluster.local/ns/shop/sa/cart").await.ok()).await;
    assert!(answer.token.starts_with("ltn_") && answer.roots.contains("BEGIN CERTIFICATE"));
    assert_eq!(answer.control_identity, "spiffe://cluster.local/ns/istio-system/sa/lateen-control");
    for (identity, part) in [("cart", "identity"), ("spiffe://other/ns/shop/sa/cart", "not the trust domain")]
    {
        let error = mint(identity).await.expect_err(identity).to_string();
        assert!(error.contains("400") && error.contains(part), "{error}");
    }
    let metrics = api.text("/metrics").await.expect("metrics");
    assert!(metrics.contains("lateen_control_revision"), "{metrics}");
    assert_eq!(api.text("/healthz/ready").await.expect("ready"), "ready\n");
    plane.stop().await;
}

#[tokio::test]
async fn nothing_is_served_before_every_file_was_read() {
    let home = Home::new();
    std::fs::remove_dir(home.path("mesh")).expect("remove");
    let plane = home.start().await;
    let api = home.api();
    let status = api.status().await.expect("status");
    assert!(!status.ready && status.waiting_for.contains(&"all files read".to_owned()), "{status:?}");
    assert!(api.catalog().await.expect_err("not yet").to_string().contains("503"));
    std::fs::create_dir(home.path("mesh")).expect("make");
    eventually("readiness", async || api.status().await.ok().filter(|status| status.ready)).await;
    plane.stop().await;
}
#[tokio::test]
async fn manifests_are_objects_that_survive_a_restart_and_say_where_they_come_from() {
    let home = Home::new();
    let plane = home.start().await;
    let api = home.api();
    eventually("readiness", async || api.status().await.ok().filter(|status| status.ready)).await;
    api.put_manifest("run.cart.shop", CART).await.expect("put");
    let services = async || {
        let objects = api.objects().await.ok()?.objects;
        Some(objects.into_iter().filter(|object| object.kind == "Service").collect::<Vec<_>>())
    };
    let some = async || services().await.filter(|services| !services.is_empty());
    let service = eventually("a service", some).await.remove(0);
    assert_eq!((&*service.file, service.line), ("/v1/manifests/run.cart.shop", 7));
    plane.stop().await;
    let plane = home.start().await;
    assert_eq!(eventually("the service again", some).await, [service]);
    assert_eq!(api.manifests().await.expect("list"), ["run.cart.shop"]);
    for _ in 0..2 {
        api.remove_manifest("run.cart.shop").await.expect("remove");
    }
    eventually("no service", async || services().await.filter(|services| services.is_empty())).await;
    for name in ["..", "a%2Fb", "A"] {
        let error = api.put_manifest(name, CART).await.expect_err(name).to_string();
        assert!(error.contains("400"), "{error}");
    }
    let long = "#".repeat((1 << 20) + 1);
    assert!(api.put_manifest("long", &long).await.expect_err("too long").to_string().contains("413"));
    plane.stop().await;
}
