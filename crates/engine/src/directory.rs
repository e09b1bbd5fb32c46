//! Who has this name, and who has this address, as seen from the viewer.

use crate::Hop;
use crate::endpoints::way;
use crate::service::{PortTable, ServiceTable};
use crate::snapshot::Snapshot;
use lateen_model::Workload;
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Who was meant by an address and a port.
pub(crate) enum Meant<'a> {
    /// A port of a service.
    Port(&'a ServiceTable, &'a PortTable, Through),
    /// A workload, by its own address.
    Workload(&'a Arc<Workload>),
    /// A service has the address, but not such a port.
    NoPort(&'a ServiceTable),
    /// Nobody.
    Nobody,
}

/// How a service was reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// By its name or its own address: any endpoint will do.
    Itself,
    /// By the address of one endpoint, which the caller chose (a headless service).
    Endpoint,
}

impl Snapshot {
    /// The service with a name as applications of the viewer's namespace say it: `reviews`, `reviews.shop`,
    /// `reviews.shop.svc`, or its full name. The host is lower case and has no port.
    pub(crate) fn service_named(&self, host: &str) -> Option<&Arc<ServiceTable>> {
        if let Some(number) = self.names.get(host) {
            return self.services.get(*number);
        }
        let alias = host.strip_suffix(".svc").unwrap_or(host);
        let number = match alias.bytes().filter(|byte| *byte == b'.').count() {
            0 if alias.len() == host.len() => self.alias_here(host),
            1 => self.aliases.get(alias),
            _ => None,
        };
        self.services.get(*number?)
    }

    fn alias_here(&self, name: &str) -> Option<&u32> {
        let mut full: SmallVec<[u8; 128]> = SmallVec::from_slice(name.as_bytes());
        full.push(b'.');
        full.extend_from_slice(self.viewer.namespace().as_str().as_bytes());
        self.aliases.get(std::str::from_utf8(&full).ok()?)
    }

    /// Who is meant by an address.
    pub(crate) fn meant(&self, address: SocketAddr) -> Meant<'_> {
        let Some(owner) = self.addresses.get(&address.ip().to_canonical()) else { return Meant::Nobody };
        if let Some(service) = owner.service.and_then(|number| self.services.get(number)) {
            return match service.port(address.port()) {
                Some(port) => Meant::Port(service, port, Through::Itself),
                None => Meant::NoPort(service),
            };
        }
        match &owner.workload {
            None => Meant::Nobody,
            Some(workload) => {
                self.headless_port(workload, address.port()).unwrap_or(Meant::Workload(workload))
            }
        }
    }

    /// The port of a headless service that this workload answers for on this port.
    fn headless_port(&self, workload: &Workload, port: u16) -> Option<Meant<'_>> {
        workload.services.iter().find_map(|(id, ports)| {
            let mapped = ports.iter().find(|mapped| mapped.target_port == port)?;
            let number = self.names.get(id.hostname.as_str())?;
            let service =
                self.services.get(*number).filter(|table| table.id == *id && table.is_headless())?;
            Some(Meant::Port(service, service.port(mapped.service_port)?, Through::Endpoint))
        })
    }

    /// The way to an address as it is: by the tunnel of the workload that has it, else plain.
    pub(crate) fn way_to(&self, address: SocketAddr) -> (Hop, Option<&Arc<Workload>>) {
        match self.workload_at(address.ip()) {
            Some(workload) => (way(workload, address, &[]), Some(workload)),
            None => (Hop::Plain(address), None),
        }
    }

    /// The addresses a name stands for, for a resolver: the virtual addresses of a service, or of a headless
    /// one the addresses of its ready workloads. None when nobody declared the name.
    pub fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        let service = self.service_named(crate::hosts::Lowered::new(name).as_str())?;
        let declared = &service.service().addresses;
        if !declared.is_empty() {
            let here = declared.iter().filter(|address| address.network == self.viewer.network);
            return Some(here.map(|address| address.ip).collect());
        }
        let groups = service.ports.iter().filter_map(|port| self.groups.get(port.default.id.0));
        let mut found: Vec<IpAddr> =
            groups.flat_map(|group| group.ready.iter()).flat_map(|e| e.workload.addresses.clone()).collect();
        found.sort_unstable();
        found.dedup();
        Some(found)
    }
}
