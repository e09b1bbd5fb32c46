//! `retries`.

use crate::problem::{At, Draft, nearest};
use crate::read::Reader;
use crate::yaml::Node;
use lateen_model::{RetryConditions, RetryPolicy, Str};

pub(super) fn read(node: &Node, reader: &Reader) -> Option<RetryPolicy> {
    let fields = reader.fields(
        node,
        &[
            "attempts",
            "perTryTimeout",
            "retryOn",
            "backoff",
            "retryIgnorePreviousHosts",
            "retryRemoteLocalities",
        ],
        &[],
    )?;
    let default = RetryPolicy::default();
    let on = fields.text("retryOn").map(|text| conditions(&text, reader));
    Some(RetryPolicy {
        attempts: fields.integer("attempts", 0, 1000).map_or(default.attempts, |number| number.value as u32),
        per_try_timeout: fields.duration("perTryTimeout").map(|at| at.value).filter(|time| !time.is_zero()),
        on: on.unwrap_or(default.on),
        backoff: fields.span_of_time("backoff").map_or(default.backoff, |at| at.value),
        ignore_previous_hosts: fields
            .boolean("retryIgnorePreviousHosts")
            .unwrap_or(default.ignore_previous_hosts),
        remote_localities: fields.boolean("retryRemoteLocalities").unwrap_or(default.remote_localities),
    })
}

fn conditions(text: &At<Str>, reader: &Reader) -> RetryConditions {
    const WORDS: [&str; 14] = [
        "connect-failure",
        "refused-stream",
        "reset",
        "reset-before-request",
        "gateway-error",
        "5xx",
        "retriable-4xx",
        "envoy-ratelimited",
        "cancelled",
        "unavailable",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "retriable-status-codes",
    ];
    let mut on = RetryConditions::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "gateway-error" => on.gateway_error = true,
            "5xx" => on.server_error = true,
            "retriable-4xx" => on.conflict = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "cancelled" => on.cancelled = true,
            "unavailable" => on.unavailable = true,
            "deadline-exceeded" => on.deadline_exceeded = true,
            "internal" => on.internal = true,
            "resource-exhausted" => on.resource_exhausted = true,
            // It says that the numbers in the same list count, which they do here anyway.
            "retriable-status-codes" => {}
            // Istio has no field that names the headers, and no proxy of ours speaks HTTP/3: neither can ever hold.
            "retriable-headers" | "http3-post-connect-failure" => {
                reader.push(Draft::warning(text.span, format!("`{word}` never holds, here as in Istio")));
            }
            number => match number.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => reader.push(
                    Draft::error(text.span, format!("`{word}` is no retry condition"))
                        .expected("names such as `connect-failure` or `5xx`, or statuses, with commas")
                        .suggest(nearest(word, WORDS)),
                ),
            },
        }
    }
    on
}
