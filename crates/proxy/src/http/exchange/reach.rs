//! Tries endpoints until one has answered with a head.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use lateen_engine::{
    Denial, Destination, Direction, Effective, Excluded, Hop, Picked, Preference, Snapshot, pick,
};
use lateen_model::{AppProtocol, H2Upgrade};
use lateen_runtime::clock;
use lateen_runtime::deadline::Deadline;
use lateen_runtime::random;

use super::again::{Again, Retries};
use super::{Exchange, Heads, Next, Way, from_caller, from_endpoint};
use crate::connect::hbone::FAULT_HEADER;
use crate::connect::pool::{Lease, Upstream};
use crate::fault::{Fault, Reason, Retry};
use crate::health::outliers::Outcome;
use crate::http::body::{Failed, Pump};
use crate::http::grpc;
use crate::http::h1::connection::Broken;
use crate::http::head::{Framing, Known, RequestHead, Version};
use crate::http::retry;
use crate::http::session::Session;

/// Interim heads (1xx) that may come before the final one: HTTP/2 would let us buffer any number for a slow caller.
const MOST_INTERIM: u32 = 16;

/// How a try ended, if not with a head.
enum Trouble {
    /// Towards the endpoint.
    Fault(Fault),
    /// The caller's side: nobody is left to answer, or only with this.
    Caller(Fault),
}

