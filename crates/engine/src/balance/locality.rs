//! Which localities are preferred, as Istio reads its settings.

use super::layout::Tier;
use crate::endpoints::Endpoint;
use lateen_model::{Distribution, Labels, Locality, LocalityMode, Str, TrafficPolicy, Workload};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The viewer as distances are measured from it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Home {
    /// Its workload, once it is known; until then it is nowhere.
    pub(crate) own: Option<Arc<Workload>>,
    /// Its labels, which are known before.
    pub(crate) labels: Labels,
    /// How many callers like it there are in each locality: the endpoints of its own services.
    pub(crate) siblings: BTreeMap<Locality, u64>,
}

impl Home {
    fn locality(&self) -> Locality {
        self.own.as_ref().map(|own| own.locality.clone()).unwrap_or_default()
    }

    fn label(&self, key: &str) -> Str {
        match &self.own {
            Some(own) => label(own, key),
            None => self.labels.get(key).cloned().unwrap_or_default(),
        }
    }
}

/// A label of a workload, or what the mesh knows under the name of a label; empty when it has none.
fn label(workload: &Workload, key: &str) -> Str {
    let locality = &workload.locality;
    match key {
        "topology.kubernetes.io/region" => locality.region.clone(),
        "topology.kubernetes.io/zone" => locality.zone.clone(),
        "topology.istio.io/subzone" => locality.subzone.clone(),
        "topology.istio.io/network" => Str::from(workload.network.as_str()),
        "topology.istio.io/cluster" => Str::from(workload.cluster.as_str()),
        "kubernetes.io/hostname" => Str::from(workload.node.as_str()),
        _ => workload.labels.get(key).cloned().unwrap_or_default(),
    }
}

/// How a group tells its endpoints apart.
pub(crate) enum Plan<'a> {
    /// Not at all.
    Flat,
    /// By priorities.
    Failover { regions: &'a [(Str, Str)], labels: &'a [Str] },
    /// By shares.
    Distribute(&'a [Distribution]),
    /// As much as possible in the own locality; the others of the region are one tier with it.
    ZoneAware { minimum: u64, regions: &'a [(Str, Str)], labels: &'a [Str], failover: bool },
}

/// Levels of distance: the same sub-zone, zone, region; another region that may take over; one that may not.
const SUBZONE: u32 = 0;
const ZONE: u32 = 1;
const REGION: u32 = 2;
const ELSEWHERE: u32 = 3;
const LAST: u32 = 4;
/// Levels by labels come first; each holds all levels of distance.
const LEVELS: u32 = 5;

impl<'a> Plan<'a> {
    /// Without any setting the nearest is preferred. That, and failover, needs somebody who finds out that endpoints
    /// fail: without outlier detection nothing would ever be taken over.
    pub(crate) fn of(traffic: &'a TrafficPolicy) -> Self {
        let watched = traffic.outliers.is_some();
        match &traffic.locality {
            Some(policy) if !policy.enabled => Self::Flat,
            Some(policy) => match &policy.mode {
                LocalityMode::Distribute(distributions) => Self::Distribute(distributions),
                LocalityMode::Failover { regions, priority } if watched => {
                    Self::Failover { regions, labels: priority }
                }
                LocalityMode::Failover { .. } => Self::Flat,
                LocalityMode::ZoneAware { minimum_cluster_size, regions, priority } => Self::ZoneAware {
                    minimum: *minimum_cluster_size,
                    regions,
                    labels: priority,
                    failover: watched,
                },
            },
            None if watched => Self::Failover { regions: &[], labels: &[] },
            None => Self::Flat,
        }
    }

    pub(crate) fn is_flat(&self) -> bool {
        matches!(self, Self::Flat)
    }

    pub(crate) fn counts_siblings(&self) -> bool {
        matches!(self, Self::ZoneAware { .. })
    }

