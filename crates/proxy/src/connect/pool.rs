//! This worker's connections to applications and, inside tunnels, to other proxies, kept for the next request.
//!
//! HTTP/1.1: idle connections by hop, the last used first; HTTP/2: connections by hop that requests share. Groups with
//! limits have connections of their own, which are counted. No connection is opened that nobody waits for.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use lateen_engine::{Hop, Snapshot};
use lateen_model::Str;

use super::breaker::Group;
use crate::http::session::Session;
use crate::worker::Worker;

mod h1;
mod h2;
mod learned;
mod ticket;

pub(crate) use learned::told;
pub(crate) use ticket::Ticket;

/// How often idle connections are looked at while there are none.
const REST: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Default)]
pub(crate) struct Pool {
    lanes: RefCell<HashMap<Key, h1::Lane, RandomState>>,
    shared: RefCell<HashMap<Key, Rc<h2::Shared>, RandomState>>,
}

/// Where connections lead, and in whose count.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    hop: Hop,
    group: Option<Str>,
}

/// The same, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    /// The hop.
    pub(crate) hop: &'a Hop,
    /// The group, where it has limits.
    pub(crate) group: Option<&'a Rc<Group>>,
}

impl Upstream<'_> {
    fn group_name(&self) -> Option<&Str> {
        self.group.map(|group| &group.limits.group)
    }

    fn key(&self) -> Key {
        Key { hop: self.hop.clone(), group: self.group_name().cloned() }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.hop, self.group.as_ref()).hash(state);
    }
}

impl Hash for Upstream<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.hop, self.group_name()).hash(state);
    }
}

impl Equivalent<Key> for Upstream<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.hop == key.hop && self.group_name() == key.group.as_ref()
    }
}

/// A session towards an endpoint, with the request's head sent or about to be.
pub(crate) struct Lease {
    pub(crate) session: Session,
    /// The connection carried other requests before: that it was closed meanwhile says nothing of the endpoint.
    pub(crate) reused: bool,
    /// The connection's place in the count of its group.
    pub(crate) ticket: Option<Rc<Ticket>>,
    _user: Option<h2::User>,
}

impl Pool {
    /// Closes what waited too long or was closed by the other side. Whether anything is left that waits.
    fn tidy(&self) -> bool {
        self.shared.borrow_mut().retain(|_, shared| shared.tidy() || Rc::strong_count(shared) > 1);
        self.tidy_idle()
    }

    /// Closes what leads to endpoints that were in one snapshot and are not in the next.
    fn follow(&self, before: &Snapshot, now: &Snapshot) {
        let gone = |ip: IpAddr| before.workload_at(ip).is_some() && now.workload_at(ip).is_none();
        self.close_idle(|hop| address(hop).is_some_and(gone));
    }

    /// Closes idle connections by hop; shared ones end when their last request does.
    fn close_idle(&self, gone: impl Fn(&Hop) -> bool) {
        self.lanes
            .borrow_mut()
            .iter_mut()
            .filter(|(key, _)| gone(&key.hop))
            .for_each(|(_, lane)| lane.clear());
        self.shared.borrow_mut().retain(|key, shared| {
            let gone = gone(&key.hop);
            if gone {
                shared.clear();
            }
            !gone
        });
    }

    /// Closes one idle connection of a group, so that another may be opened. False if there is none.
    fn make_room(&self, group: &Group) -> bool {
        let name = &group.limits.group;
        let of_group = |key: &Key| key.group.as_ref() == Some(name);
        let mut lanes = self.lanes.borrow_mut();
        let closed = lanes.iter_mut().any(|(key, lane)| of_group(key) && lane.close_one());
        drop(lanes);
        closed || self.shared.borrow().iter().any(|(key, shared)| of_group(key) && shared.close_one())
    }
}

/// The endpoint's address; the application beside us never goes.
fn address(hop: &Hop) -> Option<IpAddr> {
    match hop {
        Hop::Local(_) => None,
        Hop::Plain(address) => Some(address.ip()),
        Hop::Hbone { authority, .. } => Some(authority.ip()),
    }
}

/// Tidies the pools of a worker for as long as it lives, and ends its connections when a drain has no more patience.
pub(crate) async fn keep_tidy(worker: Weak<Worker>) {
    let Some(first) = worker.upgrade() else { return };
    let (snapshots, drain) = (first.shared.snapshots.clone(), first.shared.drain.clone());
    let mut look = first.deadlines().after(REST);
    drop(first);
    let (mut version, mut last) = (0, snapshots.current());
    loop {
        let (forced, newer) = tokio::select! {
            () = &mut look => (false, None),
            () = drain.forced() => (true, None),
            newer = snapshots.newer_than(version) => (false, Some(newer)),
        };
        let Some(worker) = worker.upgrade() else { return };
        if forced {
            return worker.abort_connections();
        }
        if let Some((newer, snapshot)) = newer {
            worker.pool.follow(&last, &snapshot);
            (version, last) = (newer, snapshot);
            continue;
        }
        let kept = worker.pool.tidy();
        look.reset(if kept { learned::LOOK } else { REST });
        worker.tunnels.tidy();
        worker.groups.tidy();
    }
}