impl Exchange<'_> {
    /// Tries endpoints until one has answered with a head that is to be sent on. Errors are answered already.
    pub(super) async fn reach(
        &mut self,
        snapshot: &Snapshot,
        to: &Destination,
        effective: &Effective,
        pump: &mut Pump,
        total: &mut Option<Deadline>,
    ) -> Result<Way, Next> {
        let group = self.worker.group(effective);
        let counted = match group.as_ref().map(|group| group.begin_request(&self.worker.shared.breakers)) {
            Some(Err(fault)) => return Err(Box::pin(self.answer_fault(fault)).await),
            counted => counted.and_then(Result::ok),
        };
        let mut retries = Retries::new(effective, group.as_ref(), &self.worker.shared.breakers);
        let mut excluded = Excluded::default();
        let mut last = None;
        loop {
            let picked = match self.pick(snapshot, to, effective, &mut excluded) {
                Ok(picked) => picked,
                Err(denial) => return Err(self.deny(denial).await),
            };
            let endpoint = picked.endpoint;
            if let Some(wait) = self.wait_before_retry(effective, last, endpoint)
                && within(total, Box::pin(clock::sleep(wait))).await.is_none()
            {
                return Err(Box::pin(self.answer_fault(over())).await);
            }
            let active = self.worker.load.begin(endpoint);
            self.trip.attempts += 1;
            self.number_attempt();
            let upstream = Upstream { hop: &picked.hop, group: group.as_ref() };
            let trying = self.attempt(upstream, effective, retries.fresh, pump);
            let tried = within(total, trying).await.unwrap_or_else(|| Err(Trouble::Fault(over())));
            let fresh = retries.fresh;
            let ended = || self.ended(&tried, fresh);
            self.worker.watch(snapshot, to, effective, endpoint, ended);
            let again = match tried {
                Ok((lease, per_try)) => {
                    let again = retries.after_response(self.trip, &self.heads.response, pump);
                    if !(again && pump.rewind()) {
                        self.trip.picked = Some(picked);
                        let held = (counted, retries.into_held());
                        return Ok(Way { lease, group, per_try, _held: held, _active: active });
                    }
                    Again::Elsewhere
                }
                Err(Trouble::Caller(fault)) => return Err(self.answer_fault(fault).await),
                Err(Trouble::Fault(fault)) => {
                    let again = retries.after_fault(self.trip, &self.heads.request, &fault, pump);
                    tracing::debug!(%endpoint, %fault, ?again, "try failed");
                    self.trip.picked = Some(picked);
                    let (Some(again), true) = (again, pump.rewind()) else {
                        return Err(self.answer_fault(fault).await);
                    };
                    again
                }
            };
            drop(active);
            last = (again == Again::Elsewhere).then_some(endpoint);
            if last.is_some() && effective.retry.ignore_previous_hosts {
                excluded.add(endpoint);
            }
        }
    }

    /// What a try says of its endpoint.
    fn ended(&self, tried: &Result<(Lease, Option<Deadline>), Trouble>, fresh: bool) -> Option<Outcome> {
        match tried {
            Ok(_) => {
                let response = &self.heads.response;
                let status = response.fields.known(Known::GrpcStatus).and_then(grpc::http_status);
                Some(Outcome::Status(status.unwrap_or(response.status)))
            }
            Err(Trouble::Caller(_)) => None,
            // A connection that was kept may be closed at any time.
            Err(Trouble::Fault(fault)) if self.trip.reused && !fresh && fault.reason == Reason::Reset => None,
            Err(Trouble::Fault(fault)) => fault.blames_endpoint().then_some(Outcome::NoAnswer),
        }
    }

    /// Tells the endpoint which try this is, where the client's side tries: as Istio does, not for what comes in.
    fn number_attempt(&mut self) {
        if self.entry.facts.direction != Direction::Inbound {
            let mut digits = [0; 10];
            let count = decimal(self.trip.attempts, &mut digits);
            self.heads.request.fields.set(b"x-envoy-attempt-count", count);
        }
    }

    /// The first repetition goes to another endpoint at once; further ones, and one to the same endpoint, wait.
    fn wait_before_retry(
        &self,
        effective: &Effective,
        last: Option<SocketAddr>,
        next: SocketAddr,
    ) -> Option<Duration> {
        let waits = last.is_some_and(|last| last == next || self.trip.attempts > 1);
        waits.then(|| retry::backoff(&effective.retry, self.trip.attempts + 1))
    }

    /// An endpoint that was not tried yet, else one that was.
    fn pick(
        &self,
        snapshot: &Snapshot,
        to: &Destination,
        effective: &Effective,
        excluded: &mut Excluded,
    ) -> Result<Picked, Denial> {
        let load = &self.worker.load;
        let mut preference = self.trip.affinity.as_ref().map_or_else(Preference::default, |a| a.preference());
        preference.other_localities = effective.retry.remote_localities;
        match pick(snapshot, to, &preference, excluded, load, random::next_u64()) {
            Err(_) if !excluded.is_empty() => {
                *excluded = Excluded::default();
                pick(snapshot, to, &preference, excluded, load, random::next_u64())
            }
            outcome => outcome,
        }
    }

    /// One try: connect, send, and wait for the final head.
    async fn attempt(
        &mut self,
        upstream: Upstream<'_>,
        effective: &Effective,
        fresh: bool,
        pump: &mut Pump,
    ) -> Result<(Lease, Option<Deadline>), Trouble> {
        let connected = self.connect(upstream, effective, fresh).await;
        let mut lease = connected.map_err(Trouble::Fault)?;
        self.trip.reused = lease.reused;
        // A connection that was kept is there at once; a stream of a shared one may have had to wait its turn.
        self.trip.at_once &= lease.reused && matches!(lease.session, Session::H1(_));
        let mut interim = 0;
        let (deadlines, began) = (self.worker.deadlines(), self.trip.now());
        let mut per_try = effective.retry.per_try_timeout.map(|longest| deadlines.after_from(began, longest));
        loop {
            let came = self.await_head(&mut lease.session, pump, &mut per_try).await;
            came.map_err(|trouble| unseen_if_unwritten(trouble, &lease.session))?;
            self.trip.at_once = false;
            if !self.heads.response.is_interim() {
                break;
            }
            interim += 1;
            if interim > MOST_INTERIM {
                let fault = Fault::upstream(Reason::Protocol, "it sends interim answers without end");
                return Err(Trouble::Fault(fault.retry(Retry::Never)));
            }
            self.pass_interim().await?;
        }
        let response = &mut self.heads.response;
        if response.status == 101 && !self.heads.request.upgrade {
            let fault = Fault::upstream(Reason::Protocol, "it switched protocols without being asked");
            return Err(Trouble::Fault(fault.retry(Retry::Never)));
        }
        let from_proxy = matches!(upstream.hop, Hop::Hbone { .. });
        let failed = from_proxy.then(|| response.fields.get(FAULT_HEADER)).flatten();
        if let Some(told) = failed {
            let told = String::from_utf8_lossy(told).into_owned();
            return Err(Trouble::Fault(Fault::connect(Reason::ConnectFailure, told)));
        }
        response.fields.remove_known(|known| known == Known::Mesh);
        Ok((lease, per_try))
    }

    /// Opens or reuses a connection; what is spoken follows the route, else the caller.
    async fn connect(
        &mut self,
        upstream: Upstream<'_>,
        effective: &Effective,
        fresh: bool,
    ) -> Result<Lease, Fault> {
        let request = &self.heads.request;
        let pool = &self.worker.pool;
        if speaks_h2(effective, request) && !request.upgrade {
            let scheme = if self.entry.facts.tls { "https" } else { "http" };
            Box::pin(pool.begin_h2(self.worker, upstream, request, scheme)).await
        } else {
            pool.begin_h1(self.worker, upstream, fresh, request, self.trip.now()).await
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
        let mut idle = self.worker.deadlines().after_from(self.trip.now(), stream_idle);
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
}

/// What is spoken with the endpoint: what a policy says, else what the service does, else what the caller does.
pub(super) fn speaks_h2(effective: &Effective, request: &RequestHead) -> bool {
    let limits = effective.connections.as_ref().map(|limits| &limits.pool);
    let as_caller = limits.is_some_and(|pool| pool.use_client_protocol == Some(true));
    let upgrade = limits.is_some_and(|pool| pool.h2_upgrade == Some(H2Upgrade::Upgrade));
    match effective.protocol {
        _ if as_caller => request.version == Version::Http2,
        AppProtocol::Http2 | AppProtocol::Grpc => true,
        _ if upgrade => true,
        AppProtocol::Http1 => false,
        _ => request.version == Version::Http2,
    }
}

/// A request of which no byte was written was seen by nobody.
fn unseen_if_unwritten(trouble: Trouble, session: &Session) -> Trouble {
    match (trouble, session) {
        (Trouble::Fault(fault), Session::H1(connection))
            if fault.reason == Reason::Reset && !connection.has_written() =>
        {
            Trouble::Fault(fault.retry(Retry::Safe))
        }
        (trouble, _) => trouble,
    }
}

fn over() -> Fault {
    Fault::proxy(Reason::Timeout, "the route's timeout is over")
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
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
