//! How many requests are taken, and how large they may be.

use crate::{RequestMatch, Str};
use std::time::Duration;

/// `lateen.dev/v1alpha1` RateLimitPolicy: local limits, each proxy for itself. A request is counted by every rule that
/// matches it, and is refused (429, flag `RL`) if one of them has no token left.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RateLimit {
    /// The limits.
    pub rules: Vec<LimitRule>,
}

/// One limit: a bucket of tokens for each value of the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitRule {
    /// Its name, for log and metrics: given, or its index.
    pub name: Str,
    /// Requests it is for: any of these; none is all.
    pub matches: Vec<RequestMatch>,
    /// What requests are told apart by; each combination of values has a bucket of its own. Empty is one for all.
    pub key: Vec<Descriptor>,
    /// So many requests …
    pub requests: u32,
    /// … in this time.
    pub per: Duration,
    /// The most tokens a bucket holds.
    pub burst: u32,
}

/// What requests are told apart by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Descriptor {
    /// A header; the name in lower case. Requests without it share a bucket.
    Header(Str),
    /// The path without query.
    Path,
    /// The method.
    Method,
    /// The host of the authority.
    Host,
    /// Who the caller is, proved by mTLS.
    Principal,
    /// The caller's address; at a gateway the client's.
    ClientAddress,
}

/// `lateen.dev/v1alpha1` RequestLimitPolicy: how large requests and answers may be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RequestLimit {
    /// Bytes of a request's body; more is 413.
    pub request_body: Option<u64>,
    /// Bytes of an answer's body; more ends the answer, 502 where nothing was sent yet.
    pub response_body: Option<u64>,
    /// Bytes of a request's head; more is 431. At most what the proxy itself takes.
    pub request_head: Option<u32>,
    /// Headers of a request; more is 431.
    pub request_headers: Option<u32>,
}
