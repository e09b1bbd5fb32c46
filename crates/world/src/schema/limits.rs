//! RateLimitPolicy and RequestLimitPolicy.

use super::headers::is_header_name;
use super::http_route::request_match;
use super::security::Attachment;
use crate::problem::Draft;
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{Descriptor, LimitRule, RateLimit, RequestLimit};
use std::time::Duration;

/// A policy of limits, and what it is attached to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LimitSpec<T> {
    pub(crate) attachment: Attachment,
    pub(crate) limit: T,
}

/// The longest time that a limit counts over.
const LONGEST: Duration = Duration::from_secs(86_400);

pub(crate) fn rate_limit(node: &Node, reader: &Reader) -> Option<LimitSpec<RateLimit>> {
    let fields = reader.fields(node, &["targetRef", "targetRefs", "selector", "rules"], &[])?;
    let rules = fields.need("rules").map(|node| reader.items(node)).unwrap_or_default();
    if rules.is_empty() && fields.has("rules") {
        reader.error(fields.key_span("rules"), "`rules` is empty, so nothing is limited");
    }
    let mut read: Vec<LimitRule> = Vec::new();
    for (index, node) in rules.iter().enumerate() {
        let Some(rule) = rule(index, node, reader) else { continue };
        if read.iter().any(|other| other.name == rule.name) {
            reader.error(node.span, format!("a rule named {:?} is there already", rule.name.as_str()));
            continue;
        }
        read.push(rule);
    }
    Some(LimitSpec { attachment: Attachment::read(&fields), limit: RateLimit { rules: read } })
}

fn rule(index: usize, node: &Node, reader: &Reader) -> Option<LimitRule> {
    let fields = reader.fields(node, &["name", "matches", "key", "requests", "per", "burst"], &[])?;
    let matches: Vec<_> =
        fields.list("matches").iter().filter_map(|item| request_match(item, reader)).collect();
    let most = i64::from(i32::MAX);
    fields.need("requests")?;
    let requests = fields.integer("requests", 0, most)?.value as u32;
    fields.need("per")?;
    let per = fields.span_of_time("per")?;
    if per.value > LONGEST {
        reader.push(Draft::error(per.span, "`per` is too long").expected("24h or less"));
        return None;
    }
    let burst = fields.integer("burst", 1, most).map(|at| at.value as u32);
    if requests == 0 && burst.is_some() {
        reader.error(fields.key_span("burst"), "`requests: 0` refuses all, so no burst can pass");
    }
    Some(LimitRule {
        name: fields.text("name").map_or_else(|| index.to_string().into(), |text| text.value),
        matches,
        key: fields.list("key").iter().filter_map(|item| descriptor(item, reader)).collect(),
        requests,
        per: per.value,
        burst: burst.unwrap_or(requests),
    })
}

/// `{type: Header, name: x-user}`, `{type: Path}` and so on.
fn descriptor(node: &Node, reader: &Reader) -> Option<Descriptor> {
    #[derive(Clone, Copy, PartialEq)]
    enum Type {
        Header,
        Path,
        Method,
        Host,
        Principal,
        ClientAddress,
    }
    let fields = reader.fields(node, &["type", "name"], &[])?;
    let words = [
        ("Header", Type::Header),
        ("Path", Type::Path),
        ("Method", Type::Method),
        ("Host", Type::Host),
        ("Principal", Type::Principal),
        ("ClientAddress", Type::ClientAddress),
    ];
    fields.need("type")?;
    let kind = fields.choice("type", &words)?.value;
    if kind != Type::Header && fields.has("name") {
        reader.error(fields.key_span("name"), "`name` goes with the type `Header` only");
    }
    Some(match kind {
        Type::Header => {
            let name = fields.need_text("name")?;
            if !is_header_name(&name) {
                reader.error(name.span, format!("{:?} is no header name", name.as_str()));
                return None;
            }
            Descriptor::Header(name.to_ascii_lowercase().into())
        }
        Type::Path => Descriptor::Path,
        Type::Method => Descriptor::Method,
        Type::Host => Descriptor::Host,
        Type::Principal => Descriptor::Principal,
        Type::ClientAddress => Descriptor::ClientAddress,
    })
}

const SIZES: [&str; 4] = ["requestBodyBytes", "responseBodyBytes", "requestHeadBytes", "requestHeaders"];

pub(crate) fn request_limit(node: &Node, reader: &Reader) -> Option<LimitSpec<RequestLimit>> {
    let fields = reader.fields(
        node,
        &[
            "targetRef",
            "targetRefs",
            "selector",
            "requestBodyBytes",
            "responseBodyBytes",
            "requestHeadBytes",
            "requestHeaders",
        ],
        &[],
    )?;
    if !SIZES.into_iter().any(|name| fields.has(name)) {
        let draft = Draft::error(fields.first_line(), "nothing is limited");
        fields.lacks(draft.expected(crate::read::one_of(&SIZES)));
    }
    let bytes = |name| fields.integer(name, 0, i64::MAX).map(|at| at.value.unsigned_abs());
    let few =
        |fields: &Fields<'_>, name| fields.integer(name, 1, i64::from(u32::MAX)).map(|at| at.value as u32);
    Some(LimitSpec {
        attachment: Attachment::read(&fields),
        limit: RequestLimit {
            request_body: bytes("requestBodyBytes"),
            response_body: bytes("responseBodyBytes"),
            request_head: few(&fields, "requestHeadBytes"),
            request_headers: few(&fields, "requestHeaders"),
        },
    })
}
