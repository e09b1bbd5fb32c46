//! How clients treat a host: load balancing and subsets.

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

/// How requests are spread and connections held. A field that is none is inherited.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen. None is least request.
    pub balance: Option<BalanceAlgorithm>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum BalanceAlgorithm {
    /// The less loaded of two chosen at random.
    #[default]
    LeastRequest,
    /// One after another.
    RoundRobin,
    /// Any.
    Random,
    /// The address that the caller meant.
    Passthrough,
}