    pub(crate) fn tiers(&self, endpoints: &[Arc<Endpoint>], home: &Home) -> Vec<Tier> {
        match self {
            Self::Flat => vec![Tier::of(0, None, endpoints)],
            Self::Failover { regions, labels } => {
                let levels = Levels::new(home, regions, labels);
                by_level(endpoints, |endpoint| levels.of(&endpoint.workload))
            }
            Self::Distribute(distributions) => distributed(endpoints, distributions, &home.locality()),
            Self::ZoneAware { minimum, regions, labels, failover } => {
                let levels = Levels::new(home, regions, labels);
                let mut tiers = by_level(endpoints, |endpoint| match levels.of(&endpoint.workload) {
                    _ if !failover => 0,
                    level if level % LEVELS <= REGION => level / LEVELS * LEVELS,
                    level => level,
                });
                let near = tiers.first().filter(|tier| tier.size as u64 >= (*minimum).max(1));
                let zones = near.and_then(|tier| zones(tier, endpoints, home));
                if let (Some(zones), Some(first)) = (zones, tiers.first_mut()) {
                    *first = zones;
                }
                tiers
            }
        }
    }

    /// What brought endpoints to a level.
    pub(crate) fn describe(&self, level: u32) -> String {
        let distance = match level % LEVELS {
            SUBZONE => "the same sub-zone",
            ZONE => "the same zone",
            REGION => "the same region",
            ELSEWHERE => "another region",
            _ => "a region that does not take over",
        };
        match self {
            Self::Flat => "no preference".to_owned(),
            Self::Distribute(_) => "shares by locality".to_owned(),
            Self::ZoneAware { .. } if level == 0 => "near, in proportion to the zones of callers".to_owned(),
            Self::ZoneAware { .. } => distance.to_owned(),
            Self::Failover { labels: [], .. } => distance.to_owned(),
            Self::Failover { labels, regions } => {
                let matched = labels.len() - (level / LEVELS) as usize;
                let by_labels = format!("{matched} of {} labels the same", labels.len());
                if regions.is_empty() { by_labels } else { format!("{by_labels}, {distance}") }
            }
        }
    }
}

/// Measures how far a workload is.
struct Levels<'a> {
    locality: Locality,
    /// Which region takes over for ours.
    successor: Option<&'a Str>,
    /// Labels and the values that are near, by falling weight.
    labels: Vec<(&'a str, Str)>,
    by_distance: bool,
}

impl<'a> Levels<'a> {
    fn new(home: &Home, regions: &'a [(Str, Str)], labels: &'a [Str]) -> Self {
        let locality = home.locality();
        let successor = regions.iter().find(|(from, _)| *from == locality.region).map(|(_, to)| to);
        let wanted = |text: &'a Str| match text.split_once('=') {
            Some((key, value)) => (key, Str::from(value)),
            None => (&**text, home.label(text)),
        };
        // With labels distance counts only if a region is said to take over.
        let by_distance = labels.is_empty() || !regions.is_empty();
        Self { locality, successor, labels: labels.iter().map(wanted).collect(), by_distance }
    }

    fn of(&self, workload: &Workload) -> u32 {
        let differs = self.labels.iter().position(|(key, value)| label(workload, key) != *value);
        let by_labels = differs.map_or(0, |at| (self.labels.len() - at) as u32);
        by_labels * LEVELS + if self.by_distance { self.distance(&workload.locality) } else { 0 }
    }

    fn distance(&self, other: &Locality) -> u32 {
        let own = &self.locality;
        if own.region != other.region {
            let taken_over = self.successor.is_none_or(|to| *to == other.region);
            return if taken_over { ELSEWHERE } else { LAST };
        }
        match (own.zone == other.zone, own.subzone == other.subzone) {
            (true, true) => SUBZONE,
            (true, false) => ZONE,
            (false, _) => REGION,
        }
    }
}

fn by_level(endpoints: &[Arc<Endpoint>], level: impl Fn(&Endpoint) -> u32) -> Vec<Tier> {
    let levels: Vec<u32> = endpoints.iter().map(|endpoint| level(endpoint)).collect();
    let first = levels.first().copied().unwrap_or_default();
    if levels.iter().all(|level| *level == first) {
        return vec![Tier::of(first, None, endpoints)];
    }
    let mut places: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (place, level) in (0..).zip(&levels) {
        places.entry(*level).or_default().push(place);
    }
    places.into_iter().map(|(level, places)| Tier::of(level, Some(places.into()), endpoints)).collect()
}

