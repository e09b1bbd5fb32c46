//! Tries endpoints until one has answered with a head.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use lateen_engine::{
    Denial, Destination, Direction, Effective, Excluded, Hop, Picked, Preference, Snapshot, pick,
};
use lateen_model::AppProtocol;
use lateen_runtime::deadline::Deadline;
use lateen_runtime::random;

use super::{Exchange, Heads, Next, Way, from_caller, from_endpoint};
use crate::connect::hbone::FAULT_HEADER;
use crate::connect::pool::Lease;
use crate::fault::{Fault, Reason, Retry};
use crate::health::outliers::Outcome;
use crate::http::body::{Failed, Pump};
use crate::http::grpc;
use crate::http::h1::connection::Broken;
use crate::http::head::{Framing, Known, Version};
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

#[derive(Clone, Copy, Debug)]
enum Again {
    /// The same endpoint, on a new connection; not counted as a retry.
    Fresh,
    /// Another endpoint.
    Elsewhere,
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
        let mut excluded = Excluded::default();
        let (mut left, mut fresh) = (effective.retry.attempts, false);
        loop {
            let picked = match self.pick(snapshot, to, effective, &mut excluded) {
                Ok(picked) => picked,
                Err(denial) => return Err(self.deny(denial).await),
            };
            let active = self.worker.load.begin(picked.endpoint);
            self.trip.attempts += 1;
            self.number_attempt();
            let trying = self.attempt(&picked.hop, effective, fresh, pump);
            let tried = within(total, trying).await.unwrap_or_else(|| {
                Err(Trouble::Fault(Fault::proxy(Reason::Timeout, "the route's timeout is over")))
            });
            let endpoint = picked.endpoint;
            let ended = || self.ended(&tried, fresh);
            self.worker.watch(snapshot, to, effective, endpoint, ended);
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

    /// What a try says of its endpoint.
    fn ended(&self, tried: &Result<Lease, Trouble>, fresh: bool) -> Option<Outcome> {
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
        let ended = match fault.reason {
            Reason::Reset => unseen || idempotent,
            // The other side ends an HTTP/2 connection and says that it has not looked at this request.
            Reason::RefusedStream => unseen,
            _ => false,
        };
        if self.trip.reused && !fresh && ended {
            // The other side closed a connection that was kept, as it may: it says nothing of the endpoint.
            return Some(Again::Fresh);
        }
        let asked = retry::after_fault(&effective.retry, fault)
            || (idempotent && retry::after_death(&effective.retry, fault));
        (left > 0 && asked).then_some(Again::Elsewhere)
    }

    /// The first repetition goes elsewhere at once; further ones wait.
    async fn wait_before_retry(&self, effective: &Effective) {
        if self.trip.attempts > 1 {
            let wait = retry::backoff(&effective.retry, self.trip.attempts);
            self.worker.deadlines().after(wait).await;
        }
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
        hop: &Hop,
        effective: &Effective,
        fresh: bool,
        pump: &mut Pump,
    ) -> Result<Lease, Trouble> {
        let connected = self.connect(hop, effective, fresh).await;
        let mut lease = connected.map_err(Trouble::Fault)?;
        self.trip.reused = lease.reused;
        // A connection that was kept is there at once; a stream of a shared one may have had to wait its turn.
        self.trip.at_once &= lease.reused && matches!(lease.session, Session::H1(_));
        let mut interim = 0;
        let (deadlines, began) = (self.worker.deadlines(), self.trip.now());
        let mut per_try = effective.retry.per_try_timeout.map(|longest| deadlines.after_from(began, longest));
        loop {
            self.await_head(&mut lease.session, pump, &mut per_try).await?;
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
            pool.begin_h1(self.worker, hop, fresh, request, self.trip.now()).await
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
