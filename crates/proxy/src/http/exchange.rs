//! One request from head to last byte, in the task that accepted it: decide, filter, connect, send, answer, record.
//!
//! Request and response are relayed at the same time by polling both directions from one place, so an early answer
//! goes out while the body still comes in, and no task waits for another.

use std::rc::Rc;
use std::sync::Arc;

use lateen_engine::{ConnectionFacts, Forward, RequestDecision, RequestFacts, Snapshot, normalize_path};
use lateen_model::AppProtocol;
use lateen_runtime::deadline::Deadline;
use lateen_runtime::live::Pinned;
use lateen_runtime::random;

use super::body::Pump;
use super::h1::connection::Broken;
use super::head::{Fields, MethodKind, RequestHead, ResponseHead};
use super::session::Session;
use super::{filters, grpc, grpc_web, reply, upgrade};
use crate::connect::breaker::{Group, Held};
use crate::connect::pool::Lease;
use crate::connect::resolve;
use crate::fault::{Fault, Reason, Retry};
use crate::health::Active;
use crate::worker::Worker;

mod affinity;
mod again;
mod answer;
mod answered;
mod debug;
mod edit;
mod inject;
mod limit;
mod mirror;
mod reach;
mod record;
mod relay;

pub(crate) use mirror::{Budget, MOST_COPIED};
pub(crate) use record::Trip;

/// What a connection brings to each of its requests.
pub(crate) struct Entry {
    /// What decisions may look at.
    pub(crate) facts: ConnectionFacts,
    /// `x-forwarded-client-cert` for the verified peer.
    pub(crate) client_certificate: Option<Box<str>>,
    /// Each request names its own destination.
    pub(crate) explicit: bool,
    /// The version of a TLS that ended here.
    pub(crate) tls: Option<rustls::ProtocolVersion>,
}

impl Entry {
    /// Of a connection about which nothing more is known.
    pub(crate) fn new(facts: ConnectionFacts) -> Self {
        Self { facts, client_certificate: None, explicit: false, tls: None }
    }

    /// As OpenSSL names it; empty for plaintext.
    fn tls_version(&self) -> &'static str {
        match self.tls {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(_) => "TLSv1.3",
            None => "",
        }
    }
}

/// The heads of one exchange, used again for the next.
#[derive(Default)]
pub(crate) struct Heads {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
}

/// What becomes of an HTTP/1.1 connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another request may come.
    KeepAlive,
    /// Everything was said; what still comes in is thrown away before closing, so that the answer is not lost.
    Linger,
    /// The connection is over.
    Close,
}

/// Runs one exchange; the request's head is in `heads`, its body still in `down`.
pub(crate) async fn run(worker: &Rc<Worker>, entry: &Entry, down: &mut Session, heads: &mut Heads) -> Next {
    let mut trip = Trip::new();
    let mut exchange = Exchange { worker, entry, down, heads, trip: &mut trip };
    let next = exchange.run().await;
    trip.record(worker, entry, heads);
    next
}

/// Answers a head that could not be read, and says so in a record.
pub(crate) async fn refuse(
    worker: &Rc<Worker>,
    entry: &Entry,
    down: &mut Session,
    heads: &mut Heads,
    status: u16,
    fault: Fault,
    details: &'static str,
) {
    let mut trip = Trip::new();
    heads.request.persistent = false;
    let body = if status == 408 { "request timeout" } else { "bad request" };
    let mut exchange = Exchange { worker, entry, down, heads, trip: &mut trip };
    exchange.answer(reply::Reply { status, body, grpc_status: None }, None).await;
    trip.refused(fault, details);
    trip.record(worker, entry, heads);
}

struct Exchange<'a> {
    worker: &'a Rc<Worker>,
    entry: &'a Entry,
    down: &'a mut Session,
    heads: &'a mut Heads,
    trip: &'a mut Trip,
}

/// A session towards an endpoint, counted as load while it lasts.
struct Way {
    lease: Lease,
    /// The group whose connections are counted, if they are.
    group: Option<Rc<Group>>,
    /// The longest the try may take.
    per_try: Option<Deadline>,
    /// The request and the retry that it is, as their group counts them.
    _held: (Option<Held>, Option<Held>),
    _active: Active,
}

/// The headers of a request as decisions read them.
struct View<'a>(&'a Fields);

impl lateen_engine::Headers for View<'_> {
    fn get(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let mut values = self
            .0
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| String::from_utf8_lossy(value));
        let first = values.next()?;
        Some(values.fold(first, |joined, value| std::borrow::Cow::Owned(format!("{joined},{value}"))))
    }

    fn any(&self, name: &str, holds: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut named = self.0.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
        named.any(|(_, value)| holds(&String::from_utf8_lossy(value)))
    }
}

