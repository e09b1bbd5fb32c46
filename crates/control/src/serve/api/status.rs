//! `/v1/status`: is the mesh well?

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use lateen_model::{Kind, Revision};

use super::Shared;
use super::objects::{homeless, object};
use crate::api::types::{Authority, Proxy, Source, Status};
use crate::control::Control;
use crate::fleet;
use crate::hub::Published;
use crate::serve::callers::seconds;

pub(crate) async fn status(State(control): Shared) -> Json<Status> {
    let published = control.published();
    let mesh = published.as_ref().map(|published| published.mesh.clone()).unwrap_or_default();
    let revision = published.as_ref().map_or(Revision::default(), |published| published.catalog.revision());
    let statuses = published.iter().flat_map(|published| published.statuses.values());
    let objects = statuses.map(|status| object(status));
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: control.ready.is_ready(),
        waiting_for: control.ready.missing(),
        revision: revision.0,
        trust_domain: mesh.trust_domain.to_string(),
        root_namespace: mesh.root_namespace.to_string(),
        directory: control.config.directory.display().to_string(),
        state: control.store.directory().display().to_string(),
        sources: control.hub.sources().iter().map(source).collect(),
        resources: published.as_deref().map(count).unwrap_or_default(),
        proxies: control.fleet.proxies().iter().map(|each| proxy(each, revision)).collect(),
        authority: authority(&control),
        objects: objects.filter(|object| !object.is_well()).collect(),
        problems: published.iter().flat_map(|published| homeless(published)).collect(),
    })
}

fn source(source: &crate::hub::SourceState) -> Source {
    Source { name: source.name.to_owned(), synced: source.synced, problems: source.problems.clone() }
}

fn proxy(proxy: &fleet::Proxy, newest: Revision) -> Proxy {
    Proxy {
        node: proxy.node.to_string(),
        identity: proxy.identity.to_string(),
        role: proxy.role.as_str().to_owned(),
        revision: proxy.acknowledged.map(|revision| revision.0),
        current: proxy.acknowledged == Some(newest),
        refused: proxy.refused.clone(),
        certificate_expires: proxy.certificate_expires,
        connected_since: proxy.since,
    }
}

fn authority(control: &Control) -> Option<Authority> {
    let authority = control.authority()?;
    Some(Authority {
        root_expires: seconds(authority.root_expires()),
        server_expires: seconds(authority.server().get().not_after()),
        issued: authority.issued(),
        roots: authority.bundle().get().to_pem(),
    })
}

fn count(published: &Published) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in published.catalog.iter() {
        *counts.entry(word(entry.resource.kind()).to_owned()).or_default() += 1;
    }
    counts
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Mesh => "mesh",
        Kind::Security => "security",
        Kind::Service => "services",
        Kind::Workload => "workloads",
        Kind::Credential => "credentials",
        Kind::Gateway => "gateways",
        Kind::Traffic => "traffic",
        Kind::Route => "routes",
        Kind::Process => "processes",
    }
}
