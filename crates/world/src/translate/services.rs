//! Service and ServiceEntry to `Service`, and inline endpoints to `Workload`.

use super::{key, visible, workloads};
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::Draft;
use crate::schema::Spec;
use crate::schema::core::{Addresses, PortSpec, ServiceSpec};
use crate::schema::entries::{Resolution, ServiceEntrySpec, Single};
use crate::view::{Derived, Fact, View, is_older};
use lateen_model::{
    AppProtocol, Location, MeshAddr, Namespace, Origin, Resource, Service, ServiceId, ServicePort, Str,
    Visibility,
};
use std::net::IpAddr;

pub(crate) fn service(view: &View<'_>, manifest: &Manifest, spec: &ServiceSpec, derived: &mut Derived) {
    if let Some(name) = &spec.external_name {
        let message = format!(
            "ExternalName is not enforced yet; to name {} inside the mesh write a ServiceEntry with that host",
            name.as_str()
        );
        derived.not_enforced = Some(message.clone());
        derived.drafts.push(Draft::unsupported(name.span, message));
        return;
    }
    let Some(id) = view.state.service_ids(manifest).pop() else {
        return derived
            .reject("InvalidName", Draft::error(manifest.meta.name_span, "this name makes no host name"));
    };
    if let (Some(refused), Addresses::Given(given)) = (view.state.refused.get(&id), &spec.addresses) {
        for ip in given.iter().filter(|ip| refused.contains(&ip.value)) {
            let message = format!("{} belongs to another service; this one has another address", ip.value);
            derived.conflict(Draft::error(ip.span, message));
        }
    }
    if spec.selector.is_none() {
        let message = "a Service without `selector` has no endpoints here, since Endpoints are not read";
        derived.drafts.push(Draft::warning(manifest.meta.name_span, message));
    }
    let visibility = spec.visibility.clone().unwrap_or_default();
    let service = Service {
        namespace: manifest.key.namespace.clone(),
        name: manifest.key.name.clone(),
        hostname: id.hostname.clone(),
        addresses: addresses(view, &id),
        ports: spec.ports.iter().map(service_port).collect(),
        subject_alt_names: Vec::new(),
        location: Location::Internal,
        canonical: true,
        visibility: visibility.clone(),
        publish_not_ready: spec.publish_not_ready,
        resolution: Default::default(),
    };
    let seen = with_own(visibility, &manifest.key.namespace);
    derived.entries.push(visible(key(manifest, Origin::Service), &seen, Resource::Service(service)));
}

pub(crate) fn service_entry(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &ServiceEntrySpec,
    derived: &mut Derived,
) {
    if !spec.is_enforced() {
        let message = match spec.resolution.value {
            Resolution::Dns => "resolution by DNS is not enforced yet".to_owned(),
            _ => "resolution NONE is enforced for single `addresses` only".to_owned(),
        };
        if spec.resolution.value == Resolution::None {
            derived.drafts.push(Draft::unsupported(spec.resolution.span, message.clone()));
        }
        derived.not_enforced = Some(message);
        return;
    }
    let singles: Vec<IpAddr> =
        spec.addresses.iter().filter(|range| range.is_single()).map(|range| range.addr()).collect();
    for range in spec.addresses.iter().filter(|range| !range.is_single()) {
        derived.drafts.push(Draft::unsupported(range.span, "ranges of addresses are not enforced yet"));
    }
    let visibility = spec.export_to.visibility(&manifest.key.namespace);
    let seen = with_own(visibility.clone(), &manifest.key.namespace);
    for id in view.state.service_ids(manifest) {
        let others = view.stating(Fact::Host(id.hostname.as_str().into()));
        let overlays = others.into_iter().any(|other| other.key.kind == ObjectKind::Service);
        if let Some(older) = view.stating(Fact::Host(id.hostname.as_str().into())).find(|other| {
            other.key.kind == ObjectKind::ServiceEntry
                && other.key.namespace == manifest.key.namespace
                && is_older(other, manifest)
        }) {
            let span = spec.hosts.first().map_or(manifest.meta.name_span, |host| host.span);
            derived.conflict(Draft::warning(
                span,
                format!("{} is declared by {} already", id.hostname, older.key),
            ));
        }
        let own = match singles.as_slice() {
            [] => addresses(view, &id),
            given => given.iter().map(|ip| mesh_addr(view, *ip)).collect(),
        };
        let service = Service {
            namespace: manifest.key.namespace.clone(),
            name: manifest.key.name.clone(),
            hostname: id.hostname.clone(),
            addresses: own,
            ports: spec.ports.iter().map(service_port).collect(),
            subject_alt_names: spec.subject_alt_names.clone(),
            location: spec.location,
            canonical: !overlays,
            visibility: visibility.clone(),
            publish_not_ready: false,
            resolution: Default::default(),
        };
        let key = key(manifest, Origin::ServiceEntry).section(id.hostname.as_str());
        derived.entries.push(visible(key, &seen, Resource::Service(service)));
    }
    workloads::inline_endpoints(view, manifest, spec, &singles, derived);
}

/// The namespace of a service needs it too, for those who answer for it.
fn with_own(visibility: Visibility, own: &Namespace) -> Visibility {
    match visibility {
        Visibility::Public => Visibility::Public,
        Visibility::Only(mut namespaces) => {
            namespaces.push(own.clone());
            namespaces.sort();
            namespaces.dedup();
            Visibility::Only(namespaces)
        }
    }
}

fn addresses(view: &View<'_>, id: &ServiceId) -> Vec<MeshAddr> {
    view.state.addresses.get(id).iter().map(|ip| mesh_addr(view, *ip)).collect()
}

fn mesh_addr(view: &View<'_>, ip: IpAddr) -> MeshAddr {
    MeshAddr { network: view.state.settings.network.clone(), ip }
}

fn service_port(port: &PortSpec) -> ServicePort {
    ServicePort {
        number: port.number.value,
        name: port.name.clone(),
        protocol: port.protocol,
        target: port.target.clone(),
    }
}

/// A service that a route may send to.
pub(crate) struct Destination {
    pub(crate) id: ServiceId,
    /// Its ports, without those of UDP.
    pub(crate) ports: Vec<u16>,
}

/// The service that clients of a namespace mean by a host: a Service before a ServiceEntry, the own
/// namespace before others, the older before the younger.
pub(crate) fn find(view: &View<'_>, host: &str, client: &Namespace) -> Option<Destination> {
    let candidates = view.stating(Fact::Host(Str::from(host)));
    let visible = candidates.filter(|manifest| match &manifest.spec {
        Some(Spec::ServiceEntry(spec)) => spec.export_to.visibility(&manifest.key.namespace).allows(client),
        Some(Spec::Service(spec)) => {
            manifest.key.namespace == *client
                || spec.visibility.as_ref().is_none_or(|seen| seen.allows(client))
        }
        _ => false,
    });
    let best = visible.min_by_key(|manifest| {
        let key = &manifest.key;
        (
            key.kind != ObjectKind::Service,
            key.namespace != *client,
            manifest.meta.created,
            &key.namespace,
            &key.name,
        )
    })?;
    let id = view.state.service_ids(best).into_iter().find(|id| id.hostname.as_str() == host)?;
    let ports = match &best.spec {
        Some(Spec::Service(spec)) => &spec.ports,
        Some(Spec::ServiceEntry(spec)) => &spec.ports,
        _ => return None,
    };
    let ports = ports.iter().filter(|port| port.protocol != AppProtocol::Udp).map(|port| port.number.value);
    Some(Destination { id, ports: ports.collect() })
}
