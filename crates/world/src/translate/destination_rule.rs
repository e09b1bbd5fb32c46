//! DestinationRule.

use super::{key, visible};
use crate::manifest::Manifest;
use crate::problem::Draft;
use crate::schema::destination_rule::DestinationRuleSpec;
use crate::view::{Derived, View};
use lateen_model::{
    DestinationPolicy, HostPattern, Origin, Policy, PolicyKind, Resource, Selector, ServiceId, Subset,
    Target, Visibility,
};

pub(crate) fn destination_rule(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &DestinationRuleSpec,
    derived: &mut Derived,
) {
    let namespace = &manifest.key.namespace;
    let host = view.state.qualify(&spec.host, namespace);
    let Ok(pattern) = HostPattern::parse(&host) else { return };
    let mut target = Target::Mesh;
    if let HostPattern::Exact(hostname) = &pattern {
        match super::services::find(view, hostname.as_str(), namespace) {
            Some(found) => target = Target::Service(found.id),
            None => {
                let service = ServiceId { namespace: namespace.clone(), hostname: hostname.clone() };
                target = Target::Service(service);
                derived.unresolved(
                    "HostNotFound",
                    super::routes::unknown_host(
                        view,
                        &spec.host,
                        &host,
                        namespace,
                        "no service has the host",
                    ),
                );
            }
        }
    }
    let policy = DestinationPolicy {
        clients: spec.clients.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
        host: pattern,
        traffic: spec.traffic.clone(),
        subsets: spec
            .subsets
            .iter()
            .map(|subset| Subset {
                name: subset.name.value.clone(),
                labels: Selector::new(subset.labels.clone()),
                traffic: subset.traffic.clone(),
            })
            .collect(),
        // A selector of clients does not reach into other namespaces.
        visibility: match &spec.clients {
            Some(_) => Visibility::Only(vec![namespace.clone()]),
            None => spec.export_to.visibility(namespace),
        },
    };
    for subset in spec.subsets.iter().filter(|subset| subset.labels.is_empty()) {
        let message = format!("the subset {:?} has no labels, so it is every endpoint", subset.name.as_str());
        derived.drafts.push(Draft::warning(subset.name.span, message));
    }
    let visibility = policy.visibility.clone();
    let id = key(manifest, Origin::DestinationRule);
    let created = manifest.meta.created;
    let policy = Policy { id: id.clone(), target, created, kind: PolicyKind::Destination(Box::new(policy)) };
    derived.entries.push(visible(id, &visibility, Resource::Policy(policy)));
}
