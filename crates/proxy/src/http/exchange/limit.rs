//! Limits: how many requests are taken, and how large they may be.

use std::sync::Arc;

use lateen_engine::{Denial, DenialReason, Effective, LimitsOf, RequestFacts, Snapshot, TooLarge, narrowest};
use lateen_model::RequestLimit;

use super::{Exchange, Next, Trip, with_facts};
use crate::fault::{Fault, Reason, Retry};
use crate::http::head::{Fields, RequestHead, ResponseHead};
use crate::rate::Standing;

impl Exchange<'_> {
    /// Asks the limits that hold for a request which was decided so; some when one of them answered it.
    pub(super) async fn limit(&mut self, snapshot: &Snapshot, effective: &Effective) -> Option<Next> {
        let limits = snapshot.limits(&self.entry.facts, effective);
        let refused = self.too_large(&limits).or_else(|| self.too_many(&limits));
        let reason = refused?;
        let (route, service) = (effective.route.clone(), effective.service.clone());
        Some(self.deny(Denial { reason, route, service }).await)
    }

    /// Takes a token of every rule that counts the request.
    fn too_many(&mut self, limits: &LimitsOf<'_>) -> Option<DenialReason> {
        let (worker, trip) = (self.worker, &mut *self.trip);
        with_facts(self.entry, &self.heads.request, |request: &RequestFacts<'_>| {
            for rule in limits.iter().flat_map(|limit| &limit.rates).filter(|rule| rule.matches(request)) {
                let buckets = worker.rates.buckets(rule, &worker.shared.rates);
                let standing = worker.shared.rates.take(&buckets, request);
                let narrower = trip.rate.as_ref().is_none_or(|known| standing.remaining <= known.remaining);
                if narrower || !standing.passes {
                    trip.rate = Some(Box::new(standing));
                }
                if !standing.passes {
                    let (policy, rule) = (rule.policy.clone(), rule.rule.name.clone());
                    return Some(DenialReason::RateLimited { policy, rule });
                }
            }
            None
        })
    }

    /// Refuses what is known to be too large; what is not known yet is looked at on its way.
    fn too_large(&mut self, limits: &LimitsOf<'_>) -> Option<DenialReason> {
        let request = &self.heads.request;
        for limit in limits.iter() {
            let Some(sizes) = &limit.sizes else { continue };
            if let Some(what) = exceeded(sizes, request) {
                return Some(DenialReason::TooLarge { policy: limit.policy.clone(), what });
            }
        }
        let sizes = narrowest(limits.iter().copied());
        if sizes != RequestLimit::default() {
            self.trip.sizes = Some(Arc::new(sizes));
        }
        None
    }
}

fn exceeded(sizes: &RequestLimit, request: &RequestHead) -> Option<TooLarge> {
    let more = |most: Option<u64>, value: u64| most.is_some_and(|most| value > most);
    let head = || {
        let fields: usize = request.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        (request.method().len() + request.target().len() + fields) as u64
    };
    if more(sizes.request_body, request.framing.length().unwrap_or(0)) {
        return Some(TooLarge::RequestBody);
    }
    let too_many = || more(sizes.request_headers.map(u64::from), request.fields.iter().count() as u64);
    if sizes.request_head.is_some_and(|most| head() > u64::from(most)) || too_many() {
        return Some(TooLarge::RequestHead);
    }
    None
}

/// An answer that says itself that it is too long is not begun.
pub(super) fn answer_too_large(trip: &Trip, response: &ResponseHead) -> Option<Fault> {
    let most = trip.most(|sizes| sizes.response_body)?;
    let length = response.framing.length().filter(|length| *length > most)?;
    let text = format!("the answer has {length} bytes, and a RequestLimitPolicy allows {most}");
    Some(Fault::upstream(Reason::TooLarge, text).retry(Retry::Never))
}

/// Tells the caller where it stands (draft-ietf-httpapi-ratelimit-headers-07, and `Retry-After` of RFC 9110).
pub(super) fn tell(standing: &Standing, fields: &mut Fields) {
    let seconds = |time: std::time::Duration| time.as_millis().div_ceil(1000).to_string();
    fields.set(b"ratelimit-limit", standing.limit.to_string().as_bytes());
    fields.set(b"ratelimit-remaining", standing.remaining.to_string().as_bytes());
    fields.set(b"ratelimit-reset", seconds(standing.reset).as_bytes());
    if !standing.passes {
        fields.set(b"retry-after", seconds(standing.wait).as_bytes());
    }
}
