//! `RouteTable`: every rule that speaks of a host at a place, in the order in which they are asked.

use crate::RequestFacts;
use crate::paths::{Path, PathIndex};
use crate::rule::{CompiledRoute, CompiledRule};
use crate::trace::{Step, Trace, object};
use lateen_model::{
    Key, NamedMatch, PathMatch, Precedence, RequestMatch, Route, Selector, StringMatch, Viewer,
};
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

/// What rules need to know of a request besides its facts.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a RequestFacts<'a>,
    /// The host, lower case, without port.
    pub(crate) host: &'a str,
    /// The port callers used.
    pub(crate) port: u16,
}

/// Rules in order, with an index over their paths.
pub(crate) struct RouteTable {
    pub(crate) entries: Vec<TableEntry>,
    index: PathIndex,
    routes: Vec<Arc<CompiledRoute>>,
}

/// One alternative of one rule.
#[derive(Debug)]
pub(crate) struct TableEntry {
    pub(crate) rule: Arc<CompiledRule>,
    /// Which of the rule's matches; a rule without any matches everything.
    alternative: Option<usize>,
    /// Why it can never match for this viewer at this place.
    never: Option<Never>,
    /// Whether it asks for nothing, or for nothing but a path.
    path_alone: bool,
}

/// Why an alternative can never match here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Never {
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

impl RouteTable {
    /// Compiles the table of these routes, which stand in their order of precedence. With a port, matches
    /// for another port are left out at once; without, the port of each request is looked at.
    pub(crate) fn new(routes: &[Arc<CompiledRoute>], viewer: &Viewer, port: Option<u16>) -> Self {
        let mut entries: Vec<(Order<'_>, TableEntry)> = Vec::new();
        for (rank, compiled) in routes.iter().enumerate() {
            for rule in &compiled.rules {
                for alternative in alternatives(rule) {
                    let entry = TableEntry::new(rule, alternative, viewer, port);
                    entries.push((Order::of(compiled.route(), rank, rule.index, alternative), entry));
                }
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let entries: Vec<TableEntry> = entries.into_iter().map(|(_, entry)| entry).collect();
        let mut index = PathIndex::default();
        for (number, entry) in (0u32..).zip(&entries) {
            if entry.never.is_none() {
                index.add(entry.matching().and_then(|matching| matching.path.as_ref()), number);
            }
        }
        Self { entries, index, routes: routes.to_vec() }
    }

    /// The routes that decide here, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.routes.iter().map(|route| &route.entry.key)
    }

    /// Whether any rule could match here at all.
    pub(crate) fn is_possible(&self) -> bool {
        self.entries.iter().any(|entry| entry.never.is_none())
    }

    /// The first rule that matches.
    pub(crate) fn find<T: Trace>(&self, asked: &Asked<'_>, trace: &mut T) -> Option<&Arc<CompiledRule>> {
        let path = asked.request.path();
        let found = self.index.first(path, |number, path| self.entries[number as usize].matches(asked, path));
        if T::ON {
            self.describe(asked, found, trace);
        }
        found.map(|number| &self.entries[number as usize].rule)
    }

    fn describe<T: Trace>(&self, asked: &Asked<'_>, found: Option<u32>, trace: &mut T) {
        let before = found.map_or(self.entries.len(), |number| number as usize);
        for entry in &self.entries[..before] {
            trace.step(|| Step::Skipped {
                route: object(entry.rule.key()),
                rule: entry.rule.rule().name.to_string(),
                why: entry.mismatch(asked).map_or_else(String::new, |mismatch| mismatch.to_string()),
            });
        }
        if let Some(entry) = self.entries.get(before) {
            trace.step(|| Step::Matched {
                route: object(entry.rule.key()),
                rule: entry.rule.rule().name.to_string(),
                because: entry.matching().map_or_else(|| "everything".to_owned(), ToString::to_string),
            });
        }
    }
}

fn alternatives(rule: &CompiledRule) -> Vec<Option<usize>> {
    match rule.rule().matches.len() {
        0 => vec![None],
        count => (0..count).map(Some).collect(),
    }
}

/// What of an alternative does not hold.
enum Mismatch<'a> {
    Never(Never),
    Path(&'a PathMatch),
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
    fn new(rule: &Arc<CompiledRule>, alternative: Option<usize>, viewer: &Viewer, port: Option<u16>) -> Self {
        let matching = alternative.map(|at| &rule.rule().matches[at]);
        let never = matching.and_then(|matching| never(matching, viewer, port));
        let path_alone =
            matching.is_none_or(|m| *m == RequestMatch { path: m.path.clone(), ..RequestMatch::default() });
        Self { rule: Arc::clone(rule), alternative, never, path_alone }
    }

    /// Whether it matches. Most entries are only a path, which the index has compared.
    fn matches(&self, asked: &Asked<'_>, path: Path) -> bool {
        (self.path_alone && (path == Path::Matches || self.alternative.is_none()))
            || self.mismatch(asked).is_none()
    }

    fn matching(&self) -> Option<&RequestMatch> {
        self.alternative.map(|at| &self.rule.rule().matches[at])
    }

    /// What does not hold; none when the request matches. Cheap parts are asked first.
    fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch<'_>> {
        if let Some(never) = self.never {
            return Some(Mismatch::Never(never));
        }
        let matching = self.matching()?;
        let request = asked.request;
        let RequestMatch { path, method, authority, headers, without_headers, query, port, .. } = matching;
        if let Some(port) = port.filter(|port| *port != asked.port) {
            return Some(Mismatch::Port(port));
        }
        if let Some(path) = path.as_ref().filter(|path| !path.matches(request.path())) {
            return Some(Mismatch::Path(path));
        }
        if let Some(method) = method.as_ref().filter(|method| !method.matches(request.method)) {
            return Some(Mismatch::Method(method));
        }
        if let Some(authority) = authority.as_ref().filter(|authority| !authority.matches(asked.host)) {
            return Some(Mismatch::Authority(authority));
        }
        let holds = |header: &&NamedMatch| header.matches(request.headers.get(&header.name).as_deref());
        if let Some(header) = headers.iter().find(|header| !holds(header)) {
            return Some(Mismatch::Header(header));
        }
        if let Some(header) = without_headers.iter().find(holds) {
            return Some(Mismatch::WithoutHeader(header));
        }
        query.iter().find(|query| !query_matches(query, request.query())).map(Mismatch::Query)
    }
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

/// Where an alternative stands. Gateway API: the most specific first, whichever route it is of; then
/// what is asked as listed, route after route.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Order<'a> {
    listed: bool,
    specificity: Option<Specificity<'a>>,
    rank: usize,
    rule: usize,
    alternative: Option<usize>,
}

/// How specific a match is (Gateway API `HTTPRouteRule.matches`): exact path, longest prefix, method, number of
/// headers, number of query parameters. A regular expression stands before the prefix `/`, which would
/// else always hide it, and after every longer one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Specificity<'a> {
    path: (u8, Reverse<usize>),
    no_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    older: (lateen_model::Created, &'a str, &'a str),
}

