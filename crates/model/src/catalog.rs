//! `Catalog`: every resource at one revision; cheap to clone.

use crate::{Delta, Entry, Key, MeshSettings, Resource, Revision, Shards};
use std::sync::Arc;

/// Every resource at one revision. A clone shares all but what changes later.
#[derive(Clone, Default)]
pub struct Catalog {
    revision: Revision,
    entries: Shards<Key, Arc<Entry>>,
}

impl Catalog {
    /// An empty catalog whose next state comes after `revision`, as one needs who forgot the resources but must
    /// not give a revision twice.
    pub fn after(revision: Revision) -> Self {
        Self { revision, entries: Shards::default() }
    }

    /// The number of this state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next state.
    pub fn apply(&mut self, delta: &Delta) {
        for entry in &delta.set {
            self.entries.insert(entry.key.clone(), Arc::clone(entry));
        }
        for key in &delta.removed {
            self.entries.remove(key);
        }
        self.revision = self.revision.next();
    }

    /// The state that somebody else has numbered.
    pub fn advance(&mut self, delta: &Delta, revision: Revision) {
        self.apply(delta);
        self.revision = revision;
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// All resources, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// All resources in the order of shipping (kind, then key), as a delta from nothing.
    pub fn to_delta(&self) -> Delta {
        let mut set: Vec<_> = self.iter().cloned().collect();
        set.sort_by(|a, b| (a.resource.kind(), &a.key).cmp(&(b.resource.kind(), &b.key)));
        Delta { set, removed: Vec::new() }
    }

    /// The settings of the mesh, or their defaults.
    pub fn mesh(&self) -> MeshSettings {
        self.iter()
            .find_map(|entry| match &entry.resource {
                Resource::Mesh(mesh) => Some(mesh.clone()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// How many resources.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
