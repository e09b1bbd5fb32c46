//! VirtualService.

use super::{ExportTo, head};
use crate::problem::{At, Draft, Severity, Span};
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Value};
use lateen_model::{
    Filter, Format, FullRegex, HeaderEdit, HostPattern, NamedMatch, Namespace, PathMatch, RequestMatch,
    RetryConditions, RetryPolicy, Selector, Str, StringMatch,
};
use std::time::Duration;

/// VirtualService.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct VirtualServiceSpec {
    pub(crate) hosts: Vec<At<Str>>,
    pub(crate) gateways: Vec<At<Str>>,
    pub(crate) export_to: ExportTo,
    pub(crate) http: Vec<HttpSpec>,
}

/// One entry of `http`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct HttpSpec {
    pub(crate) name: Option<Str>,
    pub(crate) span: Span,
    /// None at all matches everything.
    pub(crate) matches: Vec<MatchSpec>,
    pub(crate) route: Vec<DestinationSpec>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
}

/// One entry of `match`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MatchSpec {
    pub(crate) request: RequestMatch,
    pub(crate) gateways: Vec<At<Str>>,
    /// A condition in it is not enforced: taken without it, it would match too much, so it matches nothing.
    pub(crate) never: bool,
}

/// One entry of `route`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DestinationSpec {
    pub(crate) host: At<Str>,
    pub(crate) subset: Option<At<Str>>,
    pub(crate) port: Option<At<u16>>,
    pub(crate) weight: Option<u32>,
    pub(crate) filters: Vec<Filter>,
}

pub(crate) fn virtual_service(node: &Node, reader: &Reader) -> Option<VirtualServiceSpec> {
    let fields = reader.fields(node, &["hosts", "gateways", "exportTo", "http"], &["tls", "tcp"])?;
    let hosts = fields.texts("hosts");
    for host in &hosts {
        reader.parse(host, HostPattern::parse);
    }
    if hosts.is_empty() {
        // Without hosts it is only a delegate of another one.
        match fields.get("hosts") {
            Some(_) => reader.error(fields.key_span("hosts"), "`hosts` is empty"),
            None => {
                let message = "a VirtualService without hosts (a delegate) is not enforced yet";
                fields.lacks(Draft::unsupported(head(&fields), message));
            }
        }
    }
    if !fields.has("http") && !fields.has("tls") && !fields.has("tcp") {
        fields.lacks(Draft::error(head(&fields), "a VirtualService needs `http`"));
    }
    let gateways = fields.texts("gateways");
    for gateway in &gateways {
        let names = gateway.split_once('/').map_or((None, gateway.as_str()), |(ns, name)| (Some(ns), name));
        if names.0.is_some_and(|ns| ns != "." && Namespace::parse(ns).is_err()) || names.1.is_empty() {
            reader.push(
                Draft::error(gateway.span, format!("{:?} is no gateway", gateway.as_str()))
                    .expected("`mesh`, the name of a Gateway, or `namespace/name`"),
            );
        }
    }
    Some(VirtualServiceSpec {
        hosts,
        gateways,
        export_to: ExportTo::read(&fields),
        http: fields.list("http").iter().filter_map(|item| http(item, reader)).collect(),
    })
}

fn http(node: &Node, reader: &Reader) -> Option<HttpSpec> {
    let fields = reader.fields(
        node,
        &["name", "match", "route", "timeout", "retries", "headers"],
        &[
            "redirect",
            "directResponse",
            "delegate",
            "rewrite",
            "fault",
            "mirror",
            "mirrors",
            "mirrorPercent",
            "mirrorPercentage",
            "mirror_percent",
            "corsPolicy",
        ],
    )?;
    let other = ["redirect", "directResponse", "delegate"].into_iter().any(|name| fields.has(name));
    if !other && fields.list("route").is_empty() {
        fields.lacks(Draft::error(head(&fields), "this rule needs `route`"));
    }
    let timeout = fields.duration("timeout").map(|at| at.value).filter(|timeout| !timeout.is_zero());
    Some(HttpSpec {
        name: fields.text("name").map(|text| text.value),
        span: head(&fields),
        matches: fields.list("match").iter().filter_map(|item| request_match(item, reader)).collect(),
        route: fields.list("route").iter().filter_map(|item| destination(item, reader)).collect(),
        filters: fields.get("headers").map(|node| headers(node, reader)).unwrap_or_default(),
        timeout,
        retry: fields.get("retries").and_then(|node| retries(node, reader)),
    })
}

