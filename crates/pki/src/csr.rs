//! Certificate requests (PKCS#10, RFC 2986), both sides.

use lateen_model::Identity;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use crate::key::PrivateKey;

/// No request we read is longer, in bytes; one of ours has about 400.
pub const MAX_REQUEST: usize = 16 << 10;

/// A request as PEM: one URI name, the SPIFFE id, and no subject.
///
/// # Panics
/// Never: an identity is ASCII, and the key can sign.
pub fn make(key: &PrivateKey, identity: &Identity) -> String {
    let name = identity.to_string().try_into().expect("a SPIFFE id is ASCII");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(name)];
    let request = params.serialize_request(key).and_then(|request| request.pem());
    request.expect("a request for a well-formed name, with a working key, can be written")
}

/// A request whose signature was right: who sent it holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who the request says it is for, if it says so. This is a wish: the caller's own identity decides.
    pub identity: Option<Identity>,
    pub(crate) public_key: rcgen::PublicKey,
}

/// Why a request cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("read the certificate request: longer than {MAX_REQUEST} bytes")]
    TooLong,
    #[error("read the certificate request: no PEM block `CERTIFICATE REQUEST`")]
    NotPem,
    #[error("read the certificate request: {0}")]
    Malformed(String),
    #[error("the signature of the certificate request is wrong")]
    WrongSignature,
    #[error("the key of the certificate request is not ECDSA on P-256")]
    UnsupportedKey,
    #[error("the certificate request asks for `{0}`; expected one SPIFFE id, or no name")]
    WrongName(String),
    #[error("the certificate request asks for a certificate authority")]
    AsksForAuthority,
}

impl Request {
    /// The key that is to be certified, as its point on the curve.
    pub fn public_key(&self) -> &[u8] {
        self.public_key.der_bytes()
    }

    /// Reads a request and checks that it was signed with the key it carries.
    ///
    /// # Errors
    /// When it is not a request, is signed wrongly, or asks for what is never given.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        if text.len() > MAX_REQUEST {
            return Err(InvalidRequest::TooLong);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes());
        Self::from_der(&der.map_err(|_| InvalidRequest::NotPem)?)
    }

    fn from_der(der: &CertificateSigningRequestDer<'_>) -> Result<Self, InvalidRequest> {
        let read = CertificateSigningRequestParams::from_der(der).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => InvalidRequest::WrongSignature,
            rcgen::Error::UnsupportedSignatureAlgorithm => InvalidRequest::UnsupportedKey,
            other => InvalidRequest::Malformed(other.to_string()),
        })?;
        if matches!(read.params.is_ca, rcgen::IsCa::Ca(_)) {
            return Err(InvalidRequest::AsksForAuthority);
        }
        // The signature's name says nothing about the curve; an uncompressed point of P-256 has 65 bytes.
        let public_key = read.public_key;
        let point = public_key.der_bytes();
        if public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 || point.len() != 65 || point[0] != 4 {
            return Err(InvalidRequest::UnsupportedKey);
        }
        Ok(Self { identity: identity(&read.params.subject_alt_names)?, public_key })
    }
}

fn identity(names: &[SanType]) -> Result<Option<Identity>, InvalidRequest> {
    match names {
        [] => Ok(None),
        [SanType::URI(name)] => Identity::parse(name.as_str())
            .map(Some)
            .map_err(|_| InvalidRequest::WrongName(name.as_str().chars().take(300).collect())),
        [name] => Err(InvalidRequest::WrongName(format!("{name:?}").chars().take(300).collect())),
        several => Err(InvalidRequest::WrongName(format!("{} names", several.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls_pki_types::CertificateSigningRequestDer as Der;

    fn cart() -> Identity {
        Identity::parse("spiffe://cluster.local/ns/shop/sa/cart").expect("an identity")
    }

    fn request(change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::default();
        change(&mut params);
        let request = params.serialize_request(&PrivateKey::generate()).expect("a request");
        request.pem().expect("a text")
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().expect("ascii"))
    }

    #[test]
    fn a_request_says_who_and_proves_the_key() {
        let request_text = request(|_| {});
        let key = PrivateKey::generate();
        let request = Request::parse(&make(&key, &cart())).expect("reads");
        assert_eq!(request.identity, Some(cart()));
        assert_eq!(request.public_key.subject_public_key_info(), key.public_key_info());
        assert_eq!(Request::parse(&request_text).expect("reads").identity, None);
    }

    #[test]
    fn requests_for_other_things_are_refused() {
        let names = |names: Vec<SanType>| Request::parse(&request(|params| params.subject_alt_names = names));
        let id = &cart().to_string();
        for wrong in [
            vec![uri("https://example.com/")],
            vec![uri(id), uri(id)],
            vec![uri(id), SanType::DnsName("a.example".try_into().expect("ascii"))],
            vec![SanType::DnsName("a.example".try_into().expect("ascii"))],
        ] {
            assert!(matches!(names(wrong.clone()), Err(InvalidRequest::WrongName(_))), "{wrong:?}");
        }
        let authority =
            request(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        assert_eq!(Request::parse(&authority), Err(InvalidRequest::AsksForAuthority));
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let other = CertificateParams::default().serialize_request(&other).expect("a request");
        assert_eq!(Request::parse(&other.pem().expect("text")), Err(InvalidRequest::UnsupportedKey));
        assert_eq!(Request::parse(&"x".repeat(MAX_REQUEST + 1)), Err(InvalidRequest::TooLong));
        assert_eq!(Request::parse("nonsense"), Err(InvalidRequest::NotPem));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(Request::from_der(&Der::from(bytes)).is_err());
        }

        #[test]
        fn a_request_with_a_changed_byte_is_never_taken_for_another(at: prop::sample::Index, flip in 1u8..) {
            let key = PrivateKey::generate();
            let text = make(&key, &cart());
            let mut der = Der::from_pem_slice(text.as_bytes()).expect("pem").to_vec();
            let at = at.index(der.len());
            der[at] ^= flip;
            // A byte may be changed without effect (an unused bit); what is read is then still the same.
            if let Ok(read) = Request::from_der(&Der::from(der)) {
                prop_assert_eq!(read.identity, Some(cart()));
                prop_assert_eq!(read.public_key.subject_public_key_info(), key.public_key_info());
            }
        }
    }
}
