//! `sessionPersistence`.

use super::super::headers::is_header_name;
use crate::problem::Draft;
use crate::read::Fields;
use lateen_model::{PathMatch, RequestMatch, SessionPersistence, SessionToken, Str, StringMatch};

/// The name of a session whose route gives none.
const NAME: &str = "lateen-session";

pub(crate) fn read(rule: &Fields<'_>, matches: &[RequestMatch]) -> Option<SessionPersistence> {
    let fields = rule.fields(
        "sessionPersistence",
        &["sessionName", "absoluteTimeout", "idleTimeout", "type", "cookieConfig"],
        &[],
    )?;
    let header = fields.choice("type", &[("Cookie", false), ("Header", true)]).is_some_and(|at| at.value);
    let permanent = fields
        .fields("cookieConfig", &["lifetimeType"], &[])
        .and_then(|cookie| cookie.choice("lifetimeType", &[("Session", false), ("Permanent", true)]))
        .is_some_and(|at| at.value);
    if header && fields.has("cookieConfig") {
        fields.reader.error(fields.key_span("cookieConfig"), "`cookieConfig` is for the type `Cookie`");
    }
    let absolute_timeout = fields.span_of_time("absoluteTimeout").map(|at| at.value);
    if permanent && absolute_timeout.is_none() {
        let draft = Draft::error(fields.first_line(), "a permanent cookie needs an end");
        fields.lacks(draft.expected("`absoluteTimeout`"));
    }
    let name = match fields.text("sessionName") {
        Some(text) if !is_header_name(&text) || text.len() > 128 => {
            let what = if header { "header" } else { "cookie" };
            fields.reader.error(text.span, format!("{:?} is no name of a {what}", text.as_str()));
            return None;
        }
        Some(text) => text.value,
        None => NAME.into(),
    };
    let by = match header {
        true => SessionToken::Header(name.to_ascii_lowercase().into()),
        false => SessionToken::Cookie { name, path: path(matches), permanent },
    };
    let idle_timeout = fields.span_of_time("idleTimeout").map(|at| at.value);
    Some(SessionPersistence { by, absolute_timeout, idle_timeout })
}

/// The path of the cookie: that of the matches, where they have the same and it is no regular expression.
fn path(matches: &[RequestMatch]) -> Str {
    let one = |one: &RequestMatch| match &one.path {
        Some(PathMatch::Segments(prefix)) if !prefix.is_empty() => Some(prefix.clone()),
        Some(PathMatch::Text(StringMatch::Exact(path))) => Some(path.clone()),
        _ => None,
    };
    let first = matches.first().and_then(one);
    let same = matches.iter().all(|other| one(other) == first);
    // A `;` would end the path and begin an attribute.
    first.filter(|path| same && !path.contains([';', ','])).unwrap_or_else(|| "/".into())
}
