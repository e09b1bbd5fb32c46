//! One function per kind: an object and a view of the others, to resources and what its author is told.

mod destination_rule;
mod gateway_api;
mod gateway_processes;
mod istio_gateway;
mod limits;
mod policies;
mod process;
mod routes;
mod services;
mod workloads;

pub(crate) use gateway_processes::gateway_processes;
pub(crate) use routes::delegate_key;
pub(crate) use workloads::instance;

use crate::manifest::Manifest;
use crate::schema::Spec;
use crate::view::{Derived, View};
use lateen_model::{Entry, Key, Origin, PolicyKind, Resource, Scope, Visibility};

/// What one object gives.
pub(crate) fn derive(view: &View<'_>, manifest: &Manifest) -> Derived {
    let mut derived = Derived::default();
    match &manifest.spec {
        Some(Spec::Service(spec)) => services::service(view, manifest, spec, &mut derived),
        Some(Spec::ServiceEntry(spec)) => services::service_entry(view, manifest, spec, &mut derived),
        Some(Spec::WorkloadEntry(spec)) => workloads::workload_entry(view, manifest, spec, &mut derived),
        Some(Spec::Process(spec)) => process::process(view, manifest, spec, &mut derived),
        Some(Spec::Gateway(spec)) => gateway_api::gateway(view, manifest, spec, &mut derived),
        Some(Spec::IstioGateway(spec)) => istio_gateway::gateway(view, manifest, spec, &mut derived),
        Some(Spec::HttpRoute(spec) | Spec::GrpcRoute(spec)) => {
            routes::http_route(view, manifest, spec, &mut derived);
        }
        Some(Spec::VirtualService(spec)) => routes::virtual_service(view, manifest, spec, &mut derived),
        Some(Spec::DestinationRule(spec)) => {
            destination_rule::destination_rule(view, manifest, spec, &mut derived);
        }
        Some(Spec::PeerAuthentication(spec)) => {
            policies::peer_authentication(view, manifest, spec, &mut derived);
        }
        Some(Spec::Authorization(spec)) => policies::authorization(view, manifest, spec, &mut derived),
        Some(Spec::RequestAuthentication(spec)) => {
            policies::request_authentication(view, manifest, spec, &mut derived);
        }
        Some(Spec::RateLimit(spec)) => {
            let kind = PolicyKind::RateLimit(spec.limit.clone());
            limits::limit(view, manifest, &spec.attachment, kind, &mut derived);
        }
        Some(Spec::RequestLimit(spec)) => {
            let kind = PolicyKind::RequestLimit(spec.limit.clone());
            limits::limit(view, manifest, &spec.attachment, kind, &mut derived);
        }
        Some(Spec::Bare) if matches!(manifest.key.kind, crate::ObjectKind::Other(_)) => {
            derived.not_enforced = Some(format!("{} is not enforced yet", manifest.key.kind));
        }
        None if manifest.key.kind.is_security() => policies::unreadable(view, manifest, &mut derived),
        _ => {}
    }
    derived
}

/// The key of what an object gives.
fn key(manifest: &Manifest, origin: Origin) -> Key {
    Key::new(origin, manifest.key.namespace.clone(), manifest.key.name.clone())
}

/// A resource for those who see the object.
fn visible(key: Key, visibility: &Visibility, resource: Resource) -> Entry {
    let scope = match visibility {
        Visibility::Public => Scope::Everyone,
        Visibility::Only(namespaces) if namespaces.is_empty() => Scope::Nobody,
        Visibility::Only(namespaces) => Scope::Namespaces(namespaces.clone()),
    };
    Entry { key, scope, resource }
}
