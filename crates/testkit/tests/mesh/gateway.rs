//! What enters from outside.

use lateen_testkit::{Certificate, CertificateAuthority, Mesh};

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

/// Istio's way to the same: servers with modes.
fn servers(servers: &[(&str, &str, &str)]) -> String {
    let server = |(host, secret, mode): &(&str, &str, &str)| {
        format!(
            "  - port: {{number: 443, name: https-{secret}, protocol: HTTPS}}
    hosts: ['{host}']
    tls: {{mode: {mode}, credentialName: {secret}}}
"
        )
    };
    let servers: String = servers.iter().map(server).collect();
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
{servers}"
    )
}

fn virtual_service(name: &str, host: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: ['{host}']
  gateways: [istio-system/edge]
  http: [{{route: [{{destination: {{host: {name}}}}}]}}]
"
    )
}

/// A bank that wants its clients known, a shop that takes everybody, and a host whose Secret is missing, on one port.
struct Edge {
    mesh: Mesh,
    authority: CertificateAuthority,
    customer: Certificate,
}

impl Edge {
    async fn start() -> Self {
        let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
        let listeners = [
            ("bank.example", "for-bank", "MUTUAL"),
            ("shop.example", "for-shop", "SIMPLE"),
            ("lost.example", "for-lost", "SIMPLE"),
            ("*.wide.example", "for-wide", "SIMPLE"),
        ];
        let secret =
            |host: &str, name: &str, clients| authority.certify(host).secret("istio-system", name, clients);
        let objects = server("bank")
            + &server("shop")
            + &servers(&listeners)
            + &secret("bank.example", "for-bank", Some(&clients))
            + &secret("shop.example", "for-shop", Some(&authority))
            + &secret("*.wide.example", "for-wide", None)
            + &virtual_service("bank", "bank.example")
            + &virtual_service("shop", "*");
        let customer = clients.certify("customer");
        Self { mesh: Mesh::from_yaml(&objects).await, authority, customer }
    }

    fn ask(&self, what: &str) -> lateen_testkit::Request {
        self.mesh.enter("istio-ingressgateway", 443, what).trusting(&self.authority)
    }
}

#[tokio::test]
async fn each_host_of_a_port_has_its_own_certificate_and_its_own_clients() {
    let edge = Edge::start().await;
    let answer = edge.ask("GET https://shop.example/").await;
    assert_eq!((answer.status, answer.app()), (200, "shop-0"), "nobody is asked for a certificate here");
    let answer = edge.ask("GET https://bank.example/").showing(&edge.customer).await;
    assert_eq!((answer.status, answer.app()), (200, "bank-0"), "{answer:?}");
    assert!(edge.ask("GET https://bank.example/").attempt().await.is_err(), "shows no certificate");
    // The authority that vouches for clients of the shop says nothing to the bank.
    let stranger = edge.authority.certify("customer");
    assert!(edge.ask("GET https://bank.example/").showing(&stranger).attempt().await.is_err());
    let refused = edge.mesh.log("istio-ingressgateway", |line| line["protocol"] == "TCP").await;
    let why = refused["upstream_transport_failure_reason"].as_str().unwrap_or_default();
    assert!(why.contains("TLS from 127.0.0.1"), "{refused}");
}

#[tokio::test]
async fn a_host_without_a_certificate_refuses_rather_than_show_another() {
    let edge = Edge::start().await;
    for name in [Some("lost.example"), Some("nobody.example"), Some("wide.example"), None] {
        let asked = edge.ask("GET https://shop.example/").server_name(name).attempt().await;
        assert!(asked.is_err(), "{name:?}: {asked:?}");
    }
    assert_eq!(edge.ask("GET https://a.wide.example/").await.status, 200);
    assert_eq!(edge.mesh.requests("shop"), 1);
}

#[tokio::test]
async fn a_request_for_another_host_than_the_one_of_its_tls_is_misdirected() {
    let edge = Edge::start().await;
    // Else whoever may enter the shop could ask the bank without being known.
    let answer = edge.ask("GET https://bank.example/").server_name(Some("shop.example")).await;
    assert_eq!((answer.status, answer.app()), (421, ""), "{answer:?}");
    let line = edge.mesh.log("istio-ingressgateway", |line| line["response_code"] == 421).await;
    assert_eq!(line["response_code_details"], "misdirected_request");
    assert_eq!(line["requested_server_name"], "shop.example");
    let answer = edge.ask("GET https://b.wide.example/").server_name(Some("a.wide.example")).await;
    assert_eq!(answer.status, 200, "one listener, one certificate: {answer:?}");
    assert_eq!(edge.mesh.requests("bank"), 0);
}