fn request_match(node: &Node, reader: &Reader) -> Option<MatchSpec> {
    let ((request, gateways), never) = reader.noting(|| {
        let Some(fields) = reader.fields(
            node,
            &[
                "name",
                "uri",
                "method",
                "authority",
                "headers",
                "withoutHeaders",
                "queryParams",
                "port",
                "sourceLabels",
                "sourceNamespace",
                "gateways",
                "ignoreUriCase",
                "statPrefix",
            ],
            &["scheme"],
        ) else {
            return (None, Vec::new());
        };
        let ignore_case = fields.boolean("ignoreUriCase").unwrap_or(false);
        let method = fields.get("method").and_then(|node| string_match(node, reader, false));
        let named = |name: &str, lower| named_matches(&fields, name, lower);
        let request = RequestMatch {
            path: fields
                .get("uri")
                .and_then(|node| string_match(node, reader, ignore_case))
                .map(PathMatch::Text),
            scheme: None,
            method,
            authority: fields.get("authority").and_then(|node| string_match(node, reader, true)),
            headers: named("headers", true),
            without_headers: named("withoutHeaders", true),
            query: named("queryParams", false),
            port: fields.port("port").map(|port| port.value),
            source_labels: Selector::new(fields.labels("sourceLabels")),
            source_namespace: fields.parsed("sourceNamespace", Namespace::parse).map(|at| at.value),
        };
        (Some(request), fields.texts("gateways"))
    });
    // It names statistics and changes no traffic, so the match stays alive without it.
    if let Some(prefix) = node.get("statPrefix") {
        reader.unsupported(prefix.span, "`statPrefix` is not enforced yet");
    }
    Some(MatchSpec { request: request?, gateways, never })
}

/// `{exact: ..}`, `{prefix: ..}` or `{regex: ..}`.
pub(crate) fn string_match(node: &Node, reader: &Reader, ignore_case: bool) -> Option<StringMatch> {
    let fields = reader.fields(node, &["exact", "prefix", "regex"], &[])?;
    let exact = fields.text("exact");
    let prefix = fields.text("prefix");
    let regex = fields.text("regex");
    match (exact, prefix, regex) {
        (Some(text), None, None) if ignore_case => Some(StringMatch::ExactIgnoreCase(text.value)),
        (Some(text), None, None) => Some(StringMatch::Exact(text.value)),
        (None, Some(text), None) if ignore_case => Some(StringMatch::PrefixIgnoreCase(text.value)),
        (None, Some(text), None) => Some(StringMatch::Prefix(text.value)),
        (None, None, Some(text)) => reader.parse(&text, FullRegex::parse).map(StringMatch::Regex),
        _ => {
            let draft = Draft::error(head(&fields), "exactly one way to match is needed");
            fields.lacks(draft.expected("`exact`, `prefix` or `regex`"));
            None
        }
    }
}

fn named_matches(fields: &Fields<'_>, name: &str, lower: bool) -> Vec<NamedMatch> {
    let reader = fields.reader;
    let Some(node) = fields.get(name) else { return Vec::new() };
    let Value::Map(entries) = &node.value else {
        reader.wrong_type(node, "a mapping of names to matches");
        return Vec::new();
    };
    let one = |(key, node): &(At<Box<str>>, Node)| {
        if key.value.starts_with('@') {
            reader.unsupported(key.span, "routing by the claims of a token is not enforced yet");
            return None;
        }
        let empty = matches!(&node.value, Value::Null)
            || matches!(&node.value, Value::Map(fields) if fields.is_empty());
        let value = if empty { StringMatch::Present } else { string_match(node, reader, false)? };
        let name = if lower { key.value.to_ascii_lowercase() } else { key.value.to_string() };
        Some(NamedMatch { name: name.into(), value })
    };
    entries.iter().filter_map(one).collect()
}

fn destination(node: &Node, reader: &Reader) -> Option<DestinationSpec> {
    let fields = reader.fields(node, &["destination", "weight", "headers"], &[])?;
    fields.need("destination")?;
    let destination = fields.fields("destination", &["host", "subset", "port"], &[])?;
    let host = destination.need_text("host")?;
    reader.parse(&host, lateen_model::Hostname::parse)?;
    Some(DestinationSpec {
        host,
        subset: destination.text("subset"),
        port: destination.fields("port", &["number"], &[]).and_then(|port| port.port("number")),
        weight: fields.count("weight"),
        filters: fields.get("headers").map(|node| headers(node, reader)).unwrap_or_default(),
    })
}

