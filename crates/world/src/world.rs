//! `World::apply(changes) -> Outcome`: the one writer, read as a table of contents.

mod graph;
mod report;

use crate::allocate::{Allocations, Allocator};
use crate::manifest;
use crate::object::ObjectKey;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::slot::{InForce, Slot, StoredObject};
use crate::status::Status;
use crate::view::{Selectors, State};
use graph::Graph;
use lateen_model::{Catalog, Delta, Entry, Instance, MeshSettings, Namespace, Str};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What happened outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A file is there, or has new text.
    SetFile {
        /// Its path, as problems shall name it.
        path: Str,
        /// Its whole text.
        text: String,
    },
    /// A file is gone.
    RemoveFile {
        /// Its path.
        path: Str,
    },
    /// A file is there and cannot be read: what it held, also in an earlier run, may still be meant, so its last
    /// good objects stay in force.
    HideFile {
        /// Its path.
        path: Str,
    },
    /// An instance runs, or something about it changed.
    SetInstance(Instance),
    /// An instance is gone.
    RemoveInstance {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: Str,
    },
}

/// What a batch of changes came to.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Outcome {
    /// The change of the mesh.
    pub delta: Delta,
    /// Statuses that are new or changed, by object.
    pub statuses: Vec<Status>,
    /// Objects that have no status any more.
    pub gone: Vec<ObjectKey>,
    /// Files whose own problems (of text that is no object) changed; empty where all is well again.
    pub files: Vec<(Str, Vec<Problem>)>,
    /// Last good versions to keep.
    pub stored: Vec<StoredObject>,
    /// Last good versions to forget.
    pub unstored: Vec<ObjectKey>,
    /// Whether `World::allocations` changed.
    pub allocations_changed: bool,
}

/// User objects and instances to model and statuses. The same input gives the same output, whatever the
/// order and the batches it came in; only what is remembered on purpose (last good versions, addresses
/// given) looks back.
pub struct World {
    state: State,
    slots: HashMap<ObjectKey, Slot>,
    files: HashMap<Str, FileState>,
    graph: Graph,
    statuses: BTreeMap<ObjectKey, Status>,
    stale: BTreeSet<ObjectKey>,
    started: bool,
}

/// What is known of a file.
#[derive(Default)]
struct FileState {
    /// Its objects, each with its place.
    objects: Vec<(ObjectKey, usize)>,
    problems: Vec<Problem>,
    unreadable: bool,
}

impl World {
    /// An empty world.
    pub fn new(settings: Settings) -> Self {
        Self::restore(settings, Allocations::new(), Vec::new())
    }

    /// A world that remembers addresses and last good versions. These come into force only where the first
    /// batch says that their text is there and broken.
    pub fn restore(settings: Settings, allocations: Allocations, last_good: Vec<StoredObject>) -> Self {
        let mut slots: HashMap<ObjectKey, Slot> = HashMap::new();
        for stored in last_good {
            let parsed = manifest::parse(&stored.file, &stored.text, stored.line);
            let good = parsed.manifests.into_iter().find(|found| found.key == stored.key && !found.broken);
            if let Some(good) = good {
                slots.entry(stored.key).or_default().last_good = Some(Arc::new(good));
            }
        }
        Self {
            state: State {
                addresses: Allocator::new(&settings, allocations),
                settings,
                mesh: MeshSettings::default(),
                objects: HashMap::new(),
                stating: HashMap::new(),
                selecting: Selectors::default(),
                instances: HashMap::new(),
                refused: HashMap::new(),
            },
            slots,
            files: HashMap::new(),
            graph: Graph::default(),
            statuses: BTreeMap::new(),
            stale: BTreeSet::new(),
            started: false,
        }
    }

    /// Takes changes in and says what they came to.
    pub fn apply(&mut self, changes: Vec<Change>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut touched: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut instances: BTreeSet<(Namespace, Str)> = BTreeSet::new();
        let first = !std::mem::replace(&mut self.started, true);
        if first {
            // What was remembered is looked at with the first state: it is stale, or gone.
            touched.extend(self.slots.keys().cloned());
        }
        for change in changes {
            match change {
                Change::SetFile { path, text } => {
                    self.set_file(path, Some(&text), &mut touched, &mut outcome);
                }
                Change::RemoveFile { path } => self.set_file(path, None, &mut touched, &mut outcome),
                Change::HideFile { path } => self.hide_file(path, &mut touched),
                Change::SetInstance(instance) => {
                    let key = (instance.namespace.clone(), instance.name.clone());
                    self.state.instances.insert(key.clone(), instance);
                    instances.insert(key);
                }
                Change::RemoveInstance { namespace, name } => {
                    let key = (namespace, name);
                    self.state.instances.remove(&key);
                    instances.insert(key);
                }
            }
        }
        // Of several texts of one file in a batch the last counts.
        let files: BTreeMap<Str, Vec<Problem>> = std::mem::take(&mut outcome.files).into_iter().collect();
        outcome.files = files.into_iter().collect();
        self.settle(touched, instances, first, outcome)
    }

