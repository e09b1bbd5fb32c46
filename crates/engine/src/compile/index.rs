//! What is there, by everything it is looked up by; and what a change makes stale.

use crate::gateway::{gateway_of, plays};
use crate::rule::route_of;
use crate::service::service_of;
use lateen_model::{
    BackendTarget, Created, Delta, DestinationPolicy, Entry, Filter, HostPattern, Hostname, Key, Namespace,
    Origin, Parent, Policy, PolicyId, PolicyKind, ProxyRole, Resource, Route, Rule, Service, ServiceId, Str,
    Target, Viewer, Workload,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What must be compiled again.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) mesh: bool,
    pub(super) security: bool,
    pub(super) gateways: bool,
    pub(super) limits: bool,
    /// Services whose own declaration or policies changed.
    pub(super) services: BTreeSet<ServiceId>,
    /// Services some of whose workloads changed.
    pub(super) members: BTreeMap<ServiceId, BTreeSet<Key>>,
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Routes to compile, then routes that were.
    pub(super) routes: BTreeSet<Key>,
    pub(super) compiled: BTreeSet<Key>,
    /// Services whose routes changed.
    pub(super) tables: BTreeSet<ServiceId>,
    pub(super) hosts: BTreeSet<HostPattern>,
    pub(super) credentials: BTreeSet<Key>,
    /// The viewer is elsewhere, or its like are.
    pub(super) home: bool,
}

/// What is there.
pub(super) struct Index {
    pub(super) viewer: Arc<Viewer>,
    pub(super) entries: HashMap<Key, Arc<Entry>>,
    pub(super) mesh: BTreeMap<Key, Arc<Entry>>,
    /// Declarations of a service; the first counts: the one of its own name before an overlay.
    pub(super) services: HashMap<ServiceId, BTreeMap<(bool, Key), Arc<Entry>>>,
    pub(super) hostnames: HashMap<Hostname, BTreeSet<ServiceId>>,
    pub(super) aliases: HashMap<Str, BTreeSet<ServiceId>>,
    virtual_addresses: HashMap<IpAddr, BTreeSet<ServiceId>>,
    pub(super) workloads: HashMap<Key, Arc<Workload>>,
    pub(super) members: HashMap<ServiceId, BTreeSet<Key>>,
    /// The time of the change that is applied, and when each workload became healthy.
    pub(super) now: Duration,
    healthy_since: HashMap<Key, Duration>,
    homes: HashMap<IpAddr, BTreeSet<Key>>,
    own: BTreeSet<Key>,
    pub(super) mesh_routes: HashMap<HostPattern, BTreeSet<Key>>,
    pub(super) service_routes: HashMap<ServiceId, BTreeSet<Key>>,
    pub(super) gateway_routes: HashMap<Key, BTreeSet<Key>>,
    /// Routes by the services they lead to.
    pub(super) referrers: HashMap<ServiceId, BTreeSet<Key>>,
    destinations: HashMap<HostPattern, BTreeMap<(Created, Key), Arc<Entry>>>,
    pub(super) security: HashMap<PolicyId, BTreeSet<Key>>,
    /// Policies of the mesh, of the viewer's namespace, and of gateways.
    pub(super) wide: BTreeSet<Key>,
    pub(super) targeted: HashMap<Key, BTreeSet<Key>>,
    pub(super) gateways: BTreeMap<Key, Arc<Entry>>,
    /// Limits, the oldest first.
    pub(super) limits: BTreeMap<(Created, Key), Arc<Entry>>,
}

impl Index {
    pub(super) fn new(viewer: Arc<Viewer>) -> Self {
        Self {
            viewer,
            entries: HashMap::new(),
            mesh: BTreeMap::new(),
            services: HashMap::new(),
            hostnames: HashMap::new(),
            aliases: HashMap::new(),
            virtual_addresses: HashMap::new(),
            workloads: HashMap::new(),
            members: HashMap::new(),
            now: Duration::ZERO,
            healthy_since: HashMap::new(),
            homes: HashMap::new(),
            own: BTreeSet::new(),
            mesh_routes: HashMap::new(),
            service_routes: HashMap::new(),
            gateway_routes: HashMap::new(),
            referrers: HashMap::new(),
            destinations: HashMap::new(),
            security: HashMap::new(),
            wide: BTreeSet::new(),
            targeted: HashMap::new(),
            gateways: BTreeMap::new(),
            limits: BTreeMap::new(),
        }
    }

