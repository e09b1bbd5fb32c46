//! `TableEntry`: one alternative of one rule, as it is asked at a place.

use super::Asked;
use super::order::Order;
use crate::paths::proves;
use crate::rewrite::MatchedPath;
use crate::rule::CompiledRule;
use crate::trace::Trace;
use crate::{Denial, RequestDecision, RequestFacts};
use lateen_model::{NamedMatch, PathMatch, RequestMatch, Selector, StringMatch, Viewer};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// One alternative of one rule. Entries compare by where they stand in their table.
#[derive(Debug)]
pub(crate) struct TableEntry {
    pub(crate) rule: Arc<CompiledRule>,
    /// Which of the rule's matches; a rule without any matches everything.
    alternative: Option<usize>,
    order: Order,
    /// Why it can never match for this viewer at this place.
    never: Option<Never>,
    /// Whether it matches as soon as the index finds it: it asks for nothing, or for nothing but a path.
    found_is_matched: bool,
}

impl Ord for TableEntry {
    /// By precedence; then the older route, and within a route as listed.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |entry: &Self| (entry.rule.index, entry.alternative);
        self.order
            .cmp(&other.order)
            .then_with(|| self.order.of_routes(self.rule.route(), other.rule.route()))
            .then_with(|| place(self).cmp(&place(other)))
    }
}

impl PartialOrd for TableEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TableEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for TableEntry {}

/// Why an alternative can never match here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Never {
    Port,
    SourceLabels,
    SourceNamespace,
}

impl Never {
    fn as_str(self) -> &'static str {
        match self {
            Self::Port => "it is for another port",
            Self::SourceLabels => "the client has other labels",
            Self::SourceNamespace => "the client is in another namespace",
        }
    }
}

