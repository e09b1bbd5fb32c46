//! rustls settings.
//!
//! TLS 1.3 only. No session is ever resumed: a resumed one would take over the stored client chain without checking it
//! again, so there are no tickets, no session memory and no early data.

mod credentials;
mod verifiers;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use lateen_model::Identity;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::UnixTime;

use crate::bundle::TrustBundle;
use crate::chain::CertifiedIdentity;
use crate::current::Current;

pub use crate::provider::provider;
pub use credentials::{InvalidCredential, ListenerCredential, ListenerSettings, ListenerTerms};

use verifiers::{ClientsVerifier, ServerVerifier};

/// Who tells the time to handshakes.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    pub fn new(tell: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock(..)")
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        (self.0)().duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// What a server does about certificates of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// No handshake without one.
    Required,
    /// Asked for; who shows none comes in unnamed, who shows a wrong one does not come in.
    Optional,
}

/// Whom a client takes for the right server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// One of these; nobody, if there are none.
    Identities(Arc<[Identity]>),
    /// Anybody of our own trust domain, its aliases included.
    OwnTrustDomain,
}

/// Makes settings of one identity. Identity and bundle are read anew at each handshake.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom we believe.
    pub bundle: Current<TrustBundle>,
    pub clock: WallClock,
}

impl Tls {
    pub const fn new(bundle: Current<TrustBundle>, clock: WallClock) -> Self {
        Self { bundle, clock }
    }

    /// Settings to accept connections as `identity`, whose clients are known by their SPIFFE id. `alpn` lists what we
    /// speak, best first.
    ///
    /// # Panics
    /// Never: the provider has cipher suites for TLS 1.3.
    pub fn server(
        &self,
        identity: &Current<CertifiedIdentity>,
        clients: Clients,
        alpn: &[&[u8]],
    ) -> Arc<ServerConfig> {
        let verifier = ClientsVerifier::new(self.bundle.clone(), clients);
        let config = ServerConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(OwnCertificate(identity.clone())));
        finish_server(config, alpn)
    }

    /// Settings to connect to who is `accepted`, showing `identity` if there is one.
    ///
    /// # Panics
    /// Never: the provider has cipher suites for TLS 1.3.
    pub fn client(
        &self,
        identity: Option<&Current<CertifiedIdentity>>,
        accepted: Accepted,
        alpn: &[&[u8]],
    ) -> Arc<ClientConfig> {
        let verifier = ServerVerifier::new(self.bundle.clone(), accepted);
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(OwnCertificate(identity.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

fn finish_server(mut config: ServerConfig, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Shows the certificate that is in use when the handshake comes to it.
#[derive(Debug)]
struct OwnCertificate(Current<CertifiedIdentity>);

impl OwnCertificate {
    fn fitting(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.0.get().certified_key();
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.fitting(hello.signature_schemes())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.fitting(schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
