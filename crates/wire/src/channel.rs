//! `ControlPlane`: where a control plane is and how to be believed there; and the channel to it.

use hyper_util::rt::TokioIo;
use lateen_model::Secret;
use lateen_pki::Refusal;
use lateen_runtime::sock::{self, ConnectOptions};
use rustls_pki_types::ServerName;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

/// The longest that connecting and the handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves is asked so often whether it lives, and given up after so long.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a control plane listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A unix socket.
    Socket(PathBuf),
    /// An address and port.
    Address(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A token that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the join token holds characters that a header cannot")]
pub struct InvalidToken;

/// Where a control plane is, whom to expect there, and how to be believed.
///
/// The settings for TLS come from `lateen_pki::tls::Tls::client` with `Accepted::Identities` of the control
/// plane and ALPN `h2`: with an identity of our own where we have one, without one and with a token before.
#[derive(Clone)]
pub struct ControlPlane {
    endpoint: Endpoint,
    tls: Arc<rustls::ClientConfig>,
    token: Option<MetadataValue<Ascii>>,
    options: ConnectOptions,
}

impl ControlPlane {
    /// A control plane that is shown our certificate, if the settings hold one.
    pub fn new(endpoint: Endpoint, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { endpoint, tls, token: None, options: ConnectOptions::default() }
    }

    /// Also shows a token with every call.
    ///
    /// # Errors
    /// When a header cannot hold it.
    pub fn with_token(mut self, token: &Secret) -> Result<Self, InvalidToken> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose()).parse().map_err(|_| InvalidToken)?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// How to connect to an address, such as with the mark that redirect rules leave alone.
    #[must_use]
    pub fn with_options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A channel that connects when it is used, and again when the connection is lost.
    pub fn channel(&self) -> Channel {
        let plane = self.clone();
        let connect = tower::service_fn(move |_: http::Uri| {
            let plane = plane.clone();
            async move { plane.connect().await.map(TokioIo::new) }
        });
        // TLS is ours, beneath; the name is only what HTTP/2 asks for.
        tonic::transport::Endpoint::from_static("http://lateen-control")
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .connect_with_connector_lazy(connect)
    }

    /// A call with the token, if there is one.
    pub fn call<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("connect to the control plane at {}: {error}", self.endpoint),
            )
        };
        // The verifier looks at the SPIFFE id alone; an address sends no server name.
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        Ok(match &self.endpoint {
            Endpoint::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(named)?;
                Box::new(tls.connect(name, stream).await?)
            }
            Endpoint::Address(address) => {
                let stream = sock::connect(*address, &self.options).await.map_err(named)?;
                Box::new(tls.connect(name, stream).await?)
            }
        })
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// An error with its causes, once, for people. A peer that was not believed says why.
pub(crate) fn describe(error: &(dyn StdError + 'static)) -> String {
    if let Some(refusal) = Refusal::find(error) {
        return refusal.to_string();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// A call that failed, for people: our own message where there is one.
pub(crate) fn describe_status(status: &tonic::Status) -> String {
    match status.source() {
        Some(cause) => describe(cause),
        None => status.message().to_owned(),
    }
}
