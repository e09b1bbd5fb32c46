//! A connection's place in the count of its group, and how much it has served.

use std::cell::Cell;
use std::rc::Rc;

use lateen_runtime::clock::{self, Instant};

use crate::connect::breaker::{Counted, Group, Held};
use crate::fault::Fault;
use crate::worker::Worker;

/// See the module. The place is given back with the ticket.
pub(crate) struct Ticket {
    group: Rc<Group>,
    born: Instant,
    requests: Cell<u32>,
    _held: Held,
}

impl Ticket {
    /// A place for a connection that is about to be opened; none is free as long as the group's limit is met.
    pub(crate) fn take(worker: &Worker, group: &Rc<Group>) -> Option<Self> {
        let held = loop {
            match group.take_connection() {
                Some(held) => break held,
                None if worker.pool.make_room(group) => {}
                None => return None,
            }
        };
        Some(Self { group: Rc::clone(group), born: clock::now(), requests: Cell::new(0), _held: held })
    }

    /// Waits for a place as long as it is `needed`; without a group there is nothing to count. None: not needed.
    pub(crate) async fn wait(
        worker: &Worker,
        group: Option<&Rc<Group>>,
        needed: impl Fn() -> bool,
    ) -> Option<Option<Rc<Self>>> {
        let Some(group) = group else { return Some(None) };
        loop {
            if let Some(ticket) = Self::take(worker, group) {
                return Some(Some(Rc::new(ticket)));
            }
            group.count_overflow(&worker.shared.breakers, Counted::Connections);
            group.freed().await;
            if !needed() {
                // What woke us may be for others.
                group.tell_freed();
                return None;
            }
        }
    }

    /// The same, for who has nothing to wait for: the fault says so.
    pub(crate) fn take_now(worker: &Worker, group: &Rc<Group>) -> Result<Self, Fault> {
        Self::take(worker, group).ok_or_else(|| group.overflow(&worker.shared.breakers, Counted::Connections))
    }

    /// One more request goes over the connection.
    pub(crate) fn count(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Whether the connection has served long or often enough.
    pub(crate) fn is_spent(&self) -> bool {
        let pool = &self.group.limits.pool;
        pool.max_requests_per_connection.is_some_and(|most| self.requests.get() >= most)
            || pool.max_connection_duration.is_some_and(|longest| self.born.elapsed() >= longest)
    }

    /// Whether somebody waits for its place who cannot use its connection.
    pub(crate) fn is_wanted(&self) -> bool {
        self.group.is_waited_for()
    }

    /// Lets one who waits look again.
    pub(crate) fn tell_freed(&self) {
        self.group.tell_freed();
    }
}
