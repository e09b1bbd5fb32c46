//! What a worker knows of the endpoints it sends to: how many requests are under way, and the cursors of round robin.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use lateen_engine::{BackendId, Destination, Effective, LeftOut, Load, Snapshot};
use lateen_runtime::clock::{self, Duration, Instant};

use crate::worker::Worker;

pub(crate) mod outliers;

use outliers::{Outcome, Outliers, Seen};

/// Entries beyond this number that nobody uses are dropped.
const MOST_IDLE: usize = 4096;

/// The load of one worker. Clones share it.
#[derive(Clone, Default)]
pub struct LoadTable(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    outliers: Outliers,
    seen: Seen,
    active: HashMap<SocketAddr, u32, RandomState>,
    cursors: HashMap<u64, u64, RandomState>,
}

/// One request or connection under way; ends with the value.
pub struct Active {
    table: LoadTable,
    endpoint: SocketAddr,
}

impl LoadTable {
    /// The load of a worker that shares what is found out of endpoints.
    pub fn new(outliers: Outliers) -> Self {
        Self(Rc::new(RefCell::new(Table { outliers, ..Table::default() })))
    }

    /// Counts one more towards `endpoint`.
    #[must_use]
    pub fn begin(&self, endpoint: SocketAddr) -> Active {
        let mut table = self.0.borrow_mut();
        if table.active.len() > MOST_IDLE {
            table.active.retain(|_, active| *active > 0);
        }
        *table.active.entry(endpoint).or_default() += 1;
        Active { table: self.clone(), endpoint }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(active) = self.table.0.borrow_mut().active.get_mut(&self.endpoint) {
            *active -= 1;
        }
    }
}

impl Load for LoadTable {
    fn active(&self, endpoint: SocketAddr) -> u32 {
        self.0.borrow().active.get(&endpoint).copied().unwrap_or_default()
    }

    fn next(&self, group: u64) -> u64 {
        let mut table = self.0.borrow_mut();
        let cursor = table.cursors.entry(group).or_default();
        *cursor = cursor.wrapping_add(1);
        *cursor
    }

    fn left_out(&self, group: BackendId) -> Option<LeftOut> {
        let Table { outliers, seen, .. } = &mut *self.0.borrow_mut();
        outliers.left_out(seen, group)
    }

    fn now(&self) -> Duration {
        uptime()
    }
}

impl Worker {
    /// Counts how a try at an endpoint of a group ended, where its policy has outlier detection.
    pub(crate) fn watch(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        to: &Destination,
        effective: &Effective,
        endpoint: SocketAddr,
        outcome: impl FnOnce() -> Option<Outcome>,
    ) {
        let (Some(policy), Destination::Backend(group)) = (&effective.traffic.outliers, to) else { return };
        let Some(outcome) = outcome() else { return };
        let begins = {
            let Table { outliers, seen, .. } = &mut *self.load.0.borrow_mut();
            let size = snapshot.endpoints_of(*group);
            outliers.report(seen, (*group, endpoint), policy, outcome, size, clock::now())
        };
        if begins {
            self.spawn(sweep(Rc::downgrade(self), self.shared.outliers.clone()));
        }
    }
}

/// Looks from time to time who may return, as long as somebody is noted. One worker does it for all.
async fn sweep(worker: Weak<Worker>, outliers: Outliers) {
    while let Some(wait) = outliers.sweep(clock::now()) {
        let Some(worker) = worker.upgrade() else { return };
        let deadline = worker.deadlines().after(wait);
        drop(worker);
        deadline.await;
    }
}

/// The time since something first asked, by which new endpoints are told from old ones.
pub(crate) fn uptime() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(clock::now);
    BEGAN.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_counted_while_it_lasts() {
        let (load, endpoint) = (LoadTable::default(), "127.0.0.1:1".parse().expect("an address"));
        let (first, second) = (load.begin(endpoint), load.begin(endpoint));
        assert_eq!(load.active(endpoint), 2);
        drop((first, second));
        assert_eq!(load.active(endpoint), 0);
        assert_eq!((load.next(1), load.next(1), load.next(2)), (1, 2, 1));
    }
}
