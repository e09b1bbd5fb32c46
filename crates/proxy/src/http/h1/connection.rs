//! One keep-alive connection of HTTP/1.1 over a stream: no task, no channel, no timer of its own.
//!
//! Reading and writing are two independent machines that are polled by whoever relays, so a request body can go on
//! upwards while the response already comes down. Both ends use the same type: a server reads requests and writes
//! responses, a client the other way round.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use lateen_runtime::stream::Stream;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::buffers;
use super::chunk::{ChunkDecoder, InvalidChunk, Piece};
use super::parse::{self, BodyOf, HeadAt, HeadLimits, HeadScan, InvalidHead};
use super::write::{self, ResponseShape};
use crate::http::head::{Fields, Framing, RequestHead, ResponseHead};

/// The first read of a connection; most heads fit.
const SMALL_READ: usize = buffers::SIZE;
/// Reads while a body flows.
const LARGE_READ: usize = 32 * 1024;
/// Bytes that may wait to be written before no more are taken.
const OUTPUT_HIGH: usize = 64 * 1024;
/// Body pieces of this size are written from where they lie instead of being gathered with what precedes them.
const DIRECT_WRITE: usize = 4 * 1024;
/// What a client may send ahead while its request is under way.
const MOST_AHEAD: usize = 64 * 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The stream failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The head is refused.
    #[error(transparent)]
    Head(#[from] InvalidHead),
    /// The body is refused.
    #[error(transparent)]
    Chunk(#[from] InvalidChunk),
    /// The stream ended inside a message.
    #[error("the connection ended inside a message")]
    Truncated,
    /// The body is longer than a limit.
    #[error("the body is longer than {0} bytes")]
    TooLong(u64),
    /// A stream of HTTP/2 failed.
    #[error("stream failed: {0}")]
    Stream(#[from] h2::Error),
    /// A body that was to be translated is refused.
    #[error(transparent)]
    Text(#[from] crate::http::grpc_web::InvalidText),
    /// A head of HTTP/2 is refused.
    #[error(transparent)]
    StreamHead(#[from] crate::http::h2::heads::InvalidHead),
}

/// What a look at a body found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are bytes: see `data`.
    Data,
    /// The body has ended.
    End,
}

#[derive(Debug, Default)]
enum Reading {
    /// Between messages, or a message without a body.
    #[default]
    Done,
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writing {
    /// No body may follow.
    #[default]
    Nothing,
    Raw,
    Chunked,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    scan: HeadScan,
    reading: Reading,
    /// Bytes of a body at the front of `input`, already taken off `reading`.
    ready: usize,
    trailers: Option<Box<Fields>>,
    /// The peer has sent its last byte.
    ended: bool,
    writing: Writing,
    /// A byte of the last request or more has left.
    written: bool,
    /// After the output is written, tell the peer that nothing follows.
    half_close: HalfClose,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HalfClose {
    #[default]
    No,
    Wanted,
    Done,
}

impl Connection {
    /// Over `stream`, of which `already_read` was read before.
    pub fn new(stream: Stream, already_read: BytesMut) -> Self {
        Self {
            stream,
            input: already_read,
            output: BytesMut::new(),
            scan: HeadScan::default(),
            reading: Reading::Done,
            ready: 0,
            trailers: None,
            ended: false,
            writing: Writing::Nothing,
            written: false,
            half_close: HalfClose::No,
        }
    }

    /// The stream below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream, what was read beyond the last message, and what is still to be written.
    pub fn into_parts(self) -> (Stream, BytesMut, BytesMut) {
        (self.stream, self.input, self.output)
    }

    /// Whether a head has begun to arrive; then silence is a slow request, not an idle connection.
    pub fn head_has_begun(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for a whole head. None: the peer closed the connection between messages.
    ///
    /// # Errors
    /// A head over the limit, a bare line feed, an end inside of a head, a broken stream.
    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        limits: HeadLimits,
    ) -> Poll<Result<Option<HeadAt>, Broken>> {
        debug_assert!(matches!(self.reading, Reading::Done) && self.ready == 0);
        loop {
            if let Some(at) = self.scan.find(&self.input, limits.bytes)? {
                return Poll::Ready(Ok(Some(at)));
            }
            if self.ended {
                let begun = self.scan.has_begun();
                return Poll::Ready(if begun { Err(Broken::Truncated) } else { Ok(None) });
            }
            ready!(self.poll_fill(context, SMALL_READ))?;
        }
    }

    /// Waits for the head of a request and reads it. False: the peer closed the connection between requests.
    ///
    /// # Errors
    /// Whatever is wrong with the head or the stream.
    pub fn poll_request(
        &mut self,
        context: &mut Context<'_>,
        limits: HeadLimits,
        head: &mut RequestHead,
    ) -> Poll<Result<bool, Broken>> {
        let Some(at) = ready!(self.poll_head(context, limits))? else { return Poll::Ready(Ok(false)) };
        let parsed = parse::parse_request(&self.input[at.start..at.end], limits, head);
        self.input.advance(at.end);
        self.scan = HeadScan::default();
        parsed?;
        self.read_body(head.framing);
        Poll::Ready(Ok(true))
    }

    /// Waits for the head of a response and reads it.
    ///
    /// # Errors
    /// Whatever is wrong with the head or the stream; `Truncated` also when nothing came.
    pub fn poll_response(
        &mut self,
        context: &mut Context<'_>,
        limits: HeadLimits,
        body_of: BodyOf,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Broken>> {
        let Some(at) = ready!(self.poll_head(context, limits))? else {
            return Poll::Ready(Err(Broken::Truncated));
        };
        let parsed = parse::parse_response(&self.input[at.start..at.end], limits, body_of, head);
        self.input.advance(at.end);
        self.scan = HeadScan::default();
        parsed?;
        self.read_body(head.framing);
        Poll::Ready(Ok(()))
    }

    fn read_body(&mut self, framing: Framing) {
        self.trailers = None;
        self.reading = match framing {
            Framing::None | Framing::Length(0) => Reading::Done,
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunked(ChunkDecoder::default()),
            Framing::UntilClose => Reading::UntilClose,
        };
    }

    /// Waits for bytes of the body.
    ///
    /// # Errors
    /// A body that ends early or is framed wrongly; a broken stream.
    pub fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        loop {
            if self.ready > 0 {
                return Poll::Ready(Ok(Step::Data));
            }
            if self.frame_body()? {
                continue;
            }
            match self.reading {
                Reading::Done => return Poll::Ready(Ok(Step::End)),
                Reading::UntilClose if self.ended => self.reading = Reading::Done,
                _ if self.ended => return Poll::Ready(Err(Broken::Truncated)),
                _ => ready!(self.poll_fill(context, LARGE_READ))?,
            }
        }
    }

    /// Takes from the input what belongs to the body; whether anything changed.
    fn frame_body(&mut self) -> Result<bool, Broken> {
        if self.input.is_empty() {
            return Ok(false);
        }
        match &mut self.reading {
            Reading::Done => return Ok(false),
            Reading::UntilClose => self.ready = self.input.len(),
            Reading::Length(left) => {
                self.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                *left -= self.ready as u64;
                if *left == 0 {
                    self.reading = Reading::Done;
                }
            }
            Reading::Chunked(decoder) => {
                let (piece, used) = decoder.next(&self.input)?;
                match piece {
                    Piece::Data(range) => {
                        self.ready = range.len();
                        self.input.advance(range.start);
                    }
                    Piece::Starved => {
                        self.input.advance(used);
                        return Ok(false);
                    }
                    Piece::End => {
                        let mut trailers = Fields::default();
                        decoder.trailers(&mut trailers)?;
                        self.trailers = (!trailers.is_empty()).then(|| Box::new(trailers));
                        self.input.advance(used);
                        self.reading = Reading::Done;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Bytes of the body that are there now.
    pub fn data(&self) -> &[u8] {
        &self.input[..self.ready]
    }

    /// Says that so many bytes of `data` were used.
    pub fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.ready);
        self.ready -= bytes;
        self.input.advance(bytes);
    }

    /// The trailers of a body that has ended.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        self.trailers.take()
    }

    /// Whether the message that was read is read to its end.
    pub fn is_read(&self) -> bool {
        self.ready == 0 && matches!(self.reading, Reading::Done)
    }

    /// Waits for the peer to go away while it has nothing to say. What it sends ahead is kept, up to a limit.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.ended {
            if self.input.len() >= MOST_AHEAD {
                return Poll::Pending;
            }
            if ready!(self.poll_fill(context, SMALL_READ)).is_err() {
                self.ended = true;
            }
        }
        Poll::Ready(())
    }

    /// Reads and throws away up to `most` bytes, until the peer ends.
    pub async fn discard_input(&mut self, most: usize) {
        let mut left = most;
        while !self.ended {
            self.input.clear();
            if std::future::poll_fn(|context| self.poll_fill(context, SMALL_READ)).await.is_err() {
                return;
            }
            match left.checked_sub(self.input.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<()>> {
        if self.input.capacity() == 0 {
            self.input = buffers::take();
        }
        if self.input.capacity() - self.input.len() < size / 2 {
            self.input.reserve(size);
        }
        match poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input) {
            Poll::Pending => {
                // Between messages it may be long until there is something to read.
                if self.is_read() {
                    self.release_input();
                }
                return Poll::Pending;
            }
            Poll::Ready(count) => self.ended |= count? == 0,
        }
        Poll::Ready(Ok(()))
    }

    fn release_input(&mut self) {
        if self.input.is_empty() {
            buffers::give(std::mem::take(&mut self.input));
        }
    }

    /// A buffer for what is about to be put into the output.
    fn ready_output(&mut self) {
        if self.output.capacity() == 0 {
            self.output = buffers::take();
        }
    }

    fn release_output(&mut self) {
        if self.output.is_empty() && self.output.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.output));
        }
    }

    /// Puts a request head into the output.
    pub fn write_request(&mut self, head: &RequestHead, framing: Framing) {
        self.ready_output();
        self.written = false;
        write::request(&mut self.output, head, framing);
        self.write_body(framing);
    }

    /// Puts a response head into the output.
    pub fn write_response(&mut self, head: &ResponseHead, shape: ResponseShape) {
        self.ready_output();
        write::response(&mut self.output, head, shape);
        if !head.is_interim() {
            self.write_body(shape.framing);
        }
    }

    /// Puts `HTTP/1.1 100 Continue` into the output.
    pub fn write_continue(&mut self) {
        self.ready_output();
        self.output.extend_from_slice(write::CONTINUE);
    }

    fn write_body(&mut self, framing: Framing) {
        self.writing = match framing {
            Framing::None | Framing::Length(0) => Writing::Nothing,
            Framing::Chunked => Writing::Chunked,
            Framing::Length(_) | Framing::UntilClose => Writing::Raw,
        };
    }

    /// Takes bytes of a body; waits while too many are unwritten.
    ///
    /// # Errors
    /// A broken stream.
    pub fn poll_write_body(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.output.len() >= OUTPUT_HIGH {
            ready!(self.poll_output(context))?;
        }
        if self.writing == Writing::Raw && self.output.is_empty() && data.len() >= DIRECT_WRITE {
            return Pin::new(&mut self.stream).poll_write(context, data);
        }
        self.ready_output();
        match self.writing {
            Writing::Nothing => {}
            Writing::Chunked => write::chunk(&mut self.output, data),
            Writing::Raw => self.output.extend_from_slice(data),
        }
        Poll::Ready(Ok(data.len()))
    }

    /// Ends the body. Not for bodies that end with the stream.
    pub fn finish(&mut self, trailers: Option<&Fields>) {
        if self.writing == Writing::Chunked {
            self.ready_output();
            write::last_chunk(&mut self.output, trailers);
        }
        self.writing = Writing::Nothing;
    }

    /// Sends on what is in the output.
    ///
    /// # Errors
    /// A broken stream.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_output(context))?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.half_close == HalfClose::Wanted {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.half_close = HalfClose::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = true;
            self.output.advance(written);
        }
        self.release_output();
        Poll::Ready(Ok(()))
    }

    /// Whether anything of the last request has left.
    pub fn has_written(&self) -> bool {
        self.written
    }

    /// Whether nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// From now on both directions are bytes without end, until each is closed (after 101, or 2xx to CONNECT).
    pub fn become_tunnel(&mut self) {
        self.reading = Reading::UntilClose;
        self.writing = Writing::Raw;
    }

    /// After the output, nothing follows.
    pub fn half_close(&mut self) {
        if self.half_close == HalfClose::No {
            self.half_close = HalfClose::Wanted;
        }
    }

    /// Whether both messages are complete and nothing is left over: the connection could carry another.
    pub fn is_between_messages(&self) -> bool {
        self.is_read()
            && !self.ended
            && self.input.is_empty()
            && self.output.is_empty()
            && self.writing == Writing::Nothing
    }

    /// Whether an idle connection can carry another request now: the other side has neither closed it nor said
    /// anything. A read that finds nothing costs no system call: the event loop knows already.
    pub fn is_reusable(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.is_between_messages() && self.poll_fill(&mut context, SMALL_READ).is_pending()
    }

    /// Whether the other side has sent its last byte.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Gives empty buffers back; for connections that wait in a pool.
    pub fn shrink(&mut self) {
        self.release_input();
        self.release_output();
    }
}
