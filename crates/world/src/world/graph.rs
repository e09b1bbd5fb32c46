//! What was derived from what, and what must run again when something changes.

use crate::manifest::Manifest;
use crate::object::{ObjectKey, ObjectKind};
use crate::schema::Spec;
use crate::schema::core::Addresses;
use crate::translate;
use crate::view::{Derived, Fact, Selecting, Selectors, State, View, is_older};
use lateen_model::{
    Delta, Entry, Instance, Key, Labels, MeshSettings, Namespace, Resource, ServiceId, Str, mesh_key,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Something that is derived as one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Unit {
    /// One object.
    Object(ObjectKey),
    /// The processes that play Istio gateways.
    GatewayProcesses,
    /// The settings of the mesh.
    Mesh,
    /// One instance.
    Instance(Namespace, Str),
}

/// What a unit gave when it last ran.
#[derive(Default)]
struct Result {
    keys: Vec<Key>,
    reads: BTreeSet<Fact>,
}

/// Something that selectors choose from: a workload, or a process that will be one.
struct Member {
    unit: Unit,
    labels: Labels,
    selected: Vec<ObjectKey>,
}

/// An object, before and after.
pub(super) type Changed = (ObjectKey, Option<Arc<Manifest>>, Option<Arc<Manifest>>);

/// What a run came to.
#[derive(Default)]
pub(super) struct Effect {
    pub(super) delta: Delta,
    /// Objects whose status may have changed.
    pub(super) statuses: BTreeSet<ObjectKey>,
    pub(super) allocations_changed: bool,
}

/// What was derived from what.
#[derive(Default)]
pub(super) struct Graph {
    rows: HashMap<Key, Arc<Entry>>,
    results: HashMap<Unit, Result>,
    dependents: HashMap<Fact, BTreeSet<Unit>>,
    /// What objects gave besides resources, for their status.
    pub(super) derived: HashMap<ObjectKey, Derived>,
    members: HashMap<Namespace, HashMap<Key, Member>>,
    /// How many members each selecting object has.
    pub(super) selected: HashMap<ObjectKey, usize>,
}

/// Rows that were set or removed in this run.
#[derive(Default)]
struct Touched {
    before: HashMap<Key, Option<Arc<Entry>>>,
}

impl Graph {
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.rows.values()
    }

    /// Puts the changed objects in force and runs again what depends on them.
    pub(super) fn run(
        &mut self,
        state: &mut State,
        changed: Vec<Changed>,
        instances: BTreeSet<(Namespace, Str)>,
        first: bool,
    ) -> Effect {
        let mut effect = Effect::default();
        let mut dirty: BTreeSet<Unit> =
            instances.into_iter().map(|(namespace, name)| Unit::Instance(namespace, name)).collect();
        let mut selectors: Vec<Selecting> = Vec::new();
        let mesh_changed = self.index(state, &changed, &mut dirty, &mut selectors) || first;
        effect.allocations_changed = allocate(state, &changed, &mut dirty);
        if mesh_changed {
            dirty.extend(self.results.keys().cloned());
            dirty.extend([Unit::Mesh, Unit::GatewayProcesses]);
            reselect(state);
        }
        self.dirty_members(&selectors, &mut dirty);
        let mut touched = Touched::default();
        // A Process row is a member, and members are chosen by what is in force already: one pass is enough,
        // since no derivation reads rows.
        for unit in dirty {
            self.derive(state, &unit, &mut touched, &mut effect.statuses);
        }
        effect.delta = self.delta(touched);
        effect
    }

    /// Takes the new versions in and finds who read a fact they state. Says whether the mesh is another.
    fn index(
        &mut self,
        state: &mut State,
        changed: &[Changed],
        dirty: &mut BTreeSet<Unit>,
        selectors: &mut Vec<Selecting>,
    ) -> bool {
        let mut facts: HashSet<Fact> = HashSet::new();
        for (key, before, after) in changed {
            dirty.insert(Unit::Object(key.clone()));
            if let Some(before) = before {
                for fact in state.facts(before) {
                    if let Some(keys) = state.stating.get_mut(&fact) {
                        keys.remove(key);
                        if keys.is_empty() {
                            state.stating.remove(&fact);
                        }
                    }
                    facts.insert(fact);
                }
                selectors.extend(select(state, before, false));
                state.objects.remove(key);
            }
            if let Some(after) = after {
                for fact in state.facts(after) {
                    state.stating.entry(fact.clone()).or_default().insert(key.clone());
                    facts.insert(fact);
                }
                selectors.extend(select(state, after, true));
                state.objects.insert(key.clone(), Arc::clone(after));
            }
        }
        for fact in &facts {
            dirty.extend(self.dependents.get(fact).into_iter().flatten().cloned());
        }
        if !changed.iter().any(|(key, ..)| key.kind == ObjectKind::Mesh) {
            return false;
        }
        let mesh = mesh_settings(state);
        std::mem::replace(&mut state.mesh, mesh.clone()) != mesh
    }

    /// Members that a changed selector names or named.
    fn dirty_members(&self, selectors: &[Selecting], dirty: &mut BTreeSet<Unit>) {
        for selecting in selectors {
            let namespaces: Vec<_> = match &selecting.namespace {
                Some(namespace) => self.members.get(namespace).into_iter().collect(),
                None => self.members.values().collect(),
            };
            let named = namespaces.into_iter().flat_map(HashMap::values);
            dirty.extend(
                named
                    .filter(|member| selecting.selector.matches(&member.labels))
                    .map(|member| member.unit.clone()),
            );
        }
    }

    fn derive(
        &mut self,
        state: &State,
        unit: &Unit,
        touched: &mut Touched,
        statuses: &mut BTreeSet<ObjectKey>,
    ) {
        let view = View::new(state);
        let mut derived = match unit {
            Unit::Object(key) => match state.objects.get(key) {
                Some(manifest) => translate::derive(&view, manifest),
                None => {
                    self.derived.remove(key);
                    return self.forget(unit, touched, statuses);
                }
            },
            Unit::GatewayProcesses => translate::gateway_processes(&view),
            Unit::Mesh => {
                let entry = Entry::for_everyone(
                    mesh_key(&state.mesh.root_namespace),
                    Resource::Mesh(state.mesh.clone()),
                );
                Derived { entries: vec![entry], ..Derived::default() }
            }
            Unit::Instance(namespace, name) => {
                match state.instances.get(&(namespace.clone(), name.clone())) {
                    Some(instance) => return self.derive_instance(state, unit, instance, touched, statuses),
                    None => return self.forget(unit, touched, statuses),
                }
            }
        };
        let entries = std::mem::take(&mut derived.entries);
        self.set_reads(unit, view.into_reads());
        self.set_rows(state, unit, entries, touched, statuses);
        if let Unit::Object(key) = unit {
            statuses.insert(key.clone());
            self.derived.insert(key.clone(), derived);
        }
    }

    fn derive_instance(
        &mut self,
        state: &State,
        unit: &Unit,
        instance: &Instance,
        touched: &mut Touched,
        statuses: &mut BTreeSet<ObjectKey>,
    ) {
        let (entry, _) = translate::instance(state, instance);
        self.set_rows(state, unit, vec![entry], touched, statuses);
    }

    /// The unit is gone, and all it gave.
    fn forget(&mut self, unit: &Unit, touched: &mut Touched, statuses: &mut BTreeSet<ObjectKey>) {
        self.set_reads(unit, BTreeSet::new());
        if let Some(result) = self.results.remove(unit) {
            for key in result.keys {
                self.remove_row(&key, touched, statuses);
            }
        }
        if let Unit::Object(key) = unit {
            statuses.insert(key.clone());
        }
    }

    fn set_reads(&mut self, unit: &Unit, reads: BTreeSet<Fact>) {
        let result = self.results.entry(unit.clone()).or_default();
        if result.reads == reads {
            return;
        }
        for fact in result.reads.difference(&reads) {
            if let Some(units) = self.dependents.get_mut(fact) {
                units.remove(unit);
                if units.is_empty() {
                    self.dependents.remove(fact);
                }
            }
        }
        for fact in reads.difference(&result.reads) {
            self.dependents.entry(fact.clone()).or_default().insert(unit.clone());
        }
        result.reads = reads;
    }

    fn set_rows(
        &mut self,
        state: &State,
        unit: &Unit,
        entries: Vec<Entry>,
        touched: &mut Touched,
        statuses: &mut BTreeSet<ObjectKey>,
    ) {
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
        let result = self.results.entry(unit.clone()).or_default();
        let before = std::mem::replace(&mut result.keys, keys.clone());
        for key in before.iter().filter(|key| !keys.contains(key)) {
            self.remove_row(key, touched, statuses);
        }
        for entry in entries {
            self.set_member(state, unit, &entry, statuses);
            let old = self.rows.get(&entry.key);
            // Only what compares different goes on.
            if old.is_some_and(|old| **old == entry) {
                continue;
            }
            touched.before.entry(entry.key.clone()).or_insert_with(|| old.cloned());
            self.rows.insert(entry.key.clone(), Arc::new(entry));
        }
    }

    fn remove_row(&mut self, key: &Key, touched: &mut Touched, statuses: &mut BTreeSet<ObjectKey>) {
        let Some(old) = self.rows.remove(key) else { return };
        touched.before.entry(key.clone()).or_insert(Some(old));
        let Some(members) = self.members.get_mut(&key.namespace) else { return };
        if let Some(member) = members.remove(key) {
            self.count(member.selected, Vec::new(), statuses);
        }
    }

    /// Workloads, and processes that will be workloads, are what selectors choose from.
    fn set_member(&mut self, state: &State, unit: &Unit, entry: &Entry, statuses: &mut BTreeSet<ObjectKey>) {
        let (namespace, labels) = match &entry.resource {
            Resource::Workload(workload) => (&workload.namespace, &workload.labels),
            Resource::Process(process) => (&process.namespace, &process.labels),
            _ => return,
        };
        let selected = state.selected_by(namespace, labels);
        let member = Member { unit: unit.clone(), labels: labels.clone(), selected: selected.clone() };
        let old =
            self.members.entry(entry.key.namespace.clone()).or_default().insert(entry.key.clone(), member);
        self.count(old.map(|old| old.selected).unwrap_or_default(), selected, statuses);
    }

    /// Keeps count of what each selector names; its status changes between none and some.
    fn count(&mut self, before: Vec<ObjectKey>, after: Vec<ObjectKey>, statuses: &mut BTreeSet<ObjectKey>) {
        for key in &after {
            let count = self.selected.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1 {
                statuses.insert(key.clone());
            }
        }
        for key in before {
            let Some(count) = self.selected.get_mut(&key) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.selected.remove(&key);
                statuses.insert(key);
            }
        }
    }

    /// The rows that are other than before the run, in the order of shipping.
    fn delta(&self, touched: Touched) -> Delta {
        let mut delta = Delta::default();
        for (key, before) in touched.before {
            match (before, self.rows.get(&key)) {
                (Some(before), Some(after)) if before == *after => {}
                (_, Some(after)) => delta.set.push(Arc::clone(after)),
                (Some(_), None) => delta.removed.push(key),
                (None, None) => {}
            }
        }
        delta.set.sort_by(|a, b| (a.resource.kind(), &a.key).cmp(&(b.resource.kind(), &b.key)));
        delta.removed.sort();
        delta
    }
}

