//! Hears the first words of a server.
//!
//! A server of HTTP/2 speaks first of all its settings (RFC 9113 section 3.4). One that closes a new connection without a
//! word was on its way out when the connection came: it has seen no request. A request that was sent ahead of those words
//! could not know that, and would be lost where it may not be sent twice. So the first request waits for them, which costs
//! a new connection one round trip and a kept one nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// A stream that tells when its other side has said something.
pub(crate) struct FirstWords<S> {
    stream: S,
    heard: Option<oneshot::Sender<()>>,
}

impl<S> FirstWords<S> {
    /// The receiver fails when the stream ends without a word.
    pub(crate) fn of(stream: S) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { stream, heard: Some(sender) }, receiver)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstWords<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.heard.is_some()
            && buffer.filled().len() > before
            && let Some(heard) = self.heard.take()
        {
            // Nobody may be waiting any more.
            let _ = heard.send(());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstWords<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
