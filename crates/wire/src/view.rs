//! `View`: what a viewer sees under a type and a name; `NativeView`: our own, encoded once for all.
//!
//! A session asks by name and not by delta: changes that pile up while a proxy is slow then cost one answer,
//! the newest. [`NativeView`] filters by scope and never joins, so each resource is encoded once in a revision
//! and all proxies share the bytes. A clone is cheap: it shares all but what changes later.

use crate::Any;
use crate::convert::{self, TypeUrl};
use crate::pb::envoy::service::discovery::v3::Resource as WireResource;
use aws_lc_rs::digest;
use bytes::Bytes;
use lateen_model::{
    Catalog, Delta, Entry, Key, Kind, Resource, Revision, Scope, Shards, Str, Viewer, role_needs,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// A hash of the bytes of a resource: the same object has the same version in every replica and after
/// every restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Version(u128);

impl Version {
    /// The version of these bytes: the first half of their SHA-256, so that nobody can make two that agree.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        let half = hash.as_ref().first_chunk::<16>().expect("SHA-256 has 32 bytes");
        Self(u128::from_be_bytes(*half))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A resource as proxies see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The type it is shown under.
    pub type_url: TypeUrl,
    /// Its name there.
    pub name: Str,
    /// The hash of the bytes.
    pub version: Version,
    /// The encoded message.
    pub bytes: Bytes,
    key: Key,
    kind: Kind,
    scope: Scope,
    /// An overlay of a service gives way to the service itself.
    overlay: bool,
}

impl Shown {
    fn new(entry: &Entry) -> Self {
        let encoded = convert::encode(entry);
        Self {
            type_url: encoded.type_url,
            name: encoded.name,
            version: Version::of(&encoded.bytes),
            bytes: encoded.bytes,
            key: entry.key.clone(),
            kind: entry.resource.kind(),
            scope: entry.scope.clone(),
            overlay: matches!(&entry.resource, Resource::Service(service) if !service.canonical),
        }
    }

    fn seen_by(&self, viewer: &Viewer) -> bool {
        role_needs(viewer.role, self.kind) && self.scope.includes(viewer)
    }

    /// Its place among what is shipped under its type: names before what refers to them.
    pub(crate) fn order(&self) -> (Kind, &Key) {
        (self.kind, &self.key)
    }

    /// How it goes into a response; the bytes are shared.
    pub(crate) fn to_wire(&self) -> WireResource {
        let any = Any { type_url: self.type_url.as_str().to_owned(), value: self.bytes.clone() };
        let version = self.version.to_string();
        WireResource { version, resource: Some(any), name: self.name.to_string(), aliases: Vec::new() }
    }
}

/// A type and a name under it.
pub type Name = (TypeUrl, Str);

/// What viewers see of one state.
pub trait View: Send + Sync {
    /// The types it has, in the order of shipping.
    fn type_urls(&self) -> &'static [TypeUrl];
    /// The state.
    fn revision(&self) -> Revision;
    /// What this viewer sees under a name.
    fn show(&self, type_url: TypeUrl, name: &str, viewer: &Viewer) -> Option<Arc<Shown>>;
    /// All that this viewer sees under a type, in no order.
    fn all(&self, type_url: TypeUrl, viewer: &Viewer) -> Vec<Arc<Shown>>;
    /// The names that may look different since an earlier state of this view, each at least once. None
    /// when that is too long ago to tell.
    fn since(&self, earlier: Revision) -> Option<Vec<Name>>;
}

/// How many names the memory of changes holds: past that a session compares whole states.
const REMEMBERED_NAMES: usize = 100_000;
const REMEMBERED_CHANGES: usize = 256;

/// Our own view.
#[derive(Clone, Default)]
pub struct NativeView {
    revision: Revision,
    tables: [Shards<Str, Slot>; TypeUrl::SHIPPED.len()],
    places: Shards<Key, Name>,
    changes: VecDeque<Change>,
    remembered: usize,
    /// The state before the oldest change that is remembered.
    floor: Revision,
}

#[derive(Clone)]
struct Change {
    revision: Revision,
    names: Arc<[Name]>,
}

/// What is under one name. Two objects may declare the same service; the better comes first.
#[derive(Clone)]
enum Slot {
    One(Arc<Shown>),
    Many(Arc<[Arc<Shown>]>),
}

impl Slot {
    fn as_slice(&self) -> &[Arc<Shown>] {
        match self {
            Self::One(shown) => std::slice::from_ref(shown),
            Self::Many(many) => many,
        }
    }

    fn new(mut all: Vec<Arc<Shown>>) -> Option<Self> {
        all.sort_by(|a, b| (a.overlay, &a.key).cmp(&(b.overlay, &b.key)));
        match all.len() {
            0 => None,
            1 => all.pop().map(Self::One),
            _ => Some(Self::Many(all.into())),
        }
    }
}

impl NativeView {
    /// The view of a whole state.
    pub fn new(catalog: &Catalog) -> Self {
        let mut view = Self::default();
        view.apply(&catalog.to_delta(), catalog.revision());
        view.changes.clear();
        (view.floor, view.remembered) = (catalog.revision(), 0);
        view
    }

    /// Moves on to the next state.
    pub fn apply(&mut self, delta: &Delta, revision: Revision) {
        let mut names = Vec::new();
        for entry in &delta.set {
            self.set(entry, &mut names);
        }
        for key in &delta.removed {
            self.remove(key, &mut names);
        }
        self.revision = revision;
        self.remembered += names.len();
        self.changes.push_back(Change { revision, names: names.into() });
        while self.changes.len() > REMEMBERED_CHANGES || self.remembered > REMEMBERED_NAMES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.remembered -= oldest.names.len();
            self.floor = oldest.revision;
        }
    }

    fn set(&mut self, entry: &Entry, changed: &mut Vec<Name>) {
        if entry.scope == Scope::Nobody || entry.resource.kind() == Kind::Process {
            return self.remove(&entry.key, changed);
        }
        let shown = Arc::new(Shown::new(entry));
        let name = (shown.type_url, shown.name.clone());
        if self.places.get(&entry.key).is_some_and(|before| *before != name) {
            self.remove(&entry.key, changed);
        }
        let mut all = self.slot(name.0, &name.1).to_vec();
        if all.contains(&shown) {
            return;
        }
        all.retain(|other| other.key != entry.key);
        all.push(shown);
        self.places.insert(entry.key.clone(), name.clone());
        self.put(name, all, changed);
    }

    fn remove(&mut self, key: &Key, changed: &mut Vec<Name>) {
        let Some(name) = self.places.remove(key) else { return };
        let mut all = self.slot(name.0, &name.1).to_vec();
        all.retain(|other| other.key != *key);
        self.put(name, all, changed);
    }

    fn slot(&self, type_url: TypeUrl, name: &str) -> &[Arc<Shown>] {
        let table = self.tables.get(type_url.index());
        table.and_then(|table| table.get(name)).map_or(&[], Slot::as_slice)
    }

    fn put(&mut self, name: Name, all: Vec<Arc<Shown>>, changed: &mut Vec<Name>) {
        match Slot::new(all) {
            Some(slot) => drop(self.tables[name.0.index()].insert(name.1.clone(), slot)),
            None => drop(self.tables[name.0.index()].remove(&name.1)),
        }
        changed.push(name);
    }
}

impl View for NativeView {
    fn type_urls(&self) -> &'static [TypeUrl] {
        &TypeUrl::SHIPPED
    }

    fn revision(&self) -> Revision {
        self.revision
    }

    fn show(&self, type_url: TypeUrl, name: &str, viewer: &Viewer) -> Option<Arc<Shown>> {
        self.slot(type_url, name).iter().find(|shown| shown.seen_by(viewer)).cloned()
    }

    fn all(&self, type_url: TypeUrl, viewer: &Viewer) -> Vec<Arc<Shown>> {
        let best = |slot: &Slot| slot.as_slice().iter().find(|shown| shown.seen_by(viewer)).cloned();
        let table = self.tables.get(type_url.index());
        table.map(|table| table.values().filter_map(best).collect()).unwrap_or_default()
    }

    fn since(&self, earlier: Revision) -> Option<Vec<Name>> {
        if earlier < self.floor || earlier > self.revision {
            return None;
        }
        let later = self.changes.iter().rev().take_while(|change| change.revision > earlier);
        Some(later.flat_map(|change| change.names.iter().cloned()).collect())
    }
}
