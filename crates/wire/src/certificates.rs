//! `istio.v1.auth`: ask for a certificate, and answer those who do.
//!
//! ```ignore
//! // in a proxy, first with a token and later with the certificate in use:
//! let obtained = certificates::obtain(&plane, &identity, Duration::from_secs(24 * 3600)).await?;
//! store.set(obtained.certified, obtained.roots);
//! ```

use crate::channel::{ControlPlane, describe_status};
use crate::pb::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use crate::pb::istio::v1::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use crate::pb::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use crate::server::Caller;
use lateen_model::Identity;
use lateen_pki::{CertifiedIdentity, InvalidChain, PrivateKey, csr};
use lateen_runtime::clock;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Response, Status};

/// The longest message on either side: a chain and some roots.
const MESSAGE_BYTES: usize = 1 << 20;
/// The longest that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Metadata key of the identity that a node proxy asks for in the name of a workload.
const IMPERSONATED: &str = "ImpersonatedIdentity";
const END: &str = "-----END CERTIFICATE-----";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control plane could not be asked, or could not answer now.
    #[error("ask for a certificate: {0}")]
    Unanswered(String),
    /// It will not give one: to ask again the same way is in vain.
    #[error("ask for a certificate: refused: {0}")]
    Refused(String),
    /// What it gave is none.
    #[error("ask for a certificate: {0}")]
    Invalid(#[from] InvalidChain),
    /// What it gave is for somebody else.
    #[error("ask for a certificate: it is for {0}")]
    OtherIdentity(Identity),
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The certificate, then intermediates: PEM.
    pub chain: String,
    /// The roots to believe: PEM.
    pub roots: String,
}

/// A certificate in hand.
#[derive(Debug)]
pub struct Obtained {
    /// The certificate with its fresh key.
    pub certified: CertifiedIdentity,
    /// The roots to believe: PEM.
    pub roots: String,
}

/// Makes a key and asks for a certificate for it, as ourselves.
///
/// # Errors
/// When the control plane cannot be asked, refuses, or answers with something else.
pub async fn obtain(
    plane: &ControlPlane,
    identity: &Identity,
    validity: Duration,
) -> Result<Obtained, Error> {
    let key = PrivateKey::generate();
    let answer = ask(plane, csr::make(&key, identity), validity, None).await?;
    let certified = CertifiedIdentity::from_pem(&answer.chain, key)?;
    if certified.identity() != identity {
        return Err(Error::OtherIdentity(certified.identity().clone()));
    }
    Ok(Obtained { certified, roots: answer.roots })
}

/// Asks for a certificate by a request of one's own (PKCS#10, PEM), for oneself or, as a node proxy, for a
/// workload of the node.
///
/// # Errors
/// When the control plane cannot be asked, refuses, or answers in another form.
pub async fn ask(
    plane: &ControlPlane,
    csr: String,
    validity: Duration,
    impersonated: Option<&Identity>,
) -> Result<Answer, Error> {
    let metadata = impersonated.map(|identity| {
        let value = Value { kind: Some(Kind::StringValue(identity.to_string())) };
        Struct { fields: [(IMPERSONATED.to_owned(), value)].into() }
    });
    let validity_duration = i64::try_from(validity.as_secs()).unwrap_or(i64::MAX);
    let message = IstioCertificateRequest { csr, validity_duration, metadata };
    let mut client =
        IstioCertificateServiceClient::new(plane.channel()).max_decoding_message_size(MESSAGE_BYTES);
    let answer = clock::timeout(TIMEOUT, client.create_certificate(plane.call(message))).await;
    let answer = answer.map_err(|_| Error::Unanswered(format!("no answer in {} s", TIMEOUT.as_secs())))?;
    let mut chain = answer.map_err(|status| refusal(&status))?.into_inner().cert_chain;
    match (chain.pop(), chain.is_empty()) {
        (Some(roots), false) => Ok(Answer { chain: chain.concat(), roots }),
        _ => Err(Error::Unanswered("the answer holds no chain with roots".to_owned())),
    }
}

fn refusal(status: &Status) -> Error {
    let text = describe_status(status);
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => Error::Refused(text),
        _ => Error::Unanswered(text),
    }
}

