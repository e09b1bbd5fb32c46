//! Gateway of `networking.istio.io`.

use super::gateway_api::credential;
use super::key;
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::Draft;
use crate::schema::Spec;
use crate::schema::istio_gateway::GatewaySpec;
use crate::view::{Derived, Fact, View, is_older};
use lateen_model::{
    ClientCertificate, Entry, Gateway, Listener, ListenerTls, Namespace, Origin, ProxyRole, Resource, Scope,
    Str,
};

/// The names of listeners: those of the servers where they differ, else with their place.
pub(crate) fn listener_names(spec: &GatewaySpec) -> Vec<Str> {
    let mut names: Vec<Str> = Vec::new();
    for (index, server) in spec.servers.iter().enumerate() {
        let plain =
            if server.name.is_empty() { Str::from(format!("server-{index}")) } else { server.name.clone() };
        let name = if names.contains(&plain) { Str::from(format!("{plain}-{index}")) } else { plain };
        names.push(name);
    }
    names
}

pub(crate) fn gateway(view: &View<'_>, manifest: &Manifest, spec: &GatewaySpec, derived: &mut Derived) {
    let id = key(manifest, Origin::IstioGateway);
    let scope =
        Scope::Workloads { namespace: None, selector: spec.selector.clone(), role: Some(ProxyRole::Gateway) };
    let mut listeners = Vec::new();
    for (index, (server, name)) in spec.servers.iter().zip(listener_names(spec)).enumerate() {
        if let Some(message) = conflict(view, manifest, spec, index) {
            derived.conflict(Draft::error(server.port.span, message));
            continue;
        }
        let tls = server.tls.as_ref().map(|tls| ListenerTls {
            credentials: tls
                .credentials
                .iter()
                .filter_map(|name| {
                    let namespace = secret_namespace(view, manifest, spec, name);
                    credential(view, manifest, (&namespace, &name.value, name.span), &scope, derived)
                })
                .collect(),
            client_certificate: if tls.mutual {
                ClientCertificate::Required
            } else {
                ClientCertificate::None
            },
        });
        let mut hosts: Vec<_> = server.hosts.iter().map(|host| host.pattern.clone()).collect();
        hosts.sort();
        hosts.dedup();
        listeners.push(Listener { name, port: server.port.value, protocol: server.protocol, hosts, tls });
    }
    let gateway =
        Gateway { key: id.clone(), selector: spec.selector.clone(), selector_namespace: None, listeners };
    derived.entries.push(Entry { key: id, scope: Scope::Everyone, resource: Resource::Gateway(gateway) });
}

/// Servers of the same workloads and port must speak the same; the older Gateway, then the first server, holds.
fn conflict(view: &View<'_>, manifest: &Manifest, spec: &GatewaySpec, index: usize) -> Option<String> {
    let server = &spec.servers[index];
    let clashes = |other: &crate::schema::istio_gateway::ServerSpec| {
        other.port.value == server.port.value && other.protocol != server.protocol
    };
    if spec.servers[..index].iter().any(clashes) {
        return Some(format!("port {} speaks another protocol at a server above", server.port.value));
    }
    let mut others = view.stating(Fact::Kind(ObjectKind::IstioGateway));
    let older = others.find(|other| match &other.spec {
        Some(Spec::IstioGateway(theirs)) => {
            theirs.selector == spec.selector
                && theirs.servers.iter().any(clashes)
                && is_older(other, manifest)
        }
        _ => false,
    })?;
    Some(format!("port {} speaks another protocol at {}", server.port.value, older.key))
}

/// Istio reads a `credentialName` in the namespace of the gateway's workloads. These are in the root
/// namespace when nobody runs them elsewhere; a Secret beside the Gateway is found too, since on one machine
/// people put them there.
fn secret_namespace(view: &View<'_>, manifest: &Manifest, spec: &GatewaySpec, name: &Str) -> Namespace {
    let root = &view.state.mesh.root_namespace;
    let played = view.stating(Fact::Kind(ObjectKind::Process)).find(|process| {
        matches!(&process.spec, Some(Spec::Process(process)) if spec.selector.matches(&process.labels))
    });
    let workloads = played.map_or(root, |process| &process.key.namespace);
    if view.get(ObjectKind::Secret, workloads, name).is_some() {
        workloads.clone()
    } else {
        manifest.key.namespace.clone()
    }
}
