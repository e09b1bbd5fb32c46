//! One request from head to last byte, in the task that accepted it: decide, filter, connect, send, answer, record.
//!
//! Request and response are relayed at the same time by polling both directions from one place, so an early answer
//! goes out while the body still comes in, and no task waits for another.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use lateen_engine::{
    ConnectionFacts, Denial, Destination, Direction, Effective, Excluded, Forward, Hop, Picked,
    RequestDecision, RequestFacts, Snapshot, decide_request, pick,
};
use lateen_model::AppProtocol;
use lateen_runtime::deadline::Deadline;
use lateen_runtime::random;

use super::body::{Failed, Pump};
use super::h1::connection::Broken;
use super::head::{Fields, Framing, Known, MethodKind, RequestHead, ResponseHead, Version};
use super::session::Session;
use super::{filters, path, reply, retry, upgrade};
use crate::connect::hbone::FAULT_HEADER;
use crate::connect::pool::Lease;
use crate::connect::resolve;
use crate::fault::{Fault, Reason, Retry};
use crate::health::Active;
use crate::worker::Worker;

mod record;

pub(crate) use record::Trip;

/// What a connection brings to each of its requests.
pub(crate) struct Entry {
    /// What decisions may look at.
    pub(crate) facts: ConnectionFacts,
    /// `x-forwarded-client-cert` for the verified peer.
    pub(crate) client_certificate: Option<Box<str>>,
    /// Each request names its own destination.
    pub(crate) explicit: bool,
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
    exchange.answer(reply::Reply { status, body }, None).await;
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

/// How a try ended, if not with a head.
enum Trouble {
    /// Towards the endpoint.
    Fault(Fault),
    /// The caller's side: nobody is left to answer, or only with this.
    Caller(Fault),
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
}

impl Exchange<'_> {
    async fn run(&mut self) -> Next {
        let (facts, request) = (&self.entry.facts, &mut self.heads.request);
        match path::normalize(request.target()) {
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
        let snapshot = self.worker.snapshot();
        let decision = decide_request(
            &snapshot,
            &RequestFacts {
                connection: facts,
                scheme: if facts.tls { "https" } else { "http" },
                method: request.method(),
                authority: request.authority(),
                path_and_query: request.target(),
                headers: &View(&request.fields),
                random: random::next_u64(),
            },
        );
        match decision {
            RequestDecision::Deny(denial) => self.deny(denial).await,
            RequestDecision::Forward(forward) => self.forward(&snapshot, forward).await,
        }
    }

    async fn forward(&mut self, snapshot: &Snapshot, forward: Forward) -> Next {
        let Forward { mut to, effective } = forward;
        self.trip.effective = Some(Arc::clone(&effective));
        if self.entry.explicit {
            let host = self.entry.facts.destination_host.as_deref();
            if let Err(fault) = Box::pin(resolve::settle(self.worker, host, &mut to)).await {
                return self.answer_fault(fault).await;
            }
        }
        filters::request(&effective.filters, &mut self.heads.request);
        let replay = Some(self.worker.settings().replay);
        let mut pump =
            if self.heads.request.framing.is_empty() { Pump::empty(replay) } else { Pump::new(replay) };
        let mut total = effective.timeout.map(|longest| self.worker.deadlines().after(longest));
        let way = match self.reach(snapshot, &to, &effective, &mut pump, &mut total).await {
            Ok(way) => way,
            Err(next) => return next,
        };
        if self.heads.response.status == 101 {
            return Box::pin(self.switch(way)).await;
        }
        self.relay(&effective, way, pump, total).await
    }

    /// Tries endpoints until one has answered with a head that is to be sent on. Errors are answered already.
    async fn reach(
        &mut self,
        snapshot: &Snapshot,
        to: &Destination,
        effective: &Effective,
        pump: &mut Pump,
        total: &mut Option<Deadline>,
    ) -> Result<Way, Next> {
        let mut excluded = Excluded::default();
        let (mut left, mut fresh) = (effective.retry.attempts, false);
        loop {
            let picked = match self.pick(snapshot, to, &mut excluded) {
                Ok(picked) => picked,
                Err(denial) => return Err(self.deny(denial).await),
            };
            let active = self.worker.load.begin(picked.endpoint);
            self.trip.attempts += 1;
            let trying = self.attempt(&picked.hop, effective, fresh, pump);
            let tried = within(total, trying).await.unwrap_or_else(|| {
                Err(Trouble::Fault(Fault::proxy(Reason::Timeout, "the route's timeout is over")))
            });
            let endpoint = picked.endpoint;
            let again = match tried {
                Ok(lease) => {
                    let again = left > 0 && retry::after_response(&effective.retry, &self.heads.response);
                    if !(again && pump.rewind()) {
                        self.trip.picked = Some(picked);
                        return Ok(Way { lease, _active: active });
                    }
                    Again::Elsewhere
                }
                Err(Trouble::Caller(fault)) => return Err(self.answer_fault(fault).await),
                Err(Trouble::Fault(fault)) => {
                    let again = self.again(effective, &fault, left, fresh, pump);
                    tracing::debug!(%endpoint, %fault, ?again, "try failed");
                    self.trip.picked = Some(picked);
                    let (Some(again), true) = (again, pump.rewind()) else {
                        return Err(self.answer_fault(fault).await);
                    };
                    again
                }
            };
            drop(active);
            match again {
                Again::Fresh => fresh = true,
                Again::Elsewhere => {
                    (left, fresh) = (left - 1, false);
                    excluded.add(endpoint);
                    self.wait_before_retry(effective).await;
                }
            }
        }
    }

    /// Whether and how a request that failed is sent again.
    fn again(
        &self,
        effective: &Effective,
        fault: &Fault,
        left: u32,
        fresh: bool,
        pump: &Pump,
    ) -> Option<Again> {
        if !pump.can_replay() {
            return None;
        }
        let request = &self.heads.request;
        let unseen = fault.retry == Retry::Safe;
        let idempotent = fault.retry == Retry::IfIdempotent && request.kind.is_idempotent();
        if self.trip.reused && !fresh && fault.reason == Reason::Reset && (unseen || idempotent) {
            // The other side closed a connection that was kept, as it may: it says nothing of the endpoint.
            return Some(Again::Fresh);
        }
        (left > 0 && retry::after_fault(&effective.retry, fault)).then_some(Again::Elsewhere)
    }

    /// The first repetition goes elsewhere at once; further ones wait.
    async fn wait_before_retry(&self, effective: &Effective) {
        if self.trip.attempts > 1 {
            let wait = retry::backoff(&effective.retry, self.trip.attempts);
            self.worker.deadlines().after(wait).await;
        }
    }

    /// An endpoint that was not tried yet, else one that was.
    fn pick(&self, snapshot: &Snapshot, to: &Destination, excluded: &mut Excluded) -> Result<Picked, Denial> {
        let load = &self.worker.load;
        match pick(snapshot, to, excluded, load, random::next_u64()) {
            Err(_) if !excluded.is_empty() => {
                *excluded = Excluded::default();
                pick(snapshot, to, excluded, load, random::next_u64())
            }
            outcome => outcome,
        }
    }

    /// One try: connect, send, and wait for the final head.
    async fn attempt(
        &mut self,
        hop: &Hop,
        effective: &Effective,
        fresh: bool,
        pump: &mut Pump,
    ) -> Result<Lease, Trouble> {
        let connected = self.connect(hop, effective, fresh).await;
        let mut lease = connected.map_err(Trouble::Fault)?;
        self.trip.reused = lease.reused;
        let mut per_try =
            effective.retry.per_try_timeout.map(|longest| self.worker.deadlines().after(longest));
        loop {
            self.await_head(&mut lease.session, pump, &mut per_try).await?;
            if !self.heads.response.is_interim() {
                break;
            }
            self.pass_interim().await?;
        }
        let response = &mut self.heads.response;
        if response.status == 101 && !self.heads.request.upgrade {
            let fault = Fault::upstream(Reason::Protocol, "it switched protocols without being asked");
            return Err(Trouble::Fault(fault.retry(Retry::Never)));
        }
        let from_proxy = matches!(hop, Hop::Hbone { .. });
        let failed = from_proxy.then(|| response.fields.get(FAULT_HEADER)).flatten();
        if let Some(told) = failed {
            let told = String::from_utf8_lossy(told).into_owned();
            return Err(Trouble::Fault(Fault::connect(Reason::ConnectFailure, told)));
        }
        response.fields.remove_known(|known| known == Known::Mesh);
        Ok(lease)
    }

    /// Opens or reuses a connection; what is spoken follows the route, else the caller.
    async fn connect(&mut self, hop: &Hop, effective: &Effective, fresh: bool) -> Result<Lease, Fault> {
        let request = &self.heads.request;
        let h2 = match effective.protocol {
            AppProtocol::Http2 | AppProtocol::Grpc => true,
            AppProtocol::Http1 => false,
            _ => request.version == Version::Http2,
        };
        let pool = &self.worker.pool;
        if h2 && !request.upgrade {
            let scheme = if self.entry.facts.tls { "https" } else { "http" };
            Box::pin(pool.begin_h2(self.worker, hop, request, scheme)).await
        } else {
            pool.begin_h1(self.worker, hop, fresh, request).await
        }
    }

    /// Sends the request's body while waiting for a head.
    async fn await_head(
        &mut self,
        up: &mut Session,
        pump: &mut Pump,
        per_try: &mut Option<Deadline>,
    ) -> Result<(), Trouble> {
        let limits = self.worker.settings().head;
        let stream_idle = self.worker.settings().stream_idle;
        let mut idle = self.worker.deadlines().after(stream_idle);
        let Exchange { down, heads, .. } = self;
        let Heads { request, response } = &mut **heads;
        let mut unsent: Option<Broken> = None;
        let mut moved = pump.bytes();
        poll_fn(|context| {
            if unsent.is_none() && !pump.is_done() {
                match pump.poll(context, down, up) {
                    Poll::Ready(Err(Failed::From(broken))) => {
                        return Poll::Ready(Err(Trouble::Caller(from_caller(&broken))));
                    }
                    // An answer may have come all the same: it is looked for first.
                    Poll::Ready(Err(Failed::To(broken))) => unsent = Some(broken),
                    _ => {}
                }
                if pump.bytes() != moved {
                    moved = pump.bytes();
                    idle.reset(stream_idle);
                }
            }
            match up.poll_response(context, limits, request.kind, response) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(broken)) => {
                    return Poll::Ready(Err(Trouble::Fault(from_endpoint(&broken))));
                }
                Poll::Pending => {}
            }
            if let Some(broken) = &unsent {
                return Poll::Ready(Err(Trouble::Fault(from_endpoint(broken))));
            }
            if pump.is_done() && down.poll_gone(context).is_ready() {
                let fault = Fault::downstream(Reason::Gone, "the caller went away before the answer");
                return Poll::Ready(Err(Trouble::Caller(fault)));
            }
            if per_try.as_mut().is_some_and(|limit| Pin::new(limit).poll(context).is_ready()) {
                let fault = Fault::proxy(Reason::PerTryTimeout, "the try took longer than its share");
                return Poll::Ready(Err(Trouble::Fault(fault)));
            }
            if Pin::new(&mut idle).poll(context).is_ready() {
                return Poll::Ready(Err(if pump.is_done() {
                    Trouble::Fault(Fault::proxy(Reason::IdleTimeout, "no answer and nothing moved"))
                } else {
                    Trouble::Caller(Fault::downstream(
                        Reason::SlowRequest,
                        "the body of the request stands still",
                    ))
                }));
            }
            Poll::Pending
        })
        .await
    }

    /// Sends an interim head on to a caller that can read it.
    async fn pass_interim(&mut self) -> Result<(), Trouble> {
        let Heads { request, response } = &mut *self.heads;
        let wanted = if response.status == 100 { request.expects_continue } else { true };
        if !wanted || request.version == Version::Http10 {
            return Ok(());
        }
        response.framing = Framing::None;
        let down = &mut self.down;
        let sent = down.write_response(response, request, true).map(drop);
        let sent = match sent {
            Ok(()) => poll_fn(|context| down.poll_flush(context)).await,
            failed => failed,
        };
        sent.map_err(|broken| Trouble::Caller(from_caller(&broken)))
    }

    /// The head of the answer and both bodies.
    async fn relay(&mut self, effective: &Effective, way: Way, pump: Pump, total: Option<Deadline>) -> Next {
        let (mut way, mut pump, mut total) = (way, pump, total);
        self.trip.head_came();
        let Heads { request, response } = &mut *self.heads;
        filters::response(&effective.filters, response);
        let upstream_persists = response.persistent;
        // A body that was promised only after 100-continue will not come now.
        let unsent_body = request.expects_continue && !pump.is_done();
        let persistent = request.persistent && !unsent_body && !self.worker.is_draining();
        self.trip.answered(response);
        let framing = match self.down.write_response(response, request, persistent) {
            Ok(framing) => framing,
            Err(broken) => {
                self.trip.fail(from_caller(&broken));
                return Next::Close;
            }
        };
        let bodiless = framing.is_empty() && response.framing.is_empty();
        let mut back = if bodiless { Pump::empty(None) } else { Pump::new(None) };
        let ended = self.move_bodies(&mut way.lease.session, &mut pump, &mut back, &mut total).await;
        self.trip.moved(&pump, &back);
        match ended {
            Ok(()) => {
                if upstream_persists && pump.is_done() {
                    self.give_back(way);
                }
                self.after(persistent && framing != Framing::UntilClose, pump.is_done())
            }
            Err(fault) => {
                self.down.reset(h2::Reason::INTERNAL_ERROR);
                way.lease.session.reset(h2::Reason::CANCEL);
                self.trip.fail(fault);
                Next::Close
            }
        }
    }

    /// Both directions until the answer is complete.
    async fn move_bodies(
        &mut self,
        up: &mut Session,
        pump: &mut Pump,
        back: &mut Pump,
        total: &mut Option<Deadline>,
    ) -> Result<(), Fault> {
        let stream_idle = self.worker.settings().stream_idle;
        let mut idle: Option<Deadline> = None;
        let (worker, down) = (self.worker, &mut self.down);
        let mut request_open = !pump.is_done();
        let mut moved = pump.bytes() + back.bytes();
        poll_fn(|context| {
            if request_open {
                match pump.poll(context, down, up) {
                    Poll::Ready(Err(Failed::From(broken))) => return Poll::Ready(Err(from_caller(&broken))),
                    // It reads no more, but its answer may be complete.
                    Poll::Ready(Err(Failed::To(_)) | Ok(())) => request_open = false,
                    Poll::Pending => {}
                }
            }
            match back.poll(context, up, down) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Failed::From(broken))) => return Poll::Ready(Err(from_endpoint(&broken))),
                Poll::Ready(Err(Failed::To(broken))) => return Poll::Ready(Err(from_caller(&broken))),
                Poll::Pending => {}
            }
            if pump.is_done() && down.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Fault::downstream(
                    Reason::Gone,
                    "the caller went away during the answer",
                )));
            }
            if total.as_mut().is_some_and(|limit| Pin::new(limit).poll(context).is_ready()) {
                return Poll::Ready(Err(Fault::proxy(Reason::Timeout, "the route's timeout is over")));
            }
            // Most answers are complete at the first look; only the others need a limit.
            let idle = idle.get_or_insert_with(|| worker.deadlines().after(stream_idle));
            if pump.bytes() + back.bytes() != moved {
                moved = pump.bytes() + back.bytes();
                idle.reset(stream_idle);
            }
            if Pin::new(idle).poll(context).is_ready() {
                return Poll::Ready(Err(Fault::proxy(Reason::IdleTimeout, "nothing moved for too long")));
            }
            Poll::Pending
        })
        .await
    }

    /// Lets the next request use the connection.
    fn give_back(&self, way: Way) {
        if let (Session::H1(connection), Some(picked)) = (way.lease.session, &self.trip.picked) {
            self.worker.pool.put(&picked.hop, connection);
        }
    }

    /// The connection becomes a tunnel of the other protocol.
    async fn switch(&mut self, way: Way) -> Next {
        self.trip.head_came();
        self.trip.answered(&self.heads.response);
        let Heads { request, response } = &mut *self.heads;
        let mut way = way;
        let ended = upgrade::run(self.worker, self.down, &mut way.lease.session, request, response).await;
        self.trip.tunnelled(ended);
        Next::Close
    }

    async fn deny(&mut self, denial: Denial) -> Next {
        let answer = reply::Reply::denial(&denial);
        self.trip.denial = Some(denial);
        Box::pin(self.answer(answer, None)).await
    }

    /// Answers what went wrong, if anybody is left to hear it.
    async fn answer_fault(&mut self, fault: Fault) -> Next {
        if fault.reason == Reason::Gone {
            self.down.reset(h2::Reason::CANCEL);
            self.trip.fail(fault);
            return Next::Close;
        }
        let answer = reply::Reply::fault(&fault);
        let next = Box::pin(self.answer(answer, Some(&fault))).await;
        self.trip.fail(fault);
        next
    }

    async fn answer_refusal(&mut self, status: u16, body: &'static str, fault: Fault) -> Next {
        let next = Box::pin(self.answer(reply::Reply { status, body }, None)).await;
        self.trip.fail(fault);
        next
    }

    /// Sends an answer of our own.
    async fn answer(&mut self, answer: reply::Reply<'_>, fault: Option<&Fault>) -> Next {
        let Heads { request, response } = &mut *self.heads;
        let has_body = reply::head(answer, request, response);
        // The other proxy may try elsewhere: our application has not seen the request.
        if let Some(fault) = fault.filter(|fault| fault.retry == Retry::Safe)
            && self.entry.facts.direction == Direction::Inbound
            && self.entry.facts.peer.is_some()
        {
            let told: Vec<u8> = fault.message.bytes().filter(|byte| (b' '..=b'~').contains(byte)).collect();
            response.fields.add(FAULT_HEADER.as_bytes(), &told);
        }
        self.trip.answered(response);
        let down = &mut self.down;
        let read = discard_what_came(down);
        let persistent = request.persistent && read && !self.worker.is_draining();
        if down.write_response(response, request, persistent).is_err() {
            return Next::Close;
        }
        let mut body =
            if has_body && request.kind != MethodKind::Head { answer.body.as_bytes() } else { &[] };
        self.trip.sent(body.len());
        let stream_idle = self.worker.settings().stream_idle;
        let sending = poll_fn(|context| {
            while !body.is_empty() {
                match down.poll_write_body(context, body) {
                    Poll::Ready(Ok(sent)) => body = &body[sent..],
                    other => return other.map_ok(drop),
                }
            }
            Poll::Ready(down.finish(None))
        });
        let sent = self.worker.deadlines().within(stream_idle, sending).await;
        let flushed = poll_fn(|context| self.down.poll_flush(context));
        let flushed = self.worker.deadlines().within(stream_idle, flushed).await;
        match (sent, flushed) {
            (Ok(Ok(())), Ok(Ok(()))) => self.after(persistent, read),
            _ => Next::Close,
        }
    }

    /// What becomes of the connection once the answer is sent.
    fn after(&self, persistent: bool, request_read: bool) -> Next {
        // An HTTP/2 caller is told by dropping the stream that the rest of the body is not wanted: `h2` sends the
        // answer first and then a reset without blame.
        if persistent && request_read { Next::KeepAlive } else { Next::Linger }
    }
}

