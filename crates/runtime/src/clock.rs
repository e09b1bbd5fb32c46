//! The one door to time.
//!
//! Monotonic time is tokio's, which a test can pause. Wall time is asked of a [`Clock`] value, because
//! certificates live by the calendar and a laptop that slept has more calendar than uptime behind it.

use std::future::Future;
use std::time::SystemTime;

pub use std::time::Duration;
pub use tokio::time::Instant;
pub use tokio::time::error::Elapsed;

/// The monotonic present; stands still while a test pauses time.
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for `duration`. Each call arms a timer of the runtime: on the path of requests use
/// [`crate::deadline`] instead.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `instant`.
pub async fn sleep_until(instant: Instant) {
    tokio::time::sleep_until(instant).await;
}

/// Gives `future` at most `duration`.
///
/// # Errors
/// [`Elapsed`] when the time is over first.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(duration, future).await
}

/// Who says what the calendar says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// The wall time at a known instant, after which it follows tokio's clock; absent for the system's own.
    anchor: Option<(SystemTime, Instant)>,
}

impl Clock {
    /// The wall clock of the machine.
    pub const fn system() -> Self {
        Self { anchor: None }
    }

    /// A wall clock that shows `start` now and from here on follows tokio's clock, so that pausing and advancing
    /// that clock moves the calendar too.
    pub fn starting_at(start: SystemTime) -> Self {
        Self { anchor: Some((start, now())) }
    }

    /// The present on the calendar.
    pub fn wall(&self) -> SystemTime {
        match self.anchor {
            None => SystemTime::now(),
            Some((start, since)) => start + since.elapsed(),
        }
    }

    /// Seconds since 1970, never negative.
    pub fn unix_seconds(&self) -> u64 {
        self.wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_anchored_wall_clock_follows_the_paused_one() {
        let clock = Clock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        assert_eq!(clock.unix_seconds(), 1_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.unix_seconds(), 1_060);
    }
}
