//! Compiles services, their endpoints, and the hosts of mesh routes that are no services.

use super::Compiler;
use super::index::Dirty;
use super::plan::Plan;
use crate::Effective;
use crate::balance::locality::Home;
use crate::endpoints::{Edits, Endpoint, Group};
use crate::hosts::patterns_for;
use crate::routes::RouteTable;
use crate::rule::{CompiledRoute, GroupTarget};
use crate::service::{PortTable, ServiceTable};
use lateen_model::{
    BalanceAlgorithm, Created, HostPattern, Key, Locality, Parent, Route, ServiceId, ServicePort, Visibility,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose word counts first for a host: the client's own, then what was exported to it, then the service's
/// own namespace, then what was exported to all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Private,
    Exported,
    Public,
}

impl Compiler {
    pub(super) fn compile_services(&mut self, dirty: &Dirty) {
        for id in dirty.services.union(&dirty.tables) {
            let table = self.plans.get(id).map(|plan| Arc::new(self.service_table(id, plan)));
            let number = match &table {
                Some(_) => Some(self.service_numbers.get_or_add(id)),
                None => self.service_numbers.remove(id),
            };
            let Some(number) = number else { continue };
            let old = self.next.services.get(number).cloned();
            self.count_http_ports(old.as_deref(), table.as_deref());
            self.next.services.set(number, table);
        }
        for id in &dirty.services {
            self.name_service(id);
        }
    }

    /// Who has the names of this service now.
    fn name_service(&mut self, id: &ServiceId) {
        let number = |owner: Option<&ServiceId>| owner.and_then(|owner| self.service_numbers.get(owner));
        let owners = self.index.hostnames.get(&id.hostname).into_iter().flatten();
        let by_name = number(self.index.preferred(owners));
        set(&mut self.next.names, id.hostname.as_str().into(), by_name);
        if let Some(alias) = super::index::alias(id) {
            let owners = self.index.aliases.get(&alias).into_iter().flatten();
            let by_alias = number(self.index.preferred(owners));
            set(&mut self.next.aliases, alias, by_alias);
        }
    }

    fn count_http_ports(&mut self, old: Option<&ServiceTable>, new: Option<&ServiceTable>) {
        let ports = |table: Option<&ServiceTable>| -> BTreeSet<u16> {
            let ports = table.into_iter().flat_map(|table| &table.ports);
            ports.filter(|port| port.protocol.is_http()).map(|port| port.number).collect()
        };
        let (old, new) = (ports(old), ports(new));
        if old == new {
            return;
        }
        let counts = Arc::make_mut(&mut self.next.http_ports);
        for port in new.difference(&old) {
            *counts.entry(*port).or_default() += 1;
        }
        for port in old.difference(&new) {
            let count = counts.get_mut(port).expect("it was counted when it came");
            *count -= 1;
            if *count == 0 {
                counts.remove(port);
            }
        }
    }

    fn service_table(&self, id: &ServiceId, plan: &Plan) -> ServiceTable {
        let service = plan.service();
        let routes = RoutesOf::new(self, id);
        let mut shared = None;
        let ports = service.ports.iter().map(|port| {
            let table = if routes.by_port {
                routes.table(self, Some(port.number))
            } else {
                shared.get_or_insert_with(|| routes.table(self, None)).clone()
            };
            self.port_table(id, plan, port, table)
        });
        ServiceTable { id: id.clone(), entry: Arc::clone(&plan.entry), ports: ports.collect() }
    }

    fn port_table(
        &self,
        id: &ServiceId,
        plan: &Plan,
        port: &ServicePort,
        routes: Option<Arc<RouteTable>>,
    ) -> PortTable {
        let spec = plan.group(port.number, None).expect("every port has a group of its own");
        let number = self.group_numbers.get(&spec.name).expect("every planned group has a number");
        let default = GroupTarget {
            id: crate::BackendId(number),
            keep_address: spec.algorithm() == BalanceAlgorithm::Passthrough,
            effective: Arc::new(Effective::of_port(id, port, &spec.traffic)),
        };
        PortTable { number: port.number, protocol: port.protocol, default, routes }
    }

