//! VirtualService.

mod actions;
mod matches;
mod retries;
mod trouble;

pub(crate) use actions::{names, status};
pub(crate) use matches::MatchSpec;

use super::headers::{self, Edits};
use super::{ExportTo, head};
use crate::problem::{At, Draft, Span};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{
    Answer, Cors, FaultInjection, HostPattern, Namespace, ObjectName, RetryPolicy, Rewrite, Share, Str,
};
use std::time::Duration;

/// VirtualService.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct VirtualServiceSpec {
    /// None is a delegate: others send to it.
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
    pub(crate) answer: Option<Answer>,
    pub(crate) delegate: Option<DelegateSpec>,
    pub(crate) headers: Edits,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) fault: Option<FaultInjection>,
    pub(crate) mirrors: Vec<MirrorSpec>,
    pub(crate) cors: Option<Cors>,
    /// Zero is none.
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryPolicy>,
}

/// One entry of `route`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DestinationSpec {
    pub(crate) host: At<Str>,
    pub(crate) subset: Option<At<Str>>,
    pub(crate) port: Option<At<u16>>,
    pub(crate) weight: Option<u32>,
    pub(crate) headers: Edits,
}

/// One copy of requests.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MirrorSpec {
    pub(crate) destination: DestinationSpec,
    pub(crate) share: Share,
}

/// Another VirtualService that has the rules.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DelegateSpec {
    pub(crate) name: At<Str>,
    pub(crate) namespace: Option<Namespace>,
}

pub(crate) fn virtual_service(node: &Node, reader: &Reader) -> Option<VirtualServiceSpec> {
    let fields = reader.fields(node, &["hosts", "gateways", "exportTo", "http"], &["tls", "tcp"])?;
    let hosts = fields.texts("hosts");
    for host in &hosts {
        reader.parse(host, HostPattern::parse);
    }
    let gateways = gateways(&fields);
    if !fields.has("http") && !fields.has("tls") && !fields.has("tcp") {
        fields.lacks(Draft::error(head(&fields), "a VirtualService needs `http`"));
    }
    let http: Vec<HttpSpec> = fields.list("http").iter().filter_map(|item| http(item, reader)).collect();
    if hosts.is_empty() {
        delegate_rules(&fields, &gateways, &http);
    }
    Some(VirtualServiceSpec { hosts, gateways, export_to: ExportTo::read(&fields), http })
}

fn gateways(fields: &Fields<'_>) -> Vec<At<Str>> {
    let gateways = fields.texts("gateways");
    for gateway in &gateways {
        let names = gateway.split_once('/').map_or((None, gateway.as_str()), |(ns, name)| (Some(ns), name));
        if names.0.is_some_and(|ns| ns != "." && Namespace::parse(ns).is_err()) || names.1.is_empty() {
            fields.reader.push(
                Draft::error(gateway.span, format!("{:?} is no gateway", gateway.as_str()))
                    .expected("`mesh`, the name of a Gateway, or `namespace/name`"),
            );
        }
    }
    gateways
}

/// What a VirtualService without hosts, a delegate, may not have.
fn delegate_rules(fields: &Fields<'_>, gateways: &[At<Str>], http: &[HttpSpec]) {
    let reader = fields.reader;
    if fields.has("hosts") {
        reader.error(fields.key_span("hosts"), "`hosts` is empty");
    }
    if !gateways.is_empty() {
        reader.error(fields.key_span("gateways"), "a VirtualService without hosts has those of its root");
    }
    for name in http.iter().filter_map(|http| http.delegate.as_ref()).map(|delegate| &delegate.name) {
        reader.error(name.span, "a VirtualService without hosts may not delegate further");
    }
}

const HTTP: &[&str] = &[
    "name",
    "match",
    "route",
    "redirect",
    "directResponse",
    "delegate",
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirrorPercent",
    "mirrorPercentage",
    "mirror_percent",
    "corsPolicy",
    "headers",
];

