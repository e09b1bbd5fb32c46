//! `Root`: make, load and roll what a mesh's certificates are signed with.

use std::time::{Duration, SystemTime};

use lateen_model::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use crate::bundle::TrustBundle;
use crate::chain::Facts;
use crate::issuer::serial;
use crate::key::{InvalidKey, PrivateKey};
use crate::pem::{self, SecretPem};

/// A root we make is valid for ten years.
const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Certificates in an authority's file.
const MAX_CHAIN: usize = 10;

/// The certificate and key of an authority: a self-signed root, or an intermediate with its chain.
#[derive(Debug)]
pub struct Root {
    /// The signing certificate first, then what leads to the root, and the root if it was in the file.
    chain: Vec<CertificateDer<'static>>,
    /// How many of the chain, from the first, peers need to be shown: all but a self-signed root.
    shown: usize,
    key: PrivateKey,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why this cannot be an authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoot {
    #[error("read the authority's certificates: broken PEM, none, or more than {MAX_CHAIN}")]
    NotPem,
    #[error("read the authority's certificates: number {0} is no certificate")]
    NotCertificate(usize),
    #[error("the first certificate is not one of an authority (basicConstraints CA)")]
    NotAuthority,
    #[error("the authority's certificate is for another key")]
    OtherKey,
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

impl Root {
    /// A new self-signed root for a trust domain, valid from a minute ago for ten years.
    ///
    /// # Panics
    /// Never: what is signed is well-formed.
    pub fn generate(trust_domain: &TrustDomain, now: SystemTime) -> Self {
        let key = PrivateKey::generate();
        let mut params = CertificateParams::default();
        let number = serial();
        // Two roots of one mesh must differ in name, or a verifier may try the wrong one.
        let name: String = number.to_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        params.distinguished_name.push(DnType::CommonName, format!("Lateen root {name}"));
        params.serial_number = Some(number);
        let not_before = now.checked_sub(Duration::from_secs(60)).unwrap_or(now);
        set_validity(&mut params, not_before, now + ROOT_VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a well-formed root can be signed");
        Self::new(vec![certificate.der().clone()], key).expect("what was just made is an authority")
    }

    /// Reads an authority: its chain with the signing certificate first, and the key of that.
    ///
    /// # Errors
    /// When certificate or key cannot be read, do not belong together, or are not an authority's.
    pub fn from_pem(chain: &str, key: &SecretPem) -> Result<Self, InvalidRoot> {
        let chain = pem::certificates(chain, MAX_CHAIN).ok_or(InvalidRoot::NotPem)?;
        Self::new(chain, PrivateKey::from_pem(key)?)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, InvalidRoot> {
        let mut shown = 0;
        for (at, certificate) in chain.iter().enumerate() {
            let facts = Facts::read(certificate).ok_or(InvalidRoot::NotCertificate(at + 1))?;
            shown += usize::from(!facts.is_self_issued);
        }
        let facts = chain.first().and_then(Facts::read).ok_or(InvalidRoot::NotPem)?;
        if !facts.is_authority {
            return Err(InvalidRoot::NotAuthority);
        }
        if facts.public_key != key.public_key_info() {
            return Err(InvalidRoot::OtherKey);
        }
        Ok(Self { chain, shown, key, not_before: facts.not_before, not_after: facts.not_after })
    }

    /// Certificates and key as text, to be stored where only their owner can read.
    pub fn to_pem(&self) -> (String, SecretPem) {
        (pem::encode_certificates(&self.chain), self.key.to_pem())
    }

    /// The certificate that signs.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The bundle that believes this authority: its root if it is known, else its own certificate. To roll a root,
    /// let [`TrustBundle::believe`] add the certificate of the next one, and sign with that once all hold it.
    ///
    /// # Panics
    /// Never: the certificates were read before.
    pub fn bundle(&self, trust_domain: TrustDomain) -> TrustBundle {
        let root = self.chain.last().expect("a chain has its first certificate");
        TrustBundle::new(trust_domain, [root.clone()]).expect("the certificate was read before")
    }

    pub const fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What stands between what we sign and the root.
    pub(crate) fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.chain[..self.shown]
    }

    pub(crate) fn signer(&self) -> Result<rcgen::Issuer<'static, &PrivateKey>, rcgen::Error> {
        rcgen::Issuer::from_ca_cert_der(self.certificate(), &self.key)
    }
}

/// Certificates count whole seconds.
pub(crate) fn set_validity(params: &mut CertificateParams, not_before: SystemTime, not_after: SystemTime) {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(since.as_secs())
    };
    params.not_before = date_time_ymd(1970, 1, 1) + seconds(not_before);
    params.not_after = date_time_ymd(1970, 1, 1) + seconds(not_after);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_survives_its_text() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let root = Root::generate(&TrustDomain::default(), now);
        let (chain, key) = root.to_pem();
        let back = Root::from_pem(&chain, &key).expect("reads");
        assert_eq!(back.certificate(), root.certificate());
        assert_eq!(back.not_after(), now + ROOT_VALIDITY);
        assert!(back.intermediates().is_empty(), "a root is not shown");
        assert!(!format!("{back:?}").contains(key.expose()));
        let (_, other) = Root::generate(&TrustDomain::default(), now).to_pem();
        assert_eq!(Root::from_pem(&chain, &other).err(), Some(InvalidRoot::OtherKey));
        assert_eq!(Root::from_pem("", &key).err(), Some(InvalidRoot::NotPem));
    }
}
