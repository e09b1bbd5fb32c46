//! Whether and when an ended process is started again: a pure function of what happened.

use std::time::Duration;

use lateen_model::RestartPolicy;

use crate::Exit;

/// The wait before the second start in a row.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// A process that ran this long is healthy: its next end counts as the first.
const HEALTHY: Duration = Duration::from_secs(60);

/// Counts the ends of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Ends in a row without a healthy run.
    in_a_row: u32,
}

impl Restarts {
    /// What follows an end after `ran`: the wait before the next start, or `None` when it stays ended. The
    /// first restart comes at once, each further one in a row after twice the wait of the one before.
    pub fn after(&mut self, policy: RestartPolicy, exit: Exit, ran: Duration) -> Option<Duration> {
        let again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.is_success(),
            RestartPolicy::Never => false,
        };
        if ran >= HEALTHY {
            self.in_a_row = 0;
        }
        let wait = match self.in_a_row {
            0 => Duration::ZERO,
            count => FIRST.saturating_mul(1u32.checked_shl(count - 1).unwrap_or(u32::MAX)).min(LONGEST),
        };
        self.in_a_row = self.in_a_row.saturating_add(1);
        again.then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_until_the_longest_and_a_healthy_run_forgives() {
        let mut restarts = Restarts::default();
        let mut next = |ran| restarts.after(RestartPolicy::Always, Exit::Code(0), ran).unwrap().as_millis();
        let waits: Vec<_> = (0..5).map(|_| next(SHORT)).collect();
        assert_eq!(waits, [0, 200, 400, 800, 1600]);
        for _ in 0..100 {
            assert!(next(SHORT) <= LONGEST.as_millis());
        }
        assert_eq!((next(SHORT), next(HEALTHY)), (LONGEST.as_millis(), 0));
    }

    #[test]
    fn the_policy_decides() {
        let after = |policy, exit| Restarts::default().after(policy, exit, SHORT).is_some();
        assert!(after(RestartPolicy::OnFailure, Exit::Signal(9)));
        assert!(!after(RestartPolicy::OnFailure, Exit::Code(0)));
        assert!(!after(RestartPolicy::Never, Exit::Code(1)));
    }
}
