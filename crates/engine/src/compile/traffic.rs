//! The layers of `TrafficPolicy` of a host, its subsets and their ports, merged to one per group, as Istio does.

use super::index::Index;
use crate::hosts::patterns_for;
use lateen_model::{ConnectionPool, DestinationPolicy, Namespace, Service, TrafficPolicy};

/// The policies that hold for a service: of the first namespace that has any (client, service, root), those
/// with its most specific host, the oldest first. Several are merged.
pub(super) fn policies<'a>(
    service: &Service,
    index: &'a Index,
    root: &Namespace,
) -> Vec<&'a DestinationPolicy> {
    for namespace in [index.viewer.namespace(), &service.namespace, root] {
        for pattern in patterns_for(&service.hostname) {
            let found = for_client(index.destinations(&pattern, namespace).collect(), index, namespace);
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// Those of one host and namespace that hold for the viewer. One that was written for some clients, which are of its
/// own namespace, comes before those for all and is not merged with them.
fn for_client<'a>(
    mut found: Vec<&'a DestinationPolicy>,
    index: &Index,
    namespace: &Namespace,
) -> Vec<&'a DestinationPolicy> {
    let viewer = &index.viewer;
    let speaks =
        |policy: &&&DestinationPolicy| !policy.clients.is_empty() && policy.clients.matches(&viewer.labels);
    let chosen = found.iter().find(speaks).filter(|_| namespace == viewer.namespace());
    let clients = chosen.map(|policy| policy.clients.clone()).unwrap_or_default();
    found.retain(|policy| policy.clients == clients);
    found
}

/// What holds for a port of the host: of several policies the first that says anything counts, as a whole.
pub(super) fn of_host(policies: &[&DestinationPolicy], port: u16) -> TrafficPolicy {
    let traffic = policies.iter().map(|policy| &policy.traffic).find(|traffic| !says_nothing(traffic));
    traffic.map_or_else(TrafficPolicy::default, |traffic| {
        at_port(traffic, port).unwrap_or_else(|| without_ports(traffic))
    })
}

/// What holds for a port of a subset: its own port's policy alone, else each part that it has, over the host's.
pub(super) fn of_subset(host: &TrafficPolicy, subset: &TrafficPolicy, port: u16) -> TrafficPolicy {
    if let Some(only) = at_port(subset, port) {
        return only;
    }
    // Algorithm and locality are one part (`loadBalancer`), and so are all limits of connections (`connectionPool`).
    let balanced = subset.balance.is_some() || subset.locality.is_some();
    let pooled = subset.connections != ConnectionPool::default();
    let balance = if balanced { subset } else { host };
    TrafficPolicy {
        balance: balance.balance.clone(),
        locality: balance.locality.clone(),
        connections: if pooled { &subset.connections } else { &host.connections }.clone(),
        outliers: subset.outliers.clone().or_else(|| host.outliers.clone()),
        retry_budget: subset.retry_budget.or(host.retry_budget),
        ports: Vec::new(),
    }
}

fn at_port(traffic: &TrafficPolicy, port: u16) -> Option<TrafficPolicy> {
    traffic.ports.iter().find(|policy| policy.port == port).map(|policy| without_ports(&policy.traffic))
}

fn without_ports(traffic: &TrafficPolicy) -> TrafficPolicy {
    TrafficPolicy { ports: Vec::new(), ..traffic.clone() }
}

fn says_nothing(traffic: &TrafficPolicy) -> bool {
    *traffic == TrafficPolicy::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{Balance, BalanceAlgorithm, OutlierDetection, PortPolicy};

    fn pool(max_connections: u32) -> ConnectionPool {
        ConnectionPool { max_connections: Some(max_connections), ..ConnectionPool::default() }
    }

    fn by(algorithm: BalanceAlgorithm) -> TrafficPolicy {
        TrafficPolicy { balance: Some(Balance::from(algorithm)), ..TrafficPolicy::default() }
    }

    #[test]
    fn a_subset_overrides_part_by_part_and_a_port_as_a_whole() {
        let host = TrafficPolicy {
            connections: pool(7),
            outliers: Some(OutlierDetection::default()),
            ..by(BalanceAlgorithm::Random)
        };
        let port = PortPolicy { port: 80, traffic: by(BalanceAlgorithm::Passthrough) };
        let subset = TrafficPolicy { connections: pool(1), ports: vec![port], ..TrafficPolicy::default() };
        assert_eq!(of_subset(&host, &subset, 80), by(BalanceAlgorithm::Passthrough));
        let merged = of_subset(&host, &subset, 81);
        assert_eq!(merged, TrafficPolicy { connections: pool(1), ..host });
    }

    #[test]
    fn the_first_of_several_policies_that_says_anything_counts() {
        let policy = |traffic: TrafficPolicy| DestinationPolicy {
            host: lateen_model::HostPattern::Any,
            traffic,
            subsets: Vec::new(),
            clients: lateen_model::Selector::default(),
            visibility: lateen_model::Visibility::Public,
        };
        let port = PortPolicy { port: 80, traffic: by(BalanceAlgorithm::RoundRobin) };
        let second = TrafficPolicy { ports: vec![port], ..by(BalanceAlgorithm::Random) };
        let all =
            [policy(TrafficPolicy::default()), policy(second), policy(by(BalanceAlgorithm::Passthrough))];
        let all: Vec<_> = all.iter().collect();
        assert_eq!(of_host(&all, 80), by(BalanceAlgorithm::RoundRobin));
        assert_eq!(of_host(&all, 81), by(BalanceAlgorithm::Random));
        assert_eq!(of_host(&[], 81), TrafficPolicy::default());
    }
}
