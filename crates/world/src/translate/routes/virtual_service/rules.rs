//! The rules that one `http` entry makes.

use super::attach::full_name;
use super::targets::{Target, target};
use crate::manifest::Manifest;
use crate::problem::Draft;
use crate::schema::headers::Edits;
use crate::schema::virtual_service::{HttpSpec, MatchSpec};
use crate::view::{Derived, View};
use lateen_model::{Backend, Filter, HeaderEdit, Mirror, Namespace, RequestMatch, Rule, Share, Str};
use std::time::Duration;

/// One `http` entry whose destinations were looked up.
pub(super) struct Prepared {
    http: HttpSpec,
    /// The namespace it is written in.
    namespace: Namespace,
    /// What it is called, where it has no name.
    number: String,
    targets: Vec<Target>,
    mirrors: Vec<(Target, Share)>,
}

impl Prepared {
    /// Looks up what an entry sends to; it is written in this manifest.
    pub(super) fn new(
        view: &View<'_>,
        manifest: &Manifest,
        number: String,
        http: HttpSpec,
        derived: &mut Derived,
    ) -> Self {
        let namespace = manifest.key.namespace.clone();
        check_weights(&http, derived);
        let targets =
            http.route.iter().map(|destination| target(view, &namespace, destination, derived)).collect();
        let mut mirrors = Vec::new();
        for mirror in &http.mirrors {
            let found = target(view, &namespace, &mirror.destination, derived);
            if !found.callers_ports.is_empty() {
                let message =
                    "the host has several ports, so copies go to the port that the caller used, if it has it";
                derived.drafts.push(Draft::warning(mirror.destination.host.span, message));
            }
            mirrors.push((found, mirror.share));
        }
        Self { http, namespace, number, targets, mirrors }
    }

    /// Whether a match of it holds at some gateways only.
    pub(super) fn asks_for_gateways(&self) -> bool {
        self.http.matches.iter().any(|one| !one.gateways.is_empty())
    }

    /// Its rules, at one gateway or at all: one, or one for each named match, and for each port that a destination
    /// without port may mean.
    pub(super) fn rules(&self, gateway: Option<&str>) -> Vec<Rule> {
        let holds = |one: &MatchSpec| {
            gateway.is_none_or(|gateway| {
                one.gateways.is_empty()
                    || one.gateways.iter().any(|name| full_name(name, &self.namespace) == gateway)
            })
        };
        let alive: Vec<&MatchSpec> =
            self.http.matches.iter().filter(|one| !one.never && holds(one)).collect();
        if alive.is_empty() && !self.http.matches.is_empty() {
            return Vec::new();
        }
        let request = |one: &&MatchSpec| one.request.clone();
        if alive.iter().all(|one| one.name.is_none()) {
            return self.by_port(self.name(None), &alive.iter().map(request).collect::<Vec<_>>());
        }
        alive.iter().flat_map(|one| self.by_port(self.name(one.name.as_ref()), &[request(one)])).collect()
    }

    /// `route`, or `route.match`.
    fn name(&self, of_match: Option<&Str>) -> Str {
        let own = self.http.name.clone().unwrap_or_else(|| self.number.as_str().into());
        of_match.map_or(own.clone(), |name| format!("{own}.{name}").into())
    }

    fn by_port(&self, name: Str, matches: &[RequestMatch]) -> Vec<Rule> {
        let mut ports: Vec<u16> =
            self.targets.iter().flat_map(|target| target.callers_ports.iter().copied()).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() {
            return vec![self.rule(name, None, matches.to_vec())];
        }
        // A destination of several ports that names none means the port that the caller used.
        let with_port = |port: u16| -> Vec<RequestMatch> {
            match matches {
                [] => vec![RequestMatch { port: Some(port), ..RequestMatch::default() }],
                some => some
                    .iter()
                    .filter(|one| one.port.is_none_or(|own| own == port))
                    .map(|one| RequestMatch { port: Some(port), ..one.clone() })
                    .collect(),
            }
        };
        ports
            .into_iter()
            .map(|port| (port, with_port(port)))
            .filter(|(_, matches)| !matches.is_empty())
            .map(|(port, matches)| self.rule(name.clone(), Some(port), matches))
            .collect()
    }

    fn rule(&self, name: Str, port: Option<u16>, matches: Vec<RequestMatch>) -> Rule {
        let http = &self.http;
        let backends = http.route.iter().zip(&self.targets).map(|(destination, target)| Backend {
            target: target.at(port),
            weight: destination.weight.unwrap_or(u32::from(http.route.len() == 1)),
            filters: edits(&destination.headers).collect(),
        });
        let mirrors = self
            .mirrors
            .iter()
            .map(|(target, share)| Filter::Mirror(Mirror { target: target.at(port), share: *share }));
        let filters = edits(&http.headers)
            .chain(http.rewrite.clone().map(Filter::Rewrite))
            .chain(mirrors)
            .chain(http.cors.clone().map(Filter::Cors))
            .chain(http.fault.clone().map(Filter::Fault));
        Rule {
            name,
            matches,
            filters: filters.collect(),
            answer: http.answer.clone(),
            backends: backends.collect(),
            timeout: http.timeout.filter(|timeout: &Duration| !timeout.is_zero()),
            retry: http.retry.clone(),
            ..Rule::default()
        }
    }
}

/// The edits that change something.
fn edits(edits: &Edits) -> impl Iterator<Item = Filter> {
    let there = |edit: &HeaderEdit| Some(edit.clone()).filter(|edit| *edit != HeaderEdit::default());
    let request = there(&edits.request).map(Filter::RequestHeaders);
    request.into_iter().chain(there(&edits.response).map(Filter::ResponseHeaders))
}

fn check_weights(http: &HttpSpec, derived: &mut Derived) {
    if http.route.len() < 2 {
        return;
    }
    let weights = http.route.iter().map(|destination| u64::from(destination.weight.unwrap_or(0)));
    if weights.sum::<u64>() == 0 {
        derived.drafts.push(
            Draft::error(http.span, "all weights of this rule are 0, so nothing is served")
                .expected("`weight` at each destination"),
        );
        return;
    }
    for destination in http.route.iter().filter(|destination| destination.weight.is_none()) {
        let message = "among several destinations one without `weight` gets nothing";
        derived.drafts.push(Draft::warning(destination.host.span, message));
    }
}
