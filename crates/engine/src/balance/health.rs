//! How well the tiers of a group are, and what part of the requests each takes (Envoy's priority levels).

use super::Ask;
use super::layout::Tier;
use super::weights::Dice;
use crate::endpoints::Group;
use smallvec::SmallVec;

/// A tier takes all as long as so many per cent of it, times its healthy part, are a whole.
const OVERPROVISIONING: u64 = 140;
/// A retry that may go to other localities leaves a tier after so many tries in it (Istio's `update_frequency`).
const TRIES_IN_TIER: usize = 2;

/// The health of a group at one moment.
pub(crate) struct Health {
    /// Per cent of the requests that each tier takes; empty where there is one tier.
    loads: SmallVec<[u64; 4]>,
    /// Tiers whose endpoints are all used, the ejected ones too; a bit each.
    panic: u64,
    /// How many endpoints of each pool are out, flat; empty when none is, or nothing is told apart.
    out: SmallVec<[(u32, u32, u64); 4]>,
}

impl Health {
    pub(crate) fn of(group: &Group, ask: &Ask<'_>) -> Self {
        let mut health = Self { loads: SmallVec::new(), panic: 0, out: SmallVec::new() };
        let tiers = &group.layout.tiers;
        if ask.out.is_none() && tiers.len() < 2 {
            return health;
        }
        health.count(group, ask);
        let mut healthy: SmallVec<[(u64, u64); 4]> = SmallVec::new();
        for (at, tier) in tiers.iter().enumerate() {
            let size = tier.size as u64;
            healthy.push((size - health.out_of(group, ask, at).min(size), size));
        }
        health.share(&healthy, group, ask);
        health
    }

    /// How many are out, by tier and pool.
    fn count(&mut self, group: &Group, ask: &Ask<'_>) {
        let Some(out) = ask.out.filter(|_| !group.layout.is_plain()) else { return };
        for (tier, pool) in out.iter().filter_map(|address| group.layout.home_of(*address)) {
            let (tier, pool) = (tier as u32, pool as u32);
            match self.out.iter_mut().find(|(t, p, _)| (*t, *p) == (tier, pool)) {
                Some((.., count)) => *count += 1,
                None => self.out.push((tier, pool, 1)),
            }
        }
    }

    fn out_of(&self, group: &Group, ask: &Ask<'_>, tier: usize) -> u64 {
        if group.layout.is_plain() {
            let ours = |out: &crate::LeftOut| {
                // Few are out; with as many as there are endpoints, some may be of yesterday.
                if out.len() < group.ready.len() {
                    out.len()
                } else {
                    group.addresses.iter().filter(|a| out.contains(**a)).count()
                }
            };
            return ask.out.map_or(0, |out| ours(out) as u64);
        }
        self.out.iter().filter(|(t, ..)| *t as usize == tier).map(|(.., count)| count).sum()
    }

    fn share(&mut self, tiers: &[(u64, u64)], group: &Group, ask: &Ask<'_>) {
        let well = |healthy: u64, size: u64| (OVERPROVISIONING * healthy / size.max(1)).min(100);
        let mut healths: SmallVec<[u64; 4]> =
            tiers.iter().map(|(healthy, size)| well(*healthy, *size)).collect();
        if healths.iter().sum::<u64>() < 100 {
            let threshold = u64::from(group.panic_percent);
            for (at, (healthy, size)) in tiers.iter().enumerate().take(64) {
                if 100 * healthy < threshold * size {
                    self.panic |= 1 << at;
                }
            }
        }
        if ask.preference.other_localities {
            leave_tried(&mut healths, group, ask);
        }
        let sum = healths.iter().sum::<u64>();
        let all_panic = (0..tiers.len()).all(|at| self.is_panic(at));
        let total = sum.min(100);
        let mut left = 100;
        let sizes: u64 = tiers.iter().map(|(_, size)| size).sum();
        self.loads = (0..tiers.len())
            .map(|at| {
                let part = match (all_panic, total) {
                    (true, _) => 100 * tiers[at].1 / sizes.max(1),
                    (false, 0) => 0,
                    (false, _) => healths[at] * 100 / total,
                };
                let load = part.min(left);
                left -= load;
                load
            })
            .collect();
        // What rounding leaves goes to the first that takes anything.
        let first = self.loads.iter().position(|load| *load > 0).unwrap_or_default();
        if let Some(load) = self.loads.get_mut(first) {
            *load += left;
        }
    }

    /// The tier for a number below 100.
    pub(crate) fn tier(&self, point: u64) -> usize {
        let mut sum = 0;
        let holds = |load: &u64| {
            sum += load;
            point < sum
        };
        self.loads.iter().position(holds).unwrap_or_default()
    }

    /// Whether all endpoints of a tier are used, since too few are well.
    pub(crate) fn is_panic(&self, tier: usize) -> bool {
        tier < 64 && self.panic & 1 << tier != 0
    }

    /// Whether a place is not ejected, or is used all the same.
    pub(crate) fn may_use(&self, group: &Group, ask: &Ask<'_>, place: usize) -> bool {
        if !ask.is_out(group, place) {
            return true;
        }
        let home = group.layout.home_of(group.addresses[place]);
        self.is_panic(home.map_or(0, |(tier, _)| tier))
    }

    /// The pool of a tier that takes this request: by its share, less what of it is out beyond the spare part.
    pub(crate) fn pool(&self, at: usize, tier: &Tier, dice: &mut Dice) -> Option<usize> {
        let share = |number: usize| {
            let pool = &tier.pools[number];
            let out = self.out.iter().find(|(t, p, _)| (*t as usize, *p as usize) == (at, number));
            let Some((.., out)) = out.filter(|_| !self.is_panic(at)) else { return pool.share * 100 };
            let size = pool.len() as u64;
            pool.share * (OVERPROVISIONING * (size - out.min(&size)) / size.max(1)).min(100)
        };
        let total: u64 = (0..tier.pools.len()).map(share).sum();
        let mut point = dice.below(total);
        (0..tier.pools.len()).find(|number| {
            let part = share(*number);
            let here = point < part;
            point = point.saturating_sub(part);
            here
        })
    }
}

/// Takes tiers that were tried off, as long as another one has anybody.
fn leave_tried(healths: &mut SmallVec<[u64; 4]>, group: &Group, ask: &Ask<'_>) {
    let mut left = healths.clone();
    for (at, health) in left.iter_mut().enumerate() {
        let tried = ask
            .excluded
            .iter()
            .filter(|address| group.layout.home_of(**address).is_some_and(|(tier, _)| tier == at));
        let tries = tried.count();
        if tries >= TRIES_IN_TIER.min(group.layout.tiers[at].size) {
            *health = 0;
        }
    }
    if left.iter().any(|health| *health > 0) {
        *healths = left;
    }
}