/// A session towards an endpoint, counted as load while it lasts.
struct Way {
    lease: Lease,
    _active: Active,
}

#[derive(Clone, Copy, Debug)]
enum Again {
    /// The same endpoint, on a new connection; not counted as a retry.
    Fresh,
    /// Another endpoint.
    Elsewhere,
}

/// Runs `future` until the limit, if there is one; None when the time is over. (Two awaits, with and without limit,
/// would make room for the future twice.)
async fn within<F: Future>(limit: &mut Option<Deadline>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        match limit {
            Some(limit) => Pin::new(limit).poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Throws away the part of a body that is there already; true if that was all of it.
fn discard_what_came(down: &mut Session) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..16 {
        match down.poll_body(&mut context) {
            Poll::Ready(Ok(super::h1::connection::Step::Data)) => down.consume(down.data().len()),
            Poll::Ready(Ok(super::h1::connection::Step::End)) => return true,
            _ => return false,
        }
    }
    false
}

/// What a broken caller means.
fn from_caller(broken: &Broken) -> Fault {
    match broken {
        Broken::Io(_) | Broken::Truncated | Broken::Stream(_) => {
            Fault::downstream(Reason::Gone, format!("the caller went away: {broken}"))
        }
        _ => Fault::downstream(Reason::Protocol, broken.to_string()),
    }
}

/// What a broken endpoint means.
fn from_endpoint(broken: &Broken) -> Fault {
    match broken {
        Broken::Stream(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Fault::upstream(Reason::RefusedStream, broken.to_string()).retry(Retry::Safe)
        }
        Broken::Io(_) | Broken::Truncated | Broken::Stream(_) => {
            Fault::upstream(Reason::Reset, format!("the endpoint gave no complete answer: {broken}"))
        }
        _ => Fault::upstream(Reason::Protocol, format!("the endpoint's answer is refused: {broken}"))
            .retry(Retry::Never),
    }
}
