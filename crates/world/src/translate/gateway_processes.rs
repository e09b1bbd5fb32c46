//! The processes that play the gateways of `networking.istio.io`: one for each selector that no Process carries.

use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::schema::Spec;
use crate::view::{Derived, Fact, View};
use lateen_model::{
    Entry, Key, Labels, Origin, Process, ProcessPort, Resource, RestartPolicy, Run, Scope, ServiceAccount,
    Str,
};
use std::collections::BTreeMap;

/// Labels as something that has an order.
type Order = Vec<(Str, Str)>;

/// The processes for all Gateways, in the root namespace.
pub(crate) fn gateway_processes(view: &View<'_>) -> Derived {
    let mut wanted: BTreeMap<Order, (Labels, Vec<ProcessPort>)> = BTreeMap::new();
    for manifest in view.stating(Fact::Kind(ObjectKind::IstioGateway)) {
        let Some(Spec::IstioGateway(spec)) = &manifest.spec else { continue };
        let labels = spec.selector.labels();
        if labels.is_empty() {
            continue;
        }
        let order = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let (_, ports) = wanted.entry(order).or_insert_with(|| (labels.clone(), Vec::new()));
        for (server, name) in spec.servers.iter().zip(super::istio_gateway::listener_names(spec)) {
            if !ports.iter().any(|port| port.port == server.port.value) {
                ports.push(ProcessPort { name, port: server.port.value });
            }
        }
    }
    let written: Vec<&Manifest> = view.stating(Fact::Kind(ObjectKind::Process)).collect();
    let carried = |labels: &Labels| {
        written.iter().any(|process| match &process.spec {
            Some(Spec::Process(spec)) => {
                labels.iter().all(|(key, value)| spec.labels.get(key) == Some(value))
            }
            _ => false,
        })
    };
    let mut derived = Derived::default();
    for (labels, mut ports) in wanted.into_values() {
        if carried(&labels) {
            continue;
        }
        ports.sort_by_key(|port| port.port);
        let name = name(&labels);
        let Ok(account) = ServiceAccount::parse(&format!("{name}-service-account")) else { continue };
        let root = view.state.mesh.root_namespace.clone();
        let mut key = Key::new(Origin::IstioGateway, root.clone(), name.as_str()).section("process");
        let mut name = name;
        let taken = |key: &Key, derived: &Derived| derived.entries.iter().any(|entry| entry.key == *key);
        for number in 2.. {
            if !taken(&key, &derived) {
                break;
            }
            name = format!("{}-{number}", name.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit()));
            key = Key::new(Origin::IstioGateway, root.clone(), name.as_str()).section("process");
        }
        let process = Process {
            key: key.clone(),
            name: name.into(),
            namespace: root,
            labels,
            service_account: account,
            run: Run::Gateway,
            ports,
            replicas: 1,
            readiness: None,
            restart: RestartPolicy::Always,
        };
        derived.entries.push(Entry { key, scope: Scope::Nobody, resource: Resource::Process(process) });
    }
    derived
}

/// `istio: ingressgateway` becomes `istio-ingressgateway`, as Istio's own installation names it.
fn name(labels: &Labels) -> String {
    let raw = match labels.get("istio") {
        Some(value) => format!("istio-{value}"),
        None => labels.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join("-"),
    };
    let clean: String = raw
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() { "gateway".to_owned() } else { clean.to_owned() }
}
