//! `ObjectKind`, `ObjectKey`, `Meta`: which user object this is.

use crate::problem::Span;
use lateen_model::{Created, Labels, Namespace, Origin, Str};
use std::collections::BTreeMap;
use std::fmt;

/// The kinds of user object that are known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectKind {
    /// `lateen.dev` Mesh.
    Mesh,
    /// Core Namespace.
    Namespace,
    /// Core ServiceAccount.
    ServiceAccount,
    /// Core Secret.
    Secret,
    /// Core Service.
    Service,
    /// `lateen.dev` Process.
    Process,
    /// `networking.istio.io` Gateway.
    IstioGateway,
    /// `networking.istio.io` VirtualService.
    VirtualService,
    /// `networking.istio.io` DestinationRule.
    DestinationRule,
    /// `networking.istio.io` ServiceEntry.
    ServiceEntry,
    /// `networking.istio.io` WorkloadEntry.
    WorkloadEntry,
    /// `gateway.networking.k8s.io` GatewayClass.
    GatewayClass,
    /// `gateway.networking.k8s.io` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io` GRPCRoute.
    GrpcRoute,
    /// `gateway.networking.k8s.io` ReferenceGrant.
    ReferenceGrant,
    /// `security.istio.io` PeerAuthentication.
    PeerAuthentication,
    /// `security.istio.io` AuthorizationPolicy.
    AuthorizationPolicy,
    /// `security.istio.io` RequestAuthentication.
    RequestAuthentication,
    /// `lateen.dev` RateLimitPolicy.
    RateLimitPolicy,
    /// `lateen.dev` RequestLimitPolicy.
    RequestLimitPolicy,
    /// A kind that is known and not read: the index of its row below.
    Other(u8),
}

/// A row of the table of kinds.
struct Row {
    kind: ObjectKind,
    group: &'static str,
    name: &'static str,
    versions: &'static [&'static str],
}

const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const GATEWAY: &[&str] = &["v1", "v1beta1"];

macro_rules! rows {
    ($($kind:expr, $group:literal, $name:literal, $versions:expr;)*) => {
        &[$(Row { kind: $kind, group: $group, name: $name, versions: $versions }),*]
    };
}

use ObjectKind as K;

const READ: &[Row] = rows! {
    K::Mesh, "lateen.dev", "Mesh", &["v1alpha1"];
    K::Process, "lateen.dev", "Process", &["v1alpha1"];
    K::RateLimitPolicy, "lateen.dev", "RateLimitPolicy", &["v1alpha1"];
    K::RequestLimitPolicy, "lateen.dev", "RequestLimitPolicy", &["v1alpha1"];
    K::Namespace, "", "Namespace", &["v1"];
    K::ServiceAccount, "", "ServiceAccount", &["v1"];
    K::Secret, "", "Secret", &["v1"];
    K::Service, "", "Service", &["v1"];
    K::IstioGateway, "networking.istio.io", "Gateway", NETWORKING;
    K::VirtualService, "networking.istio.io", "VirtualService", NETWORKING;
    K::DestinationRule, "networking.istio.io", "DestinationRule", NETWORKING;
    K::ServiceEntry, "networking.istio.io", "ServiceEntry", NETWORKING;
    K::WorkloadEntry, "networking.istio.io", "WorkloadEntry", NETWORKING;
    K::GatewayClass, "gateway.networking.k8s.io", "GatewayClass", GATEWAY;
    K::Gateway, "gateway.networking.k8s.io", "Gateway", GATEWAY;
    K::HttpRoute, "gateway.networking.k8s.io", "HTTPRoute", GATEWAY;
    K::GrpcRoute, "gateway.networking.k8s.io", "GRPCRoute", &["v1", "v1alpha2"];
    K::ReferenceGrant, "gateway.networking.k8s.io", "ReferenceGrant", GATEWAY;
    K::PeerAuthentication, "security.istio.io", "PeerAuthentication", SECURITY;
    K::AuthorizationPolicy, "security.istio.io", "AuthorizationPolicy", SECURITY;
    K::RequestAuthentication, "security.istio.io", "RequestAuthentication", SECURITY;
};

