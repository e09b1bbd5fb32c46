//! Facts and a snapshot go in, a decision comes out: for a connection, and for each request on it.

use crate::authz::{Authorizations, Http, Subject};
use crate::directory::{Meant, Through};
use crate::hosts::Lowered;
use crate::inbound::Ruling;
use crate::rewrite::MatchedPath;
use crate::routes::Asked;
use crate::service::{PortTable, ServiceTable};
use crate::snapshot::Snapshot;
use crate::trace::{Silent, Step, Trace, object};
use crate::{
    BackendId, ConnectionFacts, Decision, Denial, DenialReason, Destination, Direction, Effective, Excluded,
    Forward, Hop, Load, Picked, Preference, RequestDecision, RequestFacts,
};
use lateen_model::{AppProtocol, ListenerProtocol, MtlsMode, OutboundPolicy};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

mod inbound;
mod outbound;

/// What is to be done with a connection, before its first byte was read.
pub fn decide_connection(snapshot: &Snapshot, facts: &ConnectionFacts) -> Decision {
    connection(snapshot, facts, &mut Silent)
}

/// What is to be done with a request, when its head was read.
pub fn decide_request(snapshot: &Snapshot, facts: &RequestFacts<'_>) -> RequestDecision {
    request(snapshot, facts, &mut Silent)
}

/// The hop that a destination means now. Only one that is a group of endpoints is a choice.
///
/// # Errors
/// When a group has no endpoint that is ready, or all were tried.
pub fn pick(
    snapshot: &Snapshot,
    to: &Destination,
    preference: &Preference,
    excluded: &Excluded,
    load: &dyn Load,
    random: u64,
) -> Result<Picked, Denial> {
    pick_traced(snapshot, to, preference, excluded, load, random, &mut Silent)
}

pub(crate) fn pick_traced<T: Trace>(
    snapshot: &Snapshot,
    to: &Destination,
    preference: &Preference,
    excluded: &Excluded,
    load: &dyn Load,
    random: u64,
    trace: &mut T,
) -> Result<Picked, Denial> {
    match to {
        Destination::Backend(id) => {
            let id: BackendId = *id;
            crate::balance::pick_endpoint_traced(snapshot, id, preference, excluded, load, random, trace)
        }
        Destination::Local(address) => {
            Ok(Picked { hop: Hop::Local(*address), endpoint: *address, workload: snapshot.own().cloned() })
        }
        Destination::Passthrough(address) if excluded.contains(*address) => {
            Err(denial(DenialReason::AllTried))
        }
        Destination::Passthrough(address) => {
            let (hop, workload) = snapshot.way_to(*address);
            Ok(Picked { hop, endpoint: *address, workload: workload.cloned() })
        }
    }
}

pub(crate) fn connection<T: Trace>(s: &Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Decision {
    match facts.direction {
        Direction::Outbound => outbound::connection(s, facts, trace),
        Direction::Inbound => inbound::connection(s, facts, trace),
        Direction::Gateway => gateway_connection(s, facts, trace),
    }
}

pub(crate) fn request<T: Trace>(s: &Snapshot, facts: &RequestFacts<'_>, trace: &mut T) -> RequestDecision {
    let authority = Lowered::new(facts.authority);
    let head = Head { request: facts, authority: authority.as_str(), host: authority.host() };
    let decided = match facts.connection.direction {
        Direction::Outbound => outbound::request(s, &head, trace),
        Direction::Inbound => inbound::request(s, &head, trace),
        Direction::Gateway => gateway_request(s, &head, trace),
    };
    if T::ON
        && let Ok(decision) = &decided
        && let Some(effective) = decision.effective()
    {
        s.trace_limits(facts, effective, trace);
    }
    decided.unwrap_or_else(RequestDecision::Deny)
}

/// The head of a request, with its authority as it is compared.
struct Head<'a> {
    request: &'a RequestFacts<'a>,
    authority: &'a str,
    host: &'a str,
}

impl<'a> Head<'a> {
    fn connection(&self) -> &'a ConnectionFacts {
        self.request.connection
    }

    fn asked(&self, port: u16) -> Asked<'_> {
        Asked { request: self.request, authority: self.authority, host: self.host, port }
    }
}

fn denial(reason: DenialReason) -> Denial {
    Denial { reason, route: None, service: None }
}

/// Whether policies let this pass: the request, or (without one) the connection.
fn authorize<T: Trace>(
    policies: &Authorizations,
    facts: &ConnectionFacts,
    head: Option<&Head<'_>>,
    trace: &mut T,
) -> Result<(), Denial> {
    if policies.is_empty() {
        return Ok(());
    }
    let http = head.map(|head| Http { request: head.request, authority: head.authority, host: head.host });
    policies.check(&Subject::new(facts, http), trace)
}

fn gateway_connection<T: Trace>(s: &Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Decision {
    let port = facts.destination.port();
    let Some(listeners) = s.gateway.ports.get(&port) else {
        trace.step(|| Step::Listener { port, host: None });
        return Decision::Deny(denial(DenialReason::NoRoute));
    };
    match listeners.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => Decision::Serve(AppProtocol::Http1),
        // No kind of route leads from a TCP listener yet.
        ListenerProtocol::Tcp => Decision::Deny(denial(DenialReason::NoRoute)),
    }
}

fn gateway_request<T: Trace>(
    s: &Snapshot,
    head: &Head<'_>,
    trace: &mut T,
) -> Result<RequestDecision, Denial> {
    let facts = head.connection();
    let port = facts.destination.port();
    let no_route = || denial(DenialReason::NoRoute);
    let listeners = s.gateway.ports.get(&port).ok_or_else(no_route)?;
    if s.own().is_none() {
        return Err(denial(DenialReason::OwnWorkloadUnknown));
    }
    if facts.tls && !listeners.is_same_listener(facts.sni.as_deref(), head.host) {
        return Err(denial(DenialReason::Misdirected));
    }
    authorize(&listeners.authorizations, facts, Some(head), trace)?;
    let table = listeners.find(head.host);
    trace.step(|| Step::Listener { port, host: table.map(|_| head.host.to_owned()) });
    let table = table.ok_or_else(no_route)?;
    trace.step(|| Step::Routes { routes: table.keys().map(object).collect() });
    let found = table.find(&head.asked(port), trace).ok_or_else(no_route)?;
    found.decide(head.request, trace)
}
