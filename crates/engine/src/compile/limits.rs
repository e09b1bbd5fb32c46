//! Compiles limits: which hold for the viewer, and where.

use super::Compiler;
use super::index::Dirty;
use crate::limits::{Limit, LimitIndex, RateRule, of_object};
use lateen_model::{Policy, PolicyKind, ProxyRole, Resource, Target};
use std::sync::Arc;

impl Compiler {
    /// Limits are few and say little, so all are compiled when one changed, or what they are attached to.
    pub(super) fn compile_limits(&mut self, dirty: &Dirty) {
        if !(dirty.limits || dirty.security || dirty.gateways) {
            return;
        }
        let mut index = LimitIndex::default();
        let own = self.index.own();
        let gateway = self.index.viewer.role == ProxyRole::Gateway;
        for entry in self.index.limits.values() {
            let Resource::Policy(policy) = &entry.resource else { continue };
            let limit = || Arc::new(compiled(policy));
            match &policy.target {
                Target::Mesh => index.own.push(limit()),
                Target::Namespace(namespace) if namespace == self.index.viewer.namespace() => {
                    index.own.push(limit());
                }
                Target::Selected if own.is_some_and(|own| own.policies.contains(&policy.id)) => {
                    index.own.push(limit());
                }
                Target::Namespace(_) | Target::Selected => {}
                Target::Service(service) => index.services.entry(service.clone()).or_default().push(limit()),
                Target::Gateway(key) => {
                    for port in self.index.ports_of(key) {
                        index.ports.entry(port).or_default().push(limit());
                    }
                }
                Target::Route(route) => index.routes.entry(of_object(route)).or_default().push(limit()),
            }
        }
        debug_assert!(gateway || index.ports.is_empty());
        self.next.set_limits(index);
    }
}

fn compiled(policy: &Policy) -> Limit {
    let (rates, sizes) = match &policy.kind {
        PolicyKind::RateLimit(limit) => {
            let rule =
                |rule: &lateen_model::LimitRule| RateRule { policy: policy.id.clone(), rule: rule.clone() };
            (limit.rules.iter().map(rule).map(Arc::new).collect(), None)
        }
        PolicyKind::RequestLimit(limit) => (Vec::new(), Some(limit.clone())),
        _ => (Vec::new(), None),
    };
    Limit { policy: policy.id.clone(), rates, sizes }
}
