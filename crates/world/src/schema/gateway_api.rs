//! Gateway, GatewayClass and ReferenceGrant of `gateway.networking.k8s.io`.

use super::{ObjectRef, head};
use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{HostPattern, ListenerProtocol, Namespace, Selector, Str};

/// GatewayClass.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct GatewayClassSpec {
    pub(crate) controller: At<Str>,
}

pub(crate) fn gateway_class(node: &Node, reader: &Reader) -> Option<GatewayClassSpec> {
    let fields = reader.fields(node, &["controllerName", "description"], &["parametersRef"])?;
    Some(GatewayClassSpec { controller: fields.need_text("controllerName")? })
}

/// Gateway.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct GatewaySpec {
    pub(crate) class: At<Str>,
    pub(crate) listeners: Vec<ListenerSpec>,
}

/// One entry of `listeners`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ListenerSpec {
    pub(crate) span: Span,
    pub(crate) name: At<Str>,
    pub(crate) port: At<u16>,
    pub(crate) protocol: ListenerProtocol,
    pub(crate) host: Option<At<HostPattern>>,
    pub(crate) certificates: Vec<ObjectRef>,
    pub(crate) from: AllowedFrom,
    /// Whether HTTPRoute is among the kinds that may attach.
    pub(crate) takes_http: bool,
    /// Whether GRPCRoute is.
    pub(crate) takes_grpc: bool,
}

/// The namespaces whose routes may attach to a listener.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum AllowedFrom {
    Same,
    All,
    Selector(LabelSelector),
    Nobody,
}

/// `matchLabels` and `matchExpressions`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LabelSelector {
    pub(crate) labels: Selector,
    pub(crate) expressions: Vec<Expression>,
}

