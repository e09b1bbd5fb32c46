//! `Delta` and `Revision`: change as data.

use crate::{Entry, Key};
use std::fmt;
use std::sync::Arc;

/// The number of a state of the catalog: it only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What changed. A whole state is only a long delta.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Delta {
    /// New or changed, in the order in which they should be taken.
    pub set: Vec<Arc<Entry>>,
    /// Gone.
    pub removed: Vec<Key>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}
