//! `HostIndex`: what belongs to a host: the exact name, else the longest wildcard.

use crate::host_of;
use lateen_model::{HostPattern, Shards, Str};
use smallvec::SmallVec;

/// Values by host pattern. Exact names stand under themselves, `*.a.com` under `.a.com` and `*` under
/// the empty text, so that one map holds all and a clone is cheap.
#[derive(Clone)]
pub(crate) struct HostIndex<V> {
    map: Shards<Str, V>,
    wildcards: usize,
}

impl<V: Clone> Default for HostIndex<V> {
    fn default() -> Self {
        Self { map: Shards::default(), wildcards: 0 }
    }
}

impl<V: Clone> HostIndex<V> {
    pub(crate) fn set(&mut self, pattern: &HostPattern, value: Option<V>) {
        let wildcard = usize::from(matches!(pattern, HostPattern::Suffix(_)));
        match value {
            Some(value) => {
                if self.map.insert(key(pattern), value).is_none() {
                    self.wildcards += wildcard;
                }
            }
            None => {
                if self.map.remove(&key(pattern)).is_some() {
                    self.wildcards -= wildcard;
                }
            }
        }
    }

    /// The value of exactly this pattern.
    pub(crate) fn get(&self, pattern: &HostPattern) -> Option<&V> {
        self.map.get(&key(pattern))
    }

    /// The value of the most specific pattern that matches a lower-case host without port.
    pub(crate) fn find(&self, host: &str) -> Option<&V> {
        if self.map.is_empty() {
            return None;
        }
        // No host is empty or begins with a dot; such a one must not find a wildcard as if by exact name.
        if !host.is_empty()
            && !host.starts_with('.')
            && let Some(value) = self.map.get(host)
        {
            return Some(value);
        }
        self.find_wildcard(host)
    }

    fn find_wildcard(&self, host: &str) -> Option<&V> {
        if self.wildcards > 0 && host.len() <= 253 {
            let dots = host.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'.');
            for (at, _) in dots {
                if let Some(value) = self.map.get(&host[at..]) {
                    return Some(value);
                }
            }
        }
        self.map.get("")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, &V)> {
        self.map.iter()
    }
}

fn key(pattern: &HostPattern) -> Str {
    match pattern {
        HostPattern::Exact(name) => Str::from(name.as_str()),
        HostPattern::Suffix(suffix) => suffix.clone(),
        HostPattern::Any => Str::default(),
    }
}

/// Every pattern that could match a host, the most specific first.
pub(crate) fn patterns_for(host: &lateen_model::Hostname) -> impl Iterator<Item = HostPattern> + '_ {
    let text = host.as_str();
    let suffixes = text
        .bytes()
        .enumerate()
        .skip(1)
        .filter(|(_, byte)| *byte == b'.')
        .map(move |(at, _)| HostPattern::Suffix(Str::from(&text[at..])));
    std::iter::once(HostPattern::Exact(host.clone())).chain(suffixes).chain([HostPattern::Any])
}

/// A host or authority as it is compared: lower case, without a trailing dot; on the stack when it had to be
/// changed.
pub(crate) struct Lowered<'a>(Result<&'a str, SmallVec<[u8; 256]>>);

impl<'a> Lowered<'a> {
    pub(crate) fn new(host: &'a str) -> Self {
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Self(Err(host.bytes().map(|byte| byte.to_ascii_lowercase()).collect()))
        } else {
            Self(Ok(host))
        }
    }

    /// The host alone, when the whole may have a port.
    pub(crate) fn host(&self) -> &str {
        let host = host_of(self.as_str());
        host.strip_suffix('.').unwrap_or(host)
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            Ok(host) => host,
            Err(bytes) => std::str::from_utf8(bytes).expect("lowering ASCII keeps UTF-8 whole"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_wins() {
        let mut index = HostIndex::default();
        let patterns = ["*", "*.com", "*.a.com", "x.a.com"];
        for pattern in patterns {
            index.set(&HostPattern::parse(pattern).unwrap(), Some(pattern));
        }
        for (host, expected) in [
            ("x.a.com", "x.a.com"),
            ("y.a.com", "*.a.com"),
            ("y.x.a.com", "*.a.com"),
            ("a.com", "*.com"),
            ("com", "*"),
            ("", "*"),
            (".a.com", "*.com"),
        ] {
            assert_eq!(index.find(host).copied(), Some(expected), "{host}");
        }
        index.set(&HostPattern::Any, None);
        assert_eq!((index.find("org"), index.find("")), (None, None));
    }

    #[test]
    fn hosts_are_lowered() {
        assert_eq!(Lowered::new("Shop.COM.").as_str(), "shop.com");
        assert_eq!(Lowered::new("Shop.com.:80").host(), "shop.com");
        assert_eq!(Lowered::new("É.com").as_str(), "É.com");
    }
}
