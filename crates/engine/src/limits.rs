//! `Limits`: how many requests are taken and how large they may be, where the viewer is the one to say so.
//!
//! What a limit counts lives in the proxy: here stands which rules hold for a request, and what tells its buckets apart.

use crate::hosts::Lowered;
use crate::routes::{Asked, request_matches};
use crate::snapshot::Snapshot;
use crate::trace::{Step, Trace, object};
use crate::{ConnectionFacts, Direction, Effective, RequestFacts};
use lateen_model::{Descriptor, Key, LimitRule, RequestLimit, ServiceId, Str};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

/// One RateLimitPolicy or RequestLimitPolicy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The policy.
    pub policy: Key,
    /// Its limits on how many.
    pub rates: Vec<Arc<RateRule>>,
    /// Its limits on how large.
    pub sizes: Option<RequestLimit>,
}

/// One rule of a RateLimitPolicy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateRule {
    /// The policy.
    pub policy: Key,
    /// What it says.
    pub rule: LimitRule,
}

/// The limits that hold for a request, in the order in which they are asked.
pub type LimitsOf<'a> = SmallVec<[&'a Arc<Limit>; 4]>;

/// Limits by where they are attached.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct LimitIndex {
    /// For whoever calls the viewer's own workload.
    pub(crate) own: Vec<Arc<Limit>>,
    /// For whoever calls it by this service.
    pub(crate) services: BTreeMap<ServiceId, Vec<Arc<Limit>>>,
    /// For whoever comes in by a port of a gateway.
    pub(crate) ports: BTreeMap<u16, Vec<Arc<Limit>>>,
    /// For what a route decides.
    pub(crate) routes: BTreeMap<Key, Vec<Arc<Limit>>>,
}

impl LimitIndex {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.services.is_empty() && self.ports.is_empty() && self.routes.is_empty()
    }
}

impl Snapshot {
    /// The limits that hold for a request that was decided so.
    pub fn limits<'a>(&'a self, facts: &ConnectionFacts, effective: &Effective) -> LimitsOf<'a> {
        let mut found = LimitsOf::new();
        let Some(index) = &self.limits else { return found };
        match facts.direction {
            Direction::Outbound => {}
            Direction::Inbound => {
                found.extend(&index.own);
                let service = effective.service.as_ref().and_then(|service| index.services.get(service));
                found.extend(service.into_iter().flatten());
            }
            Direction::Gateway => {
                found.extend(&index.own);
                found.extend(index.ports.get(&facts.destination.port()).into_iter().flatten());
            }
        }
        if !index.routes.is_empty()
            && let Some(route) = &effective.route
        {
            found.extend(index.routes.get(&of_object(route)).into_iter().flatten());
        }
        found
    }

    /// The limits that hold for a request, each with whether it counts the request.
    pub(crate) fn trace_limits<T: Trace>(
        &self,
        request: &RequestFacts<'_>,
        effective: &Effective,
        trace: &mut T,
    ) {
        for limit in self.limits(request.connection, effective) {
            for rate in &limit.rates {
                let counts = rate.matches(request);
                trace.step(|| Step::Limit { policy: object(&limit.policy), text: rate.describe(), counts });
            }
            if let Some(sizes) = &limit.sizes {
                let text = describe_sizes(sizes);
                trace.step(|| Step::Limit { policy: object(&limit.policy), text, counts: true });
            }
        }
    }

    /// Whether any limit holds anywhere. Where none does, requests need not ask.
    pub fn has_limits(&self) -> bool {
        self.limits.is_some()
    }

    pub(crate) fn set_limits(&mut self, index: LimitIndex) {
        self.limits = (!index.is_empty()).then(|| Arc::new(index));
    }
}

/// The key of the object that a route was made from: it may have been made into several.
pub(crate) fn of_object(route: &Key) -> Key {
    Key { section: None, ..route.clone() }
}

