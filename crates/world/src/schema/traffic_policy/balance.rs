//! `loadBalancer`.

use super::locality;
use crate::problem::{At, Draft};
use crate::read::Fields;
use crate::schema::headers::is_header_name;
use lateen_model::{
    Balance, BalanceAlgorithm, ConsistentHash, HashKey, HashTable, LocalityPolicy, Str, Warmup,
};

/// Envoy's most points on a ring.
const MAX_RING: i64 = 8 << 20;
/// Istio's and Envoy's defaults of the sizes.
const RING: u64 = 1024;
const MAGLEV: u64 = 65_537;
/// Envoy's largest Maglev table.
const MAX_MAGLEV: i64 = 5_000_011;

const FIELDS: &[&str] =
    &["simple", "consistentHash", "localityLbSetting", "zoneAwareLbSetting", "warmup", "warmupDurationSecs"];

pub(super) fn read(policy: &Fields<'_>) -> (Option<Balance>, Option<LocalityPolicy>) {
    let Some(fields) = policy.fields("loadBalancer", FIELDS, &[]) else { return (None, None) };
    if !FIELDS.iter().any(|name| fields.has(name)) {
        let draft = Draft::warning(fields.first_line(), "`loadBalancer` says nothing");
        fields.lacks(draft.expected("`simple` or `consistentHash`"));
    }
    fields.exclude(&["simple", "consistentHash"]);
    fields.exclude(&["localityLbSetting", "zoneAwareLbSetting"]);
    fields.exclude(&["warmup", "warmupDurationSecs"]);
    let words = [
        ("LEAST_REQUEST", BalanceAlgorithm::LeastRequest),
        ("ROUND_ROBIN", BalanceAlgorithm::RoundRobin),
        ("RANDOM", BalanceAlgorithm::Random),
        ("PASSTHROUGH", BalanceAlgorithm::Passthrough),
        ("LEAST_CONN", BalanceAlgorithm::LeastRequest),
        ("UNSPECIFIED", BalanceAlgorithm::LeastRequest),
    ];
    let algorithm = fields.choice("simple", &words).map(|at| at.value);
    let hash = consistent_hash(&fields);
    let warmup = warmup(&fields);
    let new_get_less = matches!(
        algorithm.unwrap_or_default(),
        BalanceAlgorithm::LeastRequest | BalanceAlgorithm::RoundRobin
    );
    if warmup.is_some() && (hash.is_some() || !new_get_less) {
        let span = fields.key_span(if fields.has("warmup") { "warmup" } else { "warmupDurationSecs" });
        let draft = Draft::warning(span, "a warm-up does nothing with this way to choose");
        fields.reader.push(draft.expected("`simple: LEAST_REQUEST` or `ROUND_ROBIN`"));
    }
    let says = algorithm.is_some() || hash.is_some() || warmup.is_some();
    let balance = says.then(|| Balance { algorithm: algorithm.unwrap_or_default(), hash, warmup });
    (balance, locality::read(&fields))
}

fn warmup(fields: &Fields<'_>) -> Option<Warmup> {
    let linear = |duration| Warmup { duration, minimum_permille: 100, aggression_permille: 1000 };
    if let Some(duration) = fields.span_of_time("warmupDurationSecs") {
        return Some(linear(duration.value));
    }
    let warmup = fields.fields("warmup", &["duration", "minimumPercent", "aggression"], &[])?;
    warmup.need("duration")?;
    let default = linear(warmup.span_of_time("duration")?.value);
    let permille = |number: At<f64>, factor: f64| (number.value * factor).round() as u32;
    let minimum = warmup.get("minimumPercent").and_then(|node| fields.reader.number(node, 0.0, 100.0));
    let aggression = warmup.get("aggression").and_then(|node| fields.reader.number(node, 1.0, 1000.0));
    Some(Warmup {
        minimum_permille: minimum.map_or(default.minimum_permille, |at| permille(at, 10.0)),
        aggression_permille: aggression.map_or(default.aggression_permille, |at| permille(at, 1000.0)),
        ..default
    })
}

const KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];

