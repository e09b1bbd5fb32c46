//! `Workload`: an instance that can send and receive.

use crate::{
    AppProtocol, ClusterId, Identity, Labels, Namespace, NetworkId, NodeName, PolicyId, ServiceAccount,
    ServiceId, Str, TrustDomain,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An instance that can send and receive: a pod, a process, a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Unique in the mesh, the printed form of its key.
    pub uid: Str,
    /// The name of the instance (`reviews-v1-0`).
    pub name: Str,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its addresses, in its network.
    pub addresses: Vec<IpAddr>,
    /// A DNS name instead of addresses, for a WorkloadEntry that has one.
    pub hostname: Option<Str>,
    /// The network of the addresses.
    pub network: NetworkId,
    /// How other proxies reach it.
    pub tunnel: Tunnel,
    /// The trust domain of its identity.
    pub trust_domain: TrustDomain,
    /// The account of its identity.
    pub service_account: ServiceAccount,
    /// The node it runs on.
    pub node: NodeName,
    /// Cluster it belongs to.
    pub cluster: ClusterId,
    /// The name it is counted under (`service.istio.io/canonical-name`, `app.kubernetes.io/name`, `app`, else the workload name).
    pub canonical_name: Str,
    /// The version it is counted under (`service.istio.io/canonical-revision`, `app.kubernetes.io/version`, `version`, else `latest`).
    pub canonical_revision: Str,
    /// The name of what made it (the Process, the Deployment).
    pub workload_name: Str,
    /// Its labels, for subsets and selectors.
    pub labels: Labels,
    /// The services it answers for, and by which ports.
    pub services: BTreeMap<ServiceId, Vec<WorkloadPort>>,
    /// Policies whose selector names it, by id.
    pub policies: Vec<PolicyId>,
    /// Whether it may be sent to.
    pub health: Health,
    /// Where it is.
    pub locality: Locality,
    /// Its share among the endpoints of a service; 1 unless said.
    pub weight: u32,
}

impl Workload {
    /// Who it is.
    pub fn identity(&self) -> Identity {
        Identity::new(self.trust_domain.clone(), self.namespace.clone(), self.service_account.clone())
    }
}

/// A service port and the port it leads to at one workload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WorkloadPort {
    /// The port of the service.
    pub service_port: u16,
    /// The port of the workload.
    pub target_port: u16,
    /// What is spoken there.
    pub protocol: AppProtocol,
}

/// How other proxies reach a workload.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Tunnel {
    /// Plain TCP: it has no proxy.
    #[default]
    None,
    /// HBONE on port 15008.
    Hbone,
    /// Istio's sidecar mTLS with ALPN on the port itself.
    IstioMtls,
}

/// Whether a workload may be sent to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Health {
    /// Yes.
    #[default]
    Healthy,
    /// Not now.
    Unhealthy,
}

/// Where a workload is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Locality {
    /// Region.
    pub region: Str,
    /// Zone within the region.
    pub zone: Str,
    /// Sub-zone within the zone.
    pub subzone: Str,
}
