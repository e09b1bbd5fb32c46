//! `PrivateKey`: made, used, wiped; never printed, never copied.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use zeroize::Zeroize;

use crate::pem::{self, SecretPem};

/// An ECDSA key on P-256. It lives in the memory of the cryptographic library, which wipes it when it is freed.
pub struct PrivateKey {
    pair: Arc<EcdsaKeyPair>,
}

/// The text is no key that we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("read the private key: no PEM block `PRIVATE KEY` (PKCS#8) in it")]
    NotPem,
    #[error("read the private key: not an ECDSA key on P-256")]
    NotP256,
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Panics
    /// When the system has no randomness left to give, without which nothing may go on.
    pub fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .expect("making a key fails only without randomness or memory");
        Self { pair: Arc::new(pair) }
    }

    /// Reads a PKCS#8 key.
    ///
    /// # Errors
    /// When it is none, or of another kind.
    pub fn from_pem(text: &SecretPem) -> Result<Self, InvalidKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.expose().as_bytes());
        let mut der = der.map_err(|_| InvalidKey::NotPem)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der());
        der.zeroize();
        Ok(Self { pair: Arc::new(pair.map_err(|_| InvalidKey::NotP256)?) })
    }

    /// The key as text, to store it. Only a root's key is ever stored.
    pub(crate) fn to_pem(&self) -> SecretPem {
        let der = self.pair.to_pkcs8v1().expect("a key that was made or read can be written");
        SecretPem(pem::encode("PRIVATE KEY", der.as_ref()))
    }

    /// The public half, as certificates carry it (RFC 5280 section 4.1.2.7).
    pub(crate) fn public_key_info(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// The same key for rustls to sign handshakes with.
    pub(crate) fn into_tls_key(self) -> Arc<dyn SigningKey> {
        let public = self.public_key_info();
        Arc::new(TlsKey { pair: self.pair, public })
    }

    fn sign_message(&self, message: &[u8]) -> Option<Vec<u8>> {
        sign(&self.pair, message)
    }
}

fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Option<Vec<u8>> {
    Some(pair.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec())
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign_message(message).ok_or(rcgen::Error::RemoteKeyError)
    }
}

/// The key in the hands of rustls.
#[derive(Clone)]
struct TlsKey {
    pair: Arc<EcdsaKeyPair>,
    public: Vec<u8>,
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.public.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        sign(&self.pair, message).ok_or_else(|| rustls::Error::General("sign the handshake".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_never_shows() {
        let key = PrivateKey::generate();
        let text = key.to_pem();
        assert!(text.expose().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let back = PrivateKey::from_pem(&text).expect("reads");
        assert_eq!(key.public_key_info(), back.public_key_info());
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
        assert_eq!(format!("{:?}", key.into_tls_key()), "TlsKey(..)");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let read = |text: &str| PrivateKey::from_pem(&SecretPem::new(text.into())).err();
        assert_eq!(read("nonsense"), Some(InvalidKey::NotPem));
        let other = pem::encode("PRIVATE KEY", &[0x30, 0x03, 0x02, 0x01, 0x00]);
        assert_eq!(read(&other), Some(InvalidKey::NotP256));
    }
}
