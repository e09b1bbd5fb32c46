//! `Issuer`: sign a request for an identity.

use std::time::{Duration, SystemTime};

use lateen_model::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::csr::Request;
use crate::pem;
use crate::root::{Root, set_validity};

/// Clocks of a mesh may differ by so much.
const SKEW: Duration = Duration::from_secs(60);

/// Signs certificates of workloads with the key of a [`Root`].
#[derive(Debug)]
pub struct Issuer {
    root: Root,
    max_validity: Duration,
}

/// A fresh certificate with what links it to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The new certificate first, then intermediates; without the root.
    pub chain: Vec<CertificateDer<'static>>,
    pub not_after: SystemTime,
}

/// Why no certificate is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the request asks for `{asked}`, and the caller may only be `{allowed}`")]
    OtherIdentity { asked: Identity, allowed: Identity },
    #[error("the authority's own certificate has expired; roll the root")]
    AuthorityExpired,
    #[error("the authority's own certificate is not valid yet; is the clock right?")]
    AuthorityNotYetValid,
    #[error("the validity asked for is zero")]
    NoValidity,
    #[error("sign the certificate: {0}")]
    Sign(String),
}

impl Issuer {
    /// Signs with `root`, never for longer than `max_validity`.
    pub const fn new(root: Root, max_validity: Duration) -> Self {
        Self { root, max_validity }
    }

    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// A certificate for `identity`, which the caller has been found to be, or to act for. It is valid from a minute
    /// ago, for `validity` from now, but not longer than this issuer allows nor than its own certificate is; it is
    /// for both ends of a connection, and cannot sign others.
    ///
    /// # Errors
    /// When the request names somebody else, or the authority's own time is over.
    pub fn issue(
        &self,
        request: &Request,
        identity: &Identity,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        if let Some(asked) = request.identity.as_ref().filter(|asked| *asked != identity) {
            return Err(IssueError::OtherIdentity { asked: asked.clone(), allowed: identity.clone() });
        }
        let not_after = self.not_after(validity, now)?;
        let params = leaf(identity, now, not_after)?;
        let sign_error = |error: rcgen::Error| IssueError::Sign(error.to_string());
        let signer = self.root.signer().map_err(sign_error)?;
        let certificate = params.signed_by(&request.public_key, &signer).map_err(sign_error)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.root.intermediates().iter().cloned());
        Ok(Issued { chain, not_after })
    }

    fn not_after(&self, validity: Duration, now: SystemTime) -> Result<SystemTime, IssueError> {
        if now < self.root.not_before() {
            return Err(IssueError::AuthorityNotYetValid);
        }
        if now >= self.root.not_after() {
            return Err(IssueError::AuthorityExpired);
        }
        if validity < Duration::from_secs(1) {
            return Err(IssueError::NoValidity);
        }
        let wished = now.checked_add(validity.min(self.max_validity));
        Ok(wished.map_or(self.root.not_after(), |wished| wished.min(self.root.not_after())))
    }
}

fn leaf(
    identity: &Identity,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, IssueError> {
    let name = identity.to_string().try_into().map_err(|_| IssueError::Sign("name".into()))?;
    let mut params = CertificateParams::default();
    set_validity(&mut params, now.checked_sub(SKEW).unwrap_or(now), not_after);
    params.serial_number = Some(serial());
    // No subject: the name stands where RFC 5280 section 4.2.1.6 wants it, and marked as critical because of that.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(name)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 126 random bits, positive and of full length (RFC 5280 section 4.1.2.2).
pub(crate) fn serial() -> SerialNumber {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("without randomness nothing may be signed");
    bytes[0] = bytes[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&bytes)
}

impl Issued {
    /// The chain as text.
    pub fn to_pem(&self) -> String {
        pem::encode_certificates(&self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Facts;
    use crate::{PrivateKey, csr};
    use lateen_model::TrustDomain;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn cart() -> Identity {
        Identity::parse("spiffe://cluster.local/ns/shop/sa/cart").expect("an identity")
    }

    fn issuer() -> Issuer {
        Issuer::new(Root::generate(&TrustDomain::default(), now()), DAY)
    }

    fn request(identity: &Identity) -> Request {
        Request::parse(&csr::make(&PrivateKey::generate(), identity)).expect("a request")
    }

    #[test]
    fn validity_is_bounded_by_the_issuer_and_by_its_own() {
        let issuer = issuer();
        let until =
            |validity, now| issuer.issue(&request(&cart()), &cart(), validity, now).map(|i| i.not_after);
        assert_eq!(until(DAY / 2, now()), Ok(now() + DAY / 2));
        assert_eq!(until(DAY * 400, now()), Ok(now() + DAY));
        assert_eq!(until(Duration::MAX, now()), Ok(now() + DAY));
        let end = issuer.root().not_after();
        assert_eq!(until(DAY, end - DAY / 3), Ok(end));
        assert_eq!(until(DAY, end), Err(IssueError::AuthorityExpired));
        assert_eq!(until(DAY, now() - DAY), Err(IssueError::AuthorityNotYetValid));
        assert_eq!(until(Duration::ZERO, now()), Err(IssueError::NoValidity));
    }

    #[test]
    fn a_request_for_somebody_else_is_refused() {
        let other = Identity::parse("spiffe://cluster.local/ns/shop/sa/bank").expect("an identity");
        let refused = issuer().issue(&request(&other), &cart(), DAY, now()).expect_err("somebody else");
        assert_eq!(refused, IssueError::OtherIdentity { asked: other, allowed: cart() });
    }

    #[test]
    fn a_certificate_is_a_leaf_with_a_number_of_its_own() {
        let issuer = issuer();
        let issue = || issuer.issue(&request(&cart()), &cart(), DAY, now()).expect("issued");
        let (first, second) = (Facts::read(&issue().chain[0]), Facts::read(&issue().chain[0]));
        let (first, second) = (first.expect("reads"), second.expect("reads"));
        assert!(!first.is_authority && !first.is_self_issued);
        assert_ne!(first.serial, second.serial);
        assert_eq!(first.not_before, now() - SKEW);
    }
}
