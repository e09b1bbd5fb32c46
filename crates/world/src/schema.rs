//! One reader per kind: a mapping to a typed spec. Every field of the API is named here, either as
//! enforced or as known; any other is a misspelt one.

pub(crate) mod core;
pub(crate) mod destination_rule;
pub(crate) mod entries;
pub(crate) mod gateway_api;
pub(crate) mod grpc_route;
pub(crate) mod headers;
pub(crate) mod http_route;
pub(crate) mod istio_gateway;
pub(crate) mod lateen;
pub(crate) mod limits;
pub(crate) mod security;
mod traffic_policy;
pub(crate) mod virtual_service;

use crate::ObjectKind;
use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{Labels, Namespace, RateLimit, RequestLimit, Selector, Str, Visibility};

/// What an object says, typed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Spec {
    Mesh(lateen::MeshSpec),
    Process(Box<lateen::ProcessSpec>),
    Service(core::ServiceSpec),
    Secret(core::SecretSpec),
    IstioGateway(istio_gateway::GatewaySpec),
    VirtualService(virtual_service::VirtualServiceSpec),
    DestinationRule(Box<destination_rule::DestinationRuleSpec>),
    ServiceEntry(Box<entries::ServiceEntrySpec>),
    WorkloadEntry(entries::EndpointSpec),
    GatewayClass(gateway_api::GatewayClassSpec),
    Gateway(gateway_api::GatewaySpec),
    HttpRoute(http_route::RouteSpec),
    GrpcRoute(http_route::RouteSpec),
    ReferenceGrant(gateway_api::ReferenceGrantSpec),
    PeerAuthentication(security::PeerAuthenticationSpec),
    Authorization(security::AuthorizationSpec),
    RequestAuthentication(security::RequestAuthenticationSpec),
    RateLimit(limits::LimitSpec<RateLimit>),
    RequestLimit(limits::LimitSpec<RequestLimit>),
    /// Nothing is read of it but its name and labels.
    Bare,
}

/// Reads the spec of an object of this kind. What cannot be read is told to the reader; security kinds
/// give a spec even so, since what they select must be known.
pub(crate) fn read(
    kind: ObjectKind,
    root: &Node,
    namespace: &Namespace,
    labels: &Labels,
    annotations: &std::collections::BTreeMap<Str, Str>,
    reader: &Reader,
) -> Option<Spec> {
    use ObjectKind as K;
    if matches!(kind, K::Other(_)) {
        return Some(Spec::Bare);
    }
    match kind {
        K::Secret => return core::secret(root, reader).map(Spec::Secret),
        K::ServiceAccount => {
            return reader
                .fields(root, core::SERVICE_ACCOUNT, &["automountServiceAccountToken"])
                .map(|_| Spec::Bare);
        }
        K::Namespace => {
            return reader
                .fields(root, &["apiVersion", "kind", "metadata", "spec", "status"], &[])
                .map(|_| Spec::Bare);
        }
        _ => {}
    }
    let top = reader.fields(root, &["apiVersion", "kind", "metadata", "spec", "status"], &[])?;
    let empty = Node { span: top.first_line(), value: crate::yaml::Value::Map(Vec::new()) };
    let node = top.get("spec").unwrap_or(&empty);
    match kind {
        K::Mesh => lateen::mesh(node, reader).map(Spec::Mesh),
        K::Process => lateen::process(node, labels, reader).map(|spec| Spec::Process(Box::new(spec))),
        K::Service => core::service(node, annotations, reader).map(Spec::Service),
        K::IstioGateway => istio_gateway::gateway(node, reader).map(Spec::IstioGateway),
        K::VirtualService => virtual_service::virtual_service(node, reader).map(Spec::VirtualService),
        K::DestinationRule => {
            destination_rule::destination_rule(node, reader).map(Box::new).map(Spec::DestinationRule)
        }
        K::ServiceEntry => {
            entries::service_entry(node, reader).map(|spec| Spec::ServiceEntry(Box::new(spec)))
        }
        K::WorkloadEntry => entries::endpoint(node, reader).map(Spec::WorkloadEntry),
        K::GatewayClass => gateway_api::gateway_class(node, reader).map(Spec::GatewayClass),
        K::Gateway => gateway_api::gateway(node, reader).map(Spec::Gateway),
        K::HttpRoute => http_route::http_route(node, reader).map(Spec::HttpRoute),
        K::GrpcRoute => grpc_route::grpc_route(node, reader).map(Spec::GrpcRoute),
        K::ReferenceGrant => gateway_api::reference_grant(node, reader).map(Spec::ReferenceGrant),
        K::PeerAuthentication => Some(Spec::PeerAuthentication(security::peer_authentication(node, reader))),
        K::AuthorizationPolicy => Some(Spec::Authorization(security::authorization(node, namespace, reader))),
        K::RequestAuthentication => {
            Some(Spec::RequestAuthentication(security::request_authentication(node, reader)))
        }
        K::RateLimitPolicy => limits::rate_limit(node, reader).map(Spec::RateLimit),
        K::RequestLimitPolicy => limits::request_limit(node, reader).map(Spec::RequestLimit),
        K::Namespace | K::ServiceAccount | K::Secret | K::Other(_) => None,
    }
}

