//! When each request of one thread is due, and a timer that keeps to it.
//!
//! The runtime's timers count milliseconds, which would add up to one to every latency; a timer of the
//! kernel does not.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// The moments at which the requests of one thread are due: of all moments, every `count`-th.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) interval: Duration,
    pub(super) index: u32,
    pub(super) count: u32,
}

impl Schedule {
    /// When the `number`-th request of this thread is due.
    fn due(&self, number: u64) -> Instant {
        let overall = number * u64::from(self.count) + u64::from(self.index);
        // Multiplied, not added up: no drift over hours.
        let seconds = self.interval.as_secs_f64() * overall as f64;
        self.start + Duration::from_secs_f64(seconds)
    }
}

/// Gives each idle connection the next request that is due.
pub(super) struct Pacer {
    schedule: Schedule,
    /// Requests that became due, and those of them that a connection took.
    released: Cell<u64>,
    taken: Cell<u64>,
    is_over: Cell<bool>,
    idle: Notify,
}

impl Pacer {
    pub(super) fn new(schedule: Schedule) -> Rc<Self> {
        let (released, taken, is_over) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Rc::new(Pacer { schedule, released, taken, is_over, idle: Notify::new() })
    }

    /// The moment at which the caller's next request was due; `None` when the load is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        loop {
            if self.is_over.get() {
                return None;
            }
            let number = self.taken.get();
            if number < self.released.get() {
                self.taken.set(number + 1);
                return Some(self.schedule.due(number));
            }
            self.idle.notified().await;
        }
    }

    /// Releases requests as they become due, to the end of the schedule.
    pub(super) async fn run(&self) -> io::Result<()> {
        let timer = Timer::new()?;
        loop {
            let next = self.schedule.due(self.released.get());
            if next >= self.schedule.end {
                timer.wait_until(self.schedule.end).await?;
                self.stop();
                return Ok(());
            }
            timer.wait_until(next).await?;
            let now = Instant::now();
            while self.schedule.due(self.released.get()) <= now.min(self.schedule.end) {
                self.released.set(self.released.get() + 1);
                self.idle.notify_one();
            }
        }
    }

    /// Lets every connection end after the request under way.
    pub(super) fn stop(&self) {
        self.is_over.set(true);
        self.idle.notify_waiters();
    }

    /// The moments of requests that were due but that no connection was free to send.
    pub(super) fn missed(&self) -> impl Iterator<Item = Instant> + '_ {
        (self.taken.get()..self.released.get()).map(|number| self.schedule.due(number))
    }
}

/// A timer of the kernel, exact to microseconds.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; an \
                                       OwnedFd does not, and this crate forbids unsafe"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Timer(timer))
    }

    async fn wait_until(&self, moment: Instant) -> io::Result<()> {
        let wait = moment.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            // Others shall have their turn even when we are late.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let timer = &self.0;
        let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = timer.readable().await?;
            let mut expirations = [0; 8];
            match rustix::io::read(timer.get_ref(), &mut expirations) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
