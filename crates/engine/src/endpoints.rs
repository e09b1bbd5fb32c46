//! `Group`: the endpoints of a service port, or of a subset of it.

use crate::balance::layout::Layout;
use crate::balance::locality::{Home, Plan};
use crate::balance::token;
use crate::{Accept, Hop};
use lateen_model::{
    BalanceAlgorithm, ConsistentHash, Health, Identity, Key, NetworkId, Selector, Service, ServiceId, Str,
    TrafficPolicy, Tunnel, Warmup, Workload,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The port on which workloads take HBONE.
const HBONE_PORT: u16 = 15008;

/// What names a group for routes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct GroupName {
    pub(crate) service: ServiceId,
    pub(crate) port: u16,
    pub(crate) subset: Option<Str>,
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service.hostname, self.port)?;
        self.subset.as_ref().map_or(Ok(()), |subset| write!(f, " subset {subset}"))
    }
}

/// What of a group does not depend on its endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GroupSpec {
    pub(crate) name: GroupName,
    pub(crate) labels: Selector,
    /// All that its clients' policies say of it, merged: how an endpoint is chosen and reached.
    pub(crate) traffic: Arc<TrafficPolicy>,
}

impl GroupSpec {
    pub(crate) fn algorithm(&self) -> BalanceAlgorithm {
        self.traffic.balance.as_ref().map_or_else(BalanceAlgorithm::default, |balance| balance.algorithm)
    }

    pub(crate) fn hash(&self) -> Option<&ConsistentHash> {
        self.traffic.balance.as_ref()?.hash.as_ref()
    }

    /// Only where turns or loads decide can a share be less than a whole one.
    fn warmup(&self) -> Option<Warmup> {
        let by_share =
            matches!(self.algorithm(), BalanceAlgorithm::RoundRobin | BalanceAlgorithm::LeastRequest);
        self.traffic.balance.as_ref()?.warmup.filter(|_| by_share && self.hash().is_none())
    }
}

/// The endpoints of a service port, in the order of their workloads' keys.
pub(crate) struct Group {
    pub(crate) spec: Arc<GroupSpec>,
    pub(crate) ready: Vec<Arc<Endpoint>>,
    pub(crate) idle: Vec<Arc<Endpoint>>,
    /// The addresses of those that are ready, side by side: a choice looks at several of them.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What names each of those in a session.
    pub(crate) tokens: Vec<u64>,
    pub(crate) layout: Layout,
    pub(crate) algorithm: BalanceAlgorithm,
    pub(crate) warmup: Option<Warmup>,
    /// Below so many per cent of endpoints that are not ejected, ejections are disregarded.
    pub(crate) panic_percent: u8,
    /// When the first and the last of those that are ready came.
    pub(crate) eldest: Duration,
    pub(crate) newest: Duration,
}

/// An endpoint.
#[derive(PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) key: Key,
    pub(crate) address: SocketAddr,
    pub(crate) hop: Hop,
    pub(crate) weight: u32,
    pub(crate) ready: bool,
    pub(crate) workload: Arc<Workload>,
    /// What names it in a session.
    pub(crate) token: u64,
    /// When it became ready, by the clock of who compiles.
    pub(crate) since: Duration,
}

/// What may change about the endpoints of a service port: workloads that came, changed, or (none) went.
pub(crate) type Edits = [(Key, Option<Arc<Endpoint>>)];

impl Group {
    pub(crate) fn empty(spec: Arc<GroupSpec>) -> Self {
        let hash = spec.hash();
        Self {
            ready: Vec::new(),
            idle: Vec::new(),
            addresses: Vec::new(),
            tokens: Vec::new(),
            layout: Layout::default(),
            // Without anything to hash a request may go anywhere, as in Envoy.
            algorithm: if hash.is_some() { BalanceAlgorithm::Random } else { spec.algorithm() },
            warmup: spec.warmup(),
            panic_percent: spec.traffic.outliers.as_ref().map_or(0, |outliers| outliers.min_health_percent),
            eldest: Duration::ZERO,
            newest: Duration::ZERO,
            spec,
        }
    }

