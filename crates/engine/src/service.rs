//! `ServiceTable`: a service as its callers see it: ports, and the routes of each.

use crate::routes::RouteTable;
use crate::rule::GroupTarget;
use lateen_model::{AppProtocol, Entry, Resource, Service, ServiceId};
use std::sync::Arc;

/// A service, compiled. Its endpoints stand elsewhere, so that they may change alone.
pub(crate) struct ServiceTable {
    pub(crate) id: ServiceId,
    pub(crate) entry: Arc<Entry>,
    pub(crate) ports: Box<[PortTable]>,
}

/// A port of a service.
pub(crate) struct PortTable {
    pub(crate) number: u16,
    pub(crate) protocol: AppProtocol,
    /// Where requests go that no route speaks of, and bytes that are no requests.
    pub(crate) default: GroupTarget,
    /// The routes of this port; none is the default.
    pub(crate) routes: Option<Arc<RouteTable>>,
}

impl ServiceTable {
    pub(crate) fn service(&self) -> &Service {
        service_of(&self.entry).expect("only entries that are services are compiled to one")
    }

    pub(crate) fn port(&self, number: u16) -> Option<&PortTable> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether callers reach its endpoints by their own addresses.
    pub(crate) fn is_headless(&self) -> bool {
        self.service().addresses.is_empty()
    }
}

impl PortTable {
    /// Whether requests on it are looked at, for sure or after a look at the first bytes.
    pub(crate) fn may_be_http(&self) -> bool {
        self.protocol.is_http() || self.protocol == AppProtocol::Detect
    }
}

pub(crate) fn service_of(entry: &Entry) -> Option<&Service> {
    match &entry.resource {
        Resource::Service(service) => Some(service),
        _ => None,
    }
}