    /// Groups of changed services are filled anew; of others only the workloads that changed are replaced.
    pub(super) fn compile_groups(&mut self, dirty: &Dirty) {
        let none = BTreeSet::new();
        for id in &dirty.services {
            self.fill_groups(id, self.index.members.get(id).unwrap_or(&none).clone(), true);
        }
        for (id, changed) in dirty.members.iter().filter(|(id, _)| !dirty.services.contains(*id)) {
            self.fill_groups(id, changed.clone(), false);
        }
        if dirty.home {
            let seen: Vec<_> =
                self.next.groups.numbered().filter(|(_, group)| group.looks_from_home()).collect();
            let again: Vec<_> =
                seen.iter().map(|(number, group)| (*number, Arc::new(group.with(&[], &self.home)))).collect();
            for (number, group) in again {
                self.next.groups.set(number, Some(group));
            }
        }
    }

    /// Where the viewer is now, and where its like are. Groups that prefer localities look from there.
    pub(super) fn find_home(&mut self, dirty: &mut Dirty) {
        let own = self.index.own();
        let ours = || own.into_iter().flat_map(|own| own.services.keys());
        let counted = self.counts_siblings
            && (!dirty.services.is_empty() || ours().any(|id| dirty.members.contains_key(id)));
        if !dirty.security && !counted {
            return;
        }
        let siblings = if self.counts_siblings { self.siblings() } else { BTreeMap::new() };
        let home = Home { own: own.cloned(), labels: self.index.viewer.labels.clone(), siblings };
        dirty.home = home != self.home;
        self.home = home;
    }

    /// How many endpoints the viewer's own services have in each locality, itself among them.
    fn siblings(&self) -> BTreeMap<Locality, u64> {
        let Some(own) = self.index.own() else { return BTreeMap::new() };
        let keys = own.services.keys().flat_map(|id| self.index.members.get(id)).flatten();
        let keys: BTreeSet<&Key> = keys.collect();
        let mut siblings = BTreeMap::new();
        for workload in keys.into_iter().filter_map(|key| self.index.workloads.get(key)) {
            *siblings.entry(workload.locality.clone()).or_default() += 1;
        }
        if siblings.is_empty() {
            siblings.insert(own.locality.clone(), 1);
        }
        siblings
    }

    fn fill_groups(&mut self, id: &ServiceId, changed: BTreeSet<Key>, anew: bool) {
        let Some(plan) = self.plans.get(id) else { return };
        let mut filled = Vec::new();
        for (port, _) in &plan.ports {
            let edits: Vec<_> =
                changed.iter().map(|key| (key.clone(), self.endpoint(key, id, plan, *port))).collect();
            let edits: &Edits = &edits;
            for spec in plan.groups.iter().filter(|spec| spec.name.port == *port) {
                let number = self.group_numbers.get(&spec.name).expect("every planned group has a number");
                let old = self.next.groups.get(number).filter(|_| !anew);
                let group = match old {
                    Some(old) => old.with(edits, &self.home),
                    None => Group::empty(Arc::clone(spec)).with(edits, &self.home),
                };
                filled.push((number, Arc::new(group)));
            }
        }
        for (number, group) in filled {
            self.next.groups.set(number, Some(group));
        }
    }

    fn endpoint(&self, key: &Key, id: &ServiceId, plan: &Plan, port: u16) -> Option<Arc<Endpoint>> {
        let workload = self.index.workloads.get(key)?;
        let network = &self.index.viewer.network;
        let since = self.index.ready_since(key);
        Endpoint::new(key, workload, plan.service(), id, port, network, since).map(Arc::new)
    }

    /// Hosts of mesh routes that are no service: each has a table of its own, for all ports.
    pub(super) fn compile_hosts(&mut self, dirty: &Dirty) {
        for pattern in &dirty.hosts {
            let is_service = match pattern {
                HostPattern::Exact(name) => self.index.hostnames.contains_key(name),
                HostPattern::Suffix(_) | HostPattern::Any => false,
            };
            let table = if is_service { None } else { self.host_table(pattern) };
            self.next.hosts.set(pattern, table);
        }
    }

    fn host_table(&self, pattern: &HostPattern) -> Option<Arc<RouteTable>> {
        let mut candidates = self.mesh_candidates(pattern);
        candidates.sort_by_key(|(order, _)| order.clone());
        candidates.iter().find_map(|(_, route)| self.only_table(route, None))
    }

    /// The table of one route alone, if any of it may match here.
    fn only_table(&self, route: &Arc<CompiledRoute>, port: Option<u16>) -> Option<Arc<RouteTable>> {
        let table = RouteTable::new(std::slice::from_ref(route), &self.index.viewer, port);
        table.is_possible().then(|| Arc::new(table))
    }

