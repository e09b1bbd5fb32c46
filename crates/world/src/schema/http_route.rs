//! HTTPRoute, and what GRPCRoute shares with it.

mod filters;
pub(super) mod session;

pub(crate) use filters::{FiltersSpec, Kind};

use super::headers::is_header_name;
use super::{ObjectRef, head};
use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{
    Filter, FullRegex, HostPattern, NamedMatch, PathMatch, PathRewrite, RequestMatch, RetryPolicy, Rewrite,
    SessionPersistence, Str, StringMatch,
};
use std::time::Duration;

/// HTTPRoute or GRPCRoute.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RouteSpec {
    pub(crate) parents: Vec<ParentSpec>,
    pub(crate) hosts: Vec<At<HostPattern>>,
    pub(crate) rules: Vec<RuleSpec>,
}

/// One entry of `parentRefs`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ParentSpec {
    pub(crate) reference: ObjectRef,
    pub(crate) section: Option<At<Str>>,
    pub(crate) port: Option<At<u16>>,
}

/// One entry of `rules`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RuleSpec {
    pub(crate) name: Option<Str>,
    pub(crate) span: Span,
    pub(crate) matches: Vec<RequestMatch>,
    /// There were matches, and none can be used: so it matches nothing.
    pub(crate) never: bool,
    pub(crate) filters: FiltersSpec,
    pub(crate) backends: Vec<BackendSpec>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) persistence: Option<SessionPersistence>,
}

/// One entry of `backendRefs`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct BackendSpec {
    pub(crate) reference: ObjectRef,
    pub(crate) port: Option<At<u16>>,
    pub(crate) weight: u32,
    pub(crate) filters: FiltersSpec,
}

pub(crate) fn http_route(node: &Node, reader: &Reader) -> Option<RouteSpec> {
    route(node, reader, rule)
}

/// What both kinds of route have, with a reader of rules.
pub(super) fn route(
    node: &Node,
    reader: &Reader,
    rule: fn(&Node, &Reader) -> Option<RuleSpec>,
) -> Option<RouteSpec> {
    let fields = reader.fields(node, &["parentRefs", "hostnames", "rules"], &["useDefaultGateways"])?;
    let parents = fields
        .each("parentRefs", &["group", "kind", "name", "namespace", "sectionName", "port"], &[])
        .filter_map(|item| {
            Some(ParentSpec {
                reference: ObjectRef::read(&item, "gateway.networking.k8s.io", "Gateway")?,
                section: item.text("sectionName"),
                port: item.port("port"),
            })
        })
        .collect();
    let parse = |text: At<Str>| Some(At { value: reader.parse(&text, HostPattern::parse)?, span: text.span });
    Some(RouteSpec {
        parents,
        hosts: fields.texts("hostnames").into_iter().filter_map(parse).collect(),
        rules: fields.list("rules").iter().filter_map(|item| rule(item, reader)).collect(),
    })
}

fn rule(node: &Node, reader: &Reader) -> Option<RuleSpec> {
    let fields = reader.fields(
        node,
        &["name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"],
        &[],
    )?;
    let mut matches: Vec<_> =
        fields.list("matches").iter().filter_map(|item| request_match(item, reader)).collect();
    let never = matches.is_empty() && !fields.list("matches").is_empty();
    let filters = FiltersSpec::read(&fields, Kind::Http);
    let backends: Vec<_> =
        fields.list("backendRefs").iter().filter_map(|item| backend(item, reader, Kind::Http)).collect();
    let own = filters.replaces_prefix();
    if own || backends.iter().any(|backend: &BackendSpec| backend.filters.replaces_prefix()) {
        with_prefix(&mut matches, &fields);
    }
    if filters.redirect.is_some() && !backends.is_empty() {
        let message = "a rule that redirects sends nothing to `backendRefs`";
        reader.push(Draft::error(fields.key_span("backendRefs"), message));
    }
    let (timeout, per_try) = timeouts(&fields);
    let mut retry = fields.get("retry").and_then(|node| retry(node, reader));
    if let Some(per_try) = per_try {
        retry.get_or_insert_default().per_try_timeout = Some(per_try);
    }
    Some(RuleSpec {
        name: fields.text("name").map(|text| text.value),
        span: head(&fields),
        persistence: session::read(&fields, &matches),
        matches,
        never,
        filters,
        backends,
        timeout,
        retry,
    })
}

/// `replacePrefixMatch` needs prefixes, of which `/` is the one that is not written.
fn with_prefix(matches: &mut Vec<RequestMatch>, fields: &Fields<'_>) {
    if matches.is_empty() {
        matches.push(RequestMatch::default());
    }
    for one in matches {
        match one.path.get_or_insert_with(|| PathMatch::segments("/")) {
            PathMatch::Segments(_) => {}
            PathMatch::Text(_) => {
                let draft = Draft::error(head(fields), "`replacePrefixMatch` needs a match by `PathPrefix`");
                fields.reader.push(draft.expected("`ReplaceFullPath`, or matches of the type `PathPrefix`"));
                return;
            }
        }
    }
}

