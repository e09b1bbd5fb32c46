//! One compiled rule: where it leads, with everything merged that can be merged before a request comes.

use crate::answer::{Answered, Reply};
use crate::rewrite::MatchedPath;
use crate::trace::{BackendChoice, Step, Trace};
use crate::{
    BackendId, Denial, DenialReason, Destination, Effective, Filters, Forward, RequestDecision, RequestFacts,
};
use lateen_model::{BackendTarget, Entry, Key, Precedence, Resource, Route, Rule, ServiceId, Str};
use std::net::SocketAddr;
use std::sync::Arc;

/// A route object, compiled: its rules lead to groups of endpoints.
pub(crate) struct CompiledRoute {
    pub(crate) entry: Arc<Entry>,
    pub(crate) rules: Vec<Arc<CompiledRule>>,
}

impl CompiledRoute {
    pub(crate) fn route(&self) -> &Route {
        route_of(&self.entry).expect("only entries that are routes are compiled to one")
    }
}

pub(crate) fn route_of(entry: &Entry) -> Option<&Route> {
    match &entry.resource {
        Resource::Route(route) => Some(route),
        _ => None,
    }
}

/// One rule of a route.
pub(crate) struct CompiledRule {
    pub(crate) entry: Arc<Entry>,
    pub(crate) index: usize,
    choices: Box<[Choice]>,
    total: u64,
    /// What a rule without any weight answers.
    empty: u16,
    /// How requests are treated that the rule answers itself.
    answered: Option<Arc<Effective>>,
}

/// A backend with its weight.
pub(crate) struct Choice {
    pub(crate) weight: u32,
    pub(crate) target: Target,
}

/// Where a choice leads.
pub(crate) enum Target {
    /// To endpoints.
    Group(GroupTarget),
    /// Nowhere: this is answered.
    Answer { status: u16, what: Str },
}

/// A group of endpoints and how it is treated.
#[derive(Clone)]
pub(crate) struct GroupTarget {
    pub(crate) id: BackendId,
    /// The caller's address is kept (`PASSTHROUGH`).
    pub(crate) keep_address: bool,
    pub(crate) effective: Arc<Effective>,
}

/// What a service port and subset are in this snapshot.
pub(crate) struct Resolved {
    pub(crate) id: BackendId,
    pub(crate) keep_address: bool,
    pub(crate) protocol: lateen_model::AppProtocol,
    /// All that its clients' policies say of it, merged.
    pub(crate) traffic: Arc<lateen_model::TrafficPolicy>,
    /// Limits of connections, where it says any.
    pub(crate) connections: Option<Arc<crate::ConnectionLimits>>,
}

impl std::fmt::Debug for CompiledRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.rule())
    }
}

impl CompiledRule {
    /// Compiles a rule. `resolve` finds the group of a service port, or says what is missing.
    pub(crate) fn new(
        entry: &Arc<Entry>,
        index: usize,
        resolve: impl Fn(&ServiceId, u16, Option<&Str>) -> Option<Resolved>,
    ) -> Self {
        let route = route_of(entry).expect("only entries that are routes are compiled to one");
        let rule = &route.rules[index];
        let choices: Box<[Choice]> = rule
            .backends
            .iter()
            .map(|backend| Choice { weight: backend.weight, target: target(route, rule, backend, &resolve) })
            .collect();
        let empty = if route.precedence == Precedence::MostSpecific { 500 } else { 503 };
        let total = choices.iter().map(|choice| u64::from(choice.weight)).sum();
        let answered = rule.answer.as_ref().map(|_| {
            let filters = Filters::of_rule(route, rule, None, &resolve);
            Arc::new(Effective { filters, ..Effective::of_answer(route, rule) })
        });
        Self { entry: Arc::clone(entry), index, choices, total, empty, answered }
    }

    pub(crate) fn rule(&self) -> &Rule {
        &self.route().rules[self.index]
    }

    pub(crate) fn route(&self) -> &Route {
        route_of(&self.entry).expect("only entries that are routes are compiled to one")
    }

    pub(crate) fn key(&self) -> &Key {
        &self.entry.key
    }

