//! Graceful ending: tell everybody, wait for those who hold on, then force.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Draining,
    Forced,
}

#[derive(Debug)]
struct Shared {
    stage: watch::Sender<Stage>,
    holders: AtomicUsize,
    released: Notify,
}

/// Starts the drain. One per process, or per part of it that ends by itself.
#[derive(Debug)]
pub struct Drainer(Arc<Shared>);

/// Hears of the drain and can hold it up. Clones are cheap; they alone hold nothing.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Shared>);

/// While it lives, the drain waits, until its deadline.
#[derive(Debug)]
pub struct Holder(Arc<Shared>);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every holder let go in time.
    Clean,
    /// So many still held on at the deadline, and were told so.
    Forced { holders: usize },
}

pub fn channel() -> (Drainer, Drain) {
    let stage = watch::Sender::new(Stage::Running);
    let shared = Arc::new(Shared { stage, holders: AtomicUsize::new(0), released: Notify::new() });
    (Drainer(Arc::clone(&shared)), Drain(shared))
}

impl Drainer {
    /// Tells everybody to finish, waits for the holders, at most `patience`; then tells those who are left to stop
    /// at once, without waiting for them. To ask again with less patience is allowed.
    pub async fn drain(&self, patience: Duration) -> Drained {
        self.0.stage.send_replace(Stage::Draining);
        let outcome = match clock::timeout(patience, self.released()).await {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::Forced { holders: self.0.holders.load(Ordering::Acquire) },
        };
        self.0.stage.send_replace(Stage::Forced);
        outcome
    }

    async fn released(&self) {
        loop {
            let released = self.0.released.notified();
            tokio::pin!(released);
            // Registered before looking, so that no release falls between.
            released.as_mut().enable();
            if self.0.holders.load(Ordering::Acquire) == 0 {
                return;
            }
            released.await;
        }
    }
}

impl Drain {
    /// Holds the drain up until dropped.
    pub fn hold(&self) -> Holder {
        self.0.holders.fetch_add(1, Ordering::AcqRel);
        Holder(Arc::clone(&self.0))
    }

    pub fn is_draining(&self) -> bool {
        *self.0.stage.borrow() >= Stage::Draining
    }

    /// Waits until the drain begins; at once if it has.
    pub async fn begun(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Waits until patience is over.
    pub async fn forced(&self) {
        self.reached(Stage::Forced).await;
    }

    async fn reached(&self, stage: Stage) {
        let mut follower = self.0.stage.subscribe();
        let seen = follower.wait_for(|&now| now >= stage).await.is_ok();
        debug_assert!(seen, "the sender lives in `self`");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_with_its_last_holder() {
        let (drainer, drain) = channel();
        let holder = drain.hold();
        assert!(!drain.is_draining());
        let work = tokio::spawn(async move {
            drain.begun().await;
            clock::sleep(Duration::from_secs(2)).await;
            drop(holder);
        });
        let begun = clock::now();
        assert_eq!(drainer.drain(Duration::from_secs(10)).await, Drained::Clean);
        assert_eq!(begun.elapsed().as_secs(), 2);
        work.await.expect("work ends");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_let_go_is_forced_at_the_deadline() {
        let (drainer, drain) = channel();
        let held = drain.hold();
        let stubborn = tokio::spawn(async move {
            drain.forced().await;
            drop(held);
        });
        assert_eq!(drainer.drain(Duration::from_secs(1)).await, Drained::Forced { holders: 1 });
        stubborn.await.expect("told to stop");
    }

    #[tokio::test]
    async fn nothing_held_drains_at_once() {
        let (drainer, drain) = channel();
        drop(drain.hold());
        assert_eq!(drainer.drain(Duration::ZERO).await, Drained::Clean);
        assert!(drain.is_draining());
    }
}