/// Puts a selector in or out of the index.
fn select(state: &mut State, manifest: &Manifest, into: bool) -> Option<Selecting> {
    let selecting = state.selecting_of(manifest)?;
    if into {
        state.selecting.insert(manifest.key.clone(), selecting.clone());
    } else {
        state.selecting.remove(&manifest.key, &selecting);
    }
    Some(selecting)
}

/// The root namespace decides how far a selector reaches, so with another mesh all are put in anew.
fn reselect(state: &mut State) {
    let mut all = Selectors::default();
    for manifest in state.objects.values() {
        if let Some(selecting) = state.selecting_of(manifest) {
            all.insert(manifest.key.clone(), selecting);
        }
    }
    state.selecting = all;
}

/// The settings of the oldest Mesh.
fn mesh_settings(state: &State) -> MeshSettings {
    let mut oldest: Option<&Manifest> = None;
    for key in state.stating.get(&Fact::Kind(ObjectKind::Mesh)).into_iter().flatten() {
        let Some(manifest) = state.objects.get(key) else { continue };
        if oldest.is_none_or(|oldest| is_older(manifest, oldest)) {
            oldest = Some(manifest);
        }
    }
    let mut mesh = MeshSettings::default();
    if let Some(Spec::Mesh(spec)) = oldest.and_then(|manifest| manifest.spec.as_ref()) {
        mesh.trust_domain = spec.trust_domain.clone().unwrap_or(mesh.trust_domain);
        mesh.root_namespace = spec.root_namespace.clone().unwrap_or(mesh.root_namespace);
        mesh.outbound = spec.outbound.unwrap_or(mesh.outbound);
        mesh.access_log = spec.access_log.unwrap_or(mesh.access_log);
        mesh.path_normalization = spec.path_normalization.unwrap_or(mesh.path_normalization);
    }
    mesh
}

