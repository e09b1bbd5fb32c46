//! What the hub remembers over restarts: addresses given, last good versions, revisions.

use std::sync::Arc;

use lateen_model::Revision;
use lateen_world::{Allocations, Outcome, StoredObject, World};

use crate::store::{self, Objects, Revisions, Store, allocations};

/// Writes down what a restart must know.
pub(super) struct Memory {
    store: Arc<Store>,
    objects: Objects,
    revisions: Revisions,
    /// The last write of addresses failed: try again with the next batch.
    owes_allocations: bool,
}

/// What an earlier run wrote down.
pub(super) struct Remembered {
    pub(super) allocations: Allocations,
    pub(super) objects: Vec<StoredObject>,
    pub(super) revision: Revision,
}

impl Memory {
    pub(super) fn load(store: Arc<Store>) -> Result<(Self, Remembered), store::Error> {
        let objects = Objects::load(&store)?;
        let revisions = Revisions::load(&store)?;
        let remembered = Remembered {
            allocations: allocations::load(&store)?,
            objects: objects.all(),
            revision: revisions.last(),
        };
        Ok((Self { store, objects, revisions, owes_allocations: false }, remembered))
    }

    /// Keeps what the outcome says is to be kept. A full disk does not stop the mesh: it is said in the log, and
    /// what could not be written is written with the next batch.
    pub(super) fn keep(&mut self, outcome: &Outcome, world: &World) {
        if let Err(error) = self.objects.note(outcome.stored.clone(), outcome.unstored.clone()) {
            tracing::error!(%error, "last good versions are not written down");
        }
        if outcome.allocations_changed || self.owes_allocations {
            let saved = allocations::save(&self.store, world.allocations());
            self.owes_allocations = saved.is_err();
            if let Err(error) = saved {
                tracing::error!(%error, "addresses are not written down");
            }
        }
    }

    /// Makes sure that this revision is never given again.
    pub(super) fn reach(&mut self, revision: Revision) {
        if let Err(error) = self.revisions.reach(&self.store, revision) {
            tracing::error!(%error, "revisions are not written down");
        }
    }
}
