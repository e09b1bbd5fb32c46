//! Time limits by the thousand, for the price of none.
//!
//! A timer of the runtime per request costs a wake-up of the event loop per request. Here each worker keeps its
//! limits in a table that one task sweeps: it sleeps until the earliest limit, at least [`GRAIN`], and exists only
//! while there are limits. Setting, moving and dropping a limit touch memory of this thread only. A limit is reached
//! up to one grain late, never early.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::clock::{self, Instant};

/// How late a limit may be.
pub const GRAIN: Duration = Duration::from_millis(50);

/// The limits of one worker. Clones share them.
#[derive(Clone, Default)]
pub struct Deadlines {
    table: Rc<RefCell<Table>>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// When the sweep means to look again; absent while there is no sweep.
    next_sweep: Option<Instant>,
    sweep: Option<(AbortHandle, Rc<Notify>)>,
}

#[derive(Default)]
struct Slot {
    /// Absent while the slot is free, or paused.
    due: Option<Instant>,
    waker: Option<Waker>,
}

/// A time limit: a future that is ready once the time is over. Dropping it costs nothing.
pub struct Deadline {
    deadlines: Deadlines,
    slot: usize,
}

/// The time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct TimeOver;

impl Deadlines {
    /// A limit `duration` from now. Must be called within the worker (a local task set), which runs the sweep.
    pub fn after(&self, duration: Duration) -> Deadline {
        self.after_from(clock::now(), duration)
    }

    /// The same, `duration` after a moment that is known already: asking the clock has its price too.
    pub fn after_from(&self, from: Instant, duration: Duration) -> Deadline {
        let mut table = self.table.borrow_mut();
        let slot = table.free.pop().unwrap_or_else(|| {
            table.slots.push(Slot::default());
            table.slots.len() - 1
        });
        drop(table);
        let mut deadline = Deadline { deadlines: self.clone(), slot };
        deadline.reset_from(from, duration);
        deadline
    }

    /// Gives `future` at most `duration`.
    ///
    /// # Errors
    /// [`TimeOver`] when the time is over first.
    pub async fn within<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, TimeOver> {
        self.after(duration).bound(future).await
    }

    /// Limits that are set now.
    pub fn len(&self) -> usize {
        let table = self.table.borrow();
        table.slots.len() - table.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sees to it that there is a sweep, and that it looks not much later than `due`.
    fn plan(&self, due: Instant) {
        let mut table = self.table.borrow_mut();
        // The latest moment that is early enough; none is beyond what the clock can say.
        let latest = due.checked_add(GRAIN);
        let in_time = table.next_sweep.is_some_and(|next| latest.is_none_or(|latest| next <= latest));
        if in_time {
            return;
        }
        table.next_sweep = Some(due);
        if let Some((_, wake)) = &table.sweep {
            wake.notify_one();
            return;
        }
        let wake = Rc::new(Notify::new());
        let task = tokio::task::spawn_local(sweep(Rc::downgrade(&self.table), Rc::clone(&wake)));
        table.sweep = Some((task.abort_handle(), wake));
    }
}

/// Looks when the earliest limit is due; ends when there are none.
async fn sweep(table: Weak<RefCell<Table>>, wake: Rc<Notify>) {
    loop {
        let Some(next) = table.upgrade().and_then(|table| table.borrow().next_sweep) else { return };
        tokio::select! {
            biased;
            () = clock::sleep_until(next) => {}
            // An earlier limit was set: look at the plan again.
            () = wake.notified() => continue,
        }
        let Some(table) = table.upgrade() else { return };
        let ready = table.borrow_mut().sweep(clock::now());
        // Wakers may run code of their own: not while the table is borrowed.
        ready.into_iter().for_each(Waker::wake);
    }
}

impl Table {
    /// Takes the wakers of what is due and plans the next look.
    fn sweep(&mut self, now: Instant) -> Vec<Waker> {
        let mut ready = Vec::new();
        let mut earliest: Option<Instant> = None;
        for slot in &mut self.slots {
            match slot.due {
                Some(due) if due <= now => ready.extend(slot.waker.take()),
                Some(due) => earliest = Some(earliest.map_or(due, |known| known.min(due))),
                None => {}
            }
        }
        self.next_sweep = earliest.map(|due| due.max(now + GRAIN));
        if self.next_sweep.is_none() {
            self.sweep = None;
        }
        ready
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.sweep {
            task.abort();
        }
    }
}

impl Deadline {
    /// Counts again from now: for idle times, whenever something moved.
    pub fn reset(&mut self, duration: Duration) {
        self.reset_from(clock::now(), duration);
    }

