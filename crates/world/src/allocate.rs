//! Virtual addresses of services: stable, remembered, and the same whatever the order of arrival.
//!
//! A service's place in the range comes from a hash of its name, so that the same objects give the same
//! addresses on every machine; only where two names fall on one place does the first to come keep it.

use crate::settings::Settings;
use lateen_model::ServiceId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which service has which addresses. Kept over restarts, so that callers who remember an address are right.
pub type Allocations = BTreeMap<ServiceId, Vec<IpAddr>>;

/// The first addresses of the range stay free: for the range itself, gateways and name servers.
const RESERVED: u64 = 16;
/// So many places are tried before the range counts as full.
const PROBES: u64 = 4096;

/// Hands out virtual addresses.
pub(crate) struct Allocator {
    by_service: Allocations,
    used: HashMap<IpAddr, ServiceId>,
    /// Those whose author chose the addresses: they are not kept when nobody asks for them any more.
    claimed: HashSet<ServiceId>,
    v4: ipnet::Ipv4Net,
    v6: Option<ipnet::Ipv6Net>,
}

impl Allocator {
    /// Begins with what is remembered, as far as it is still in the ranges.
    pub(crate) fn new(settings: &Settings, remembered: Allocations) -> Self {
        let mut allocator = Self {
            by_service: BTreeMap::new(),
            used: HashMap::new(),
            claimed: HashSet::new(),
            v4: settings.service_range_v4,
            v6: settings.service_range_v6,
        };
        for (service, addresses) in remembered {
            allocator.set(service, addresses);
        }
        allocator
    }

    pub(crate) fn allocations(&self) -> &Allocations {
        &self.by_service
    }

    pub(crate) fn get(&self, service: &ServiceId) -> &[IpAddr] {
        self.by_service.get(service).map_or(&[], Vec::as_slice)
    }

    /// Gives a service the addresses its author asked for. Says which of them another one has.
    pub(crate) fn claim(&mut self, service: &ServiceId, wanted: &[IpAddr]) -> Vec<IpAddr> {
        let taken = |ip: &&IpAddr| self.used.get(*ip).is_some_and(|holder| holder != service);
        let refused: Vec<_> = wanted.iter().filter(taken).copied().collect();
        if refused.is_empty() {
            self.set(service.clone(), wanted.to_vec());
            self.claimed.insert(service.clone());
        } else {
            self.allocate(service);
        }
        refused
    }

    /// Gives a service one address of each family, those it had if they still fit.
    pub(crate) fn allocate(&mut self, service: &ServiceId) {
        if self.claimed.contains(service) {
            self.release(service);
        }
        let had = self.get(service);
        let ours = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => self.v4.contains(ip),
            IpAddr::V6(ip) => self.v6.is_some_and(|range| range.contains(ip)),
        };
        let families = (had.iter().any(IpAddr::is_ipv4), had.iter().any(IpAddr::is_ipv6));
        if had.iter().all(ours) && families == (true, self.v6.is_some()) {
            return;
        }
        self.release(service);
        let name = service.to_string();
        let v4 = self.find(&name, |place| self.v4_at(place));
        let v6 = self.find(&name, |place| self.v6_at(place));
        self.set(service.clone(), v4.into_iter().chain(v6).collect());
    }

    /// Takes the addresses of a service back. Says whether it had any.
    pub(crate) fn release(&mut self, service: &ServiceId) -> bool {
        self.claimed.remove(service);
        let Some(addresses) = self.by_service.remove(service) else { return false };
        for ip in addresses {
            if self.used.get(&ip) == Some(service) {
                self.used.remove(&ip);
            }
        }
        true
    }

    fn set(&mut self, service: ServiceId, addresses: Vec<IpAddr>) {
        self.release(&service);
        for ip in &addresses {
            self.used.entry(*ip).or_insert_with(|| service.clone());
        }
        self.by_service.insert(service, addresses);
    }

    fn find(&self, name: &str, at: impl Fn(u64) -> Option<IpAddr>) -> Option<IpAddr> {
        let start = hash(name);
        (0..PROBES).filter_map(|probe| at(start.wrapping_add(probe))).find(|ip| !self.used.contains_key(ip))
    }

    fn v4_at(&self, place: u64) -> Option<IpAddr> {
        let size = 1u64 << (32 - u32::from(self.v4.prefix_len()));
        let room = size.checked_sub(RESERVED + 1).filter(|room| *room > 0)?;
        let offset = u32::try_from(RESERVED + place % room).ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(u32::from(self.v4.network()) + offset)))
    }

    fn v6_at(&self, place: u64) -> Option<IpAddr> {
        let range = self.v6?;
        let bits = 128 - u32::from(range.prefix_len());
        let room = if bits >= 64 {
            u64::MAX
        } else {
            (1u64 << bits).checked_sub(RESERVED).filter(|room| *room > 0)?
        };
        let offset = RESERVED.saturating_add(place % room);
        Some(IpAddr::V6(Ipv6Addr::from(u128::from(range.network()) + u128::from(offset))))
    }
}

/// FNV-1a: short, and the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    // The low bits of FNV mix badly on short texts that end alike.
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceId {
        ServiceId::parse(&format!("default/{name}.default.svc.cluster.local")).expect("a service")
    }

    fn allocator(v4: &str) -> Allocator {
        let settings = Settings { service_range_v4: v4.parse().expect("a range"), ..Settings::default() };
        Allocator::new(&settings, Allocations::new())
    }

    #[test]
    fn every_service_has_its_own_addresses_until_the_range_is_full() {
        let mut allocator = allocator("10.9.0.0/26");
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..47 {
            let service = service(&format!("s{index}"));
            allocator.allocate(&service);
            let addresses = allocator.get(&service).to_vec();
            assert_eq!(addresses.len(), 2, "{service}");
            assert!(addresses.into_iter().all(|ip| seen.insert(ip)), "{service}");
        }
        allocator.allocate(&service("one-too-many"));
        assert_eq!(allocator.get(&service("one-too-many")).len(), 1, "only IPv6 is left");
    }

    #[test]
    fn a_remembered_address_is_given_again_and_one_outside_of_the_range_is_not() {
        let settings = Settings::default();
        let remembered =
            vec!["240.240.7.7".parse().expect("ip"), "fd6c:6174:6565:6e::77".parse().expect("ip")];
        let mut allocator =
            Allocator::new(&settings, Allocations::from([(service("a"), remembered.clone())]));
        allocator.allocate(&service("a"));
        assert_eq!(allocator.get(&service("a")), remembered);

        let moved = Settings { service_range_v4: "10.1.0.0/16".parse().expect("a range"), ..settings };
        let mut allocator = Allocator::new(&moved, Allocations::from([(service("a"), remembered)]));
        allocator.allocate(&service("a"));
        assert!(allocator.get(&service("a"))[0].to_string().starts_with("10.1."));
    }

    #[test]
    fn an_address_asked_for_is_given_once() {
        let mut allocator = allocator("10.9.0.0/16");
        let wanted = ["10.9.1.1".parse().expect("ip")];
        assert!(allocator.claim(&service("a"), &wanted).is_empty());
        assert_eq!(allocator.claim(&service("b"), &wanted), wanted);
        assert_ne!(allocator.get(&service("b")), wanted);
    }
}
