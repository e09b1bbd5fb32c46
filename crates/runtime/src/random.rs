//! Fast dice for jitter, balancing and sampling. Never for secrets: keys, serial numbers and tokens come from the
//! cryptographic library.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A generator of the wyrand family: eight bytes of state, one multiplication a number.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Always the same numbers for the same seed.
    pub const fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Seeded by the operating system; no two are alike.
    pub fn from_system() -> Self {
        static NTH: AtomicU64 = AtomicU64::new(0);
        // `RandomState` carries keys that std draws from the system; the counter tells threads apart.
        Self::seeded(RandomState::new().hash_one(NTH.fetch_add(1, Ordering::Relaxed)))
    }

    /// The next number, evenly over the whole range.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0xa076_1d64_78bd_642f);
        let product = (self.state as u128).wrapping_mul((self.state ^ 0xe703_7ed1_a0b4_28db) as u128);
        (product >> 64) as u64 ^ product as u64
    }

    /// Evenly one of `0..bound`; 0 when `bound` is 0. The bias is below 2⁻³² for bounds below 2³².
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// Evenly within `0.0..1.0`.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

thread_local! {
    static DICE: Cell<Option<Random>> = const { Cell::new(None) };
}

/// A number from this thread's own generator.
#[inline]
pub fn next_u64() -> u64 {
    DICE.with(|cell| {
        let mut dice = cell.take().unwrap_or_else(Random::from_system);
        let number = dice.next_u64();
        cell.set(Some(dice));
        number
    })
}

/// From now on this thread's numbers are those of `seed`, so that a failing run can be repeated.
pub fn seed_this_thread(seed: u64) {
    DICE.set(Some(Random::seeded(seed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut left, mut right) = (Random::seeded(7), Random::seeded(7));
        assert!((0..100).all(|_| left.next_u64() == right.next_u64()));
        seed_this_thread(7);
        assert_eq!(next_u64(), Random::seeded(7).next_u64());
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut random = Random::seeded(1);
        let mut seen = [0u32; 10];
        for _ in 0..100_000 {
            seen[random.below(10) as usize] += 1;
        }
        // 10,000 expected each; the standard deviation is 95.
        assert!(seen.iter().all(|&count| (9_400..=10_600).contains(&count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&random.unit())));
    }

    #[test]
    fn two_generators_of_the_system_differ() {
        assert_ne!(Random::from_system().next_u64(), Random::from_system().next_u64());
    }
}
