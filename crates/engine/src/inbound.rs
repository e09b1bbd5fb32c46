//! `Inbound`: what holds for those who call the proxy's own workload.

use crate::Effective;
use crate::authz::Authorizations;
use lateen_model::{
    AppProtocol, Entry, MtlsMode, PeerAuthentication, Policy, PolicyId, PolicyKind, Resource, ServiceId,
    Workload,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What holds for those who call the proxy's own workload.
#[derive(Default, Debug)]
pub(crate) struct Inbound {
    pub(crate) own: Option<Arc<Workload>>,
    pub(crate) authorizations: Authorizations,
    mtls: Mtls,
    ports: BTreeMap<u16, InboundPort>,
}

/// A port of the own workload that some service leads to.
#[derive(Debug)]
struct InboundPort {
    protocol: AppProtocol,
    effective: Arc<Effective>,
}

/// Whether plaintext is taken, and who says so.
#[derive(Default, Debug)]
struct Mtls {
    everywhere: Ruling,
    ports: BTreeMap<u16, Ruling>,
}

/// A mode and the policy that sets it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ruling {
    pub(crate) mode: MtlsMode,
    pub(crate) by: Option<PolicyId>,
}

impl Inbound {
    /// `wide` are the policies of the mesh and the namespace, `selected` those that the workload lists.
    pub(crate) fn new(
        own: Option<Arc<Workload>>,
        levels: &Levels<'_>,
        authorizations: Authorizations,
    ) -> Self {
        let ports = own.as_deref().map_or_else(BTreeMap::new, ports);
        Self { own, authorizations, mtls: Mtls::resolve(levels), ports }
    }

    pub(crate) fn mtls(&self, port: u16) -> &Ruling {
        self.mtls.ports.get(&port).unwrap_or(&self.mtls.everywhere)
    }

    /// What is spoken on a port. One that no service leads to is looked at.
    pub(crate) fn protocol(&self, port: u16) -> AppProtocol {
        self.ports.get(&port).map_or(AppProtocol::Detect, |port| port.protocol)
    }

    pub(crate) fn effective(&self, port: u16) -> Arc<Effective> {
        match self.ports.get(&port) {
            Some(port) => Arc::clone(&port.effective),
            None => Arc::new(Effective::inbound(port, AppProtocol::Detect, None)),
        }
    }
}

/// The ports of a workload. Where services disagree about one, the first that declares a protocol says it.
fn ports(own: &Workload) -> BTreeMap<u16, InboundPort> {
    let mut declared: BTreeMap<u16, (AppProtocol, &ServiceId)> = BTreeMap::new();
    for (service, ports) in &own.services {
        // UDP on the same number says nothing of TCP.
        for port in ports.iter().filter(|port| port.protocol != AppProtocol::Udp) {
            let known = declared.entry(port.target_port).or_insert((port.protocol, service));
            if known.0 == AppProtocol::Detect && port.protocol != AppProtocol::Detect {
                *known = (port.protocol, service);
            }
        }
    }
    let compile = |(port, (protocol, service)): (u16, (AppProtocol, &ServiceId))| {
        let effective = Arc::new(Effective::inbound(port, protocol, Some(service.clone())));
        (port, InboundPort { protocol, effective })
    };
    declared.into_iter().map(compile).collect()
}

/// Security policies by how widely they hold; within a level the oldest comes first.
#[derive(Default)]
pub(crate) struct Levels<'a> {
    pub(crate) mesh: Vec<&'a Arc<Entry>>,
    pub(crate) namespace: Vec<&'a Arc<Entry>>,
    pub(crate) workload: Vec<&'a Arc<Entry>>,
}

impl Levels<'_> {
    /// The oldest PeerAuthentication of each level, the narrowest first.
    fn authentications(&self) -> [Option<(&Policy, &PeerAuthentication)>; 3] {
        [&self.workload, &self.namespace, &self.mesh].map(|level| {
            level.iter().find_map(|entry| match &entry.resource {
                Resource::Policy(policy) => match &policy.kind {
                    PolicyKind::PeerAuthentication(authentication) => Some((policy, authentication)),
                    _ => None,
                },
                _ => None,
            })
        })
    }
}

impl Mtls {
    fn resolve(levels: &Levels<'_>) -> Self {
        let levels = levels.authentications();
        let everywhere = levels
            .iter()
            .flatten()
            .find(|(_, authentication)| authentication.mode != MtlsMode::Unset)
            .map_or_else(Ruling::default, |(policy, authentication)| Ruling {
                mode: authentication.mode,
                by: Some(policy.id.clone()),
            });
        // Ports are only named by a policy that selects workloads.
        let ports = levels[0].into_iter().flat_map(|(policy, authentication)| {
            let set = authentication.ports.iter().filter(|(_, mode)| **mode != MtlsMode::Unset);
            set.map(|(port, mode)| (*port, Ruling { mode: *mode, by: Some(policy.id.clone()) }))
        });
        Self { ports: ports.collect(), everywhere }
    }
}