/// Kinds that are known and not read, so that they are named instead of passed over.
const OTHER: &[Row] = rows! {
    K::Other(0), "apps", "Deployment", &["v1"];
    K::Other(1), "apps", "StatefulSet", &["v1"];
    K::Other(2), "apps", "DaemonSet", &["v1"];
    K::Other(3), "apps", "ReplicaSet", &["v1"];
    K::Other(4), "", "Pod", &["v1"];
    K::Other(5), "batch", "Job", &["v1"];
    K::Other(6), "batch", "CronJob", &["v1"];
    K::Other(7), "networking.istio.io", "Sidecar", NETWORKING;
    K::Other(8), "networking.istio.io", "EnvoyFilter", &["v1alpha3"];
    K::Other(9), "networking.istio.io", "WorkloadGroup", NETWORKING;
    K::Other(10), "networking.istio.io", "ProxyConfig", &["v1beta1"];
    K::Other(11), "gateway.networking.k8s.io", "TLSRoute", &["v1", "v1alpha2", "v1alpha3"];
    K::Other(12), "gateway.networking.k8s.io", "TCPRoute", &["v1", "v1alpha2"];
    K::Other(13), "gateway.networking.k8s.io", "UDPRoute", &["v1", "v1alpha2"];
    K::Other(14), "gateway.networking.k8s.io", "BackendTLSPolicy", &["v1", "v1alpha3"];
    K::Other(15), "gateway.networking.k8s.io", "ListenerSet", &["v1"];
    K::Other(16), "telemetry.istio.io", "Telemetry", &["v1", "v1alpha1"];
    K::Other(17), "extensions.istio.io", "WasmPlugin", &["v1alpha1"];
    K::Other(18), "networking.k8s.io", "Ingress", &["v1"];
    K::Other(19), "networking.k8s.io", "NetworkPolicy", &["v1"];
    K::Other(20), "", "ConfigMap", &["v1"];
    K::Other(21), "", "Endpoints", &["v1"];
    K::Other(22), "discovery.k8s.io", "EndpointSlice", &["v1"];
};

/// The last of the workload kinds in `OTHER`.
const LAST_WORKLOAD: u8 = 6;

impl ObjectKind {
    fn row(self) -> &'static Row {
        match self {
            Self::Other(index) => &OTHER[usize::from(index).min(OTHER.len() - 1)],
            kind => READ.iter().find(|row| row.kind == kind).expect("every kind but Other has a row"),
        }
    }

    fn rows() -> impl Iterator<Item = &'static Row> {
        READ.iter().chain(OTHER)
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        self.row().group
    }

    /// The name of the kind.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The versions that are served.
    pub fn versions(self) -> &'static [&'static str] {
        self.row().versions
    }

    /// The kind with this group and name.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::rows().find(|row| row.group == group && row.name == name).map(|row| row.kind)
    }

    /// Groups of which kinds are known.
    pub(crate) fn groups() -> impl Iterator<Item = &'static str> {
        Self::rows().map(|row| row.group)
    }

    /// Kinds of one group.
    pub(crate) fn names_of(group: &str) -> impl Iterator<Item = &'static str> + use<'_> {
        Self::rows().filter(move |row| row.group == group).map(|row| row.name)
    }

    /// Groups in which this name is a kind.
    pub(crate) fn groups_of(name: &str) -> impl Iterator<Item = &'static str> + use<'_> {
        Self::rows().filter(move |row| row.name == name).map(|row| row.group)
    }

    /// Whether it runs something, so that a Process should be written instead.
    pub fn is_workload(self) -> bool {
        matches!(self, Self::Other(index) if index <= LAST_WORKLOAD)
    }

    /// Whether it protects something, so that not understanding it must not open a door.
    pub fn is_security(self) -> bool {
        matches!(self, Self::PeerAuthentication | Self::AuthorizationPolicy | Self::RequestAuthentication)
    }

    /// Whether it limits requests.
    pub(crate) fn is_limit(self) -> bool {
        matches!(self, Self::RateLimitPolicy | Self::RequestLimitPolicy)
    }

    /// Whether it refers to other objects.
    pub(crate) fn has_references(self) -> bool {
        matches!(
            self,
            Self::RateLimitPolicy
                | Self::RequestLimitPolicy
                | Self::HttpRoute
                | Self::GrpcRoute
                | Self::VirtualService
                | Self::Gateway
                | Self::IstioGateway
                | Self::DestinationRule
        )
    }

    /// Whether it has no namespace.
    pub fn is_cluster_wide(self) -> bool {
        matches!(self, Self::Namespace | Self::Mesh | Self::GatewayClass)
    }

    /// The origin of resources made from it.
    pub fn origin(self) -> Option<Origin> {
        Origin::from_group_kind(self.group(), self.name())
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of one user object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace; `default` for kinds without.
    pub namespace: Namespace,
    /// Its name.
    pub name: Str,
}

impl ObjectKey {
    /// Puts a key together.
    pub fn new(kind: ObjectKind, namespace: Namespace, name: impl Into<Str>) -> Self {
        Self { kind, namespace, name: name.into() }
    }

    /// Reads what `Display` prints, with or without the group.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (name_of_kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        let kind = ObjectKind::find(group, name_of_kind)?;
        if parts.next().is_some() || name.is_empty() {
            return None;
        }
        Some(Self::new(kind, Namespace::parse(namespace).ok()?, name))
    }
}

impl fmt::Display for ObjectKey {
    /// `Kind.group/namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.kind.group().is_empty() { "" } else { "." };
        write!(f, "{}{dot}{}/{}/{}", self.kind, self.kind.group(), self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What every object has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: BTreeMap<Str, Str>,
    /// When it was made.
    pub created: Created,
    /// Where its name stands.
    pub name_span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_name() {
        for row in ObjectKind::rows() {
            assert_eq!(ObjectKind::find(row.group, row.name), Some(row.kind));
            assert_eq!((row.kind.group(), row.kind.name()), (row.group, row.name));
            let key = ObjectKey::new(row.kind, Namespace::default(), "x");
            assert_eq!(ObjectKey::parse(&key.to_string()), Some(key));
        }
    }
}