    /// The group after edits, which stand in the order of keys, as seen from `home`.
    pub(crate) fn with(&self, edits: &Edits, home: &Home) -> Self {
        let wanted = |endpoint: &Arc<Endpoint>| self.spec.labels.matches(&endpoint.workload.labels);
        let ready = merge(&self.ready, edits, |endpoint| endpoint.ready && wanted(endpoint));
        let idle = merge(&self.idle, edits, |endpoint| !endpoint.ready && wanted(endpoint));
        let times = || ready.iter().map(|endpoint| endpoint.since);
        let table = self.spec.hash().map(|hash| hash.table);
        Self {
            spec: Arc::clone(&self.spec),
            addresses: ready.iter().map(|endpoint| endpoint.address).collect(),
            tokens: ready.iter().map(|endpoint| endpoint.token).collect(),
            layout: Layout::new(&Plan::of(&self.spec.traffic), table, &ready, home),
            eldest: times().min().unwrap_or_default(),
            newest: times().max().unwrap_or_default(),
            ready,
            idle,
            ..*self
        }
    }

    /// Whether it depends on where the viewer is.
    pub(crate) fn looks_from_home(&self) -> bool {
        !Plan::of(&self.spec.traffic).is_flat()
    }
}

fn merge(
    old: &[Arc<Endpoint>],
    edits: &Edits,
    wanted: impl Fn(&Arc<Endpoint>) -> bool,
) -> Vec<Arc<Endpoint>> {
    let mut merged = Vec::with_capacity(old.len() + edits.len());
    let mut rest = old;
    for (key, new) in edits {
        let before = rest.partition_point(|endpoint| endpoint.key < *key);
        merged.extend_from_slice(&rest[..before]);
        rest = &rest[before..];
        if rest.first().is_some_and(|endpoint| endpoint.key == *key) {
            rest = &rest[1..];
        }
        merged.extend(new.iter().filter(|endpoint| wanted(endpoint)).cloned());
    }
    merged.extend_from_slice(rest);
    merged
}

impl Endpoint {
    /// A workload as an endpoint of a service port, if it answers for it and can be reached from this network.
    pub(crate) fn new(
        key: &Key,
        workload: &Arc<Workload>,
        service: &Service,
        id: &ServiceId,
        port: u16,
        network: &NetworkId,
        since: Duration,
    ) -> Option<Self> {
        let ports = workload.services.get(id)?;
        let target = ports.iter().find(|mapped| mapped.service_port == port)?.target_port;
        let ip = *workload.addresses.first().filter(|_| workload.network == *network)?;
        let address = SocketAddr::new(ip, target);
        Some(Self {
            key: key.clone(),
            address,
            hop: way(workload, address, &service.subject_alt_names),
            weight: workload.weight,
            ready: workload.weight > 0 && (workload.health == Health::Healthy || service.publish_not_ready),
            workload: Arc::clone(workload),
            token: token(address),
            since,
        })
    }
}

/// How a port of a workload is reached. Whoever answers must be the workload, or (for a service that says
/// so) one of the further identities; names that are no SPIFFE ids are for TLS that is not ours.
pub(crate) fn way(workload: &Workload, address: SocketAddr, subject_alt_names: &[Str]) -> Hop {
    match workload.tunnel {
        Tunnel::None | Tunnel::IstioMtls => Hop::Plain(address),
        Tunnel::Hbone => {
            let further = subject_alt_names.iter().filter_map(|name| Identity::parse(name).ok());
            let accept = std::iter::once(workload.identity()).chain(further).collect();
            Hop::Hbone {
                addr: SocketAddr::new(address.ip(), HBONE_PORT),
                authority: address,
                accept: Accept(accept),
            }
        }
    }
}
