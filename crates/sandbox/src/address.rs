//! The address book: which pod and which service has which address, the same after every restart.
//!
//! A name gets the slot that its hash names, or the next free one, and keeps it; the slot counts from the
//! beginning of the range, in IPv4 and IPv6 alike. The default ranges are those that nobody routes (RFC 2544's
//! benchmark network) and a unique local prefix, so that a VPN or a container network of the machine stays
//! reachable beside them. Plain mode takes blocks of the loopback instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The networks that addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Pods over IPv4.
    pub pods: Ipv4Net,
    /// Pods over IPv6.
    pub pods6: Ipv6Net,
    /// Services over IPv4.
    pub services: Ipv4Net,
    /// Services over IPv6.
    pub services6: Ipv6Net,
}

impl Default for Ranges {
    fn default() -> Ranges {
        // The IPv6 prefixes spell the project's name in ASCII.
        let ula = |subnet| Ipv6Addr::new(0xfd6c, 0x6174, 0x6565, subnet, 0, 0, 0, 0);
        let net6 = |subnet| Ipv6Net::new(ula(subnet), 64).expect("64 is a length of IPv6");
        let net =
            |second| Ipv4Net::new(Ipv4Addr::new(198, second, 0, 0), 16).expect("16 is a length of IPv4");
        Ranges { pods: net(18), pods6: net6(0x6e01), services: net(19), services6: net6(0x6e02) }
    }
}

impl Ranges {
    /// Checks that pods and services cannot be confused and that there is room.
    fn check(&self) -> Result<(), Error> {
        let overlap = |one: IpNet, other: IpNet| one.contains(&other) || other.contains(&one);
        if overlap(self.pods.into(), self.services.into())
            || overlap(self.pods6.into(), self.services6.into())
        {
            return Err(Error::Ranges("the ranges of pods and services overlap".into()));
        }
        for (length, longest) in [
            (self.pods.prefix_len(), 28),
            (self.services.prefix_len(), 28),
            (self.pods6.prefix_len(), 112),
            (self.services6.prefix_len(), 112),
        ] {
            if length > longest {
                return Err(Error::Ranges(format!(
                    "a range of /{length} is too small; /{longest} is the least"
                )));
            }
        }
        Ok(())
    }
}

/// An address in each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Over IPv4.
    pub v4: Ipv4Addr,
    /// Over IPv6.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// Both.
    pub fn all(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Why an address book cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{verb} the address book {path}")]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ranges make no sense.
    #[error("{0}")]
    Ranges(String),
    /// Every address is taken.
    #[error("the range of {0} is full; choose a larger one")]
    Full(&'static str),
}

/// The book.
#[derive(Debug)]
pub struct AddressBook {
    path: PathBuf,
    written: Book,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    #[serde(default)]
    ranges: Ranges,
    #[serde(default)]
    pods: BTreeMap<String, u32>,
    #[serde(default)]
    services: BTreeMap<String, u32>,
    /// Plain mode: a pod's block.
    #[serde(default)]
    blocks: BTreeMap<String, u32>,
    /// Plain mode: the services that a pod names, in the order of their addresses.
    #[serde(default)]
    block_services: BTreeMap<String, Vec<String>>,
}

/// Slot 0 is the network's own address, slot 1 of the pods is the bridge.
const GATEWAY: u32 = 1;
const FIRST: u32 = 2;
/// 127.64.0.0/10 has this many blocks of /22.
const BLOCKS: u32 = 1 << 12;
const BLOCK_LENGTH: u8 = 22;
const PLAIN: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);

