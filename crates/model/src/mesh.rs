//! `MeshSettings`: what holds for the whole mesh.

use crate::{Namespace, TrustDomain};

/// What holds for the whole mesh (`lateen.dev/v1alpha1` Mesh).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshSettings {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Objects here that select nothing hold for every namespace.
    pub root_namespace: Namespace,
    /// What happens to destinations nobody declared.
    pub outbound: OutboundPolicy,
    /// Which requests and connections are written to the access log.
    pub access_log: AccessLog,
    /// How paths are spelt before anybody decides by them.
    pub path_normalization: PathNormalization,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            root_namespace: Namespace::parse("istio-system").expect("a literal that is a label"),
            outbound: OutboundPolicy::default(),
            access_log: AccessLog::default(),
            path_normalization: PathNormalization::default(),
        }
    }
}

/// What happens to destinations nobody declared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OutboundPolicy {
    /// Passed through as they are (ALLOW_ANY).
    #[default]
    AllowAny,
    /// Refused: 502 for HTTP, a reset for TCP (REGISTRY_ONLY).
    RegistryOnly,
}

/// What is written to the access log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum AccessLog {
    /// Nothing.
    Off,
    /// Requests and connections that failed or were denied.
    Errors,
    /// All.
    #[default]
    All,
}

/// How paths are spelt before anybody decides by them (Istio's `pathNormalization.normalization`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PathNormalization {
    /// As they came.
    None,
    /// RFC 3986 6.2.2: dot segments removed, unreserved characters decoded, `\\` as `/`.
    #[default]
    Base,
    /// The same, and `//` as `/`.
    MergeSlashes,
    /// The same, and `%2F` and `%5C` decoded first.
    DecodeAndMergeSlashes,
}
