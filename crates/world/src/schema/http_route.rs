//! HTTPRoute.

use super::virtual_service::{header, is_header_name};
use super::{ObjectRef, head};
use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{
    Filter, FullRegex, HeaderEdit, HostPattern, NamedMatch, PathMatch, RequestMatch, RetryPolicy, Str,
    StringMatch,
};
use std::time::Duration;

/// HTTPRoute.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct HttpRouteSpec {
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
    pub(crate) filters: Vec<Filter>,
    pub(crate) backends: Vec<BackendSpec>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
}

/// One entry of `backendRefs`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct BackendSpec {
    pub(crate) reference: ObjectRef,
    pub(crate) port: Option<At<u16>>,
    pub(crate) weight: u32,
    pub(crate) filters: Vec<Filter>,
}

pub(crate) fn http_route(node: &Node, reader: &Reader) -> Option<HttpRouteSpec> {
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
    let rules = match fields.get("rules") {
        Some(_) => fields.list("rules").iter().filter_map(|item| rule(item, reader)).collect(),
        None => Vec::new(),
    };
    Some(HttpRouteSpec {
        parents,
        hosts: fields.texts("hostnames").into_iter().filter_map(parse).collect(),
        rules,
    })
}

fn rule(node: &Node, reader: &Reader) -> Option<RuleSpec> {
    let fields = reader.fields(
        node,
        &["name", "matches", "filters", "backendRefs", "timeouts", "retry"],
        &["sessionPersistence"],
    )?;
    let matches: Vec<_> =
        fields.list("matches").iter().filter_map(|item| request_match(item, reader)).collect();
    let never = matches.is_empty() && !fields.list("matches").is_empty();
    let timeouts = fields.fields("timeouts", &["request", "backendRequest"], &[]);
    let time = |name| {
        let time = timeouts.as_ref().and_then(|timeouts| timeouts.duration(name));
        time.map(|at| at.value).filter(|time: &Duration| !time.is_zero())
    };
    let mut retry = fields.get("retry").and_then(|node| retry(node, reader));
    if let Some(per_try) = time("backendRequest") {
        retry.get_or_insert_default().per_try_timeout = Some(per_try);
    }
    Some(RuleSpec {
        name: fields.text("name").map(|text| text.value),
        span: head(&fields),
        matches,
        never,
        filters: filters(&fields),
        backends: fields.list("backendRefs").iter().filter_map(|item| backend(item, reader)).collect(),
        timeout: time("request"),
        retry,
    })
}

fn request_match(node: &Node, reader: &Reader) -> Option<RequestMatch> {
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
fn named(fields: &Fields<'_>, name: &str, lower: bool) -> Vec<NamedMatch> {
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
        if lower && !is_header_name(&name) {
            reader.error(name.span, format!("{:?} is no header name", name.as_str()));
        }
        let name = if lower { Str::from(name.to_ascii_lowercase()) } else { name.value };
        if !found.iter().any(|other| other.name == name) {
            found.push(NamedMatch { name, value });
        }
    }
    found
}

fn filters(fields: &Fields<'_>) -> Vec<Filter> {
    let reader = fields.reader;
    let mut filters = Vec::new();
    for item in fields.each(
        "filters",
        &[
            "type",
            "requestHeaderModifier",
            "responseHeaderModifier",
            "requestRedirect",
            "urlRewrite",
            "requestMirror",
            "cors",
            "externalAuth",
            "extensionRef",
        ],
        &[],
    ) {
        item.need("type");
        let words = [
            ("RequestHeaderModifier", "requestHeaderModifier"),
            ("ResponseHeaderModifier", "responseHeaderModifier"),
            ("RequestRedirect", "requestRedirect"),
            ("URLRewrite", "urlRewrite"),
            ("RequestMirror", "requestMirror"),
            ("CORS", "cors"),
            ("ExternalAuth", "externalAuth"),
            ("ExtensionRef", "extensionRef"),
        ];
        let Some(kind) = item.choice("type", &words) else { continue };
        match kind.value {
            "requestHeaderModifier" => {
                filters.extend(edit(&item, kind.value).map(Filter::RequestHeaders));
            }
            "responseHeaderModifier" => {
                filters.extend(edit(&item, kind.value).map(Filter::ResponseHeaders));
            }
            other => reader.unsupported(kind.span, format!("the filter `{other}` is not enforced yet")),
        }
    }
    filters
}

fn edit(item: &Fields<'_>, name: &str) -> Option<HeaderEdit> {
    item.need(name)?;
    let fields = item.fields(name, &["set", "add", "remove"], &[])?;
    let pairs = |list: &str| {
        fields
            .each(list, &["name", "value"], &[])
            .filter_map(|pair| {
                let (name, value) = (pair.need_text("name")?, pair.text("value")?);
                // Gateway API knows no variables, so a percent sign is only itself.
                let escaped = At { value: Str::from(value.replace('%', "%%")), span: value.span };
                header(&name, &escaped, item.reader)
            })
            .collect()
    };
    let remove = fields.texts("remove").iter().map(|name| Str::from(name.to_ascii_lowercase())).collect();
    Some(HeaderEdit { set: pairs("set"), add: pairs("add"), remove })
}

fn backend(node: &Node, reader: &Reader) -> Option<BackendSpec> {
    let fields =
        reader.fields(node, &["group", "kind", "name", "namespace", "port", "weight", "filters"], &[])?;
    Some(BackendSpec {
        reference: ObjectRef::read(&fields, "", "Service")?,
        port: fields.port("port"),
        weight: fields.integer("weight", 0, 1_000_000).map_or(1, |number| number.value as u32),
        filters: filters(&fields),
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
    if let Some(backoff) = fields.duration("backoff") {
        retry.backoff = backoff.value;
    }
    Some(retry)
}
