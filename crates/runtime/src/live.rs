//! `Live<T>`: one publishes an immutable value, many follow it.
//!
//! Reading costs one atomic load and a compare. Each follower keeps an [`Arc`] of its own and takes the lock only
//! after a change. A large old value is never freed on the path of a request: the publisher keeps every old value
//! until it is the last who holds it, and lets go of it then, at the next publish or [`Live::reap`].

use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

struct Shared<T> {
    /// The version of `current`, readable without the lock.
    version: AtomicU64,
    current: Mutex<(u64, Arc<T>)>,
    changed: watch::Sender<u64>,
}

impl<T> Shared<T> {
    fn current(&self) -> (u64, Arc<T>) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The publishing side.
pub struct Live<T> {
    shared: Arc<Shared<T>>,
    /// Old values that somebody may still hold.
    retired: Mutex<Vec<Arc<T>>>,
}

impl<T> Live<T> {
    pub fn new(value: T) -> Self {
        let shared = Shared {
            version: AtomicU64::new(0),
            current: Mutex::new((0, Arc::new(value))),
            changed: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared), retired: Mutex::default() }
    }

    /// Makes `value` the current one and returns its version, one more than the last.
    pub fn publish(&self, value: impl Into<Arc<T>>) -> u64 {
        let value = value.into();
        let (version, old) = {
            let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            let version = current.0 + 1;
            let (_, old) = std::mem::replace(&mut *current, (version, value));
            self.shared.version.store(version, Ordering::Release);
            // Under the lock, so that versions are told in order.
            self.shared.changed.send_replace(version);
            (version, old)
        };
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(old);
        self.reap();
        version
    }

    /// Frees old values that nobody else holds any more, and says how many are still held.
    pub fn reap(&self) -> usize {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // A count of one cannot grow again: an old value is cloned only by who holds it.
        retired.retain(|value| Arc::strong_count(value) > 1);
        retired.len()
    }

    pub fn current(&self) -> Arc<T> {
        self.shared.current().1
    }

    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// One more follower, which has seen the current value.
    pub fn follow(&self) -> Follower<T> {
        self.handle().follow()
    }

    /// A handle that can be sent around to make followers elsewhere, and cannot publish.
    pub fn handle(&self) -> LiveHandle<T> {
        LiveHandle(Arc::clone(&self.shared))
    }
}

/// Makes followers; can do nothing else.
pub struct LiveHandle<T>(Arc<Shared<T>>);

impl<T> Clone for LiveHandle<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> LiveHandle<T> {
    pub fn follow(&self) -> Follower<T> {
        let changes = self.0.changed.subscribe();
        let (version, value) = self.0.current();
        Follower { shared: Arc::clone(&self.0), changes, version, value: Pinned(Rc::new(value)) }
    }

    pub fn current(&self) -> Arc<T> {
        self.0.current().1
    }

    /// Waits until the version is beyond `seen`.
    pub async fn newer_than(&self, seen: u64) -> (u64, Arc<T>) {
        let mut changes = self.0.changed.subscribe();
        let told = changes.wait_for(|&version| version > seen).await.is_ok();
        debug_assert!(told, "the sender lives in `self`");
        self.0.current()
    }
}

/// One reader, on one thread.
pub struct Follower<T> {
    shared: Arc<Shared<T>>,
    changes: watch::Receiver<u64>,
    version: u64,
    value: Pinned<T>,
}

/// A value held for as long as a request needs it. Cloning touches a counter of this thread only.
#[expect(
    clippy::redundant_allocation,
    reason = "the outer counter is there so that the shared one is not touched"
)]
pub struct Pinned<T>(Rc<Arc<T>>);

impl<T> Follower<T> {
    /// The current value; takes it anew only when the version changed.
    #[inline]
    pub fn get(&mut self) -> &Pinned<T> {
        if self.shared.version.load(Ordering::Acquire) != self.version {
            self.refresh();
        }
        &self.value
    }

    #[cold]
    fn refresh(&mut self) {
        let (version, value) = self.shared.current();
        (self.version, self.value) = (version, Pinned(Rc::new(value)));
    }

    /// The version that was read last.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Waits until there is something newer than what was read last.
    pub async fn changed(&mut self) -> &Pinned<T> {
        let seen = self.version;
        let told = self.changes.wait_for(|&version| version > seen).await.is_ok();
        debug_assert!(told, "the sender lives in `shared`");
        self.get()
    }
}

impl<T> Pinned<T> {
    /// The shared value itself, for another thread.
    pub fn share(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }
}

impl<T> Clone for Pinned<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Deref for Pinned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    #[test]
    fn a_follower_sees_the_newest_and_keeps_what_it_pinned() {
        let live = Live::new("one");
        let mut follower = live.follow();
        let pinned = follower.get().clone();
        assert_eq!(live.publish("two"), 1);
        live.publish("three");
        assert_eq!((**follower.get(), *pinned), ("three", "one"));
        assert_eq!(follower.version(), 2);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_next_value() {
        let live = Live::new(0);
        let mut follower = live.follow();
        let handle = live.handle();
        let waiter = tokio::spawn(async move { handle.newer_than(0).await });
        live.publish(5);
        assert_eq!(**follower.changed().await, 5);
        assert_eq!(waiter.await.expect("no panic"), (1, Arc::new(5)));
    }

    #[test]
    fn old_values_are_freed_by_the_publisher_never_by_a_reader() {
        struct Tells(mpsc::Sender<ThreadId>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.send(thread::current().id()).expect("the test listens");
            }
        }
        let (sender, freed) = mpsc::channel();
        let live = Live::new(Tells(sender.clone()));
        let handle = live.handle();
        let (published, told) = mpsc::channel::<()>();
        let (took, taken) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut follower = handle.follow();
            took.send(()).expect("the test listens");
            told.recv().expect("told");
            // The reader lets go of the old value here.
            follower.get();
            took.send(()).expect("the test listens");
            told.recv().expect("told");
        });
        taken.recv().expect("reader holds the first");
        live.publish(Tells(sender));
        assert_eq!(live.reap(), 1, "the reader holds the old value");
        published.send(()).expect("reader listens");
        taken.recv().expect("reader has the second");
        assert!(freed.try_recv().is_err(), "letting go in the reader frees nothing");
        assert_eq!(live.reap(), 0);
        assert_eq!(freed.try_recv(), Ok(thread::current().id()));
        published.send(()).expect("reader listens");
        reader.join().expect("reader ends");
    }
}
