//! `State` (the objects in force, with indexes), `View` (reading it, and remembering what was read).
//!
//! A derivation is a pure function of one object and of what it asks the view. Every question is
//! remembered as a `Fact`; when an object that states the fact changes, the function is run again.

use crate::allocate::Allocator;
use crate::manifest::Manifest;
use crate::object::{ObjectKey, ObjectKind};
use crate::problem::Draft;
use crate::schema::Spec;
use crate::settings::Settings;
use crate::translate::delegate_key;
use lateen_model::{
    Entry, HostPattern, Hostname, Instance, Labels, MeshSettings, Namespace, Selector, ServiceId, Str,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Something that a derivation may depend on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Fact {
    /// This object.
    Object(ObjectKey),
    /// All objects of a kind.
    Kind(ObjectKind),
    /// All objects of a kind in a namespace.
    KindIn(ObjectKind, Namespace),
    /// Services of this host.
    Host(Str),
    /// DestinationRules for exactly this pattern.
    Destination(Str),
    /// VirtualServices for exactly this pattern.
    VirtualHost(Str),
    /// VirtualServices that delegate to this one.
    Delegate(ObjectKey),
}

/// A selector of workloads, and whose it is.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Selecting {
    /// Workloads of this namespace, or (a policy of the root namespace) of all.
    pub(crate) namespace: Option<Namespace>,
    pub(crate) selector: Selector,
}

/// The objects in force, with indexes.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) mesh: MeshSettings,
    pub(crate) objects: HashMap<ObjectKey, Arc<Manifest>>,
    pub(crate) stating: HashMap<Fact, BTreeSet<ObjectKey>>,
    pub(crate) selecting: Selectors,
    pub(crate) instances: HashMap<(Namespace, Str), Instance>,
    pub(crate) addresses: Allocator,
    /// Addresses asked for that another service has.
    pub(crate) refused: HashMap<ServiceId, Vec<IpAddr>>,
}

impl State {
    /// `reviews` in `default` is `reviews.default.svc.cluster.local`; a name with a dot is whole.
    pub(crate) fn qualify(&self, host: &str, namespace: &Namespace) -> String {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.contains(['.', '*', ':']) { host } else { self.service_host(&host, namespace) }
    }

    pub(crate) fn service_host(&self, name: &str, namespace: &Namespace) -> String {
        format!("{name}.{namespace}.svc.{}", self.settings.cluster_domain)
    }

    /// The facts that an object states.
    pub(crate) fn facts(&self, manifest: &Manifest) -> Vec<Fact> {
        let key = &manifest.key;
        let mut facts = vec![
            Fact::Object(key.clone()),
            Fact::Kind(key.kind),
            Fact::KindIn(key.kind, key.namespace.clone()),
        ];
        facts.extend(self.hosts(manifest).into_iter().map(|host| Fact::Host(host.as_str().into())));
        match &manifest.spec {
            Some(Spec::DestinationRule(rule)) => {
                facts.push(Fact::Destination(self.qualify(&rule.host, &key.namespace).into()));
            }
            Some(Spec::VirtualService(service)) => {
                let hosts = service.hosts.iter().map(|host| self.qualify(host, &key.namespace));
                facts.extend(hosts.map(|host| Fact::VirtualHost(host.into())));
                let delegates = service.http.iter().filter_map(|http| http.delegate.as_ref());
                facts.extend(delegates.map(|one| Fact::Delegate(delegate_key(one, &key.namespace))));
            }
            _ => {}
        }
        facts
    }

