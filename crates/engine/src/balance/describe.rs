//! A choice as people are told of it.

use super::Ask;
use super::locality::Plan;
use super::warmup::share;
use crate::endpoints::{Endpoint, Group};
use crate::snapshot::Snapshot;
use crate::trace::{Candidate, Step};
use lateen_model::{BalanceAlgorithm, ConsistentHash, HashKey, HashTable, Locality};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// As many candidates are named in an explanation.
const NAMED: usize = 32;

impl Group {
    pub(super) fn describe(&self, ask: &Ask<'_>, snapshot: &Snapshot) -> Step {
        let places = self.layout.place_names();
        let candidate = |place: Option<usize>, endpoint: &Arc<Endpoint>| Candidate {
            address: endpoint.address.to_string(),
            workload: format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
            weight: endpoint.weight,
            against: self.against(place, endpoint, ask, &places),
        };
        let ready = self.ready.iter().enumerate().map(|(place, endpoint)| candidate(Some(place), endpoint));
        let idle = self.idle.iter().map(|endpoint| candidate(None, endpoint));
        Step::Candidates {
            backend: self.spec.name.to_string(),
            balance: self.balance_words(ask),
            total: self.ready.len() + self.idle.len(),
            tiers: self.tier_words(snapshot),
            endpoints: ready.chain(idle).take(NAMED).collect(),
        }
    }

    fn against(
        &self,
        place: Option<usize>,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        places: &BTreeMap<usize, (usize, usize)>,
    ) -> Option<String> {
        let reasons = [
            (endpoint.weight == 0, "weight 0"),
            (!endpoint.ready && endpoint.weight > 0, "not ready"),
            (ask.excluded.contains(endpoint.address), "tried already"),
            (ask.out.is_some_and(|out| out.contains(endpoint.address)), "ejected by outlier detection"),
        ];
        if let Some(why) = reasons.into_iter().find_map(|(holds, why)| holds.then(|| why.to_owned())) {
            return Some(why);
        }
        match places.get(&place?) {
            None => Some("no locality that gets a share".to_owned()),
            Some((0, _)) => self.warm_words(endpoint, ask),
            Some((tier, _)) => Some(format!("priority {tier}: only when those before it fail")),
        }
    }

    fn warm_words(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Option<String> {
        let warmup = self.warmup.as_ref()?;
        let share = share(warmup, ask.load.now().saturating_sub(endpoint.since));
        (share < 1.0).then(|| format!("new: {:.0} % of its weight", share * 100.0))
    }

    fn balance_words(&self, ask: &Ask<'_>) -> String {
        let balance = self.spec.traffic.balance.as_ref();
        let mut text = match balance.and_then(|balance| balance.hash.as_ref()) {
            Some(hash) => hash_words(
                hash,
                ask.preference.hash,
                self.layout.tiers.first().and_then(|tier| tier.table.as_ref().map(super::table::Table::len)),
            ),
            None => balance_name(self.algorithm).to_owned(),
        };
        if let Some(warmup) = &self.warmup {
            let _ = write!(text, "; new endpoints warm up for {:?}", warmup.duration);
        }
        text
    }

    /// The tiers in words, unless there is nothing to tell.
    fn tier_words(&self, snapshot: &Snapshot) -> Vec<String> {
        let plan = Plan::of(&self.spec.traffic);
        if plan.is_flat()
            || self.layout.is_plain() && self.layout.tiers.first().is_none_or(|tier| tier.level == 0)
        {
            return Vec::new();
        }
        let own = snapshot.own().map(|own| locality_words(&own.locality)).unwrap_or_default();
        let tier = |(at, tier): (usize, &super::layout::Tier)| {
            let mut text = format!("priority {at}: {} ({} endpoints)", plan.describe(tier.level), tier.size);
            let shares: u64 = tier.pools.iter().map(|pool| pool.share).sum();
            for pool in &tier.pools {
                if let Some(locality) = &pool.locality {
                    let percent = pool.share * 100 / shares.max(1);
                    let _ = write!(text, "; {percent} % to {}", locality_words(locality));
                }
            }
            text
        };
        let mut words = vec![format!("seen from {own}")];
        words.extend(self.layout.tiers.iter().enumerate().map(tier));
        words
    }
}

fn locality_words(locality: &Locality) -> String {
    if *locality == Locality::default() {
        return "no locality".to_owned();
    }
    let parts = [&locality.region, &locality.zone, &locality.subzone];
    let parts: Vec<&str> = parts.into_iter().map(|part| &**part).filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

fn hash_words(policy: &ConsistentHash, hash: Option<u64>, size: Option<usize>) -> String {
    let key = match &policy.key {
        HashKey::Header(name) => format!("header {name}"),
        HashKey::Cookie { name, .. } => format!("cookie {name}"),
        HashKey::SourceAddress => "the caller's address".to_owned(),
        HashKey::QueryParameter(name) => format!("query parameter {name}"),
    };
    let table = match policy.table {
        HashTable::Ring { .. } => "ring",
        HashTable::Maglev { .. } => "maglev table",
    };
    let size = size.map_or_else(String::new, |size| format!(" of {size}"));
    let value = hash.map_or_else(|| "the request has none, so any".to_owned(), |hash| format!("{hash:016x}"));
    format!("hash of {key} ({value}) in a {table}{size}")
}

fn balance_name(algorithm: BalanceAlgorithm) -> &'static str {
    match algorithm {
        BalanceAlgorithm::LeastRequest => "least request",
        BalanceAlgorithm::RoundRobin => "round robin",
        BalanceAlgorithm::Random => "random",
        BalanceAlgorithm::Passthrough => "passthrough",
    }
}