/// What of an alternative does not hold.
pub(super) enum Mismatch<'a> {
    Never(Never),
    Path(&'a PathMatch),
    Scheme(&'a StringMatch),
    Method(&'a StringMatch),
    Authority(&'a StringMatch),
    Header(&'a NamedMatch),
    WithoutHeader(&'a NamedMatch),
    Query(&'a NamedMatch),
    Port(u16),
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(never) => f.write_str(never.as_str()),
            Self::Path(path) => write!(f, "not so: {path}"),
            Self::Scheme(scheme) => write!(f, "not so: scheme {scheme}"),
            Self::Method(method) => write!(f, "not so: method {method}"),
            Self::Authority(authority) => write!(f, "not so: authority {authority}"),
            Self::Header(header) => write!(f, "not so: header {header}"),
            Self::WithoutHeader(header) => write!(f, "it must not be so: header {header}"),
            Self::Query(query) => write!(f, "not so: query {query}"),
            Self::Port(port) => write!(f, "not so: port {port}"),
        }
    }
}

impl TableEntry {
    /// The entries of a rule, at the place of a viewer and a port.
    pub(super) fn of_rule<'a>(
        rule: &'a Arc<CompiledRule>,
        viewer: &'a Viewer,
        port: Option<u16>,
    ) -> impl Iterator<Item = Arc<Self>> + 'a {
        let count = rule.rule().matches.len();
        let everything = (count == 0).then_some(None);
        let alternatives = everything.into_iter().chain((0..count).map(Some));
        alternatives.map(move |alternative| Arc::new(Self::new(rule, alternative, viewer, port)))
    }

    fn new(rule: &Arc<CompiledRule>, alternative: Option<usize>, viewer: &Viewer, port: Option<u16>) -> Self {
        let matching = alternative.map(|at| &rule.rule().matches[at]);
        let never = matching.and_then(|matching| never(matching, viewer, port));
        let found_is_matched = matching.is_none_or(|m| {
            proves(m.path.as_ref()) && *m == RequestMatch { path: m.path.clone(), ..RequestMatch::default() }
        });
        let order = Order::of(rule.route(), matching);
        Self { rule: Arc::clone(rule), alternative, order, never, found_is_matched }
    }

    /// Whether it matches, when the index found it. Most entries are only a path, which that has compared.
    pub(super) fn matches(&self, asked: &Asked<'_>) -> bool {
        self.found_is_matched || self.mismatch(asked).is_none()
    }

    /// Whether it can match at all.
    pub(super) fn is_possible(&self) -> bool {
        self.never.is_none()
    }

    pub(crate) fn path(&self) -> Option<&PathMatch> {
        self.matching()?.path.as_ref()
    }

    pub(super) fn matching(&self) -> Option<&RequestMatch> {
        self.alternative.map(|at| &self.rule.rule().matches[at])
    }

    /// What the rule does with a request that this alternative matches.
    pub(crate) fn decide<T: Trace>(
        &self,
        request: &RequestFacts<'_>,
        trace: &mut T,
    ) -> Result<RequestDecision, Denial> {
        let matched = MatchedPath::of(self.path(), self.rule.route().precedence);
        self.rule.decide(request, matched, trace)
    }

    /// What does not hold; none when the request matches. Cheap parts are asked first.
    pub(super) fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch<'_>> {
        if let Some(never) = self.never {
            return Some(Mismatch::Never(never));
        }
        mismatch(self.matching()?, asked)
    }
}

/// Whether a request is one that is meant, wherever the match stands.
pub(crate) fn request_matches(matching: &RequestMatch, asked: &Asked<'_>) -> bool {
    mismatch(matching, asked).is_none()
}

fn mismatch<'a>(matching: &'a RequestMatch, asked: &Asked<'_>) -> Option<Mismatch<'a>> {
    let request = asked.request;
    let RequestMatch { path, scheme, method, authority, headers, without_headers, query, port, .. } =
        matching;
    if let Some(port) = port.filter(|port| *port != asked.port) {
        return Some(Mismatch::Port(port));
    }
    if let Some(path) = path.as_ref().filter(|path| !path.matches(request.path())) {
        return Some(Mismatch::Path(path));
    }
    if let Some(scheme) = scheme.as_ref().filter(|scheme| !scheme.matches(request.scheme)) {
        return Some(Mismatch::Scheme(scheme));
    }
    if let Some(method) = method.as_ref().filter(|method| !method.matches(request.method)) {
        return Some(Mismatch::Method(method));
    }
    // With its port and without: the same host is meant.
    let is_other =
        |authority: &&StringMatch| !authority.matches(asked.host) && !authority.matches(asked.authority);
    if let Some(authority) = authority.as_ref().filter(is_other) {
        return Some(Mismatch::Authority(authority));
    }
    let holds =
        |header: &&NamedMatch| request.headers.any(&header.name, &mut |value| header.matches(Some(value)));
    if let Some(header) = headers.iter().find(|header| !holds(header)) {
        return Some(Mismatch::Header(header));
    }
    if let Some(header) = without_headers.iter().find(holds) {
        return Some(Mismatch::WithoutHeader(header));
    }
    query.iter().find(|query| !query_matches(query, request.query())).map(Mismatch::Query)
}

fn never(matching: &RequestMatch, viewer: &Viewer, port: Option<u16>) -> Option<Never> {
    let other_port = port.is_some_and(|port| matching.port.is_some_and(|asked| asked != port));
    let other_namespace =
        matching.source_namespace.as_ref().is_some_and(|namespace| namespace != viewer.namespace());
    let labels: &Selector = &matching.source_labels;
    [
        (other_port, Never::Port),
        (other_namespace, Never::SourceNamespace),
        (!labels.matches(&viewer.labels), Never::SourceLabels),
    ]
    .into_iter()
    .find_map(|(holds, why)| holds.then_some(why))
}

/// Whether the first parameter of this name matches. Names and values are compared as they were sent.
fn query_matches(expected: &NamedMatch, query: &str) -> bool {
    let value = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(name, value)| (name == expected.name.as_str()).then_some(value));
    expected.matches(value)
}
