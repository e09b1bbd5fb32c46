//! Who is who, and who may.

use lateen_testkit::Mesh;

use crate::objects::{STRICT, client, policy, process, server, service};

#[tokio::test]
async fn two_workloads_speak_mtls_and_know_each_other() {
    let mesh = Mesh::from_yaml(&(client("client") + &server("cart"))).await;
    let request = mesh.request("client", "GET http://cart/items");
    let answer =
        request.header("x-forwarded-client-cert", "By=forged").header("x-lateen-peer", "forged").await;
    assert_eq!((answer.status, answer.app()), (200, "cart-0"), "{answer:?}");
    let shown = answer.saw("x-forwarded-client-cert").expect("an identity");
    assert!(shown.starts_with("By=spiffe://cluster.local/ns/default/sa/cart;Hash="), "{shown}");
    assert!(shown.ends_with(";URI=spiffe://cluster.local/ns/default/sa/client"), "{shown}");
    assert!(!answer.body.contains("forged"), "{}", answer.body);

    let at_server = mesh.log("cart", |line| line["path"] == "/items").await;
    assert_eq!(at_server["connection_security_policy"], "mutual_tls");
    assert_eq!(at_server["source_principal"], "spiffe://cluster.local/ns/default/sa/client");
    let at_client = mesh.log("client", |line| line["path"] == "/items").await;
    assert_eq!(at_client["destination_principal"], "spiffe://cluster.local/ns/default/sa/cart");
    assert_eq!(at_client["destination_workload"], "cart-0");
}

#[tokio::test]
async fn strict_refuses_plaintext_and_permissive_takes_it_without_an_identity() {
    let mesh = Mesh::from_yaml(&(client("client") + &server("cart"))).await;
    let stranger =
        || mesh.plaintext("cart", "GET http://cart/").header("x-forwarded-client-cert", "URI=forged");
    let answer = stranger().await;
    assert_eq!((answer.status, answer.saw("x-forwarded-client-cert")), (200, None), "{answer:?}");
    mesh.edit("strict.yaml", STRICT).await;
    assert!(stranger().attempt().await.is_err(), "closed without an answer");
    let refused = mesh.log("cart", |line| line["protocol"] == "TCP").await;
    assert_eq!(refused["response_code_details"], "plaintext_refused_mtls_required", "{refused}");
    assert_eq!(mesh.request("client", "GET http://cart/").await.status, 200);
}

#[tokio::test]
async fn policies_allow_and_deny_by_identity_and_the_log_names_them() {
    let objects = client("front") + &client("back") + &server("cart");
    let mesh = Mesh::from_yaml(&objects).await;
    let front = "{principals: [cluster.local/ns/default/sa/front]}";
    let allow = policy("front-only", "cart", &format!("rules: [{{from: [{{source: {front}}}]}}]"));
    mesh.edit("policy.yaml", &allow).await;
    assert_eq!(mesh.request("front", "GET http://cart/").await.status, 200);
    assert_eq!(mesh.request("back", "GET http://cart/").await.status, 403);
    // Not allowed by any policy: no one of them is to be named.
    let line = mesh.log("cart", |line| line["response_code"] == 403).await;
    assert_eq!(line["source_principal"], "spiffe://cluster.local/ns/default/sa/back");
    assert_eq!(line["response_code_details"], "rbac_access_denied_matched_policy[none]", "{line}");

    let deny = policy("no-writes", "cart", "{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}");
    let deny =
        deny.replace("  {action: DENY, rules: ", "  action: DENY\n  rules: ").replace("]}}]}]}", "]}}]}]");
    mesh.edit("deny.yaml", &deny).await;
    assert_eq!(mesh.request("front", "GET http://cart/").await.status, 200);
    let refused = mesh.request("front", "PUT http://cart/").await;
    assert_eq!((refused.status, &*refused.body), (403, "RBAC: access denied"));
    let line = mesh.log("cart", |line| line["method"] == "PUT").await;
    assert_eq!(line["policy"], "default/no-writes", "{line}");
}

#[tokio::test]
async fn a_path_that_is_written_in_another_way_meets_the_same_policy() {
    let objects = client("client") + &server("cart");
    let deny =
        policy("no-admin", "cart", "action: DENY\n  rules: [{to: [{operation: {paths: [/admin/*]}}]}]");
    let mesh = Mesh::from_yaml(&(objects + &deny)).await;
    for path in [
        "/admin/x",
        "//admin/x",
        "/admin%2Fx",
        "/a%2f..%2fadmin/x",
        "/a/../admin/x",
        "/./admin/x",
        "/%61dmin/x",
        "/a/%2e%2e/admin/x",
        "/admin/./x?y",
        "\\admin\\x",
        "/a\\..\\admin/x",
        "/admin//x",
    ] {
        let answer = mesh.request("client", &format!("GET http://cart{path}")).await;
        assert_ne!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(mesh.request("client", "GET http://cart/public").await.status, 200);
    assert_eq!(mesh.requests("cart"), 1);
}

#[tokio::test]
async fn objects_of_the_same_name_in_two_namespaces_do_not_meet() {
    let space = |namespace: &str| {
        let caller = process("client", namespace, 1, "");
        let server = process("cart", namespace, 1, "ports: [{name: http, port: 80}]");
        caller + &server + &service("cart", namespace, "app: cart", "http")
    };
    let mesh = Mesh::from_yaml(&(space("red") + &space("blue"))).await;
    let deny = policy("nobody", "cart", "action: DENY\n  rules: [{}]")
        .replace("namespace: default", "namespace: red");
    mesh.edit("deny.yaml", &deny).await;
    for (caller, host, status) in [
        ("client-0.red", "cart", 403),
        ("client-0.blue", "cart", 200),
        ("client-0.blue", "cart.red", 403),
        ("client-0.red", "cart.blue.svc.cluster.local", 200),
    ] {
        let answer = mesh.request(caller, &format!("GET http://{host}/")).await;
        assert_eq!(answer.status, status, "{caller} asks {host}");
    }
    let line = mesh.log("cart-0.blue", |line| line["response_code"] == 200).await;
    assert_eq!(line["source_principal"], "spiffe://cluster.local/ns/blue/sa/client", "{line}");
}
