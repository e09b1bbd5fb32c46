//! `Decision`, `Hop`, `Denial`: the answer, as plain data.

use crate::{Answered, ConnectionLimits, Filters, MatchedPath};
use lateen_model::{
    AppProtocol, Identity, Key, RetryPolicy, ServiceId, SessionPersistence, Str, TrafficPolicy,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is to be done with a connection.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Look at requests one by one, with this protocol; then ask `decide_request` for each.
    Serve(AppProtocol),
    /// Look at the first bytes: HTTP is served, anything else is forwarded as this says (or denied).
    Detect(Box<Decision>),
    /// Move the bytes.
    Forward(Forward),
    /// Refuse, with a reason a human can act on.
    Deny(Denial),
}

/// What is to be done with a request.
#[derive(Clone, Debug)]
pub enum RequestDecision {
    /// Send it on.
    Forward(Forward),
    /// The rule answers it.
    Answer(Answered),
    /// Refuse it.
    Deny(Denial),
}

impl RequestDecision {
    /// How the request is treated, when a rule or a service took it.
    pub fn effective(&self) -> Option<&Arc<Effective>> {
        match self {
            Self::Forward(forward) => Some(&forward.effective),
            Self::Answer(answered) => Some(&answered.effective),
            Self::Deny(_) => None,
        }
    }
}

/// Where something goes, by whose word, and how it is treated on the way.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Where; `pick_endpoint` makes a hop of it.
    pub to: Destination,
    /// How it is treated: merged once, at compile time, shared by all requests of the rule.
    pub effective: Arc<Effective>,
    /// How much of the path the rule has matched.
    pub matched: MatchedPath,
}

/// Where something goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To one of the endpoints of a group.
    Backend(BackendId),
    /// To the application of this proxy's own workload.
    Local(SocketAddr),
    /// To the address as it is: nobody declared it, or the caller chose one endpoint. `pick` still takes the
    /// tunnel of the workload that has it.
    Passthrough(SocketAddr),
}

/// A group of endpoints in the snapshot that made the decision: a service port, or a subset of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BackendId(pub u32);

/// How a request is treated: every layer of policy merged to one value, when the snapshot is compiled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effective {
    /// `<route>.<rule>` for logs; `default` without a route, `Passthrough` for undeclared destinations.
    pub route_name: Str,
    /// The route object, when one decided.
    pub route: Option<Key>,
    /// The service that was meant, for metrics and logs.
    pub service: Option<ServiceId>,
    /// The port of the service, or of the workload where inbound.
    pub port: u16,
    /// The subset of the service that was chosen.
    pub subset: Option<Str>,
    /// What is spoken with the endpoint.
    pub protocol: AppProtocol,
    /// What is done to requests and responses. None is nothing.
    pub filters: Option<Box<Filters>>,
    /// The longest the whole may take. None is no limit.
    pub timeout: Option<Duration>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Whether requests of one session stay with one endpoint.
    pub persistence: Option<Arc<SessionPersistence>>,
    /// What clients' policies say of the group of endpoints: how one is chosen, connected to and left out.
    pub traffic: Arc<TrafficPolicy>,
    /// Limits of connections to the group, where a policy says any.
    pub connections: Option<Arc<ConnectionLimits>>,
}

/// The layers of a connection, as data. `connect` in the proxy matches them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Hop {
    /// The application beside this proxy.
    Local(SocketAddr),
    /// Plain TCP.
    Plain(SocketAddr),
    /// HBONE: TLS to `addr`, CONNECT to `authority`.
    Hbone {
        /// The tunnel's end.
        addr: SocketAddr,
        /// What the tunnel leads to.
        authority: SocketAddr,
        /// Who may answer.
        accept: Accept,
    },
}

/// Who may answer at the other end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Accept(pub Arc<[Identity]>);

/// An endpoint that was chosen, and what is known of it.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The way there.
    pub hop: Hop,
    /// The address that balancing, load and exclusion know it by: workload address and port.
    pub endpoint: SocketAddr,
    /// The workload, when the mesh knows it.
    pub workload: Option<Arc<lateen_model::Workload>>,
}

/// Why something is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// What kind of refusal.
    pub reason: DenialReason,
    /// The route that decided, if one did.
    pub route: Option<Key>,
    /// The service that was meant, if one was.
    pub service: Option<ServiceId>,
}

