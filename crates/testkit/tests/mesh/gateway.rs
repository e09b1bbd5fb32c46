//! What enters from outside.

use lateen_testkit::{CertificateAuthority, Mesh};

use crate::objects::{STRICT, server};

fn gateway(listeners: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: shop, namespace: default}}
spec:
  gatewayClassName: lateen
  listeners:
{listeners}
"
    )
}

fn listener(host: &str, secret: &str) -> String {
    format!(
        "  - {{name: {secret}, port: 443, protocol: HTTPS, hostname: {host}, tls: {{certificateRefs: [{{name: {secret}}}]}}}}\n"
    )
}

fn http_route(name: &str, host: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: default}}
spec:
  parentRefs: [{{name: shop}}]
  hostnames: [{host}]
  rules: [{{backendRefs: [{{name: {name}, port: 80}}]}}]
"
    )
}

#[tokio::test]
async fn a_gateway_ends_tls_by_server_name_and_goes_on_with_mtls() {
    let authority = CertificateAuthority::new();
    let objects = server("cart")
        + &server("till")
        + STRICT
        + &gateway(&(listener("cart.example", "for-cart") + &listener("till.example", "for-till")))
        + &authority.certify("cart.example").secret("default", "for-cart", None)
        + &authority.certify("till.example").secret("default", "for-till", None)
        + &http_route("cart", "cart.example")
        + &http_route("till", "till.example");
    let mesh = Mesh::from_yaml(&objects).await;
    for name in ["cart", "till"] {
        let request =
            mesh.enter("shop-lateen", 443, &format!("GET https://{name}.example/")).trusting(&authority);
        let answer = request.await;
        assert_eq!((answer.status, answer.app()), (200, &*format!("{name}-0")), "{answer:?}");
        let shown = answer.saw("x-forwarded-client-cert").expect("the gateway's identity");
        assert!(shown.contains("URI=spiffe://cluster.local/ns/default/sa/shop-lateen"), "{shown}");
        assert_eq!(answer.saw("x-forwarded-proto"), Some("https"));
    }
}
