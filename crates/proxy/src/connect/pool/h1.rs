//! HTTP/1.1: one request at a time over each connection.
//!
//! A request that finds no idle connection waits for the first that becomes free or is opened; one is opened for it
//! unless one is being opened that nobody waits for any more.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use lateen_engine::Hop;
use lateen_runtime::clock::{self, Instant};
use lateen_runtime::stream::Stream;
use tokio::sync::oneshot;

use super::learned::Learned;
use super::{Key, Lease, Pool, Ticket, Upstream};
use crate::connect::breaker::{Counted, Group};
use crate::connect::{open, terms::Terms};
use crate::fault::{Fault, Reason};
use crate::http::h1::connection::Connection;
use crate::http::head::RequestHead;
use crate::http::session::Session;
use crate::worker::Worker;

/// Idle connections that are kept for one hop.
const MOST_IDLE_PER_HOP: usize = 512;

/// The connections of one hop that carry nothing now, and who waits for one.
#[derive(Default)]
pub(super) struct Lane {
    idle: Vec<Idle>,
    waiting: VecDeque<oneshot::Sender<Result<Free, Fault>>>,
    opening: usize,
    learned: Learned,
}

/// A connection that may carry a request.
struct Free {
    connection: Box<Connection>,
    ticket: Option<Rc<Ticket>>,
    reused: bool,
}

struct Idle {
    free: Free,
    since: Instant,
    /// When it is given up.
    until: Option<Instant>,
}

impl Pool {
    /// Begins a request: on an idle connection if there is one and `fresh` is not asked for.
    ///
    /// # Errors
    /// See [`open`]; also when a limit is met.
    pub(crate) async fn begin_h1(
        &self,
        worker: &Rc<Worker>,
        upstream: Upstream<'_>,
        fresh: bool,
        request: &RequestHead,
        now: Instant,
    ) -> Result<Lease, Fault> {
        // Nothing may be written to a connection whose end is there already if the request could not be sent again.
        // The event loop may not have been told yet, so the kernel is asked.
        let ask = !request.kind.is_idempotent();
        let kept = if fresh { None } else { self.take(upstream, ask, now) };
        let free = match kept {
            Some(free) => free,
            None => Box::pin(self.obtain(worker, upstream, fresh)).await?,
        };
        let Free { mut connection, ticket, reused } = free;
        if let Some(ticket) = &ticket {
            ticket.count();
        }
        connection.write_request(request, request.framing);
        Ok(Lease { session: Session::H1(connection), reused, ticket, _user: None })
    }

    fn take(&self, upstream: Upstream<'_>, ask: bool, now: Instant) -> Option<Free> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&upstream)?;
        if lane.idle.is_empty() {
            return None;
        }
        while let Some(mut idle) = lane.idle.pop() {
            if idle.is_usable(now) && (!ask || idle.free.connection.stream().is_idle_and_open()) {
                return Some(idle.free);
            }
        }
        None
    }

    /// Waits for a connection.
    async fn obtain(&self, worker: &Rc<Worker>, upstream: Upstream<'_>, fresh: bool) -> Result<Free, Fault> {
        let pending = |group: &Rc<Group>| {
            let held = group.take(Counted::Pending);
            held.ok_or_else(|| group.overflow(&worker.shared.breakers, Counted::Pending))
        };
        let _pending = upstream.group.map(pending).transpose()?;
        if fresh {
            return make(worker, upstream, Ticket::wait(worker, upstream.group, || true).await).await;
        }
        let (sender, receiver) = oneshot::channel();
        let key = upstream.key();
        let needs_one = {
            let mut lanes = self.lanes.borrow_mut();
            let lane = lanes.entry(key.clone()).or_default();
            lane.waiting.retain(|waiting| !waiting.is_closed());
            lane.waiting.push_back(sender);
            let needs_one = lane.opening < lane.waiting.len();
            lane.opening += usize::from(needs_one);
            needs_one
        };
        if needs_one {
            // In a task of its own: if a connection becomes free before, this one serves the next.
            let (opener, group) = (Rc::clone(worker), upstream.group.cloned());
            worker.spawn(async move {
                let upstream = Upstream { hop: &key.hop, group: group.as_ref() };
                let needed = || opener.pool.is_awaited(&key);
                let ticket = Ticket::wait(&opener, upstream.group, needed).await;
                let made = make(&opener, upstream, ticket).await;
                opener.pool.opened(&key, made, Terms::of(opener.settings(), upstream.group).pool_idle);
            });
        }
        receiver.await.unwrap_or_else(|_| Err(ending(upstream.hop)))
    }

