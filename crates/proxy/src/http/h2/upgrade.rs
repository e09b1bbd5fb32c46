//! `Upgrade: h2c` (RFC 7540 section 3.2): a connection of HTTP/1.1 becomes one of HTTP/2 at its first request.
//!
//! The `h2` crate reads only connections that begin as HTTP/2. So it is given one: between the client's preface and what
//! follows, the request that asked for the upgrade is put as the stream 1 that it stands for, and the settings that it
//! carried are put before those of the client's first frame, which is acknowledged once, as the client expects.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{Buf, BufMut, BytesMut};
use lateen_runtime::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::http::h1::write::is_named;
use crate::http::head::{Known, RequestHead};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const FRAME: usize = 9;
/// The largest frame that a peer may send before it is allowed more.
const LARGEST: usize = 16_384;
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is answered before the protocol changes.
pub(crate) const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The settings that a valid request for an upgrade carries. None for all others, which are served as what they are
/// (RFC 9110 section 7.8).
pub(crate) fn settings(head: &RequestHead) -> Option<Vec<u8>> {
    let mut said = head.fields.iter_known().filter(|(known, ..)| *known == Known::Http2Settings);
    let (Some((.., value)), None) = (said.next(), said.next()) else { return None };
    let named = is_named(&head.fields, b"http2-settings");
    let settings = BASE64URL.decode(value).ok()?;
    (head.h2c && named && settings.len() % 6 == 0 && settings.len() <= 256).then_some(settings)
}

/// The connection from its preface on, as if the request had come by it. `read` was read beyond the request.
pub(crate) fn upgraded(stream: Stream, read: BytesMut, head: &RequestHead, settings: Vec<u8>) -> Stream {
    let begin = Begin { raw: read, settings, request: headers(head) };
    Stream::Tunnel(Box::new(Upgraded { stream, begin: Some(begin), ahead: BytesMut::new() }))
}

/// HEADERS, and CONTINUATION where one frame is not enough, of a request without a body.
fn headers(head: &RequestHead) -> BytesMut {
    let mut block = Vec::new();
    literal(&mut block, b":method", head.method().as_bytes());
    literal(&mut block, b":scheme", b"http");
    literal(&mut block, b":path", head.target().as_bytes());
    literal(&mut block, b":authority", head.authority().as_bytes());
    for (known, name, value) in head.fields.iter_known() {
        let framing = known.is_hop_by_hop() || matches!(known, Known::Host | Known::ContentLength);
        if !framing && (known.is_end_to_end() || !is_named(&head.fields, name)) {
            literal(&mut block, &name.to_ascii_lowercase(), value);
        }
    }
    let mut out = BytesMut::new();
    let mut pieces = block.chunks(LARGEST).peekable();
    let (mut kind, mut flags) = (HEADERS, END_STREAM);
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            flags |= END_HEADERS;
        }
        frame(&mut out, kind, flags, 1, piece);
        (kind, flags) = (CONTINUATION, 0);
    }
    out
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.extend_from_slice(payload);
}

/// A field that leaves no trace in the table of the decoder (RFC 7541 section 6.2.2), as the client knows of none.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        integer(block, text.len());
        block.extend_from_slice(text);
    }
}

/// A length with a prefix of seven bits (RFC 7541 section 5.1), not Huffman-coded.
fn integer(block: &mut Vec<u8>, number: usize) {
    if number < 127 {
        return block.push(number as u8);
    }
    block.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// What is waited for before anything is given to the reader.
struct Begin {
    raw: BytesMut,
    settings: Vec<u8>,
    request: BytesMut,
}

impl Begin {
    /// The client's preface and its first frame, if they are there, with what is put between. What is no beginning of
    /// HTTP/2 is left as it is: the reader refuses it.
    fn join(&mut self) -> Option<BytesMut> {
        let compared = self.raw.len().min(PREFACE.len());
        if self.raw[..compared] != PREFACE[..compared] {
            return Some(std::mem::take(&mut self.raw));
        }
        let head = self.raw.get(PREFACE.len()..PREFACE.len() + FRAME)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[3..] != [SETTINGS, 0, 0, 0, 0, 0] || length + self.settings.len() > LARGEST {
            return Some(std::mem::take(&mut self.raw));
        }
        let end = PREFACE.len() + FRAME + length;
        let own = self.raw.get(PREFACE.len() + FRAME..end)?;
        let mut out = BytesMut::from(PREFACE);
        frame(&mut out, SETTINGS, 0, 0, &[&self.settings, own].concat());
        out.unsplit(std::mem::take(&mut self.request));
        out.extend_from_slice(&self.raw[end..]);
        Some(out)
    }
}

struct Upgraded {
    stream: Stream,
    begin: Option<Begin>,
    ahead: BytesMut,
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, begin, ahead } = &mut *self;
        while let Some(begun) = begin {
            if let Some(joined) = begun.join() {
                (*ahead, *begin) = (joined, None);
                break;
            }
            begun.raw.reserve(1024);
            if ready!(poll_read_buf(Pin::new(&mut *stream), context, &mut begun.raw))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        if ahead.is_empty() {
            return Pin::new(stream).poll_read(context, buffer);
        }
        let taken = ahead.len().min(buffer.remaining());
        buffer.put_slice(&ahead[..taken]);
        ahead.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
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
    fn lengths() {
        for (number, expected) in [(126, vec![126]), (127, vec![127, 0]), (1337, vec![127, 186, 9])] {
            let mut block = Vec::new();
            integer(&mut block, number);
            assert_eq!(block, expected, "{number}");
        }
    }

    #[test]
    fn whatever_follows_the_preface_is_joined_or_left_alone() {
        bolero::check!().with_iterations(2_000).with_type::<(bool, Vec<u8>)>().for_each(
            |(preface, bytes)| {
                let raw = [if *preface { PREFACE } else { b"" }, bytes].concat();
                let mut begin = Begin {
                    raw: BytesMut::from(&raw[..]),
                    settings: vec![0, 4, 0, 0, 0, 9],
                    request: BytesMut::from(&b"request"[..]),
                };
                match begin.join() {
                    // Waits, for no more than a preface and the largest frame.
                    None => assert!(raw.len() < PREFACE.len() + FRAME + LARGEST),
                    Some(joined) => assert!(joined == raw || joined.len() == raw.len() + 6 + 7),
                }
            },
        );
    }

    #[test]
    fn settings_are_joined_and_anything_else_left_alone() {
        let begin = |raw: &[u8]| Begin {
            raw: raw.into(),
            settings: vec![0, 4, 0, 0, 0, 9],
            request: BytesMut::from(&b"request"[..]),
        };
        let client = [PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5], b"rest"].concat();
        let joined = begin(&client).join().expect("whole");
        let expected: [&[u8]; 4] =
            [PREFACE, &[0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9, 0, 3, 0, 0, 0, 5], b"request", b"rest"];
        assert_eq!(joined, expected.concat());
        for cut in 0..client.len() - 4 {
            assert_eq!(begin(&client[..cut]).join(), None, "{cut}");
        }
        assert_eq!(begin(b"GET /").join().as_deref(), Some(b"GET /".as_slice()));
        let ping = [PREFACE, &[0, 0, 8, 6, 0, 0, 0, 0, 0]].concat();
        assert_eq!(begin(&ping).join().as_deref(), Some(ping.as_slice()));
    }
}
