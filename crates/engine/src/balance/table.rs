//! Tables from hashes to endpoints, equal to Envoy's for the same endpoints in the same order.

use lateen_model::HashTable;
use std::net::SocketAddr;
use twox_hash::XxHash64;

/// The most points of a ring (Envoy's `max_ring_size`); it bounds what one small weight among large ones may cost.
const LARGEST_RING: u64 = 8 * 1024 * 1024;
/// The largest table (Envoy's bound), and the one that is taken when the one asked for is none.
const LARGEST_MAGLEV: u64 = 5_000_011;
const USUAL_MAGLEV: u64 = 65_537;
/// So many steps are gone past endpoints that are out before any other one is taken.
const STEPS: usize = 64;

/// A table from hashes to places in a list of endpoints.
pub(crate) enum Table {
    /// Points in order, and whose they are.
    Ring { points: Box<[u64]>, places: Box<[u32]> },
    /// The place for each remainder.
    Maglev(Box<[u32]>),
}

/// An endpoint to be put into a table.
pub(crate) struct Weighed {
    pub(crate) place: u32,
    pub(crate) address: SocketAddr,
    /// Its part of the whole.
    pub(crate) share: f64,
}

impl Table {
    pub(crate) fn new(kind: HashTable, endpoints: &[Weighed]) -> Option<Self> {
        if endpoints.is_empty() {
            return None;
        }
        Some(match kind {
            HashTable::Ring { minimum_size } => ring(endpoints, minimum_size.clamp(1, LARGEST_RING)),
            HashTable::Maglev { size } if size <= LARGEST_MAGLEV && is_prime(size) => maglev(endpoints, size),
            // Steps through a table that is no prime do not reach every place.
            HashTable::Maglev { .. } => maglev(endpoints, USUAL_MAGLEV),
        })
    }

    /// The place a hash belongs to; if that is not usable the next one that is, within a few steps.
    pub(crate) fn find(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let (first, places) = match self {
            Self::Ring { points, places } => (points.partition_point(|point| *point < hash), places),
            Self::Maglev(places) => (usize::try_from(hash % places.len() as u64).unwrap_or_default(), places),
        };
        let mut at = first;
        for _ in 0..STEPS.min(places.len()) {
            if at >= places.len() {
                at = 0;
            }
            let place = places[at] as usize;
            if usable(place) {
                return Some(place);
            }
            at += 1;
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ring { places, .. } | Self::Maglev(places) => places.len(),
        }
    }
}

fn least(endpoints: &[Weighed]) -> f64 {
    endpoints.iter().map(|endpoint| endpoint.share).fold(1.0, f64::min)
}

/// The points of ketama: each endpoint has as many as its share of the ring, the hashes of `address_0`, `address_1`, ...
/// The ring is as large as it takes to give the least endpoint a whole number of them.
fn ring(endpoints: &[Weighed], minimum_size: u64) -> Table {
    let least = least(endpoints);
    let scale = ((least * minimum_size as f64).ceil() / least).min(LARGEST_RING as f64);
    let mut all: Vec<(u64, u32)> = Vec::with_capacity(scale.ceil() as usize + 1);
    // Running sums, so that parts of points add up to whole ones.
    let (mut count, mut target) = (0.0, 0.0);
    let mut name = String::new();
    for Weighed { place, address, share } in endpoints {
        target += scale * share;
        name.clear();
        name.push_str(&address.to_string());
        name.push('_');
        let stem = name.len();
        let mut index = 0_u64;
        while count < target {
            name.truncate(stem);
            push_decimal(&mut name, index);
            all.push((XxHash64::oneshot(0, name.as_bytes()), *place));
            (index, count) = (index + 1, count + 1.0);
        }
    }
    all.sort_unstable_by_key(|(point, _)| *point);
    let (points, places): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    Table::Ring { points: points.into(), places: places.into() }
}

fn push_decimal(text: &mut String, number: u64) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

/// An endpoint walks through the table in steps of its own and takes the next free place when it is its turn; the heavier
/// it is, the more often that is.
struct Walk {
    place: u32,
    offset: u64,
    step: u64,
    taken: u64,
    share: f64,
    target: f64,
}

