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
mod format;
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
mod share;
mod str;
mod workload;

pub use self::str::Str;
pub use address::{AppProtocol, Cidr, MeshAddr};
pub use backend::{Backend, BackendTarget};
pub use catalog::Catalog;
pub use created::Created;
pub use credential::{Credential, Secret};
pub use delta::{Delta, Revision};
pub use filter::{
    Abort, Answer, Cors, DirectResponse, FaultInjection, Filter, HeaderEdit, Mirror, PathRewrite, Redirect,
    RedirectPort, RegexRewrite, Rewrite,
};
pub use format::{Format, InvalidFormat, Piece, Variable};
pub use gateway::{ClientCertificate, Gateway, Listener, ListenerProtocol, ListenerTls};
pub use hostname::{HostPattern, Hostname};
pub use identity::Identity;
pub use key::{Key, Origin, ServiceId};
pub use labels::{Labels, Selector};
pub use matching::{FullRegex, InvalidRegex, NamedMatch, PathMatch, StringMatch};
pub use mesh::{AccessLog, MeshSettings, OutboundPolicy, PathNormalization};
pub use name::{
    ClusterId, InvalidName, Namespace, NetworkId, NodeName, ObjectName, ServiceAccount, TrustDomain,
};
pub use policy::{
    Action, AddressMatch, Authorization, AuthorizationRule, Balance, BalanceAlgorithm, Condition,
    ConditionKey, ConnectionPool, ConsistentHash, Descriptor, DestinationPolicy, Distribution, H2Upgrade,
    HashKey, HashTable, Http2Keepalive, LimitRule, LocalityMode, LocalityPolicy, MtlsMode, Operation,
    OutlierDetection, PeerAuthentication, Policy, PolicyId, PolicyKind, PortPolicy, RateLimit, RequestLimit,
    RetryBudget, Source, Subset, Target, TcpKeepalive, TrafficPolicy, Warmup,
};
pub use process::{Command, Instance, Probe, ProbeCheck, Process, ProcessPort, RestartPolicy, Run};
pub use resource::{Entry, Kind, Resource, control_identity, mesh_key, role_needs};
pub use route::{
    Parent, Precedence, RequestMatch, RetryConditions, RetryPolicy, Route, Rule, SessionPersistence,
    SessionToken,
};
pub use scope::{ProxyRole, Scope, Viewer, Visibility};
pub use service::{Location, Resolution, Service, ServicePort, TargetPort};
pub use shards::Shards;
pub use share::Share;
pub use workload::{Health, Locality, Tunnel, Workload, WorkloadPort};