/// `timeouts.request` and `timeouts.backendRequest`; zero is none.
fn timeouts(fields: &Fields<'_>) -> (Option<Duration>, Option<Duration>) {
    let Some(below) = fields.fields("timeouts", &["request", "backendRequest"], &[]) else {
        return (None, None);
    };
    let time = |name| below.duration(name).map(|at| at.value).filter(|time: &Duration| !time.is_zero());
    let (request, per_try) = (time("request"), time("backendRequest"));
    if let (Some(request), Some(per_try)) = (request, per_try)
        && per_try > request
    {
        let message = "`backendRequest` may not be longer than `request`";
        fields.reader.push(Draft::error(below.key_span("backendRequest"), message));
    }
    (request, per_try)
}

pub(super) fn request_match(node: &Node, reader: &Reader) -> Option<RequestMatch> {
    let fields = reader.fields(node, &["path", "method", "headers", "queryParams"], &[])?;
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let methods = methods.map(|method| (method, method));
    let method = fields.choice("method", &methods).map(|at| StringMatch::Exact(at.value.into()));
    Some(RequestMatch {
        path: match fields.get("path") {
            Some(node) => Some(path_match(node, reader)?),
            None => None,
        },
        method,
        headers: named(&fields, "headers", true),
        query: named(&fields, "queryParams", false),
        ..RequestMatch::default()
    })
}

fn path_match(node: &Node, reader: &Reader) -> Option<PathMatch> {
    let fields = reader.fields(node, &["type", "value"], &[])?;
    #[derive(Clone, Copy, PartialEq)]
    enum Type {
        Exact,
        Prefix,
        Regex,
    }
    let words = [("PathPrefix", Type::Prefix), ("Exact", Type::Exact), ("RegularExpression", Type::Regex)];
    let kind = match fields.get("type") {
        Some(_) => fields.choice("type", &words)?.value,
        None => Type::Prefix,
    };
    let value = fields.text("value").unwrap_or(At { value: "/".into(), span: fields.span() });
    if kind != Type::Regex && !value.starts_with('/') {
        reader.push(
            Draft::error(value.span, "a path begins with `/`").suggest(Some(format!("/{}", value.as_str()))),
        );
        return None;
    }
    Some(match kind {
        Type::Prefix => PathMatch::segments(&value),
        Type::Exact => PathMatch::Text(StringMatch::Exact(value.value)),
        Type::Regex => PathMatch::Text(StringMatch::Regex(reader.parse(&value, FullRegex::parse)?)),
    })
}

/// `headers` and `queryParams`: of several entries with one name the first counts.
pub(super) fn named(fields: &Fields<'_>, name: &str, header: bool) -> Vec<NamedMatch> {
    let reader = fields.reader;
    let mut found: Vec<NamedMatch> = Vec::new();
    for item in fields.each(name, &["type", "name", "value"], &[]) {
        let (Some(name), Some(value)) = (item.need_text("name"), item.need("value")) else { continue };
        let Some(value) = reader.text(value) else { continue };
        let regex = item.choice("type", &[("Exact", false), ("RegularExpression", true)]);
        let value = if regex.is_some_and(|regex| regex.value) {
            let Some(regex) = reader.parse(&value, FullRegex::parse) else { continue };
            StringMatch::Regex(regex)
        } else {
            StringMatch::Exact(value.value)
        };
        if header && !is_header_name(&name) {
            reader.error(name.span, format!("{:?} is no header name", name.as_str()));
        }
        let name = if header { Str::from(name.to_ascii_lowercase()) } else { name.value };
        if !found.iter().any(|other| other.name == name) {
            found.push(NamedMatch { name, value });
        }
    }
    found
}

pub(super) fn backend(node: &Node, reader: &Reader, kind: Kind) -> Option<BackendSpec> {
    let fields =
        reader.fields(node, &["group", "kind", "name", "namespace", "port", "weight", "filters"], &[])?;
    let filters = FiltersSpec::read(&fields, kind);
    for name in filters.only_of_rules() {
        let message = format!("`{name}` answers before a backend is chosen, so it cannot stand at one");
        reader.push(
            Draft::error(fields.key_span("filters"), message).expected("it in the `filters` of the rule"),
        );
    }
    Some(BackendSpec { filters, ..target(&fields)? })
}

/// What a backend names.
fn target(fields: &Fields<'_>) -> Option<BackendSpec> {
    Some(BackendSpec {
        reference: ObjectRef::read(fields, "", "Service")?,
        port: fields.port("port"),
        weight: fields.integer("weight", 0, 1_000_000).map_or(1, |number| number.value as u32),
        filters: FiltersSpec::default(),
    })
}

fn retry(node: &Node, reader: &Reader) -> Option<RetryPolicy> {
    let fields = reader.fields(node, &["codes", "attempts", "backoff"], &[])?;
    let mut retry = RetryPolicy::default();
    for code in fields.list("codes") {
        retry.on.statuses.extend(reader.integer(code, 400, 599).map(|code| code.value as u16));
    }
    if let Some(attempts) = fields.integer("attempts", 0, 1000) {
        retry.attempts = attempts.value as u32;
    }
    if let Some(backoff) = fields.span_of_time("backoff") {
        retry.backoff = backoff.value;
    }
    Some(retry)
}

/// Whether a filter replaces what a match on the path matched.
fn replaces_prefix(filter: &Filter) -> bool {
    matches!(filter, Filter::Rewrite(Rewrite { path: Some(PathRewrite::Matched(_)), .. }))
}
