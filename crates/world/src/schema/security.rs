//! PeerAuthentication, AuthorizationPolicy, RequestAuthentication.
//!
//! These always give a spec, however wrong the text is: what they select must be known to fail closed.

use super::entries::cidr;
use super::{ObjectRef, head};
use crate::problem::{At, Draft, nearest};
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Value};
use lateen_model::{
    AddressMatch, AuthorizationRule, Cidr, Condition, ConditionKey, FullRegex, MtlsMode, Namespace,
    Operation, Selector, ServiceAccount, Source, Str, StringMatch,
};
use std::collections::BTreeMap;

/// What a security object is attached to.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Attachment {
    pub(crate) selector: Option<At<Selector>>,
    pub(crate) targets: Vec<ObjectRef>,
}

impl Attachment {
    pub(crate) fn read(fields: &Fields<'_>) -> Self {
        let targets = fields
            .get("targetRef")
            .into_iter()
            .chain(fields.list("targetRefs"))
            .filter_map(|node| {
                let item = fields.reader.fields(node, &["group", "kind", "name", "namespace"], &[])?;
                item.need("kind")?;
                ObjectRef::read(&item, "", "")
            })
            .collect();
        let selector = super::selector(fields, "selector", &["matchLabels"]);
        if selector.is_some() && (fields.has("targetRef") || fields.has("targetRefs")) {
            fields
                .reader
                .error(fields.key_span("selector"), "`selector` and `targetRefs` exclude each other");
        }
        Self { selector: selector.filter(|selector| !selector.is_empty()), targets }
    }
}

/// PeerAuthentication.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct PeerAuthenticationSpec {
    pub(crate) attachment: Attachment,
    pub(crate) mode: MtlsMode,
    pub(crate) ports: BTreeMap<u16, MtlsMode>,
}

pub(crate) fn peer_authentication(node: &Node, reader: &Reader) -> PeerAuthenticationSpec {
    let Some(fields) = reader.fields(node, &["selector", "mtls", "portLevelMtls"], &[]) else {
        return PeerAuthenticationSpec::default();
    };
    let attachment = Attachment::read(&fields);
    let mode = |fields: &Fields<'_>| {
        let words = [
            ("UNSET", MtlsMode::Unset),
            ("DISABLE", MtlsMode::Disable),
            ("PERMISSIVE", MtlsMode::Permissive),
            ("STRICT", MtlsMode::Strict),
        ];
        fields.choice("mode", &words).map(|at| at.value).unwrap_or_default()
    };
    let mut ports = BTreeMap::new();
    if let Some(node) = fields.get("portLevelMtls") {
        match &node.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    let below = reader.fields(node, &["mode"], &[]);
                    match key.value.parse::<u16>() {
                        Ok(port) if port > 0 => {
                            ports.extend(below.map(|below| (port, mode(&below))));
                        }
                        _ => reader.push(
                            Draft::error(key.span, format!("{:?} is no port", key.value))
                                .expected("the number of a port of the workload"),
                        ),
                    }
                }
            }
            _ => reader.wrong_type(node, "a mapping of port numbers to `{mode: ..}`"),
        }
        if attachment.selector.is_none() {
            reader.error(fields.key_span("portLevelMtls"), "`portLevelMtls` needs a `selector`");
        }
    }
    let mtls = fields.fields("mtls", &["mode"], &[]);
    PeerAuthenticationSpec { attachment, mode: mtls.map_or(MtlsMode::Unset, |mtls| mode(&mtls)), ports }
}

/// AuthorizationPolicy.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct AuthorizationSpec {
    pub(crate) attachment: Attachment,
    pub(crate) action: ActionSpec,
    pub(crate) rules: Vec<RuleSpec>,
}

/// What a match means.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum ActionSpec {
    #[default]
    Allow,
    Deny,
    /// Marks only; never denies.
    Audit,
    /// Asks somebody else.
    Custom,
}

/// One entry of `rules`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RuleSpec {
    pub(crate) rule: AuthorizationRule,
    /// A part of it is not enforced, and left out of `rule`.
    pub(crate) partial: bool,
}

pub(crate) fn authorization(node: &Node, own: &Namespace, reader: &Reader) -> AuthorizationSpec {
    let fields =
        reader.fields(node, &["selector", "targetRef", "targetRefs", "action", "provider", "rules"], &[]);
    let Some(fields) = fields else { return AuthorizationSpec::default() };
    let words = [
        ("ALLOW", ActionSpec::Allow),
        ("DENY", ActionSpec::Deny),
        ("AUDIT", ActionSpec::Audit),
        ("CUSTOM", ActionSpec::Custom),
    ];
    let action = fields.choice("action", &words);
    match &action {
        Some(At { value: ActionSpec::Custom, span }) => {
            let message = "the action CUSTOM is not enforced yet: its targets are denied unless unenforced objects are allowed";
            reader.unsupported(*span, message);
        }
        Some(At { value: ActionSpec::Audit, span }) => {
            reader.unsupported(*span, "the action AUDIT is not enforced yet");
        }
        _ if fields.has("provider") => {
            reader.error(fields.key_span("provider"), "`provider` goes with the action CUSTOM only");
        }
        _ => {}
    }
    let rules = fields.list("rules").iter().map(|item| {
        let (rule, partial) = reader.noting(|| rule(item, own, reader));
        RuleSpec { rule, partial }
    });
    AuthorizationSpec {
        rules: rules.collect(),
        action: action.map(|at| at.value).unwrap_or_default(),
        attachment: Attachment::read(&fields),
    }
}

