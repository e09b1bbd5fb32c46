//! When to renew: a pure function of validity and dice.

use std::time::SystemTime;

/// When to ask for the next certificate: at half the life of this one, give or take 5 % of it, so that those who
/// started together do not ask together. `random` is any even number; keep it for as long as the certificate, so that
/// the answer stays the same. Compare it with the wall clock every minute rather than sleep until then: a machine may
/// sleep too.
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, random: u64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let part = (random >> 32) as f64 / f64::from(u32::MAX);
    not_before + life.mul_f64(0.45 + part * 0.10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn renewal_is_near_the_middle(start in 0u64..10_000_000_000, life in 0u64..1_000_000_000, random: u64) {
            let not_before = SystemTime::UNIX_EPOCH + Duration::from_secs(start);
            let at = renew_at(not_before, not_before + Duration::from_secs(life), random);
            let after = at.duration_since(not_before).expect("never before the beginning").as_secs_f64();
            prop_assert!((0.45 * life as f64 - 1.0..=0.55 * life as f64 + 1.0).contains(&after));
        }
    }

    #[test]
    fn what_ends_before_it_begins_is_renewed_at_once() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(renew_at(begin, SystemTime::UNIX_EPOCH, 7), begin);
    }
}
