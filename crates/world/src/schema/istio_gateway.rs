//! Gateway of `networking.istio.io`.

use super::head;
use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{HostPattern, ListenerProtocol, Selector, Str};

/// Gateway.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct GatewaySpec {
    pub(crate) selector: Selector,
    pub(crate) servers: Vec<ServerSpec>,
}

/// One entry of `servers`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ServerSpec {
    pub(crate) span: Span,
    pub(crate) name: Str,
    pub(crate) port: At<u16>,
    pub(crate) protocol: ListenerProtocol,
    pub(crate) hosts: Vec<ServerHost>,
    pub(crate) tls: Option<ServerTls>,
}

/// One of `hosts`: for the VirtualServices of one namespace, or of any.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ServerHost {
    /// `.` stands for the namespace of the Gateway.
    pub(crate) namespace: Option<Str>,
    pub(crate) pattern: HostPattern,
}

/// `tls` of a server that ends TLS.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ServerTls {
    pub(crate) credentials: Vec<At<Str>>,
    pub(crate) mutual: bool,
}

pub(crate) fn gateway(node: &Node, reader: &Reader) -> Option<GatewaySpec> {
    let fields = reader.fields(node, &["selector", "servers"], &[])?;
    let selector = Selector::new(fields.labels("selector"));
    if selector.is_empty() {
        reader.push(
            Draft::error(head(&fields), "a Gateway needs `selector`")
                .expected("the labels of the gateway's workloads, such as `istio: ingressgateway`"),
        );
    }
    fields.need("servers");
    let servers = fields.list("servers").iter().filter_map(|item| server(item, reader)).collect();
    Some(GatewaySpec { selector, servers })
}

#[derive(Clone, Copy, PartialEq)]
enum Spoken {
    Http,
    Https,
    Other,
}

fn server(node: &Node, reader: &Reader) -> Option<ServerSpec> {
    let fields = reader.fields(node, &["port", "hosts", "tls", "name"], &["bind", "defaultEndpoint"])?;
    fields.need("port")?;
    let port = fields.fields("port", &["number", "protocol", "name"], &["targetPort"])?;
    port.need("number")?;
    let number = port.port("number")?;
    let protocol = port.need_text("protocol")?;
    let upper = At { value: Str::from(protocol.to_ascii_uppercase()), span: protocol.span };
    let spoken = reader.choice(
        &upper,
        &[
            ("HTTP", Spoken::Http),
            ("HTTPS", Spoken::Https),
            ("HTTP2", Spoken::Http),
            ("GRPC", Spoken::Http),
            ("GRPC-WEB", Spoken::Http),
            ("TCP", Spoken::Other),
            ("TLS", Spoken::Other),
            ("MONGO", Spoken::Other),
        ],
    )?;
    let name = fields.text("name").or_else(|| port.text("name")).map(|text| text.value).unwrap_or_default();
    if fields.need("hosts").is_some() && fields.list("hosts").is_empty() {
        reader.error(fields.key_span("hosts"), "`hosts` is empty");
    }
    let hosts = fields.texts("hosts").iter().filter_map(|text| server_host(text, reader)).collect();
    let protocol = match spoken.value {
        Spoken::Http => ListenerProtocol::Http,
        Spoken::Https => ListenerProtocol::Https,
        Spoken::Other => {
            reader.unsupported(
                spoken.span,
                format!("servers that speak {} are not enforced yet", upper.as_str()),
            );
            return None;
        }
    };
    let tls = match protocol {
        ListenerProtocol::Https => {
            fields.need("tls")?;
            Some(server_tls(&fields)?)
        }
        _ => {
            // `httpsRedirect` is what stands here.
            fields.unsupported("tls");
            None
        }
    };
    Some(ServerSpec { span: head(&fields), name, port: number, protocol, hosts, tls })
}

fn server_host(text: &At<Str>, reader: &Reader) -> Option<ServerHost> {
    let (namespace, host) = match text.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, text.as_str()),
    };
    let pattern = reader.parse(&At { value: host.into(), span: text.span }, HostPattern::parse)?;
    Some(ServerHost { namespace: namespace.filter(|name| *name != "*").map(Str::from), pattern })
}

/// None where TLS does not end here.
fn server_tls(fields: &Fields<'_>) -> Option<ServerTls> {
    let reader = fields.reader;
    let tls = fields.fields(
        "tls",
        &["mode", "credentialName", "credentialNames"],
        &[
            "httpsRedirect",
            "serverCertificate",
            "privateKey",
            "caCertificates",
            "caCrl",
            "subjectAltNames",
            "verifyCertificateSpki",
            "verifyCertificateHash",
            "minProtocolVersion",
            "maxProtocolVersion",
            "cipherSuites",
            "caCertCredentialName",
            "tlsCertificates",
            "insecureSkipVerify",
        ],
    )?;
    #[derive(Clone, Copy)]
    enum Mode {
        Simple,
        Mutual,
        Other,
    }
    let mode = tls.choice(
        "mode",
        &[
            ("SIMPLE", Mode::Simple),
            ("MUTUAL", Mode::Mutual),
            ("PASSTHROUGH", Mode::Other),
            ("AUTO_PASSTHROUGH", Mode::Other),
            ("ISTIO_MUTUAL", Mode::Other),
            ("OPTIONAL_MUTUAL", Mode::Other),
        ],
    );
    let mutual = match &mode {
        Some(At { value: Mode::Mutual, .. }) => true,
        Some(At { value: Mode::Simple, .. }) => false,
        None if tls.has("mode") => return None,
        // The first value of the enum is PASSTHROUGH, which is what no mode means.
        other => {
            let span = other.as_ref().map_or_else(|| tls.first_line(), |mode| mode.span);
            reader.unsupported(span, "only the modes SIMPLE and MUTUAL are enforced yet");
            return None;
        }
    };
    let mut credentials = tls.texts("credentialNames");
    credentials.extend(tls.text("credentialName"));
    if credentials.is_empty() && tls.node.get("serverCertificate").is_none_or(|node| node.as_text().is_none())
    {
        reader.push(
            Draft::error(head(&tls), "TLS needs a certificate")
                .expected("`credentialName`, the name of a Secret"),
        );
    }
    Some(ServerTls { credentials, mutual })
}
