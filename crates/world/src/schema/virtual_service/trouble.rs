//! `fault`: delays and aborts on purpose.

use super::percentage;
use crate::problem::{Draft, nearest};
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Value};
use lateen_model::{Abort, FaultInjection, Share};

/// The statuses of gRPC, by number.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn fault(node: &Node, reader: &Reader) -> Option<FaultInjection> {
    let fields = reader.fields(node, &["delay", "abort"], &[])?;
    if !fields.has("delay") && !fields.has("abort") {
        let draft = Draft::error(fields.first_line(), "`fault` says nothing");
        fields.lacks(draft.expected("`delay` or `abort`"));
    }
    let delay = fields.get("delay").and_then(|node| {
        let fields =
            reader.fields(node, &["fixedDelay", "percentage", "percent", "exponentialDelay"], &[])?;
        if fields.has("exponentialDelay") {
            let draft =
                Draft::error(fields.key_span("exponentialDelay"), "no proxy knows `exponentialDelay`");
            reader.push(draft.expected("`fixedDelay`"));
            return None;
        }
        fields.need("fixedDelay")?;
        Some((fields.span_of_time("fixedDelay")?.value, share(&fields, "is delayed")?))
    });
    let abort = fields.get("abort").and_then(|node| {
        let fields =
            reader.fields(node, &["httpStatus", "grpcStatus", "http2Error", "percentage", "percent"], &[])?;
        Some((abort(&fields)?, share(&fields, "is aborted")?))
    });
    Some(FaultInjection { delay, abort })
}

fn abort(fields: &Fields<'_>) -> Option<Abort> {
    if fields.has("http2Error") {
        let draft = Draft::error(fields.key_span("http2Error"), "no proxy aborts with `http2Error`");
        fields.reader.push(draft.expected("`httpStatus` or `grpcStatus`"));
        return None;
    }
    if !fields.exclude(&["httpStatus", "grpcStatus"]) {
        return None;
    }
    if let Some(node) = fields.get("grpcStatus") {
        return grpc(node, fields.reader).map(Abort::Grpc);
    }
    if !fields.has("httpStatus") {
        let draft = Draft::error(fields.first_line(), "an abort needs a status");
        fields.lacks(draft.expected("`httpStatus` or `grpcStatus`"));
    }
    fields.integer("httpStatus", 200, 599).map(|status| Abort::Http(status.value as u16))
}

/// A name such as `UNAVAILABLE`, or its number.
fn grpc(node: &Node, reader: &Reader) -> Option<u16> {
    if let Value::Integer(_) = node.value {
        return reader.integer(node, 0, 16).map(|number| number.value as u16);
    }
    let text = reader.text(node)?;
    let upper = text.to_ascii_uppercase();
    let known = GRPC.iter().position(|name| *name == upper);
    let number = known.or_else(|| text.parse().ok().filter(|number| *number < GRPC.len()));
    if number.is_none() {
        let draft = Draft::error(text.span, format!("{:?} is no status of gRPC", text.as_str()));
        reader.push(draft.expected("a name such as UNAVAILABLE, or 0 to 16").suggest(nearest(&upper, GRPC)));
    }
    number.and_then(|number| u16::try_from(number).ok())
}

/// Of how many requests; without a word of none, as Istio has it.
fn share(fields: &Fields<'_>, what: &str) -> Option<Share> {
    if !fields.has("percentage") && !fields.has("percent") {
        let draft = Draft::warning(fields.first_line(), format!("without `percentage` no request {what}"));
        fields.lacks(draft.expected("`percentage: {value: 100}` for all"));
    }
    match fields.get("percentage") {
        Some(node) => percentage(node, fields.reader),
        None => Some(fields.percent("percent").map_or(Share::per_million(0), |at| at.value)),
    }
}
