//! TLS out: what we show, and who must answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_engine::Accept;
use lateen_model::Identity;
use lateen_pki::tls::{Accepted, Clients, Tls};
use lateen_pki::{CertifiedIdentity, Current};
use lateen_runtime::stream::Stream;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fault::{Fault, Reason};
use crate::worker::Worker;

/// The protocol inside a tunnel's TLS.
const ALPN: &[&[u8]] = &[b"h2"];

/// What we show and whom we believe. Certificates and roots are read anew at each handshake, so one value lasts as
/// long as the identity does.
#[derive(Debug)]
pub struct Credentials {
    identity: Arc<Identity>,
    certified: Current<CertifiedIdentity>,
    tls: Tls,
    server: Arc<rustls::ServerConfig>,
}

impl Credentials {
    /// For the identity that `certified` proves.
    #[must_use]
    pub fn new(tls: Tls, certified: Current<CertifiedIdentity>) -> Self {
        let server = tls.server(&certified, Clients::Required, ALPN);
        Self { identity: Arc::new(certified.get().identity().clone()), certified, tls, server }
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// For tunnels that come in: a certificate is asked for and verified.
    #[must_use]
    pub fn server(&self) -> &Arc<rustls::ServerConfig> {
        &self.server
    }

    fn client(&self, accept: &Accept) -> Arc<rustls::ClientConfig> {
        self.tls.client(Some(&self.certified), Accepted::Identities(Arc::clone(&accept.0)), ALPN)
    }
}

/// TLS over `tcp` as a client; one of `accept` must answer.
///
/// # Errors
/// No certificate of our own yet; a handshake that fails or takes too long.
pub(crate) async fn connect(
    worker: &Worker,
    tcp: TcpStream,
    address: SocketAddr,
    accept: &Accept,
    longest: Duration,
) -> Result<Stream, Fault> {
    let credentials = worker.credentials();
    let Some(credentials) = &*credentials else {
        return Err(Fault::proxy(
            Reason::NoCertificate,
            "show a certificate: there is none yet; is the control plane reachable?",
        ));
    };
    let settings = credentials.client(accept);
    // No server name is sent (HBONE); the verifier looks at identities, not at names.
    let handshake =
        TlsConnector::from(settings).connect(ServerName::IpAddress(address.ip().into()), Stream::from(tcp));
    match worker.deadlines().within(longest, Box::pin(handshake)).await {
        Ok(Ok(tls)) => Ok(tls.into()),
        Ok(Err(error)) => Err(Fault::connect(Reason::TlsFailure, format!("TLS with {address}: {error}"))),
        Err(_) => Err(Fault::connect(Reason::ConnectTimeout, format!("TLS with {address}: timed out"))),
    }
}