fn consistent_hash(fields: &Fields<'_>) -> Option<ConsistentHash> {
    let hash = fields.fields(
        "consistentHash",
        &[
            "httpHeaderName",
            "httpCookie",
            "useSourceIp",
            "httpQueryParameterName",
            "minimumRingSize",
            "ringHash",
            "maglev",
        ],
        &[],
    )?;
    hash.exclude(&["ringHash", "maglev"]);
    hash.exclude(&["minimumRingSize", "maglev"]);
    if !KEYS.into_iter().any(|name| hash.has(name)) {
        let draft = Draft::error(hash.first_line(), "nothing is named that could be hashed");
        hash.lacks(
            draft.expected("`httpHeaderName`, `httpCookie`, `useSourceIp` or `httpQueryParameterName`"),
        );
        return None;
    }
    hash.exclude(&KEYS);
    Some(ConsistentHash { key: key(&hash)?, table: table(&hash) })
}

fn key(hash: &Fields<'_>) -> Option<HashKey> {
    if hash.has("httpHeaderName") {
        let name = hash.need_text("httpHeaderName")?;
        if !is_header_name(&name) {
            hash.reader.error(name.span, format!("{:?} is no header name", name.as_str()));
            return None;
        }
        return Some(HashKey::Header(name.to_ascii_lowercase().into()));
    }
    if hash.has("httpQueryParameterName") {
        return hash.need_text("httpQueryParameterName").map(|name| HashKey::QueryParameter(name.value));
    }
    if hash.has("useSourceIp") {
        if hash.boolean("useSourceIp")? {
            return Some(HashKey::SourceAddress);
        }
        hash.reader.error(hash.key_span("useSourceIp"), "with false nothing is hashed");
        return None;
    }
    let cookie = hash.fields("httpCookie", &["name", "path", "ttl", "attributes"], &[])?;
    let name = cookie.need_text("name")?;
    if !is_header_name(&name) {
        hash.reader.error(name.span, format!("{:?} is no name of a cookie", name.as_str()));
        return None;
    }
    let path = cookie.text("path").filter(|path| fits(path, &cookie)).map(|path| path.value);
    let attributes = cookie.each("attributes", &["name", "value"], &[]).filter_map(|item| {
        let name = item.need_text("name")?;
        let value = item.text("value").unwrap_or(At { value: Str::default(), span: name.span });
        (fits(&name, &item) && fits(&value, &item)).then_some((name.value, value.value))
    });
    Some(HashKey::Cookie {
        name: name.value,
        path: path.unwrap_or_else(|| "/".into()),
        ttl: cookie.duration("ttl").map(|at| at.value),
        attributes: attributes.collect(),
    })
}

/// What stands in a cookie may not end it.
fn fits(text: &At<Str>, fields: &Fields<'_>) -> bool {
    let fits = text.bytes().all(|b| (0x20..0x7f).contains(&b) && !matches!(b, b';' | b','));
    if !fits {
        fields.reader.error(text.span, format!("{:?} cannot stand in a cookie", text.as_str()));
    }
    fits
}

fn table(hash: &Fields<'_>) -> HashTable {
    if let Some(maglev) = hash.fields("maglev", &["tableSize"], &[]) {
        let size = maglev.integer("tableSize", 2, MAX_MAGLEV);
        if let Some(size) = size.as_ref().filter(|size| !is_prime(size.value)) {
            let prime = (size.value..MAX_MAGLEV).find(|number| is_prime(*number)).unwrap_or(MAX_MAGLEV);
            let draft = Draft::error(size.span, "the size of a Maglev table is a prime");
            hash.reader.push(draft.suggest(Some(prime.to_string())));
        }
        return HashTable::Maglev { size: size.map_or(MAGLEV, |size| size.value as u64) };
    }
    let old = hash.integer("minimumRingSize", 1, MAX_RING);
    let ring = hash.fields("ringHash", &["minimumRingSize"], &[]);
    let new = ring.and_then(|ring| ring.integer("minimumRingSize", 1, MAX_RING));
    HashTable::Ring { minimum_size: new.or(old).map_or(RING, |size| size.value as u64) }
}

/// By trial; the numbers are small.
fn is_prime(number: i64) -> bool {
    number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| number % factor != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<i64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(MAGLEV as i64) && is_prime(MAX_MAGLEV) && !is_prime(65_536));
    }
}
