//! `Policy`: the one envelope for every policy, and what it is attached to.

use crate::{Created, Key, Namespace, ServiceId};

mod authentication;
mod authorization;
mod traffic;

pub use authentication::{MtlsMode, PeerAuthentication};
pub use authorization::{
    Action, AddressMatch, Authorization, AuthorizationRule, Condition, ConditionKey, Operation, Source,
};
pub use traffic::{BalanceAlgorithm, DestinationPolicy, Subset, TrafficPolicy};

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
}

/// What a policy says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyKind {
    /// Who may do what.
    Authorization(Authorization),
    /// Whether plaintext is taken.
    PeerAuthentication(PeerAuthentication),
    /// How clients treat a host.
    Destination(DestinationPolicy),
}