/// Places by locality, with the sum of the weights there.
fn by_locality(
    places: impl Iterator<Item = u32>,
    endpoints: &[Arc<Endpoint>],
) -> BTreeMap<&Locality, (Vec<u32>, u64)> {
    let mut found: BTreeMap<&Locality, (Vec<u32>, u64)> = BTreeMap::new();
    for place in places {
        let endpoint = &endpoints[place as usize];
        let (places, weight) = found.entry(&endpoint.workload.locality).or_default();
        places.push(place);
        *weight += u64::from(endpoint.weight);
    }
    found
}

/// The shares that the first distribution for callers of here gives; what it does not name gets nothing.
fn distributed(endpoints: &[Arc<Endpoint>], distributions: &[Distribution], own: &Locality) -> Vec<Tier> {
    let Some(distribution) = distributions.iter().find(|distribution| is_in(own, &distribution.from)) else {
        return vec![Tier::of(0, None, endpoints)];
    };
    let mut left = by_locality(0..endpoints.len() as u32, endpoints);
    let mut pools = Vec::new();
    for (to, share) in &distribution.to {
        let (here, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            left.into_iter().partition(|(locality, _)| is_in(locality, to));
        left = rest;
        let total: u64 = here.values().map(|(_, weight)| weight).sum();
        // Several localities under one name share by what stands in them.
        for (locality, (places, weight)) in here {
            let part = u128::from(*share) * u128::from(weight) * 1000 / u128::from(total.max(1));
            let part = u64::try_from(part).unwrap_or(u64::MAX);
            if part > 0 {
                pools.push((places.into_boxed_slice(), part, locality.clone()));
            }
        }
    }
    if pools.is_empty() { Vec::new() } else { vec![Tier::in_pools(0, pools, endpoints)] }
}

/// Whether a locality is one that `region/zone/subzone` means; `*` and what is missing are any.
fn is_in(locality: &Locality, pattern: &str) -> bool {
    let mut parts = pattern.splitn(3, '/');
    let region = parts.next().unwrap_or_default();
    let narrower = |part: Option<&str>, own: &Str| {
        part.is_none_or(|part| part.is_empty() || part == "*" || part == &**own)
    };
    let zone = narrower(parts.next(), &locality.zone);
    (region == "*" || region == &*locality.region) && zone && narrower(parts.next(), &locality.subzone)
}

/// Envoy's zone aware routing: with at least as large a part of the endpoints here as of the callers, all stays here;
/// else as much as fits, and the rest goes where there are more endpoints than callers.
fn zones(tier: &Tier, endpoints: &[Arc<Endpoint>], home: &Home) -> Option<Tier> {
    const WHOLE: u64 = 10_000;
    let own = home.locality();
    let pool = tier.pools.first()?;
    let here = by_locality((0..pool.len()).map(|at| pool.place(at) as u32), endpoints);
    let callers: u64 = home.siblings.values().sum();
    let part = |count: u64, of: u64| (WHOLE * count).checked_div(of).unwrap_or_default();
    let upstream = |locality: &Locality| {
        part(here.get(locality).map_or(0, |(places, _)| places.len() as u64), tier.size as u64)
    };
    let local = |locality: &Locality| part(home.siblings.get(locality).copied().unwrap_or_default(), callers);
    if here.len() < 2 || upstream(&own) == 0 || local(&own) == 0 {
        return None;
    }
    let kept = (WHOLE * upstream(&own) / local(&own)).min(WHOLE);
    let spare = |locality: &Locality| upstream(locality).saturating_sub(local(locality));
    let spares: u64 = here.keys().filter(|locality| ***locality != own).map(|locality| spare(locality)).sum();
    let share = |locality: &Locality| match *locality == own {
        true => kept,
        // Without any room to spare the other zones share alike.
        false if spares == 0 => (WHOLE - kept) / (here.len() as u64 - 1),
        false => (WHOLE - kept) * spare(locality) / spares,
    };
    // A zone without a share stays, for when the others fail.
    let pools = here.iter().map(|(locality, (places, _))| {
        (places.clone().into_boxed_slice(), share(locality), (*locality).clone())
    });
    Some(Tier::in_pools(tier.level, pools.collect(), endpoints))
}
