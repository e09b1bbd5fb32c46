//! What a service is to its callers, before routes: its ports and groups, by its DestinationRules.

use super::index::Index;
use crate::endpoints::{GroupName, GroupSpec};
use crate::hosts::patterns_for;
use crate::service::service_of;
use lateen_model::{
    AppProtocol, BalanceAlgorithm, DestinationPolicy, Entry, Namespace, Selector, Service, Str, TrafficPolicy,
};
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
        let policies = policies(service, index, root);
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

/// The policies that hold for a service: of the first namespace that has any (client, service, root), those
/// with its most specific host, the oldest first. Several are merged.
fn policies<'a>(service: &Service, index: &'a Index, root: &Namespace) -> Vec<&'a DestinationPolicy> {
    for namespace in [index.viewer.namespace(), &service.namespace, root] {
        for pattern in patterns_for(&service.hostname) {
            let found: Vec<_> = index.destinations(&pattern, namespace).collect();
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// The group of the port and those of its subsets. A subset's policy overrides the host's field by field; the
/// first of several policies that says something counts.
fn groups(service: &Service, port: u16, policies: &[&DestinationPolicy]) -> Vec<Arc<GroupSpec>> {
    let balance = policies.iter().find_map(|policy| algorithm(&policy.traffic));
    let spec = |subset: Option<&Str>, labels: Selector, balance: Option<BalanceAlgorithm>| {
        let name = GroupName { service: service.id(), port, subset: subset.cloned() };
        Arc::new(GroupSpec { name, labels, balance: balance.unwrap_or_default() })
    };
    let mut groups = vec![spec(None, Selector::default(), balance)];
    for subset in policies.iter().flat_map(|policy| &policy.subsets) {
        if !groups.iter().any(|known| known.name.subset.as_ref() == Some(&subset.name)) {
            let balance = algorithm(&subset.traffic).or(balance);
            groups.push(spec(Some(&subset.name), subset.labels.clone(), balance));
        }
    }
    groups
}

fn algorithm(traffic: &TrafficPolicy) -> Option<BalanceAlgorithm> {
    traffic.balance.as_ref().map(|balance| balance.algorithm)
}
