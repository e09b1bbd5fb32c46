//! `Claim`: who a proxy says it is when it opens a stream, in Istio's form.

use crate::convert::KNOWN_REQUIREMENTS;
use crate::pb::envoy::config::core::v3::Node;
use lateen_model::{Namespace, ProxyRole, Str};
use std::net::IpAddr;

/// Who a proxy says it is. Its certificate or token says who it may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The role it plays.
    pub role: ProxyRole,
    /// The address of its workload, where it has one.
    pub address: Option<IpAddr>,
    /// The name of its workload.
    pub name: Str,
    /// The namespace of its workload.
    pub namespace: Namespace,
}

impl Claim {
    /// The first message of a stream: `role~address~name.namespace~namespace.svc.cluster.local`.
    pub fn to_node(&self) -> Node {
        let Self { name, namespace, .. } = self;
        let role = match self.role {
            ProxyRole::Node => "ztunnel",
            ProxyRole::Sidecar => "sidecar",
            ProxyRole::Waypoint => "waypoint",
            ProxyRole::Gateway => "router",
        };
        let address = self.address.map(|ip| ip.to_string()).unwrap_or_default();
        Node {
            id: format!("{role}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
            user_agent_name: "lateen".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            client_features: KNOWN_REQUIREMENTS.iter().map(ToString::to_string).collect(),
            ..Node::default()
        }
    }

    /// Reads the id of a node; `None` when it has another form.
    pub fn from_node(node: &Node) -> Option<Self> {
        let mut parts = node.id.split('~');
        let (role, address, name) = (parts.next()?, parts.next()?, parts.next()?);
        let role = match role {
            "ztunnel" => ProxyRole::Node,
            "sidecar" => ProxyRole::Sidecar,
            "waypoint" => ProxyRole::Waypoint,
            "router" => ProxyRole::Gateway,
            _ => return None,
        };
        let address = if address.is_empty() { None } else { Some(address.parse().ok()?) };
        // A namespace holds no dot, a name may.
        let (name, namespace) = name.rsplit_once('.')?;
        (!name.is_empty()).then_some(())?;
        Some(Self { role, address, name: name.into(), namespace: Namespace::parse(namespace).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_comes_back_as_it_went() {
        for role in [ProxyRole::Node, ProxyRole::Sidecar, ProxyRole::Waypoint, ProxyRole::Gateway] {
            for address in [None, Some("10.0.0.1".parse().unwrap()), Some("fd00::1".parse().unwrap())] {
                let claim = Claim { role, address, name: "a.b".into(), namespace: Namespace::default() };
                assert_eq!(Claim::from_node(&claim.to_node()), Some(claim));
            }
        }
    }

    #[test]
    fn other_ids_are_none() {
        for id in ["", "sidecar", "sidecar~x~a.b~c", "proxy~~a.b~c", "sidecar~~a~c", "sidecar~~.b~c"] {
            assert_eq!(Claim::from_node(&Node { id: id.into(), ..Node::default() }), None, "{id}");
        }
    }
}
