//! `Refused`: a resource that was not taken, and what stands in for it.

use super::{Invalid, TypeUrl, policy};
use crate::pb::istio::security as istio;
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Action, Authorization, AuthorizationRule, Created, Entry, Key, Namespace, Origin, Policy, PolicyKind,
    Resource, Scope, Str, Target,
};

/// A resource that was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{type_url} {name} is refused: {why}")]
pub struct Refused {
    /// The type it came under.
    pub type_url: TypeUrl,
    /// Its name there.
    pub name: Str,
    /// What is wrong with it.
    pub why: Str,
    /// What must hold in its place: of a security resource, a policy that denies the narrowest target that
    /// could be read. None for the others: the last good state of them stays.
    pub stand_in: Option<Box<Entry>>,
}

impl Refused {
    pub(super) fn plain(type_url: TypeUrl, name: &str, why: &Invalid) -> Self {
        Self { type_url, name: name.into(), why: why.to_string().into(), stand_in: None }
    }

    pub(super) fn security(
        type_url: TypeUrl,
        name: &str,
        why: &Invalid,
        key: Option<Key>,
        target: Target,
    ) -> Self {
        let key = key.unwrap_or_else(|| nameless(type_url, name));
        let note = format!("{name} was refused: {why}");
        Self { stand_in: Some(Box::new(deny_all(key, target, note))), ..Self::plain(type_url, name, why) }
    }
}

/// A policy that denies everything to its target, with a note that says why.
pub fn deny_all(key: Key, target: Target, note: impl Into<Str>) -> Entry {
    let authorization = Authorization {
        action: Action::Deny,
        rules: vec![AuthorizationRule::default()],
        dry_run: false,
        note: Some(note.into()),
    };
    let kind = PolicyKind::Authorization(authorization);
    let policy = Policy { id: key.clone(), target, created: Created::UNKNOWN, kind };
    Entry { key, scope: Scope::Everyone, resource: Resource::Policy(policy) }
}

/// A key for a stand-in whose own key cannot be read: no user object has such a section.
fn nameless(type_url: TypeUrl, name: &str) -> Key {
    Key::new(Origin::AuthorizationPolicy, Namespace::default(), "refused")
        .section(format!("{type_url}/{name}"))
}

/// Refuses a policy. Only one that is known to be about traffic is not security.
pub(super) fn policy(type_url: TypeUrl, name: &str, why: &Invalid, message: &pb::Policy) -> Refused {
    use pb::policy::Kind::{Destination, RateLimit, RequestLimit};
    if matches!(message.kind, Some(Destination(_) | RateLimit(_) | RequestLimit(_))) {
        return Refused::plain(type_url, name, why);
    }
    let key = Key::parse(&message.key);
    // An object of a kind that is not known: workloads cannot name it, so its namespace is the narrowest.
    let namespace = || message.key.split('/').nth(3).and_then(|text| Namespace::parse(text).ok());
    let wide = || namespace().map_or(Target::Mesh, Target::Namespace);
    let target = match policy::target_from_pb(message) {
        Ok(Target::Selected) if key.is_none() => wide(),
        Ok(target) => target,
        Err(_) => wide(),
    };
    Refused::security(type_url, name, why, key, target)
}

/// Refuses an authorization that came without our extension.
pub(super) fn authorization(
    type_url: TypeUrl,
    name: &str,
    why: &Invalid,
    message: &istio::Authorization,
) -> Refused {
    let Ok(namespace) = Namespace::parse(&message.namespace) else {
        return Refused::security(type_url, name, why, None, Target::Mesh);
    };
    let key = Key::new(Origin::AuthorizationPolicy, namespace.clone(), message.name.as_str());
    let target = match istio::Scope::try_from(message.scope) {
        Ok(istio::Scope::Global) => Target::Mesh,
        Ok(istio::Scope::WorkloadSelector) if Key::parse(&key.to_string()).is_some() => Target::Selected,
        Ok(istio::Scope::Namespace | istio::Scope::WorkloadSelector) | Err(_) => Target::Namespace(namespace),
    };
    Refused::security(type_url, name, why, Some(key), target)
}
