//! Whether a workload takes plaintext.

use std::collections::BTreeMap;

/// PeerAuthentication: the narrowest that is not `Unset` wins, workload over namespace over mesh;
/// of several on one level the oldest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAuthentication {
    /// For every port not named below.
    pub mode: MtlsMode,
    /// For single ports of the workload (`portLevelMtls`); only with a selector.
    pub ports: BTreeMap<u16, MtlsMode>,
}

/// What a workload takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum MtlsMode {
    /// As the wider level says; at the widest, permissive.
    #[default]
    Unset,
    /// Plaintext; mTLS is not offered.
    Disable,
    /// Both.
    Permissive,
    /// mTLS only.
    Strict,
}
