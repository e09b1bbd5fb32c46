//! New endpoints get their share little by little (Envoy's slow start).

use super::weights::Dice;
use lateen_model::Warmup;
use std::time::Duration;

/// The warm-up of a group at one moment; none when nobody is new.
pub(crate) struct Warming<'a> {
    warmup: &'a Warmup,
    now: Duration,
    /// The share of the eldest: all shares are in proportion to it, so that a group of new endpoints is one of equals.
    most: f64,
}

impl<'a> Warming<'a> {
    /// `eldest` and `newest` are when the first and the last of the endpoints came.
    pub(crate) fn new(warmup: &'a Warmup, eldest: Duration, newest: Duration, now: Duration) -> Option<Self> {
        let new = now.saturating_sub(newest) < warmup.duration && eldest < newest;
        new.then(|| Self { warmup, now, most: share(warmup, now.saturating_sub(eldest)) })
    }

    /// Whether an endpoint that the dice chose by its whole weight is taken, given when it came.
    pub(crate) fn takes(&self, since: Duration, dice: &mut Dice) -> bool {
        let share = share(self.warmup, self.now.saturating_sub(since)) / self.most;
        share >= 1.0 || (dice.next() >> 11) as f64 / (1_u64 << 53) as f64 <= share
    }
}

/// The share of an endpoint of this age.
pub(crate) fn share(warmup: &Warmup, age: Duration) -> f64 {
    if age >= warmup.duration {
        return 1.0;
    }
    // Envoy counts the first second as over, so that a share is never nothing.
    let passed = age.max(Duration::from_secs(1)).as_secs_f64() / warmup.duration.as_secs_f64();
    let aggression = f64::from(warmup.aggression_permille.max(1)) / 1000.0;
    let curve = passed.min(1.0).powf(1.0 / aggression);
    curve.max(f64::from(warmup.minimum_permille) / 1000.0).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_along_the_curve_from_the_least() {
        let straight =
            Warmup { duration: Duration::from_secs(100), minimum_permille: 100, aggression_permille: 1000 };
        let steep = Warmup { aggression_permille: 2000, ..straight };
        for (warmup, age, expected) in
            [(&straight, 0, 0.1), (&straight, 50, 0.5), (&straight, 100, 1.0), (&steep, 25, 0.5)]
        {
            assert!((share(warmup, Duration::from_secs(age)) - expected).abs() < 1e-9, "{age}");
        }
    }

    #[test]
    fn nobody_is_new_where_all_are() {
        let warmup =
            Warmup { duration: Duration::from_secs(9), minimum_permille: 100, aggression_permille: 1000 };
        let at = Duration::from_secs;
        assert!(Warming::new(&warmup, at(5), at(5), at(6)).is_none());
        assert!(Warming::new(&warmup, at(1), at(5), at(6)).is_some());
        assert!(Warming::new(&warmup, at(1), at(5), at(14)).is_none());
    }
}
