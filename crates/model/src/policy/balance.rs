//! How an endpoint is chosen: algorithm, hash, warm-up, localities.

use crate::Str;
use std::time::Duration;

/// How an endpoint is chosen.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Balance {
    /// By which algorithm, where no hash decides.
    pub algorithm: BalanceAlgorithm,
    /// The same request goes to the same endpoint.
    pub hash: Option<ConsistentHash>,
    /// New endpoints get their share little by little (round robin and least request only).
    pub warmup: Option<Warmup>,
}

impl From<BalanceAlgorithm> for Balance {
    fn from(algorithm: BalanceAlgorithm) -> Self {
        Self { algorithm, ..Self::default() }
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum BalanceAlgorithm {
    /// The less loaded of two chosen at random.
    #[default]
    LeastRequest,
    /// One after another.
    RoundRobin,
    /// Any.
    Random,
    /// The address that the caller meant.
    Passthrough,
}

/// The same request goes to the same endpoint, as far as endpoints stay the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsistentHash {
    /// What is hashed. A request that has none goes anywhere.
    pub key: HashKey,
    /// By which table.
    pub table: HashTable,
}

/// What is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashKey {
    /// A header; the name in lower case.
    Header(Str),
    /// A cookie. With a lifetime, one is given to requests without it (zero: until the browser closes).
    Cookie {
        /// Its name.
        name: Str,
        /// The path it is given for.
        path: Str,
        /// The lifetime of one that is given.
        ttl: Option<Duration>,
        /// Further attributes of one that is given; an empty value is a flag (`Secure`).
        attributes: Vec<(Str, Str)>,
    },
    /// The caller's address.
    SourceAddress,
    /// A query parameter.
    QueryParameter(Str),
}

/// A table from hashes to endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashTable {
    /// Ring hash (ketama).
    Ring {
        /// The least number of points on the ring.
        minimum_size: u64,
    },
    /// Maglev.
    Maglev {
        /// Its size, a prime.
        size: u64,
    },
}

/// New endpoints get their share little by little (Envoy's slow start).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Warmup {
    /// How long an endpoint is new.
    pub duration: Duration,
    /// The share it begins with, in thousandths of a full one (Istio's default: 10 %).
    pub minimum_permille: u32,
    /// The exponent of the curve, in thousandths; 1,000 is a straight line.
    pub aggression_permille: u32,
}

/// Which localities are preferred.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalityPolicy {
    /// False switches the preference off.
    pub enabled: bool,
    /// How they are preferred.
    pub mode: LocalityMode,
}

/// How localities are preferred.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocalityMode {
    /// The nearest first, others when it fails; needs outlier detection. Same sub-zone, zone, region, then the others.
    Failover {
        /// From a region to the one that takes over for it.
        regions: Vec<(Str, Str)>,
        /// Labels by which endpoints are near (`failoverPriority`): `key`, or `key=value`. Empty is by locality.
        priority: Vec<Str>,
    },
    /// Shares by locality.
    Distribute(Vec<Distribution>),
    /// As much as possible in the own zone, as long as each zone gets its share (Envoy's zone aware routing).
    ZoneAware {
        /// Below so many endpoints it does nothing.
        minimum_cluster_size: u64,
        /// As for failover, when the zone's endpoints fail.
        regions: Vec<(Str, Str)>,
        /// As for failover.
        priority: Vec<Str>,
    },
}

/// Where callers of one locality go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distribution {
    /// The callers: `region/zone/subzone`, each may be `*`, later ones may be missing.
    pub from: Str,
    /// To which localities, written the same way, with weights that sum to 100.
    pub to: Vec<(Str, u32)>,
}
