//! The nouns of the mesh as plain typed values.
//!
//! Both planes share them, so that a route means the same to the one who ships it and to the one who
//! follows it. There is no I/O here, no clock, no wire format, no user-facing schema: text is parsed at
//! the door into types that cannot hold a wrong value, and a change of the mesh is a [`Delta`] that moves
//! a [`Catalog`] from one [`Revision`] to the next.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod backend;
mod catalog;
mod created;
mod credential;
mod delta;
mod filter;
mod gateway;
mod hostname;
mod identity;
mod key;
mod labels;
mod matching;
mod mesh;
mod name;
mod policy;
mod process;
mod resource;
mod route;
mod scope;
mod service;
mod shards;
mod str;
mod workload;

pub use self::str::Str;
pub use address::{AppProtocol, Cidr, MeshAddr};
pub use backend::{Backend, BackendTarget};
pub use catalog::Catalog;
pub use created::Created;
pub use credential::{Credential, Secret};
pub use delta::{Delta, Revision};
pub use filter::{Filter, HeaderEdit};
pub use gateway::{ClientCertificate, Gateway, Listener, ListenerProtocol, ListenerTls};
pub use hostname::{HostPattern, Hostname};
pub use identity::Identity;
pub use key::{Key, Origin, ServiceId};
pub use labels::{Labels, Selector};
pub use matching::{FullRegex, InvalidRegex, NamedMatch, PathMatch, StringMatch};
pub use mesh::{AccessLog, MeshSettings, OutboundPolicy};
pub use name::{
    ClusterId, InvalidName, Namespace, NetworkId, NodeName, ObjectName, ServiceAccount, TrustDomain,
};
pub use policy::{
    Action, AddressMatch, Authorization, AuthorizationRule, BalanceAlgorithm, Condition, ConditionKey,
    DestinationPolicy, MtlsMode, Operation, PeerAuthentication, Policy, PolicyId, PolicyKind, Source, Subset,
    Target, TrafficPolicy,
};
pub use process::{Command, Instance, Probe, ProbeCheck, Process, ProcessPort, RestartPolicy, Run};
pub use resource::{Entry, Kind, Resource, control_identity, mesh_key, role_needs};
pub use route::{Parent, Precedence, RequestMatch, RetryConditions, RetryPolicy, Route, Rule};
pub use scope::{ProxyRole, Scope, Viewer, Visibility};
pub use service::{Location, Service, ServicePort, TargetPort};
pub use shards::Shards;
pub use workload::{Health, Locality, Tunnel, Workload, WorkloadPort};
