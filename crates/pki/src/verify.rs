//! A peer's chain to its [`Identity`], or a reason.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::SystemTime;

use lateen_model::Identity;
use rustls::{CertificateError, OtherError};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::bundle::TrustBundle;
use crate::provider::provider;

/// Certificates that a peer may show, its own among them.
const MAX_CHAIN: usize = 10;

/// Which end of the connection shows the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
}

/// Why a peer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("the peer's certificate cannot be read")]
    Malformed,
    #[error("the peer's certificate carries no SPIFFE id")]
    NoIdentity,
    #[error("the peer's certificate carries several URI names; expected one SPIFFE id")]
    SeveralIdentities,
    #[error(
        "the peer's certificate carries `{0}`, which is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    )]
    WrongIdentity(String),
    #[error(
        "the peer is `{0}`, whose trust domain is not believed here; is it to be an alias of the mesh's?"
    )]
    ForeignTrustDomain(Identity),
    #[error("the peer's certificate is not valid yet; do the clocks differ?")]
    NotYetValid,
    #[error("the peer's certificate has expired")]
    Expired,
    #[error("the peer's certificate chains to no root that is believed here")]
    UnknownIssuer,
    #[error("the peer's certificate is not for this use")]
    WrongUsage,
    #[error("the peer shows the certificate of an authority as its own")]
    AuthorityAsPeer,
    #[error("the peer is `{0}`, which is not who was expected here")]
    NotExpected(Identity),
    #[error("the peer's certificate is refused: {0}")]
    Other(String),
}

/// Whose certificate this is, with its chain checked against `bundle` at `now`: exactly one URI name, a SPIFFE id of a
/// trust domain that is believed, chaining to a root of that domain, in its time, for this use.
///
/// # Errors
/// The first reason found.
pub fn verify(
    chain: &[CertificateDer<'_>],
    usage: Usage,
    bundle: &TrustBundle,
    now: SystemTime,
) -> Result<Identity, Refusal> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| Refusal::NotYetValid)?;
    let (own, rest) = chain.split_first().ok_or(Refusal::NoCertificate)?;
    verify_at(own, rest, usage, bundle, UnixTime::since_unix_epoch(since))
}

pub(crate) fn verify_at(
    own: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    usage: Usage,
    bundle: &TrustBundle,
    now: UnixTime,
) -> Result<Identity, Refusal> {
    if rest.len() >= MAX_CHAIN {
        return Err(Refusal::Other(format!("more than {MAX_CHAIN} certificates")));
    }
    let certificate = EndEntityCert::try_from(own).map_err(|error| reason(&error))?;
    let identity = identity_of(&certificate)?;
    let anchors = bundle.anchors(&identity.trust_domain);
    let anchors = anchors.ok_or_else(|| Refusal::ForeignTrustDomain(identity.clone()))?;
    let algorithms = provider().signature_verification_algorithms;
    certificate
        .verify_for_usage(algorithms.all, anchors, rest, now, key_usage(usage), None, None)
        .map_err(|error| reason(&error))?;
    Ok(identity)
}

/// Who the peer of an established connection is. The handshake checked the chain; this only reads the name.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Option<Identity> {
    let certificate = EndEntityCert::try_from(chain.first()?).ok()?;
    identity_of(&certificate).ok()
}

fn identity_of(certificate: &EndEntityCert<'_>) -> Result<Identity, Refusal> {
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (None, _) => Err(Refusal::NoIdentity),
        (Some(_), Some(_)) => Err(Refusal::SeveralIdentities),
        (Some(name), None) => {
            Identity::parse(name).map_err(|_| Refusal::WrongIdentity(name.chars().take(300).collect()))
        }
    }
}

/// A certificate that names uses is for those only (RFC 5280 section 4.2.1.12); all of a chain must allow this one.
const fn key_usage(usage: Usage) -> KeyUsage {
    match usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
    }
}

fn reason(error: &webpki::Error) -> Refusal {
    use webpki::Error as E;
    match error {
        E::BadDer
        | E::BadDerTime
        | E::MalformedExtensions
        | E::TrailingData(_)
        | E::UnsupportedCertVersion => Refusal::Malformed,
        E::CertExpired { .. } => Refusal::Expired,
        E::CertNotValidYet { .. } => Refusal::NotYetValid,
        E::CaUsedAsEndEntity => Refusal::AuthorityAsPeer,
        E::EmptyEkuExtension | E::RequiredEkuNotFoundContext(_) => Refusal::WrongUsage,
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => Refusal::UnknownIssuer,
        other => Refusal::Other(other.to_string()),
    }
}

impl Refusal {
    /// For rustls: where TLS has an alert for it the peer is told, else that its certificate is not accepted.
    pub(crate) fn into_tls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Self::NoCertificate => return rustls::Error::NoCertificatesPresented,
            Self::Malformed => CertificateError::BadEncoding,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::UnknownIssuer => CertificateError::UnknownIssuer,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }

    /// The refusal inside the error of a handshake, through whatever it was wrapped in; `None` when the handshake
    /// failed for another reason.
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(tls);
            }
            // An I/O error hides its cause from `source`, giving that of the cause instead.
            next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                Some(cause) => Some(cause),
                None => error.source(),
            };
        }
        None
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::NoCertificatesPresented => Some(Self::NoCertificate),
            rustls::Error::InvalidCertificate(error) => Some(match error {
                CertificateError::BadEncoding => Self::Malformed,
                CertificateError::Expired => Self::Expired,
                CertificateError::NotValidYet => Self::NotYetValid,
                CertificateError::UnknownIssuer => Self::UnknownIssuer,
                CertificateError::Other(OtherError(cause)) => match cause.downcast_ref::<Self>() {
                    Some(refusal) => refusal.clone(),
                    None => Self::Other(cause.to_string()),
                },
                other => Self::Other(other.to_string()),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