/// Why something is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DenialReason {
    /// A DENY policy matched: its id and the index of the rule.
    DeniedBy {
        /// The policy.
        policy: Key,
        /// The rule of it.
        rule: usize,
    },
    /// There are ALLOW policies and none matched.
    NotAllowed {
        /// The first of the policies that could have allowed it.
        policy: Key,
    },
    /// Plaintext, where mTLS is required.
    PlaintextRefused {
        /// The PeerAuthentication that asks for it, if it is one.
        policy: Option<Key>,
    },
    /// A policy is listed for the workload but is not there: what it says is unknown, so nothing passes.
    PolicyMissing {
        /// The policy.
        policy: Key,
    },
    /// The proxy does not know its own workload yet, so neither the policies that hold for it.
    OwnWorkloadUnknown,
    /// The destination is not an address of the proxy's own workload, and it relays to no other.
    NotOurs,
    /// The request is for a host of another listener than the server name that its TLS was made for.
    Misdirected,
    /// Nobody declared the destination and the mesh refuses such.
    Undeclared,
    /// No rule of the routes for this host matches.
    NoRoute,
    /// A rule matched but leads nowhere: its backend does not exist.
    NoBackend {
        /// The status its share is answered with.
        status: u16,
        /// What was named.
        what: Str,
    },
    /// The service exists but has no endpoint that may be used.
    NoEndpoint,
    /// Every endpoint was tried.
    AllTried,
    /// A RateLimitPolicy has no token left.
    RateLimited {
        /// The policy.
        policy: Key,
        /// The rule of it.
        rule: Str,
    },
    /// It is larger than a RequestLimitPolicy allows.
    TooLarge {
        /// The policy.
        policy: Key,
        /// What of it.
        what: TooLarge,
    },
}

/// What of a request is too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooLarge {
    /// The body, by its declared length.
    RequestBody,
    /// The head, in bytes or in fields.
    RequestHead,
}

impl Denial {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match &self.reason {
            DenialReason::DeniedBy { .. } | DenialReason::NotAllowed { .. } => 403,
            DenialReason::PlaintextRefused { .. } | DenialReason::PolicyMissing { .. } => 403,
            DenialReason::OwnWorkloadUnknown => 503,
            DenialReason::NotOurs | DenialReason::Misdirected => 421,
            DenialReason::Undeclared => 502,
            DenialReason::NoRoute => 404,
            DenialReason::NoBackend { status, .. } => *status,
            DenialReason::NoEndpoint | DenialReason::AllTried => 503,
            DenialReason::RateLimited { .. } => 429,
            DenialReason::TooLarge { what: TooLarge::RequestBody, .. } => 413,
            DenialReason::TooLarge { what: TooLarge::RequestHead, .. } => 431,
        }
    }

    /// Envoy's response flag, `-` where it has none.
    pub fn flag(&self) -> &'static str {
        match &self.reason {
            DenialReason::DeniedBy { .. }
            | DenialReason::NotAllowed { .. }
            | DenialReason::PlaintextRefused { .. }
            | DenialReason::PolicyMissing { .. }
            | DenialReason::OwnWorkloadUnknown
            | DenialReason::NotOurs
            | DenialReason::Misdirected => "-",
            DenialReason::Undeclared | DenialReason::NoRoute => "NR",
            DenialReason::NoBackend { .. } => "NC",
            DenialReason::NoEndpoint | DenialReason::AllTried => "UH",
            DenialReason::RateLimited { .. } => "RL",
            DenialReason::TooLarge { .. } => "-",
        }
    }
}

impl fmt::Display for Denial {
    /// Envoy's `response_code_details` where it has a form, our words else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            DenialReason::DeniedBy { policy, rule } => write!(
                f,
                "rbac_access_denied_matched_policy[ns[{}]-policy[{}]-rule[{rule}]]",
                policy.namespace, policy.name
            ),
            DenialReason::NotAllowed { .. } => f.write_str("rbac_access_denied_matched_policy[none]"),
            DenialReason::PlaintextRefused { .. } => f.write_str("plaintext_refused_mtls_required"),
            DenialReason::PolicyMissing { policy } => {
                write!(f, "policy_missing[ns[{}]-policy[{}]]", policy.namespace, policy.name)
            }
            DenialReason::OwnWorkloadUnknown => f.write_str("own_workload_unknown"),
            DenialReason::NotOurs => f.write_str("destination_not_an_address_of_this_workload"),
            DenialReason::Misdirected => f.write_str("misdirected_request"),
            DenialReason::Undeclared => f.write_str("destination_not_declared"),
            DenialReason::NoRoute => f.write_str("route_not_found"),
            DenialReason::NoBackend { what, .. } => write!(f, "backend_not_found[{what}]"),
            DenialReason::NoEndpoint => f.write_str("no_healthy_upstream"),
            DenialReason::AllTried => f.write_str("no_healthy_upstream_left"),
            DenialReason::RateLimited { policy, rule } => {
                write!(f, "rate_limited[ns[{}]-policy[{}]-rule[{rule}]]", policy.namespace, policy.name)
            }
            DenialReason::TooLarge { policy, what } => {
                let what = match what {
                    TooLarge::RequestBody => "request_payload_too_large",
                    TooLarge::RequestHead => "request_headers_too_large",
                };
                write!(f, "{what}[ns[{}]-policy[{}]]", policy.namespace, policy.name)
            }
        }
    }
}

impl Denial {
    /// The policy that spoke, when one did.
    pub fn policy(&self) -> Option<&Key> {
        match &self.reason {
            DenialReason::DeniedBy { policy, .. }
            | DenialReason::NotAllowed { policy }
            | DenialReason::PolicyMissing { policy }
            | DenialReason::RateLimited { policy, .. }
            | DenialReason::TooLarge { policy, .. } => Some(policy),
            DenialReason::PlaintextRefused { policy } => policy.as_ref(),
            _ => None,
        }
    }
}
