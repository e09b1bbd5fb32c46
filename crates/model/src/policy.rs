//! `Policy`: the one envelope for every policy, and what it is attached to.

use crate::{Created, Key, Namespace, ServiceId};

mod authentication;
mod authorization;
mod balance;
mod connections;
mod limits;
mod traffic;

pub use authentication::{MtlsMode, PeerAuthentication};
pub use authorization::{
    Action, AddressMatch, Authorization, AuthorizationRule, Condition, ConditionKey, Operation, Source,
};
pub use balance::{
    Balance, BalanceAlgorithm, ConsistentHash, Distribution, HashKey, HashTable, LocalityMode,
    LocalityPolicy, Warmup,
};
pub use connections::{
    ConnectionPool, H2Upgrade, Http2Keepalive, OutlierDetection, RetryBudget, TcpKeepalive,
};
pub use limits::{Descriptor, LimitRule, RateLimit, RequestLimit};
pub use traffic::{DestinationPolicy, PortPolicy, Subset, TrafficPolicy};

/// A policy is named by the object it was made from.
pub type PolicyId = Key;

/// One envelope for every policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The object it was made from.
    pub id: PolicyId,
    /// What it is attached to.
    pub target: Target,
    /// When the object was made: the older wins where only one may.
    pub created: Created,
    /// What it says.
    pub kind: PolicyKind,
}

/// What a policy is attached to, from the widest to the narrowest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Every workload of the mesh (an object of the root namespace without selector).
    Mesh,
    /// Every workload of a namespace.
    Namespace(Namespace),
    /// The workloads that list it in `Workload::policies` (a selector matched them).
    Selected,
    /// A service, for those who send to it.
    Service(ServiceId),
    /// A gateway.
    Gateway(Key),
    /// A route.
    Route(Key),
}

/// What a policy says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyKind {
    /// Who may do what.
    Authorization(Authorization),
    /// Whether plaintext is taken.
    PeerAuthentication(PeerAuthentication),
    /// How clients treat a host.
    Destination(Box<DestinationPolicy>),
    /// How many requests are taken.
    RateLimit(RateLimit),
    /// How large requests may be.
    RequestLimit(RequestLimit),
}
