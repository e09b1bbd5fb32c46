//! `TrustBundle`: whom to believe, by trust domain.

use std::collections::BTreeMap;
use std::fmt;

use lateen_model::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::pem;

/// Roots that a bundle may hold for one trust domain.
const MAX_ROOTS: usize = 64;

/// The roots of our trust domain, the names it also goes by, and the roots of other domains that we believe. Several
/// roots of one domain stand beside each other while one replaces the other.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    own: TrustDomain,
    /// Former or alternative names of our own domain: their identities chain to our roots.
    aliases: Vec<TrustDomain>,
    roots: BTreeMap<TrustDomain, Roots>,
}

/// The roots of one domain, side by side as certificates and as what verification reads, so that it need not copy.
#[derive(Clone, Default, PartialEq, Eq)]
struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// Why a bundle cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    #[error("read root certificates: broken PEM, or more than {MAX_ROOTS} certificates")]
    NotPem,
    #[error("read root certificates: none in the text")]
    Empty,
    #[error("read root certificates: number {0} is no certificate")]
    NotCertificate(usize),
}

impl TrustBundle {
    /// Believes `certificates` for `own`.
    ///
    /// # Errors
    /// When there is none, or one is no certificate.
    pub fn new(
        own: TrustDomain,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, InvalidBundle> {
        let mut bundle = Self { own: own.clone(), aliases: Vec::new(), roots: BTreeMap::new() };
        bundle.believe(own, certificates)?;
        Ok(bundle)
    }

    /// The same from PEM text.
    ///
    /// # Errors
    /// When the text is not PEM, holds no certificate, or something that is none.
    pub fn from_pem(own: TrustDomain, text: &str) -> Result<Self, InvalidBundle> {
        Self::new(own, pem::certificates(text, MAX_ROOTS).ok_or(InvalidBundle::NotPem)?)
    }

    /// Other names of our own domain.
    #[must_use]
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = TrustDomain>) -> Self {
        self.aliases = aliases.into_iter().filter(|alias| *alias != self.own).collect();
        self
    }

    /// Believes also `certificates` for `domain`; one that is there already is not added again.
    ///
    /// # Errors
    /// When there is none, or one is no certificate; the bundle then stays as it was.
    pub fn believe(
        &mut self,
        domain: TrustDomain,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<(), InvalidBundle> {
        let read = |(at, certificate): (usize, CertificateDer<'static>)| {
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map(|anchor| anchor.to_owned());
            Ok((anchor.map_err(|_| InvalidBundle::NotCertificate(at + 1))?, certificate))
        };
        let added = certificates.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        if added.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        let known = self.roots.entry(domain).or_default();
        for (anchor, certificate) in added {
            if !known.certificates.contains(&certificate) {
                known.anchors.push(anchor);
                known.certificates.push(certificate);
            }
        }
        Ok(())
    }

    pub const fn own(&self) -> &TrustDomain {
        &self.own
    }

    /// Whether identities of `domain` count as ours.
    pub fn is_own(&self, domain: &TrustDomain) -> bool {
        *domain == self.own || self.aliases.contains(domain)
    }

    /// What identities of `domain` must chain to; `None` when we do not believe it at all.
    pub(crate) fn anchors(&self, domain: &TrustDomain) -> Option<&[TrustAnchor<'static>]> {
        let domain = if self.is_own(domain) { &self.own } else { domain };
        Some(&self.roots.get(domain)?.anchors)
    }

    /// The roots of our own domain, oldest first.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.get(&self.own).into_iter().flat_map(|roots| &roots.certificates)
    }

    /// The roots of our own domain as text.
    pub fn to_pem(&self) -> String {
        pem::encode_certificates(self.certificates())
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |(domain, roots): (&TrustDomain, &Roots)| (domain.to_string(), roots.anchors.len());
        let roots: Vec<_> = self.roots.iter().map(count).collect();
        f.debug_struct("TrustBundle").field("own", &self.own).field("roots", &roots).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;
    use std::time::SystemTime;

    fn domain(text: &str) -> TrustDomain {
        TrustDomain::parse(text).expect("a trust domain")
    }

    #[test]
    fn several_roots_survive_their_text() {
        let now = SystemTime::UNIX_EPOCH;
        let (old, new) = (Root::generate(&domain("a"), now), Root::generate(&domain("a"), now));
        let mut bundle = old.bundle(domain("a"));
        bundle.believe(domain("a"), [new.certificate().clone(), old.certificate().clone()]).expect("roots");
        assert_eq!(bundle.certificates().count(), 2);
        assert_eq!(TrustBundle::from_pem(domain("a"), &bundle.to_pem()), Ok(bundle));
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let read = |text: &str| TrustBundle::from_pem(domain("a"), text).err();
        assert_eq!(read(""), Some(InvalidBundle::Empty));
        assert_eq!(read(&pem::encode("CERTIFICATE", b"no")), Some(InvalidBundle::NotCertificate(1)));
        assert_eq!(
            read("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            Some(InvalidBundle::NotPem)
        );
    }

    #[test]
    fn aliases_count_as_ours_and_strangers_do_not() {
        let root = Root::generate(&domain("a"), SystemTime::UNIX_EPOCH);
        let bundle = root.bundle(domain("a")).with_aliases([domain("old")]);
        assert!(bundle.is_own(&domain("old")) && bundle.anchors(&domain("old")).is_some());
        assert!(!bundle.is_own(&domain("b")) && bundle.anchors(&domain("b")).is_none());
    }
}