/// Gives addresses to new services and takes those of gone ones back, by what is in force now and in the
/// order of names: addresses asked for first, then all others. So the order of reading does not matter.
fn allocate(state: &mut State, changed: &[Changed], dirty: &mut BTreeSet<Unit>) -> bool {
    let versions = changed.iter().flat_map(|(_, before, after)| [before, after]).flatten();
    let ids: BTreeSet<ServiceId> = versions
        .flat_map(|manifest| wants(state, manifest))
        .map(|(id, _)| id)
        // Addresses that are given back may be what another one waits for.
        .chain(state.refused.keys().cloned())
        .collect();
    let wanted: Vec<(ServiceId, Option<Wanted>)> =
        ids.into_iter().map(|id| (id.clone(), wanted_by(state, &id))).collect();
    let had: Vec<Vec<IpAddr>> = wanted.iter().map(|(id, _)| state.addresses.get(id).to_vec()).collect();
    for (id, _) in wanted.iter().filter(|(_, wanted)| wanted.is_none()) {
        state.addresses.release(id);
    }
    let mut refused = Vec::new();
    for (id, wanted) in &wanted {
        if let Some(Some(addresses)) = wanted {
            refused.push((id.clone(), state.addresses.claim(id, addresses)));
        }
    }
    for (id, _) in wanted.iter().filter(|(_, wanted)| *wanted == Some(None)) {
        state.addresses.allocate(id);
    }
    let told = std::mem::take(&mut state.refused);
    state.refused = refused.into_iter().filter(|(_, addresses)| !addresses.is_empty()).collect();
    let mut any = false;
    for ((id, _), had) in wanted.iter().zip(&had) {
        let moved = state.addresses.get(id) != had.as_slice();
        any |= moved;
        if moved || told.get(id) != state.refused.get(id) {
            let fact = Fact::Host(id.hostname.as_str().into());
            let keys = state.stating.get(&fact).into_iter().flatten();
            dirty.extend(keys.filter(|key| key.namespace == id.namespace).cloned().map(Unit::Object));
        }
    }
    any
}

