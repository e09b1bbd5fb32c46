//! Peers by their SPIFFE id.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Accepted, Clients};
use crate::bundle::TrustBundle;
use crate::current::Current;
use crate::provider::provider;
use crate::verify::{Refusal, Usage, verify_at};

/// A client's view: the server must be somebody who is accepted. The name in the handshake is for routing and says
/// nothing about who may answer.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    bundle: Current<TrustBundle>,
    accepted: Accepted,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(bundle: Current<TrustBundle>, accepted: Accepted) -> Self {
        Self { bundle, accepted, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bundle = self.bundle.get();
        let identity = verify_at(own, rest, Usage::Server, &bundle, now).map_err(Refusal::into_tls)?;
        let accepted = match &self.accepted {
            Accepted::Identities(accepted) => accepted.contains(&identity),
            Accepted::OwnTrustDomain => bundle.is_own(&identity.trust_domain),
        };
        if accepted {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Refusal::NotExpected(identity).into_tls())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A server's view: clients are whoever their certificate says; what they may do is decided later.
#[derive(Debug)]
pub(super) struct ClientsVerifier {
    bundle: Current<TrustBundle>,
    clients: Clients,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientsVerifier {
    pub(super) fn new(bundle: Current<TrustBundle>, clients: Clients) -> Self {
        Self { bundle, clients, algorithms: provider().signature_verification_algorithms }
    }
}

impl ClientCertVerifier for ClientsVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == Clients::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: clients have one certificate to show, and the names of our roots are nobody's business.
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_at(own, rest, Usage::Client, &self.bundle.get(), now).map_err(Refusal::into_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
