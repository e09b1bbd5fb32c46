//! One coarse clock that ends requests which take too long.
//!
//! A timer for each request would cost as much as the request; instead a sweep looks at all of them a
//! few times per timeout.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The request of one connection, as the sweep sees it.
#[derive(Default)]
pub(super) struct Deadline {
    since: Cell<Option<Instant>>,
    expired: Notify,
}

/// Every connection of a thread.
#[derive(Default)]
pub(super) struct Deadlines(RefCell<Vec<Rc<Deadline>>>);

impl Deadlines {
    pub(super) fn add(&self) -> Rc<Deadline> {
        let deadline = Rc::new(Deadline::default());
        self.0.borrow_mut().push(Rc::clone(&deadline));
        deadline
    }

    /// Looks again and again, for as long as it is polled.
    pub(super) async fn sweep(&self, timeout: Duration) {
        let pause = (timeout / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
        loop {
            tokio::time::sleep(pause).await;
            let now = Instant::now();
            for deadline in self.0.borrow().iter() {
                if deadline.since.get().is_some_and(|since| now.duration_since(since) >= timeout) {
                    deadline.since.set(None);
                    deadline.expired.notify_one();
                }
            }
        }
    }
}

impl Deadline {
    /// The value of `work`, or `None` when it takes longer than the timeout.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.since.set(Some(Instant::now()));
        let outcome = tokio::select! {
            biased;
            value = work => Some(value),
            () = self.expired.notified() => None,
        };
        self.since.set(None);
        outcome
    }
}
