//! Copies of requests that are sent elsewhere; what they are answered is thrown away.
//!
//! A copy is sent when all of the request was read, from what was kept for another try: the request itself waits for
//! nothing. A body that is longer than what is kept for a copy is not copied.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use lateen_engine::{Excluded, Filters, Forward, Preference, Snapshot, pick};
use lateen_runtime::clock;
use lateen_runtime::live::Pinned;
use lateen_runtime::random;

use super::Exchange;
use super::reach::speaks_h2;
use crate::connect::pool::{self, Upstream};
use crate::fault::Fault;
use crate::http::body::Pump;
use crate::http::h1::connection::{Broken, Step};
use crate::http::head::{Framing, RequestHead, ResponseHead};
use crate::http::session::Session;
use crate::worker::Worker;

/// The longest body that is copied.
pub(super) const MOST_BODY: usize = 1024 * 1024;
/// What all copies of one worker may take up, from the request's head to the end of the copy's answer; beyond it requests
/// are not copied.
pub(crate) const MOST_COPIED: usize = 32 * 1024 * 1024;
/// What a copy takes up besides its body.
const HEAD: usize = 16 * 1024;
/// The longest that a copy may take, where its route says nothing.
const LONGEST: Duration = Duration::from_secs(60);

/// A request to be copied, as it was about to be sent.
pub(super) struct Copies {
    to: Vec<Forward>,
    head: RequestHead,
    snapshot: Pinned<Snapshot>,
    scheme: &'static str,
    reserved: Reserved,
}

/// Bytes that may still be taken.
#[derive(Clone)]
pub(crate) struct Budget(Rc<Cell<usize>>);

/// Bytes that were taken; they come back with the end of the value.
struct Reserved {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    fn take(&self, bytes: usize) -> Option<Reserved> {
        self.0.set(self.0.get().checked_sub(bytes)?);
        Some(Reserved { budget: self.clone(), bytes })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let left = &self.budget.0;
        left.set(left.get() + self.bytes);
    }
}

impl Exchange<'_> {
    /// Whether, and where to, this request is copied.
    pub(super) fn copies(&self, filters: &Filters, snapshot: &Pinned<Snapshot>) -> Option<Box<Copies>> {
        let original = self.entry.facts.destination;
        let chosen = filters.mirrors.iter().filter(|mirror| mirror.share.includes(random::next_u64()));
        let to: Vec<Forward> = chosen.filter_map(|mirror| mirror.forward(original)).collect();
        if to.is_empty() || self.heads.request.upgrade {
            return None;
        }
        // A body of unknown length may become as long as any.
        let body = self.heads.request.framing.length().and_then(|length| usize::try_from(length).ok());
        let body = body.unwrap_or(MOST_BODY);
        let reserved = if body <= MOST_BODY { self.worker.copies.take(HEAD + body) } else { None };
        let Some(reserved) = reserved else {
            tracing::debug!(body, "a request is not mirrored: too long, or too many are");
            return None;
        };
        let mut head = self.heads.request.clone();
        let shadow = shadow_of(head.authority());
        head.set_authority(&shadow);
        let scheme = if self.entry.facts.tls { "https" } else { "http" };
        Some(Box::new(Copies { to, head, snapshot: snapshot.clone(), scheme, reserved }))
    }

    /// Sends the copies once all of the request was read.
    pub(super) fn send_copies(&mut self, pump: &Pump) {
        if !pump.is_done() {
            return;
        }
        let Some(copies) = self.trip.copies.take() else { return };
        let Some(body) = pump.kept() else {
            tracing::debug!(limit = MOST_BODY, "a request is too long to be mirrored");
            return;
        };
        let Copies { to, mut head, snapshot, scheme, reserved } = *copies;
        let reserved = Rc::new(reserved);
        head.framing = match (head.framing, body.len()) {
            (Framing::None, _) => Framing::None,
            (_, length) => Framing::Length(length as u64),
        };
        let body: Rc<[u8]> = body.into();
        for forward in to {
            let worker = Rc::clone(self.worker);
            let reserved = Rc::clone(&reserved);
            let (head, body, snapshot) = (head.clone(), Rc::clone(&body), snapshot.clone());
            self.worker.spawn(async move {
                let _reserved = reserved;
                let longest = forward.effective.timeout.unwrap_or(LONGEST).min(LONGEST);
                let sending = send(&worker, &snapshot, &forward, &head, &body, scheme);
                match worker.deadlines().within(longest, sending).await {
                    Ok(Ok(status)) => tracing::debug!(status, "a copy was answered"),
                    Ok(Err(fault)) => tracing::debug!(%fault, "a copy was not answered"),
                    Err(_) => tracing::debug!("a copy was not answered in time"),
                }
            });
        }
    }
}