fn http(node: &Node, reader: &Reader) -> Option<HttpSpec> {
    let fields = reader.fields(node, HTTP, &[])?;
    let read = |name: &str| fields.get(name);
    let redirect = read("redirect").and_then(|node| actions::redirect(node, reader)).map(Answer::Redirect);
    let direct = read("directResponse").and_then(|node| actions::direct(node, reader)).map(Answer::Direct);
    check_actions(&fields);
    Some(HttpSpec {
        name: fields.text("name").map(|text| text.value),
        span: head(&fields),
        matches: fields.list("match").iter().filter_map(|item| matches::read(item, reader)).collect(),
        route: fields.list("route").iter().filter_map(|item| destination(item, reader)).collect(),
        answer: redirect.or(direct),
        delegate: read("delegate").and_then(|node| delegate(node, reader)),
        headers: read("headers").map(|node| headers::istio(node, reader)).unwrap_or_default(),
        rewrite: read("rewrite").and_then(|node| actions::rewrite(node, reader)),
        fault: read("fault").and_then(|node| trouble::fault(node, reader)),
        mirrors: mirrors(&fields),
        cors: read("corsPolicy").and_then(|node| actions::cors(node, reader)),
        timeout: fields.duration("timeout").map(|at| at.value),
        retry: read("retries").and_then(|node| retries::read(node, reader)),
    })
}

/// What goes with what (Istio's rules).
fn check_actions(fields: &Fields<'_>) {
    let has_route = !fields.list("route").is_empty();
    let ends = ["redirect", "directResponse", "delegate"];
    let there = ends.into_iter().find(|name| fields.has(name));
    if there.is_none() && !has_route {
        let draft = Draft::error(head(fields), "this rule says nothing to do");
        fields.lacks(draft.expected("`route`, `redirect`, `directResponse` or `delegate`"));
    }
    fields.exclude(&["route", "redirect", "directResponse", "delegate"]);
    for end in ["redirect", "directResponse"] {
        fields.exclude(&[end, "rewrite"]);
        fields.exclude(&[end, "fault"]);
    }
    fields.exclude(&["mirror", "mirrors"]);
    for name in ["mirrorPercentage", "mirrorPercent", "mirror_percent"] {
        if fields.has(name) && !fields.has("mirror") {
            let draft = Draft::error(fields.key_span(name), format!("`{name}` without `mirror`"));
            fields.lacks(draft.expected("`mirror`, or `percentage` within `mirrors`"));
        }
    }
}

fn delegate(node: &Node, reader: &Reader) -> Option<DelegateSpec> {
    let fields = reader.fields(node, &["name", "namespace"], &[])?;
    let name = fields.need_text("name")?;
    reader.parse(&name, ObjectName::parse)?;
    Some(DelegateSpec { name, namespace: fields.parsed("namespace", Namespace::parse).map(|at| at.value) })
}

fn destination(node: &Node, reader: &Reader) -> Option<DestinationSpec> {
    let fields = reader.fields(node, &["destination", "weight", "headers"], &[])?;
    let place = place(fields.need("destination")?, reader)?;
    Some(DestinationSpec {
        weight: fields.integer("weight", 0, i64::from(i32::MAX)).map(|at| at.value as u32),
        headers: fields.get("headers").map(|node| headers::istio(node, reader)).unwrap_or_default(),
        ..place
    })
}

/// `{host, subset, port: {number}}`.
fn place(node: &Node, reader: &Reader) -> Option<DestinationSpec> {
    let fields = reader.fields(node, &["host", "subset", "port"], &[])?;
    let host = fields.need_text("host")?;
    reader.parse(&host, lateen_model::Hostname::parse)?;
    Some(DestinationSpec {
        host,
        subset: fields.text("subset"),
        port: fields.fields("port", &["number"], &[]).and_then(|port| port.port("number")),
        weight: None,
        headers: Edits::default(),
    })
}

/// `mirror` with its percentage, or `mirrors`. One of nothing is left out.
fn mirrors(fields: &Fields<'_>) -> Vec<MirrorSpec> {
    let reader = fields.reader;
    let old = ["mirrorPercent", "mirror_percent"].into_iter().find_map(|name| fields.percent(name));
    let share =
        fields.get("mirrorPercentage").and_then(|node| percentage(node, reader)).or(old.map(|at| at.value));
    let one = fields.get("mirror").and_then(|node| {
        Some(MirrorSpec { destination: place(node, reader)?, share: share.unwrap_or(Share::ALL) })
    });
    let several = fields.each("mirrors", &["destination", "percentage"], &[]).filter_map(|item| {
        let share = match item.get("percentage") {
            Some(node) => percentage(node, reader)?,
            None => Share::ALL,
        };
        Some(MirrorSpec { destination: place(item.need("destination")?, reader)?, share })
    });
    one.into_iter().chain(several).filter(|mirror| mirror.share.parts() > 0).collect()
}

/// `{value: 0..=100}`.
fn percentage(node: &Node, reader: &Reader) -> Option<Share> {
    let fields = reader.fields(node, &["value"], &[])?;
    Some(fields.percent("value").map_or(Share::per_million(0), |at| at.value))
}
