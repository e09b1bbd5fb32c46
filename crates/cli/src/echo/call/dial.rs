//! Connects to a host, or to the proxy that HTTP_PROXY names for it.
//!
//! hyper's client writes requests in absolute form (RFC 9112, 3.2.2) on a connection that says it goes
//! to a proxy; saying so is all that this adds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

type Tcp = TokioIo<TcpStream>;

/// Makes connections for a client.
#[derive(Clone)]
pub(super) struct Dial {
    tcp: HttpConnector,
    proxies: Option<Arc<Matcher>>,
}

impl Dial {
    /// Honours HTTP_PROXY and NO_PROXY.
    pub(super) fn from_env() -> Self {
        Dial { proxies: Some(Arc::new(Matcher::from_env())), ..Dial::direct() }
    }

    pub(super) fn direct() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        Dial { tcp, proxies: None }
    }
}

impl Service<Uri> for Dial {
    type Response = Dialed;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&destination));
        let through_proxy = proxy.is_some();
        let connecting = self.tcp.call(proxy.map_or(destination, |proxy| proxy.uri().clone()));
        Box::pin(async move { Ok(Dialed { tcp: connecting.await?, through_proxy }) })
    }
}

/// A connection that knows whether it goes to a proxy.
pub(super) struct Dialed {
    tcp: Tcp,
    through_proxy: bool,
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        self.tcp.connected().proxy(self.through_proxy)
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl Write for Dialed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
