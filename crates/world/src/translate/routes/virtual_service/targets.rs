//! Destinations to targets.

use super::super::super::services;
use crate::problem::{Draft, nearest};
use crate::schema::Spec;
use crate::schema::virtual_service::DestinationSpec;
use crate::view::{Derived, Fact, View};
use lateen_model::{BackendTarget, Namespace};

/// A destination, found or not.
pub(super) struct Target {
    target: BackendTarget,
    /// Ports the caller may have used, where the destination names none and has several.
    pub(super) callers_ports: Vec<u16>,
}

impl Target {
    /// The target for a caller that used this port.
    pub(super) fn at(&self, port: Option<u16>) -> BackendTarget {
        match (&self.target, port) {
            (BackendTarget::Service { service, subset, .. }, Some(port))
                if !self.callers_ports.is_empty() =>
            {
                if !self.callers_ports.contains(&port) {
                    let reason = format!("{} has no port {port}", service.hostname);
                    return BackendTarget::Invalid { status: 503, reason: reason.into() };
                }
                BackendTarget::Service { service: service.clone(), port, subset: subset.clone() }
            }
            (target, _) => target.clone(),
        }
    }
}

/// What a destination written in a namespace means.
pub(super) fn target(
    view: &View<'_>,
    namespace: &Namespace,
    destination: &DestinationSpec,
    derived: &mut Derived,
) -> Target {
    let host = view.state.qualify(&destination.host, namespace);
    let mut invalid = |reason: &'static str, draft: Draft| {
        let target = BackendTarget::Invalid { status: 503, reason: draft.message.as_str().into() };
        derived.unresolved(reason, draft);
        Target { target, callers_ports: Vec::new() }
    };
    let Some(found) = services::find(view, &host, namespace) else {
        let draft =
            super::super::unknown_host(view, &destination.host, &host, namespace, "no service has the host");
        return invalid("HostNotFound", draft);
    };
    if let Some(subset) = &destination.subset {
        let known = subsets(view, &host, namespace);
        if !known.contains(&subset.as_str()) {
            let message = format!("no DestinationRule for {host} has a subset {:?}", subset.as_str());
            let suggestion = nearest(subset, known.iter().copied());
            return invalid("SubsetNotFound", Draft::error(subset.span, message).suggest(suggestion));
        }
    }
    let (port, callers_ports) = match (&destination.port, found.ports.as_slice()) {
        (Some(port), ports) if !ports.contains(&port.value) => {
            let draft = Draft::error(port.span, format!("{host} has no port {}", port.value));
            return invalid("PortNotFound", draft.expected(super::super::http_route::list(ports)));
        }
        (Some(port), _) => (port.value, Vec::new()),
        (None, []) => {
            let draft =
                Draft::error(destination.host.span, format!("{host} has no port that takes requests"));
            return invalid("PortNotFound", draft);
        }
        (None, [port]) => (*port, Vec::new()),
        (None, ports) => (ports[0], ports.to_vec()),
    };
    let subset = destination.subset.as_ref().map(|subset| subset.value.clone());
    Target { target: BackendTarget::Service { service: found.id, port, subset }, callers_ports }
}

/// The subsets that DestinationRules which a client of this namespace sees give to a host.
fn subsets<'a>(view: &View<'a>, host: &str, client: &Namespace) -> Vec<&'a str> {
    let labels = host.match_indices('.').map(|(place, _)| format!("*{}", &host[place..]));
    let patterns = std::iter::once(host.to_owned()).chain(labels).chain(["*".to_owned()]);
    patterns
        .flat_map(|pattern| view.stating(Fact::Destination(pattern.into())))
        .filter_map(|manifest| match &manifest.spec {
            Some(Spec::DestinationRule(rule)) => Some((manifest, rule)),
            _ => None,
        })
        .filter(|(manifest, rule)| rule.export_to.visibility(&manifest.key.namespace).allows(client))
        .flat_map(|(_, rule)| rule.subsets.iter().map(|subset| subset.name.as_str()))
        .collect()
}
