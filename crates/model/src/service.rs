//! `Service`: a name that callers use.

use crate::{AppProtocol, Hostname, MeshAddr, Namespace, ServiceId, Str, Visibility};

/// A name that callers use, with its addresses and ports. Who answers for it is said by the workloads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The namespace it is declared in.
    pub namespace: Namespace,
    /// The short name (`reviews`); for a ServiceEntry the name of the object.
    pub name: Str,
    /// The fully qualified host name (`reviews.default.svc.cluster.local`, `api.example.com`).
    pub hostname: Hostname,
    /// Virtual addresses. Empty for a headless service.
    pub addresses: Vec<MeshAddr>,
    /// Ports callers may use.
    pub ports: Vec<ServicePort>,
    /// Identities besides those of its workloads that may answer for it (`subjectAltNames`).
    pub subject_alt_names: Vec<Str>,
    /// Inside the mesh, or reached outside of it (ServiceEntry `location`).
    pub location: Location,
    /// Whether this declaration is the one of its own namespace and name, not an overlay by a ServiceEntry.
    pub canonical: bool,
    /// Namespaces that see it (`exportTo`).
    pub visibility: Visibility,
    /// Whether endpoints that are not ready are used too (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// How addresses of endpoints are found.
    pub resolution: Resolution,
}

impl Service {
    /// How callers name it.
    pub fn id(&self) -> ServiceId {
        ServiceId { namespace: self.namespace.clone(), hostname: self.hostname.clone() }
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// The number callers use.
    pub number: u16,
    /// Its name, empty where none was given.
    pub name: Str,
    /// What is spoken there.
    pub protocol: AppProtocol,
    /// Where it leads at a workload.
    pub target: TargetPort,
}

/// Where a service port leads at a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A name that each workload resolves for itself.
    Name(Str),
}

/// Where the workloads of a service are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Location {
    /// Part of the mesh (`MESH_INTERNAL`, and every Kubernetes Service).
    #[default]
    Internal,
    /// Outside (`MESH_EXTERNAL`).
    External,
}

/// How addresses of the endpoints of a service are found (ServiceEntry `resolution`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Resolution {
    /// Its workloads have them (STATIC, and every Kubernetes Service).
    #[default]
    Static,
    /// The caller's own address is used (NONE).
    Original,
    /// DNS names of its workloads, else its own host name, are resolved: every address is an endpoint (DNS).
    Dns,
    /// The same, but each new connection goes to the first address of the latest answer (DNS_ROUND_ROBIN).
    DnsRoundRobin,
    /// The host of each request is resolved (DYNAMIC_DNS).
    Dynamic,
}
