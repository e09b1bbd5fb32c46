//! `filters` of rules and of backends.

use super::super::headers::{self, Head};
use super::super::virtual_service::{names, status};
use super::{BackendSpec, replaces_prefix, target};
use crate::problem::{At, Draft};
use crate::read::{Fields, Reader, share};
use crate::yaml::Node;
use lateen_model::{
    Cors, Filter, FullRegex, Hostname, PathRewrite, Redirect, RedirectPort, Rewrite, Share, Str, StringMatch,
};
use std::time::Duration;

/// The kind of the route that has the filters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Grpc,
}

/// The filters of a rule or a backend.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct FiltersSpec {
    pub(crate) plain: Vec<Filter>,
    pub(crate) mirrors: Vec<(BackendSpec, Share)>,
    pub(crate) redirect: Option<Redirect>,
    /// A filter is not enforced. It may not be passed over, so what it stands at answers 500.
    pub(crate) closed: Option<&'static str>,
}

const WORDS: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("ExtensionRef", "extensionRef"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExternalAuth", "externalAuth"),
];

const HTTP: &[&str] = &[
    "type",
    "requestHeaderModifier",
    "responseHeaderModifier",
    "requestRedirect",
    "urlRewrite",
    "requestMirror",
    "cors",
    "externalAuth",
    "extensionRef",
];

const GRPC: &[&str] =
    &["type", "requestHeaderModifier", "responseHeaderModifier", "requestMirror", "extensionRef"];

impl FiltersSpec {
    pub(crate) fn read(fields: &Fields<'_>, kind: Kind) -> Self {
        let mut filters = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        let (known, words) = match kind {
            Kind::Http => (HTTP, &WORDS[..]),
            Kind::Grpc => (GRPC, &WORDS[..4]),
        };
        for item in fields.each("filters", known, &[]) {
            item.need("type");
            let Some(kind) = item.choice("type", words) else { continue };
            if kind.value != "requestMirror" && seen.contains(&kind.value) {
                let message = format!("`{}` is there already; one rule has one", kind.value);
                fields.reader.error(kind.span, message);
                continue;
            }
            seen.push(kind.value);
            filters.one(&item, &kind);
        }
        if filters.redirect.is_some() && seen.contains(&"urlRewrite") {
            let message = "a rule that redirects rewrites nothing";
            fields.reader.error(fields.key_span("filters"), message);
        }
        filters
    }

    fn one(&mut self, item: &Fields<'_>, kind: &At<&'static str>) {
        let reader = item.reader;
        let name = kind.value;
        let below = || item.need(name);
        match name {
            "requestHeaderModifier" => {
                let edit = headers::gateway_api(item, name, Head::Request);
                self.plain.extend(edit.map(Filter::RequestHeaders));
            }
            "responseHeaderModifier" => {
                let edit = headers::gateway_api(item, name, Head::Response);
                self.plain.extend(edit.map(Filter::ResponseHeaders));
            }
            "requestRedirect" => self.redirect = below().and_then(|node| redirect(node, reader)),
            "urlRewrite" => {
                self.plain.extend(below().and_then(|node| rewrite(node, reader)).map(Filter::Rewrite));
            }
            "requestMirror" => self.mirrors.extend(below().and_then(|node| mirror(node, reader))),
            "cors" => self.plain.extend(below().and_then(|node| cors(node, reader)).map(Filter::Cors)),
            other => {
                let message = format!("the filter `{other}` is not enforced yet, so what has it answers 500");
                reader.unsupported(kind.span, message);
                self.closed = Some(other);
            }
        }
    }

    /// Whether a filter replaces the prefix that a match matched.
    pub(super) fn replaces_prefix(&self) -> bool {
        let path = self.redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        matches!(path, Some(PathRewrite::Matched(_))) || self.plain.iter().any(replaces_prefix)
    }

    /// Filters that cannot stand at a backend.
    pub(super) fn only_of_rules(&self) -> impl Iterator<Item = &'static str> {
        let cors = self.plain.iter().any(|filter| matches!(filter, Filter::Cors(_)));
        let redirect = self.redirect.is_some().then_some("RequestRedirect");
        redirect.into_iter().chain(cors.then_some("CORS"))
    }
}

fn redirect(node: &Node, reader: &Reader) -> Option<Redirect> {
    let fields = reader.fields(node, &["scheme", "hostname", "path", "port", "statusCode"], &[])?;
    let scheme = fields.choice("scheme", &[("http", "http"), ("https", "https")]);
    let of_scheme = if scheme.is_some() { RedirectPort::OfScheme } else { RedirectPort::OfRequest };
    Some(Redirect {
        status: fields.get("statusCode").map_or(Some(302), |node| status(node, reader))?,
        scheme: scheme.map(|at| at.value.into()),
        host: host(&fields)?,
        port: fields.port("port").map_or(of_scheme, |port| RedirectPort::Number(port.value)),
        path: fields.get("path").and_then(|node| path(node, reader)),
    })
}