/// `headers: {request: {set, add, remove}, response: {..}}`.
fn headers(node: &Node, reader: &Reader) -> Vec<Filter> {
    let Some(fields) = reader.fields(node, &["request", "response"], &[]) else { return Vec::new() };
    let edit = |name: &str| {
        let below = fields.fields(name, &["set", "add", "remove"], &[])?;
        let pairs = |name: &str| {
            let pairs = below.get(name).map(|node| reader.pairs(node)).unwrap_or_default();
            pairs.into_iter().filter_map(|(name, value)| header(&name, &value, reader)).collect::<Vec<_>>()
        };
        let remove = below.texts("remove");
        let remove = remove.iter().map(|name| Str::from(name.to_ascii_lowercase())).collect();
        let edit = HeaderEdit { set: pairs("set"), add: pairs("add"), remove };
        (edit != HeaderEdit::default()).then_some(edit)
    };
    let request = edit("request").map(Filter::RequestHeaders);
    request.into_iter().chain(edit("response").map(Filter::ResponseHeaders)).collect()
}

/// One header to write, name in lower case.
pub(crate) fn header(name: &str, value: &At<Str>, reader: &Reader) -> Option<(Str, Format)> {
    let lower = name.to_ascii_lowercase();
    if matches!(lower.as_str(), "host" | ":authority") {
        reader.unsupported(value.span, "changing the host by a header is not enforced yet");
        return None;
    }
    if !is_header_name(&lower) {
        reader.error(value.span, format!("{name:?} is no header name"));
        return None;
    }
    if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        reader.error(value.span, "a header value may not hold control characters");
        return None;
    }
    let literal = value.replace("%%", "");
    if literal.contains('%') {
        reader.unsupported(
            value.span,
            "variables in header values are not enforced yet; write %% for a percent sign",
        );
        return None;
    }
    Some((lower.into(), Format::literal(value.replace("%%", "%"))))
}

/// A token of RFC 9110 5.6.2.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn retries(node: &Node, reader: &Reader) -> Option<RetryPolicy> {
    let fields = reader.fields(
        node,
        &["attempts", "perTryTimeout", "retryOn", "backoff", "retryIgnorePreviousHosts"],
        &["retryRemoteLocalities"],
    )?;
    if fields.boolean("retryIgnorePreviousHosts") == Some(false) {
        fields.unsupported("retryIgnorePreviousHosts");
    }
    let default = RetryPolicy::default();
    let on = fields.text("retryOn").map(|text| conditions(&text, reader));
    Some(RetryPolicy {
        attempts: fields.integer("attempts", 0, 1000).map_or(default.attempts, |number| number.value as u32),
        per_try_timeout: fields.duration("perTryTimeout").map(|at| at.value).filter(|time| !time.is_zero()),
        on: on.unwrap_or(default.on),
        backoff: fields.duration("backoff").map_or(default.backoff, |at| at.value),
        ..default
    })
}

fn conditions(text: &At<Str>, reader: &Reader) -> RetryConditions {
    const WORDS: [&str; 13] = [
        "connect-failure",
        "refused-stream",
        "reset",
        "reset-before-request",
        "gateway-error",
        "5xx",
        "retriable-4xx",
        "cancelled",
        "unavailable",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "retriable-status-codes",
    ];
    let mut on = RetryConditions::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "gateway-error" => on.gateway_error = true,
            "5xx" => on.server_error = true,
            "retriable-4xx" => on.conflict = true,
            "cancelled" => on.cancelled = true,
            "unavailable" => on.unavailable = true,
            "deadline-exceeded" => on.deadline_exceeded = true,
            "internal" => on.internal = true,
            "resource-exhausted" => on.resource_exhausted = true,
            // It says that the numbers in the same list count, which they do here anyway.
            "retriable-status-codes" => {}
            "retriable-headers" | "envoy-ratelimited" | "http3-post-connect-failure" => {
                reader.unsupported(text.span, format!("`{word}` is not enforced yet"));
            }
            number => match number.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => reader.push(
                    Draft::new(Severity::Error, text.span, format!("`{word}` is no retry condition"))
                        .expected("names such as `connect-failure` or `5xx`, or statuses, with commas")
                        .suggest(crate::problem::nearest(word, WORDS)),
                ),
            },
        }
    }
    on
}
