//! Again or not.

use std::time::Duration;

use lateen_model::RetryPolicy;
use lateen_runtime::random;

use super::head::{Known, ResponseHead};
use crate::fault::{Fault, Reason, Retry};

/// Whether `policy` asks for another try after this fault.
#[must_use]
pub fn after_fault(policy: &RetryPolicy, fault: &Fault) -> bool {
    let on = &policy.on;
    let no_answer = on.gateway_error || on.server_error;
    match fault.reason {
        Reason::ConnectFailure | Reason::ConnectTimeout | Reason::TlsFailure => {
            on.connect_failure || on.reset || no_answer
        }
        Reason::RefusedStream => on.refused_stream || on.reset || no_answer,
        // What was Safe is a reset before the request was written.
        Reason::Reset if fault.retry == Retry::Safe => {
            on.reset_before_request || on.connect_failure || on.reset || no_answer
        }
        Reason::Reset => on.reset || no_answer,
        Reason::PerTryTimeout => on.reset || no_answer,
        _ => false,
    }
}

/// Whether an idempotent request is tried again because its endpoint died over it: only where nobody has said when to
/// try again, and as often as the default allows, so that a request that kills does not kill them all.
#[must_use]
pub fn after_death(policy: &RetryPolicy, fault: &Fault) -> bool {
    fault.reason == Reason::Reset && policy.on == RetryPolicy::default().on
}

/// Whether `policy` asks for another try after this response.
#[must_use]
pub fn after_response(policy: &RetryPolicy, head: &ResponseHead) -> bool {
    let (on, status) = (&policy.on, head.status);
    let by_status = match status {
        502..=504 => on.gateway_error || on.server_error,
        500..=599 => on.server_error,
        409 => on.conflict,
        _ => false,
    };
    let named = by_status || on.statuses.contains(&status) || after_grpc(policy, head);
    // Whoever asks too much gets no better by asking more, unless the policy says so.
    let limited = (named || on.rate_limited) && head.fields.get("x-envoy-ratelimited").is_some();
    if limited { on.rate_limited } else { named }
}

/// A gRPC status in the head: the call failed before it began to answer.
fn after_grpc(policy: &RetryPolicy, head: &ResponseHead) -> bool {
    let on = &policy.on;
    match head.fields.known(Known::GrpcStatus) {
        Some(b"1") => on.cancelled,
        Some(b"4") => on.deadline_exceeded,
        Some(b"8") => on.resource_exhausted,
        Some(b"13") => on.internal,
        Some(b"14") => on.unavailable,
        _ => false,
    }
}

/// How long to wait before try number `attempt` (2 is the first repetition): doubled each time, at most tenfold, with
/// full jitter.
#[must_use]
pub fn backoff(policy: &RetryPolicy, attempt: u32) -> Duration {
    let doubled = policy.backoff.saturating_mul(1 << attempt.saturating_sub(2).min(10));
    let most = doubled.min(policy.backoff.saturating_mul(10));
    let share = (random::next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    most.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::RetryConditions;

    #[test]
    fn conditions() {
        let only = |on: RetryConditions| RetryPolicy { on, ..RetryPolicy::default() };
        let reset = Fault::upstream(Reason::Reset, "");
        let refused = Fault::connect(Reason::ConnectFailure, "");
        let default = RetryPolicy::default();
        assert!(after_fault(&default, &refused) && !after_fault(&default, &reset));
        assert!(after_fault(&only(RetryConditions { reset: true, ..Default::default() }), &reset));
        assert!(!after_fault(&only(RetryConditions::default()), &refused));
        let head = |status| ResponseHead { status, ..ResponseHead::default() };
        for (on, status, expected) in [
            (RetryConditions { gateway_error: true, ..Default::default() }, 503, true),
            (RetryConditions { gateway_error: true, ..Default::default() }, 500, false),
            (RetryConditions { server_error: true, ..Default::default() }, 500, true),
            (RetryConditions { statuses: vec![418], ..Default::default() }, 418, true),
            (RetryConditions { conflict: true, ..Default::default() }, 409, true),
            (RetryConditions::default(), 503, false),
        ] {
            assert_eq!(after_response(&only(on), &head(status)), expected, "{status}");
        }
        let mut unavailable = head(200);
        unavailable.fields.add(b"grpc-status", b"14");
        assert!(after_response(&default, &unavailable));
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let policy = RetryPolicy::default();
        for attempt in 2..40 {
            assert!(backoff(&policy, attempt) <= policy.backoff * 10);
        }
    }
}