/// `exportTo`: nothing is everybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExportTo(pub(crate) Vec<At<Str>>);

impl ExportTo {
    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        let list = fields.texts("exportTo");
        for item in &list {
            let text = item.as_str();
            if !matches!(text, "*" | "." | "~") && Namespace::parse(text).is_err() {
                fields.reader.push(
                    Draft::error(item.span, format!("{text:?} is no namespace"))
                        .expected("`.`, `*`, `~` or the name of a namespace"),
                );
            }
        }
        Self(list)
    }

    /// Who sees an object of this namespace.
    pub(crate) fn visibility(&self, own: &Namespace) -> Visibility {
        if self.0.is_empty() || self.0.iter().any(|item| item.as_str() == "*") {
            return Visibility::Public;
        }
        let mut namespaces: Vec<Namespace> = self
            .0
            .iter()
            .filter_map(|item| match item.as_str() {
                "." => Some(own.clone()),
                "~" => None,
                name => Namespace::parse(name).ok(),
            })
            .collect();
        namespaces.sort();
        namespaces.dedup();
        Visibility::Only(namespaces)
    }
}

/// The `matchLabels` of Istio's WorkloadSelector, or its `labels` where the field is so named.
pub(crate) fn selector(
    fields: &Fields<'_>,
    name: &str,
    inner: &'static [&'static str],
) -> Option<At<Selector>> {
    let node = fields.get(name)?;
    let below = fields.reader.fields(node, inner, &[])?;
    let labels = below.labels(inner[0]);
    Some(At { value: Selector::new(labels), span: fields.key_span(name) })
}

impl Spec {
    /// The selector of workloads of a policy.
    pub(crate) fn policy_selector(&self) -> Option<&At<Selector>> {
        let attachment = match self {
            Self::PeerAuthentication(spec) => &spec.attachment,
            Self::Authorization(spec) => &spec.attachment,
            Self::RequestAuthentication(spec) => &spec.attachment,
            Self::RateLimit(spec) => &spec.attachment,
            Self::RequestLimit(spec) => &spec.attachment,
            _ => return None,
        };
        attachment.selector.as_ref()
    }
}

/// A reference to an object of some group and kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ObjectRef {
    pub(crate) group: Str,
    pub(crate) kind: Str,
    pub(crate) namespace: Option<At<Namespace>>,
    pub(crate) name: At<Str>,
}

impl ObjectRef {
    /// Reads `group`, `kind`, `namespace`, `name` of a mapping.
    pub(crate) fn read(fields: &Fields<'_>, group: &str, kind: &str) -> Option<Self> {
        let name = fields.need_text("name")?;
        Some(Self {
            group: fields.text("group").map_or_else(|| group.into(), |text| text.value),
            kind: fields.text("kind").map_or_else(|| kind.into(), |text| text.value),
            namespace: fields.parsed("namespace", Namespace::parse),
            name,
        })
    }
}

/// The span of a list item that has no better one.
pub(crate) fn head(fields: &Fields<'_>) -> Span {
    fields.first_line()
}
