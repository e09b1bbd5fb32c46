//! Revisions that only grow, also across a kill, without a write for each.

use lateen_model::Revision;
use serde::{Deserialize, Serialize};

use super::{Error, Store};

const NAME: &str = "revision.json";
const LOSS: &str = "revisions begin at 0 again, and proxies that run take them for old ones";
/// So many revisions are given out between two writes.
const BLOCK: u64 = 10_000;

/// How far revisions are reserved.
#[derive(Debug)]
pub struct Revisions {
    reserved: u64,
}

#[derive(Serialize, Deserialize)]
struct Reserved {
    reserved: u64,
}

impl Revisions {
    /// Goes on behind all that an earlier run can have given out.
    ///
    /// # Errors
    /// When the file of reservations cannot be read.
    pub fn load(store: &Store) -> Result<Self, Error> {
        let reserved = store.read::<Reserved>(NAME, 1, LOSS)?.map_or(0, |file| file.reserved);
        Ok(Self { reserved })
    }

    /// The last revision that an earlier run can have given out; after [`Revisions::load`].
    pub fn last(&self) -> Revision {
        Revision(self.reserved)
    }

    /// Call before `revision` is shown to anybody.
    ///
    /// # Errors
    /// When a further block cannot be reserved.
    pub fn reach(&mut self, store: &Store, revision: Revision) -> Result<(), Error> {
        if revision.0 > self.reserved {
            let reserved = revision.0 + BLOCK;
            store.write(NAME, 1, &Reserved { reserved })?;
            self.reserved = reserved;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_never_given_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("open");
        let mut given = Revision::default();
        for run in 0..3 {
            // Each run ends without a word, as after a kill.
            let mut revisions = Revisions::load(&store).expect("load");
            let mut next = revisions.last();
            for _ in 0..=BLOCK {
                next = next.next();
                revisions.reach(&store, next).expect("reserve");
                assert!(next > given, "run {run}: {next} after {given}");
                given = next;
            }
        }
    }
}
