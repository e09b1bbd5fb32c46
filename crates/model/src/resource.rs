//! `Resource`: the sum of all nouns.

use crate::{
    Credential, Gateway, Identity, Key, MeshSettings, Origin, Policy, PolicyKind, Process, ProxyRole, Route,
    Scope, Service, Workload,
};

/// Anything the mesh is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Settings of the whole mesh; there is one.
    Mesh(MeshSettings),
    /// An instance.
    Workload(Workload),
    /// A name that callers use.
    Service(Service),
    /// A place where traffic enters.
    Gateway(Gateway),
    /// Where requests go.
    Route(Route),
    /// Any policy.
    Policy(Policy),
    /// Certificate and key of listeners.
    Credential(Credential),
    /// What should run; no proxy sees it.
    Process(Process),
}

/// The kinds of resource, in the order in which they are shipped: names before what refers to them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// [`MeshSettings`].
    Mesh,
    /// [`Policy`] of the kind authorization or authentication.
    Security,
    /// [`Service`].
    Service,
    /// [`Workload`].
    Workload,
    /// [`Credential`].
    Credential,
    /// [`Gateway`].
    Gateway,
    /// [`Policy`] of another kind.
    Traffic,
    /// [`Route`].
    Route,
    /// [`Process`].
    Process,
}

impl Resource {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh(_) => Kind::Mesh,
            Self::Workload(_) => Kind::Workload,
            Self::Service(_) => Kind::Service,
            Self::Gateway(_) => Kind::Gateway,
            Self::Route(_) => Kind::Route,
            Self::Policy(policy) => match policy.kind {
                PolicyKind::Authorization(_) | PolicyKind::PeerAuthentication(_) => Kind::Security,
                PolicyKind::Destination(_) | PolicyKind::RateLimit(_) | PolicyKind::RequestLimit(_) => {
                    Kind::Traffic
                }
            },
            Self::Credential(_) => Kind::Credential,
            Self::Process(_) => Kind::Process,
        }
    }
}

/// A resource under its name, with who needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Who needs it.
    pub scope: Scope,
    /// The resource.
    pub resource: Resource,
}

impl Entry {
    /// A resource that every proxy needs.
    pub fn for_everyone(key: Key, resource: Resource) -> Self {
        Self { key, scope: Scope::Everyone, resource }
    }
}

/// The key of the one [`MeshSettings`].
pub fn mesh_key(root_namespace: &crate::Namespace) -> Key {
    Key::new(Origin::Mesh, root_namespace.clone(), "mesh")
}

/// The identity of the control plane itself.
pub fn control_identity(mesh: &MeshSettings) -> Identity {
    Identity::new(
        mesh.trust_domain.clone(),
        mesh.root_namespace.clone(),
        crate::ServiceAccount::parse("lateen-control").expect("a literal that is a subdomain"),
    )
}

/// Whether proxies of this role are ever shown resources of this kind.
pub fn role_needs(role: ProxyRole, kind: Kind) -> bool {
    match kind {
        Kind::Process => false,
        Kind::Credential | Kind::Gateway => role == ProxyRole::Gateway || role == ProxyRole::Waypoint,
        Kind::Mesh | Kind::Security | Kind::Service | Kind::Workload | Kind::Traffic | Kind::Route => true,
    }
}
