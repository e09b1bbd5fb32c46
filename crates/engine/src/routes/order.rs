//! `Order`: which of two alternatives is asked first.

use lateen_model::{PathMatch, Precedence, RequestMatch, Route, StringMatch};
use std::cmp::{Ordering, Reverse};

/// Where an alternative stands. Gateway API: the most specific first, whichever route it is of; then what is
/// asked as listed, route after route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Order {
    listed: bool,
    specificity: Option<Specificity>,
}

/// How specific a match is (Gateway API `HTTPRouteRule.matches`): exact path, longest prefix, method, number of
/// headers, number of query parameters. A regular expression stands before the prefix `/`, which would
/// else always hide it, and after every longer one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Specificity {
    path: (u8, Reverse<u32>),
    no_method: bool,
    headers: Reverse<u32>,
    query: Reverse<u32>,
}

impl Order {
    pub(super) fn of(route: &Route, matching: Option<&RequestMatch>) -> Self {
        let listed = route.precedence == Precedence::Listed;
        let count = |of: fn(&RequestMatch) -> usize| Reverse(small(matching.map_or(0, of)));
        let specificity = (!listed).then(|| Specificity {
            path: path_rank(matching.and_then(|matching| matching.path.as_ref())),
            no_method: matching.is_none_or(|matching| matching.method.is_none()),
            headers: count(|matching| matching.headers.len() + matching.without_headers.len()),
            query: count(|matching| matching.query.len()),
        });
        Self { listed, specificity }
    }

    /// Of two alternatives with the same order, the one of the older route; of the same age by name.
    pub(super) fn of_routes(self, a: &Route, b: &Route) -> Ordering {
        fn name(route: &Route) -> (&str, &str) {
            (route.key.namespace.as_str(), route.key.name.as_str())
        }
        let by_name = || if self.listed { Ordering::Equal } else { name(a).cmp(&name(b)) };
        a.created.cmp(&b.created).then_with(by_name).then_with(|| a.key.cmp(&b.key))
    }
}

fn path_rank(path: Option<&PathMatch>) -> (u8, Reverse<u32>) {
    match path {
        Some(PathMatch::Text(StringMatch::Exact(text) | StringMatch::ExactIgnoreCase(text))) => {
            (0, longest(text))
        }
        Some(PathMatch::Segments(text)) if !text.is_empty() => (1, longest(text)),
        Some(PathMatch::Text(StringMatch::Prefix(text) | StringMatch::PrefixIgnoreCase(text)))
            if text.len() > 1 =>
        {
            (1, longest(text))
        }
        Some(PathMatch::Text(StringMatch::Regex(regex))) => (2, longest(regex.pattern())),
        Some(PathMatch::Text(StringMatch::Suffix(text))) => (2, longest(text)),
        _ => (3, Reverse(0)),
    }
}

fn longest(text: &str) -> Reverse<u32> {
    Reverse(small(text.len()))
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
