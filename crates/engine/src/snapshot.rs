//! `Snapshot`: all that one request may read. It never changes; the next one shares all that stayed the same.

use crate::BackendId;
use crate::endpoints::Group;
use crate::gateway::GatewayTables;
use crate::hosts::HostIndex;
use crate::inbound::Inbound;
use crate::limits::LimitIndex;
use crate::routes::RouteTable;
use crate::service::ServiceTable;
use crate::slots::Slots;
use lateen_model::{
    Credential, Entry, Key, Listener, MeshSettings, Resource, ServiceId, Shards, Str, Viewer, Workload,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The mesh, compiled for one viewer at one revision.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) viewer: Arc<Viewer>,
    pub(crate) mesh: Arc<MeshSettings>,
    /// Services by number; the maps below lead to the numbers.
    pub(crate) services: Slots<ServiceTable>,
    /// Services by fully qualified name.
    pub(crate) names: Shards<Str, u32>,
    /// Services by `name.namespace`.
    pub(crate) aliases: Shards<Str, u32>,
    /// Who has an address, in the viewer's network.
    pub(crate) addresses: Shards<IpAddr, Owner>,
    /// Groups of endpoints by number.
    pub(crate) groups: Slots<Group>,
    /// Mesh routes for hosts that are no services.
    pub(crate) hosts: HostIndex<Arc<RouteTable>>,
    /// Ports on which some service is declared to speak HTTP, and how many do.
    pub(crate) http_ports: Arc<BTreeMap<u16, usize>>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) gateway: Arc<GatewayTables>,
    pub(crate) credentials: Shards<Key, Arc<Entry>>,
    /// None where no limit holds.
    pub(crate) limits: Option<Arc<LimitIndex>>,
}

/// Who has an address.
#[derive(Clone, Default)]
pub(crate) struct Owner {
    pub(crate) service: Option<u32>,
    pub(crate) workload: Option<Arc<Workload>>,
}

impl Snapshot {
    pub(crate) fn empty(viewer: Arc<Viewer>) -> Self {
        Self {
            viewer,
            mesh: Arc::default(),
            services: Slots::default(),
            names: Shards::default(),
            aliases: Shards::default(),
            addresses: Shards::default(),
            groups: Slots::default(),
            hosts: HostIndex::default(),
            http_ports: Arc::default(),
            inbound: Arc::default(),
            gateway: Arc::default(),
            credentials: Shards::default(),
            limits: None,
        }
    }

    /// For whom this was compiled.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The settings of the mesh.
    pub fn mesh(&self) -> &MeshSettings {
        &self.mesh
    }

    /// The workload of the proxy itself, once it is known.
    pub fn own(&self) -> Option<&Arc<Workload>> {
        self.inbound.own.as_ref()
    }

    /// How many endpoints of a group are ready.
    pub fn endpoints_of(&self, backend: BackendId) -> usize {
        self.groups.get(backend.0).map_or(0, |group| group.ready.len())
    }

    /// The workload that has this address, for metrics and logs.
    pub fn workload_at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.addresses.get(&address.to_canonical())?.workload.as_ref()
    }

    /// The listeners of the gateways that the viewer plays, with the gateway of each, in the order of keys.
    pub fn listeners(&self) -> impl Iterator<Item = (&Key, &Listener)> {
        self.gateway.played.iter().flat_map(|entry| match &entry.resource {
            Resource::Gateway(gateway) => gateway.listeners.iter().map(|l| (&entry.key, l)).collect(),
            _ => Vec::new(),
        })
    }

    /// Certificate and key of a listener, when they are there.
    pub fn credential(&self, key: &Key) -> Option<&Credential> {
        match &self.credentials.get(key)?.resource {
            Resource::Credential(credential) => Some(credential),
            _ => None,
        }
    }

    /// The services the viewer sees, in no order.
    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.iter().map(|table| &table.id)
    }
}
