//! `TypeUrl`: the types that travel.

use lateen_model::Kind;
use std::fmt;

/// A type that travels, in the order of shipping: names before what refers to them, the mark last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TypeUrl {
    /// Settings of the whole mesh.
    Mesh,
    /// Authorizations that ztunnel reads too.
    Authorization,
    /// Every other policy.
    Policy,
    /// Services and workloads.
    Address,
    /// Certificates and keys of listeners.
    Credential,
    /// Gateways.
    Gateway,
    /// Routes.
    Route,
    /// What should run; only in dumps.
    Process,
    /// The mark that closes a batch.
    Revision,
}

impl TypeUrl {
    /// The types a proxy can subscribe to, in the order of shipping.
    pub const SHIPPED: [Self; 8] = [
        Self::Mesh,
        Self::Authorization,
        Self::Policy,
        Self::Address,
        Self::Credential,
        Self::Gateway,
        Self::Route,
        Self::Revision,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "type.googleapis.com/lateen.v1.Mesh",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::Policy => "type.googleapis.com/lateen.v1.Policy",
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Credential => "type.googleapis.com/lateen.v1.Credential",
            Self::Gateway => "type.googleapis.com/lateen.v1.Gateway",
            Self::Route => "type.googleapis.com/lateen.v1.Route",
            Self::Process => "type.googleapis.com/lateen.v1.Process",
            Self::Revision => "type.googleapis.com/lateen.v1.Revision",
        }
    }

    /// The type with this name on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::SHIPPED.into_iter().chain([Self::Process]).find(|known| known.as_str() == text)
    }

    /// Its place in [`Self::SHIPPED`], or past its end.
    pub(crate) fn index(self) -> usize {
        Self::SHIPPED.iter().position(|other| *other == self).unwrap_or(Self::SHIPPED.len())
    }

    /// The kinds of resource that travel under it.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Mesh => &[Kind::Mesh],
            Self::Authorization => &[Kind::Security],
            Self::Policy => &[Kind::Security, Kind::Traffic],
            Self::Address => &[Kind::Service, Kind::Workload],
            Self::Credential => &[Kind::Credential],
            Self::Gateway => &[Kind::Gateway],
            Self::Route => &[Kind::Route],
            Self::Process => &[Kind::Process],
            Self::Revision => &[],
        }
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
