//! `pick_endpoint`: which endpoint of a group is next.
//!
//! First the tier (which priority takes this request), then the pool (which locality of it), then the endpoint by the
//! group's algorithm or by the hash of the request. Whatever that finds must be usable; if it is not, the next best is.

use crate::endpoints::Group;
use crate::snapshot::Snapshot;
use crate::trace::{Silent, Trace};
use crate::{BackendId, Denial, DenialReason, Excluded, LeftOut, Load, Picked, Preference};
use health::Health;
use lateen_model::BalanceAlgorithm;
use layout::{Pool, Tier};
use std::sync::Arc;
use warmup::Warming;
use weights::Dice;

mod describe;
mod hash;
mod health;
pub(crate) mod layout;
pub(crate) mod locality;
mod session;
mod table;
mod warmup;
mod weights;

pub use hash::{Hashed, cookie, hash_of, hash_of_client, set_cookie};
pub use session::Session;
pub(crate) use session::token;

/// How often a die is thrown before the endpoints are looked through one by one.
const THROWS: u32 = 4;
/// The same where some are new: most throws may fall on those.
const WARMING_THROWS: u32 = 16;

/// Chooses an endpoint. A retry asks again with the ones that failed excluded.
///
/// # Errors
/// When the group has no endpoint that may be used, or all were tried.
pub fn pick_endpoint(
    snapshot: &Snapshot,
    backend: BackendId,
    preference: &Preference,
    excluded: &Excluded,
    load: &dyn Load,
    random: u64,
) -> Result<Picked, Denial> {
    pick_endpoint_traced(snapshot, backend, preference, excluded, load, random, &mut Silent)
}

pub(crate) fn pick_endpoint_traced<T: Trace>(
    snapshot: &Snapshot,
    backend: BackendId,
    preference: &Preference,
    excluded: &Excluded,
    load: &dyn Load,
    random: u64,
    trace: &mut T,
) -> Result<Picked, Denial> {
    let group = snapshot.groups.get(backend.0);
    let service = || group.map(|group| group.spec.name.service.clone());
    let deny = |reason| Denial { reason, route: None, service: service() };
    let Some(group) = group else { return Err(deny(DenialReason::NoEndpoint)) };
    let out = load.left_out(backend);
    let ask = Ask { id: backend, preference, excluded, load, out: out.as_ref() };
    trace.step(|| group.describe(&ask, snapshot));
    let place = group.choose(&ask, Dice(random)).map_err(deny)?;
    let endpoint = &group.ready[place];
    Ok(Picked {
        hop: endpoint.hop.clone(),
        endpoint: endpoint.address,
        workload: Some(Arc::clone(&endpoint.workload)),
    })
}

/// What is asked of a group.
struct Ask<'a> {
    id: BackendId,
    preference: &'a Preference,
    excluded: &'a Excluded,
    load: &'a dyn Load,
    out: Option<&'a LeftOut>,
}

impl Ask<'_> {
    fn is_out(&self, group: &Group, place: usize) -> bool {
        self.out.is_some_and(|out| out.contains(group.addresses[place]))
    }

    fn is_tried(&self, group: &Group, place: usize) -> bool {
        self.excluded.contains(group.addresses[place])
    }
}

impl Group {
    fn choose(&self, ask: &Ask<'_>, mut dice: Dice) -> Result<usize, DenialReason> {
        let tiers = &self.layout.tiers;
        let health = Health::of(self, ask);
        if let Some(place) = self.of_session(ask, &health) {
            return Ok(place);
        }
        let first = match ask.preference.hash.filter(|_| tiers.len() > 1) {
            Some(hash) => health.tier(hash % 100),
            None if tiers.len() > 1 => health.tier(dice.below(100)),
            None => 0,
        };
        let order = std::iter::once(first).chain((0..tiers.len()).filter(|tier| *tier != first));
        for at in order.filter(|at| *at < tiers.len()) {
            if let Some(place) = self.choose_in(at, ask, &health, &mut dice) {
                return Ok(place);
            }
        }
        let all_out = (0..self.ready.len()).all(|place| !health.may_use(self, ask, place));
        Err(if all_out { DenialReason::NoEndpoint } else { DenialReason::AllTried })
    }

