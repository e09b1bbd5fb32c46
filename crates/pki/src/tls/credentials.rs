//! Certificates of gateway listeners, chosen by the name that the client asks for.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::sync::Arc;

use lateen_model::{Credential, HostPattern};
use rustls::server::danger::ClientCertVerifier;
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
    certified_key: Arc<CertifiedKey>,
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

    #[cfg(test)]
    pub(super) fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::clone(&self.certified_key)
    }
}

impl fmt::Debug for ListenerCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerCredential(..)")
    }
}

/// How TLS ends at the listeners of one port: the server name that a client asks for chooses, the exact name first, then
/// the longest `*.suffix`, then `*`; a client that names no host is of `*`.
///
/// Each host has settings of its own: neither its certificate nor whom it believes says anything about another host.
/// A host that nothing is known for, or whose credentials cannot be used, refuses its handshakes; it never takes the
/// certificate of a wider pattern.
#[derive(Clone)]
pub struct ListenerSettings {
    exact: HashMap<String, Arc<ServerConfig>>,
    /// Longest first.
    suffixes: Vec<(String, Arc<ServerConfig>)>,
    any: Option<Arc<ServerConfig>>,
    refuses: Arc<ServerConfig>,
}

/// What one listener of a port has.
#[derive(Clone, Debug)]
pub struct ListenerTerms {
    /// Certificates, best first: the first that the client can verify is shown. None refuses everybody.
    pub credentials: Vec<ListenerCredential>,
    /// Whether clients must show a certificate that chains to the client roots of these credentials.
    pub clients: bool,
}

impl ListenerTerms {
    fn server(self, clock: &WallClock, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, InvalidCredential> {
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3");
        let verifier = if self.clients { client_verifier(&self.credentials)? } else { None };
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let keys = self.credentials.into_iter().map(|credential| credential.certified_key).collect();
        Ok(finish_server(builder.with_cert_resolver(Arc::new(FirstThatFits(keys))), alpn))
    }
}

/// Who vouches for clients. Nobody is asked by a listener that refuses everybody anyway.
fn client_verifier(
    credentials: &[ListenerCredential],
) -> Result<Option<Arc<dyn ClientCertVerifier>>, InvalidCredential> {
    let mut roots = RootCertStore::empty();
    for credential in credentials {
        if credential.client_roots.is_empty() {
            return Err(InvalidCredential::NoClientRoots);
        }
        for root in &credential.client_roots {
            roots.add(root.clone()).map_err(|_| InvalidCredential::ClientRoots)?;
        }
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| InvalidCredential::NoClientRoots)?;
    Ok(Some(verifier))
}

impl ListenerSettings {
    /// The settings of a port, and what is wrong with those of some hosts, which refuse their handshakes. Where two
    /// listeners have the same host the first counts, unless only the other wants clients to be known.
    ///
    /// # Panics
    /// Never: the provider has cipher suites for TLS 1.3.
    pub fn new(
        listeners: impl IntoIterator<Item = (HostPattern, ListenerTerms)>,
        clock: &WallClock,
        alpn: &[&[u8]],
    ) -> (Self, Vec<(HostPattern, InvalidCredential)>) {
        let mut chosen: BTreeMap<HostPattern, ListenerTerms> = BTreeMap::new();
        for (host, terms) in listeners {
            match chosen.entry(host) {
                Entry::Vacant(free) => drop(free.insert(terms)),
                Entry::Occupied(mut taken) if terms.clients && !taken.get().clients => {
                    taken.insert(terms);
                }
                Entry::Occupied(_) => {}
            }
        }
        let nothing = ListenerTerms { credentials: Vec::new(), clients: false };
        let refuses = nothing.server(clock, alpn).expect("nothing in it can be wrong");
        let (exact, suffixes) = (HashMap::new(), Vec::new());
        let (mut settings, mut wrong) = (Self { exact, suffixes, any: None, refuses }, Vec::new());
        // In the order of precedence: of suffixes the longest comes first.
        for (host, terms) in chosen {
            let server = terms.server(clock, alpn).unwrap_or_else(|error| {
                wrong.push((host.clone(), error));
                Arc::clone(&settings.refuses)
            });
            match host {
                HostPattern::Exact(name) => drop(settings.exact.insert(name.as_str().to_owned(), server)),
                HostPattern::Suffix(suffix) => settings.suffixes.push((suffix.as_str().to_owned(), server)),
                HostPattern::Any => settings.any = Some(server),
            }
        }
        (settings, wrong)
    }

    /// The settings for a server name, in any case of letters.
    #[must_use]
    pub fn choose(&self, server_name: Option<&str>) -> &Arc<ServerConfig> {
        let named =
            server_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()).and_then(|name| {
                let longer = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
                let by_suffix = || self.suffixes.iter().find(|(suffix, _)| longer(suffix));
                self.exact.get(&name).or_else(|| by_suffix().map(|(_, server)| server))
            });
        named.or(self.any.as_ref()).unwrap_or(&self.refuses)
    }
}

impl fmt::Debug for ListenerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerSettings")
            .field("exact", &self.exact.keys())
            .field("suffixes", &self.suffixes.len())
            .field("any", &self.any.is_some())
            .finish()
    }
}

/// Shows the first certificate whose key the client can verify.
#[derive(Debug)]
struct FirstThatFits(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for FirstThatFits {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).cloned()
    }
}
