//! Circuit breaking: what a group of endpoints has under way from this proxy, counted over all workers.
//!
//! A count is taken by a compare-and-swap below its limit, so a limit is never passed, with one exception that Envoy
//! makes too: a worker that has no connection to a group may open one although the others hold all there may be, since
//! it could wait for them for ever. Connections are thus at most the limit, or the number of workers if that is more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use lateen_engine::ConnectionLimits;
use lateen_model::{RetryBudget, Str};
use lateen_runtime::clock::{self, Instant};
use lateen_runtime::metrics::{Labels, Registry, SharedCounter};
use tokio::sync::Notify;

use crate::fault::{Fault, Reason};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Connections that are open or being opened.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

const NAMES: [&str; 4] = ["connections", "pending_requests", "requests", "retries"];

/// The counts of all groups that have limits; one for all workers.
pub struct Breakers {
    groups: Mutex<HashMap<Str, Weak<Counts>, RandomState>>,
    overflows: [SharedCounter; 4],
    began: Instant,
}

/// What one group has under way.
#[derive(Debug, Default)]
struct Counts {
    under_way: [AtomicU32; 4],
    recent: Recent,
}

impl Breakers {
    /// Nothing is under way; what was refused is counted in `registry`.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let family = registry.counter(
            "lateen_upstream_overflow_total",
            "requests, connections and retries that a limit of a DestinationRule refused or made wait",
        );
        let overflows = NAMES
            .map(|reason| registry.shared_counter(family, &Labels::new(vec![("reason", reason.to_owned())])));
        Self { groups: Mutex::default(), overflows, began: clock::now() }
    }

    fn counts(&self, group: &Str) -> Arc<Counts> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = groups.get(group).and_then(Weak::upgrade) {
            return known;
        }
        groups.retain(|_, counts| counts.strong_count() > 0);
        let counts = Arc::default();
        groups.insert(group.clone(), Arc::downgrade(&counts));
        counts
    }
}

/// The groups with limits that one worker has met.
#[derive(Default)]
pub(crate) struct Groups(RefCell<HashMap<Str, Rc<Group>, RandomState>>);

/// One group as one worker sees it.
pub(crate) struct Group {
    /// What may be.
    pub(crate) limits: Arc<ConnectionLimits>,
    local: Rc<Local>,
}

/// What of a group belongs to the worker, and outlives a change of its limits.
struct Local {
    counts: Arc<Counts>,
    /// Connections of this worker.
    open: Cell<u32>,
    /// Requests of this worker that wait until one of its connections is closed or free.
    waiting: Cell<u32>,
    freed: Notify,
}

impl Groups {
    /// The group that these limits are of.
    pub(crate) fn of(&self, breakers: &Breakers, limits: &Arc<ConnectionLimits>) -> Rc<Group> {
        let mut groups = self.0.borrow_mut();
        let known = groups.get(&limits.group);
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.limits, limits)) {
            return Rc::clone(known);
        }
        let local = known.map_or_else(
            || {
                let counts = breakers.counts(&limits.group);
                let (open, waiting) = (Cell::new(0), Cell::new(0));
                Rc::new(Local { counts, open, waiting, freed: Notify::new() })
            },
            |known| Rc::clone(&known.local),
        );
        let group = Rc::new(Group { limits: Arc::clone(limits), local });
        groups.insert(limits.group.clone(), Rc::clone(&group));
        group
    }

    /// Forgets groups of which nothing is left.
    pub(crate) fn tidy(&self) {
        self.0
            .borrow_mut()
            .retain(|_, group| Rc::strong_count(group) > 1 || Rc::strong_count(&group.local) > 1);
    }
}

/// One more of what is counted, as long as it lives.
pub(crate) struct Held {
    local: Rc<Local>,
    what: Counted,
}

impl Group {
    /// One more, if the limit allows it.
    pub(crate) fn take(&self, what: Counted) -> Option<Held> {
        let pool = &self.limits.pool;
        let most = match what {
            Counted::Connections => pool.max_connections,
            Counted::Pending => pool.max_pending_requests,
            Counted::Requests => pool.max_requests,
            Counted::Retries => pool.max_retries,
        };
        self.take_below(what, most.unwrap_or(u32::MAX))
    }

