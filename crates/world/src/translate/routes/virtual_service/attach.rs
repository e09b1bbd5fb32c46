//! Where a VirtualService is attached, and who else wants its hosts.

use super::super::super::istio_gateway::listener_names;
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::{At, Draft, nearest};
use crate::schema::Spec;
use crate::schema::istio_gateway::{GatewaySpec, ServerSpec};
use crate::schema::virtual_service::VirtualServiceSpec;
use crate::view::{Derived, Fact, View, is_older};
use lateen_model::{HostPattern, Key, Namespace, Origin, Parent, Str, Visibility};

/// `namespace/name`, or `mesh`.
pub(super) fn full_name(gateway: &str, own: &Namespace) -> String {
    match gateway.split_once('/') {
        None if gateway == "mesh" => gateway.to_owned(),
        None | Some((".", _)) => format!("{own}/{}", gateway.trim_start_matches("./")),
        Some(_) => gateway.to_owned(),
    }
}

/// Where a route for these hosts is attached at one of its gateways.
pub(super) fn parents(
    view: &View<'_>,
    manifest: &Manifest,
    gateway: &At<Str>,
    hosts: &[HostPattern],
    derived: &mut Derived,
) -> Vec<Parent> {
    let full = full_name(gateway, &manifest.key.namespace);
    let Some((namespace, name)) = full.split_once('/') else { return vec![Parent::Mesh] };
    let Ok(namespace) = Namespace::parse(namespace) else { return Vec::new() };
    let found = view.get(ObjectKind::IstioGateway, &namespace, name);
    let Some(Spec::IstioGateway(spec)) = found.and_then(|found| found.spec.as_ref()) else {
        let known = view.stating(Fact::KindIn(ObjectKind::IstioGateway, namespace.clone()));
        let suggestion = nearest(name, known.map(|gateway| gateway.key.name.as_str()));
        let message = format!("there is no Gateway {name:?} in {namespace}");
        derived.unresolved("GatewayNotFound", Draft::error(gateway.span, message).suggest(suggestion));
        return Vec::new();
    };
    let key = Key::new(Origin::IstioGateway, namespace.clone(), name);
    let parent = |listener: Option<Str>| Parent::Gateway { gateway: key.clone(), listener, port: None };
    let servers = taking(spec, &namespace, &manifest.key.namespace, hosts);
    if servers.is_empty() {
        let message = format!("no server of the Gateway {full} is for hosts of this VirtualService");
        derived.unresolved("NoMatchingHost", Draft::error(gateway.span, message));
    }
    if servers.len() == spec.servers.len() {
        return vec![parent(None)];
    }
    servers.into_iter().map(|name| parent(Some(name))).collect()
}

/// The servers of a Gateway that take routes of a namespace for one of these hosts.
fn taking(spec: &GatewaySpec, gateway: &Namespace, own: &Namespace, hosts: &[HostPattern]) -> Vec<Str> {
    let takes = |server: &ServerSpec| {
        server.hosts.iter().any(|host| {
            let allowed = match host.namespace.as_deref() {
                None => true,
                Some(".") => gateway == own,
                Some(namespace) => own == namespace,
            };
            allowed && hosts.iter().any(|wanted| wanted.intersect(&host.pattern).is_some())
        })
    };
    let servers = spec.servers.iter().zip(listener_names(spec));
    servers.filter(|(server, _)| takes(server)).map(|(_, name)| name).collect()
}

/// In the mesh one VirtualService has a host: the oldest. The others are told.
pub(super) fn tell_loser(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &VirtualServiceSpec,
    visibility: &Visibility,
    derived: &mut Derived,
) {
    for host in &spec.hosts {
        let full = view.state.qualify(host, &manifest.key.namespace);
        let older = view.stating(Fact::VirtualHost(full.as_str().into())).find(|other| match &other.spec {
            Some(Spec::VirtualService(theirs)) => {
                let in_mesh =
                    theirs.gateways.is_empty() || theirs.gateways.iter().any(|name| name.as_str() == "mesh");
                let seen = theirs.export_to.visibility(&other.key.namespace);
                in_mesh && meet(visibility, &seen) && is_older(other, manifest)
            }
            _ => false,
        });
        if let Some(older) = older {
            let message = format!(
                "{} has routes for {full} already and is older, so these are not used in the mesh",
                older.key
            );
            derived.conflict(Draft::warning(host.span, message));
        }
    }
}

/// Whether some client sees both.
fn meet(a: &Visibility, b: &Visibility) -> bool {
    match (a, b) {
        (Visibility::Public, Visibility::Public) => true,
        (Visibility::Public, Visibility::Only(names)) | (Visibility::Only(names), Visibility::Public) => {
            !names.is_empty()
        }
        (Visibility::Only(a), Visibility::Only(b)) => a.iter().any(|name| b.contains(name)),
    }
}

/// A match may name only gateways that the VirtualService is for.
pub(super) fn check_match_gateways(
    spec: &VirtualServiceSpec,
    gateways: &[At<Str>],
    own: &Namespace,
    derived: &mut Derived,
) {
    for name in spec.http.iter().flat_map(|http| &http.matches).flat_map(|one| &one.gateways) {
        let full = full_name(name, own);
        if !gateways.iter().any(|gateway| full_name(gateway, own) == full) {
            let message = format!(
                "{:?} is not among the `gateways` of this VirtualService, so this never matches",
                name.as_str()
            );
            derived.drafts.push(Draft::warning(name.span, message));
        }
    }
}