impl<'a> Order<'a> {
    fn of(route: &'a Route, rank: usize, rule: usize, alternative: Option<usize>) -> Self {
        let listed = route.precedence == Precedence::Listed;
        let matching = alternative.map(|at| &route.rules[rule].matches[at]);
        let specificity = (!listed).then(|| Specificity {
            path: path_rank(matching.and_then(|matching| matching.path.as_ref())),
            no_method: matching.is_none_or(|matching| matching.method.is_none()),
            headers: Reverse(matching.map_or(0, |m| m.headers.len() + m.without_headers.len())),
            query: Reverse(matching.map_or(0, |matching| matching.query.len())),
            older: (route.created, route.key.namespace.as_str(), route.key.name.as_str()),
        });
        Self { listed, specificity, rank, rule, alternative }
    }
}

fn path_rank(path: Option<&PathMatch>) -> (u8, Reverse<usize>) {
    match path {
        Some(PathMatch::Text(StringMatch::Exact(text) | StringMatch::ExactIgnoreCase(text))) => {
            (0, Reverse(text.len()))
        }
        Some(PathMatch::Segments(text)) if !text.is_empty() => (1, Reverse(text.len())),
        Some(PathMatch::Text(StringMatch::Prefix(text) | StringMatch::PrefixIgnoreCase(text)))
            if text.len() > 1 =>
        {
            (1, Reverse(text.len()))
        }
        Some(PathMatch::Text(StringMatch::Regex(regex))) => (2, Reverse(regex.pattern().len())),
        Some(PathMatch::Text(StringMatch::Suffix(text))) => (2, Reverse(text.len())),
        _ => (3, Reverse(0)),
    }
}