    /// The hosts that a Service or ServiceEntry gives to callers.
    pub(crate) fn hosts(&self, manifest: &Manifest) -> Vec<Hostname> {
        match &manifest.spec {
            Some(Spec::Service(spec)) if spec.external_name.is_none() => {
                let host = self.service_host(&manifest.key.name, &manifest.key.namespace);
                Hostname::parse(&host).into_iter().collect()
            }
            Some(Spec::ServiceEntry(spec)) if spec.is_enforced() => spec
                .hosts
                .iter()
                .filter_map(|host| match &host.value {
                    HostPattern::Exact(host) => Some(host.clone()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The same, as callers name them.
    pub(crate) fn service_ids(&self, manifest: &Manifest) -> Vec<ServiceId> {
        let id = |hostname| ServiceId { namespace: manifest.key.namespace.clone(), hostname };
        self.hosts(manifest).into_iter().map(id).collect()
    }

    /// What an object selects, if it selects workloads.
    pub(crate) fn selecting_of(&self, manifest: &Manifest) -> Option<Selecting> {
        let own = || Some(manifest.key.namespace.clone());
        let (selector, namespace) = match manifest.spec.as_ref()? {
            Spec::Service(spec) => (spec.selector.as_ref()?, own()),
            Spec::ServiceEntry(spec) => (spec.selector.as_ref()?, own()),
            spec => (spec.policy_selector()?, self.reach(manifest)),
        };
        // A Service without a selector has its endpoints from elsewhere; it does not have all.
        (!selector.is_empty()).then(|| Selecting { namespace, selector: selector.value.clone() })
    }

    /// Policies of the root namespace reach into all.
    fn reach(&self, manifest: &Manifest) -> Option<Namespace> {
        (manifest.key.namespace != self.mesh.root_namespace).then(|| manifest.key.namespace.clone())
    }

    /// The objects whose selector names a workload with these labels in this namespace.
    pub(crate) fn selected_by(&self, namespace: &Namespace, labels: &Labels) -> Vec<ObjectKey> {
        let mut keys: Vec<_> = self.selecting.naming(namespace, labels).cloned().collect();
        keys.sort();
        keys
    }
}

/// Selectors by namespace and by the first label they ask for, so that a workload meets only those that
/// may name it.
#[derive(Default)]
pub(crate) struct Selectors {
    rows: HashMap<Option<Namespace>, ByLabel>,
}

/// Selectors by the first label they ask for.
type ByLabel = HashMap<(Str, Str), BTreeMap<ObjectKey, Selecting>>;

impl Selectors {
    fn first(selecting: &Selecting) -> Option<(Str, Str)> {
        selecting.selector.labels().iter().next().map(|(key, value)| (key.clone(), value.clone()))
    }

    pub(crate) fn insert(&mut self, key: ObjectKey, selecting: Selecting) {
        let Some(first) = Self::first(&selecting) else { return };
        let labels = self.rows.entry(selecting.namespace.clone()).or_default();
        labels.entry(first).or_default().insert(key, selecting);
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey, selecting: &Selecting) {
        let Some(first) = Self::first(selecting) else { return };
        let Some(labels) = self.rows.get_mut(&selecting.namespace) else { return };
        let Some(keys) = labels.get_mut(&first) else { return };
        keys.remove(key);
        if keys.is_empty() {
            labels.remove(&first);
        }
        if labels.is_empty() {
            self.rows.remove(&selecting.namespace);
        }
    }

    fn naming<'a>(
        &'a self,
        namespace: &Namespace,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a ObjectKey> {
        let own = self.rows.get(&Some(namespace.clone()));
        let all = self.rows.get(&None);
        own.into_iter().chain(all).flat_map(move |rows| {
            labels
                .iter()
                .filter_map(move |(key, value)| rows.get(&(key.clone(), value.clone())))
                .flatten()
                .filter(move |(_, selecting)| selecting.selector.matches(labels))
                .map(|(key, _)| key)
        })
    }
}

/// Reading the state, and remembering what was read.
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    reads: RefCell<BTreeSet<Fact>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self { state, reads: RefCell::default() }
    }

    pub(crate) fn into_reads(self) -> BTreeSet<Fact> {
        self.reads.into_inner()
    }

    /// One object in force.
    pub(crate) fn get(&self, kind: ObjectKind, namespace: &Namespace, name: &str) -> Option<&'a Manifest> {
        let key = ObjectKey::new(kind, namespace.clone(), name);
        let found = self.state.objects.get(&key);
        self.reads.borrow_mut().insert(Fact::Object(key));
        found.map(|manifest| &**manifest)
    }

    /// The objects that state a fact, in the order of their keys.
    pub(crate) fn stating(&self, fact: Fact) -> impl Iterator<Item = &'a Manifest> + use<'a> {
        let state = self.state;
        let keys = state.stating.get(&fact);
        self.reads.borrow_mut().insert(fact);
        keys.into_iter().flatten().filter_map(|key| state.objects.get(key)).map(|manifest| &**manifest)
    }

    /// Whether objects of this kind in this namespace may refer to that one in another.
    pub(crate) fn granted(&self, from: (ObjectKind, &Namespace), to: (&str, &str, &Namespace, &str)) -> bool {
        let (kind, namespace) = from;
        namespace == to.2
            || self.stating(Fact::KindIn(ObjectKind::ReferenceGrant, to.2.clone())).any(|manifest| {
                match &manifest.spec {
                    Some(Spec::ReferenceGrant(grant)) => {
                        grant.allows((kind.group(), kind.name(), namespace), (to.0, to.1, to.3))
                    }
                    _ => false,
                }
            })
    }
}

/// What one object gives.
#[derive(Default)]
pub(crate) struct Derived {
    pub(crate) entries: Vec<Entry>,
    pub(crate) drafts: Vec<Draft>,
    /// It is not in force, and why: a word and a sentence.
    pub(crate) rejected: Option<(&'static str, String)>,
    /// Something it refers to was not found or may not be referred to.
    pub(crate) unresolved: Option<(&'static str, String)>,
    /// Somebody else has what it wants, or takes it away: a word and a sentence.
    pub(crate) conflict: Option<(&'static str, String)>,
    /// Nothing of it is enforced.
    pub(crate) not_enforced: Option<String>,
}

impl Derived {
    /// A reference that leads nowhere.
    pub(crate) fn unresolved(&mut self, reason: &'static str, draft: Draft) {
        self.unresolved.get_or_insert_with(|| (reason, draft.message.clone()));
        self.drafts.push(draft);
    }

    /// An older object has it.
    pub(crate) fn conflict(&mut self, draft: Draft) {
        self.clash("OlderWins", draft);
    }

    /// Another object takes it away.
    pub(crate) fn clash(&mut self, reason: &'static str, draft: Draft) {
        self.conflict.get_or_insert_with(|| (reason, draft.message.clone()));
        self.drafts.push(draft);
    }

    /// The object as a whole is not in force.
    pub(crate) fn reject(&mut self, reason: &'static str, draft: Draft) {
        self.rejected.get_or_insert_with(|| (reason, draft.message.clone()));
        self.drafts.push(draft);
    }
}

/// The older of two objects that want the same: by time, then by namespace and name.
pub(crate) fn is_older(a: &Manifest, b: &Manifest) -> bool {
    (a.meta.created, &a.key.namespace, &a.key.name) < (b.meta.created, &b.key.namespace, &b.key.name)
}