fn rule(node: &Node, own: &Namespace, reader: &Reader) -> AuthorizationRule {
    let Some(fields) = reader.fields(node, &["from", "to", "when"], &[]) else {
        return AuthorizationRule::default();
    };
    for name in ["from", "to", "when"] {
        refuse_empty(&fields, name);
    }
    let from = fields.each("from", &["source"], &[]).filter_map(|item| {
        item.need("source")?;
        source(item.get("source")?, own, reader)
    });
    let to = fields.each("to", &["operation"], &[]).filter_map(|item| {
        item.need("operation")?;
        operation(item.get("operation")?, reader)
    });
    let when = fields.each("when", &["key", "values", "notValues"], &[]).filter_map(|item| condition(&item));
    AuthorizationRule { from: from.collect(), to: to.collect(), when: when.collect() }
}

/// An empty list asks for nothing, which is hardly what was meant in a rule about access.
fn refuse_empty(fields: &Fields<'_>, name: &str) {
    if fields.get(name).and_then(Node::as_list).is_some_and(<[Node]>::is_empty) {
        let draft = Draft::error(fields.key_span(name), format!("`{name}` is empty"));
        fields.reader.push(draft.expected("at least one entry, or no such field"));
    }
}

fn values(fields: &Fields<'_>, name: &str) -> Vec<At<Str>> {
    refuse_empty(fields, name);
    let values = fields.texts(name);
    for value in values.iter().filter(|value| value.is_empty()) {
        fields.reader.error(value.span, "an empty value matches nothing");
    }
    values
}

fn strings(fields: &Fields<'_>, name: &str) -> Vec<StringMatch> {
    values(fields, name).iter().map(|value| StringMatch::from_policy_value(value)).collect()
}

fn ranges(fields: &Fields<'_>, name: &str) -> Vec<Cidr> {
    values(fields, name).iter().filter_map(|value| cidr(value, fields.reader)).map(|at| at.value).collect()
}

