//! A CONNECT stream as a stream of bytes: END_STREAM is the half-close, RST_STREAM the reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use lateen_runtime::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::poll_window;

/// The largest piece taken at once: a few TLS records.
const MOST_AT_ONCE: usize = 64 * 1024;

/// Both directions of a CONNECT stream. Dropped before its end, it is reset after what was written is sent.
pub struct TunnelStream {
    incoming: RecvStream,
    outgoing: SendStream<Bytes>,
    data: Bytes,
    ended: bool,
    closed: bool,
    /// Counts this stream among the users of its connection.
    _user: Option<Arc<()>>,
}

impl TunnelStream {
    /// Over the two halves that `h2` gives. While the stream lives, so does `user`.
    #[must_use]
    pub fn new(incoming: RecvStream, outgoing: SendStream<Bytes>, user: Option<Arc<()>>) -> Self {
        Self { incoming, outgoing, data: Bytes::new(), ended: false, closed: false, _user: user }
    }

    /// As one of the kinds of streams.
    #[must_use]
    pub fn boxed(self) -> Stream {
        Stream::Tunnel(Box::new(self))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.data.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.incoming.poll_data(context)) {
                Some(data) => self.data = data.map_err(to_io)?,
                None => self.ended = true,
            }
        }
        let taken = self.data.len().min(buffer.remaining());
        buffer.put_slice(&self.data[..taken]);
        self.data.advance(taken);
        // Fails only if the stream is gone, which the next read says.
        let _ = self.incoming.flow_control().release_capacity(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let window = ready!(poll_window(&mut self.outgoing, context, bytes.len().min(MOST_AT_ONCE)));
        let taken = window.map_err(to_io)?.min(bytes.len());
        self.outgoing.send_data(Bytes::copy_from_slice(&bytes[..taken]), false).map_err(to_io)?;
        Poll::Ready(Ok(taken))
    }

    /// Nothing to do: the task that drives the connection writes as soon as it runs.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            self.outgoing.send_data(Bytes::new(), true).map_err(to_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// What a peer's reset means for a stream of bytes.
fn to_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