/// One entry of `matchExpressions`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Expression {
    key: Str,
    operator: Operator,
    values: Vec<Str>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Whether these labels satisfy it.
    pub(crate) fn matches(&self, labels: &lateen_model::Labels) -> bool {
        self.labels.matches(labels)
            && self.expressions.iter().all(|expression| {
                let value = labels.get(&expression.key);
                let listed = value.is_some_and(|value| expression.values.contains(value));
                match expression.operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

pub(crate) fn gateway(node: &Node, reader: &Reader) -> Option<GatewaySpec> {
    let fields = reader.fields(
        node,
        &["gatewayClassName", "listeners"],
        &["addresses", "infrastructure", "backendTLS", "tls", "allowedListeners", "defaultScope"],
    )?;
    let class = fields.need_text("gatewayClassName");
    fields.need("listeners");
    let mut listeners: Vec<ListenerSpec> = Vec::new();
    for item in fields.list("listeners") {
        let Some(listener) = listener(item, reader) else { continue };
        if listeners.iter().any(|other| other.name.value == listener.name.value) {
            reader.error(
                listener.name.span,
                format!("a listener named {:?} is there already", listener.name.as_str()),
            );
        } else {
            listeners.push(listener);
        }
    }
    Some(GatewaySpec { class: class?, listeners })
}

fn listener(node: &Node, reader: &Reader) -> Option<ListenerSpec> {
    let fields =
        reader.fields(node, &["name", "hostname", "port", "protocol", "tls", "allowedRoutes"], &[])?;
    let name = fields.need_text("name")?;
    fields.need("port")?;
    let port = fields.port("port")?;
    fields.need("protocol")?;
    #[derive(Clone, Copy)]
    enum Spoken {
        Http,
        Https,
        Other,
    }
    let words = [
        ("HTTP", Spoken::Http),
        ("HTTPS", Spoken::Https),
        ("TLS", Spoken::Other),
        ("TCP", Spoken::Other),
        ("UDP", Spoken::Other),
    ];
    let spoken = fields.choice("protocol", &words)?;
    let protocol = match spoken.value {
        Spoken::Http => ListenerProtocol::Http,
        Spoken::Https => ListenerProtocol::Https,
        Spoken::Other => {
            reader.unsupported(spoken.span, "only the protocols HTTP and HTTPS are enforced yet");
            return None;
        }
    };
    let host = fields.parsed("hostname", HostPattern::parse);
    let certificates = match protocol {
        ListenerProtocol::Https => {
            fields.need("tls")?;
            listener_tls(&fields)?
        }
        _ => {
            if fields.has("tls") {
                reader.error(fields.key_span("tls"), "`tls` does not go with the protocol HTTP");
            }
            Vec::new()
        }
    };
    let allowed = fields.fields("allowedRoutes", &["namespaces", "kinds"], &[]);
    let kinds = allowed.as_ref().map(kinds).unwrap_or_default();
    let takes = |kind| kinds.is_empty() || kinds.iter().any(|name| name.as_str() == kind);
    Some(ListenerSpec {
        span: head(&fields),
        name,
        port,
        protocol,
        host,
        certificates,
        from: allowed.as_ref().map_or(AllowedFrom::Same, allowed_from),
        takes_http: takes("HTTPRoute"),
        takes_grpc: takes("GRPCRoute"),
    })
}

fn listener_tls(fields: &Fields<'_>) -> Option<Vec<ObjectRef>> {
    let tls = fields.fields("tls", &["mode", "certificateRefs"], &["options", "frontendValidation"])?;
    if tls.choice("mode", &[("Terminate", false), ("Passthrough", true)]).is_some_and(|pass| pass.value) {
        tls.reader.error(tls.key_span("mode"), "the protocol HTTPS ends TLS, so its mode is Terminate");
        return None;
    }
    if tls.list("certificateRefs").is_empty() {
        tls.reader.push(
            Draft::error(head(&tls), "TLS needs a certificate")
                .expected("`certificateRefs` with the name of a Secret"),
        );
    }
    let refs = tls.each("certificateRefs", &["group", "kind", "name", "namespace"], &[]);
    Some(refs.filter_map(|item| ObjectRef::read(&item, "", "Secret")).collect())
}

fn allowed_from(allowed: &Fields<'_>) -> AllowedFrom {
    let Some(namespaces) = allowed.fields("namespaces", &["from", "selector"], &[]) else {
        return AllowedFrom::Same;
    };
    #[derive(Clone, Copy)]
    enum From {
        Same,
        All,
        Selector,
        Nobody,
    }
    let words =
        [("Same", From::Same), ("All", From::All), ("Selector", From::Selector), ("None", From::Nobody)];
    match namespaces.choice("from", &words).map(|at| at.value) {
        Some(From::All) => AllowedFrom::All,
        Some(From::Selector) => {
            let selector =
                namespaces.need("selector").and_then(|node| label_selector(node, namespaces.reader));
            selector.map_or(AllowedFrom::Nobody, AllowedFrom::Selector)
        }
        Some(From::Nobody) => AllowedFrom::Nobody,
        Some(From::Same) | None => AllowedFrom::Same,
    }
}

fn label_selector(node: &Node, reader: &Reader) -> Option<LabelSelector> {
    let fields = reader.fields(node, &["matchLabels", "matchExpressions"], &[])?;
    let words = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
    ];
    let mut expressions = Vec::new();
    for item in fields.each("matchExpressions", &["key", "operator", "values"], &[]) {
        item.need("operator")?;
        expressions.push(Expression {
            key: item.need_text("key")?.value,
            operator: item.choice("operator", &words)?.value,
            values: item.texts("values").into_iter().map(|text| text.value).collect(),
        });
    }
    Some(LabelSelector { labels: Selector::new(fields.labels("matchLabels")), expressions })
}

/// The kinds of route that may attach.
fn kinds(allowed: &Fields<'_>) -> Vec<Str> {
    let named = allowed.each("kinds", &["group", "kind"], &[]).filter_map(|kind| kind.need_text("kind"));
    let known = |name: At<Str>| {
        if !matches!(name.as_str(), "HTTPRoute" | "GRPCRoute") {
            allowed.reader.unsupported(name.span, "only HTTPRoute and GRPCRoute are enforced yet");
        }
        name.value
    };
    named.map(known).collect()
}

/// ReferenceGrant.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ReferenceGrantSpec {
    pub(crate) from: Vec<(Str, Str, Namespace)>,
    pub(crate) to: Vec<(Str, Str, Option<Str>)>,
}

impl ReferenceGrantSpec {
    /// Whether objects of `from` (group, kind, namespace) may refer to `to` (group, kind, name).
    pub(crate) fn allows(&self, from: (&str, &str, &Namespace), to: (&str, &str, &str)) -> bool {
        self.from.iter().any(|(group, kind, namespace)| (group.as_str(), kind.as_str(), namespace) == from)
            && self.to.iter().any(|(group, kind, name)| {
                (group.as_str(), kind.as_str()) == (to.0, to.1)
                    && name.as_ref().is_none_or(|name| name.as_str() == to.2)
            })
    }
}

pub(crate) fn reference_grant(node: &Node, reader: &Reader) -> Option<ReferenceGrantSpec> {
    let fields = reader.fields(node, &["from", "to"], &[])?;
    let text = |fields: &Fields<'_>, name| fields.text(name).map(|text| text.value).unwrap_or_default();
    fields.need("from");
    fields.need("to");
    let from = fields.each("from", &["group", "kind", "namespace"], &[]).filter_map(|item| {
        item.need("namespace")?;
        let namespace = item.parsed("namespace", Namespace::parse)?.value;
        Some((text(&item, "group"), item.need_text("kind")?.value, namespace))
    });
    let to = fields.each("to", &["group", "kind", "name"], &[]).filter_map(|item| {
        let name = item.text("name").map(|name| name.value);
        Some((text(&item, "group"), item.need_text("kind")?.value, name))
    });
    Some(ReferenceGrantSpec { from: from.collect(), to: to.collect() })
}