    /// The endpoint of the session, if it may be used still.
    fn of_session(&self, ask: &Ask<'_>, health: &Health) -> Option<usize> {
        let wanted = ask.preference.session?;
        let place = self.tokens.iter().position(|token| *token == wanted)?;
        (health.may_use(self, ask, place) && !ask.is_tried(self, place)).then_some(place)
    }

    fn choose_in(&self, at: usize, ask: &Ask<'_>, health: &Health, dice: &mut Dice) -> Option<usize> {
        let tier = &self.layout.tiers[at];
        let ignores = health.is_panic(at);
        let may = |place: usize| ignores || !ask.is_out(self, place);
        if let (Some(table), Some(hash)) = (&tier.table, ask.preference.hash) {
            // Who was tried already is tried again: only there is the state that the hash is for (as Istio has it).
            let found = table.find(hash, may);
            return found.or_else(|| search(tier, dice, may));
        }
        let usable = |place: usize| may(place) && !ask.is_tried(self, place);
        let pool = match &tier.pools[..] {
            [only] => Some((0, only)),
            pools => health.pool(at, tier, dice).map(|chosen| (chosen, &pools[chosen])),
        };
        let chosen = pool.and_then(|(number, pool)| {
            let cursor = u64::from(ask.id.0) | (number as u64) << 32 | (at as u64) << 48;
            self.choose_of(pool, cursor, ask, dice, &usable).or_else(|| pool.search(dice, usable))
        });
        chosen.or_else(|| search(tier, dice, usable))
    }

    /// By the group's algorithm, unless luck is bad.
    fn choose_of(
        &self,
        pool: &Pool,
        cursor: u64,
        ask: &Ask<'_>,
        dice: &mut Dice,
        usable: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let warming = self.warming(ask.load);
        let throws = if warming.is_some() { WARMING_THROWS } else { THROWS };
        let takes = |place: usize, dice: &mut Dice| {
            usable(place)
                && warming.as_ref().is_none_or(|warming| warming.takes(self.ready[place].since, dice))
        };
        let weights = &pool.weights;
        let throw = |dice: &mut Dice, but: Option<usize>| {
            (0..throws).find_map(|_| {
                let at = match but {
                    // Of others that weigh the same each is one step away.
                    Some(but) if weights.all_alike() && pool.len() > 1 => {
                        (but + 1 + dice.place(pool.len() - 1)) % pool.len()
                    }
                    _ => weights.at(dice.below(weights.total)),
                };
                (Some(at) != but && takes(pool.place(at), dice)).then_some(at)
            })
        };
        match self.algorithm {
            BalanceAlgorithm::RoundRobin => {
                let mut turns = (0..if warming.is_some() { throws } else { 1 })
                    .map(|_| weights.turn(ask.load.next(cursor)));
                turns.find(|at| takes(pool.place(*at), dice)).map(|at| pool.place(at))
            }
            // Passthrough keeps the caller's address where there is one; here there is none.
            BalanceAlgorithm::Random | BalanceAlgorithm::Passthrough => {
                throw(dice, None).map(|at| pool.place(at))
            }
            BalanceAlgorithm::LeastRequest => {
                let first = throw(dice, None)?;
                let chosen = match throw(dice, Some(first)) {
                    Some(second) => self.less_loaded(pool, first, second, ask.load),
                    None => first,
                };
                Some(pool.place(chosen))
            }
        }
    }

    /// Of two the one with less under way for its weight; of two alike the first, which came by weight.
    fn less_loaded(&self, pool: &Pool, first: usize, second: usize, load: &dyn Load) -> usize {
        let under_way = |of: usize, other: usize| {
            u64::from(load.active(self.addresses[pool.place(of)])) * pool.weights.of_place(other)
        };
        if under_way(second, first) < under_way(first, second) { second } else { first }
    }

    fn warming(&self, load: &dyn Load) -> Option<Warming<'_>> {
        let warmup = self.warmup.as_ref()?;
        Warming::new(warmup, self.eldest, self.newest, load.now())
    }
}

impl Pool {
    /// The first usable place from a random one on.
    fn search(&self, dice: &mut Dice, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let from = dice.place(self.len());
        (from..self.len()).chain(0..from).map(|at| self.place(at)).find(|place| usable(*place))
    }
}

fn search(tier: &Tier, dice: &mut Dice, usable: impl Fn(usize) -> bool) -> Option<usize> {
    tier.pools.iter().find_map(|pool| pool.search(dice, &usable))
}
