//! `load`: files to a catalog in one step, for commands without a mesh.

use crate::{Change, Problem, Settings, Status, World};
use lateen_model::{Catalog, Str};

/// What files came to.
pub struct Loaded {
    /// Every resource.
    pub catalog: Catalog,
    /// The status of each object, by object.
    pub statuses: Vec<Status>,
    /// Every problem, by file and place.
    pub problems: Vec<Problem>,
}

/// Reads files (path and text) as a mesh of their own.
pub fn load(settings: Settings, files: impl IntoIterator<Item = (Str, String)>) -> Loaded {
    let mut world = World::new(settings);
    world.apply(files.into_iter().map(|(path, text)| Change::SetFile { path, text }).collect());
    Loaded {
        catalog: world.catalog(),
        statuses: world.statuses().cloned().collect(),
        problems: world.problems(),
    }
}
