//! `outlierDetection`.

use crate::problem::Draft;
use crate::read::Fields;
use lateen_model::OutlierDetection;

const FIELDS: &[&str] = &[
    "consecutiveErrors",
    "splitExternalLocalOriginErrors",
    "consecutiveLocalOriginFailures",
    "consecutiveGatewayErrors",
    "consecutive5xxErrors",
    "interval",
    "baseEjectionTime",
    "maxEjectionPercent",
    "minHealthPercent",
    "outlierDetectionHttpErrorCodes",
];

pub(super) fn read(policy: &Fields<'_>) -> Option<OutlierDetection> {
    let fields = policy.fields("outlierDetection", FIELDS, &[])?;
    let default = OutlierDetection::default();
    let per_cent = |name, default| fields.integer(name, 0, 100).map_or(default, |at| at.value as u8);
    let mut outliers = OutlierDetection {
        consecutive_5xx: fields.count("consecutive5xxErrors").unwrap_or(default.consecutive_5xx),
        consecutive_gateway_errors: fields
            .count("consecutiveGatewayErrors")
            .unwrap_or(default.consecutive_gateway_errors),
        consecutive_local_failures: fields
            .count("consecutiveLocalOriginFailures")
            .unwrap_or(default.consecutive_local_failures),
        split_local_errors: fields.boolean("splitExternalLocalOriginErrors").unwrap_or(false),
        interval: fields.span_of_time("interval").map_or(default.interval, |at| at.value),
        base_ejection_time: fields
            .span_of_time("baseEjectionTime")
            .map_or(default.base_ejection_time, |at| at.value),
        max_ejection_percent: per_cent("maxEjectionPercent", default.max_ejection_percent),
        min_health_percent: per_cent("minHealthPercent", default.min_health_percent),
        error_statuses: codes(&fields),
    };
    deprecated(&fields, &mut outliers);
    if fields.has("consecutiveLocalOriginFailures") && !outliers.split_local_errors {
        let span = fields.key_span("consecutiveLocalOriginFailures");
        let draft = Draft::error(span, "`consecutiveLocalOriginFailures` counts only what is split off");
        fields.reader.push(draft.expected("`splitExternalLocalOriginErrors: true` beside it"));
    }
    if fields.has("consecutiveGatewayErrors")
        && outliers.consecutive_5xx > 0
        && outliers.consecutive_gateway_errors >= outliers.consecutive_5xx
    {
        let message = format!(
            "gateway errors are 5xx errors too, and {} of those in a row come first",
            outliers.consecutive_5xx
        );
        let draft = Draft::warning(fields.key_span("consecutiveGatewayErrors"), message);
        fields.reader.push(draft.expected("`consecutive5xxErrors: 0`, or a larger number there"));
    }
    Some(outliers)
}

/// `consecutiveErrors` counted what is now counted by `consecutiveGatewayErrors`, and nothing else.
fn deprecated(fields: &Fields<'_>, outliers: &mut OutlierDetection) {
    let Some(errors) = fields.count("consecutiveErrors") else { return };
    let span = fields.key_span("consecutiveErrors");
    let draft = Draft::warning(span, "`consecutiveErrors` is deprecated");
    fields.reader.push(draft.expected("`consecutiveGatewayErrors`, or `consecutive5xxErrors`"));
    if !fields.has("consecutiveGatewayErrors") && !fields.has("consecutive5xxErrors") {
        outliers.consecutive_gateway_errors = errors;
        outliers.consecutive_5xx = 0;
    }
}

/// Statuses, neighbours put together.
fn codes(fields: &Fields<'_>) -> Vec<(u16, u16)> {
    let nodes = fields.list("outlierDetectionHttpErrorCodes").iter();
    let codes = nodes.filter_map(|node| fields.reader.integer(node, 100, 599));
    let mut codes: Vec<u16> = codes.map(|code| code.value as u16).collect();
    codes.sort_unstable();
    codes.dedup();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for code in codes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    ranges
}