    fn take_below(&self, what: Counted, most: u32) -> Option<Held> {
        let count = &self.local.counts.under_way[what as usize];
        let more = |count: u32| (count < most).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        if what == Counted::Connections {
            self.local.open.set(self.local.open.get() + 1);
        }
        Some(Held { local: Rc::clone(&self.local), what })
    }

    /// A connection more, even above the limit if this worker has none.
    pub(crate) fn take_connection(&self) -> Option<Held> {
        let alone = self.local.open.get() == 0;
        self.take(Counted::Connections)
            .or_else(|| alone.then(|| self.take_below(Counted::Connections, u32::MAX)).flatten())
    }

    /// One more request, or the fault that answers it.
    pub(crate) fn begin_request(&self, breakers: &Breakers) -> Result<Held, Fault> {
        let held = self.take(Counted::Requests).ok_or_else(|| self.overflow(breakers, Counted::Requests))?;
        if let Some(budget) = self.budget_over_time() {
            self.local.counts.recent.count(breakers.began.elapsed(), budget.interval);
        }
        Ok(held)
    }

    /// One more retry, if limit or budget allow it.
    pub(crate) fn begin_retry(&self, breakers: &Breakers) -> Option<Held> {
        let held = match self.limits.retry_budget {
            None => self.take(Counted::Retries),
            Some(budget) => self.take_below(Counted::Retries, self.allowance(breakers, &budget)),
        };
        if held.is_none() {
            self.count_overflow(breakers, Counted::Retries);
        }
        held
    }

    fn allowance(&self, breakers: &Breakers, budget: &RetryBudget) -> u32 {
        let under_way = |what: Counted| self.local.counts.under_way[what as usize].load(Ordering::Relaxed);
        let now = under_way(Counted::Requests).saturating_add(under_way(Counted::Pending));
        let requests = match self.budget_over_time() {
            Some(budget) => self.local.counts.recent.of(breakers.began.elapsed(), budget.interval).max(now),
            None => now,
        };
        let share = u64::from(requests) * u64::from(budget.share.parts()) / 1_000_000;
        u32::try_from(share).unwrap_or(u32::MAX).max(budget.minimum_concurrency)
    }

    fn budget_over_time(&self) -> Option<&RetryBudget> {
        self.limits.retry_budget.as_ref().filter(|budget| !budget.interval.is_zero())
    }

    /// Says that a limit was met, and how that is answered.
    pub(crate) fn overflow(&self, breakers: &Breakers, what: Counted) -> Fault {
        self.count_overflow(breakers, what);
        let group = &self.limits.group;
        let message = match what {
            Counted::Connections => {
                format!("{group}: all connections that its maxConnections allows are open")
            }
            Counted::Pending => {
                format!("{group}: more would wait for a connection than http1MaxPendingRequests allows")
            }
            Counted::Requests => {
                format!("{group}: as many requests are under way as http2MaxRequests allows")
            }
            Counted::Retries => format!("{group}: as many retries are under way as allowed"),
        };
        Fault::proxy(Reason::Overload, message)
    }

    pub(crate) fn count_overflow(&self, breakers: &Breakers, what: Counted) {
        breakers.overflows[what as usize].increment();
    }

    /// Waits until a connection of this worker is closed or free.
    pub(crate) async fn freed(&self) {
        let waiting = &self.local.waiting;
        waiting.set(waiting.get() + 1);
        let _leaves = scopeguard(|| waiting.set(waiting.get() - 1));
        self.local.freed.notified().await;
    }

    /// Whether a request of this worker waits for a connection to be closed or free.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.local.waiting.get() > 0
    }

    /// Lets one who waits look again.
    pub(crate) fn tell_freed(&self) {
        if self.is_waited_for() {
            self.local.freed.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Self { local, what } = self;
        local.counts.under_way[*what as usize].fetch_sub(1, Ordering::Relaxed);
        if *what == Counted::Connections {
            local.open.set(local.open.get() - 1);
            if local.waiting.get() > 0 {
                local.freed.notify_one();
            }
        }
    }
}

fn scopeguard<F: FnMut()>(leave: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(leave)
}

/// Requests of the last while: those of this slice of time and, in proportion, of the one before. Two threads that
/// meet at the turn of a slice may lose each other's request; a budget can bear that.
#[derive(Debug, Default)]
struct Recent {
    slice: AtomicU64,
    this: AtomicU32,
    before: AtomicU32,
}

