//! Where requests go.

use std::collections::BTreeMap;

use lateen_testkit::{Manner, Mesh};

use crate::objects::{client, route, server, servers, split, versions};

/// Which application answered how many of so many requests.
async fn answers(mesh: &Mesh, count: u32, url: &str) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let answer = mesh.request("client", &format!("GET {url}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        *seen.entry(answer.app().to_owned()).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn a_changed_weight_is_in_force_once_it_is_acknowledged() {
    let mesh = Mesh::from_yaml(&(client("client") + &versions("cart") + &split("cart", 100, 0))).await;
    assert_eq!(answers(&mesh, 20, "http://cart/").await, [("cart-v1-0".to_owned(), 20)].into());
    let objects = |first, second| client("client") + &versions("cart") + &split("cart", first, second);
    mesh.edit("mesh.yaml", &objects(50, 50)).await;
    // Not one of the two in 200 requests: once in 2^199 runs.
    let both = answers(&mesh, 200, "http://cart/").await;
    assert_eq!(both.len(), 2, "{both:?}");
    mesh.edit("mesh.yaml", &objects(0, 100)).await;
    assert_eq!(answers(&mesh, 20, "http://cart/").await, [("cart-v2-0".to_owned(), 20)].into());
}

#[tokio::test]
async fn a_header_sends_one_user_to_another_version() {
    let rules = "    - match: [{headers: {end-user: {exact: jason}}}]
      name: for-jason
      route: [{destination: {host: cart, subset: v2}}]
    - route: [{destination: {host: cart, subset: v1}}]";
    let mesh = Mesh::from_yaml(&(client("client") + &versions("cart") + &route("cart", rules))).await;
    let ask = || mesh.request("client", "GET http://cart/");
    assert_eq!(ask().header("end-user", "jason").await.app(), "cart-v2-0");
    assert_eq!(ask().header("end-user", "mary").await.app(), "cart-v1-0");
    assert_eq!(ask().await.app(), "cart-v1-0");
    let line = mesh.log("client", |line| line["destination_workload"] == "cart-v2-0").await;
    assert!(line["route_name"].as_str().is_some_and(|name| name.contains("for-jason")), "{line}");
    assert_eq!(line["response_flags"], "-");
}

#[tokio::test]
async fn a_try_on_a_crashed_application_goes_to_another() {
    let mut mesh = Mesh::from_yaml(&(client("client") + &servers("cart", "default", 2))).await;
    mesh.crash("cart-1").await;
    // Its proxy still answers, and says that the application saw nothing.
    assert_eq!(answers(&mesh, 40, "http://cart/").await, [("cart-0".to_owned(), 40)].into());
    let retried = mesh.log("client", |line| line["attempts"] == 2).await;
    assert_eq!((&retried["response_code"], &retried["response_flags"]), (&200.into(), &"-".into()));
}

#[tokio::test]
async fn a_status_is_retried_as_the_route_says_and_no_more() {
    let rules = "    - route: [{destination: {host: cart}}]
      retries: {attempts: 2, retryOn: \"503\"}";
    let mesh = Mesh::from_yaml(&(client("client") + &server("cart") + &route("cart", rules))).await;
    let ask = || mesh.request("client", "POST http://cart/").body("whole");
    mesh.behave("cart", Manner::Fail { status: 503, times: 2 });
    let answer = ask().await;
    assert_eq!((answer.status, mesh.requests("cart")), (200, 3));
    assert!(answer.body.ends_with("\nwhole"), "the body was sent again: {}", answer.body);
    mesh.behave("cart", Manner::Fail { status: 503, times: 3 });
    assert_eq!((ask().await.status, mesh.requests("cart")), (503, 6));
    mesh.behave("cart", Manner::Fail { status: 500, times: 1 });
    assert_eq!((ask().await.status, mesh.requests("cart")), (500, 7));
}

#[tokio::test]
async fn a_route_waits_so_long_and_a_try_so_long() {
    let rules = "    - match: [{uri: {prefix: /slow}}]
      route: [{destination: {host: cart}}]
      timeout: 150ms
    - route: [{destination: {host: cart}}]
      timeout: 20s
      retries: {attempts: 1, perTryTimeout: 100ms, retryOn: 5xx}";
    let mesh = Mesh::from_yaml(&(client("client") + &server("cart") + &route("cart", rules))).await;
    mesh.behave("cart", Manner::Silent { times: 1 });
    let answer = mesh.request("client", "GET http://cart/slow").await;
    assert_eq!(answer.status, 504, "{answer:?}");
    let line = mesh.log("client", |line| line["path"] == "/slow").await;
    assert_eq!((&line["response_flags"], &line["attempts"]), (&"UT".into(), &1.into()), "{line}");
    // The first try is given up, the second is answered.
    mesh.behave("cart", Manner::Silent { times: 1 });
    assert_eq!(mesh.request("client", "GET http://cart/twice").await.status, 200);
    let line = mesh.log("client", |line| line["path"] == "/twice").await;
    assert_eq!(line["attempts"], 2, "{line}");
    // Both are.
    mesh.behave("cart", Manner::Silent { times: 2 });
    assert_eq!(mesh.request("client", "GET http://cart/never").await.status, 504);
    let line = mesh.log("client", |line| line["path"] == "/never").await;
    assert_eq!((&line["response_flags"], &line["attempts"]), (&"UT,URX".into(), &2.into()), "{line}");
}
