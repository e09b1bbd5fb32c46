//! `Identity`: parse, print and match a SPIFFE id.

use crate::{InvalidName, Namespace, ServiceAccount, TrustDomain};
use std::fmt;

/// Who a workload is: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The root this identity is vouched for by.
    pub trust_domain: TrustDomain,
    /// The namespace of the workload.
    pub namespace: Namespace,
    /// The account of the workload.
    pub service_account: ServiceAccount,
}

impl Identity {
    /// Puts an identity together.
    pub fn new(trust_domain: TrustDomain, namespace: Namespace, service_account: ServiceAccount) -> Self {
        Self { trust_domain, namespace, service_account }
    }

    /// Reads a SPIFFE id of exactly this form.
    ///
    /// # Errors
    /// When the scheme, the path or a name in it is something else.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        const EXPECTED: &str = "expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>";
        let invalid = || InvalidName::new("identity", text, EXPECTED);
        let path = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let mut parts = path.split('/');
        let (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        Ok(Self {
            trust_domain: TrustDomain::parse(domain)?,
            namespace: Namespace::parse(namespace)?,
            service_account: ServiceAccount::parse(account)?,
        })
    }

    /// The form policies are written in: the id without `spiffe://`.
    pub fn principal(&self) -> impl fmt::Display + '_ {
        Principal(self)
    }
}

struct Principal<'a>(&'a Identity);

impl fmt::Display for Principal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { trust_domain, namespace, service_account } = self.0;
        write!(f, "{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.principal())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Identity {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print_are_inverse() {
        let text = "spiffe://cluster.local/ns/shop/sa/cart";
        assert_eq!(Identity::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn other_forms_are_refused() {
        for wrong in [
            "",
            "spiffe://",
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/sa/a/ns/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://Cluster/ns/a/sa/b",
        ] {
            assert!(Identity::parse(wrong).is_err(), "{wrong}");
        }
    }
}