    /// A connection was opened, or could not be.
    fn opened(&self, key: &Key, made: Result<Free, Fault>, longest: Duration) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(key) else { return };
        lane.opening -= 1;
        match made {
            Ok(free) => {
                if let Some(free) = lane.hand_over(free) {
                    lane.keep(free, longest, clock::now());
                }
            }
            Err(fault) => {
                let mut result = Err(fault);
                while let Some(waiting) = lane.waiting.pop_front() {
                    let Err(unsent) = waiting.send(result) else { return };
                    result = unsent;
                }
            }
        }
    }

    /// Whether more wait in a lane than connections are being opened for it besides one.
    fn is_awaited(&self, key: &Key) -> bool {
        let lanes = self.lanes.borrow();
        lanes.get(key).is_some_and(|lane| {
            lane.waiting.iter().filter(|waiting| !waiting.is_closed()).count() >= lane.opening
        })
    }

    /// Keeps a connection whose request is over for the next one, if it can carry one, for as long as the other side
    /// is said to keep it.
    pub(crate) fn put(
        &self,
        worker: &Worker,
        upstream: Upstream<'_>,
        connection: Box<Connection>,
        ticket: Option<Rc<Ticket>>,
        told: Option<Duration>,
        now: Instant,
    ) {
        if !connection.is_between_messages() || ticket.as_ref().is_some_and(|ticket| ticket.is_spent()) {
            return;
        }
        let mut lanes = self.lanes.borrow_mut();
        let lane = match lanes.get_mut(&upstream) {
            Some(lane) => lane,
            None => lanes.entry(upstream.key()).or_default(),
        };
        let Some(free) = lane.hand_over(Free { connection, ticket, reused: true }) else { return };
        if free.ticket.as_ref().is_some_and(|ticket| ticket.is_wanted()) {
            // Another endpoint of the group is waited for, and there may be no more connections: this one goes.
            drop(lanes);
            return;
        }
        let longest = Terms::of(worker.settings(), upstream.group).pool_idle;
        let longest = told.map_or(longest, |told| told.min(longest));
        lane.keep(free, longest, now);
    }

    /// Keeps a stream that was opened ahead of its first request.
    pub(crate) fn put_stream(
        &self,
        worker: &Worker,
        upstream: Upstream<'_>,
        stream: Stream,
        ticket: Option<Rc<Ticket>>,
    ) {
        self.put(
            worker,
            upstream,
            Box::new(Connection::new(stream, BytesMut::new())),
            ticket,
            None,
            clock::now(),
        );
    }

    /// Closes what cannot be used any more; whether anything is left.
    pub(super) fn tidy_idle(&self) -> bool {
        let now = clock::now();
        let mut left = false;
        self.lanes.borrow_mut().retain(|_, lane| {
            lane.tidy(now);
            left |= !lane.idle.is_empty();
            !lane.idle.is_empty() || lane.opening > 0 || lane.learned.longest(now).is_some()
        });
        left
    }
}

impl Lane {
    /// Gives a connection to the first who waits; back if nobody does.
    fn hand_over(&mut self, free: Free) -> Option<Free> {
        let mut free = free;
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(Ok(free)) {
                Ok(()) => return None,
                Err(Ok(unsent)) => free = unsent,
                Err(Err(_)) => return None,
            }
        }
        Some(free)
    }

    fn keep(&mut self, mut free: Free, longest: Duration, since: Instant) {
        let longest = self.learned.longest(since).map_or(longest, |learned| learned.min(longest));
        if self.idle.len() < MOST_IDLE_PER_HOP && !longest.is_zero() {
            free.connection.shrink();
            self.idle.push(Idle { free, since, until: since.checked_add(longest) });
        }
    }

    fn tidy(&mut self, now: Instant) {
        let mut youngest: Option<Duration> = None;
        self.idle.retain_mut(|idle| {
            if idle.is_over(now) {
                return false;
            }
            let open = idle.free.connection.is_reusable();
            if !open && idle.free.connection.has_ended() && idle.free.reused {
                let age = now.saturating_duration_since(idle.since);
                youngest = Some(youngest.map_or(age, |known| known.min(age)));
            }
            open
        });
        if let Some(idle) = youngest {
            self.learned.closed(idle, now);
        }
    }

    pub(super) fn clear(&mut self) {
        self.idle.clear();
    }

    /// Closes the connection that has waited longest.
    pub(super) fn close_one(&mut self) -> bool {
        let any = !self.idle.is_empty();
        if any {
            drop(self.idle.remove(0));
        }
        any
    }
}

impl Idle {
    fn is_over(&self, now: Instant) -> bool {
        let spent = self.free.ticket.as_ref().is_some_and(|ticket| ticket.is_spent());
        spent || self.until.is_some_and(|until| until <= now)
    }

    fn is_usable(&mut self, now: Instant) -> bool {
        !self.is_over(now) && self.free.connection.is_reusable()
    }
}

/// Opens a connection, which has its place in the count of its group (None: it is not needed any more).
async fn make(
    worker: &Rc<Worker>,
    upstream: Upstream<'_>,
    place: Option<Option<Rc<Ticket>>>,
) -> Result<Free, Fault> {
    let ticket = place.ok_or_else(|| ending(upstream.hop))?;
    let terms = Terms::of(worker.settings(), upstream.group);
    let stream = Box::pin(open(worker, upstream.hop, &terms)).await?;
    Ok(Free { connection: Box::new(Connection::new(stream, BytesMut::new())), ticket, reused: false })
}

/// Nobody opens connections any more.
fn ending(hop: &Hop) -> Fault {
    Fault::connect(Reason::ConnectFailure, format!("connect to {hop:?}: given up"))
}