/// `hostname`, if there is one; nothing where it is wrong.
fn host(fields: &Fields<'_>) -> Option<Option<Str>> {
    if !fields.has("hostname") {
        return Some(None);
    }
    let host = fields.parsed("hostname", Hostname::parse)?;
    Some(Some(host.as_str().into()))
}

fn rewrite(node: &Node, reader: &Reader) -> Option<Rewrite> {
    let fields = reader.fields(node, &["hostname", "path"], &[])?;
    let path = fields.get("path").and_then(|node| path(node, reader));
    Some(Rewrite { path, authority: host(&fields)? })
}

fn path(node: &Node, reader: &Reader) -> Option<PathRewrite> {
    let fields = reader.fields(node, &["type", "replaceFullPath", "replacePrefixMatch"], &[])?;
    fields.need("type")?;
    let words = [("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")];
    let kind = fields.choice("type", &words)?.value;
    let text = reader.text(fields.need(kind)?)?;
    if text.bytes().any(|b| b <= 0x20 || b == 0x7f) {
        reader.error(text.span, "a path may not hold spaces and control characters");
        return None;
    }
    if !text.is_empty() && !text.starts_with('/') {
        let draft = Draft::error(text.span, "a path begins with `/`");
        reader.push(draft.suggest(Some(format!("/{}", text.as_str()))));
        return None;
    }
    Some(if kind == "replaceFullPath" {
        PathRewrite::Full(text.value)
    } else {
        PathRewrite::Matched(text.value)
    })
}

fn mirror(node: &Node, reader: &Reader) -> Option<(BackendSpec, Share)> {
    let fields = reader.fields(node, &["backendRef", "percent", "fraction"], &[])?;
    fields.exclude(&["percent", "fraction"]);
    let below = fields.need("backendRef")?;
    let backend = target(&reader.fields(below, &["group", "kind", "name", "namespace", "port"], &[])?)?;
    let fraction = match fields.fields("fraction", &["numerator", "denominator"], &[]) {
        Some(below) => {
            below.need("numerator")?;
            let numerator = below.integer("numerator", 0, i64::from(i32::MAX))?;
            let denominator = match below.get("denominator") {
                Some(node) => reader.integer(node, 1, i64::from(i32::MAX))?.value,
                None => 100,
            };
            if numerator.value > denominator {
                let draft = Draft::error(numerator.span, "the fraction is more than all requests");
                reader.push(draft.expected(format!("at most {denominator}")));
                return None;
            }
            Some(share(numerator.value as f64 / denominator as f64 * 100.0))
        }
        None => None,
    };
    let percent = fields.integer("percent", 0, 100).map(|at| share(at.value as f64));
    Some((backend, fraction.or(percent).unwrap_or(Share::ALL)))
}

fn cors(node: &Node, reader: &Reader) -> Option<Cors> {
    let fields = reader.fields(
        node,
        &["allowOrigins", "allowCredentials", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge"],
        &[],
    )?;
    let origins = fields.texts("allowOrigins");
    let age = fields
        .get("maxAge")
        .map_or(Some(5), |node| Some(reader.integer(node, 1, i64::from(i32::MAX))?.value));
    Some(Cors {
        allow_origins: origins.iter().filter_map(|origin| self::origin(origin, reader)).collect(),
        allow_methods: names(&fields, "allowMethods"),
        allow_headers: names(&fields, "allowHeaders"),
        expose_headers: names(&fields, "exposeHeaders"),
        max_age: age.and_then(|age| u64::try_from(age).ok()).map(Duration::from_secs),
        allow_credentials: fields.boolean("allowCredentials").unwrap_or(false),
        forward_unmatched_preflights: false,
    })
}

/// `*`, `https://www.example.com`, or with a host that begins with `*.`.
fn origin(text: &At<Str>, reader: &Reader) -> Option<StringMatch> {
    if text.as_str() == "*" {
        return Some(StringMatch::Present);
    }
    let Some((scheme, host)) =
        text.split_once("://").filter(|(scheme, host)| !scheme.is_empty() && !host.is_empty())
    else {
        let draft = Draft::error(text.span, format!("{:?} is no origin", text.as_str()));
        reader.push(draft.expected("`*`, or a scheme and a host such as https://www.example.com"));
        return None;
    };
    if !host.contains('*') {
        return Some(StringMatch::Exact(text.value.clone()));
    }
    // A wildcard stands for any labels on the left.
    let Some(rest) = host.strip_prefix('*').filter(|rest| !rest.contains('*')) else {
        let draft = Draft::error(text.span, "`*` may only begin the host");
        reader.push(draft.expected("an origin such as https://*.example.com"));
        return None;
    };
    let pattern = format!("{}://.+{}", escape(scheme), escape(rest));
    reader.parse(&At { value: Str::from(pattern), span: text.span }, FullRegex::parse).map(StringMatch::Regex)
}

/// The text as a regular expression that matches it only.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() && !matches!(character, '_' | '-' | '/' | ':') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
