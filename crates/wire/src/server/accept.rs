//! Accept connections: TLS beneath gRPC, and who is at the other end.

use super::guests::{Guest, Guests};
use lateen_model::Identity;
use lateen_runtime::drain::Drain;
use lateen_runtime::{clock, sock};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::Service;

/// The longest that a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; further connections wait in the queue of the socket.
const HANDSHAKES: usize = 256;
/// A proxy needs one stream and, now and then, one call.
const STREAMS: u32 = 64;
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// When the machine has no descriptors left, to try again at once would only burn time.
const AFTER_ACCEPT_FAILED: Duration = Duration::from_millis(50);

/// Where connections come in.
pub enum Listener {
    /// An address and port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Where a connection comes from: what tells one process from another that has the same identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Origin {
    /// A process of this machine, as the kernel says.
    Process(i32),
    /// An address.
    Address(IpAddr),
    /// It cannot be told.
    #[default]
    Unknown,
}

/// How many may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait in the queue of the socket.
    pub connections: usize,
    /// Connections at a time of one origin; further ones are closed.
    pub of_one: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8192, of_one: 1024 }
    }
}

/// What a connection tells of its other end; in the extensions of each request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Who its certificate says it is.
    pub(crate) identity: Option<Identity>,
    /// When that certificate ends.
    pub(crate) until: Option<SystemTime>,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// Serves a service to all who come, until the drain begins; then waits until those who are in have left, or
/// the drain is forced.
///
/// The settings for TLS come from `lateen_pki::tls::Tls::server` with `Clients::Optional` and ALPN `h2`.
///
/// # Errors
/// When the server itself fails; a connection that fails is its own affair.
pub async fn serve<S>(
    listener: Listener,
    tls: Arc<rustls::ServerConfig>,
    service: S,
    limits: Limits,
    drain: Drain,
) -> io::Result<()>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let (sender, connections) = mpsc::channel(1);
    let door =
        Arc::new(Door { tls: TlsAcceptor::from(tls), connections: sender, guests: Guests::new(limits) });
    let accepting = accept(listener, door, drain.clone());
    let begun = drain.clone();
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(1 << 20)
        .serve_with_incoming_shutdown(service, ReceiverStream::new(connections), async move {
            begun.begun().await;
        });
    let both = async { tokio::join!(accepting, serving).1 };
    tokio::select! {
        result = both => result.map_err(io::Error::other),
        () = drain.forced() => Ok(()),
    }
}

/// What every handshake needs.
struct Door {
    tls: TlsAcceptor,
    connections: mpsc::Sender<Result<Connection, Infallible>>,
    guests: Guests,
}

async fn accept(listener: Listener, door: Arc<Door>, drain: Drain) {
    let mut handshakes = JoinSet::new();
    loop {
        // A place first: who finds none waits in the queue of the socket.
        let place = tokio::select! {
            () = drain.begun() => return,
            place = door.guests.place() => place,
        };
        let accepted = loop {
            tokio::select! {
                () = drain.begun() => return,
                Some(_) = handshakes.join_next() => {}
                accepted = listener.accept(), if handshakes.len() < HANDSHAKES => break accepted,
            }
        };
        match accepted {
            Ok((socket, origin)) => match door.guests.admit(origin, place) {
                Some(guest) => drop(handshakes.spawn(Arc::clone(&door).shake(socket, guest))),
                None => tracing::warn!(?origin, "has too many connections, gets no more"),
            },
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                clock::sleep(AFTER_ACCEPT_FAILED).await;
            }
        }
    }
}

impl Door {
    async fn shake(self: Arc<Self>, socket: Socket, guest: Guest) {
        match clock::timeout(HANDSHAKE, self.tls.accept(socket)).await {
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let identity = lateen_pki::peer_identity(chain);
                let until = chain.first().and_then(lateen_pki::not_after);
                let peer = Peer { identity, until, origin: guest.origin };
                // Nobody takes it any more only when the server has ended.
                let _ = self.connections.send(Ok(Connection { stream, peer, _guest: guest })).await;
            }
            Ok(Err(error)) => {
                let why = lateen_pki::Refusal::find(&error).map(|refusal| refusal.to_string());
                let why = why.unwrap_or_else(|| error.to_string());
                tracing::debug!(origin = ?guest.origin, why, "a handshake failed");
            }
            Err(_) => tracing::debug!(origin = ?guest.origin, "a handshake took too long"),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Socket, Origin)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok((Socket::Tcp(socket), Origin::Address(address.ip())))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                let process = sock::peer_credentials(&socket)?.pid;
                Ok((Socket::Unix(socket), process.map_or(Origin::Unknown, Origin::Process)))
            }
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Connection {
    stream: TlsStream<Socket>,
    peer: Peer,
    _guest: Guest,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Passes reading and writing on to what is inside.
macro_rules! pass_on {
    ($outer:ty, $self:ident, $inner:ident => $($pattern:pat),+ = $value:expr) => {
        impl AsyncRead for $outer {
            fn poll_read($self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match $value { $($pattern => Pin::new($inner).poll_read(cx, buffer)),+ }
            }
        }
        impl AsyncWrite for $outer {
            fn poll_write($self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match $value { $($pattern => Pin::new($inner).poll_write(cx, bytes)),+ }
            }
            fn poll_write_vectored($self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
                match $value { $($pattern => Pin::new($inner).poll_write_vectored(cx, slices)),+ }
            }
            fn poll_flush($self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match $value { $($pattern => Pin::new($inner).poll_flush(cx)),+ }
            }
            fn poll_shutdown($self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match $value { $($pattern => Pin::new($inner).poll_shutdown(cx)),+ }
            }
        }
    };
}

pass_on!(Socket, self, socket => Self::Tcp(socket), Self::Unix(socket) = self.get_mut());
pass_on!(Connection, self, stream => Self { stream, .. } = self.get_mut());