    fn mesh_candidates(&self, pattern: &HostPattern) -> Vec<(ClassOrder, Arc<CompiledRoute>)> {
        let keys = self.index.mesh_routes.get(pattern).into_iter().flatten();
        let compiled = keys.filter_map(|key| self.routes.get(key));
        compiled.map(|compiled| (self.class_order(compiled.route()), Arc::clone(compiled))).collect()
    }

    fn class_order(&self, route: &Route) -> ClassOrder {
        let client = self.index.viewer.namespace();
        let class = match &route.visibility {
            Visibility::Public => Class::Public,
            Visibility::Only(_) if route.key.namespace == *client => Class::Private,
            Visibility::Only(_) => Class::Exported,
        };
        (class, route.created, route.key.clone())
    }
}

type ClassOrder = (Class, Created, Key);

/// The routes that may decide for a service, before its ports are told apart.
struct RoutesOf<'a> {
    id: &'a ServiceId,
    /// Attached to the service itself.
    attached: Vec<Arc<CompiledRoute>>,
    /// Mesh routes with a host that matches, in order: the most specific host, then class and age.
    mesh: Vec<(Class, Arc<CompiledRoute>)>,
    /// Whether it matters which port is asked for.
    by_port: bool,
}

impl<'a> RoutesOf<'a> {
    fn new(compiler: &Compiler, id: &'a ServiceId) -> Self {
        let keys = compiler.index.service_routes.get(id).into_iter().flatten();
        let mut attached: Vec<_> = keys.filter_map(|key| compiler.routes.get(key)).cloned().collect();
        attached.sort_by_key(|route| (route.route().created, route.entry.key.clone()));
        let mut mesh = Vec::new();
        for pattern in patterns_for(&id.hostname) {
            let mut candidates = compiler.mesh_candidates(&pattern);
            candidates.sort_by_key(|(order, _)| order.clone());
            mesh.extend(candidates.into_iter().map(|((class, ..), route)| (class, route)));
        }
        let all = attached.iter().chain(mesh.iter().map(|(_, route)| route));
        let by_port = all.into_iter().any(|route| names_a_port(route.route()));
        Self { id, attached, mesh, by_port }
    }

    /// Who decides for a port: routes of the client for this service; else the first mesh route that was
    /// made for the client; else routes of the service's namespace; else the first mesh route for all.
    fn table(&self, compiler: &Compiler, port: Option<u16>) -> Option<Arc<RouteTable>> {
        let client = compiler.index.viewer.namespace();
        let owner = &self.id.namespace;
        let from = |namespace: &lateen_model::Namespace| {
            let here = self.attached.iter().filter(|compiled| {
                let route = compiled.route();
                route.key.namespace == *namespace && attached_at(route, self.id, port)
            });
            let routes: Vec<_> = here.cloned().collect();
            let table = RouteTable::new(&routes, &compiler.index.viewer, port);
            table.is_possible().then(|| Arc::new(table))
        };
        let mesh = |public: bool| {
            let of_class = self.mesh.iter().filter(|(class, _)| (*class == Class::Public) == public);
            of_class.into_iter().find_map(|(_, route)| compiler.only_table(route, port))
        };
        let consumer = (client != owner).then(|| from(client)).flatten();
        consumer.or_else(|| mesh(false)).or_else(|| from(owner)).or_else(|| mesh(true))
    }
}

fn names_a_port(route: &Route) -> bool {
    let in_parent = |parent: &Parent| matches!(parent, Parent::Service { port: Some(_), .. });
    let in_match = route.rules.iter().flat_map(|rule| &rule.matches).any(|m| m.port.is_some());
    in_match || route.parents.iter().any(in_parent)
}

fn attached_at(route: &Route, id: &ServiceId, asked: Option<u16>) -> bool {
    route.parents.iter().any(|parent| match parent {
        Parent::Service { service, port } => service == id && (port.is_none() || *port == asked),
        Parent::Mesh | Parent::Gateway { .. } => false,
    })
}

fn set(map: &mut lateen_model::Shards<lateen_model::Str, u32>, name: lateen_model::Str, number: Option<u32>) {
    match number {
        Some(number) => {
            map.insert(name, number);
        }
        None => {
            map.remove(&name);
        }
    }
}
