//! `CertifiedIdentity`: a certificate in use, with its key.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lateen_model::Identity;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::key::PrivateKey;
use crate::pem;
use crate::verify::peer_identity;

/// Certificates of a chain that we are given for ourselves.
const MAX_CHAIN: usize = 10;

/// Who we are, proven: certificates and the key they are for.
pub struct CertifiedIdentity {
    identity: Identity,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    certified_key: Arc<CertifiedKey>,
}

/// Why a chain cannot be used with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChain {
    #[error("read the certificate chain: broken PEM, or more than {MAX_CHAIN} certificates")]
    NotPem,
    #[error("read the certificate chain: it is empty")]
    Empty,
    #[error("read the certificate chain: number {0} is no certificate")]
    NotCertificate(usize),
    #[error("the certificate carries no SPIFFE id")]
    NoIdentity,
    #[error("the certificate is for another key")]
    OtherKey,
}

impl CertifiedIdentity {
    /// Joins a chain, our own certificate first, with the key that was requested for. The chain's link to a root is
    /// for peers to check.
    ///
    /// # Errors
    /// When the chain cannot be read, names nobody, or is for another key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, InvalidChain> {
        let own = chain.first().ok_or(InvalidChain::Empty)?;
        if chain.len() > MAX_CHAIN {
            return Err(InvalidChain::NotPem);
        }
        let facts = Facts::read(own).ok_or(InvalidChain::NotCertificate(1))?;
        if let Some(at) = chain.iter().position(|certificate| Facts::read(certificate).is_none()) {
            return Err(InvalidChain::NotCertificate(at + 1));
        }
        if facts.public_key != key.public_key_info() {
            return Err(InvalidChain::OtherKey);
        }
        let identity = peer_identity(&chain).ok_or(InvalidChain::NoIdentity)?;
        let Facts { not_before, not_after, serial, .. } = facts;
        let key: Arc<dyn SigningKey> = key.into_tls_key();
        let certified_key = Arc::new(CertifiedKey::new(chain, key));
        Ok(Self { identity, not_before, not_after, serial, certified_key })
    }

    /// The same from PEM text.
    ///
    /// # Errors
    /// As [`CertifiedIdentity::new`].
    pub fn from_pem(chain: &str, key: PrivateKey) -> Result<Self, InvalidChain> {
        Self::new(pem::certificates(chain, MAX_CHAIN).ok_or(InvalidChain::NotPem)?, key)
    }

    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub const fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The certificate's number, as hexadecimal digits.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Our own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified_key.cert
    }

    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified_key)
    }
}

impl fmt::Debug for CertifiedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedIdentity")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What we read of a certificate of our own.
pub(crate) struct Facts {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) is_authority: bool,
    pub(crate) is_self_issued: bool,
}

impl Facts {
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (rest, read) = X509Certificate::from_der(certificate).ok()?;
        let basic = read.basic_constraints().ok()?;
        rest.is_empty().then(|| Self {
            not_before: system_time(read.validity().not_before.timestamp()),
            not_after: system_time(read.validity().not_after.timestamp()),
            serial: read.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            public_key: read.public_key().raw.to_vec(),
            is_authority: basic.is_some_and(|basic| basic.value.ca),
            is_self_issued: read.subject() == read.issuer(),
        })
    }
}

/// When a certificate ends; `None` for what is none.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    Some(Facts::read(certificate)?.not_after)
}

fn system_time(timestamp: i64) -> SystemTime {
    let seconds = Duration::from_secs(timestamp.unsigned_abs());
    let time = if timestamp < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Issuer, Root, csr};
    use proptest::prelude::*;

    #[test]
    fn chain_and_key_must_belong_together() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let identity = Identity::parse("spiffe://a/ns/b/sa/c").expect("an identity");
        let day = Duration::from_secs(86_400);
        let issuer = Issuer::new(Root::generate(&identity.trust_domain, now), day);
        let key = PrivateKey::generate();
        let request = csr::Request::parse(&csr::make(&key, &identity)).expect("a request");
        let issued = issuer.issue(&request, &identity, day, now).expect("issued");
        let wrong = CertifiedIdentity::from_pem(&issued.to_pem(), PrivateKey::generate());
        assert_eq!(wrong.err(), Some(InvalidChain::OtherKey));
        let ours = CertifiedIdentity::from_pem(&issued.to_pem(), key).expect("belongs together");
        assert_eq!(ours.identity(), &identity);
        assert_eq!((ours.not_before(), ours.not_after()), (now - Duration::from_secs(60), now + day));
        assert_eq!(not_after(&ours.chain()[0]), Some(now + day));
        assert!(ours.is_valid_at(now) && !ours.is_valid_at(now + day + Duration::from_secs(1)));
        let none = CertifiedIdentity::from_pem("", PrivateKey::generate());
        assert_eq!(none.err(), Some(InvalidChain::Empty));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_certificate(bytes: Vec<u8>) {
            prop_assert!(Facts::read(&CertificateDer::from(bytes)).is_none());
        }

        #[test]
        fn a_changed_certificate_is_read_or_refused(at: prop::sample::Index, flip in 1u8..) {
            let domain = lateen_model::TrustDomain::default();
            let mut der = Root::generate(&domain, SystemTime::UNIX_EPOCH).certificate().to_vec();
            let at = at.index(der.len());
            der[at] ^= flip;
            let der = CertificateDer::from(der);
            drop((Facts::read(&der), peer_identity(&[der])));
        }
    }
}
