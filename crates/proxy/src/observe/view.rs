//! `View`: what names, metrics and the access log ask of the current snapshot, on one worker.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use lateen_engine::Snapshot;
use lateen_model::{AccessLog, Workload};
use lateen_runtime::live::{Follower, LiveHandle};

use super::metrics::Directory;
use super::observer::Settings;
use crate::dns::Names;

/// One worker's look at the snapshot.
pub struct View(RefCell<Follower<Snapshot>>);

impl View {
    /// Follows the snapshots, on the thread that asks.
    pub fn new(snapshots: &LiveHandle<Snapshot>) -> Self {
        Self(RefCell::new(snapshots.follow()))
    }

    fn with<T>(&self, ask: impl FnOnce(&Snapshot) -> T) -> T {
        ask(self.0.borrow_mut().get())
    }
}

impl Directory for View {
    fn own(&self) -> Option<Arc<Workload>> {
        self.with(|snapshot| snapshot.own().cloned())
    }

    fn at(&self, ip: IpAddr) -> Option<Arc<Workload>> {
        self.with(|snapshot| snapshot.workload_at(ip).cloned())
    }
}

impl Settings for View {
    fn access_log(&self) -> AccessLog {
        self.with(|snapshot| snapshot.mesh().access_log)
    }
}

impl Names for View {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.with(|snapshot| snapshot.resolve(name))
    }
}
