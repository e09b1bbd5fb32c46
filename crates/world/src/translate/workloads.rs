//! Instances, WorkloadEntries and inline endpoints to `Workload`, joined with services and policies.

use super::key;
use crate::manifest::Manifest;
use crate::object::ObjectKey;
use crate::schema::Spec;
use crate::schema::core::PortSpec;
use crate::schema::entries::{EndpointSpec, Resolution, ServiceEntrySpec};
use crate::view::{Derived, State, View};
use lateen_model::{
    Entry, Health, Instance, Key, Labels, Locality, Namespace, NetworkId, NodeName, Origin, PolicyId,
    ProcessPort, Resource, ServiceAccount, ServiceId, Str, TargetPort, Tunnel, Workload, WorkloadPort,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a workload is before it is joined.
struct Base<'a> {
    key: Key,
    name: &'a Str,
    namespace: &'a Namespace,
    labels: &'a Labels,
    addresses: Vec<IpAddr>,
    network: NetworkId,
    tunnel: Tunnel,
    service_account: &'a ServiceAccount,
    node: NodeName,
    workload_name: &'a Str,
    ready: bool,
    locality: Locality,
    weight: u32,
}

/// How the port of a service is found at a workload.
enum Ports<'a> {
    /// By the names its process gave.
    Named(&'a [ProcessPort]),
    /// By the name of the service port (`WorkloadEntry.ports`).
    ByServicePort(&'a BTreeMap<Str, u16>),
}

impl Ports<'_> {
    fn find(&self, port: &PortSpec) -> Option<u16> {
        match (self, &port.target) {
            (Self::Named(_), TargetPort::Number(number)) => Some(*number),
            (Self::Named(ports), TargetPort::Name(name)) => {
                ports.iter().find(|port| port.name == *name).map(|port| port.port)
            }
            (Self::ByServicePort(ports), target) => ports.get(port.name.as_str()).copied().or(match target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => {
                    Some(ports.get(name.as_str()).copied().unwrap_or(port.number.value))
                }
            }),
        }
    }
}

/// A registered instance. Gives the objects whose selector names it as well.
pub(crate) fn instance(state: &State, instance: &Instance) -> (Entry, Vec<ObjectKey>) {
    let selected = state.selected_by(&instance.namespace, &instance.labels);
    let base = Base {
        key: Key::new(Origin::Instance, instance.namespace.clone(), instance.name.clone()),
        name: &instance.name,
        namespace: &instance.namespace,
        labels: &instance.labels,
        addresses: instance.addresses.clone(),
        network: state.settings.network.clone(),
        tunnel: instance.tunnel,
        service_account: &instance.service_account,
        node: instance.node.clone(),
        workload_name: &instance.process,
        ready: instance.ready,
        locality: Locality::default(),
        weight: 1,
    };
    (workload(state, base, &selected, &Ports::Named(&instance.ports)), selected)
}

pub(crate) fn workload_entry(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &EndpointSpec,
    derived: &mut Derived,
) {
    let Some(address) = &spec.address else {
        derived.not_enforced = Some("its address is not enforced yet".to_owned());
        return;
    };
    let labels = entry_labels(manifest, spec);
    let selected = view.state.selected_by(&manifest.key.namespace, &labels);
    let base = Base {
        key: key(manifest, Origin::WorkloadEntry),
        name: &manifest.key.name,
        namespace: &manifest.key.namespace,
        labels: &labels,
        addresses: vec![address.value],
        network: network(view.state, spec),
        tunnel: tunnel(&labels),
        service_account: &spec.service_account,
        node: NodeName::default(),
        workload_name: &manifest.key.name,
        ready: true,
        locality: spec.locality.clone(),
        weight: spec.weight.max(1),
    };
    derived.entries.push(workload(view.state, base, &selected, &Ports::ByServicePort(&spec.ports)));
}

/// Labels of a WorkloadEntry: those in its spec, on top of those of the object.
pub(crate) fn entry_labels(manifest: &Manifest, spec: &EndpointSpec) -> Labels {
    let mut labels = manifest.meta.labels.clone();
    for (key, value) in spec.labels.iter() {
        labels.insert(key.clone(), value.clone());
    }
    labels
}

/// An endpoint without a network is in ours.
fn network(state: &State, spec: &EndpointSpec) -> NetworkId {
    if spec.network == NetworkId::default() { state.settings.network.clone() } else { spec.network.clone() }
}

