//! `Scope` (who needs a resource), `Viewer` (who asks), `Visibility` (who may use a name).

use crate::{Identity, Labels, Namespace, NetworkId, NodeName, Selector, Str};

/// Who needs a resource. A view filters by it and never joins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Every proxy.
    Everyone,
    /// Proxies of workloads in these namespaces.
    Namespaces(Vec<Namespace>),
    /// Proxies of the workloads with these labels, in one namespace or (none named) in all.
    Workloads {
        /// The namespace; none is all.
        namespace: Option<Namespace>,
        /// The labels.
        selector: Selector,
        /// The role that must be played as well, so that a key reaches gateways only.
        role: Option<ProxyRole>,
    },
    /// No proxy: it is for the control plane alone.
    Nobody,
}

impl Scope {
    /// Whether this viewer needs the resource.
    pub fn includes(&self, viewer: &Viewer) -> bool {
        match self {
            Self::Everyone => true,
            Self::Namespaces(namespaces) => namespaces.contains(viewer.namespace()),
            Self::Workloads { namespace, selector, role } => {
                namespace.as_ref().is_none_or(|namespace| namespace == viewer.namespace())
                    && role.is_none_or(|role| role == viewer.role)
                    && selector.matches(&viewer.labels)
            }
            Self::Nobody => false,
        }
    }
}

/// What a proxy plays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProxyRole {
    /// One proxy for all pods of a node.
    Node,
    /// One proxy beside one workload.
    Sidecar,
    /// A proxy in front of services or workloads, inside the mesh.
    Waypoint,
    /// A proxy at the edge.
    Gateway,
}

impl ProxyRole {
    /// The word used in configuration, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Sidecar => "sidecar",
            Self::Waypoint => "waypoint",
            Self::Gateway => "gateway",
        }
    }
}

/// Who asks: a proxy, with what the control plane knows of it from its certificate and registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Viewer {
    /// The role it plays.
    pub role: ProxyRole,
    /// The name of its workload, unique within the namespace.
    pub name: Str,
    /// Who it is.
    pub identity: Identity,
    /// The labels of its workload.
    pub labels: Labels,
    /// The node it runs on.
    pub node: NodeName,
    /// The network it is in.
    pub network: NetworkId,
}

impl Viewer {
    /// The namespace of its workload.
    pub fn namespace(&self) -> &Namespace {
        &self.identity.namespace
    }
}

/// The namespaces that may use a name (`exportTo`).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Visibility {
    /// All (`*`).
    #[default]
    Public,
    /// Only these; its own is named where it belongs (`.`). Empty is nobody (`~`).
    Only(Vec<Namespace>),
}

impl Visibility {
    /// Whether clients of this namespace may use it.
    pub fn allows(&self, namespace: &Namespace) -> bool {
        match self {
            Self::Public => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}
