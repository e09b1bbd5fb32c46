//! `redirect`, `directResponse`, `rewrite`, `corsPolicy`.

use super::super::headers::is_header_name;
use super::matches::string_match;
use crate::problem::{At, Draft};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use base64::Engine as _;
use lateen_model::{
    Cors, DirectResponse, Hostname, PathRewrite, Redirect, RedirectPort, RegexRewrite, Rewrite, Str,
    StringMatch,
};
use std::time::Duration;

/// Istio's bound of a fixed body.
const MAX_BODY: usize = 1 << 20;

pub(super) fn redirect(node: &Node, reader: &Reader) -> Option<Redirect> {
    let fields = reader.fields(
        node,
        &["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode"],
        &[],
    )?;
    let told = ["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme"];
    if !told.into_iter().any(|name| fields.has(name)) {
        let draft = Draft::error(fields.first_line(), "the redirect leads back to itself");
        fields.lacks(draft.expected("`uri`, `prefixRewrite`, `authority`, `port` or `scheme`"));
    }
    fields.exclude(&["uri", "prefixRewrite"]);
    fields.exclude(&["port", "derivePort"]);
    let (host, own_port) = match fields.text("authority") {
        Some(text) => {
            let (host, port) = authority(&text, reader)?;
            (Some(host), port)
        }
        None => (None, None),
    };
    let derived =
        [("FROM_PROTOCOL_DEFAULT", RedirectPort::OfScheme), ("FROM_REQUEST_PORT", RedirectPort::OfRequest)];
    let port = fields.port("port").map(|port| port.value).or(own_port).map(RedirectPort::Number);
    let full = path(&fields, "uri").map(PathRewrite::Full);
    Some(Redirect {
        status: fields.get("redirectCode").map_or(Some(301), |node| status(node, reader))?,
        scheme: fields.choice("scheme", &[("http", "http"), ("https", "https")]).map(|at| at.value.into()),
        host,
        port: port.or(fields.choice("derivePort", &derived).map(|at| at.value)).unwrap_or_default(),
        path: full.or_else(|| path(&fields, "prefixRewrite").map(PathRewrite::Matched)),
    })
}

/// A status of a redirect, of those that carry a location.
pub(crate) fn status(node: &Node, reader: &Reader) -> Option<u16> {
    let number = reader.integer(node, 300, 399)?;
    let known = matches!(number.value, 301 | 302 | 303 | 307 | 308);
    if !known {
        let draft = Draft::error(number.span, "no redirect has this status");
        reader.push(draft.expected("301, 302, 303, 307 or 308"));
    }
    known.then_some(number.value as u16)
}

/// `host` or `host:port`.
fn authority(text: &At<Str>, reader: &Reader) -> Option<(Str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text.as_str(), None),
    };
    let port = match port.map(str::parse::<u16>) {
        Some(Ok(port)) if port > 0 => Some(port),
        None => None,
        Some(_) => {
            reader.push(Draft::error(text.span, "the port is none").expected("`host` or `host:port`"));
            return None;
        }
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let at = At { value: Str::from(bare), span: text.span };
    reader.parse(&at, Hostname::parse)?;
    Some((host.into(), port))
}

/// A path to write into a request or a location: a control character or space would break its line.
fn path(fields: &Fields<'_>, name: &str) -> Option<Str> {
    let text = fields.text(name)?;
    if text.bytes().any(|b| b <= 0x20 || b == 0x7f) {
        fields.reader.error(text.span, "a path may not hold spaces and control characters");
        return None;
    }
    Some(text.value)
}

pub(super) fn direct(node: &Node, reader: &Reader) -> Option<DirectResponse> {
    let fields = reader.fields(node, &["status", "body"], &[])?;
    let status = reader.integer(fields.need("status")?, 200, 599)?;
    let body = match fields.fields("body", &["string", "bytes"], &[]) {
        Some(body) => self::body(&body)?,
        None => Vec::new(),
    };
    Some(DirectResponse { status: status.value as u16, body: body.into() })
}

