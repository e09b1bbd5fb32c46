//! What a path becomes: the same for what is sent on and for the location of a redirect.

use lateen_model::{PathMatch, PathRewrite, Precedence, StringMatch};
use std::borrow::Cow;

/// How much of the path a rule's match has matched: what a rewrite of the matched part replaces.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MatchedPath {
    /// All of it.
    #[default]
    Whole,
    /// So many bytes, as text: what follows is put behind the new part as it is (Istio's prefixes, Envoy's
    /// `prefix_rewrite`), so `/foo` rewritten to `/` makes `//bar` of `/foo/bar`.
    Text(u32),
    /// So many bytes, which end with a segment: one slash stands between the new part and what follows (Gateway API
    /// `ReplacePrefixMatch`).
    Segments(u32),
}

impl MatchedPath {
    /// What a match on the path matches, if it does. Without one everything begins with `/`, as text in a
    /// VirtualService and as a segment in a route of Gateway API.
    pub(crate) fn of(path: Option<&PathMatch>, precedence: Precedence) -> Self {
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        match path {
            Some(PathMatch::Segments(prefix)) => Self::Segments(length(prefix)),
            Some(PathMatch::Text(StringMatch::Prefix(prefix) | StringMatch::PrefixIgnoreCase(prefix))) => {
                Self::Text(length(prefix))
            }
            Some(PathMatch::Text(_)) => Self::Whole,
            None if precedence == Precedence::MostSpecific => Self::Segments(0),
            None => Self::Text(1),
        }
    }
}

/// Path and query after a rewrite: always absolute, never with a byte that could end a request line. The query stays.
pub fn rewrite_path(rewrite: &PathRewrite, matched: MatchedPath, target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    if !path.starts_with('/') {
        // `*` is no path.
        return target.to_owned();
    }
    let after = |length: u32| path.get(length as usize..).unwrap_or_default();
    let (new, rest) = match rewrite {
        PathRewrite::Full(text) => (Cow::Borrowed(text.as_str()), ""),
        PathRewrite::Regex(regex) => (regex.apply(path), ""),
        PathRewrite::Matched(text) => match matched {
            MatchedPath::Whole => (Cow::Borrowed(text.as_str()), ""),
            MatchedPath::Text(length) => (Cow::Borrowed(text.as_str()), after(length)),
            MatchedPath::Segments(length) => (Cow::Borrowed(text.trim_end_matches('/')), after(length)),
        },
    };
    let mut out = String::with_capacity(new.len() + rest.len() + query.len() + 1);
    let first = if new.is_empty() { rest } else { &new };
    if !first.starts_with('/') {
        out.push('/');
    }
    for part in [&*new, rest, query] {
        push_visible(&mut out, part);
    }
    out
}

/// Text as it is, but for bytes that no request line may hold: those are escaped.
fn push_visible(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        out.push_str(text);
        return;
    }
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::RegexRewrite;

    /// The table of `HTTPPathModifier.replacePrefixMatch` in Gateway API, whole.
    #[test]
    fn prefixes_of_segments() {
        for (target, prefix, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar?q=/foo", "/foo", "/", "/bar?q=/foo"),
            ("/foo?q", "/foo", "/xyz/", "/xyz?q"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/", "/", "/xyz", "/xyz/"),
        ] {
            let matched = MatchedPath::of(Some(&PathMatch::segments(prefix)), Precedence::MostSpecific);
            let found = rewrite_path(&PathRewrite::Matched(new.into()), matched, target);
            assert_eq!(found, expected, "{target} under {prefix} to {new}");
        }
    }

    #[test]
    fn other_matches() {
        let text =
            |of: fn(lateen_model::Str) -> StringMatch, text: &str| Some(PathMatch::Text(of(text.into())));
        let regex = |pattern: &str, substitution: &str| {
            PathRewrite::Regex(RegexRewrite::parse(pattern, substitution).expect("a pattern"))
        };
        let matched = |text: &str| PathRewrite::Matched(text.into());
        for (path, rewrite, target, expected) in [
            // As Envoy: the text after the prefix follows as it is.
            (text(StringMatch::Prefix, "/foo"), matched("/"), "/foo/bar?q", "//bar?q"),
            (text(StringMatch::Prefix, "/foo/"), matched("/"), "/foo/bar", "/bar"),
            (text(StringMatch::PrefixIgnoreCase, "/foo"), matched("/x"), "/FOObar", "/xbar"),
            (text(StringMatch::Exact, "/foo"), matched("/x"), "/foo?q=1", "/x?q=1"),
            (None, matched("/x/"), "/foo", "/x/foo"),
            // Envoy would send these without a leading slash, which is no request.
            (text(StringMatch::Prefix, "/foo/"), matched("x/"), "/foo/bar", "/x/bar"),
            (text(StringMatch::Prefix, "/foo/"), matched(""), "/foo/", "/"),
            (None, PathRewrite::Full("/x".into()), "/foo/bar?q", "/x?q"),
            (None, PathRewrite::Full("".into()), "/foo", "/"),
            (None, PathRewrite::Full("/a b\r\nx: é".into()), "/foo", "/a%20b%0D%0Ax:%20%C3%A9"),
            (None, regex("^/v1/(.*)$", r"/v2/\1"), "/v1/a?x=/v1/", "/v2/a?x=/v1/"),
            (None, regex("o", "0"), "/foo", "/f00"),
            (None, regex("/foo", ""), "/foo", "/"),
            (None, regex("/zz", "x"), "/foo", "/foo"),
            (None, matched("/x"), "*", "*"),
        ] {
            let at = MatchedPath::of(path.as_ref(), Precedence::Listed);
            assert_eq!(rewrite_path(&rewrite, at, target), expected, "{path:?} {rewrite:?} {target}");
        }
    }
}
