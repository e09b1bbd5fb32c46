//! PeerAuthentication, AuthorizationPolicy, RequestAuthentication: what cannot be enforced fails closed.

use super::key;
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::Draft;
use crate::schema::Spec;
use crate::schema::security::{
    ActionSpec, Attachment, AuthorizationSpec, PeerAuthenticationSpec, RequestAuthenticationSpec,
};
use crate::view::{Derived, Fact, View, is_older};
use lateen_model::{
    Action, Authorization, AuthorizationRule, Entry, MtlsMode, Origin, PeerAuthentication, Policy, PolicyId,
    PolicyKind, Resource, Str, Target,
};

/// The id that workloads list a selecting policy under, if it gives one.
pub(crate) fn listed(allow_unenforced: bool, manifest: &Manifest) -> Option<PolicyId> {
    let gives = match &manifest.spec {
        _ if manifest.broken => true,
        Some(Spec::Authorization(spec)) => match spec.action {
            ActionSpec::Allow | ActionSpec::Deny => true,
            ActionSpec::Audit => false,
            ActionSpec::Custom => !allow_unenforced,
        },
        Some(Spec::RequestAuthentication(spec)) => spec.has_rules && !allow_unenforced,
        _ => true,
    };
    id(manifest).filter(|_| gives)
}

fn id(manifest: &Manifest) -> Option<PolicyId> {
    Some(key(manifest, manifest.key.kind.origin()?))
}

pub(crate) fn peer_authentication(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &PeerAuthenticationSpec,
    derived: &mut Derived,
) {
    let policy = if manifest.broken {
        derived.rejected = Some(("Invalid", "it cannot be read, so STRICT holds in its place".to_owned()));
        PeerAuthentication { mode: MtlsMode::Strict, ports: [].into() }
    } else {
        PeerAuthentication { mode: spec.mode, ports: spec.ports.clone() }
    };
    let namespace = &manifest.key.namespace;
    let mut peers = view.stating(Fact::KindIn(ObjectKind::PeerAuthentication, namespace.clone()));
    let same = |other: &&Manifest| match &other.spec {
        Some(Spec::PeerAuthentication(theirs)) => {
            theirs.attachment.selector.as_ref().map(|at| &at.value)
                == spec.attachment.selector.as_ref().map(|at| &at.value)
        }
        _ => false,
    };
    if let Some(older) = peers.find(|other| same(other) && is_older(other, manifest)) {
        let message = format!("{} is for the same workloads and older, so it holds", older.key);
        derived.conflict(Draft::warning(manifest.meta.name_span, message));
    }
    attach(view, manifest, &spec.attachment, PolicyKind::PeerAuthentication(policy), derived);
}

pub(crate) fn authorization(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &AuthorizationSpec,
    derived: &mut Derived,
) {
    if manifest.broken {
        return deny(view, manifest, &spec.attachment, "it cannot be read", derived);
    }
    let action = match spec.action {
        ActionSpec::Allow => Action::Allow,
        ActionSpec::Deny => Action::Deny,
        ActionSpec::Audit => {
            derived.not_enforced =
                Some("the action AUDIT is not enforced yet; it would deny nothing".to_owned());
            return;
        }
        ActionSpec::Custom if view.state.settings.allow_unenforced => {
            derived.not_enforced =
                Some("the action CUSTOM is not enforced yet, and allowed to be".to_owned());
            return;
        }
        ActionSpec::Custom => {
            derived.not_enforced =
                Some("the action CUSTOM is not enforced yet, so its targets are denied".to_owned());
            return deny(view, manifest, &spec.attachment, "the action CUSTOM is not enforced yet", derived);
        }
    };
    // An ALLOW rule that is known in part allows nothing; a DENY rule without that part denies more.
    let usable = |rule: &&crate::schema::security::RuleSpec| action == Action::Deny || !rule.partial;
    let rules: Vec<AuthorizationRule> =
        spec.rules.iter().filter(usable).map(|rule| rule.rule.clone()).collect();
    let partial = spec.rules.iter().any(|rule| rule.partial);
    let note = partial.then(|| match action {
        Action::Allow => Str::from("rules with parts that are not enforced yet allow nothing"),
        Action::Deny => Str::from("parts that are not enforced yet are left out, so it denies more"),
    });
    let annotation = manifest.meta.annotations.get("istio.io/dry-run");
    let dry_run = annotation.is_some_and(|value| value.as_str() == "true");
    let policy = Authorization { action, rules, dry_run, note };
    attach(view, manifest, &spec.attachment, PolicyKind::Authorization(policy), derived);
}