    pub(super) fn apply(&mut self, delta: &Delta, dirty: &mut Dirty) {
        for entry in &delta.set {
            let old = self.entries.insert(entry.key.clone(), Arc::clone(entry));
            if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, entry) || old == entry) {
                continue;
            }
            if let Some(old) = &old {
                self.change(old, false, dirty);
            }
            self.change(entry, true, dirty);
            self.note_health(old.as_deref(), entry);
        }
        for key in &delta.removed {
            if let Some(old) = self.entries.remove(key) {
                self.change(&old, false, dirty);
                self.healthy_since.remove(key);
            }
        }
    }

    /// A workload is new when it came, moved, or became healthy.
    fn note_health(&mut self, old: Option<&Entry>, new: &Entry) {
        let workload = |entry: &'_ Entry| match &entry.resource {
            Resource::Workload(workload) => Some((workload.health, workload.addresses.clone())),
            _ => None,
        };
        let Some(now) = workload(new) else { return };
        if old.and_then(workload) != Some(now) {
            self.healthy_since.insert(new.key.clone(), self.now);
        }
    }

    pub(super) fn ready_since(&self, key: &Key) -> Duration {
        self.healthy_since.get(key).copied().unwrap_or_default()
    }

    /// An entry came or went.
    fn change(&mut self, entry: &Arc<Entry>, there: bool, dirty: &mut Dirty) {
        let key = &entry.key;
        match &entry.resource {
            Resource::Mesh(_) => {
                dirty.mesh = true;
                put(&mut self.mesh, key.clone(), entry, there);
            }
            Resource::Service(service) => self.change_service(entry, service, there, dirty),
            Resource::Workload(workload) => self.change_workload(key, workload, there, dirty),
            Resource::Route(route) => self.change_route(key, route, there, dirty),
            Resource::Policy(policy) => self.change_policy(entry, policy, there, dirty),
            Resource::Gateway(gateway) if plays(&self.viewer, gateway) => {
                dirty.gateways = true;
                put(&mut self.gateways, key.clone(), entry, there);
            }
            Resource::Credential(_) => {
                dirty.credentials.insert(key.clone());
            }
            Resource::Gateway(_) | Resource::Process(_) => {}
        }
    }

    fn change_service(&mut self, entry: &Arc<Entry>, service: &Service, there: bool, dirty: &mut Dirty) {
        if !service.visibility.allows(self.viewer.namespace()) {
            return;
        }
        let id = service.id();
        put(
            self.services.entry(id.clone()).or_default(),
            (!service.canonical, entry.key.clone()),
            entry,
            there,
        );
        let declarations = self.services[&id].values().filter_map(|entry| service_of(entry));
        // Which declaration counts may have changed, so the addresses of all are looked at again.
        let here = |service: &Service| -> Vec<IpAddr> {
            let here = service.addresses.iter().filter(|address| address.network == self.viewer.network);
            here.map(|address| address.ip).collect()
        };
        let declared_addresses: BTreeSet<IpAddr> = declarations.flat_map(here).collect();
        let gone = here(service).into_iter().filter(|ip| !declared_addresses.contains(ip));
        let all: Vec<(IpAddr, bool)> =
            gone.map(|ip| (ip, false)).chain(declared_addresses.iter().map(|ip| (*ip, true))).collect();
        for (ip, declared) in all {
            link(&mut self.virtual_addresses, &ip, &id, declared);
            dirty.addresses.insert(ip);
        }
        let declared = !self.services[&id].is_empty();
        if !declared {
            self.services.remove(&id);
        }
        link(&mut self.hostnames, &id.hostname, &id, declared);
        if let Some(alias) = alias(&id) {
            link(&mut self.aliases, &alias, &id, declared);
        }
        dirty.hosts.insert(HostPattern::Exact(id.hostname.clone()));
        dirty.services.insert(id);
    }

    fn change_workload(&mut self, key: &Key, workload: &Workload, there: bool, dirty: &mut Dirty) {
        if there {
            self.workloads.insert(key.clone(), Arc::new(workload.clone()));
        } else {
            self.workloads.remove(key);
        }
        for service in workload.services.keys() {
            link(&mut self.members, service, key, there);
            dirty.members.entry(service.clone()).or_default().insert(key.clone());
        }
        if workload.network == self.viewer.network {
            for ip in &workload.addresses {
                link(&mut self.homes, ip, key, there);
                dirty.addresses.insert(*ip);
            }
        }
        if workload.namespace == *self.viewer.namespace() && workload.name == self.viewer.name {
            dirty.security = true;
            if there {
                self.own.insert(key.clone());
            } else {
                self.own.remove(key);
            }
        }
    }

    fn change_route(&mut self, key: &Key, route: &Route, there: bool, dirty: &mut Dirty) {
        if !route.visibility.allows(self.viewer.namespace()) {
            return;
        }
        dirty.routes.insert(key.clone());
        for parent in &route.parents {
            match parent {
                Parent::Mesh if self.calls() => {
                    for host in &route.hosts {
                        link(&mut self.mesh_routes, host, key, there);
                    }
                }
                Parent::Service { service, .. } if self.calls() => {
                    link(&mut self.service_routes, service, key, there);
                }
                Parent::Gateway { gateway, .. } => link(&mut self.gateway_routes, gateway, key, there),
                Parent::Mesh | Parent::Service { .. } => {}
            }
        }
        for service in route.rules.iter().flat_map(targets) {
            link(&mut self.referrers, service, key, there);
        }
        self.mark_parents(route, dirty);
    }

    /// Whether the viewer follows the routes of callers inside the mesh; a gateway has its own.
    fn calls(&self) -> bool {
        self.viewer.role != ProxyRole::Gateway
    }

    /// Whatever the route is attached to is stale.
    pub(super) fn mark_parents(&self, route: &Route, dirty: &mut Dirty) {
        for parent in route.parents.iter().filter(|_| self.calls()) {
            match parent {
                Parent::Mesh => route.hosts.iter().for_each(|host| self.mark_host(host, dirty)),
                Parent::Service { service, .. } => {
                    dirty.tables.insert(service.clone());
                }
                Parent::Gateway { .. } => {}
            }
        }
    }

    fn mark_host(&self, pattern: &HostPattern, dirty: &mut Dirty) {
        dirty.hosts.insert(pattern.clone());
        dirty.tables.extend(self.services_of(pattern));
    }

    fn services_of(&self, pattern: &HostPattern) -> Vec<ServiceId> {
        match pattern {
            HostPattern::Exact(name) => self.hostnames.get(name).into_iter().flatten().cloned().collect(),
            HostPattern::Suffix(_) | HostPattern::Any => {
                self.services.keys().filter(|id| pattern.matches(id.hostname.as_str())).cloned().collect()
            }
        }
    }

    fn change_policy(&mut self, entry: &Arc<Entry>, policy: &Policy, there: bool, dirty: &mut Dirty) {
        let key = &entry.key;
        if let PolicyKind::Destination(destination) = &policy.kind {
            let age = (policy.created, key.clone());
            put(self.destinations.entry(destination.host.clone()).or_default(), age, entry, there);
            dirty.services.extend(self.services_of(&destination.host));
            return;
        }
        if matches!(policy.kind, PolicyKind::RateLimit(_) | PolicyKind::RequestLimit(_)) {
            dirty.limits = true;
            put(&mut self.limits, (policy.created, key.clone()), entry, there);
            return;
        }
        dirty.security = true;
        link(&mut self.security, &policy.id, key, there);
        let wide = match &policy.target {
            Target::Mesh => true,
            Target::Namespace(namespace) => namespace == self.viewer.namespace(),
            Target::Gateway(gateway) => {
                link(&mut self.targeted, gateway, key, there);
                false
            }
            Target::Selected | Target::Service(_) | Target::Route(_) => false,
        };
        if wide && there {
            self.wide.insert(key.clone());
        } else {
            self.wide.remove(key);
        }
    }

    /// The declaration of a service that counts.
    pub(super) fn service(&self, id: &ServiceId) -> Option<&Arc<Entry>> {
        self.services.get(id)?.values().next()
    }

    /// Of several services under one name the viewer's own, then one declared under its own name.
    pub(super) fn preferred<'a>(&self, ids: impl Iterator<Item = &'a ServiceId>) -> Option<&'a ServiceId> {
        ids.min_by_key(|id| {
            let overlay = self.service(id).and_then(|entry| service_of(entry)).is_none_or(|s| !s.canonical);
            (id.namespace != *self.viewer.namespace(), overlay, *id)
        })
    }

    pub(super) fn service_at(&self, ip: &IpAddr) -> Option<&ServiceId> {
        let has = |id: &&ServiceId| {
            self.service(id).and_then(|entry| service_of(entry)).is_some_and(|service| {
                service.addresses.iter().any(|a| a.ip == *ip && a.network == self.viewer.network)
            })
        };
        self.preferred(self.virtual_addresses.get(ip)?.iter().filter(has))
    }

    pub(super) fn workload_at(&self, ip: &IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(first_instance(self.homes.get(ip)?)?)
    }

    pub(super) fn own(&self) -> Option<&Arc<Workload>> {
        self.workloads.get(first_instance(&self.own)?)
    }

    /// A route that the viewer sees.
    pub(super) fn route(&self, key: &Key) -> Option<(&Arc<Entry>, &Route)> {
        let entry = self.entries.get(key)?;
        let route = route_of(entry)?;
        route.visibility.allows(self.viewer.namespace()).then_some((entry, route))
    }

    /// The DestinationRules of a namespace for exactly this host, which the viewer sees, the oldest first.
    pub(super) fn destinations(
        &self,
        host: &HostPattern,
        namespace: &Namespace,
    ) -> impl Iterator<Item = &DestinationPolicy> {
        let entries = self.destinations.get(host).into_iter().flat_map(BTreeMap::values);
        entries.filter_map(move |entry| match &entry.resource {
            Resource::Policy(Policy { id, kind: PolicyKind::Destination(destination), .. }) => {
                let holds =
                    id.namespace == *namespace && destination.visibility.allows(self.viewer.namespace());
                holds.then_some(&**destination)
            }
            _ => None,
        })
    }

    /// The ports of a gateway that the viewer plays.
    pub(super) fn ports_of(&self, gateway: &Key) -> BTreeSet<u16> {
        let gateway = self.gateways.get(gateway).and_then(|entry| gateway_of(entry));
        gateway.into_iter().flat_map(|gateway| &gateway.listeners).map(|listener| listener.port).collect()
    }

    /// The gateways that the viewer plays and that have a listener on a port.
    pub(super) fn gateways_on(&self, port: u16) -> impl Iterator<Item = &Key> {
        self.gateways.iter().filter_map(move |(key, entry)| {
            gateway_of(entry)?.listeners.iter().any(|listener| listener.port == port).then_some(key)
        })
    }
}