/// Istio's labels that say how a machine is reached.
fn tunnel(labels: &Labels) -> Tunnel {
    let label = |name| labels.get(name).map(|value| value.as_str().to_owned());
    match (label("networking.istio.io/tunnel").as_deref(), label("security.istio.io/tlsMode").as_deref()) {
        (Some("http"), _) => Tunnel::Hbone,
        (_, Some("istio")) => Tunnel::IstioMtls,
        _ => Tunnel::None,
    }
}

/// The `endpoints` of a ServiceEntry; those of resolution NONE are the addresses themselves.
pub(crate) fn inline_endpoints(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &ServiceEntrySpec,
    singles: &[IpAddr],
    derived: &mut Derived,
) {
    let plain = |address: &IpAddr| EndpointSpec {
        address: Some(crate::problem::At { value: *address, span: manifest.meta.name_span }),
        ports: BTreeMap::new(),
        labels: Labels::default(),
        network: NetworkId::default(),
        locality: Locality::default(),
        weight: 1,
        service_account: ServiceAccount::default(),
    };
    // Nothing listed and nothing selected: the addresses that callers dial are the endpoints.
    let endpoints: Vec<EndpointSpec> = match spec.resolution.value {
        Resolution::None => singles.iter().map(plain).collect(),
        _ if spec.endpoints.is_empty() && spec.selector.is_none() => singles.iter().map(plain).collect(),
        _ => spec.endpoints.clone(),
    };
    for (index, endpoint) in endpoints.iter().enumerate() {
        let Some(address) = &endpoint.address else { continue };
        let base = Base {
            key: key(manifest, Origin::ServiceEntry).section(format!("endpoints/{index}")),
            name: &manifest.key.name,
            namespace: &manifest.key.namespace,
            labels: &endpoint.labels,
            addresses: vec![address.value],
            network: network(view.state, endpoint),
            tunnel: tunnel(&endpoint.labels),
            service_account: &endpoint.service_account,
            node: NodeName::default(),
            workload_name: &manifest.key.name,
            ready: true,
            locality: endpoint.locality.clone(),
            weight: endpoint.weight.max(1),
        };
        let own = [manifest.key.clone()];
        derived.entries.push(workload(view.state, base, &own, &Ports::ByServicePort(&endpoint.ports)));
    }
}

fn workload(state: &State, base: Base<'_>, selected: &[ObjectKey], ports: &Ports<'_>) -> Entry {
    let mut services: BTreeMap<ServiceId, Vec<WorkloadPort>> = BTreeMap::new();
    let mut policies: Vec<PolicyId> = Vec::new();
    for object in selected {
        let Some(manifest) = state.objects.get(object) else { continue };
        if object.kind.is_security() {
            policies.extend(super::policies::listed(state.settings.allow_unenforced, manifest));
            continue;
        }
        if object.kind.is_limit() {
            policies.extend(super::limits::id(manifest));
            continue;
        }
        let specs: &[PortSpec] = match &manifest.spec {
            Some(Spec::Service(spec)) => &spec.ports,
            Some(Spec::ServiceEntry(spec)) => &spec.ports,
            _ => continue,
        };
        for id in state.service_ids(manifest) {
            let ports = specs.iter().filter_map(|port| {
                let target_port = ports.find(port)?;
                Some(WorkloadPort { service_port: port.number.value, target_port, protocol: port.protocol })
            });
            services.entry(id).or_default().extend(ports);
        }
    }
    for ports in services.values_mut() {
        ports.sort();
        ports.dedup();
    }
    policies.sort();
    let label = |names: [&str; 3]| names.into_iter().find_map(|name| base.labels.get(name)).cloned();
    let canonical_name = label(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let canonical_revision =
        label(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let workload = Workload {
        uid: base.key.to_string().into(),
        name: base.name.clone(),
        namespace: base.namespace.clone(),
        addresses: base.addresses,
        hostname: None,
        network: base.network,
        tunnel: base.tunnel,
        trust_domain: state.mesh.trust_domain.clone(),
        service_account: base.service_account.clone(),
        node: base.node,
        cluster: state.settings.cluster.clone(),
        canonical_name: canonical_name.unwrap_or_else(|| base.workload_name.clone()),
        canonical_revision: canonical_revision.unwrap_or_else(|| "latest".into()),
        workload_name: base.workload_name.clone(),
        labels: base.labels.clone(),
        services,
        policies,
        health: if base.ready { Health::Healthy } else { Health::Unhealthy },
        locality: base.locality,
        weight: base.weight,
    };
    Entry::for_everyone(base.key, Resource::Workload(workload))
}