impl Recent {
    fn turn(&self, now: Duration, interval: Duration) -> u64 {
        let slice = u64::try_from(now.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
        let known = self.slice.swap(slice, Ordering::Relaxed);
        if known != slice {
            let last = self.this.swap(0, Ordering::Relaxed);
            self.before.store(if known + 1 == slice { last } else { 0 }, Ordering::Relaxed);
        }
        slice
    }

    fn count(&self, now: Duration, interval: Duration) {
        self.turn(now, interval);
        self.this.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, now: Duration, interval: Duration) -> u32 {
        let slice = self.turn(now, interval);
        let into = now.as_nanos().saturating_sub(u128::from(slice) * interval.as_nanos());
        let left = interval.as_nanos().saturating_sub(into);
        let before = u128::from(self.before.load(Ordering::Relaxed)) * left / interval.as_nanos().max(1);
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        self.this.load(Ordering::Relaxed).saturating_add(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{ConnectionPool, Share};

    fn limits(pool: ConnectionPool, retry_budget: Option<RetryBudget>) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits { group: "default/app:80".into(), pool, retry_budget })
    }

    #[test]
    fn counts_are_of_all_workers_and_end_with_their_values() {
        let breakers = Breakers::new(&Registry::new());
        let pool =
            ConnectionPool { max_requests: Some(2), max_connections: Some(1), ..ConnectionPool::default() };
        let limits = limits(pool, None);
        let (one, other) = (Groups::default(), Groups::default());
        let (one, other) = (one.of(&breakers, &limits), other.of(&breakers, &limits));
        let held =
            (one.begin_request(&breakers).expect("first"), other.begin_request(&breakers).expect("second"));
        assert_eq!(one.begin_request(&breakers).err().expect("too many").flag(), "UO");
        drop(held);
        assert!(other.begin_request(&breakers).is_ok());
        // A worker without a connection gets one; one that has one does not.
        let first = one.take_connection().expect("the only one");
        assert!(one.take_connection().is_none());
        let second = other.take_connection().expect("the first of this worker");
        drop(first);
        assert!(other.take_connection().is_none(), "the limit is met by the one that was too many");
        drop(second);
        assert!(other.take_connection().is_some());
    }

    #[test]
    fn counts_outlive_a_change_of_limits() {
        let breakers = Breakers::new(&Registry::new());
        let groups = Groups::default();
        let at_most =
            |most| limits(ConnectionPool { max_requests: Some(most), ..ConnectionPool::default() }, None);
        let held = groups.of(&breakers, &at_most(1)).begin_request(&breakers).expect("first");
        let wider = groups.of(&breakers, &at_most(2));
        let second = wider.begin_request(&breakers).expect("second");
        assert!(wider.begin_request(&breakers).is_err());
        drop((held, second, wider));
        groups.tidy();
        assert!(groups.0.borrow().is_empty());
    }

    #[test]
    fn retries_have_a_limit_or_a_budget() {
        let breakers = Breakers::new(&Registry::new());
        let groups = Groups::default();
        let one = ConnectionPool { max_retries: Some(1), ..ConnectionPool::default() };
        let limited = groups.of(&breakers, &limits(one.clone(), None));
        let held = limited.begin_retry(&breakers);
        assert!(held.is_some() && limited.begin_retry(&breakers).is_none());
        drop(held);
        let budget = RetryBudget {
            share: Share::per_million(500_000),
            minimum_concurrency: 1,
            ..RetryBudget::default()
        };
        let budgeted = groups.of(&breakers, &limits(one, Some(budget)));
        let first = budgeted.begin_retry(&breakers);
        assert!(first.is_some() && budgeted.begin_retry(&breakers).is_none(), "one is always allowed");
        let _requests: Vec<_> = (0..4).map(|_| budgeted.begin_request(&breakers)).collect();
        let second = budgeted.begin_retry(&breakers);
        assert!(second.is_some() && budgeted.begin_retry(&breakers).is_none(), "half of four");
    }

    #[test]
    fn recent_requests_fade() {
        let (recent, second) = (Recent::default(), Duration::from_secs(1));
        (0..10).for_each(|_| recent.count(Duration::from_millis(500), second));
        assert_eq!(recent.of(Duration::from_millis(900), second), 10);
        assert_eq!(recent.of(Duration::from_millis(1_500), second), 5);
        assert_eq!(recent.of(Duration::from_millis(3_000), second), 0);
    }
}