impl Exchange<'_> {
    async fn run(&mut self) -> Next {
        let (facts, request) = (&self.entry.facts, &mut self.heads.request);
        let snapshot = self.worker.snapshot();
        match normalize_path(request.target(), snapshot.mesh().path_normalization) {
            None => {
                let fault =
                    Fault::downstream(Reason::Protocol, "the path climbs above its root or holds a NUL");
                return self.answer_fault(fault).await;
            }
            Some(std::borrow::Cow::Owned(target)) => request.set_target(&target),
            Some(std::borrow::Cow::Borrowed(_)) => {}
        }
        filters::headers::sanitize(request, facts, self.entry.client_certificate.as_deref());
        if request.kind == MethodKind::Connect {
            let fault = Fault::downstream(Reason::Protocol, "CONNECT is not served here");
            return self.answer_refusal(405, "CONNECT is not served here", fault).await;
        }
        let decision = self.decide(&snapshot);
        if snapshot.has_limits()
            && let Some(effective) = decision.effective()
            && let Some(next) = Box::pin(self.limit(&snapshot, effective)).await
        {
            return next;
        }
        match decision {
            RequestDecision::Deny(denial) => self.deny(denial).await,
            RequestDecision::Forward(forward) => self.forward(&snapshot, forward).await,
            RequestDecision::Answer(answered) => Box::pin(self.answer_by_rule(answered)).await,
        }
    }

    async fn forward(&mut self, snapshot: &Pinned<Snapshot>, forward: Forward) -> Next {
        let Forward { mut to, effective, matched } = forward;
        self.trip.effective = Some(Arc::clone(&effective));
        if self.entry.explicit {
            self.trip.at_once = false;
            let host = self.entry.facts.destination_host.as_deref();
            if let Err(fault) = Box::pin(resolve::settle(self.worker, host, &mut to)).await {
                return self.answer_fault(fault).await;
            }
        }
        if let Some(filters) = &effective.filters {
            if let Some(cors) = &filters.cors
                && let Some(next) = Box::pin(self.cors(cors)).await
            {
                return next;
            }
            if let Some(trouble) = &filters.fault
                && let Some(next) = Box::pin(self.inject(trouble)).await
            {
                return next;
            }
            self.edit_request(&effective, filters, matched);
        }
        if self.heads.request.upgrade {
            upgrade::prepare(&mut self.heads.request);
        }
        self.prefer(&effective);
        let coder = match effective.protocol {
            AppProtocol::Grpc => grpc_web::translate_request(&mut self.heads.request),
            _ => None,
        };
        let mut replay = Some(self.worker.settings().replay);
        if let Some(filters) = effective.filters.as_ref().filter(|filters| !filters.mirrors.is_empty()) {
            self.trip.copies = self.copies(filters, snapshot);
            replay = replay.max(self.trip.copies.as_ref().map(|_| mirror::MOST_BODY));
        }
        let mut pump = if self.heads.request.framing.is_empty() {
            Pump::empty(replay)
        } else {
            Pump::new(replay).through(coder).at_most(self.trip.most(|sizes| sizes.request_body))
        };
        let longest = grpc::shorter(effective.timeout, &self.heads.request);
        let mut total = longest.map(|longest| self.worker.deadlines().after_from(self.trip.now(), longest));
        let reached = self.reach(snapshot, &to, &effective, &mut pump, &mut total).await;
        self.send_copies(&pump);
        let way = match reached {
            Ok(way) => way,
            Err(next) => return next,
        };
        if let Some(fault) = limit::answer_too_large(self.trip, &self.heads.response) {
            return self.answer_fault(fault).await;
        }
        self.tell_affinity();
        if self.heads.response.status == 101 {
            return Box::pin(self.switch(&effective, way)).await;
        }
        self.relay(&effective, way, pump, total).await
    }
}

/// What decisions look at.
fn with_facts<R>(entry: &Entry, request: &RequestHead, ask: impl FnOnce(&RequestFacts<'_>) -> R) -> R {
    with_die(entry, request, random::next_u64(), ask)
}

/// The same, with a die that was thrown before.
fn with_die<R>(
    entry: &Entry,
    request: &RequestHead,
    die: u64,
    ask: impl FnOnce(&RequestFacts<'_>) -> R,
) -> R {
    let facts = &entry.facts;
    ask(&RequestFacts {
        connection: facts,
        scheme: if facts.tls { "https" } else { "http" },
        method: request.method(),
        authority: request.authority(),
        path_and_query: request.target(),
        headers: &View(&request.fields),
        random: die,
    })
}

/// What a broken caller means.
fn from_caller(broken: &Broken) -> Fault {
    match broken {
        Broken::TooLong(most) => Fault::downstream(
            Reason::TooLarge,
            format!("the body is longer than the {most} bytes that a RequestLimitPolicy allows"),
        ),
        Broken::Io(_) | Broken::Truncated | Broken::Stream(_) => {
            Fault::downstream(Reason::Gone, format!("the caller went away: {broken}"))
        }
        _ => Fault::downstream(Reason::Protocol, broken.to_string()),
    }
}

/// What a broken endpoint means.
fn from_endpoint(broken: &Broken) -> Fault {
    match broken {
        Broken::Stream(error) if is_unprocessed(error) => {
            Fault::upstream(Reason::RefusedStream, broken.to_string()).retry(Retry::Safe)
        }
        Broken::Io(_) | Broken::Truncated | Broken::Stream(_) => {
            Fault::upstream(Reason::Reset, format!("the endpoint gave no complete answer: {broken}"))
        }
        Broken::TooLong(most) => Fault::upstream(
            Reason::TooLarge,
            format!("the answer is longer than the {most} bytes that a RequestLimitPolicy allows"),
        )
        .retry(Retry::Never),
        _ => Fault::upstream(Reason::Protocol, format!("the endpoint's answer is refused: {broken}"))
            .retry(Retry::Never),
    }
}

/// Whether HTTP/2 said that nobody has acted on the request: it was refused, or it came after the last one that an ending
/// connection still serves (RFC 9113 section 6.8).
fn is_unprocessed(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
}
