//! The listeners of the gateways that the viewer plays, and the routes attached to them.

use crate::authz::Authorizations;
use crate::hosts::{HostIndex, Lowered};
use crate::routes::RouteTable;
use lateen_model::{Entry, Gateway, HostPattern, ListenerProtocol, Origin, Parent, Resource, Route, Viewer};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type VirtualHosts = HostIndex<Arc<RouteTable>>;

/// All listeners by port.
#[derive(Clone, Default)]
pub(crate) struct GatewayTables {
    pub(crate) played: Vec<Arc<Entry>>,
    pub(crate) ports: BTreeMap<u16, PortListeners>,
}

/// The listeners of one port.
#[derive(Clone)]
pub(crate) struct PortListeners {
    pub(crate) protocol: ListenerProtocol,
    /// Gateway API isolates listeners: only the one with the most specific host is asked.
    isolated: BTreeMap<HostPattern, VirtualHosts>,
    /// Istio merges the servers of all gateways on a port.
    shared: VirtualHosts,
    /// The hosts of all listeners: who ends TLS for a host.
    listeners: HostIndex<HostPattern>,
    pub(crate) authorizations: Arc<Authorizations>,
}

/// Where routes meet a listener: a port, the listener's host where listeners are isolated, and the host that
/// is left of both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) port: u16,
    listener: Option<HostPattern>,
    host: HostPattern,
}

impl GatewayTables {
    /// The listeners, still without routes.
    pub(crate) fn new(played: Vec<Arc<Entry>>) -> Self {
        let mut ports = BTreeMap::new();
        for (entry, gateway) in played.iter().filter_map(|entry| Some((entry, gateway_of(entry)?))) {
            for listener in &gateway.listeners {
                let port = ports.entry(listener.port).or_insert_with(|| PortListeners {
                    protocol: listener.protocol,
                    isolated: BTreeMap::new(),
                    shared: VirtualHosts::default(),
                    listeners: HostIndex::default(),
                    authorizations: Arc::default(),
                });
                for host in hosts_or_any(&listener.hosts) {
                    port.listeners.set(&host, Some(host.clone()));
                    if is_isolated(entry) {
                        port.isolated.entry(host).or_default();
                    }
                }
            }
        }
        Self { played, ports }
    }

    /// The routes at a place.
    pub(crate) fn get(&self, place: &Place) -> Option<&Arc<RouteTable>> {
        let port = self.ports.get(&place.port)?;
        match &place.listener {
            None => port.shared.get(&place.host),
            Some(listener) => port.isolated.get(listener)?.get(&place.host),
        }
    }

    pub(crate) fn set(&mut self, place: &Place, table: Option<Arc<RouteTable>>) {
        let Some(port) = self.ports.get_mut(&place.port) else { return };
        let hosts = match &place.listener {
            None => Some(&mut port.shared),
            Some(listener) => port.isolated.get_mut(listener),
        };
        if let Some(hosts) = hosts {
            hosts.set(&place.host, table);
        }
    }
}

impl PortListeners {
    /// The routes for a host.
    pub(crate) fn find(&self, host: &str) -> Option<&Arc<RouteTable>> {
        let isolated = self.isolated.iter().find(|(pattern, _)| pattern.matches(host));
        match isolated {
            Some((_, hosts)) => hosts.find(host),
            None => self.shared.find(host),
        }
    }

    /// Whether the listener that ended TLS for `server_name` is the one that serves `host`: what a client proved to
    /// the one says nothing to another.
    pub(crate) fn is_same_listener(&self, server_name: Option<&str>, host: &str) -> bool {
        let named = Lowered::new(server_name.unwrap_or_default());
        named.as_str() == host || self.listeners.find(named.as_str()) == self.listeners.find(host)
    }

    /// Everything in it, in order, for comparison and display.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (String, &Arc<RouteTable>)> {
        let isolated = self.isolated.iter().flat_map(|(listener, hosts)| {
            hosts.iter().map(move |(host, table)| (format!("{listener}/{host}"), table))
        });
        isolated.chain(self.shared.iter().map(|(host, table)| (host.to_string(), table)))
    }
}

/// Where a route meets the listeners of a gateway.
pub(crate) fn places(entry: &Entry, route: &Route) -> Vec<Place> {
    let Some(gateway) = gateway_of(entry) else { return Vec::new() };
    let mut places = Vec::new();
    for parent in &route.parents {
        let Parent::Gateway { gateway: key, listener: name, port } = parent else { continue };
        if *key != entry.key {
            continue;
        }
        let meant = gateway.listeners.iter().filter(|listener| {
            name.as_ref().is_none_or(|name| *name == listener.name)
                && port.is_none_or(|port| port == listener.port)
                && listener.protocol != ListenerProtocol::Tcp
        });
        for listener in meant {
            for ours in hosts_or_any(&listener.hosts) {
                for theirs in hosts_or_any(&route.hosts) {
                    let Some(host) = ours.intersect(&theirs) else { continue };
                    let listener_host = is_isolated(entry).then(|| ours.clone());
                    places.push(Place { port: listener.port, listener: listener_host, host });
                }
            }
        }
    }
    places.sort();
    places.dedup();
    places
}

/// Whether this viewer is one of the proxies that play a gateway.
pub(crate) fn plays(viewer: &Viewer, gateway: &Gateway) -> bool {
    viewer.role == lateen_model::ProxyRole::Gateway
        && gateway.selector.matches(&viewer.labels)
        && gateway.selector_namespace.as_ref().is_none_or(|namespace| namespace == viewer.namespace())
}

pub(crate) fn gateway_of(entry: &Entry) -> Option<&Gateway> {
    match &entry.resource {
        Resource::Gateway(gateway) => Some(gateway),
        _ => None,
    }
}

fn is_isolated(entry: &Entry) -> bool {
    entry.key.origin == Origin::Gateway
}

fn hosts_or_any(hosts: &[HostPattern]) -> Vec<HostPattern> {
    if hosts.is_empty() { vec![HostPattern::Any] } else { hosts.to_vec() }
}