pub(crate) fn request_authentication(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &RequestAuthenticationSpec,
    derived: &mut Derived,
) {
    if manifest.broken {
        return deny(view, manifest, &spec.attachment, "it cannot be read", derived);
    }
    if !spec.has_rules {
        return;
    }
    if view.state.settings.allow_unenforced {
        derived.not_enforced =
            Some("RequestAuthentication is not enforced yet, and allowed to be".to_owned());
        return;
    }
    derived.not_enforced =
        Some("RequestAuthentication is not enforced yet, so its targets are denied".to_owned());
    deny(view, manifest, &spec.attachment, "RequestAuthentication is not enforced yet", derived);
}

/// A security object of which not even the selector can be read.
pub(crate) fn unreadable(view: &View<'_>, manifest: &Manifest, derived: &mut Derived) {
    let none = Attachment::default();
    match manifest.key.kind {
        ObjectKind::PeerAuthentication => {
            peer_authentication(view, manifest, &PeerAuthenticationSpec::default(), derived);
        }
        _ => deny(view, manifest, &none, "it cannot be read", derived),
    }
}

/// Denies everything to what the object is attached to, in its place.
fn deny(view: &View<'_>, manifest: &Manifest, attachment: &Attachment, why: &str, derived: &mut Derived) {
    if manifest.broken {
        derived.rejected = Some(("Invalid", format!("{why}, so its targets are denied")));
    }
    let policy = Authorization {
        action: Action::Deny,
        rules: vec![AuthorizationRule::default()],
        dry_run: false,
        note: Some(
            format!("{} {}: {why}, so everything is denied", manifest.key.kind, manifest.key.name).into(),
        ),
    };
    attach(view, manifest, attachment, PolicyKind::Authorization(policy), derived);
}

/// Puts a policy where the object is attached.
fn attach(
    view: &View<'_>,
    manifest: &Manifest,
    attachment: &Attachment,
    kind: PolicyKind,
    derived: &mut Derived,
) {
    let Some(id) = id(manifest) else { return };
    let created = manifest.meta.created;
    let mut push = |id: PolicyId, target: Target, kind: PolicyKind| {
        let policy = Policy { id: id.clone(), target, created, kind };
        derived.entries.push(Entry::for_everyone(id, Resource::Policy(policy)));
    };
    let namespace = &manifest.key.namespace;
    let whole = || {
        if *namespace == view.state.mesh.root_namespace {
            Target::Mesh
        } else {
            Target::Namespace(namespace.clone())
        }
    };
    if attachment.selector.is_some() {
        return push(id, Target::Selected, kind);
    }
    if attachment.targets.is_empty() {
        return push(id, whole(), kind);
    }
    let mut drafts = Vec::new();
    let mut unresolved = Vec::new();
    for (index, target) in attachment.targets.iter().enumerate() {
        let id = if index == 0 { id.clone() } else { id.clone().section(index.to_string()) };
        let there = target.namespace.as_ref().map_or(namespace, |at| &at.value);
        if (target.group.as_str(), target.kind.as_str()) == ("gateway.networking.k8s.io", "Gateway") {
            if there != namespace {
                drafts.push(Draft::error(
                    target.name.span,
                    "a policy is attached within its own namespace only",
                ));
            } else if view.get(ObjectKind::Gateway, namespace, &target.name).is_none() {
                let message = format!("there is no Gateway {:?} in {namespace}", target.name.as_str());
                unresolved.push(Draft::error(target.name.span, message));
            }
            let gateway =
                lateen_model::Key::new(Origin::Gateway, namespace.clone(), target.name.value.clone());
            push(id, Target::Gateway(gateway), kind.clone());
        } else {
            // Without a target of which the workloads are known, it holds for the namespace.
            let message =
                format!("targets of kind {} are not enforced yet: it holds for the namespace", target.kind);
            drafts.push(Draft::unsupported(target.name.span, message));
            push(id, whole(), restricted(kind.clone()));
        }
    }
    derived.drafts.extend(drafts);
    unresolved.into_iter().for_each(|draft| derived.unresolved("TargetNotFound", draft));
}

/// What holds more widely than it was written for may only take away.
fn restricted(kind: PolicyKind) -> PolicyKind {
    match kind {
        PolicyKind::Authorization(policy) if policy.action == Action::Allow => {
            let note = Some(Str::from("its target is not enforced yet, so it allows nothing"));
            PolicyKind::Authorization(Authorization { rules: Vec::new(), note, ..policy })
        }
        kind => kind,
    }
}
