//! `Key`: the name of a resource, unique in the whole mesh.

use crate::{ClusterId, Hostname, Namespace, Str};
use std::fmt;

/// The user object (or registered thing) that a resource was made from. HTTPRoute `a/x` and
/// VirtualService `a/x` are two kinds, so they are two keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// `lateen.dev` Mesh.
    Mesh,
    /// Core Service.
    Service,
    /// `networking.istio.io` ServiceEntry.
    ServiceEntry,
    /// `networking.istio.io` WorkloadEntry.
    WorkloadEntry,
    /// A running process or pod that was registered.
    Instance,
    /// `lateen.dev` Process.
    Process,
    /// `gateway.networking.k8s.io` Gateway.
    Gateway,
    /// `networking.istio.io` Gateway.
    IstioGateway,
    /// `gateway.networking.k8s.io` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io` GRPCRoute.
    GrpcRoute,
    /// `networking.istio.io` VirtualService.
    VirtualService,
    /// `networking.istio.io` DestinationRule.
    DestinationRule,
    /// `security.istio.io` PeerAuthentication.
    PeerAuthentication,
    /// `security.istio.io` AuthorizationPolicy.
    AuthorizationPolicy,
    /// `security.istio.io` RequestAuthentication.
    RequestAuthentication,
    /// Core Secret.
    Secret,
    /// `lateen.dev` RateLimitPolicy.
    RateLimitPolicy,
    /// `lateen.dev` RequestLimitPolicy.
    RequestLimitPolicy,
}

impl Origin {
    /// Every origin, in order.
    pub const ALL: [Self; 18] = [
        Self::Mesh,
        Self::Service,
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::Instance,
        Self::Process,
        Self::Gateway,
        Self::IstioGateway,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::VirtualService,
        Self::DestinationRule,
        Self::PeerAuthentication,
        Self::AuthorizationPolicy,
        Self::RequestAuthentication,
        Self::Secret,
        Self::RateLimitPolicy,
        Self::RequestLimitPolicy,
    ];

    /// API group and kind, the two middle parts of a key.
    pub fn group_kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Mesh => ("lateen.dev", "Mesh"),
            Self::Service => ("", "Service"),
            Self::ServiceEntry => ("networking.istio.io", "ServiceEntry"),
            Self::WorkloadEntry => ("networking.istio.io", "WorkloadEntry"),
            Self::Instance => ("lateen.dev", "Instance"),
            Self::Process => ("lateen.dev", "Process"),
            Self::Gateway => ("gateway.networking.k8s.io", "Gateway"),
            Self::IstioGateway => ("networking.istio.io", "Gateway"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "HTTPRoute"),
            Self::GrpcRoute => ("gateway.networking.k8s.io", "GRPCRoute"),
            Self::VirtualService => ("networking.istio.io", "VirtualService"),
            Self::DestinationRule => ("networking.istio.io", "DestinationRule"),
            Self::PeerAuthentication => ("security.istio.io", "PeerAuthentication"),
            Self::AuthorizationPolicy => ("security.istio.io", "AuthorizationPolicy"),
            Self::RequestAuthentication => ("security.istio.io", "RequestAuthentication"),
            Self::Secret => ("", "Secret"),
            Self::RateLimitPolicy => ("lateen.dev", "RateLimitPolicy"),
            Self::RequestLimitPolicy => ("lateen.dev", "RequestLimitPolicy"),
        }
    }

    /// The origin with this group and kind.
    pub fn from_group_kind(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.group_kind() == (group, kind))
    }
}

/// The name of a resource: `cluster/group/kind/namespace/name[/section]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The object it was made from.
    pub origin: Origin,
    /// The cluster the object lives in.
    pub cluster: ClusterId,
    /// The namespace of the object; a cluster-wide object has the root namespace.
    pub namespace: Namespace,
    /// The name of the object.
    pub name: Str,
    /// Which part of the object, when one object gives several resources (a host of a ServiceEntry).
    pub section: Option<Str>,
}

impl Key {
    /// The key of an object in the default cluster.
    pub fn new(origin: Origin, namespace: Namespace, name: impl Into<Str>) -> Self {
        Self { origin, cluster: ClusterId::default(), namespace, name: name.into(), section: None }
    }

    /// The key of one part of the same object.
    #[must_use]
    pub fn section(mut self, section: impl Into<Str>) -> Self {
        self.section = Some(section.into());
        self
    }

    /// Reads the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, '/');
        let cluster = ClusterId::parse(parts.next()?).ok()?;
        let origin = Origin::from_group_kind(parts.next()?, parts.next()?)?;
        let namespace = Namespace::parse(parts.next()?).ok()?;
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some(Self { origin, cluster, namespace, name: name.into(), section: parts.next().map(Str::from) })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, kind) = self.origin.group_kind();
        write!(f, "{}/{group}/{kind}/{}/{}", self.cluster, self.namespace, self.name)?;
        self.section.as_ref().map_or(Ok(()), |section| write!(f, "/{section}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a service for those who send to it: `namespace/hostname`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// The namespace it is declared in.
    pub namespace: Namespace,
    /// Its fully qualified host name.
    pub hostname: Hostname,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServiceId {
    /// Reads `namespace/hostname`.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, hostname) = text.split_once('/')?;
        Some(Self { namespace: Namespace::parse(namespace).ok()?, hostname: Hostname::parse(hostname).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse() {
        for origin in Origin::ALL {
            let key = Key::new(origin, Namespace::default(), "x.y").section("a/b");
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        let text = "Kubernetes//Service/shop/cart";
        assert_eq!(Key::parse(text).unwrap().to_string(), text);
        for wrong in ["", "a/b/c", "Kubernetes//Pod/a/b", "Kubernetes//Service/A/b", "Kubernetes//Service/a/"]
        {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
    }
}
