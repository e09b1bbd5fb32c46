//! `Route` and `Rule`: hosts and matches -> filters -> backends.

use crate::{
    Answer, Backend, Created, Filter, HostPattern, Key, NamedMatch, Namespace, PathMatch, Selector,
    ServiceId, Str, StringMatch, Visibility,
};
use std::fmt;
use std::time::Duration;

/// What one user object (HTTPRoute, VirtualService) says about where requests go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The object it was made from.
    pub key: Key,
    /// Where it is attached.
    pub parents: Vec<Parent>,
    /// The hosts it is for. Empty is every host of its parents.
    pub hosts: Vec<HostPattern>,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// How its rules are ordered against each other and against other routes.
    pub precedence: Precedence,
    /// When the object was made: the older wins.
    pub created: Created,
    /// Namespaces of the clients it applies to.
    pub visibility: Visibility,
}

/// Where a route is attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parent {
    /// Clients in the mesh, for the route's own hosts (VirtualService with gateway `mesh`).
    Mesh,
    /// Clients in the mesh, for one service (parentRef of kind Service).
    Service {
        /// The service.
        service: ServiceId,
        /// One port of it, or all.
        port: Option<u16>,
    },
    /// A gateway.
    Gateway {
        /// The gateway.
        gateway: Key,
        /// One listener of it (`sectionName`), or all.
        listener: Option<Str>,
        /// One port of it, or all.
        port: Option<u16>,
    },
}

/// How rules are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precedence {
    /// As listed: the first match wins (VirtualService).
    Listed,
    /// The most specific match wins (Gateway API: path, method, headers, query; then older, then name).
    MostSpecific,
}

/// One rule: if any of the matches holds, do this.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rule {
    /// Its name within the route, for log and explanation: given, or its index.
    pub name: Str,
    /// Alternatives. Empty matches everything.
    pub matches: Vec<RequestMatch>,
    /// What is done to head and body.
    pub filters: Vec<Filter>,
    /// What is answered here, instead of sending it anywhere.
    pub answer: Option<Answer>,
    /// Where it goes, by weight. Empty, without an answer, answers 500 (Gateway API) or 503.
    pub backends: Vec<Backend>,
    /// The longest a request may take, from its first byte to the last of the answer, over all tries.
    pub timeout: Option<Duration>,
    /// When to try again. None is the default of the mesh.
    pub retry: Option<RetryPolicy>,
    /// Whether requests of one session stay with one endpoint.
    pub persistence: Option<SessionPersistence>,
}

/// Requests of one session stay with one endpoint as long as it may be used (Gateway API `sessionPersistence`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPersistence {
    /// Where the session is told.
    pub by: SessionToken,
    /// How long a session lasts. None is as long as the client keeps it.
    pub absolute_timeout: Option<Duration>,
    /// How long a session lasts that is not used.
    pub idle_timeout: Option<Duration>,
}

/// Where a session is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionToken {
    /// In a cookie that the proxy gives.
    Cookie {
        /// Its name.
        name: Str,
        /// Its path; the path of the match, else `/`.
        path: Str,
        /// Whether the client keeps it beyond its own session (`Permanent`), for the absolute timeout.
        permanent: bool,
    },
    /// In a header that the proxy gives and the client sends back; the name in lower case.
    Header(Str),
}

/// A match on a request: every part that is there must hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RequestMatch {
    /// The path without query.
    pub path: Option<PathMatch>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// `:authority` or `Host` in lower case, with its port or without.
    pub authority: Option<StringMatch>,
    /// Headers that must match.
    pub headers: Vec<NamedMatch>,
    /// Headers that must not match.
    pub without_headers: Vec<NamedMatch>,
    /// Query parameters that must match (the first of a name counts).
    pub query: Vec<NamedMatch>,
    /// The port callers used.
    pub port: Option<u16>,
    /// Labels that the client's workload must have.
    pub source_labels: Selector,
    /// The namespace that the client must be in.
    pub source_namespace: Option<Namespace>,
}

/// When to try a request again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// How many tries after the first. 0 is never.
    pub attempts: u32,
    /// The longest one try may take.
    pub per_try_timeout: Option<Duration>,
    /// What is tried again.
    pub on: RetryConditions,
    /// First wait, doubled each time with jitter, at most ten times itself.
    pub backoff: Duration,
    /// Whether an endpoint that was tried is left out (`retryIgnorePreviousHosts`).
    pub ignore_previous_hosts: bool,
    /// Whether endpoints of other localities may be tried too (`retryRemoteLocalities`).
    pub remote_localities: bool,
}

impl Default for RetryPolicy {
    /// Istio's default: two more tries, never of a request that may have been processed.
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            on: RetryConditions {
                connect_failure: true,
                refused_stream: true,
                unavailable: true,
                cancelled: true,
                ..RetryConditions::default()
            },
            backoff: Duration::from_millis(25),
            ignore_previous_hosts: true,
            remote_localities: false,
        }
    }
}

/// What is tried again, by Envoy's names (`x-envoy-retry-on`, `x-envoy-retry-grpc-on`).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RetryConditions {
    /// `connect-failure`: no connection was made, so nothing was seen.
    pub connect_failure: bool,
    /// `refused-stream`: HTTP/2 said that the request was not processed.
    pub refused_stream: bool,
    /// `reset`: the connection ended before an answer.
    pub reset: bool,
    /// `reset-before-request`: it ended before the request was written.
    pub reset_before_request: bool,
    /// `gateway-error`: 502, 503, 504, or no answer.
    pub gateway_error: bool,
    /// `5xx`: any 5xx, or no answer.
    pub server_error: bool,
    /// `retriable-4xx`: 409.
    pub conflict: bool,
    /// `envoy-ratelimited`: an answer with `x-envoy-ratelimited`.
    pub rate_limited: bool,
    /// gRPC `cancelled`.
    pub cancelled: bool,
    /// gRPC `unavailable`.
    pub unavailable: bool,
    /// gRPC `deadline-exceeded`.
    pub deadline_exceeded: bool,
    /// gRPC `internal`.
    pub internal: bool,
    /// gRPC `resource-exhausted`.
    pub resource_exhausted: bool,
    /// Statuses listed by number.
    pub statuses: Vec<u16>,
}

impl fmt::Display for RequestMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let comma = if std::mem::take(&mut first) { "" } else { ", " };
            write!(f, "{comma}{text}")
        };
        if let Some(path) = &self.path {
            part(f, format_args!("{path}"))?;
        }
        if let Some(scheme) = &self.scheme {
            part(f, format_args!("scheme {scheme}"))?;
        }
        if let Some(method) = &self.method {
            part(f, format_args!("method {method}"))?;
        }
        if let Some(authority) = &self.authority {
            part(f, format_args!("authority {authority}"))?;
        }
        for header in &self.headers {
            part(f, format_args!("header {header}"))?;
        }
        for header in &self.without_headers {
            part(f, format_args!("not header {header}"))?;
        }
        for query in &self.query {
            part(f, format_args!("query {query}"))?;
        }
        if let Some(port) = self.port {
            part(f, format_args!("port {port}"))?;
        }
        if let Some(namespace) = &self.source_namespace {
            part(f, format_args!("source namespace {namespace}"))?;
        }
        for (key, value) in self.source_labels.labels().iter() {
            part(f, format_args!("source label {key}={value}"))?;
        }
        if first { f.write_str("everything") } else { Ok(()) }
    }
}
