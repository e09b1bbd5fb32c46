//! Delegation: a VirtualService with hosts (the root) has rules from one without (the delegate).

use super::merge::merge;
use super::rules::Prepared;
use crate::manifest::Manifest;
use crate::object::{ObjectKey, ObjectKind};
use crate::problem::{Draft, nearest};
use crate::schema::Spec;
use crate::schema::virtual_service::{DelegateSpec, VirtualServiceSpec};
use crate::view::{Derived, Fact, View};
use lateen_model::Namespace;

/// The key of the VirtualService that is meant in this namespace.
pub(crate) fn delegate_key(delegate: &DelegateSpec, own: &Namespace) -> ObjectKey {
    let namespace = delegate.namespace.as_ref().unwrap_or(own);
    ObjectKey::new(ObjectKind::VirtualService, namespace.clone(), delegate.name.value.clone())
}

/// The entries of a root, with those of its delegates in their places.
pub(super) fn expand(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &VirtualServiceSpec,
    derived: &mut Derived,
) -> Vec<Prepared> {
    let own = &manifest.key.namespace;
    let mut all = Vec::new();
    for (index, http) in spec.http.iter().enumerate() {
        let Some(delegate) = &http.delegate else {
            all.push(Prepared::new(view, manifest, index.to_string(), http.clone(), derived));
            continue;
        };
        let Some((theirs, rules)) = find(view, own, delegate, derived) else { continue };
        for (inner, leaf) in rules.http.iter().enumerate() {
            let Some(merged) = merge((http, own), (leaf, &theirs.key.namespace)) else {
                let message = format!(
                    "nothing that this rule lets through can match `http[{inner}]` of {}, so that one is left out",
                    theirs.key
                );
                derived.clash("OutsideRoot", Draft::warning(delegate.name.span, message));
                continue;
            };
            // What is wrong with its destinations is told where they are written; here, only that there is something.
            let mut below = Derived::default();
            all.push(Prepared::new(view, theirs, format!("{index}-{inner}"), merged, &mut below));
            if let Some((reason, message)) = below.unresolved {
                let message = format!("{}: {message}", theirs.key);
                derived.unresolved(reason, Draft::warning(delegate.name.span, message));
            }
        }
    }
    all
}

/// The delegate that is meant, if it is one and may be used.
fn find<'a>(
    view: &View<'a>,
    own: &Namespace,
    delegate: &DelegateSpec,
    derived: &mut Derived,
) -> Option<(&'a Manifest, &'a VirtualServiceSpec)> {
    let key = delegate_key(delegate, own);
    let name = &delegate.name;
    let found = view.get(ObjectKind::VirtualService, &key.namespace, &key.name);
    let Some((manifest, Spec::VirtualService(spec))) =
        found.and_then(|found| Some((found, found.spec.as_ref()?)))
    else {
        let known = view.stating(Fact::KindIn(ObjectKind::VirtualService, key.namespace.clone()));
        let suggestion = nearest(name, known.map(|other| other.key.name.as_str()));
        let message = format!("there is no VirtualService {:?} in {}", name.as_str(), key.namespace);
        derived.unresolved("DelegateNotFound", Draft::error(name.span, message).suggest(suggestion));
        return None;
    };
    if !spec.hosts.is_empty() {
        let message = format!("{key} has `hosts`, so it is no delegate");
        derived.unresolved("DelegateNotFound", Draft::error(name.span, message));
        return None;
    }
    if !spec.export_to.visibility(&key.namespace).allows(own) {
        let message = format!("{key} is not exported to {own}");
        derived.unresolved("DelegateNotFound", Draft::error(name.span, message));
        return None;
    }
    Some((manifest, spec))
}

/// A delegate by itself: it gives nothing, and its author is told what is wrong with it.
pub(super) fn delegate(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &VirtualServiceSpec,
    derived: &mut Derived,
) {
    let own = &manifest.key;
    let roots: Vec<(&Manifest, &VirtualServiceSpec)> = view
        .stating(Fact::Delegate(own.clone()))
        .filter_map(|root| match &root.spec {
            Some(Spec::VirtualService(spec)) if !spec.hosts.is_empty() => Some((root, spec)),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        let message =
            "it has no `hosts`, and no VirtualService with hosts delegates to it, so it does nothing";
        derived.reject("NoRoot", Draft::warning(manifest.meta.name_span, message));
    }
    for (index, http) in spec.http.iter().enumerate() {
        Prepared::new(view, manifest, index.to_string(), http.clone(), derived);
        let reached = |(root, rules): &(&Manifest, &VirtualServiceSpec)| {
            let from = &root.key.namespace;
            rules.http.iter().any(|rule| {
                rule.delegate.as_ref().is_some_and(|delegate| delegate_key(delegate, from) == *own)
                    && merge((rule, from), (http, &own.namespace)).is_some()
            })
        };
        if !roots.is_empty() && !roots.iter().any(reached) {
            let names: Vec<String> = roots.iter().map(|(root, _)| root.key.to_string()).collect();
            let message = format!("nothing that {} lets through can match this rule", names.join(", "));
            derived.clash("OutsideRoot", Draft::warning(http.span, message));
        }
    }
}
