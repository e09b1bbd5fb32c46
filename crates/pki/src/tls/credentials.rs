//! Certificates of gateway listeners, chosen by the name that the client asks for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use lateen_model::{Credential, HostPattern};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{WallClock, finish_server};
use crate::pem;
use crate::provider::provider;

/// Certificates in a credential's chain.
const MAX_CHAIN: usize = 10;
/// Roots for clients of a listener.
const MAX_ROOTS: usize = 1_000;

/// A [`Credential`] that was read: chain and key belong together.
#[derive(Clone)]
pub struct ListenerCredential {
    pub(super) certified_key: Arc<CertifiedKey>,
    client_roots: Vec<CertificateDer<'static>>,
}

/// Why a credential cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    #[error("read `tls.crt`: broken PEM, no certificate, or more than {MAX_CHAIN}")]
    Chain,
    #[error("read `tls.key`: no PEM block with a private key")]
    Key,
    #[error("`tls.crt` and `tls.key` do not belong together, or are of a kind that is not supported: {0}")]
    Pair(String),
    #[error("read `ca.crt`: broken PEM, or no root certificate")]
    ClientRoots,
    #[error("clients must show a certificate, but `ca.crt` is missing")]
    NoClientRoots,
}

impl ListenerCredential {
    /// Reads a credential: any kind of key that TLS 1.3 has.
    ///
    /// # Errors
    /// When a part cannot be read, or they do not belong together.
    pub fn new(credential: &Credential) -> Result<Self, InvalidCredential> {
        let chain = pem::certificates(&credential.certificate_chain, MAX_CHAIN);
        let chain = chain.filter(|chain| !chain.is_empty()).ok_or(InvalidCredential::Chain)?;
        let key = credential.private_key.expose();
        if key.len() > pem::MAX_PEM {
            return Err(InvalidCredential::Key);
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| InvalidCredential::Key)?;
        let certified_key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| InvalidCredential::Pair(error.to_string()))?;
        let client_roots = match &credential.client_roots {
            None => Vec::new(),
            Some(text) => pem::certificates(text, MAX_ROOTS)
                .filter(|roots| !roots.is_empty())
                .ok_or(InvalidCredential::ClientRoots)?,
        };
        Ok(Self { certified_key: Arc::new(certified_key), client_roots })
    }
}

impl fmt::Debug for ListenerCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerCredential(..)")
    }
}

/// The certificates of one port, by host: the exact name first, then the longest `*.suffix`, then `*`. A client that
/// names no host, or one that has no certificate, gets that of `*`; where there is none, the handshake is refused.
#[derive(Clone, Default)]
pub struct ListenerCertificates {
    exact: HashMap<String, ListenerCredential>,
    /// Longest first.
    suffixes: Vec<(String, ListenerCredential)>,
    any: Option<ListenerCredential>,
}

impl ListenerCertificates {
    /// For each host the first credential that is named for it counts.
    pub fn new(credentials: impl IntoIterator<Item = (HostPattern, ListenerCredential)>) -> Self {
        let mut chosen = Self::default();
        for (host, credential) in credentials {
            match host {
                HostPattern::Exact(name) => {
                    chosen.exact.entry(name.as_str().to_owned()).or_insert(credential);
                }
                HostPattern::Suffix(suffix) => {
                    if chosen.suffixes.iter().all(|(known, _)| *known != suffix.as_str()) {
                        chosen.suffixes.push((suffix.as_str().to_owned(), credential));
                    }
                }
                HostPattern::Any => {
                    chosen.any.get_or_insert(credential);
                }
            }
        }
        chosen.suffixes.sort_by_key(|(suffix, _)| usize::MAX - suffix.len());
        chosen
    }

    /// The credential for a host, in any case of letters.
    pub fn choose(&self, host: Option<&str>) -> Option<&ListenerCredential> {
        let named = host.map(|host| host.trim_end_matches('.').to_ascii_lowercase()).and_then(|host| {
            let longer = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
            let by_suffix = || self.suffixes.iter().find(|(suffix, _)| longer(suffix));
            self.exact.get(&host).or_else(|| by_suffix().map(|(_, credential)| credential))
        });
        named.or(self.any.as_ref())
    }

    /// Settings for a port whose clients are not asked who they are.
    ///
    /// # Panics
    /// Never: the provider has cipher suites for TLS 1.3.
    pub fn server(self, clock: &WallClock, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        finish_server(config, alpn)
    }

    /// Settings for a port whose clients must show a certificate that chains to the client roots of its credentials.
    ///
    /// # Errors
    /// When a credential brings no client roots, or they cannot be used: its clients could not be told from others.
    ///
    /// # Panics
    /// Never: the provider has cipher suites for TLS 1.3.
    pub fn server_with_clients(
        self,
        clock: &WallClock,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, InvalidCredential> {
        let mut roots = RootCertStore::empty();
        for credential in self.all() {
            if credential.client_roots.is_empty() {
                return Err(InvalidCredential::NoClientRoots);
            }
            for root in &credential.client_roots {
                roots.add(root.clone()).map_err(|_| InvalidCredential::ClientRoots)?;
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| InvalidCredential::NoClientRoots)?;
        let config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(self));
        Ok(finish_server(config, alpn))
    }

    fn all(&self) -> impl Iterator<Item = &ListenerCredential> {
        let suffixes = self.suffixes.iter().map(|(_, credential)| credential);
        self.exact.values().chain(suffixes).chain(&self.any)
    }
}

impl ResolvesServerCert for ListenerCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = Arc::clone(&self.choose(hello.server_name())?.certified_key);
        key.key.choose_scheme(hello.signature_schemes()).is_some().then_some(key)
    }
}

impl fmt::Debug for ListenerCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerCertificates")
            .field("exact", &self.exact.keys())
            .field("suffixes", &self.suffixes.len())
            .field("any", &self.any.is_some())
            .finish()
    }
}
