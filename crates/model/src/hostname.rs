//! Host names and patterns, lower-cased once; precedence of patterns is an `Ord`.

use crate::{InvalidName, Str};
use std::cmp::Ordering;
use std::fmt;

/// A fully qualified or short host name (or an IP address as text), lower case, without a trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Str);

impl Hostname {
    /// Reads a host name; upper case becomes lower case, one trailing dot is dropped.
    ///
    /// # Errors
    /// When empty, longer than 253 bytes, or with a byte outside letters, digits, `-`, `_`, `.`, `:`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        let ip = trimmed.contains(':') && trimmed.parse::<std::net::Ipv6Addr>().is_err();
        let empty_label =
            !trimmed.contains(':') && trimmed.split('.').any(|label| label.is_empty() || label.len() > 63);
        if trimmed.is_empty() || trimmed.len() > 253 || !trimmed.bytes().all(good) || ip || empty_label {
            return Err(InvalidName::new(
                "host",
                text,
                "expected a DNS name such as reviews.default.svc.cluster.local",
            ));
        }
        Ok(Self(Str::from(trimmed.to_ascii_lowercase())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Which hosts something applies to. The order is the order of precedence:
/// exact names come first, then longer suffixes before shorter ones, then everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostPattern {
    /// One host.
    Exact(Hostname),
    /// `*.example.com`, held as `.example.com`: any host that ends so and is longer.
    Suffix(Str),
    /// `*`: any host.
    Any,
}

impl HostPattern {
    /// Reads `*`, `*.suffix` or an exact name.
    ///
    /// # Errors
    /// When the part after `*.` or the whole is not a host name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(rest) => Ok(Self::Suffix(Str::from(format!(".{}", Hostname::parse(rest)?)))),
            None if text.contains('*') => Err(InvalidName::new(
                "host",
                text,
                "expected '*' only as the whole first label, as in *.example.com",
            )),
            None => Ok(Self::Exact(Hostname::parse(text)?)),
        }
    }

    /// Whether a lower-case host (without port) matches.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.as_str() == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Any => true,
        }
    }

    /// What both match, or nothing: how Gateway API intersects listener and route host names.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, x) | (x, Self::Any) => Some(x.clone()),
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (Self::Exact(a), suffix) | (suffix, Self::Exact(a)) => {
                suffix.matches(a.as_str()).then(|| Self::Exact(a.clone()))
            }
            (Self::Suffix(a), Self::Suffix(b)) => {
                let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
                long.ends_with(short.as_str()).then(|| Self::Suffix(long.clone()))
            }
        }
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Suffix(suffix) => (1, usize::MAX - suffix.len()),
            Self::Any => (2, 0),
        }
    }
}

impl Ord for HostPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a.cmp(b),
            (Self::Suffix(a), Self::Suffix(b)) => a.cmp(b),
            _ => Ordering::Equal,
        })
    }
}

impl PartialOrd for HostPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn precedence_is_the_order() {
        let mut patterns = ["*", "*.com", "b.com", "*.a.com", "a.com"].map(pattern).to_vec();
        patterns.sort();
        let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.com", "b.com", "*.a.com", "*.com", "*"]);
    }

    #[test]
    fn a_suffix_needs_a_label_before_it() {
        assert!(pattern("*.a.com").matches("x.a.com") && pattern("*.a.com").matches("x.y.a.com"));
        assert!(!pattern("*.a.com").matches("a.com") && !pattern("*.a.com").matches("xa.com"));
    }

    #[test]
    fn intersections() {
        for (a, b, both) in [
            ("*", "a.com", Some("a.com")),
            ("*.com", "a.com", Some("a.com")),
            ("*.com", "*.a.com", Some("*.a.com")),
            ("b.com", "a.com", None),
            ("*.b.com", "*.a.com", None),
        ] {
            assert_eq!(pattern(a).intersect(&pattern(b)).map(|p| p.to_string()).as_deref(), both);
            assert_eq!(pattern(b).intersect(&pattern(a)).map(|p| p.to_string()).as_deref(), both);
        }
    }

    #[test]
    fn host_names_are_lower_case_and_checked() {
        assert_eq!(Hostname::parse("Shop.Example.COM.").unwrap().as_str(), "shop.example.com");
        for wrong in ["", ".", "a b", "a/b", "*.a", "x:y", "a..b"] {
            assert!(Hostname::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Hostname::parse("fd00::1").is_ok());
    }
}
