//! What a service is to its callers, before routes: its ports and groups, by its DestinationRules.

use super::index::Index;
use super::traffic;
use crate::endpoints::{GroupName, GroupSpec};
use crate::service::service_of;
use lateen_model::{AppProtocol, DestinationPolicy, Entry, Namespace, Selector, Service, Str, TrafficPolicy};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Plan {
    pub(super) entry: Arc<Entry>,
    pub(super) ports: Vec<(u16, AppProtocol)>,
    pub(super) groups: Vec<Arc<GroupSpec>>,
}

impl Plan {
    pub(super) fn new(entry: &Arc<Entry>, index: &Index, root: &Namespace) -> Self {
        let service = service_of(entry).expect("only services are planned");
        let policies = traffic::policies(service, index, root);
        let ports: Vec<_> = service.ports.iter().map(|port| (port.number, port.protocol)).collect();
        let groups = ports.iter().flat_map(|(port, _)| groups(service, *port, &policies)).collect();
        Self { entry: Arc::clone(entry), ports, groups }
    }

    pub(super) fn group(&self, port: u16, subset: Option<&Str>) -> Option<&Arc<GroupSpec>> {
        self.groups.iter().find(|spec| spec.name.port == port && spec.name.subset.as_ref() == subset)
    }

    pub(super) fn protocol(&self, port: u16) -> Option<AppProtocol> {
        self.ports.iter().find(|(number, _)| *number == port).map(|(_, protocol)| *protocol)
    }

    pub(super) fn service(&self) -> &Service {
        service_of(&self.entry).expect("only services are planned")
    }
}

/// The group of the port and those of its subsets; of several subsets of one name the first counts.
fn groups(service: &Service, port: u16, policies: &[&DestinationPolicy]) -> Vec<Arc<GroupSpec>> {
    let host = traffic::of_host(policies, port);
    let spec = |subset: Option<&Str>, labels: Selector, traffic: TrafficPolicy| {
        let name = GroupName { service: service.id(), port, subset: subset.cloned() };
        Arc::new(GroupSpec { name, labels, traffic: Arc::new(traffic) })
    };
    let mut groups = vec![spec(None, Selector::default(), host.clone())];
    for subset in policies.iter().flat_map(|policy| &policy.subsets) {
        if !groups.iter().any(|known| known.name.subset.as_ref() == Some(&subset.name)) {
            let traffic = traffic::of_subset(&host, &subset.traffic, port);
            groups.push(spec(Some(&subset.name), subset.labels.clone(), traffic));
        }
    }
    groups
}
