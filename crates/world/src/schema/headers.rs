//! Changes to heads, as VirtualServices and the routes of Gateway API write them.

use crate::problem::{At, Draft, nearest};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{Format, HeaderEdit, InvalidFormat, Str};

/// Changes to the heads of requests and of answers.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Edits {
    pub(crate) request: HeaderEdit,
    pub(crate) response: HeaderEdit,
}

/// Whose head is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Request,
    Response,
}

/// Istio's `{request: {set, add, remove}, response: {..}}`, with values in Envoy's notation.
pub(crate) fn istio(node: &Node, reader: &Reader) -> Edits {
    let Some(fields) = reader.fields(node, &["request", "response"], &[]) else { return Edits::default() };
    let edit = |name: &str, head: Head| {
        let below = fields.fields(name, &["set", "add", "remove"], &[])?;
        let pairs = |list: &str, may_be_host: bool| {
            let pairs = below.get(list).map(|node| reader.pairs(node)).unwrap_or_default();
            let one = |(name, value): (Str, At<Str>)| {
                let name = name_of(&name, &value, may_be_host, reader)?;
                Some((name, format(&value, reader)?))
            };
            pairs.into_iter().filter_map(one).collect::<Vec<_>>()
        };
        Some(HeaderEdit {
            set: pairs("set", head == Head::Request),
            add: pairs("add", false),
            remove: removed(&below),
        })
    };
    Edits {
        request: edit("request", Head::Request).unwrap_or_default(),
        response: edit("response", Head::Response).unwrap_or_default(),
    }
}

/// Gateway API's `{set: [{name, value}], add, remove}`, with values that mean themselves.
pub(crate) fn gateway_api(item: &Fields<'_>, name: &str, head: Head) -> Option<HeaderEdit> {
    item.need(name)?;
    let fields = item.fields(name, &["set", "add", "remove"], &[])?;
    let pairs = |list: &str, may_be_host: bool| {
        let mut found: Vec<(Str, Format)> = Vec::new();
        for pair in fields.each(list, &["name", "value"], &[]) {
            let (Some(name), Some(value)) = (pair.need_text("name"), pair.text("value")) else { continue };
            let Some(lower) = name_of(&name, &name, may_be_host, item.reader) else { continue };
            if !fits(&value, item.reader) {
                continue;
            }
            // Of several entries with one name the first counts.
            if !found.iter().any(|(other, _)| *other == lower) {
                found.push((lower, Format::literal(value.value)));
            }
        }
        found
    };
    Some(HeaderEdit {
        set: pairs("set", head == Head::Request),
        add: pairs("add", false),
        remove: removed(&fields),
    })
}

fn removed(fields: &Fields<'_>) -> Vec<Str> {
    let names = fields.texts("remove");
    names.iter().filter_map(|name| name_of(name, name, false, fields.reader)).collect()
}

/// The name of a header that may be changed, in lower case.
fn name_of(name: &str, at: &At<Str>, may_be_host: bool, reader: &Reader) -> Option<Str> {
    let lower = name.to_ascii_lowercase();
    if matches!(lower.as_str(), "host" | ":authority") {
        if may_be_host {
            return Some(lower.into());
        }
        let draft = Draft::error(at.span, format!("{name:?} may be set only, and only in requests"));
        reader.push(draft.expected("it under `request.set`, or `rewrite.authority`"));
        return None;
    }
    if !is_header_name(&lower) {
        reader.error(at.span, format!("{name:?} is no header name"));
        return None;
    }
    Some(lower.into())
}

fn fits(value: &At<Str>, reader: &Reader) -> bool {
    let fits = !value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f);
    if !fits {
        reader.error(value.span, "a header value may not hold control characters");
    }
    fits
}

fn format(value: &At<Str>, reader: &Reader) -> Option<Format> {
    if !fits(value, reader) {
        return None;
    }
    match Format::parse(value) {
        Ok(format) => Some(format),
        Err(error) => {
            let near = match &error {
                InvalidFormat::Unknown(name) => nearest(name, Format::names()),
                _ => None,
            };
            let example = match &error {
                InvalidFormat::Arguments(_) => {
                    Some("a name in it, such as %REQ(x-user)% or %REQ(:path?x-path):16%")
                }
                _ => None,
            };
            let draft = Draft::error(value.span, error.to_string()).suggest(near);
            reader.push(match example {
                Some(example) => draft.expected(example),
                None => draft,
            });
            None
        }
    }
}

/// A token of RFC 9110 5.6.2.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
