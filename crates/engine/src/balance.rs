//! `pick_endpoint`: which endpoint of a group is next.

use crate::endpoints::{Endpoint, Group};
use crate::rule::scale;
use crate::snapshot::Snapshot;
use crate::trace::{Candidate, Silent, Step, Trace};
use crate::{BackendId, Denial, DenialReason, Excluded, Load, Picked};
use lateen_model::BalanceAlgorithm;
use std::sync::Arc;

/// How often a die is thrown before the endpoints are looked through one by one.
const THROWS: u32 = 4;
/// As many candidates are named in an explanation.
const NAMED: usize = 32;

/// Chooses an endpoint. A retry asks again with the ones that failed excluded.
///
/// # Errors
/// When the group has no endpoint that is ready, or all were tried.
pub fn pick_endpoint(
    snapshot: &Snapshot,
    backend: BackendId,
    excluded: &Excluded,
    load: &dyn Load,
    random: u64,
) -> Result<Picked, Denial> {
    pick_endpoint_traced(snapshot, backend, excluded, load, random, &mut Silent)
}

pub(crate) fn pick_endpoint_traced<T: Trace>(
    snapshot: &Snapshot,
    backend: BackendId,
    excluded: &Excluded,
    load: &dyn Load,
    random: u64,
    trace: &mut T,
) -> Result<Picked, Denial> {
    let group = snapshot.groups.get(backend.0);
    if let Some(group) = group {
        trace.step(|| group.describe(excluded, load));
    }
    let service = || group.map(|group| group.spec.name.service.clone());
    let deny = |reason| Denial { reason, route: None, service: service() };
    let Some(group) = group.filter(|group| !group.ready.is_empty()) else {
        return Err(deny(DenialReason::NoEndpoint));
    };
    let endpoint = group
        .choose(u64::from(backend.0), excluded, load, Dice(random))
        .ok_or_else(|| deny(DenialReason::AllTried))?;
    Ok(Picked {
        hop: endpoint.hop.clone(),
        endpoint: endpoint.address,
        workload: Some(Arc::clone(&endpoint.workload)),
    })
}

impl Group {
    fn choose(
        &self,
        id: u64,
        excluded: &Excluded,
        load: &dyn Load,
        mut dice: Dice,
    ) -> Option<&Arc<Endpoint>> {
        let usable = |at: &usize| {
            let address = self.addresses[*at];
            !excluded.contains(address) && !load.unavailable(address)
        };
        let chosen = match self.spec.algorithm() {
            BalanceAlgorithm::RoundRobin => Some(self.weights.turn(load.next(id))).filter(usable),
            // Passthrough keeps the caller's address where there is one; here there is none.
            BalanceAlgorithm::Random | BalanceAlgorithm::Passthrough => self.throw(&mut dice, usable),
            BalanceAlgorithm::LeastRequest => {
                let first = self.throw(&mut dice, usable);
                first.map(|first| match self.throw_other(first, &mut dice, usable) {
                    Some(second) => self.less_loaded(first, second, load),
                    None => first,
                })
            }
        };
        let chosen = chosen.or_else(|| {
            let from = usize::try_from(scale(dice.next(), self.ready.len() as u64)).unwrap_or_default();
            self.search(from, excluded, load)
        });
        chosen.map(|at| &self.ready[at])
    }

    /// A place that is usable, by weight, unless luck is bad.
    fn throw(&self, dice: &mut Dice, usable: impl Fn(&usize) -> bool) -> Option<usize> {
        (0..THROWS).map(|_| self.weights.at(scale(dice.next(), self.weights.total))).find(usable)
    }

    /// The same, but another place than the first.
    fn throw_other(&self, first: usize, dice: &mut Dice, usable: impl Fn(&usize) -> bool) -> Option<usize> {
        if !self.weights.all_alike() {
            return self.throw(dice, |at| *at != first && usable(at));
        }
        let others = self.ready.len() as u64 - 1;
        let steps = (0..THROWS).map(|_| usize::try_from(scale(dice.next(), others)).unwrap_or_default());
        steps.map(|step| (first + 1 + step) % self.ready.len()).find(|at| *at != first && usable(at))
    }

    /// Of two the one with less under way for its weight; of two alike the first, which came by weight.
    fn less_loaded(&self, first: usize, second: usize, load: &dyn Load) -> usize {
        let under_way = |of: usize, other: usize| {
            u64::from(load.active(self.addresses[of])) * self.weights.of_place(other)
        };
        if under_way(second, first) < under_way(first, second) { second } else { first }
    }

    /// The first usable place from here on; if none is, the first that was not tried.
    fn search(&self, from: usize, excluded: &Excluded, load: &dyn Load) -> Option<usize> {
        let round = || (from..self.ready.len()).chain(0..from);
        let untried = |at: &usize| !excluded.contains(self.addresses[*at]);
        round()
            .find(|at| untried(at) && !load.unavailable(self.addresses[*at]))
            .or_else(|| round().find(untried))
    }

    fn describe(&self, excluded: &Excluded, load: &dyn Load) -> Step {
        let against = |endpoint: &Endpoint| {
            let tried = excluded.contains(endpoint.address);
            let reasons = [
                (endpoint.weight == 0, "weight 0"),
                (!endpoint.ready && endpoint.weight > 0, "not ready"),
                (tried, "tried already"),
                (load.unavailable(endpoint.address), "unavailable"),
            ];
            reasons.into_iter().find_map(|(holds, why)| holds.then(|| why.to_owned()))
        };
        let candidate = |endpoint: &Arc<Endpoint>| Candidate {
            address: endpoint.address.to_string(),
            workload: format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
            weight: endpoint.weight,
            against: against(endpoint),
        };
        Step::Candidates {
            backend: self.spec.name.to_string(),
            balance: balance_name(self.spec.algorithm()).to_owned(),
            total: self.ready.len() + self.idle.len(),
            endpoints: self.ready.iter().chain(&self.idle).take(NAMED).map(candidate).collect(),
        }
    }
}

fn balance_name(algorithm: BalanceAlgorithm) -> &'static str {
    match algorithm {
        BalanceAlgorithm::LeastRequest => "least request",
        BalanceAlgorithm::RoundRobin => "round robin",
        BalanceAlgorithm::Random => "random",
        BalanceAlgorithm::Passthrough => "passthrough",
    }
}

/// Random numbers from one (SplitMix64), so that they have nothing to do with what else the one was used for.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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

    fn all_alike(&self) -> bool {
        self.sums.is_empty()
    }

    /// The place that a point below the total falls to.
    fn at(&self, point: u64) -> usize {
        if self.all_alike() {
            usize::try_from(point).unwrap_or_default()
        } else {
            self.sums.partition_point(|sum| *sum <= point)
        }
    }

    /// The weight of a place, in proportion to the others.
    fn of_place(&self, at: usize) -> u64 {
        match self.sums.get(at) {
            None => 1,
            Some(sum) => sum - at.checked_sub(1).map_or(0, |before| self.sums[before]),
        }
    }

    /// The place whose turn it is. In `total` turns each place has as many as it weighs.
    fn turn(&self, turn: u64) -> usize {
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
    fn turns_follow_the_weights() {
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