/// The services that a rule sends requests to, or copies of them.
fn targets(rule: &Rule) -> impl Iterator<Item = &ServiceId> {
    let filters = rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
    let mirrors = filters.filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(&mirror.target),
        _ => None,
    });
    let backends = rule.backends.iter().map(|backend| &backend.target);
    backends.chain(mirrors).filter_map(|target| match target {
        BackendTarget::Service { service, .. } => Some(service),
        BackendTarget::Invalid { .. } => None,
    })
}

/// What runs was registered by who started it; an entry written by hand for the same comes after.
fn first_instance(keys: &BTreeSet<Key>) -> Option<&Key> {
    keys.iter().min_by_key(|key| (key.origin != Origin::Instance, *key))
}

/// `name.namespace` of a service whose host name has Kubernetes' form.
pub(super) fn alias(id: &ServiceId) -> Option<Str> {
    let (name, rest) = id.hostname.as_str().split_once('.')?;
    let (namespace, rest) = rest.split_once('.')?;
    let ours = namespace == id.namespace.as_str() && rest.starts_with("svc.");
    ours.then(|| Str::from(format!("{name}.{namespace}")))
}

fn put<K: Ord>(map: &mut BTreeMap<K, Arc<Entry>>, key: K, entry: &Arc<Entry>, there: bool) {
    if there {
        map.insert(key, Arc::clone(entry));
    } else {
        map.remove(&key);
    }
}

/// Links a value under a name, or takes it away; a name without values is forgotten.
fn link<K: Eq + Hash + Clone, V: Ord + Clone>(
    map: &mut HashMap<K, BTreeSet<V>>,
    name: &K,
    value: &V,
    there: bool,
) {
    if there {
        map.entry(name.clone()).or_default().insert(value.clone());
    } else if let Some(values) = map.get_mut(name) {
        values.remove(value);
        if values.is_empty() {
            map.remove(name);
        }
    }
}