fn body(fields: &Fields<'_>) -> Option<Vec<u8>> {
    let reader = fields.reader;
    fields.exclude(&["string", "bytes"]);
    let (body, span) = match (fields.text("string"), fields.text("bytes")) {
        (Some(text), _) => (text.as_bytes().to_vec(), text.span),
        (None, Some(text)) => {
            let compact: String = text.split_ascii_whitespace().collect();
            match base64::engine::general_purpose::STANDARD.decode(compact) {
                Ok(bytes) => (bytes, text.span),
                Err(_) => {
                    reader.push(
                        Draft::error(text.span, "`bytes` is not base64")
                            .expected("base64; plain text goes under `string`"),
                    );
                    return None;
                }
            }
        }
        (None, None) => {
            let draft = Draft::error(fields.first_line(), "the body has no content");
            fields.lacks(draft.expected("`string` or `bytes`"));
            return None;
        }
    };
    if body.len() > MAX_BODY {
        reader.push(Draft::error(span, "the body is too large").expected("at most 1 MiB"));
        return None;
    }
    Some(body)
}

pub(super) fn rewrite(node: &Node, reader: &Reader) -> Option<Rewrite> {
    let fields = reader.fields(node, &["uri", "authority", "uriRegexRewrite"], &[])?;
    if !["uri", "authority", "uriRegexRewrite"].into_iter().any(|name| fields.has(name)) {
        let draft = Draft::error(fields.first_line(), "`rewrite` says nothing");
        fields.lacks(draft.expected("`uri`, `authority` or `uriRegexRewrite`"));
    }
    fields.exclude(&["uri", "uriRegexRewrite"]);
    let regex = fields.fields("uriRegexRewrite", &["match", "rewrite"], &[]).and_then(|below| {
        let (pattern, substitution) = (below.need_text("match")?, below.need("rewrite")?);
        let substitution = reader.text(substitution)?;
        reader.parse(&pattern, |pattern| RegexRewrite::parse(pattern, &substitution)).map(PathRewrite::Regex)
    });
    let authority = fields.text("authority").and_then(|text| {
        let (host, port) = authority(&text, reader)?;
        Some(match port {
            Some(port) => Str::from(format!("{host}:{port}")),
            None => host,
        })
    });
    Some(Rewrite { path: path(&fields, "uri").map(PathRewrite::Matched).or(regex), authority })
}

/// Names of methods or headers, of which an answer will be made.
pub(crate) fn names(fields: &Fields<'_>, list: &str) -> Vec<Str> {
    let good = |text: &At<Str>| {
        let good = is_header_name(text);
        if !good {
            fields.reader.error(text.span, format!("{:?} is no name", text.as_str()));
        }
        good
    };
    fields.texts(list).into_iter().filter(good).map(|text| text.value).collect()
}

pub(super) fn cors(node: &Node, reader: &Reader) -> Option<Cors> {
    let fields = reader.fields(
        node,
        &[
            "allowOrigins",
            "allowOrigin",
            "allowMethods",
            "allowHeaders",
            "exposeHeaders",
            "maxAge",
            "allowCredentials",
            "unmatchedPreflights",
        ],
        &[],
    )?;
    let any = |origin: StringMatch| match origin {
        StringMatch::Exact(text) if text == "*" => StringMatch::Present,
        origin => origin,
    };
    let origins = fields.list("allowOrigins").iter();
    let origins = origins.filter_map(|item| string_match(item, reader, false)).map(any);
    let old = fields.texts("allowOrigin").into_iter().map(|text| any(StringMatch::Exact(text.value)));
    let words = |name| names(&fields, name);
    let unmatched = [("FORWARD", true), ("IGNORE", false), ("UNSPECIFIED", true)];
    let max_age = fields.duration("maxAge");
    if let Some(age) = max_age.as_ref().filter(|age| age.value.subsec_nanos() != 0) {
        let draft = Draft::error(age.span, "`maxAge` counts whole seconds");
        reader.push(draft.expected(format!("{}s", age.value.as_secs() + 1)));
    }
    Some(Cors {
        allow_origins: origins.chain(old).collect(),
        allow_methods: words("allowMethods"),
        allow_headers: words("allowHeaders"),
        expose_headers: words("exposeHeaders"),
        max_age: max_age.map(|age| Duration::from_secs(age.value.as_secs())),
        allow_credentials: fields.boolean("allowCredentials").unwrap_or(false),
        forward_unmatched_preflights: fields
            .choice("unmatchedPreflights", &unmatched)
            .is_none_or(|at| at.value),
    })
}