/// A request as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// PKCS#10, PEM; `lateen_pki::csr::Request::parse` reads it.
    pub csr: String,
    /// How long it shall be valid; none is as the authority likes.
    pub validity: Option<Duration>,
    /// The identity that a node proxy asks for in the name of a workload.
    pub impersonated: Option<Identity>,
}

/// Why a request is not signed, with the codes that Istio's clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The caller is not known, or may not be whom it asks for: `UNAUTHENTICATED`.
    #[error("{0}")]
    Unauthenticated(String),
    /// The request cannot be read, or asks for too long a time: `INVALID_ARGUMENT`.
    #[error("{0}")]
    Invalid(String),
    /// The authority cannot sign now: `INTERNAL`.
    #[error("{0}")]
    Internal(String),
}

impl From<SignError> for Status {
    fn from(error: SignError) -> Self {
        let text = error.to_string();
        match error {
            SignError::Unauthenticated(_) => Self::unauthenticated(text),
            SignError::Invalid(_) => Self::invalid_argument(text),
            SignError::Internal(_) => Self::internal(text),
        }
    }
}

/// Who signs: decides who the caller is, what it may be, and gives chain and roots.
pub trait Sign: Send + Sync + 'static {
    /// Answers a request. The chain begins with the new certificate (`lateen_pki::Issued::to_pem`), the roots are
    /// those of the bundle (`lateen_pki::TrustBundle::to_pem`).
    fn sign(&self, caller: Caller, asked: Asked) -> impl Future<Output = Result<Answer, SignError>> + Send;
}

impl<S: Sign> Sign for Arc<S> {
    fn sign(&self, caller: Caller, asked: Asked) -> impl Future<Output = Result<Answer, SignError>> + Send {
        S::sign(self, caller, asked)
    }
}

/// The certificate service.
pub struct CertificateService<S> {
    sign: S,
}

impl<S: Sign> CertificateService<S> {
    /// Answers with what `sign` signs.
    pub fn new(sign: S) -> Self {
        Self { sign }
    }

    pub(crate) fn into_service(self) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl<S: Sign> IstioCertificateService for CertificateService<S> {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = Caller::of(&request);
        let asked = read(request.into_inner())?;
        let answer = self.sign.sign(caller, asked).await?;
        let mut cert_chain = split(&answer.chain);
        cert_chain.push(answer.roots);
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn read(message: IstioCertificateRequest) -> Result<Asked, SignError> {
    let impersonated = message.metadata.and_then(|mut metadata| metadata.fields.remove(IMPERSONATED));
    let impersonated = match impersonated.and_then(|value| value.kind) {
        None => None,
        Some(Kind::StringValue(text)) => {
            Some(Identity::parse(&text).map_err(|error| SignError::Invalid(error.to_string()))?)
        }
        Some(_) => return Err(SignError::Invalid(format!("{IMPERSONATED} is no text"))),
    };
    let seconds = u64::try_from(message.validity_duration).unwrap_or(0);
    let validity = (seconds > 0).then(|| Duration::from_secs(seconds));
    Ok(Asked { csr: message.csr, validity, impersonated })
}

/// One certificate an element, as the service has it.
fn split(chain: &str) -> Vec<String> {
    let parts = chain.split_inclusive(END).map(str::trim).filter(|part| part.ends_with(END));
    parts.map(|part| format!("{part}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_split_at_its_certificates() {
        let one = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n{END}\n");
        assert_eq!(split(&format!("{}{}", one("a"), one("b"))), [one("a"), one("b")]);
        assert_eq!(split(""), Vec::<String>::new());
        assert_eq!(split("rubbish"), Vec::<String>::new());
    }

    #[test]
    fn a_request_is_read_strictly() {
        let with = |kind| IstioCertificateRequest {
            csr: "c".into(),
            validity_duration: -1,
            metadata: Some(Struct { fields: [(IMPERSONATED.to_owned(), Value { kind: Some(kind) })].into() }),
        };
        let id = "spiffe://cluster.local/ns/a/sa/b";
        let asked = read(with(Kind::StringValue(id.into()))).unwrap();
        assert_eq!((asked.validity, asked.impersonated), (None, Some(Identity::parse(id).unwrap())));
        assert!(matches!(read(with(Kind::StringValue("x".into()))), Err(SignError::Invalid(_))));
        assert!(matches!(read(with(Kind::BoolValue(true))), Err(SignError::Invalid(_))));
    }
}