impl RateRule {
    /// Whether a request is counted by it.
    pub fn matches(&self, request: &RequestFacts<'_>) -> bool {
        if self.rule.matches.is_empty() {
            return true;
        }
        let authority = Lowered::new(request.authority);
        let port = request.connection.destination.port();
        let asked = Asked { request, authority: authority.as_str(), host: authority.host(), port };
        self.rule.matches.iter().any(|matching| request_matches(matching, &asked))
    }

    /// Writes what tells the bucket of a request apart from others of the rule.
    pub fn hash_key(&self, request: &RequestFacts<'_>, hasher: &mut impl Hasher) {
        for descriptor in &self.rule.key {
            // Each value ends with a byte that is in no text, so that no two pairs of values are the same bytes.
            let mut text = |text: &str| {
                hasher.write(text.as_bytes());
                hasher.write_u8(0xff);
            };
            match descriptor {
                Descriptor::Header(name) => text(&request.headers.get(name).unwrap_or_default()),
                Descriptor::Path => text(request.path()),
                Descriptor::Method => text(request.method),
                Descriptor::Host => text(Lowered::new(request.authority).host()),
                Descriptor::Principal => {
                    let peer = request.connection.peer.as_ref();
                    text(&peer.map(ToString::to_string).unwrap_or_default());
                }
                Descriptor::ClientAddress => match request.connection.client.ip().to_canonical() {
                    IpAddr::V4(ip) => hasher.write_u32(ip.to_bits()),
                    // A host commonly has a whole /64.
                    IpAddr::V6(ip) => hasher.write_u64((ip.to_bits() >> 64) as u64),
                },
            }
        }
    }

    /// In words, for explanations.
    pub(crate) fn describe(&self) -> String {
        let LimitRule { name, key, requests, per, burst, .. } = &self.rule;
        let by: Vec<Str> = key.iter().map(descriptor_name).collect();
        let by = if by.is_empty() { String::new() } else { format!(" for each {}", by.join(" and ")) };
        format!("rule {name}: {requests} requests per {per:?}{by}, at most {burst} at once")
    }
}

fn descriptor_name(descriptor: &Descriptor) -> Str {
    match descriptor {
        Descriptor::Header(name) => format!("value of header {name}").into(),
        Descriptor::Path => "path".into(),
        Descriptor::Method => "method".into(),
        Descriptor::Host => "host".into(),
        Descriptor::Principal => "principal".into(),
        Descriptor::ClientAddress => "client address".into(),
    }
}

fn describe_sizes(sizes: &RequestLimit) -> String {
    let RequestLimit { request_body, response_body, request_head, request_headers } = sizes;
    let parts = [
        request_body.map(|most| format!("request body {most} bytes")),
        response_body.map(|most| format!("response body {most} bytes")),
        request_head.map(|most| format!("request head {most} bytes")),
        request_headers.map(|most| format!("{most} request headers")),
    ];
    format!("at most {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// The narrowest of the sizes that hold.
pub fn narrowest<'a>(limits: impl IntoIterator<Item = &'a Arc<Limit>>) -> RequestLimit {
    fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
    let sizes = limits.into_iter().filter_map(|limit| limit.sizes.as_ref());
    sizes.fold(RequestLimit::default(), |all, one| RequestLimit {
        request_body: least(all.request_body, one.request_body),
        response_body: least(all.response_body, one.response_body),
        request_head: least(all.request_head, one.request_head),
        request_headers: least(all.request_headers, one.request_headers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_size_counts() {
        let limit = |request_body, request_headers| {
            let sizes = RequestLimit { request_body, request_headers, ..RequestLimit::default() };
            let policy = Key::new(lateen_model::Origin::RequestLimitPolicy, Default::default(), "x");
            Arc::new(Limit { policy, rates: Vec::new(), sizes: Some(sizes) })
        };
        let all = [limit(Some(10), None), limit(Some(5), Some(3)), limit(None, Some(4))];
        let expected =
            RequestLimit { request_body: Some(5), request_headers: Some(3), ..RequestLimit::default() };
        assert_eq!(narrowest(&all), expected);
    }
}
