//! Process.

use super::key;
use crate::ObjectKind;
use crate::manifest::Manifest;
use crate::problem::Draft;
use crate::schema::lateen::ProcessSpec;
use crate::view::{Derived, View};
use lateen_model::{Entry, Origin, Process, Resource, Run, Scope};

pub(crate) fn process(view: &View<'_>, manifest: &Manifest, spec: &ProcessSpec, derived: &mut Derived) {
    let account = spec.service_account.as_ref();
    if let Some(account) = account.filter(|account| account.as_str() != "default") {
        // Only a warning: accounts of a mesh on one machine need no object, but a misspelt one is an identity
        // that no policy knows. Where none is declared at all, none is missed.
        let declared =
            |name: &str| view.get(ObjectKind::ServiceAccount, &manifest.key.namespace, name).is_some();
        let mut others = view
            .stating(crate::view::Fact::KindIn(ObjectKind::ServiceAccount, manifest.key.namespace.clone()))
            .peekable();
        if others.peek().is_some() && !declared(account.as_str()) {
            let names: Vec<&str> = others.map(|other| other.key.name.as_str()).collect();
            let message =
                format!("there is no ServiceAccount {:?} in {}", account.as_str(), manifest.key.namespace);
            let nearest = crate::problem::nearest(account.as_str(), names);
            derived.drafts.push(Draft::warning(account.span, message).suggest(nearest));
        }
    }
    let process = Process {
        key: key(manifest, Origin::Process),
        name: manifest.key.name.clone(),
        namespace: manifest.key.namespace.clone(),
        labels: spec.labels.clone(),
        service_account: account.map(|account| account.value.clone()).unwrap_or_default(),
        run: Run::Command(spec.command.clone()),
        ports: spec.ports.clone(),
        replicas: spec.replicas,
        readiness: spec.readiness.clone(),
        restart: spec.restart,
    };
    derived.entries.push(Entry {
        key: process.key.clone(),
        scope: Scope::Nobody,
        resource: Resource::Process(process),
    });
}