/// The host of a copy (Istio and Envoy: `-shadow` behind it, before the port).
fn shadow_of(authority: &str) -> String {
    let host = lateen_engine::host_of(authority);
    // A literal of IPv6 stands in brackets, which `host_of` takes off.
    let end = if authority.starts_with('[') { host.len() + 2 } else { host.len() }.min(authority.len());
    format!("{}-shadow{}", &authority[..end], &authority[end..])
}

async fn send(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    forward: &Forward,
    head: &RequestHead,
    body: &[u8],
    scheme: &'static str,
) -> Result<u16, Fault> {
    let picked = pick(
        snapshot,
        &forward.to,
        &Preference::default(),
        &Excluded::default(),
        &worker.load,
        random::next_u64(),
    );
    let picked =
        picked.map_err(|denial| Fault::proxy(crate::fault::Reason::ConnectFailure, denial.to_string()))?;
    let _active = worker.load.begin(picked.endpoint);
    let group = worker.group(&forward.effective);
    let _counted = group.as_ref().map(|group| group.begin_request(&worker.shared.breakers)).transpose()?;
    let upstream = Upstream { hop: &picked.hop, group: group.as_ref() };
    let mut lease = if speaks_h2(&forward.effective, head) {
        Box::pin(worker.pool.begin_h2(worker, upstream, head, scheme)).await?
    } else {
        worker.pool.begin_h1(worker, upstream, false, head, clock::now()).await?
    };
    let limits = worker.settings().head;
    let mut response = ResponseHead::default();
    let moved = exchange(&mut lease.session, limits, head, body, &mut response).await;
    moved.map_err(|broken| super::from_endpoint(&broken))?;
    if response.persistent
        && let Session::H1(connection) = lease.session
    {
        worker.pool.put(worker, upstream, connection, lease.ticket, pool::told(&response), clock::now());
    }
    Ok(response.status)
}

/// Sends the body, and reads the answer to its end.
async fn exchange(
    up: &mut Session,
    limits: crate::http::h1::parse::HeadLimits,
    head: &RequestHead,
    body: &[u8],
    response: &mut ResponseHead,
) -> Result<(), Broken> {
    let mut unsent = body;
    while !unsent.is_empty() {
        let sent = poll_fn(|context| up.poll_write_body(context, unsent)).await?;
        unsent = &unsent[sent..];
    }
    up.finish(None)?;
    poll_fn(|context| up.poll_flush(context)).await?;
    loop {
        poll_fn(|context| up.poll_response(context, limits, head.kind, response)).await?;
        if !response.is_interim() {
            break;
        }
    }
    while poll_fn(|context| up.poll_body(context)).await? == Step::Data {
        up.consume(up.data().len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reserved_comes_back() {
        let budget = Budget::new(10);
        let first = budget.take(7).expect("enough");
        assert!(budget.take(4).is_none() && budget.take(3).is_some());
        drop(first);
        assert!(budget.take(10).is_some());
    }

    #[test]
    fn the_host_of_a_copy() {
        for (authority, expected) in [
            ("reviews", "reviews-shadow"),
            ("reviews:9080", "reviews-shadow:9080"),
            ("[fd00::1]:80", "[fd00::1]-shadow:80"),
            ("", "-shadow"),
        ] {
            assert_eq!(shadow_of(authority), expected);
        }
    }
}
