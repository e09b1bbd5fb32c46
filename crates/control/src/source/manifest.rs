//! Objects that come by the API instead of a file of the directory: kept in the state directory, and told to the hub
//! as if they were files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_model::{ObjectName, Str};
use serde::{Deserialize, Serialize};

use super::registration::{Error, Registered};
use crate::api::manifest_origin;
use crate::store::{self, Store};

const DIRECTORY: &str = "manifests";
const LOSS: &str = "these objects are not known until they are given again";
/// Each may be as large as a request; all are read again at a start.
const MOST: usize = 10_000;
/// With its ending it has to be the name of a file.
const LONGEST_NAME: usize = 200;

/// A manifest's name: of the form of an object's name, a little shorter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ManifestName(Str);

/// A text that is no name of a manifest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidManifestName {
    /// Its form.
    #[error(transparent)]
    Form(#[from] lateen_model::InvalidName),
    /// Its length.
    #[error("the name of a manifest is too long: at most {LONGEST_NAME} bytes")]
    Length,
}

impl ManifestName {
    /// Reads a name.
    ///
    /// # Errors
    /// When it has not the form of the name of an object, or is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidManifestName> {
        let name = ObjectName::parse(text)?;
        if text.len() > LONGEST_NAME {
            Err(InvalidManifestName::Length)
        } else {
            Ok(Self(name.as_shared().clone()))
        }
    }

    /// What stands in the place of the file where problems name one. No file of a directory is called so.
    fn path(&self) -> Str {
        manifest_origin(&self.0).as_str().into()
    }

    fn file(&self) -> String {
        format!("{DIRECTORY}/{}.json", self.0)
    }
}

/// All manifests that came by the API.
pub struct Manifests {
    store: Arc<Store>,
    known: Mutex<BTreeMap<ManifestName, String>>,
    /// Tells the hub; false when it does not take more now.
    tell: Box<dyn Fn(Registered) -> bool + Send + Sync>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    text: String,
}

impl Manifests {
    /// What earlier runs were given.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn load(
        store: Arc<Store>,
        tell: impl Fn(Registered) -> bool + Send + Sync + 'static,
    ) -> Result<Self, store::Error> {
        let mut known = BTreeMap::new();
        for file in store.list(DIRECTORY)? {
            let Some(Stored { name, text }) = store.read::<Stored>(&file, 1, LOSS)? else { continue };
            let name = ManifestName::parse(&name);
            known.insert(name.map_err(|error| store.corrupted(&file, error.to_string(), LOSS))?, text);
        }
        Ok(Self { store, known: Mutex::new(known), tell: Box::new(tell) })
    }

    /// What has to be told the hub first.
    pub fn all(&self) -> Vec<Registered> {
        let told = |(name, text): (&ManifestName, &String)| Registered::Text {
            path: name.path(),
            text: text.clone(),
        };
        self.lock().iter().map(told).collect()
    }

    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().map(|name| name.0.to_string()).collect()
    }

    /// Writes it down, then tells it; the same again changes nothing.
    ///
    /// # Errors
    /// When it could not be written down or told.
    pub fn set(&self, name: ManifestName, text: String) -> Result<(), Error> {
        // The lock is held until the hub is told, so that it hears changes in the order in which they are stored.
        let mut known = self.lock();
        match known.get(&name) {
            Some(before) if *before == text => return Ok(()),
            None if known.len() >= MOST => return Err(Error::TooMany),
            _ => {}
        }
        let stored = Stored { name: name.0.to_string(), text };
        self.store.write(&name.file(), 1, &stored)?;
        if !(self.tell)(Registered::Text { path: name.path(), text: stored.text.clone() }) {
            return Err(Error::Busy);
        }
        known.insert(name, stored.text);
        Ok(())
    }

    /// Forgets it; false when it was not known.
    ///
    /// # Errors
    /// When that could not be written down or told.
    pub fn remove(&self, name: &ManifestName) -> Result<bool, Error> {
        let mut known = self.lock();
        if !known.contains_key(name) {
            return Ok(false);
        }
        self.store.remove(&name.file())?;
        if !(self.tell)(Registered::NoText { path: name.path() }) {
            return Err(Error::Busy);
        }
        known.remove(name);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ManifestName, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn open(directory: &tempfile::TempDir) -> (Manifests, Receiver<Registered>) {
        let store = Arc::new(Store::open(directory.path()).expect("open"));
        let (sender, told) = channel();
        (Manifests::load(store, move |registered| sender.send(registered).is_ok()).expect("load"), told)
    }

    fn name(text: &str) -> ManifestName {
        ManifestName::parse(text).expect("a name")
    }

    #[test]
    fn only_differences_are_told_and_a_kill_forgets_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let (manifests, told) = open(&directory);
        for text in ["kind: A", "kind: A", "kind: B"] {
            manifests.set(name("run.cart"), text.to_owned()).expect("set");
        }
        manifests.set(name("other"), "kind: C".to_owned()).expect("set");
        assert!(manifests.remove(&name("other")).expect("remove"));
        assert!(!manifests.remove(&name("other")).expect("remove"));
        drop(manifests);
        let text = |name: &str, text: &str| Registered::Text {
            path: manifest_origin(name).as_str().into(),
            text: text.to_owned(),
        };
        let gone = Registered::NoText { path: "/v1/manifests/other".into() };
        let expected =
            [text("run.cart", "kind: A"), text("run.cart", "kind: B"), text("other", "kind: C"), gone];
        assert_eq!(told.iter().collect::<Vec<_>>(), expected);
        let (manifests, _told) = open(&directory);
        assert_eq!(manifests.all(), [text("run.cart", "kind: B")]);
        assert_eq!(manifests.names(), ["run.cart"]);
    }

    #[test]
    fn a_name_is_the_name_of_a_file_here_and_nowhere_else() {
        for wrong in ["", "..", "../x", "a/b", "A", &"a".repeat(201)] {
            assert!(ManifestName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
