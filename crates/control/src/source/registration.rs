//! Instances that say that they run: kept in the state directory, one file each, and told to the hub.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_model::{Instance, Namespace, Str};
use serde::{Deserialize, Serialize};

use crate::api::types;
use crate::store::{self, Store};

const DIRECTORY: &str = "instances";
const LOSS: &str = "this instance is not known until it registers again";
/// More than one control plane can hold; each is shipped to every proxy.
const MOST: usize = 100_000;

/// The name of an instance.
pub type InstanceName = (Namespace, Str);

/// What became of a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registered {
    /// It is new or different.
    Set(Box<Instance>),
    /// It is gone.
    Removed(InstanceName),
    /// Objects by the API, as if they stood in a file.
    Text {
        /// What stands for the file.
        path: Str,
        /// The objects.
        text: String,
    },
    /// Those objects are gone.
    NoText {
        /// What stood for the file.
        path: Str,
    },
}

/// Why a registration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There are too many.
    #[error("register it: too many are registered; remove those that are gone")]
    TooMany,
    /// The hub does not take more now.
    #[error("register it: the control plane is busy; try again")]
    Busy,
}

/// All registered instances.
pub struct Registrations {
    store: Arc<Store>,
    known: Mutex<BTreeMap<InstanceName, Instance>>,
    /// Tells the hub; false when it does not take more now.
    tell: Box<dyn Fn(Registered) -> bool + Send + Sync>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    namespace: String,
    name: String,
    instance: types::Instance,
}

impl Registrations {
    /// What earlier runs were told, and what has to be told the hub first.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn load(
        store: Arc<Store>,
        tell: impl Fn(Registered) -> bool + Send + Sync + 'static,
    ) -> Result<Self, store::Error> {
        let mut known = BTreeMap::new();
        for file in store.list(DIRECTORY)? {
            let Some(stored) = store.read::<Stored>(&file, 1, LOSS)? else { continue };
            let instance = stored.instance.to_model(&stored.namespace, &stored.name);
            let instance = instance.map_err(|error| store.corrupted(&file, error.to_string(), LOSS))?;
            known.insert((instance.namespace.clone(), instance.name.clone()), instance);
        }
        Ok(Self { store, known: Mutex::new(known), tell: Box::new(tell) })
    }

    /// All that are known, by namespace and name.
    pub fn all(&self) -> Vec<Instance> {
        self.lock().values().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, name: &InstanceName) -> Option<Instance> {
        self.lock().get(name).cloned()
    }

    /// Writes it down, then tells it; the same again changes nothing.
    ///
    /// # Errors
    /// When it could not be written down or told.
    pub fn set(&self, instance: Instance) -> Result<(), Error> {
        // The lock is held until the hub is told, so that it hears changes in the order in which they are stored.
        let mut known = self.lock();
        let name = (instance.namespace.clone(), instance.name.clone());
        match known.get(&name) {
            Some(before) if *before == instance => return Ok(()),
            None if known.len() >= MOST => return Err(Error::TooMany),
            _ => {}
        }
        let stored = Stored {
            namespace: name.0.to_string(),
            name: name.1.to_string(),
            instance: types::Instance::from(&instance),
        };
        self.store.write(&file(&name), 1, &stored)?;
        // Known only once told: whoever is refused asks again, and that must not look like the same again.
        if !(self.tell)(Registered::Set(Box::new(instance.clone()))) {
            return Err(Error::Busy);
        }
        known.insert(name, instance);
        Ok(())
    }

    /// Forgets it; false when it was not known.
    ///
    /// # Errors
    /// When that could not be written down or told.
    pub fn remove(&self, name: &InstanceName) -> Result<bool, Error> {
        let mut known = self.lock();
        if !known.contains_key(name) {
            return Ok(false);
        }
        self.store.remove(&file(name))?;
        if !(self.tell)(Registered::Removed(name.clone())) {
            return Err(Error::Busy);
        }
        known.remove(name);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceName, Instance>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neither part can hold a slash: both are names of the mesh. An underscore is in neither.
fn file((namespace, name): &InstanceName) -> String {
    format!("{DIRECTORY}/{namespace}_{name}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    fn instance(name: &str, ready: bool) -> Instance {
        let text = format!(r#"{{"process": "cart", "ready": {ready}, "addresses": ["10.0.0.1"]}}"#);
        let instance: types::Instance = serde_json::from_str(&text).expect("an instance");
        instance.to_model("shop", name).expect("valid")
    }

    fn open(directory: &tempfile::TempDir) -> (Registrations, Receiver<Registered>) {
        let store = Arc::new(Store::open(directory.path()).expect("open"));
        let (sender, told) = channel();
        let tell = move |registered| sender.send(registered).is_ok();
        (Registrations::load(store, tell).expect("load"), told)
    }

    #[test]
    fn only_differences_are_told_and_a_kill_forgets_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let (registrations, told) = open(&directory);
        let (first, changed, second) = (instance("a", false), instance("a", true), instance("b", true));
        for instance in [&first, &first, &changed, &second] {
            registrations.set(instance.clone()).expect("set");
        }
        let name = (second.namespace.clone(), second.name.clone());
        assert!(registrations.remove(&name).expect("remove"));
        assert!(!registrations.remove(&name).expect("remove"));
        drop(registrations);
        let set = |instance: &Instance| Registered::Set(Box::new(instance.clone()));
        let expected = [set(&first), set(&changed), set(&second), Registered::Removed(name)];
        assert_eq!(told.iter().collect::<Vec<_>>(), expected);
        assert_eq!(open(&directory).0.all(), [changed]);
    }

    #[test]
    fn who_was_refused_can_ask_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Store::open(directory.path()).expect("open"));
        let busy = Arc::new(AtomicBool::new(true));
        let registrations = Registrations::load(store, {
            let busy = Arc::clone(&busy);
            move |_| !busy.load(Ordering::Relaxed)
        });
        let registrations = registrations.expect("load");
        let first = instance("a", true);
        assert!(matches!(registrations.set(first.clone()), Err(Error::Busy)));
        busy.store(false, Ordering::Relaxed);
        registrations.set(first.clone()).expect("taken now");
        assert_eq!(registrations.all(), [first]);
    }
}
