//! `localityLbSetting` and `zoneAwareLbSetting`.

use crate::problem::{At, Draft};
use crate::read::Fields;
use crate::yaml::{Node, Value};
use lateen_model::{Distribution, LocalityMode, LocalityPolicy, Str};

/// Envoy's bound below which zones are not looked at.
const MINIMUM_CLUSTER: u64 = 6;

pub(super) fn read(balancer: &Fields<'_>) -> Option<LocalityPolicy> {
    if let Some(fields) = balancer.fields(
        "zoneAwareLbSetting",
        &["enabled", "failover", "failoverPriority", "minClusterSize"],
        &[],
    ) {
        let minimum = fields.integer("minClusterSize", 0, i64::from(u32::MAX));
        return Some(LocalityPolicy {
            enabled: fields.boolean("enabled").unwrap_or(true),
            mode: LocalityMode::ZoneAware {
                minimum_cluster_size: minimum.map_or(MINIMUM_CLUSTER, |at| at.value as u64),
                regions: failover(&fields),
                priority: priority(&fields),
            },
        });
    }
    let fields = balancer.fields(
        "localityLbSetting",
        &["distribute", "failover", "failoverPriority", "enabled"],
        &[],
    )?;
    fields.exclude(&["distribute", "failover"]);
    fields.exclude(&["distribute", "failoverPriority"]);
    let mode = match fields.has("distribute") {
        true => LocalityMode::Distribute(distribute(&fields)),
        false => LocalityMode::Failover { regions: failover(&fields), priority: priority(&fields) },
    };
    Some(LocalityPolicy { enabled: fields.boolean("enabled").unwrap_or(true), mode })
}

fn distribute(fields: &Fields<'_>) -> Vec<Distribution> {
    let mut all: Vec<Distribution> = Vec::new();
    for item in fields.each("distribute", &["from", "to"], &[]) {
        let (Some(from), Some(to)) = (item.need_text("from"), item.need("to")) else { continue };
        if !is_locality(&from, &item) {
            continue;
        }
        if let Some(other) = all.iter().find(|other| overlap(&other.from, &from)) {
            let message = format!("{:?} and {:?} overlap", from.as_str(), other.from.as_str());
            item.reader.error(from.span, message);
            continue;
        }
        all.push(Distribution { from: from.value, to: weights(to, &item) });
    }
    all
}

/// Localities with their weights, that must sum to 100.
fn weights(node: &Node, item: &Fields<'_>) -> Vec<(Str, u32)> {
    let reader = item.reader;
    let Value::Map(entries) = &node.value else {
        reader.wrong_type(node, "a mapping of localities to weights");
        return Vec::new();
    };
    let mut to: Vec<(Str, u32)> = Vec::new();
    let mut whole = true;
    for (key, node) in entries {
        let place = At { value: Str::from(&*key.value), span: key.span };
        let (true, Some(weight)) = (is_locality(&place, item), reader.integer(node, 1, 100)) else {
            whole = false;
            continue;
        };
        if let Some((other, _)) = to.iter().find(|(other, _)| overlap(other, &place)) {
            reader.error(place.span, format!("{:?} and {:?} overlap", place.as_str(), other.as_str()));
            whole = false;
        }
        to.push((place.value, weight.value as u32));
    }
    let sum: u32 = to.iter().map(|(_, weight)| *weight).sum();
    if whole && sum != 100 {
        let draft = Draft::error(item.key_span("to"), format!("the weights sum to {sum}"));
        reader.push(draft.expected("weights that sum to 100"));
    }
    to
}

/// `region/zone/subzone`; later ones may be missing, and the last may be `*`.
fn is_locality(text: &At<Str>, fields: &Fields<'_>) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let last = parts.len() - 1;
    let good = |(place, part): (usize, &&str)| match *part {
        "*" => place == last,
        part => !part.is_empty() && !part.contains('*'),
    };
    let good = parts.len() <= 3 && parts.iter().enumerate().all(good);
    if !good {
        let draft = Draft::error(text.span, format!("{:?} is no locality", text.as_str()));
        fields
            .reader
            .push(draft.expected("`region`, `region/zone` or `region/zone/subzone`, the last may be `*`"));
    }
    good
}

/// Whether some place is in both.
fn overlap(a: &str, b: &str) -> bool {
    let pairs = a.split('/').zip(b.split('/'));
    pairs.take_while(|(a, b)| *a != "*" && *b != "*").all(|(a, b)| a == b)
}

fn failover(fields: &Fields<'_>) -> Vec<(Str, Str)> {
    let mut regions: Vec<(Str, Str)> = Vec::new();
    for item in fields.each("failover", &["from", "to"], &[]) {
        let (Some(from), Some(to)) = (item.need_text("from"), item.need_text("to")) else { continue };
        let bad = [&from, &to].into_iter().find(|region| region.contains(['/', '*']));
        if let Some(region) = bad {
            let draft = Draft::error(region.span, format!("{:?} is no region", region.as_str()));
            item.reader.push(draft.expected("a region alone, without zone and `*`"));
        } else if from.value == to.value {
            item.reader.error(to.span, "a region cannot take over for itself");
        } else if regions.iter().any(|(other, _)| *other == from.value) {
            item.reader.error(from.span, format!("{:?} has another region already", from.as_str()));
        } else {
            regions.push((from.value, to.value));
        }
    }
    regions
}

/// Labels, each `key` or `key=value`.
fn priority(fields: &Fields<'_>) -> Vec<Str> {
    let good = |text: &At<Str>| {
        let key = text.split('=').next().unwrap_or_default();
        let good = !key.is_empty() && text.matches('=').count() <= 1 && !text.contains(char::is_whitespace);
        if !good {
            let draft = Draft::error(text.span, format!("{:?} is no label", text.as_str()));
            fields.reader.push(draft.expected("`key` or `key=value`"));
        }
        good
    };
    fields.texts("failoverPriority").into_iter().filter(good).map(|text| text.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_overlap() {
        for (a, b, expected) in [
            ("r/z", "r/z", true),
            ("r/z", "r/y", false),
            ("r/*", "r/y", true),
            ("*", "r/y/s", true),
            ("r", "r/y", true),
            ("r/z/a", "r/z/b", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }
}