    /// Every resource, in the order of shipping.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.graph.entries().cloned().collect();
        entries.sort_by(|a, b| (a.resource.kind(), &a.key).cmp(&(b.resource.kind(), &b.key)));
        entries
    }

    /// Every resource as a catalog.
    pub fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        catalog.apply(&Delta { set: self.entries(), removed: Vec::new() });
        catalog
    }

    /// All statuses, by object.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.statuses.values()
    }

    /// The status of one object.
    pub fn status(&self, object: &ObjectKey) -> Option<&Status> {
        self.statuses.get(object)
    }

    /// Problems of files that belong to no object, by file.
    pub fn file_problems(&self) -> Vec<&Problem> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(path, _)| (*path).clone());
        files.into_iter().flat_map(|(_, file)| &file.problems).collect()
    }

    /// Every problem there is, by file and place.
    pub fn problems(&self) -> Vec<Problem> {
        let own = self.statuses.values().flat_map(|status| &status.problems);
        let mut all: Vec<Problem> = own.chain(self.file_problems()).cloned().collect();
        all.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
        });
        all
    }

    /// The addresses given, to be remembered.
    pub fn allocations(&self) -> &Allocations {
        self.state.addresses.allocations()
    }

    /// The settings of the mesh in force.
    pub fn mesh(&self) -> &MeshSettings {
        &self.state.mesh
    }

    /// Reads a file anew; notes which objects it touches.
    fn set_file(
        &mut self,
        path: Str,
        text: Option<&str>,
        touched: &mut BTreeSet<ObjectKey>,
        outcome: &mut Outcome,
    ) {
        let before = self.files.remove(&path).unwrap_or_default();
        for (key, place) in &before.objects {
            touched.insert(key.clone());
            if let Some(slot) = self.slots.get_mut(key) {
                slot.written.remove(&(path.clone(), *place));
            }
        }
        let parsed = text.map(|text| manifest::parse(&path, text, 1)).unwrap_or_default();
        if before.unreadable || parsed.unreadable {
            // Objects that were kept because of this file may now be gone, or those gone may be kept.
            touched.extend(self.last_good_in(&path));
        }
        if before.problems != parsed.problems {
            outcome.files.push((path.clone(), parsed.problems.clone()));
        }
        let mut state =
            FileState { problems: parsed.problems, unreadable: parsed.unreadable, objects: Vec::new() };
        for (place, manifest) in parsed.manifests.into_iter().enumerate() {
            touched.insert(manifest.key.clone());
            state.objects.push((manifest.key.clone(), place));
            let slot = self.slots.entry(manifest.key.clone()).or_default();
            slot.written.insert((path.clone(), place), Arc::new(manifest));
        }
        if text.is_some() {
            self.files.insert(path, state);
        }
    }

    /// Keeps what a file held that cannot be read; what of it is known stays as it is.
    fn hide_file(&mut self, path: Str, touched: &mut BTreeSet<ObjectKey>) {
        if !self.files.contains_key(&path) {
            touched.extend(self.last_good_in(&path));
            self.files.insert(path, FileState { unreadable: true, ..FileState::default() });
        }
    }

    /// Objects whose last good version stood in this file.
    fn last_good_in(&self, path: &Str) -> Vec<ObjectKey> {
        let here = |slot: &Slot| slot.last_good.as_ref().is_some_and(|good| good.file == *path);
        self.slots.iter().filter(|(_, slot)| here(slot)).map(|(key, _)| key.clone()).collect()
    }

    /// Brings the touched objects into force and runs what depends on them.
    fn settle(
        &mut self,
        touched: BTreeSet<ObjectKey>,
        instances: BTreeSet<(Namespace, Str)>,
        first: bool,
        mut outcome: Outcome,
    ) -> Outcome {
        let mut changed = Vec::new();
        for key in &touched {
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let good = slot.last_good.clone();
            let files = &self.files;
            let in_force = slot.settle(|file| files.get(file).is_some_and(|file| file.unreadable));
            report::stored(key, good.as_deref(), slot.last_good.as_deref(), &mut outcome);
            if matches!(in_force, InForce::Stale(_)) {
                self.stale.insert(key.clone());
            } else {
                self.stale.remove(key);
            }
            if slot.is_empty() {
                self.slots.remove(key);
            }
            let before = self.state.objects.get(key);
            let now = in_force.manifest();
            if before.map(|manifest| &**manifest) != now.map(|manifest| &**manifest) {
                changed.push((key.clone(), before.cloned(), now.cloned()));
            }
        }
        let mut dirty = touched;
        let effect = self.graph.run(&mut self.state, changed, instances, first);
        dirty.extend(effect.statuses);
        outcome.delta = effect.delta;
        outcome.allocations_changed = effect.allocations_changed;
        self.report(dirty, &mut outcome);
        outcome
    }
}
