//! How clients treat a host: DestinationRule.

use super::{Balance, ConnectionPool, LocalityPolicy, OutlierDetection, RetryBudget};
use crate::{HostPattern, Selector, Str, Visibility};

/// What a DestinationRule says of a host. Looked up by the most specific host; in the client's
/// namespace first, then the service's, then the root namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestinationPolicy {
    /// The hosts it is for, fully qualified.
    pub host: HostPattern,
    /// For all of the host.
    pub traffic: TrafficPolicy,
    /// Named groups of endpoints.
    pub subsets: Vec<Subset>,
    /// The clients it applies to, by their labels (`workloadSelector`); empty is all.
    pub clients: Selector,
    /// Namespaces of the clients it applies to.
    pub visibility: Visibility,
}

/// A named group of the endpoints of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subset {
    /// Its name; routes use it.
    pub name: Str,
    /// Labels of the endpoints.
    pub labels: Selector,
    /// What differs from the host's own policy, field by field.
    pub traffic: TrafficPolicy,
}

/// How requests are spread and connections held. A field that is none is inherited: a subset's from the host's, the
/// host's from the defaults of the mesh.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen. None is least request.
    pub balance: Option<Balance>,
    /// Which localities are preferred.
    pub locality: Option<LocalityPolicy>,
    /// How many connections and requests, and for how long.
    pub connections: ConnectionPool,
    /// When an endpoint is left out.
    pub outliers: Option<OutlierDetection>,
    /// How many retries at the same time.
    pub retry_budget: Option<RetryBudget>,
    /// For one port of the service: replaces (not: is merged with) all of the above.
    pub ports: Vec<PortPolicy>,
}

/// The policy of one port (`portLevelSettings`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPolicy {
    /// The port of the service.
    pub port: u16,
    /// What holds there; its `ports` is empty.
    pub traffic: TrafficPolicy,
}
