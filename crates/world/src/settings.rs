//! `Settings`: what a world is told once.

use ipnet::{Ipv4Net, Ipv6Net};
use lateen_model::{ClusterId, NetworkId};

/// What a world is told once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The suffix of service names: `reviews.default.svc.<cluster domain>`.
    pub cluster_domain: String,
    /// The cluster of everything that runs here.
    pub cluster: ClusterId,
    /// The network of everything that runs here.
    pub network: NetworkId,
    /// Where virtual addresses are taken from.
    pub service_range_v4: Ipv4Net,
    /// The same for IPv6; none gives IPv4 only.
    pub service_range_v6: Option<Ipv6Net>,
    /// Security objects that cannot be enforced yet (RequestAuthentication, CUSTOM) deny nothing.
    pub allow_unenforced: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            cluster: ClusterId::default(),
            network: NetworkId::default(),
            // Reserved and never routed, so that no VPN has it; Istio allocates from it too.
            service_range_v4: "240.240.0.0/16".parse().expect("a literal that is a range"),
            service_range_v6: Some("fd6c:6174:6565:6e::/64".parse().expect("a literal that is a range")),
            allow_unenforced: false,
        }
    }
}
