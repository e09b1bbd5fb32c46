//! What of a request is hashed, as Envoy does it: xxHash64 without seed.

use crate::{ConnectionFacts, Headers, RequestFacts};
use lateen_model::{ConsistentHash, HashKey, Str};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;
use twox_hash::XxHash64;

/// The hash of a request, and the cookie that keeps it the same from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashed {
    /// The hash.
    pub hash: u64,
    /// The value of `set-cookie` that is given with the answer.
    pub set_cookie: Option<String>,
}

/// What a policy hashes of a request. None when it has nothing of it: then it may go anywhere.
pub fn hash_of(request: &RequestFacts<'_>, policy: &ConsistentHash) -> Option<Hashed> {
    let of = |value: &str| Hashed { hash: hash(value), set_cookie: None };
    match &policy.key {
        HashKey::Header(name) => header(request.headers, name).map(|hash| Hashed { hash, set_cookie: None }),
        HashKey::SourceAddress => hash_of_client(request.connection.client.ip(), policy)
            .map(|hash| Hashed { hash, set_cookie: None }),
        HashKey::QueryParameter(name) => parameter(request.query(), name).map(|value| of(&value)),
        HashKey::Cookie { name, path, ttl, attributes } => match cookie(request.headers, name) {
            Some(value) => Some(of(&value)),
            None => ttl.map(|ttl| {
                let value = cookie_value(request.connection);
                let text = set_cookie(name, &value, path, Some(ttl), attributes);
                Hashed { set_cookie: Some(text), ..of(&value) }
            }),
        },
    }
}

/// What a policy hashes of a connection whose requests are not looked at.
pub fn hash_of_client(client: IpAddr, policy: &ConsistentHash) -> Option<u64> {
    (policy.key == HashKey::SourceAddress).then(|| hash(&client.to_canonical().to_string()))
}

fn hash(text: &str) -> u64 {
    XxHash64::oneshot(0, text.as_bytes())
}

/// The hash of a header. Several values hash to the same in any order.
fn header(headers: &dyn Headers, name: &str) -> Option<u64> {
    let mut values: smallvec::SmallVec<[String; 2]> = smallvec::SmallVec::new();
    headers.any(name, &mut |value| {
        values.push(value.to_owned());
        false
    });
    values.sort_unstable();
    let all = values.iter().fold(0, |seed, value| XxHash64::oneshot(seed, value.as_bytes()));
    (!values.is_empty()).then_some(all)
}

/// The value of a cookie, without the quotes it may stand in. An empty one is none.
pub fn cookie(headers: &dyn Headers, name: &str) -> Option<String> {
    let mut found = None;
    headers.any("cookie", &mut |line| {
        let pairs = line.split(';').filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next();
        let bare = |value: &str| {
            value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value).to_owned()
        };
        found = value.map(bare).filter(|value| !value.is_empty());
        found.is_some()
    });
    found
}

/// The first value of a query parameter, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(key, value)| (decoded(key), value))
        .find(|(key, _)| key == name)
        .map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let (bytes, mut out) = (text.as_bytes(), Vec::with_capacity(text.len()));
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The value for who has none: the same for all requests of a connection, as Envoy makes it.
fn cookie_value(connection: &ConnectionFacts) -> String {
    format!("{:016x}", hash(&format!("{}{}", connection.client, connection.destination)))
}

/// A `set-cookie` value in Envoy's form. No lifetime, or zero, is until the client's own session ends.
pub fn set_cookie(
    name: &str,
    value: &str,
    path: &str,
    lifetime: Option<Duration>,
    attributes: &[(Str, Str)],
) -> String {
    let mut text = format!("{name}=\"{value}\"");
    let mut add = |part: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(part);
    };
    if let Some(lifetime) = lifetime.filter(|lifetime| lifetime.as_secs() > 0) {
        add(format_args!("; Max-Age={}", lifetime.as_secs()));
    }
    if !path.is_empty() {
        add(format_args!("; Path={path}"));
    }
    for (key, value) in attributes {
        match value.is_empty() {
            true => add(format_args!("; {key}")),
            false => add(format_args!("; {key}={value}")),
        }
    }
    add(format_args!("; HttpOnly"));
    text
}
