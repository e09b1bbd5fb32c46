//! The same walk with its reasons: what the data plane would do with one request, and why.

use crate::decide::{connection, pick_traced, request};
use crate::snapshot::Snapshot;
use crate::trace::{Step, object};
use crate::{
    Answered, BackendId, ConnectionFacts, Decision, Denial, Destination, Excluded, Forward, Hop, LeftOut,
    Load, Picked, Preference, RequestDecision, RequestFacts, hash_of, hash_of_client,
};
use lateen_model::{Catalog, Entry, Viewer, role_needs};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What one proxy decides about one connection or request, step by step.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// The steps in the order in which they are taken; the last is the verdict.
    pub steps: Vec<Step>,
    /// Whether it passes.
    pub passes: bool,
    /// The way it takes from here, when it passes: what the next proxy is asked about.
    pub taken: Option<Taken>,
}

impl Explanation {
    /// What is answered before anything is decided.
    pub(crate) fn refused(text: &str) -> Self {
        let verdict = Step::Verdict { passes: false, text: text.to_owned() };
        Self { steps: vec![verdict], passes: false, taken: None }
    }
}

/// The way something takes.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Where, and how it is treated.
    pub forward: Forward,
    /// The endpoint.
    pub picked: Picked,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Explains a connection, and the request on it where there is one and the connection is looked into. The
/// random number is the die of the weights and of the choice of an endpoint.
pub fn explain(
    snapshot: &Snapshot,
    facts: &ConnectionFacts,
    head: Option<&RequestFacts<'_>>,
    random: u64,
) -> Explanation {
    let mut steps = Vec::new();
    let decided = match (connection(snapshot, facts, &mut steps), head) {
        (Decision::Serve(protocol), None) => {
            Err(format!("connection of {protocol}: its requests are looked at one by one"))
        }
        // The request says again what was said of its connection.
        (Decision::Serve(_) | Decision::Detect(_), Some(head)) => {
            steps.clear();
            match request(snapshot, head, &mut steps) {
                RequestDecision::Forward(forward) => Ok(Ok(forward)),
                RequestDecision::Answer(answered) => {
                    let Answered { reply, effective } = answered;
                    Err(format!("answered with {} by route {}", reply.status(), effective.route_name))
                }
                RequestDecision::Deny(denial) => Ok(Err((denial, true))),
            }
        }
        (Decision::Detect(bytes), None) => Ok(bytes_of(*bytes)),
        (decision, _) => Ok(bytes_of(decision)),
    };
    match decided {
        Err(text) => finish(steps, Ok((text, None))),
        Ok(Err((denial, http))) => finish(steps, Err((denial, http))),
        Ok(Ok(forward)) => {
            let preference = preference(&forward, facts, head);
            let picked = pick_traced(
                snapshot,
                &forward.to,
                &preference,
                &Excluded::default(),
                &NoLoad(random),
                random,
                &mut steps,
            );
            let result = picked.map(|picked| {
                let text = settle(&mut steps, &forward, &picked);
                (text, Some(Taken { forward, picked }))
            });
            let result = result.map_err(|denial| (denial, head.is_some()));
            finish(steps, result)
        }
    }
}

/// What the request wants of the choice; a session is the client's own and unknown here.
fn preference(forward: &Forward, facts: &ConnectionFacts, head: Option<&RequestFacts<'_>>) -> Preference {
    let policy = forward.effective.traffic.balance.as_ref().and_then(|balance| balance.hash.as_ref());
    let hash = policy.and_then(|policy| match head {
        Some(head) => hash_of(head, policy).map(|hashed| hashed.hash),
        None => hash_of_client(facts.client.ip(), policy),
    });
    Preference { hash, ..Preference::default() }
}

fn bytes_of(decision: Decision) -> Result<Forward, (Denial, bool)> {
    match decision {
        Decision::Forward(forward) => Ok(forward),
        Decision::Deny(denial) => Err((denial, false)),
        Decision::Detect(bytes) => bytes_of(*bytes),
        Decision::Serve(_) => unreachable!("what is served was looked at before"),
    }
}

/// The last step of the way out, and the verdict in words.
fn settle(steps: &mut Vec<Step>, forward: &Forward, picked: &Picked) -> String {
    if picked.endpoint.ip().is_unspecified() {
        return "sent on as it is, to the address that the name has".to_owned();
    }
    let workload =
        picked.workload.as_ref().map(|workload| format!("{}/{}", workload.namespace, workload.name));
    let text = match &forward.to {
        Destination::Local(address) => return format!("passed to the application at {address}"),
        Destination::Passthrough(_) => format!("sent to {} as it is", picked.endpoint),
        Destination::Backend(_) => {
            let name = workload.as_deref().unwrap_or("nobody known");
            format!("sent to {} ({name}) by route {}", picked.endpoint, forward.effective.route_name)
        }
    };
    let hop = describe_hop(&picked.hop);
    steps.push(Step::Endpoint { address: picked.endpoint.to_string(), workload, hop });
    text
}

fn describe_hop(hop: &Hop) -> String {
    match hop {
        Hop::Local(address) => format!("this machine ({address})"),
        Hop::Plain(_) => "plain TCP: no proxy is known there".to_owned(),
        Hop::Hbone { addr, accept, .. } => {
            let names: Vec<String> = accept.0.iter().map(ToString::to_string).collect();
            format!("mTLS (HBONE to {addr}), if it proves to be {}", names.join(" or "))
        }
    }
}

fn finish(mut steps: Vec<Step>, result: Result<(String, Option<Taken>), (Denial, bool)>) -> Explanation {
    let (passes, text, taken) = match result {
        Ok((text, taken)) => (true, text, taken),
        Err((denial, true)) => (false, format!("with {}: {}", denial.status(), words(&denial)), None),
        Err((denial, false)) => (false, format!("connection: {}", words(&denial)), None),
    };
    steps.push(Step::Verdict { passes, text });
    Explanation { steps, passes, taken }
}

/// The denial as logs have it, and who spoke it.
fn words(denial: &Denial) -> String {
    match denial.policy().or(denial.route.as_ref()) {
        Some(key) => format!("{denial}, by {}", object(key)),
        None => denial.to_string(),
    }
}

/// Nothing is known of loads; turns begin where the die says.
struct NoLoad(u64);

impl Load for NoLoad {
    fn active(&self, _: SocketAddr) -> u32 {
        0
    }
    fn next(&self, _: u64) -> u64 {
        self.0
    }
    fn left_out(&self, _: BackendId) -> Option<LeftOut> {
        None
    }
    fn now(&self) -> Duration {
        Duration::MAX
    }
}

impl Snapshot {
    /// The snapshot that a viewer would have of a catalog: what the view shows it, compiled.
    pub fn of(catalog: &Catalog, viewer: Viewer) -> Arc<Self> {
        let shown = |entry: &Arc<Entry>| {
            entry.scope.includes(&viewer) && role_needs(viewer.role, entry.resource.kind())
        };
        let mut delta = catalog.to_delta();
        delta.set.retain(shown);
        crate::Compiler::new(viewer).apply(&delta)
    }
}
