//! `RouteTable`: every rule that speaks of a host at a place, in the order in which they are asked.

use crate::RequestFacts;
use crate::paths::PathIndex;
use crate::rule::CompiledRoute;
use crate::sorted::Sorted;
use crate::trace::{Step, Trace, object};
use lateen_model::{Key, Viewer};
use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) use entry::{TableEntry, request_matches};

mod entry;
mod order;

/// What rules need to know of a request besides its facts.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a RequestFacts<'a>,
    /// The authority as it was said, in lower case.
    pub(crate) authority: &'a str,
    /// Its host, without port.
    pub(crate) host: &'a str,
    /// The port callers used.
    pub(crate) port: u16,
}

/// Rules in order, with an index over their paths. A clone shares nearly everything, so a table with one
/// route changed costs what that route costs, however many others it has.
#[derive(Clone, Default)]
pub(crate) struct RouteTable {
    entries: Sorted<Arc<TableEntry>>,
    /// Those entries that can match here.
    index: PathIndex,
    possible: usize,
    routes: Sorted<Arc<CompiledRoute>>,
}

impl RouteTable {
    /// The table of these routes. With a port, matches for another port are left out at once; without, the
    /// port of each request is looked at.
    pub(crate) fn new(routes: &[Arc<CompiledRoute>], viewer: &Viewer, port: Option<u16>) -> Self {
        let mut table = Self::default();
        routes.iter().for_each(|route| table.add(route, viewer, port));
        table
    }

    /// Adds a route.
    pub(crate) fn add(&mut self, route: &Arc<CompiledRoute>, viewer: &Viewer, port: Option<u16>) {
        self.routes.insert(Arc::clone(route));
        for entry in route.rules.iter().flat_map(|rule| TableEntry::of_rule(rule, viewer, port)) {
            if entry.is_possible() {
                self.index.insert(&entry);
                self.possible += 1;
            }
            self.entries.insert(entry);
        }
    }

    /// Takes out a route that was added with the same viewer and port.
    pub(crate) fn remove(&mut self, route: &Arc<CompiledRoute>, viewer: &Viewer, port: Option<u16>) {
        self.routes.remove(route);
        for entry in route.rules.iter().flat_map(|rule| TableEntry::of_rule(rule, viewer, port)) {
            if self.entries.remove(&entry).is_some() && entry.is_possible() {
                self.index.remove(&entry);
                self.possible -= 1;
            }
        }
    }

    /// The routes that decide here, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.routes.iter().map(|route| &route.entry.key)
    }

    /// Every alternative of every rule, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.iter().map(|entry| &**entry)
    }

    /// Whether no route is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether any rule could match here at all.
    pub(crate) fn is_possible(&self) -> bool {
        self.possible > 0
    }

    /// The first alternative that matches.
    pub(crate) fn find<'a, T: Trace>(&'a self, asked: &Asked<'a>, trace: &mut T) -> Option<&'a TableEntry> {
        let found = self.index.first(asked.request.path(), |entry| entry.matches(asked));
        if T::ON {
            self.describe(asked, found, trace);
        }
        found.map(|entry| &**entry)
    }

    fn describe<T: Trace>(&self, asked: &Asked<'_>, found: Option<&Arc<TableEntry>>, trace: &mut T) {
        for entry in self.entries.iter().take_while(|entry| Some(*entry) != found) {
            trace.step(|| Step::Skipped {
                route: object(entry.rule.key()),
                rule: entry.rule.rule().name.to_string(),
                why: entry.mismatch(asked).map_or_else(String::new, |mismatch| mismatch.to_string()),
            });
        }
        if let Some(entry) = found {
            trace.step(|| Step::Matched {
                route: object(entry.rule.key()),
                rule: entry.rule.rule().name.to_string(),
                because: entry.matching().map_or_else(|| "everything".to_owned(), ToString::to_string),
            });
        }
    }
}

/// Routes compare by their precedence: the older first, then by key.
impl Ord for CompiledRoute {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.route().created, &self.entry.key).cmp(&(other.route().created, &other.entry.key))
    }
}

impl PartialOrd for CompiledRoute {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for CompiledRoute {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for CompiledRoute {}

#[cfg(test)]
mod tests;