/// Addresses that are asked for, or (none) any.
type Wanted = Option<Vec<IpAddr>>;

/// What the objects in force want for a service: the first that names addresses has its way. None where
/// no object wants any.
fn wanted_by(state: &State, id: &ServiceId) -> Option<Wanted> {
    let keys = state.stating.get(&Fact::Host(id.hostname.as_str().into()));
    let objects = keys.into_iter().flatten().filter_map(|key| state.objects.get(key));
    let all: Vec<Wanted> = objects
        .flat_map(|manifest| wants(state, manifest))
        .filter(|(found, _)| found == id)
        .map(|(_, wanted)| wanted)
        .collect();
    all.iter().find(|wanted| wanted.is_some()).or(all.first()).cloned()
}

/// The services of an object that want virtual addresses, and which, if they say so.
fn wants(state: &State, manifest: &Manifest) -> Vec<(ServiceId, Wanted)> {
    use crate::schema::entries::Single;
    let wanted = match &manifest.spec {
        Some(Spec::Service(spec)) => match &spec.addresses {
            Addresses::Headless => return Vec::new(),
            Addresses::Allocate => None,
            Addresses::Given(given) => Some(given.iter().map(|ip| ip.value).collect::<Vec<_>>()),
        },
        // Its own addresses are no concern of the allocator: they are in nobody's range.
        Some(Spec::ServiceEntry(spec)) if spec.addresses.iter().any(|range| range.is_single()) => {
            return Vec::new();
        }
        Some(Spec::ServiceEntry(_)) => None,
        _ => return Vec::new(),
    };
    state.service_ids(manifest).into_iter().map(|id| (id, wanted.clone())).collect()
}
