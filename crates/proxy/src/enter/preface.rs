//! HTTP, and which, by a look at the first bytes.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use lateen_runtime::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::worker::Worker;

/// What an HTTP/2 connection begins with (RFC 9113 section 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A request line that is longer is not waited for.
const LONGEST_LOOK: usize = 8 * 1024;
/// The longest method name taken for one.
const LONGEST_METHOD: usize = 24;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Anything else.
    Other,
    /// No byte came in time, or none will come.
    Nothing,
}

/// Reads until it is clear what it is, at most for `wait`, and not into a drain; what was read is left in `read`.
///
/// # Errors
/// A broken stream.
pub(crate) async fn look(
    worker: &Worker,
    stream: &mut Stream,
    read: &mut BytesMut,
    wait: Duration,
) -> io::Result<Seen> {
    // Callers of HTTP nearly always speak at once: no timer for them.
    let mut limit = None;
    let mut draining = pin!(worker.shared.drain.begun());
    loop {
        if let Some(seen) = judge(read) {
            return Ok(seen);
        }
        read.reserve(LONGEST_LOOK);
        let taken = poll_fn(|context| {
            if let Poll::Ready(taken) = poll_read_buf(Pin::new(&mut *stream), context, read) {
                return Poll::Ready(taken.map(Some));
            }
            let limit = limit.get_or_insert_with(|| worker.deadlines().after(wait));
            if Pin::new(limit).poll(context).is_ready() || draining.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(None));
            }
            Poll::Pending
        });
        if !matches!(taken.await?, Some(1..)) {
            // Over, or out of time: what there is must do.
            return Ok(if read.is_empty() { Seen::Nothing } else { Seen::Other });
        }
    }
}

/// What the bytes are, if they say.
pub(super) fn judge(bytes: &[u8]) -> Option<Seen> {
    let compared = bytes.len().min(HTTP2.len());
    if bytes[..compared] == HTTP2[..compared] {
        return (compared == HTTP2.len()).then_some(Seen::Http2);
    }
    let method =
        bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')).count();
    match bytes.get(method) {
        None if method <= LONGEST_METHOD => return None,
        Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => {}
        _ => return Some(Seen::Other),
    }
    match memchr::memchr(b'\n', bytes) {
        Some(end) => {
            let line = bytes[..end].trim_ascii_end();
            let http = line.len() > 9 && line[..line.len() - 1].ends_with(b" HTTP/1.");
            Some(if http { Seen::Http1 } else { Seen::Other })
        }
        None => (bytes.len() >= LONGEST_LOOK).then_some(Seen::Http1),
    }
}

/// A stream that gives `read` again before the rest.
pub(crate) fn unread(stream: Stream, read: BytesMut) -> Stream {
    if read.is_empty() { stream } else { Stream::Tunnel(Box::new(Unread { read, stream })) }
}

struct Unread {
    read: BytesMut,
    stream: Stream,
}

impl AsyncRead for Unread {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let taken = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..taken]);
        self.read.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Unread {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        for (bytes, expected) in [
            (b"".as_slice(), None),
            (b"G", None),
            (b"GET /x HTTP/1.", None),
            (b"GET /x HTTP/1.1\r\n", Some(Seen::Http1)),
            (b"GET /x HTTP/1.0\n", Some(Seen::Http1)),
            (b"M-SEARCH * HTTP/1.1\r\n", Some(Seen::Http1)),
            (b"GET key\r\n", Some(Seen::Other)),
            (b"EHLO mail\r\n", Some(Seen::Other)),
            (b"get / HTTP/1.1\r\n", Some(Seen::Other)),
            (b"\x16\x03\x01", Some(Seen::Other)),
            (b"PR", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Seen::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Some(Seen::Other)),
            (b"PROPFIND / HTTP/1.1\r\n", Some(Seen::Http1)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Some(Seen::Other)),
            (&[b'\0'; 4], Some(Seen::Other)),
        ] {
            assert_eq!(judge(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
