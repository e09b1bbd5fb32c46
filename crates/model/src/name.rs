//! Names that cannot be mixed up: each kind of name is a type of its own.

use crate::Str;
use std::fmt;

/// A name that does not have the form its kind asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {why}")]
pub struct InvalidName {
    /// What was to be named: `namespace`, `trust domain`, …
    pub kind: &'static str,
    /// The text given, shortened to 64 characters.
    pub text: String,
    /// What is expected instead.
    pub why: &'static str,
}

impl InvalidName {
    pub(crate) fn new(kind: &'static str, text: &str, why: &'static str) -> Self {
        Self { kind, text: text.chars().take(64).collect(), why }
    }
}

const LABEL: &str =
    "expected lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit";
const SUBDOMAIN: &str = "expected lower-case letters, digits, '-' and '.', at most 253, beginning and ending with a letter or digit";

/// RFC 1123 label, as Kubernetes asks of a namespace.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= 63
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || *b == b'-')
}

/// RFC 1123 subdomain, as Kubernetes asks of most object names.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr, $why:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Str);

        impl $name {
            /// Reads the name from text.
            ///
            /// # Errors
            /// When the text does not have the form of this kind of name.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(Str::from(text))) } else { Err(InvalidName::new($kind, text, $why)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as shared text.
            pub fn as_shared(&self) -> &Str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }
    )*};
}

names! {
    /// A namespace: an RFC 1123 label.
    Namespace, "namespace", is_label, LABEL;
    /// The account a workload acts as; with namespace and trust domain it makes an identity.
    ServiceAccount, "service account", is_subdomain, SUBDOMAIN;
    /// The name of one user object.
    ObjectName, "name", is_subdomain, SUBDOMAIN;
    /// A machine that workloads run on.
    NodeName, "node", |text| text.is_empty() || is_subdomain(text), SUBDOMAIN;
    /// A cluster: one source of objects.
    ClusterId, "cluster", |text| text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/'), "expected printable characters without '/', at most 253";
    /// A network: addresses are unique within it. The empty name is the default network.
    NetworkId, "network", |text| text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/'), "expected printable characters without '/', at most 253";
    /// The root of a set of identities, the host part of a SPIFFE id (SPIFFE-ID 2.1).
    TrustDomain, "trust domain", |text| {
        !text.is_empty()
            && text.len() <= 255
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
    }, "expected lower-case letters, digits, '.', '-' and '_', at most 255";
}

impl Default for TrustDomain {
    /// `cluster.local`, as Istio has it.
    fn default() -> Self {
        Self(Str::from("cluster.local"))
    }
}

impl Default for Namespace {
    /// `default`, as Kubernetes has it.
    fn default() -> Self {
        Self(Str::from("default"))
    }
}

impl Default for ServiceAccount {
    /// `default`, as Kubernetes has it.
    fn default() -> Self {
        Self(Str::from("default"))
    }
}

impl Default for ClusterId {
    /// `Kubernetes`, Istio's name for the only cluster.
    fn default() -> Self {
        Self(Str::from("Kubernetes"))
    }
}

#[expect(clippy::derivable_impls, reason = "the other names have no empty default")]
impl Default for NetworkId {
    fn default() -> Self {
        Self(Str::default())
    }
}

#[expect(clippy::derivable_impls, reason = "the other names have no empty default")]
impl Default for NodeName {
    fn default() -> Self {
        Self(Str::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_labels() {
        for (text, valid) in
            [("default", true), ("a-1", true), ("", false), ("-a", false), ("A", false), ("a.b", false)]
        {
            assert_eq!(Namespace::parse(text).is_ok(), valid, "{text}");
        }
        assert!(Namespace::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_wrong_name_says_what_was_expected() {
        let error = TrustDomain::parse("Has Space").unwrap_err().to_string();
        assert!(error.starts_with("trust domain \"Has Space\" is not valid: expected lower-case"), "{error}");
    }
}
