//! Whether and how a request is sent again.

use std::rc::Rc;

use lateen_engine::Effective;
use lateen_model::RetryPolicy;

use super::Trip;
use crate::connect::Breakers;
use crate::connect::breaker::{Group, Held};
use crate::fault::{Fault, Reason, Retry};
use crate::http::body::Pump;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::retry;

/// Envoy's flag for an answer that is sent on since no retry was left.
const EXHAUSTED: &str = "URX";
/// And for one that is sent on since too many retries are under way.
const OVERFLOW: &str = "UO";

/// How a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// To the same endpoint, on a new connection; not counted as a retry.
    Fresh,
    /// As a retry, to another endpoint if there is one.
    Elsewhere,
}

/// What is left of the retries of one request.
pub(super) struct Retries<'a> {
    policy: &'a RetryPolicy,
    left: u32,
    /// The last try was on a connection of its own.
    pub(super) fresh: bool,
    group: Option<&'a Rc<Group>>,
    breakers: &'a Breakers,
    /// The retry that is under way.
    held: Option<Held>,
}

impl<'a> Retries<'a> {
    pub(super) fn new(
        effective: &'a Effective,
        group: Option<&'a Rc<Group>>,
        breakers: &'a Breakers,
    ) -> Self {
        let policy = &effective.retry;
        Self { policy, left: policy.attempts, fresh: false, group, breakers, held: None }
    }

    /// After a try that failed before an answer.
    ///
    /// A connection that was kept and is found closed says nothing of the endpoint, so the request goes to it again: if
    /// nothing was written yet, or if the request may be sent twice. What the policy names is tried again whatever the
    /// method: whoever wrote it knows.
    pub(super) fn after_fault(
        &mut self,
        trip: &mut Trip,
        request: &RequestHead,
        fault: &Fault,
        pump: &Pump,
    ) -> Option<Again> {
        if !pump.can_replay() {
            return None;
        }
        let unseen = fault.retry == Retry::Safe;
        let idempotent = fault.retry == Retry::IfIdempotent && request.kind.is_idempotent();
        let ended = match fault.reason {
            Reason::Reset => unseen || idempotent,
            // The other side ends an HTTP/2 connection and says that it has not looked at this request.
            Reason::RefusedStream => unseen,
            _ => false,
        };
        if trip.reused && !self.fresh && ended {
            self.fresh = true;
            return Some(Again::Fresh);
        }
        let asked =
            retry::after_fault(self.policy, fault) || (idempotent && retry::after_death(self.policy, fault));
        (asked && self.permit(trip)).then_some(Again::Elsewhere)
    }

    /// After an answer.
    pub(super) fn after_response(&mut self, trip: &mut Trip, response: &ResponseHead, pump: &Pump) -> bool {
        pump.can_replay() && retry::after_response(self.policy, response) && self.permit(trip)
    }

    /// One more retry, if one is left and not too many are under way.
    fn permit(&mut self, trip: &mut Trip) -> bool {
        self.held = None;
        if self.left == 0 {
            trip.not_retried = (self.policy.attempts > 0).then_some(EXHAUSTED);
            return false;
        }
        if let Some(group) = self.group {
            let Some(held) = group.begin_retry(self.breakers) else {
                trip.not_retried = Some(OVERFLOW);
                return false;
            };
            self.held = Some(held);
        }
        (self.left, self.fresh) = (self.left - 1, false);
        true
    }

    /// The retry that is under way goes on being one until its answer is complete.
    pub(super) fn into_held(self) -> Option<Held> {
        self.held
    }
}
