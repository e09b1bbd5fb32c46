//! `Compiler`: applies a `Delta` and gives the next `Snapshot`. A change marks what depends on it, and only
//! that is compiled again; the rest is shared with the snapshot before.

use crate::balance::locality::{Home, Plan as Locality};
use crate::rule::{CompiledRoute, CompiledRule, Resolved};
use crate::snapshot::{Owner, Snapshot};
use index::{Dirty, Index};
use lateen_model::{BalanceAlgorithm, Delta, Key, MeshSettings, Resource, ServiceId, Viewer};
use numbers::Numbers;
use plan::Plan;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

mod gateways;
mod index;
mod limits;
mod numbers;
mod plan;
mod security;
mod services;
mod traffic;

/// Compiles the mesh for one viewer, change by change.
///
/// Whatever the batches in which changes come, the snapshot is the same as if all had come at once.
pub struct Compiler {
    index: Index,
    plans: HashMap<ServiceId, Plan>,
    routes: HashMap<Key, Arc<CompiledRoute>>,
    /// Where routes meet a listener.
    placed: HashMap<Key, gateways::Placed>,
    service_numbers: Numbers<ServiceId>,
    group_numbers: Numbers<crate::endpoints::GroupName>,
    /// Where the viewer is, as localities are seen from there.
    home: Home,
    /// Some group asks how many callers like the viewer there are.
    counts_siblings: bool,
    next: Snapshot,
}

impl Compiler {
    /// A compiler that knows nothing yet.
    pub fn new(viewer: Viewer) -> Self {
        let viewer = Arc::new(viewer);
        Self {
            index: Index::new(Arc::clone(&viewer)),
            plans: HashMap::new(),
            routes: HashMap::new(),
            placed: HashMap::new(),
            service_numbers: Numbers::default(),
            group_numbers: Numbers::default(),
            home: Home::default(),
            counts_siblings: false,
            next: Snapshot::empty(viewer),
        }
    }

    /// Tells the time of the changes to come: endpoints that become ready by them are new from then on. It is the clock
    /// of `Load::now`; whoever tells none has no new endpoints.
    pub fn at(&mut self, now: Duration) -> &mut Self {
        self.index.now = now;
        self
    }

    /// The snapshot after a change. As in a catalog, what is both set and removed is removed.
    pub fn apply(&mut self, delta: &Delta) -> Arc<Snapshot> {
        let mut dirty = Dirty::default();
        self.index.apply(delta, &mut dirty);
        self.settle_mesh(&mut dirty);
        self.plan_services(&mut dirty);
        self.compile_routes(&mut dirty);
        self.compile_services(&dirty);
        self.find_home(&mut dirty);
        self.compile_groups(&dirty);
        self.compile_addresses(&dirty);
        self.compile_hosts(&dirty);
        self.compile_gateways(&dirty);
        self.compile_security(&dirty);
        self.compile_limits(&dirty);
        Arc::new(self.next.clone())
    }

    fn settle_mesh(&mut self, dirty: &mut Dirty) {
        if !dirty.mesh {
            return;
        }
        let mesh = self.index.mesh.values().find_map(|entry| match &entry.resource {
            Resource::Mesh(mesh) => Some(mesh.clone()),
            _ => None,
        });
        let mesh: MeshSettings = mesh.unwrap_or_default();
        if mesh.root_namespace != self.next.mesh.root_namespace {
            // Which DestinationRules hold for a service depends on it.
            dirty.services.extend(self.index.services.keys().cloned());
        }
        self.next.mesh = Arc::new(mesh);
    }

    /// Plans the services that changed; routes that lead to one whose ports or subsets changed follow.
    fn plan_services(&mut self, dirty: &mut Dirty) {
        for id in &dirty.services {
            let root = &self.next.mesh.root_namespace;
            let new = self.index.service(id).map(|entry| Plan::new(entry, &self.index, root));
            let old = match &new {
                Some(plan) => self.plans.insert(id.clone(), plan.clone()),
                None => self.plans.remove(id),
            };
            let groups =
                |plan: &Option<Plan>| plan.as_ref().map_or_else(Vec::new, |plan| plan.groups.clone());
            let (before, after) = (groups(&old), groups(&new));
            for spec in &after {
                self.group_numbers.get_or_add(&spec.name);
                self.counts_siblings |= Locality::of(&spec.traffic).counts_siblings();
            }
            for gone in before.iter().filter(|old| !after.iter().any(|new| new.name == old.name)) {
                if let Some(number) = self.group_numbers.remove(&gone.name) {
                    self.next.groups.set(number, None);
                }
            }
            if before != after || old.map(|plan| plan.ports) != new.map(|plan| plan.ports) {
                dirty.routes.extend(self.index.referrers.get(id).into_iter().flatten().cloned());
            }
        }
    }

    fn compile_routes(&mut self, dirty: &mut Dirty) {
        for key in std::mem::take(&mut dirty.routes) {
            match self.index.route(&key) {
                None => {
                    self.routes.remove(&key);
                }
                Some((entry, route)) => {
                    let rules = (0..route.rules.len()).map(|index| {
                        Arc::new(CompiledRule::new(entry, index, |service, port, subset| {
                            self.resolve(service, port, subset)
                        }))
                    });
                    let rules = rules.collect();
                    let compiled = CompiledRoute { entry: Arc::clone(entry), rules };
                    self.index.mark_parents(route, dirty);
                    self.routes.insert(key.clone(), Arc::new(compiled));
                }
            }
            dirty.compiled.insert(key);
        }
    }

    fn resolve(
        &self,
        service: &ServiceId,
        port: u16,
        subset: Option<&lateen_model::Str>,
    ) -> Option<Resolved> {
        let plan = self.plans.get(service)?;
        let spec = plan.group(port, subset)?;
        let id = self.group_numbers.get(&spec.name).expect("every planned group has a number");
        let keep_address = spec.algorithm() == BalanceAlgorithm::Passthrough;
        let (protocol, traffic) = (plan.protocol(port)?, Arc::clone(&spec.traffic));
        let connections = crate::ConnectionLimits::of(service, port, subset, &traffic);
        Some(Resolved { id: crate::BackendId(id), keep_address, protocol, traffic, connections })
    }

    fn compile_addresses(&mut self, dirty: &Dirty) {
        for ip in &dirty.addresses {
            let owner = Owner {
                service: self
                    .index
                    .service_at(ip)
                    .map(|id| self.service_numbers.get(id).expect("every service has a number")),
                workload: self.index.workload_at(ip).cloned(),
            };
            if owner.service.is_none() && owner.workload.is_none() {
                self.next.addresses.remove(ip);
            } else {
                self.next.addresses.insert(*ip, owner);
            }
        }
    }
}
