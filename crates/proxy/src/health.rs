//! What a worker knows of the endpoints it sends to: how many requests are under way, and the cursors of round robin.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use lateen_engine::{BackendId, LeftOut, Load};
use lateen_runtime::clock::{self, Duration, Instant};

/// Entries beyond this number that nobody uses are dropped.
const MOST_IDLE: usize = 4096;

/// The load of one worker. Clones share it.
#[derive(Clone, Default)]
pub struct LoadTable(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    active: HashMap<SocketAddr, u32, RandomState>,
    cursors: HashMap<u64, u64, RandomState>,
}

/// One request or connection under way; ends with the value.
pub struct Active {
    table: LoadTable,
    endpoint: SocketAddr,
}

impl LoadTable {
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

    fn left_out(&self, _: BackendId) -> Option<LeftOut> {
        None
    }

    fn now(&self) -> Duration {
        uptime()
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