const SOURCE: &[&str] = &[
    "principals",
    "notPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];

fn source(node: &Node, own: &Namespace, reader: &Reader) -> Option<Source> {
    let fields = reader.fields(node, SOURCE, &["requestPrincipals", "notRequestPrincipals"])?;
    refuse_nothing(&fields, "source");
    let strings = |name| strings(&fields, name);
    let ranges = |name| ranges(&fields, name);
    let accounts = |name| {
        values(&fields, name).iter().filter_map(|value| account(value, own, reader)).collect::<Vec<_>>()
    };
    Some(Source {
        principals: strings("principals"),
        not_principals: strings("notPrincipals"),
        namespaces: strings("namespaces"),
        not_namespaces: strings("notNamespaces"),
        service_accounts: accounts("serviceAccounts"),
        not_service_accounts: accounts("notServiceAccounts"),
        trust_domains: strings("trustDomains"),
        not_trust_domains: strings("notTrustDomains"),
        ip_blocks: ranges("ipBlocks"),
        not_ip_blocks: ranges("notIpBlocks"),
        remote_ip_blocks: ranges("remoteIpBlocks"),
        not_remote_ip_blocks: ranges("notRemoteIpBlocks"),
    })
}

/// A source or operation without a field would match everybody or everything.
fn refuse_nothing(fields: &Fields<'_>, what: &str) {
    if matches!(&fields.node.value, Value::Map(entries) if entries.is_empty()) {
        fields.reader.error(fields.span(), format!("this {what} says nothing, so it would match everything"));
    }
}

/// `namespace/account`, or an account of the policy's own namespace.
fn account(value: &At<Str>, own: &Namespace, reader: &Reader) -> Option<(Namespace, ServiceAccount)> {
    let (namespace, name) = match value.split_once('/') {
        Some((namespace, name)) => {
            (reader.parse(&At { value: namespace.into(), span: value.span }, Namespace::parse)?, name)
        }
        None => (own.clone(), value.as_str()),
    };
    Some((namespace, reader.parse(&At { value: name.into(), span: value.span }, ServiceAccount::parse)?))
}

const OPERATION: &[&str] =
    &["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];

fn operation(node: &Node, reader: &Reader) -> Option<Operation> {
    let fields = reader.fields(node, OPERATION, &[])?;
    refuse_nothing(&fields, "operation");
    let strings = |name| strings(&fields, name);
    let hosts = |name| {
        let values = values(&fields, name);
        values
            .iter()
            .map(|value| StringMatch::from_policy_value(&value.to_ascii_lowercase()))
            .collect::<Vec<_>>()
    };
    let ports = |name| {
        let parse = |value: &At<Str>| {
            let port = value.parse::<u16>().ok().filter(|port| *port > 0);
            if port.is_none() {
                let draft = Draft::error(value.span, format!("{:?} is no port", value.as_str()));
                reader.push(draft.expected("the number of a port, as text"));
            }
            port
        };
        values(&fields, name).iter().filter_map(parse).collect::<Vec<_>>()
    };
    let paths =
        |name| values(&fields, name).iter().filter_map(|value| path(value, reader)).collect::<Vec<_>>();
    Some(Operation {
        hosts: hosts("hosts"),
        not_hosts: hosts("notHosts"),
        ports: ports("ports"),
        not_ports: ports("notPorts"),
        methods: strings("methods"),
        not_methods: strings("notMethods"),
        paths: paths("paths"),
        not_paths: paths("notPaths"),
    })
}

/// A path may be a template: `{*}` is one segment, `{**}` any number.
fn path(value: &At<Str>, reader: &Reader) -> Option<StringMatch> {
    if !value.contains(['{', '}']) {
        return Some(StringMatch::from_policy_value(value));
    }
    let mut pattern = String::new();
    let mut rest = value.as_str();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("{**}") {
            pattern.push_str(".*");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{*}") {
            pattern.push_str("[^/]+");
            rest = after;
        } else {
            let c = rest.chars().next().expect("the rest is not empty");
            if matches!(c, '{' | '}' | '*') {
                let draft = Draft::error(value.span, format!("`{c}` has no meaning here in a path template"));
                reader.push(draft.expected("`{*}` for one segment or `{**}` for any number"));
                return None;
            }
            if r"\.+?()|[]^$#&-~".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    reader.parse(&At { value: pattern.into(), span: value.span }, FullRegex::parse).map(StringMatch::Regex)
}

/// Keys that look at a token, or into a filter of Envoy's.
fn needs_token(key: &str) -> bool {
    key.starts_with("request.auth.") || key.starts_with("experimental.envoy.filters.")
}

fn condition(fields: &Fields<'_>) -> Option<Condition> {
    let reader = fields.reader;
    let text = fields.need_text("key")?;
    let key = match text.as_str() {
        "source.ip" => ConditionKey::SourceIp,
        "remote.ip" => ConditionKey::RemoteIp,
        "source.namespace" => ConditionKey::SourceNamespace,
        "source.principal" => ConditionKey::SourcePrincipal,
        "source.serviceAccount" => ConditionKey::SourceServiceAccount,
        "source.trustDomain" => ConditionKey::SourceTrustDomain,
        "destination.ip" => ConditionKey::DestinationIp,
        "destination.port" => ConditionKey::DestinationPort,
        "connection.sni" => ConditionKey::ConnectionSni,
        key if needs_token(key) => {
            reader.unsupported(text.span, format!("the condition `{key}` is not enforced yet"));
            return None;
        }
        key => match key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
            Some(name) if super::headers::is_header_name(name) => {
                ConditionKey::RequestHeader(name.to_ascii_lowercase().into())
            }
            _ => {
                const KEYS: [&str; 10] = [
                    "request.headers[name]",
                    "source.ip",
                    "remote.ip",
                    "source.namespace",
                    "source.principal",
                    "source.serviceAccount",
                    "source.trustDomain",
                    "destination.ip",
                    "destination.port",
                    "connection.sni",
                ];
                reader.push(
                    Draft::error(text.span, format!("there is no condition {key:?}"))
                        .expected("a key such as `source.namespace` or `request.headers[name]`")
                        .suggest(nearest(key, KEYS)),
                );
                return None;
            }
        },
    };
    if !fields.has("values") && !fields.has("notValues") {
        reader.error(head(fields), "a condition needs `values` or `notValues`");
    }
    let is_address =
        matches!(key, ConditionKey::SourceIp | ConditionKey::RemoteIp | ConditionKey::DestinationIp);
    let addresses = if is_address {
        AddressMatch { any: ranges(fields, "values"), none: ranges(fields, "notValues") }
    } else {
        AddressMatch::default()
    };
    Some(Condition {
        key,
        values: strings(fields, "values"),
        not_values: strings(fields, "notValues"),
        addresses,
    })
}

/// RequestAuthentication: nothing of it is enforced yet but what it is attached to.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct RequestAuthenticationSpec {
    pub(crate) attachment: Attachment,
    /// One without rules asks for nothing, so it denies nothing either.
    pub(crate) has_rules: bool,
}

pub(crate) fn request_authentication(node: &Node, reader: &Reader) -> RequestAuthenticationSpec {
    let Some(fields) = reader.fields(node, &["selector", "targetRef", "targetRefs"], &["jwtRules"]) else {
        return RequestAuthenticationSpec { has_rules: true, ..RequestAuthenticationSpec::default() };
    };
    RequestAuthenticationSpec { attachment: Attachment::read(&fields), has_rules: fields.has("jwtRules") }
}
