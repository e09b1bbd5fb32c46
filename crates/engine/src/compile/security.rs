//! Compiles what holds for those who call the viewer itself: authentication and authorization.

use super::Compiler;
use super::index::Dirty;
use crate::authz::Authorizations;
use crate::inbound::{Inbound, Levels};
use lateen_model::{Created, Entry, Key, Origin, Policy, PolicyId, Resource, Target, Workload};
use std::sync::Arc;

impl Compiler {
    pub(super) fn compile_security(&mut self, dirty: &Dirty) {
        if !dirty.security && !dirty.gateways {
            return;
        }
        let own = self.index.own().cloned();
        let (selected, missing) = self.selected(own.as_deref());
        let mut levels = Levels { workload: selected, ..Levels::default() };
        for entry in self.index.wide.iter().filter_map(|key| self.index.entries.get(key)) {
            match &policy(entry).target {
                Target::Mesh => levels.mesh.push(entry),
                _ => levels.namespace.push(entry),
            }
        }
        for level in [&mut levels.mesh, &mut levels.namespace, &mut levels.workload] {
            level.sort_by(|a, b| age(a).cmp(&age(b)));
        }
        let everywhere = || levels.mesh.iter().chain(&levels.namespace).chain(&levels.workload).copied();
        let inbound = Authorizations::new(everywhere(), missing.clone());
        let mut gateway = (*self.next.gateway).clone();
        for (port, listeners) in &mut gateway.ports {
            let gateways = self.index.gateways_on(*port);
            let keys = gateways.filter_map(|key| self.index.targeted.get(key)).flatten();
            let targeted = keys.filter_map(|key| self.index.entries.get(key));
            let all = Authorizations::new(everywhere().chain(targeted), missing.clone());
            listeners.authorizations = Arc::new(all);
        }
        self.next.inbound = Arc::new(Inbound::new(own, &levels, inbound));
        self.next.gateway = Arc::new(gateway);
    }

    /// The policies that the workload lists, and the first one listed that is not there.
    fn selected(&self, own: Option<&Workload>) -> (Vec<&Arc<Entry>>, Option<PolicyId>) {
        // A limit that is not there yet limits nothing; a policy of who may do what that is not there denies.
        let is_security =
            |id: &&PolicyId| !matches!(id.origin, Origin::RateLimitPolicy | Origin::RequestLimitPolicy);
        let listed = || own.into_iter().flat_map(|own| &own.policies).filter(is_security);
        let known = |id: &PolicyId| self.index.security.get(id);
        let keys = listed().filter_map(known).flatten();
        let mut found: Vec<_> = keys
            .filter_map(|key| self.index.entries.get(key))
            .filter(|entry| policy(entry).target == Target::Selected)
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        (found, listed().find(|id| known(id).is_none()).cloned())
    }
}

fn policy(entry: &Entry) -> &Policy {
    match &entry.resource {
        Resource::Policy(policy) => policy,
        _ => unreachable!("only policies are indexed as policies"),
    }
}

/// Older first; of the same age in the order of namespace and name.
fn age(entry: &Entry) -> (Created, &Key) {
    (policy(entry).created, &entry.key)
}
