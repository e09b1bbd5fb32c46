//! Core kinds: Service and Secret.

use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use base64::Engine as _;
use lateen_model::{AppProtocol, Namespace, Selector, Str, TargetPort, Visibility};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) const SERVICE_ACCOUNT: &[&str] =
    &["apiVersion", "kind", "metadata", "secrets", "imagePullSecrets"];

/// A Service.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ServiceSpec {
    pub(crate) selector: Option<At<Selector>>,
    pub(crate) addresses: Addresses,
    pub(crate) ports: Vec<PortSpec>,
    pub(crate) external_name: Option<At<Str>>,
    pub(crate) publish_not_ready: bool,
    pub(crate) visibility: Option<Visibility>,
}

/// Where a Service's virtual addresses come from.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Addresses {
    Allocate,
    Headless,
    Given(Vec<At<IpAddr>>),
}

/// A port of a Service or ServiceEntry.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct PortSpec {
    pub(crate) number: At<u16>,
    pub(crate) name: Str,
    pub(crate) protocol: AppProtocol,
    pub(crate) target: TargetPort,
}

pub(crate) fn service(node: &Node, annotations: &BTreeMap<Str, Str>, reader: &Reader) -> Option<ServiceSpec> {
    let fields = reader.fields(
        node,
        &[
            "selector",
            "clusterIP",
            "clusterIPs",
            "ports",
            "type",
            "externalName",
            "publishNotReadyAddresses",
            "sessionAffinity",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
            "externalTrafficPolicy",
        ],
        &[
            "externalIPs",
            "loadBalancerIP",
            "loadBalancerSourceRanges",
            "loadBalancerClass",
            "allocateLoadBalancerNodePorts",
            "healthCheckNodePort",
            "sessionAffinityConfig",
            "trafficDistribution",
        ],
    )?;
    #[derive(Clone, Copy, PartialEq)]
    enum Type {
        Cluster,
        Outside,
        Name,
    }
    let kinds = [
        ("ClusterIP", Type::Cluster),
        ("NodePort", Type::Outside),
        ("LoadBalancer", Type::Outside),
        ("ExternalName", Type::Name),
    ];
    let kind = fields.choice("type", &kinds);
    if kind.as_ref().is_some_and(|kind| kind.value == Type::Outside) {
        let message = "no port is opened outside of the mesh for a Service; use a Gateway";
        reader.unsupported(fields.key_span("type"), message);
    }
    if fields.choice("sessionAffinity", &[("None", false), ("ClientIP", true)]).is_some_and(|on| on.value) {
        fields.unsupported("sessionAffinity");
    }
    for (name, usual) in [("internalTrafficPolicy", "Cluster"), ("externalTrafficPolicy", "Cluster")] {
        if fields.choice(name, &[("Cluster", false), ("Local", true)]).is_some_and(|local| local.value) {
            reader.unsupported(fields.key_span(name), format!("only `{usual}` is enforced"));
        }
    }
    let external_name = match kind {
        Some(At { value: Type::Name, .. }) => Some(fields.need_text("externalName")?),
        _ => None,
    };
    let selector = fields
        .get("selector")
        .map(|node| At { value: Selector::new(reader.labels(node)), span: fields.key_span("selector") });
    let ports: Vec<_> = fields
        .each("ports", &["name", "port", "targetPort", "protocol", "appProtocol"], &["nodePort"])
        .filter_map(|port| service_port(&port))
        .collect();
    unique(&ports, reader);
    if ports.is_empty() && external_name.is_none() && !is_headless(&fields) {
        reader.error(fields.first_line(), "a service needs at least one port in `ports`");
    }
    Some(ServiceSpec {
        selector,
        addresses: addresses(&fields),
        ports,
        external_name,
        publish_not_ready: fields.boolean("publishNotReadyAddresses").unwrap_or(false),
        visibility: annotations.get("networking.istio.io/exportTo").map(|text| export_annotation(text)),
    })
}

/// `networking.istio.io/exportTo`: a list with commas. The own namespace is put in later for `.`.
fn export_annotation(text: &str) -> Visibility {
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    if names.contains(&"*") {
        return Visibility::Public;
    }
    Visibility::Only(names.iter().filter_map(|name| Namespace::parse(name).ok()).collect())
}

fn is_headless(fields: &Fields<'_>) -> bool {
    fields.get("clusterIP").and_then(Node::as_text) == Some("None")
}

fn addresses(fields: &Fields<'_>) -> Addresses {
    if is_headless(fields) {
        return Addresses::Headless;
    }
    let mut given = Vec::new();
    let texts = match fields.texts("clusterIPs") {
        texts if texts.is_empty() => fields.text("clusterIP").into_iter().collect(),
        texts => texts,
    };
    for text in texts {
        match text.parse::<IpAddr>() {
            Ok(value) => given.push(At { value, span: text.span }),
            Err(_) if text.is_empty() => {}
            Err(_) if text.as_str() == "None" => return Addresses::Headless,
            Err(_) => fields.reader.push(
                Draft::error(text.span, format!("{:?} is no IP address", text.as_str()))
                    .expected("an address, or `None` for a headless service"),
            ),
        }
    }
    if given.is_empty() { Addresses::Allocate } else { Addresses::Given(given) }
}

