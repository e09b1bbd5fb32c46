//! `Layout`: how the endpoints of a group stand: in tiers of priority, each in pools by locality.

use super::locality::{Home, Plan};
use super::table::{Table, Weighed};
use super::weights::Weights;
use crate::endpoints::Endpoint;
use lateen_model::{HashTable, Locality};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// How the ready endpoints of a group stand. Most groups have one tier of one pool.
#[derive(Default)]
pub(crate) struct Layout {
    /// The first is preferred; the others take over as it fails.
    pub(crate) tiers: Vec<Tier>,
    /// Tier and pool of every address, in order of addresses; empty where there is one pool only.
    homes: Vec<(SocketAddr, u32, u32)>,
}

/// Endpoints that are equally preferred.
pub(crate) struct Tier {
    /// What brought them here, a number of the plan.
    pub(crate) level: u32,
    /// How many endpoints.
    pub(crate) size: usize,
    pub(crate) pools: Vec<Pool>,
    /// The table of all pools, where a hash decides.
    pub(crate) table: Option<Table>,
}

/// Endpoints that share what comes by the algorithm of the group.
pub(crate) struct Pool {
    /// The part of the tier's requests.
    pub(crate) share: u64,
    pub(crate) locality: Option<Locality>,
    /// Places in the group; none is all of them.
    places: Option<Box<[u32]>>,
    pub(crate) weights: Weights,
}

impl Pool {
    /// The place in the group of the n-th of the pool.
    pub(crate) fn place(&self, at: usize) -> usize {
        self.places.as_ref().map_or(at, |places| places[at] as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    fn of(places: Option<Box<[u32]>>, endpoints: &[Arc<Endpoint>]) -> Self {
        let weights = match &places {
            None => Weights::of(endpoints.iter().map(|endpoint| endpoint.weight)),
            Some(places) => Weights::of(places.iter().map(|place| endpoints[*place as usize].weight)),
        };
        Self { share: 1, locality: None, places, weights }
    }
}

impl Layout {
    pub(crate) fn new(
        plan: &Plan<'_>,
        table: Option<HashTable>,
        endpoints: &[Arc<Endpoint>],
        home: &Home,
    ) -> Self {
        if endpoints.is_empty() {
            return Self::default();
        }
        let mut tiers = plan.tiers(endpoints, home);
        for tier in &mut tiers {
            tier.table = table.and_then(|kind| Table::new(kind, &weighed(tier, endpoints)));
        }
        Self { homes: homes(&tiers, endpoints), tiers }
    }

    /// Whether the endpoints are told apart.
    pub(crate) fn is_plain(&self) -> bool {
        self.homes.is_empty()
    }

    /// Tier and pool of an address.
    pub(crate) fn home_of(&self, address: SocketAddr) -> Option<(usize, usize)> {
        let at = self.homes.binary_search_by_key(&address, |(address, ..)| *address).ok()?;
        let (_, tier, pool) = self.homes[at];
        Some((tier as usize, pool as usize))
    }

    /// Tier and pool of every place that is told apart, in order of places.
    pub(crate) fn place_names(&self) -> BTreeMap<usize, (usize, usize)> {
        let tiers = self.tiers.iter().enumerate();
        let pools =
            tiers.flat_map(|(tier, t)| t.pools.iter().enumerate().map(move |(pool, p)| (tier, pool, p)));
        pools.flat_map(|(tier, pool, p)| (0..p.len()).map(move |at| (p.place(at), (tier, pool)))).collect()
    }
}

impl Tier {
    /// All endpoints, or those at these places, as one pool.
    pub(crate) fn of(level: u32, places: Option<Box<[u32]>>, endpoints: &[Arc<Endpoint>]) -> Self {
        let size = places.as_ref().map_or(endpoints.len(), |places| places.len());
        Self { level, size, pools: vec![Pool::of(places, endpoints)], table: None }
    }

    /// In pools: the places, the share and the locality of each.
    pub(crate) fn in_pools(
        level: u32,
        pools: Vec<(Box<[u32]>, u64, Locality)>,
        endpoints: &[Arc<Endpoint>],
    ) -> Self {
        let size = pools.iter().map(|(places, ..)| places.len()).sum();
        let pool = |(places, share, locality)| Pool {
            share,
            locality: Some(locality),
            ..Pool::of(Some(places), endpoints)
        };
        Self { level, size, pools: pools.into_iter().map(pool).collect(), table: None }
    }
}

/// The endpoints of a tier with their parts of it: first the pools share, then the endpoints of each.
fn weighed(tier: &Tier, endpoints: &[Arc<Endpoint>]) -> Vec<Weighed> {
    let shares: u64 = tier.pools.iter().map(|pool| pool.share).sum();
    let mut all = Vec::with_capacity(tier.size);
    for pool in tier.pools.iter().filter(|pool| pool.share > 0) {
        let sum: f64 = (0..pool.len()).map(|at| f64::from(endpoints[pool.place(at)].weight)).sum();
        let part = if tier.pools.len() == 1 { 1.0 } else { pool.share as f64 / shares as f64 };
        all.extend((0..pool.len()).map(|at| {
            let place = pool.place(at);
            let endpoint = &endpoints[place];
            let share = part * (f64::from(endpoint.weight) / sum);
            Weighed { place: u32::try_from(place).unwrap_or(u32::MAX), address: endpoint.address, share }
        }));
    }
    all
}

fn homes(tiers: &[Tier], endpoints: &[Arc<Endpoint>]) -> Vec<(SocketAddr, u32, u32)> {
    if let [only] = tiers
        && only.pools.len() == 1
    {
        return Vec::new();
    }
    let mut homes = Vec::with_capacity(endpoints.len());
    for (tier, t) in (0..).zip(tiers) {
        for (pool, p) in (0..).zip(&t.pools) {
            homes.extend((0..p.len()).map(|at| (endpoints[p.place(at)].address, tier, pool)));
        }
    }
    homes.sort_unstable();
    homes
}
