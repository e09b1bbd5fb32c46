//! The control plane as proxies see it.

use std::time::Duration;

use lateen_control::api::types::{Instance, Tunnel};
use lateen_model::{Namespace, ProxyRole, Secret};
use lateen_pki::{Current, PrivateKey, csr};
use lateen_wire::certificates::{self, Error};
use tokio::io::AsyncWriteExt;

use crate::common::{Home, eventually};
use crate::proxy::{Bootstrap, Proxy, services};

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const BANK: &str = "spiffe://cluster.local/ns/shop/sa/bank";

pub(crate) fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{app: {name}}}, ports: [{{name: http, port: {port}}}]}}\n"
    )
}

pub(crate) fn instance(account: &str) -> Instance {
    Instance {
        process: account.to_owned(),
        labels: [("app".to_owned(), account.to_owned())].into(),
        service_account: account.to_owned(),
        addresses: vec!["10.0.0.1".parse().expect("an address")],
        ports: Vec::new(),
        tunnel: Tunnel::Hbone,
        ready: true,
        node: String::new(),
    }
}

#[tokio::test]
async fn a_proxy_joins_and_hears_of_changes() {
    let home = Home::new();
    home.write("cart.yaml", &service("cart", 80));
    let plane = home.start().await;
    let mut proxy = Bootstrap::fetch(&home, CART).await.join("cart-0").await;
    let first = proxy.next().await;
    assert_eq!(services(&first), ["cart.shop.svc.cluster.local"]);
    home.write("bank.yaml", &service("bank", 80));
    let second = proxy.next().await;
    assert_eq!(services(&second), ["bank.shop.svc.cluster.local"]);
    assert!(second.revision > first.revision && second.delta.removed.is_empty());
    std::fs::remove_file(home.path("mesh/cart.yaml")).expect("remove");
    assert_eq!(proxy.next().await.delta.removed.len(), 1);
    let listed = async || {
        let status = home.api().status().await.ok()?;
        status.proxies.into_iter().find(|proxy| proxy.current)
    };
    let listed = eventually("an acknowledgement", listed).await;
    assert_eq!((&*listed.node, &*listed.identity, &*listed.role), ("cart-0.shop", CART, "sidecar"));
    assert!(listed.certificate_expires.is_some() && listed.refused.is_empty());
    drop(proxy);
    eventually("nobody", async || home.api().status().await.ok().filter(|status| status.proxies.is_empty()))
        .await;
    plane.stop().await;
}