fn service_port(port: &Fields<'_>) -> Option<PortSpec> {
    port.need("port")?;
    let number = port.port("port")?;
    let name = port.text("name").map(|text| text.value).unwrap_or_default();
    let transport = [("TCP", false), ("UDP", true), ("SCTP", true)];
    let udp = port.choice("protocol", &transport).is_some_and(|udp| udp.value);
    let protocol = match (udp, port.text("appProtocol")) {
        (true, _) => AppProtocol::Udp,
        (false, Some(word)) => protocol_word(&word),
        (false, None) => protocol_of_name(&name),
    };
    let target = target_port(port, number.value);
    Some(PortSpec { number, name, protocol, target })
}

/// `targetPort`, a number or a name; without one the port itself.
pub(crate) fn target_port(port: &Fields<'_>, number: u16) -> TargetPort {
    match port.get("targetPort") {
        None => TargetPort::Number(number),
        Some(node) => match node.as_text() {
            Some(name) => name.parse().map_or_else(|_| TargetPort::Name(name.into()), TargetPort::Number),
            None => TargetPort::Number(port.reader.port(node).map_or(number, |port| port.value)),
        },
    }
}

/// Two ports with one number or one name cannot be told apart.
pub(crate) fn unique(ports: &[PortSpec], reader: &Reader) {
    for (index, port) in ports.iter().enumerate() {
        let before = &ports[..index];
        if before.iter().any(|other| {
            other.number.value == port.number.value && other.protocol_kind() == port.protocol_kind()
        }) {
            reader.error(port.number.span, format!("port {} is there already", port.number.value));
        } else if !port.name.is_empty() && before.iter().any(|other| other.name == port.name) {
            reader.error(port.number.span, format!("a port named {:?} is there already", port.name));
        }
    }
}

impl PortSpec {
    fn protocol_kind(&self) -> bool {
        self.protocol == AppProtocol::Udp
    }
}

/// `appProtocol`, or the word before the first dash of a port's name.
pub(crate) fn protocol_word(word: &str) -> AppProtocol {
    match word.to_ascii_lowercase().as_str() {
        "http" | "http1" | "kubernetes.io/ws" => AppProtocol::Http1,
        "http2" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "grpc" | "grpc-web" => AppProtocol::Grpc,
        "https" | "tls" | "kubernetes.io/wss" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        "udp" => AppProtocol::Udp,
        _ => AppProtocol::Detect,
    }
}

/// `http-web` speaks HTTP: the part before the first dash is the protocol.
pub(crate) fn protocol_of_name(name: &str) -> AppProtocol {
    match name {
        name if name == "grpc-web" || name.starts_with("grpc-web-") => AppProtocol::Grpc,
        name => protocol_word(name.split('-').next().unwrap_or_default()),
    }
}

/// A Secret with a certificate; others have none.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SecretSpec {
    pub(crate) tls: Option<TlsSecret>,
}

/// The parts of a Secret that a listener needs.
#[derive(Clone, PartialEq)]
pub(crate) struct TlsSecret {
    pub(crate) certificate_chain: Str,
    pub(crate) private_key: lateen_model::Secret,
    pub(crate) client_roots: Option<Str>,
}

impl std::fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsSecret(..)")
    }
}

pub(crate) fn secret(root: &Node, reader: &Reader) -> Option<SecretSpec> {
    let fields = reader.fields(
        root,
        &["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"],
        &[],
    )?;
    let kind = fields.text("type").map(|text| text.value).unwrap_or_default();
    let mut entries: BTreeMap<Str, (String, Span)> = BTreeMap::new();
    for (name, value) in fields.get("data").map(|node| reader.pairs(node)).unwrap_or_default() {
        let compact: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(compact);
        match bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => {
                entries.insert(name, (text, value.span));
            }
            // Other entries of other secrets may be any bytes.
            None if !matches!(
                name.as_str(),
                "tls.crt" | "tls.key" | "ca.crt" | "cert" | "key" | "cacert"
            ) => {}
            None => reader.push(
                Draft::error(hidden(value.span), format!("`{name}` is not base64 of PEM text"))
                    .expected("base64, or plain text under `stringData`"),
            ),
        }
    }
    for (name, value) in fields.get("stringData").map(|node| reader.pairs(node)).unwrap_or_default() {
        entries.insert(name, (value.value.to_string(), value.span));
    }
    let mut pem = |names: [&str; 2]| {
        names.into_iter().find_map(|name| {
            let (text, span) = entries.remove(name)?;
            if !text.contains("-----BEGIN ") {
                reader.error(hidden(span), format!("`{name}` holds no PEM block"));
            }
            Some(text)
        })
    };
    let (certificate, key, roots) =
        (pem(["tls.crt", "cert"]), pem(["tls.key", "key"]), pem(["ca.crt", "cacert"]));
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsSecret {
            certificate_chain: certificate.into(),
            private_key: lateen_model::Secret::new(key),
            client_roots: roots.map(Str::from),
        }),
        _ => {
            if kind == "kubernetes.io/tls" {
                reader.error(
                    fields.first_line(),
                    "a Secret of type kubernetes.io/tls needs tls.crt and tls.key",
                );
            }
            None
        }
    };
    Some(SecretSpec { tls })
}

/// The place without its text: what stands in a Secret is shown nowhere.
fn hidden(span: Span) -> Span {
    Span { end: span.start, ..span }
}
