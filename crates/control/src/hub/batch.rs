//! When is a burst of changes over: a pure function of arrivals and clock.

use std::time::{Duration, Instant};

/// How long a burst may last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// It is over when nothing more arrived for so long.
    pub quiet: Duration,
    /// It is over so long after its first change, however many still arrive.
    pub longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(10), longest: Duration::from_millis(100) }
    }
}

/// The arrivals of one burst.
#[derive(Clone, Copy, Default, Debug)]
pub struct Batch {
    arrivals: Option<(Instant, Instant)>,
}

impl Batch {
    /// Notes a change.
    pub fn arrive(&mut self, now: Instant) {
        let first = self.arrivals.map_or(now, |(first, _)| first);
        self.arrivals = Some((first, now));
    }

    /// When the burst is over if nothing more arrives; none while there is no burst.
    pub fn closes(&self, pace: Pace) -> Option<Instant> {
        let (first, last) = self.arrivals?;
        Some((last + pace.quiet).min(first + pace.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrivals in milliseconds -> when the burst closes.
    fn check(arrivals: &[u64], closes: Option<u64>) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut batch = Batch::default();
        arrivals.iter().for_each(|&millis| batch.arrive(at(millis)));
        assert_eq!(batch.closes(Pace::default()), closes.map(at), "{arrivals:?}");
    }

    #[test]
    fn a_burst_closes_when_it_is_quiet_and_never_lasts_too_long() {
        check(&[], None);
        check(&[5], Some(15));
        check(&[0, 9, 18], Some(28));
        check(&[0, 30, 60, 89], Some(99));
        check(&[0, 30, 60, 95], Some(100));
        check(&[7, 50, 100, 106], Some(107));
    }
}
