//! Named start-up tasks: the process is ready when none is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What still stands between the start and readiness. Clones share the list.
#[derive(Clone, Debug)]
pub struct Ready {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Open tasks by name, with how many of that name there are.
    open: Mutex<BTreeMap<String, usize>>,
    ready: watch::Sender<bool>,
}

/// One thing that must happen first. Dropping it without [`StartupTask::done`] leaves it open for ever: what failed
/// to start must not look started.
#[derive(Debug)]
#[must_use = "a start-up task stays open until `done` is called"]
pub struct StartupTask {
    name: String,
    ready: Ready,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

impl Ready {
    /// Ready from the beginning, until tasks are named.
    pub fn new() -> Self {
        let shared = Shared { open: Mutex::default(), ready: watch::Sender::new(true) };
        Self { shared: Arc::new(shared) }
    }

    /// Names one more thing to wait for.
    pub fn task(&self, name: impl Into<String>) -> StartupTask {
        let name = name.into();
        let mut open = self.open();
        *open.entry(name.clone()).or_default() += 1;
        self.shared.ready.send_replace(false);
        StartupTask { name, ready: self.clone() }
    }

    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Names of what is missing, in order.
    pub fn missing(&self) -> Vec<String> {
        self.open().keys().cloned().collect()
    }

    /// Waits until nothing is missing.
    pub async fn wait(&self) {
        let mut ready = self.shared.ready.subscribe();
        let seen = ready.wait_for(|&ready| ready).await.is_ok();
        debug_assert!(seen, "the sender lives in `self`");
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StartupTask {
    /// It happened.
    pub fn done(self) {
        let mut open = self.ready.open();
        if let Some(count) = open.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.name);
            }
        }
        // Under the lock, so that no task named meanwhile is overlooked.
        self.ready.shared.ready.send_replace(open.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_no_task_is_left() {
        let ready = Ready::new();
        let (snapshot, first, second) =
            (ready.task("snapshot"), ready.task("listener"), ready.task("listener"));
        assert_eq!(ready.missing(), ["listener", "snapshot"]);
        let waiting = tokio::spawn({
            let ready = ready.clone();
            async move { ready.wait().await }
        });
        first.done();
        snapshot.done();
        assert!(!ready.is_ready());
        assert_eq!(ready.missing(), ["listener"]);
        second.done();
        waiting.await.expect("waits without panic");
        assert!(ready.is_ready());
    }

    #[test]
    fn a_task_that_is_dropped_stays_missing() {
        let ready = Ready::new();
        drop(ready.task("certificate"));
        assert_eq!(ready.missing(), ["certificate"]);
    }
}