impl AddressBook {
    /// Opens the book at `path`; a missing file is an empty book. `ranges` replaces the stored ranges, and
    /// addresses that do not fit are then given anew.
    pub fn open(path: impl Into<PathBuf>, ranges: Option<Ranges>) -> Result<AddressBook, Error> {
        let path = path.into();
        let failed = |source| Error::File { verb: "read", path: path.clone(), source };
        let mut written = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Book>(&bytes).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Book::default(),
            Err(error) => return Err(failed(error)),
        };
        if let Some(ranges) = ranges {
            written.ranges = ranges;
        }
        written.ranges.check()?;
        written.drop_impossible();
        Ok(AddressBook { path, written })
    }

    /// The ranges in use.
    pub fn ranges(&self) -> Ranges {
        self.written.ranges
    }

    /// The bridge's own addresses, each with the length of the pod network.
    pub fn gateways(&self) -> Vec<IpNet> {
        let Ranges { pods, pods6, .. } = self.written.ranges;
        with_lengths(addresses(pods, pods6, GATEWAY), pods, pods6)
    }

    /// The addresses of the pod called `name`, each with the length of the pod network.
    pub fn pod(&mut self, name: &str) -> Result<Vec<IpNet>, Error> {
        let Ranges { pods, pods6, .. } = self.written.ranges;
        let slot = take(&mut self.written.pods, name, slots(pods, pods6)).ok_or(Error::Full("pods"))?;
        Ok(with_lengths(addresses(pods, pods6, slot), pods, pods6))
    }

    /// The addresses of the service called `name` (by convention `name.namespace`).
    pub fn service(&mut self, name: &str) -> Result<Addresses, Error> {
        let Ranges { services, services6, .. } = self.written.ranges;
        let free = slots(services, services6);
        let slot = take(&mut self.written.services, name, free).ok_or(Error::Full("services"))?;
        Ok(addresses(services, services6, slot))
    }

    /// Plain mode: the address that stands for the pod called `name`, the first of its block.
    pub fn plain_pod(&mut self, name: &str) -> Result<Ipv4Addr, Error> {
        let block = take(&mut self.written.blocks, name, 1..BLOCKS).ok_or(Error::Full("plain pods"))?;
        Ok(Ipv4Addr::from_bits(PLAIN.to_bits() + (block << (32 - BLOCK_LENGTH))))
    }

    /// Plain mode: the address in the block of `pod` that stands for `service`.
    pub fn plain_service(&mut self, pod: &str, service: &str) -> Result<Ipv4Addr, Error> {
        let first = self.plain_pod(pod)?;
        let named = self.written.block_services.entry(pod.into()).or_default();
        let index = match named.iter().position(|known| known == service) {
            Some(index) => index,
            None => {
                named.push(service.into());
                named.len() - 1
            }
        };
        match u32::try_from(index + 1) {
            Ok(offset) if offset < 1 << (32 - BLOCK_LENGTH) => {
                Ok(Ipv4Addr::from_bits(first.to_bits() + offset))
            }
            _ => Err(Error::Full("the services of one plain pod")),
        }
    }

    /// Forgets all names but these, so that a long life does not fill the ranges.
    pub fn retain(&mut self, pods: &BTreeSet<String>, services: &BTreeSet<String>) {
        self.written.pods.retain(|name, _| pods.contains(name));
        self.written.blocks.retain(|name, _| pods.contains(name));
        self.written.block_services.retain(|name, _| pods.contains(name));
        self.written.services.retain(|name, _| services.contains(name));
    }

    /// Writes the book: whole or not at all, readable by its owner only.
    pub fn save(&self) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(&self.written).expect("names and numbers are JSON");
        write_atomically(&self.path, &bytes).map_err(|source| Error::File {
            verb: "write",
            path: self.path.clone(),
            source,
        })
    }
}

impl Book {
    /// Drops what a change of ranges or a hand in the file made impossible.
    fn drop_impossible(&mut self) {
        let Ranges { pods, pods6, services, services6 } = self.ranges;
        keep_distinct(&mut self.pods, slots(pods, pods6));
        keep_distinct(&mut self.services, slots(services, services6));
        keep_distinct(&mut self.blocks, 1..BLOCKS);
    }
}

fn keep_distinct(taken: &mut BTreeMap<String, u32>, allowed: std::ops::Range<u32>) {
    let mut seen = BTreeSet::new();
    taken.retain(|_, slot| allowed.contains(slot) && seen.insert(*slot));
}

/// The slots of a range: as many as the smaller family has, without the network, bridge and broadcast.
fn slots(v4: Ipv4Net, v6: Ipv6Net) -> std::ops::Range<u32> {
    let bits = (32 - v4.prefix_len()).min(128 - v6.prefix_len()).min(24);
    FIRST..(1 << bits) - 1
}

fn addresses(v4: Ipv4Net, v6: Ipv6Net, slot: u32) -> Addresses {
    Addresses {
        v4: Ipv4Addr::from_bits(v4.network().to_bits() + slot),
        v6: Ipv6Addr::from_bits(v6.network().to_bits() + u128::from(slot)),
    }
}

