//! `Backend`: where a rule sends traffic, with its weight.

use crate::{Filter, ServiceId, Str};
use std::fmt;

/// Where a rule sends traffic, and how much of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Where.
    pub target: BackendTarget,
    /// Its share among the backends of the rule; relative, 0 gets nothing.
    pub weight: u32,
    /// What is done to a request that goes here, after the rule's own filters.
    pub filters: Vec<Filter>,
}

/// Where traffic goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackendTarget {
    /// A port of a service, or of a subset of it.
    Service {
        /// The service.
        service: ServiceId,
        /// The port of the service.
        port: u16,
        /// The subset a DestinationRule names.
        subset: Option<Str>,
    },
    /// What was named cannot be used: its share is answered with this status.
    Invalid {
        /// 500 for a Gateway API reference that does not resolve, 503 for an Istio host that does not exist.
        status: u16,
        /// Why, for log and explanation.
        reason: Str,
    },
}

impl fmt::Display for BackendTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, port, subset: None } => write!(f, "{}:{port}", service.hostname),
            Self::Service { service, port, subset: Some(subset) } => {
                write!(f, "{}:{port} subset {subset}", service.hostname)
            }
            Self::Invalid { status, reason } => write!(f, "{status} ({reason})"),
        }
    }
}