    pub(crate) fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Chooses a backend by weight.
    fn choose(&self, random: u64) -> Option<usize> {
        match &*self.choices {
            [only] if only.weight > 0 => return Some(0),
            _ if self.total == 0 => return None,
            _ => {}
        }
        let mut point = scale(random, self.total);
        self.choices.iter().position(|choice| {
            let weight = u64::from(choice.weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        })
    }

    /// What this rule does with a request, of whose path it has matched so much.
    pub(crate) fn decide<T: Trace>(
        &self,
        request: &RequestFacts<'_>,
        matched: MatchedPath,
        trace: &mut T,
    ) -> Result<RequestDecision, Denial> {
        if let (Some(answer), Some(effective)) = (&self.rule().answer, &self.answered) {
            let reply = Reply::new(answer, request, matched);
            let answered = Answered { reply, effective: Arc::clone(effective) };
            trace.step(|| answered.describe());
            return Ok(RequestDecision::Answer(answered));
        }
        let forward = self.forward(request.random, request.connection.destination, trace)?;
        Ok(RequestDecision::Forward(Forward { matched, ..forward }))
    }

    fn forward<T: Trace>(&self, random: u64, original: SocketAddr, trace: &mut T) -> Result<Forward, Denial> {
        let chosen = self.choose(random);
        trace.step(|| self.describe_choices(chosen));
        match chosen.map(|at| &self.choices[at].target) {
            Some(Target::Group(group)) => Ok(group.forward(original, trace)),
            Some(Target::Answer { status, what }) => Err(self.nowhere(*status, what.clone())),
            None => Err(self.nowhere(self.empty, "the rule has no backends".into())),
        }
    }

    fn nowhere(&self, status: u16, what: Str) -> Denial {
        Denial {
            reason: DenialReason::NoBackend { status, what },
            route: Some(self.key().clone()),
            service: None,
        }
    }

    fn describe_choices(&self, chosen: Option<usize>) -> Step {
        let share = |weight: u32| (u64::from(weight) * 100 + self.total / 2) / self.total.max(1);
        let choices = self.rule().backends.iter().enumerate().map(|(at, backend)| BackendChoice {
            target: backend.target.to_string(),
            weight: backend.weight,
            percent: u32::try_from(share(backend.weight)).expect("a share is at most 100"),
            chosen: chosen == Some(at),
        });
        Step::Backends { choices: choices.collect() }
    }
}

fn target(
    route: &Route,
    rule: &Rule,
    backend: &lateen_model::Backend,
    resolve: impl Fn(&ServiceId, u16, Option<&Str>) -> Option<Resolved>,
) -> Target {
    match &backend.target {
        BackendTarget::Invalid { status, reason } => Target::Answer { status: *status, what: reason.clone() },
        BackendTarget::Service { service, port, subset } => match resolve(service, *port, subset.as_ref()) {
            None => Target::Answer { status: 503, what: backend.target.to_string().into() },
            Some(resolved) => Target::Group(GroupTarget {
                id: resolved.id,
                keep_address: resolved.keep_address,
                effective: Arc::new(Effective {
                    subset: subset.clone(),
                    filters: Filters::of_rule(route, rule, Some(backend), &resolve),
                    ..Effective::of_rule(route, rule, service, *port, &resolved)
                }),
            }),
        },
    }
}

impl GroupTarget {
    pub(crate) fn forward<T: Trace>(&self, original: SocketAddr, trace: &mut T) -> Forward {
        trace.step(|| self.effective.describe());
        self.forward_silently(original)
    }

    pub(crate) fn forward_silently(&self, original: SocketAddr) -> Forward {
        let to = if self.keep_address {
            Destination::Passthrough(original)
        } else {
            Destination::Backend(self.id)
        };
        Forward { to, effective: Arc::clone(&self.effective), matched: MatchedPath::default() }
    }
}

/// A random number below a limit, without division.
pub(crate) fn scale(random: u64, limit: u64) -> u64 {
    u64::try_from((u128::from(random) * u128::from(limit)) >> 64).expect("the product is below limit << 64")
}