fn with_lengths(addresses: Addresses, v4: Ipv4Net, v6: Ipv6Net) -> Vec<IpNet> {
    let v4 = Ipv4Net::new(addresses.v4, v4.prefix_len()).expect("the length is that of a network");
    let v6 = Ipv6Net::new(addresses.v6, v6.prefix_len()).expect("the length is that of a network");
    vec![v4.into(), v6.into()]
}

/// The slot of `name`: the one it has, or the first free one from where its hash points.
fn take(taken: &mut BTreeMap<String, u32>, name: &str, allowed: std::ops::Range<u32>) -> Option<u32> {
    if let Some(slot) = taken.get(name) {
        return Some(*slot);
    }
    let used: BTreeSet<u32> = taken.values().copied().collect();
    let count = allowed.end - allowed.start;
    let start = u32::try_from(hash(name) % u64::from(count)).expect("less than a u32");
    let mut candidates = (0..count).map(|step| allowed.start + (start + step) % count);
    let slot = candidates.find(|slot| !used.contains(slot))?;
    taken.insert(name.into(), slot);
    Some(slot)
}

/// FNV-1a: the same in every release, which the standard hasher does not promise.
fn hash(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let written = (|| {
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn book(directory: &tempfile::TempDir) -> AddressBook {
        AddressBook::open(directory.path().join("addresses.json"), None).unwrap()
    }

    #[test]
    fn a_name_keeps_its_addresses_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = book(&directory);
        let (pod, service) = (first.pod("cart-0.shop").unwrap(), first.service("cart.shop").unwrap());
        let (plain, other) = (first.plain_pod("a").unwrap(), first.plain_service("a", "cart.shop").unwrap());
        assert_eq!(other.to_bits(), plain.to_bits() + 1);
        first.save().unwrap();
        let mut second = book(&directory);
        second.pod("another-0.shop").unwrap();
        assert_eq!(second.pod("cart-0.shop").unwrap(), pod);
        assert_eq!(second.service("cart.shop").unwrap(), service);
        assert_eq!(second.plain_service("a", "cart.shop").unwrap(), other);
    }

    #[test]
    fn the_same_name_gets_the_same_address_in_every_new_book() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(book(&directory).pod("x").unwrap(), book(&directory).pod("x").unwrap());
        assert_eq!(book(&directory).gateways()[0].to_string(), "198.18.0.1/16");
    }

    #[test]
    fn ranges_that_overlap_or_are_too_small_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = |ranges| AddressBook::open(directory.path().join("a"), Some(ranges)).map(drop);
        let overlapping = Ranges { services: "198.18.4.0/24".parse().unwrap(), ..Ranges::default() };
        assert!(matches!(open(overlapping), Err(Error::Ranges(_))));
        let small = Ranges { pods: "10.9.0.0/30".parse().unwrap(), ..Ranges::default() };
        assert!(matches!(open(small), Err(Error::Ranges(_))));
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("addresses.json");
        fs::write(&path, "{").unwrap();
        let error = AddressBook::open(&path, None).unwrap_err();
        assert!(error.to_string().contains("addresses.json"), "{error}");
    }

    #[test]
    fn a_full_range_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let ranges = Ranges { pods: "10.9.0.0/28".parse().unwrap(), ..Ranges::default() };
        let mut book = AddressBook::open(directory.path().join("a"), Some(ranges)).unwrap();
        for index in 0..13 {
            book.pod(&index.to_string()).unwrap();
        }
        assert!(matches!(book.pod("more"), Err(Error::Full("pods"))));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(names in proptest::collection::btree_set("[a-z]{1,4}", 0..60)) {
            let directory = tempfile::tempdir().unwrap();
            let mut book = book(&directory);
            let pods: BTreeSet<IpNet> = names.iter().flat_map(|name| book.pod(name).unwrap()).collect();
            let plain: BTreeSet<_> = names.iter().map(|name| book.plain_pod(name).unwrap()).collect();
            prop_assert_eq!((pods.len(), plain.len()), (names.len() * 2, names.len()));
            prop_assert!(pods.is_disjoint(&book.gateways().into_iter().collect()));
        }
    }
}
