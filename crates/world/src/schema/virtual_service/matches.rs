//! `match`.

use super::super::head;
use super::super::headers::is_header_name;
use crate::problem::{At, Draft};
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Value};
use lateen_model::{FullRegex, NamedMatch, Namespace, PathMatch, RequestMatch, Selector, Str, StringMatch};

/// One entry of `match`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MatchSpec {
    pub(crate) name: Option<Str>,
    pub(crate) request: RequestMatch,
    pub(crate) gateways: Vec<At<Str>>,
    /// A condition in it is not enforced: taken without it, it would match too much, so it matches nothing.
    pub(crate) never: bool,
}

const MATCH: &[&str] = &[
    "name",
    "uri",
    "scheme",
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
];

pub(super) fn read(node: &Node, reader: &Reader) -> Option<MatchSpec> {
    let (spec, never) = reader.noting(|| {
        let fields = reader.fields(node, MATCH, &[])?;
        let ignore_case = fields.boolean("ignoreUriCase").unwrap_or(false);
        let text = |name, ignore| fields.get(name).and_then(|node| string_match(node, reader, ignore));
        let request = RequestMatch {
            path: text("uri", ignore_case).map(PathMatch::Text),
            scheme: text("scheme", false),
            method: text("method", false),
            authority: text("authority", true),
            headers: named(&fields, "headers", true),
            without_headers: named(&fields, "withoutHeaders", true),
            query: named(&fields, "queryParams", false),
            port: fields.port("port").map(|port| port.value),
            source_labels: Selector::new(fields.labels("sourceLabels")),
            source_namespace: fields.parsed("sourceNamespace", Namespace::parse).map(|at| at.value),
        };
        Some((fields.text("name").map(|text| text.value), request, fields.texts("gateways")))
    });
    // It names statistics and changes no traffic, so the match stays alive without it.
    if let Some(prefix) = node.get("statPrefix") {
        reader.unsupported(prefix.span, "`statPrefix` is not enforced yet");
    }
    let (name, request, gateways) = spec?;
    Some(MatchSpec { name, request, gateways, never })
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

/// Names with what their values must be; `{}` asks only that they are there.
fn named(fields: &Fields<'_>, list: &str, header: bool) -> Vec<NamedMatch> {
    let reader = fields.reader;
    let Some(node) = fields.get(list) else { return Vec::new() };
    let Value::Map(entries) = &node.value else {
        reader.wrong_type(node, "a mapping of names to matches");
        return Vec::new();
    };
    let one = |(key, node): &(At<Box<str>>, Node)| {
        if key.value.starts_with('@') {
            reader.unsupported(key.span, "routing by the claims of a token is not enforced yet");
            return None;
        }
        // `:path` and its like are looked at by fields of their own.
        if header && !is_header_name(key.value.trim_start_matches(':')) {
            reader.error(key.span, format!("{:?} is no header name", key.value));
            return None;
        }
        // `*` is no regular expression; Istio takes it for "is there".
        let present = matches!(&node.value, Value::Null)
            || matches!(&node.value, Value::Map(fields) if fields.is_empty())
            || node.get("regex").and_then(Node::as_text) == Some("*");
        let value = if present { StringMatch::Present } else { string_match(node, reader, false)? };
        let name = if header { key.value.to_ascii_lowercase() } else { key.value.to_string() };
        Some(NamedMatch { name: name.into(), value })
    };
    entries.iter().filter_map(one).collect()
}
