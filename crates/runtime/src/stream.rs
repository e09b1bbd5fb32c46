//! `Stream`: every kind of connection we speak over, as one closed type.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use crate::sock;

/// Bytes in both directions. TLS holds a stream inside, so layers nest. Large members are boxed: a plain TCP
/// connection should not pay for the size of the others.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS that we accepted.
    TlsServer(Box<server::TlsStream<Stream>>),
    /// TLS that we began.
    TlsClient(Box<client::TlsStream<Stream>>),
    /// One stream of a multiplexed connection; who multiplexes brings the type.
    Tunnel(Box<dyn Tunnel>),
    /// Both ends in this process, for tests.
    Memory(DuplexStream),
}

/// What a multiplexed stream must be to travel in [`Stream::Tunnel`].
pub trait Tunnel: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Tunnel for T {}

impl Stream {
    /// The TCP connection under all layers, if there is one.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::TlsServer(tls) => tls.get_ref().0.tcp(),
            Self::TlsClient(tls) => tls.get_ref().0.tcp(),
            Self::Unix(_) | Self::Tunnel(_) | Self::Memory(_) => None,
        }
    }

    /// The TLS session next to us, if any.
    pub fn tls(&self) -> Option<&rustls::CommonState> {
        match self {
            Self::TlsServer(tls) => Some(tls.get_ref().1),
            Self::TlsClient(tls) => Some(tls.get_ref().1),
            _ => None,
        }
    }

    /// The certificates that the peer showed, its own first.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls()?.peer_certificates()
    }

    /// The protocol that both sides agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls()?.alpn_protocol()
    }

    /// The name that the client of a TLS connection asked for.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::TlsServer(tls) => tls.get_ref().1.server_name(),
            _ => None,
        }
    }

    /// The peer's address, where there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }

    /// Our address, where there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    /// Whether an idle connection can still carry a request: nothing to read and not closed. Where the kernel
    /// cannot be asked the answer is yes, and the next write will tell.
    pub fn is_idle_and_open(&self) -> bool {
        match self {
            Self::Unix(unix) => sock::is_idle_and_open(unix),
            _ => self.tcp().is_none_or(sock::is_idle_and_open),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<UnixStream> for Stream {
    fn from(unix: UnixStream) -> Self {
        Self::Unix(unix)
    }
}

impl From<server::TlsStream<Self>> for Stream {
    fn from(tls: server::TlsStream<Self>) -> Self {
        Self::TlsServer(Box::new(tls))
    }
}

impl From<client::TlsStream<Self>> for Stream {
    fn from(tls: client::TlsStream<Self>) -> Self {
        Self::TlsClient(Box::new(tls))
    }
}

impl From<DuplexStream> for Stream {
    fn from(memory: DuplexStream) -> Self {
        Self::Memory(memory)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Tcp(_) => "Tcp",
            Self::Unix(_) => "Unix",
            Self::TlsServer(_) => "TlsServer",
            Self::TlsClient(_) => "TlsClient",
            Self::Tunnel(_) => "Tunnel",
            Self::Memory(_) => "Memory",
        };
        f.debug_struct(kind).field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}

/// The same call on whichever stream it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::TlsServer($inner) => $call,
            Stream::TlsClient($inner) => $call,
            Stream::Tunnel($inner) => $call,
            Stream::Memory($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write(context, bytes))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn tcp_pair() -> (Stream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let connect = TcpStream::connect(listener.local_addr().expect("address"));
        let (near, far) = tokio::join!(connect, listener.accept());
        (near.expect("connect").into(), far.expect("accept").0.into())
    }

    async fn check_carries_bytes((mut near, mut far): (Stream, Stream)) {
        let parts = [io::IoSlice::new(b"hel"), io::IoSlice::new(b"lo")];
        let sent = near.write_vectored(&parts).await.expect("write");
        near.write_all(&b"hello"[sent..]).await.expect("write the rest");
        near.shutdown().await.expect("shut down");
        let mut text = String::new();
        far.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn every_kind_carries_bytes() {
        check_carries_bytes(tcp_pair().await).await;
        let (near, far) = UnixStream::pair().expect("pair");
        check_carries_bytes((near.into(), far.into())).await;
        let (near, far) = tokio::io::duplex(16);
        check_carries_bytes((near.into(), far.into())).await;
        let (near, far) = tokio::io::duplex(16);
        check_carries_bytes((Stream::Tunnel(Box::new(near)), Stream::Tunnel(Box::new(far)))).await;
    }

    #[tokio::test]
    async fn an_idle_stream_knows_whether_it_is_open() {
        let (near, far) = tcp_pair().await;
        assert!(near.is_idle_and_open());
        assert_eq!(near.peer_addr(), far.local_addr());
        drop(far);
        near.tcp().expect("is tcp").readable().await.expect("closing makes it readable");
        assert!(!near.is_idle_and_open());
    }
}
