//! Bounded exponential waiting with jitter, pure: dice are given.

use std::time::Duration;

/// How long to wait before each next attempt: doubling from `base` to `max`, each wait drawn evenly from the upper
/// half of its step, so that many who failed together do not return together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// Counts one more failure and says how long to wait; `random` is any even number.
    pub fn after_failure(&mut self, random: u64) -> Duration {
        let step =
            self.base.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = step / 2;
        let part = (random >> 32) as f64 / f64::from(u32::MAX);
        (half + half.mul_f64(part)).min(step)
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// It worked: the next failure waits `base` again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_to_the_bound_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let steps: Vec<_> = (0..6).map(|_| backoff.after_failure(u64::MAX).as_millis()).collect();
        assert_eq!(steps, [100, 200, 400, 800, 1_000, 1_000]);
        backoff.reset();
        assert_eq!(backoff.after_failure(0).as_millis(), 50);
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(base in 0u64..10_000, max in 0u64..100_000, dice: Vec<u64>) {
            let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
            let mut backoff = Backoff::new(base, max);
            for number in dice {
                let wait = backoff.after_failure(number);
                prop_assert!(wait <= max && wait >= base.min(max) / 2);
            }
        }
    }
}