    fn reset_from(&mut self, from: Instant, duration: Duration) {
        // A limit beyond what the clock can say is none.
        let due = from.checked_add(duration);
        self.deadlines.table.borrow_mut().slots[self.slot].due = due;
        if let Some(due) = due {
            self.deadlines.plan(due);
        }
    }

    /// No limit until the next [`Deadline::reset`].
    pub fn pause(&mut self) {
        self.deadlines.table.borrow_mut().slots[self.slot].due = None;
    }

    pub fn is_over(&self) -> bool {
        self.deadlines.table.borrow().slots[self.slot].due.is_some_and(|due| due <= clock::now())
    }

    /// Runs `future` until this limit.
    ///
    /// # Errors
    /// [`TimeOver`] when the time is over first.
    pub async fn bound<F: Future>(&mut self, future: F) -> Result<F::Output, TimeOver> {
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = self => Err(TimeOver),
        }
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut table = self.deadlines.table.borrow_mut();
        let slot = &mut table.slots[self.slot];
        // Looking at the clock here would cost every wake-up of every request; a limit that is due with its waker
        // taken was found by the sweep. Before the first poll there is no waker, so then the clock is asked.
        match (&slot.waker, slot.due) {
            (Some(waker), _) if waker.will_wake(context.waker()) => return Poll::Pending,
            (None, Some(due)) if due <= clock::now() => return Poll::Ready(()),
            _ => {}
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut table = self.deadlines.table.borrow_mut();
        table.slots[self.slot] = Slot::default();
        table.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    /// Runs `test` with paused time, as a worker would.
    fn check<F: Future<Output = ()>>(test: impl FnOnce(Deadlines) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        LocalSet::new().block_on(&runtime, test(Deadlines::default()));
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn limits_are_reached_in_order_never_early_and_at_most_a_grain_late() {
        check(|deadlines| async move {
            let begun = clock::now();
            let long = deadlines.after(seconds(3_600));
            for wait in [5, 1, 100] {
                let before = clock::now();
                deadlines.after(Duration::from_millis(wait)).await;
                let waited = before.elapsed().as_millis();
                assert!((u128::from(wait)..=u128::from(wait) + 52).contains(&waited), "{wait}: {waited}");
            }
            long.await;
            assert!(begun.elapsed() >= seconds(3_600) && begun.elapsed() < seconds(3_601));
            assert!(deadlines.is_empty());
        });
    }

    #[test]
    fn what_is_in_time_is_not_cut() {
        check(|deadlines| async move {
            assert_eq!(deadlines.within(seconds(5), async { 7 }).await, Ok(7));
            let slow = clock::sleep(seconds(10));
            assert_eq!(deadlines.within(seconds(5), slow).await, Err(TimeOver));
            assert_eq!(deadlines.within(Duration::MAX, async { 8 }).await, Ok(8));
        });
    }

    #[test]
    fn an_idle_limit_moves_with_every_reset() {
        check(|deadlines| async move {
            let mut idle = deadlines.after(seconds(2));
            for _ in 0..5 {
                assert_eq!(idle.bound(clock::sleep(seconds(1))).await, Ok(()));
                idle.reset(seconds(2));
            }
            idle.pause();
            assert_eq!(idle.bound(clock::sleep(seconds(100))).await, Ok(()));
            idle.reset(seconds(1));
            assert!(!idle.is_over());
            (&mut idle).await;
            assert!(idle.is_over());
        });
    }

    #[test]
    fn the_sweep_exists_only_while_there_are_limits() {
        check(|deadlines| async move {
            drop(deadlines.after(seconds(1)));
            assert!(deadlines.table.borrow().sweep.is_some());
            clock::sleep(seconds(2)).await;
            assert!(deadlines.table.borrow().sweep.is_none());
            assert_eq!(deadlines.within(seconds(1), std::future::pending::<()>()).await, Err(TimeOver));
        });
    }

    #[test]
    fn a_limit_that_changes_tasks_wakes_the_last() {
        check(|deadlines| async move {
            let mut limit = deadlines.after(seconds(1));
            let polled =
                std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut limit).poll(context).is_ready()));
            assert!(!polled.await);
            tokio::task::spawn_local(limit).await.expect("ends in the other task");
        });
    }
}
