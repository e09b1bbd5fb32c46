//! `Slot`: the versions of one object: as written, and the last good one.

use crate::manifest::Manifest;
use crate::object::ObjectKey;
use lateen_model::Str;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The last good version of an object, for whoever keeps it over restarts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredObject {
    /// The object.
    pub key: ObjectKey,
    /// The file it stood in.
    pub file: Str,
    /// The line it began at.
    pub line: u32,
    /// Its text, a YAML document.
    pub text: String,
}

/// The versions of one object.
#[derive(Default)]
pub(crate) struct Slot {
    /// Where it is written, by file and place in the file. The first counts.
    pub(crate) written: BTreeMap<(Str, usize), Arc<Manifest>>,
    /// The last version without an error.
    pub(crate) last_good: Option<Arc<Manifest>>,
}

/// Which version is in force.
pub(crate) enum InForce {
    /// As it is written.
    Written(Arc<Manifest>),
    /// An older version.
    Stale(Arc<Manifest>),
    /// The text is broken and was never good, but it protects something: it stands for a refusal.
    Refusal(Arc<Manifest>),
    /// None.
    Nothing,
}

impl Slot {
    /// The text that counts.
    pub(crate) fn current(&self) -> Option<&Arc<Manifest>> {
        self.written.values().next()
    }

    /// Settles which version is in force. `hidden` says that the file it was last good in has text of which
    /// the object cannot be told, so that it may still be meant to be there.
    pub(crate) fn settle(&mut self, hidden: impl Fn(&Str) -> bool) -> InForce {
        match self.current().cloned() {
            Some(current) if !current.broken => {
                self.last_good = Some(Arc::clone(&current));
                InForce::Written(current)
            }
            Some(current) => match &self.last_good {
                Some(good) => InForce::Stale(Arc::clone(good)),
                None if current.key.kind.is_security() => InForce::Refusal(current),
                None => InForce::Nothing,
            },
            None => match &self.last_good {
                Some(good) if hidden(&good.file) => InForce::Stale(Arc::clone(good)),
                _ => {
                    self.last_good = None;
                    InForce::Nothing
                }
            },
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.last_good.is_none()
    }
}

impl InForce {
    pub(crate) fn manifest(&self) -> Option<&Arc<Manifest>> {
        match self {
            Self::Written(manifest) | Self::Stale(manifest) | Self::Refusal(manifest) => Some(manifest),
            Self::Nothing => None,
        }
    }
}