#[tokio::test]
async fn a_token_serves_once_and_only_its_identity() {
    let home = Home::new();
    let plane = home.start().await;
    let cart = Bootstrap::fetch(&home, CART).await;
    let refused = async |answer: Result<_, Error>, why: &str| match answer {
        Err(Error::Refused(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("expected a refusal ({why}), got {:?}", other.map(|_: certificates::Obtained| ())),
    };
    refused(cart.obtain(&cart.plane(None)).await, "show a client certificate, or a join token").await;
    let wrong = Secret::new(format!("{}x", cart.token.expose()));
    refused(cart.obtain(&cart.plane_with(&wrong)).await, "not known or has expired").await;
    let plane_with_token = cart.plane_with(&cart.token);
    // Somebody else's name, with the token of cart.
    let request = csr::make(&PrivateKey::generate(), &BANK.parse().expect("an identity"));
    let answer = certificates::ask(&plane_with_token, request, Duration::from_secs(60), None).await;
    assert!(matches!(answer, Err(Error::Refused(ref text)) if text.contains("may only be")), "{answer:?}");
    let cart = Bootstrap::fetch(&home, CART).await;
    let plane_with_token = cart.plane_with(&cart.token);
    let own = Current::new(cart.obtain(&plane_with_token).await.expect("a certificate").certified);
    refused(cart.obtain(&plane_with_token).await, "has been used").await;
    // The certificate renews itself, and nobody else.
    let with_certificate = cart.plane(Some(&own));
    cart.obtain(&with_certificate).await.expect("renewed");
    let bank = Bootstrap { identity: BANK.parse().expect("an identity"), ..cart.clone() };
    refused(bank.obtain(&with_certificate).await, "may only be").await;
    let impersonated = certificates::ask(
        &with_certificate,
        csr::make(&PrivateKey::generate(), &cart.identity),
        Duration::from_secs(60),
        Some(&bank.identity),
    );
    assert!(matches!(impersonated.await, Err(Error::Refused(text)) if text.contains("in the name of")));
    plane.stop().await;
}

#[tokio::test]
async fn a_stream_shows_a_proxy_what_is_its_own() {
    let home = Home::new();
    home.write("cart.yaml", &service("cart", 80));
    let plane = home.start().await;
    let cart = Bootstrap::fetch(&home, CART).await;
    home.api().put_instance("shop", "bank-0", &instance("bank")).await.expect("put");
    // A token opens one stream.
    let mut first = Proxy::follow(cart.plane_with(&cart.token), &cart.claim("cart-0"));
    first.next().await;
    let mut second = Proxy::follow(cart.plane_with(&cart.token), &cart.claim("cart-0"));
    let why = second.refusal().await;
    assert!(why.contains("has been used"), "{why}");
    let own =
        Current::new(cart.obtain(&cart.plane_with(&cart.token)).await.expect("a certificate").certified);
    let refusal = async |claim| Proxy::follow(cart.plane(Some(&own)), &claim).refusal().await;
    let mut claim = cart.claim("cart-0");
    claim.namespace = Namespace::parse("bank").expect("a namespace");
    let why = refusal(claim).await;
    assert!(why.contains("calls itself cart-0.bank"), "{why}");
    let why = refusal(cart.claim("bank-0")).await;
    assert!(why.contains("acts as the account bank"), "{why}");
    let mut claim = cart.claim("cart-0");
    claim.role = ProxyRole::Gateway;
    let why = refusal(claim).await;
    assert!(why.contains("is no gateway"), "{why}");
    plane.stop().await;
}

#[tokio::test]
async fn a_restart_is_a_pause_and_nothing_more() {
    let home = Home::new();
    home.write("cart.yaml", &service("cart", 80));
    home.write("bank.yaml", &service("bank", 80));
    let plane = home.start().await;
    let mut proxy = Bootstrap::fetch(&home, CART).await.join("cart-0").await;
    let first = proxy.next().await;
    assert_eq!(services(&first).len(), 2);
    plane.stop().await;
    // Changed while nobody looked.
    home.write("bank.yaml", &service("bank", 81));
    let plane = home.start().await;
    let again = proxy.next().await;
    assert!(again.revision > first.revision, "{} after {}", again.revision, first.revision);
    assert_eq!(services(&again), ["bank.shop.svc.cluster.local"], "only what changed travels again");
    assert!(again.delta.removed.is_empty());
    plane.stop().await;
}

#[tokio::test]
async fn nobody_is_served_before_all_files_are_read() {
    let home = Home::new();
    std::fs::remove_dir(home.path("mesh")).expect("remove");
    let plane = home.start().await;
    // Whoever knows the roots already may connect, and waits: as after a restart.
    let mut early = tokio::net::UnixStream::connect(home.config().control_socket()).await.expect("connects");
    early.write_all(b"hello").await.expect("is taken");
    std::fs::create_dir(home.path("spare")).expect("make");
    for name in ["a", "b", "c"] {
        std::fs::write(home.path("spare").join(format!("{name}.yaml")), service(name, 80)).expect("write");
    }
    assert!(!home.api().status().await.expect("status").ready);
    std::fs::rename(home.path("spare"), home.path("mesh")).expect("move");
    let mut proxy = Bootstrap::fetch(&home, CART).await.join("cart-0").await;
    assert_eq!(services(&proxy.next().await).len(), 3, "the first state is whole");
    plane.stop().await;
}

#[tokio::test]
async fn hostile_callers_harm_only_themselves() {
    let home = Home::new();
    home.write("cart.yaml", &service("cart", 80));
    let plane = home.start().await;
    let cart = Bootstrap::fetch(&home, CART).await;
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut stream =
            tokio::net::UnixStream::connect(home.config().control_socket()).await.expect("connects");
        if n % 2 == 0 {
            // Some may be cut off while they write.
            let _ = stream.write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]).await;
        }
        silent.push(stream);
    }
    drop(silent.split_off(150));
    let mut proxy = cart.join("cart-0").await;
    assert_eq!(services(&proxy.next().await).len(), 1);
    plane.stop().await;
}

#[tokio::test]
async fn two_hundred_proxies_hear_of_a_change() {
    let home = Home::new();
    home.write("cart.yaml", &service("cart", 80));
    let plane = home.start().await;
    let mut proxies = tokio::task::JoinSet::new();
    // All at once would measure the handshakes of one thread, and how patient their clients are.
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(16));
    for n in 0..200 {
        let place = std::sync::Arc::clone(&places).acquire_owned().await.expect("never closed");
        let cart = Bootstrap::fetch(&home, CART).await;
        proxies.spawn(async move {
            let _place = place;
            let mut proxy = cart.join(&format!("cart-{n}")).await;
            proxy.next().await;
            proxy
        });
    }
    let mut proxies = proxies.join_all().await;
    home.write("bank.yaml", &service("bank", 80));
    for proxy in &mut proxies {
        assert_eq!(services(&proxy.next().await), ["bank.shop.svc.cluster.local"]);
    }
    let all = async || {
        let status = home.api().status().await.ok()?;
        (status.proxies.len() == 200 && status.proxies.iter().all(|proxy| proxy.current)).then_some(())
    };
    eventually("all acknowledgements", all).await;
    plane.stop().await;
}
