//! RateLimitPolicy and RequestLimitPolicy to `Policy`.

use super::{key, services};
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::{Draft, nearest};
use crate::schema::ObjectRef;
use crate::schema::security::Attachment;
use crate::view::{Derived, Fact, View};
use lateen_model::{Entry, Key, Policy, PolicyId, PolicyKind, Resource, Target};

/// Puts a policy of limits where it is attached: to what is named, to the workloads that are selected, or to its
/// whole namespace (in the root namespace: to the mesh).
pub(crate) fn limit(
    view: &View<'_>,
    manifest: &Manifest,
    attachment: &Attachment,
    kind: PolicyKind,
    derived: &mut Derived,
) {
    let Some(id) = id(manifest) else { return };
    let namespace = &manifest.key.namespace;
    let targets: Vec<Target> = if attachment.selector.is_some() {
        vec![Target::Selected]
    } else if !attachment.targets.is_empty() {
        attachment.targets.iter().filter_map(|target| named(view, manifest, target, derived)).collect()
    } else if *namespace == view.state.mesh.root_namespace {
        vec![Target::Mesh]
    } else {
        vec![Target::Namespace(namespace.clone())]
    };
    if targets.is_empty() {
        derived.rejected.get_or_insert(("NoTarget", "none of its targets is there".to_owned()));
    }
    for (index, target) in targets.into_iter().enumerate() {
        let id = if index == 0 { id.clone() } else { id.clone().section(index.to_string()) };
        let policy = Policy { id: id.clone(), target, created: manifest.meta.created, kind: kind.clone() };
        derived.entries.push(Entry::for_everyone(id, Resource::Policy(policy)));
    }
}

/// The id that workloads list a policy of limits under, where it selects them.
pub(super) fn id(manifest: &Manifest) -> Option<PolicyId> {
    Some(key(manifest, manifest.key.kind.origin()?))
}

const KINDS: [ObjectKind; 5] = [
    ObjectKind::Gateway,
    ObjectKind::IstioGateway,
    ObjectKind::HttpRoute,
    ObjectKind::GrpcRoute,
    ObjectKind::VirtualService,
];

fn named(view: &View<'_>, manifest: &Manifest, target: &ObjectRef, derived: &mut Derived) -> Option<Target> {
    let own = &manifest.key.namespace;
    let name = &target.name;
    if target.namespace.as_ref().is_some_and(|there| there.value != *own) {
        let message = "a policy is attached within its own namespace only";
        derived.unresolved("RefNotPermitted", Draft::error(name.span, message));
        return None;
    }
    let kind = ObjectKind::find(&target.group, &target.kind);
    if kind == Some(ObjectKind::Service) {
        let host = view.state.service_host(name, own);
        let found = services::find(view, &host, own);
        if found.is_none() {
            let draft = super::routes::unknown_host(view, name, &host, own, "no service has the host");
            derived.unresolved("TargetNotFound", draft);
        }
        return found.map(|found| Target::Service(found.id));
    }
    let Some(kind) = kind.filter(|kind| KINDS.contains(kind)) else {
        let message = format!("a limit cannot be attached to {:?} of {:?}", target.kind, target.group);
        let draft = Draft::error(name.span, message);
        let expected = "a Service, Gateway, HTTPRoute, GRPCRoute or VirtualService with its `group`";
        derived.unresolved("InvalidKind", draft.expected(expected));
        return None;
    };
    if view.get(kind, own, name).is_none() {
        let known = view.stating(Fact::KindIn(kind, own.clone()));
        let suggestion = nearest(name, known.map(|other| other.key.name.as_str()));
        let message = format!("there is no {kind} {:?} in {own}", name.as_str());
        derived.unresolved("TargetNotFound", Draft::error(name.span, message).suggest(suggestion));
        return None;
    }
    let key = Key::new(kind.origin()?, own.clone(), name.value.clone());
    Some(match kind {
        ObjectKind::Gateway | ObjectKind::IstioGateway => Target::Gateway(key),
        _ => Target::Route(key),
    })
}
