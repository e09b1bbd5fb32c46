//! Places by weight, and dice.

use crate::rule::scale;

/// Random numbers from one (SplitMix64), so that they have nothing to do with what else the one was used for.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a limit.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        scale(self.next(), limit)
    }

    /// A place of so many.
    pub(crate) fn place(&mut self, places: usize) -> usize {
        usize::try_from(self.below(places as u64)).unwrap_or_default()
    }
}

/// Places by weight. Where all weigh the same no sums are kept.
#[derive(Default)]
pub(crate) struct Weights {
    /// The sum of the weights up to and with each place; empty when all are equal.
    sums: Vec<u64>,
    count: u64,
    pub(crate) total: u64,
    /// A step without common divisor with the total, so that round robin spreads the heavy ones.
    stride: u64,
}

impl Weights {
    pub(crate) fn of(weights: impl ExactSizeIterator<Item = u32> + Clone) -> Self {
        let count = weights.len() as u64;
        let mut all = weights.clone();
        let first = all.next().unwrap_or_default();
        if all.all(|weight| weight == first) {
            return Self { sums: Vec::new(), count, total: count, stride: 1 };
        }
        let sums: Vec<u64> = weights
            .scan(0, |sum, weight| {
                *sum += u64::from(weight);
                Some(*sum)
            })
            .collect();
        let total = sums.last().copied().unwrap_or_default();
        // The golden section of the total leaves the most even gaps.
        let golden = (u128::from(total) * 618 / 1000).max(1);
        let golden = u64::try_from(golden).expect("it is less than the total");
        let stride = (golden..=total).find(|step| coprime(*step, total)).unwrap_or(1);
        Self { sums, count, total, stride }
    }

    /// How many places.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or_default()
    }

    pub(crate) fn all_alike(&self) -> bool {
        self.sums.is_empty()
    }

    /// The place that a point below the total falls to.
    pub(crate) fn at(&self, point: u64) -> usize {
        if self.all_alike() {
            usize::try_from(point).unwrap_or_default()
        } else {
            self.sums.partition_point(|sum| *sum <= point)
        }
    }

    /// The weight of a place, in proportion to the others.
    pub(crate) fn of_place(&self, at: usize) -> u64 {
        match self.sums.get(at) {
            None => 1,
            Some(sum) => sum - at.checked_sub(1).map_or(0, |before| self.sums[before]),
        }
    }

    /// The place whose turn it is. In `total` turns each place has as many as it weighs.
    pub(crate) fn turn(&self, turn: u64) -> usize {
        let turn = turn % self.total.max(1);
        let point = u128::from(turn) * u128::from(self.stride) % u128::from(self.total.max(1));
        debug_assert!(self.count > 0);
        self.at(u64::try_from(point).expect("it is less than the total"))
    }
}

fn coprime(mut a: u64, mut b: u64) -> bool {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(crate) fn turns_follow_the_weights() {
        for weights in [vec![1, 1, 1], vec![1, 2, 7], vec![100, 1], vec![3, 3], vec![5]] {
            let table = Weights::of(weights.iter().copied());
            let rounds = weights.iter().map(|weight| u64::from(*weight)).sum::<u64>();
            let mut seen = vec![0u32; weights.len()];
            (0..rounds).for_each(|turn| seen[table.turn(turn)] += 1);
            if weights.windows(2).all(|pair| pair[0] == pair[1]) {
                assert!(seen.iter().all(|count| u64::from(*count) == rounds / weights.len() as u64));
            } else {
                assert_eq!(seen, weights);
            }
        }
    }

    #[test]
    fn a_heavy_place_does_not_have_all_its_turns_at_once() {
        let table = Weights::of([5, 5, 10].into_iter());
        let turns: Vec<usize> = (0..20).map(|turn| table.turn(turn)).collect();
        assert!(turns.windows(4).all(|four| four.iter().any(|place| *place != four[0])), "{turns:?}");
    }
}