fn maglev(endpoints: &[Weighed], size: u64) -> Table {
    const FREE: u32 = u32::MAX;
    let most = endpoints.iter().map(|endpoint| endpoint.share).fold(0.0, f64::max);
    // In the order of their names, as Envoy does it: the table does not depend on how the endpoints came.
    let mut named: Vec<_> =
        endpoints.iter().map(|endpoint| (endpoint.address.to_string(), endpoint)).collect();
    named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let walk = |(name, endpoint): &(String, &Weighed)| {
        let hash = |seed| XxHash64::oneshot(seed, name.as_bytes());
        Walk {
            place: endpoint.place,
            offset: hash(0) % size,
            step: if size > 1 { hash(1) % (size - 1) + 1 } else { 0 },
            taken: 0,
            share: endpoint.share,
            target: 0.0,
        }
    };
    let mut walks: Vec<Walk> = named.iter().map(walk).collect();
    let mut table = vec![FREE; usize::try_from(size).unwrap_or_default()];
    let (mut filled, mut round) = (0, 0.0);
    while filled < table.len() {
        round += 1.0;
        for walk in &mut walks {
            if filled == table.len() {
                break;
            }
            if round * walk.share < walk.target {
                continue;
            }
            walk.target += most;
            let free = loop {
                let at = usize::try_from((walk.offset + walk.step * walk.taken) % size).unwrap_or_default();
                walk.taken += 1;
                if table[at] == FREE {
                    break at;
                }
            };
            table[free] = walk.place;
            filled += 1;
        }
    }
    Table::Maglev(table.into())
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<Weighed> {
        let total: u32 = weights.iter().sum();
        let weighed = |(n, weight): (usize, &u32)| Weighed {
            place: n as u32,
            address: SocketAddr::new([10, 0, (n / 256) as u8, n as u8].into(), 80),
            share: f64::from(*weight) / f64::from(total),
        };
        weights.iter().enumerate().map(weighed).collect()
    }

    fn counts(kind: HashTable, weights: &[u32]) -> Vec<usize> {
        let table = Table::new(kind, &endpoints(weights)).expect("there are some");
        let places = match table {
            Table::Ring { places, .. } | Table::Maglev(places) => places,
        };
        let mut counts = vec![0; weights.len()];
        places.iter().for_each(|place| counts[*place as usize] += 1);
        counts
    }

    #[test]
    fn a_ring_has_points_by_weight() {
        assert_eq!(counts(HashTable::Ring { minimum_size: 1024 }, &[1; 10]), [103; 10]);
        assert_eq!(counts(HashTable::Ring { minimum_size: 8 }, &[1, 2, 1]), [2, 4, 2]);
        assert_eq!(counts(HashTable::Ring { minimum_size: 1 }, &[1; 3]), [1; 3]);
    }

    #[test]
    fn a_maglev_table_is_full_and_shared_by_weight() {
        for count in counts(HashTable::Maglev { size: 65_537 }, &[1; 10]) {
            assert!((6553..=6554).contains(&count), "{count}");
        }
        let uneven = counts(HashTable::Maglev { size: 1009 }, &[1, 3]);
        assert!((250..=254).contains(&uneven[0]), "{uneven:?}");
        // A size with which the steps would not end is not taken.
        assert_eq!(counts(HashTable::Maglev { size: 1024 }, &[1]), [65_537]);
        assert_eq!(counts(HashTable::Maglev { size: 0 }, &[1]), [65_537]);
        assert_eq!(counts(HashTable::Maglev { size: 2 }, &[1, 1, 1]).iter().sum::<usize>(), 2);
    }

    #[test]
    fn hashes_move_only_from_an_endpoint_that_is_out() {
        for kind in [HashTable::Ring { minimum_size: 1024 }, HashTable::Maglev { size: 65_537 }] {
            let table = Table::new(kind, &endpoints(&[1; 7])).expect("there are some");
            for n in 0..5000_u64 {
                let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let before = table.find(hash, |_| true).expect("all are usable");
                let after = table.find(hash, |place| place != 3).expect("six are usable");
                assert!(after != 3 && (before == 3 || before == after));
            }
        }
    }
}
