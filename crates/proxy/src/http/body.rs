//! Bodies on their way: from one session to another, counted, and kept for a second try while that is cheap.

use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};

use super::grpc_web::Coder;
use super::h1::connection::{Broken, Step};
use super::head::Fields;
use super::session::Session;

/// Which end of a pump failed.
#[derive(Debug)]
pub enum Failed {
    /// The one that sends.
    From(Broken),
    /// The one that receives.
    To(Broken),
}

/// Moves one body; polled by whoever relays.
#[derive(Debug, Default)]
pub struct Pump {
    state: State,
    bytes: u64,
    replay: Option<Replay>,
    trailers: Option<Box<Fields>>,
    /// The end of what is moved is the end of the connection's direction.
    half_close: bool,
    /// What the body is translated by.
    coder: Option<Box<Coder>>,
    /// The longest body that is moved.
    most: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Moving,
    /// All of it was read; the end is still to be sent.
    Ending,
    Flushing,
    Done,
}

/// What was moved already, for another try.
#[derive(Debug)]
struct Replay {
    data: Vec<u8>,
    sent: usize,
    limit: usize,
}

impl Pump {
    /// A pump that keeps up to `replay` bytes for another try.
    #[must_use]
    pub fn new(replay: Option<usize>) -> Self {
        let replay = replay.map(|limit| Replay { data: Vec::new(), sent: 0, limit });
        Self { replay, ..Self::default() }
    }

    /// For a message without a body: nothing is left to do but to send what waits.
    #[must_use]
    pub fn empty(replay: Option<usize>) -> Self {
        Self { state: State::Ending, ..Self::new(replay) }
    }

    /// For connections that have become tunnels: the end of one direction closes that direction of the other.
    #[must_use]
    pub fn tunnel() -> Self {
        Self { half_close: true, ..Self::default() }
    }

    /// Moves the body through `coder`, if there is one.
    #[must_use]
    pub fn through(self, coder: Option<Box<Coder>>) -> Self {
        Self { coder, ..self }
    }

    /// Fails when the body is longer than that.
    #[must_use]
    pub fn at_most(self, most: Option<u64>) -> Self {
        Self { most, ..self }
    }

    /// Body bytes that were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether everything was sent on.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the body could be sent again from its first byte.
    #[must_use]
    pub fn can_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// All of the body as it was sent, if it was read to its end and not too long to be kept.
    #[must_use]
    pub fn kept(&self) -> Option<&[u8]> {
        let whole = self.state != State::Moving;
        self.replay.as_ref().filter(|_| whole).map(|replay| replay.data.as_slice())
    }

    /// Begins again, towards another session. False if that is impossible.
    pub fn rewind(&mut self) -> bool {
        let Some(replay) = &mut self.replay else { return false };
        replay.sent = 0;
        self.state = if self.state == State::Moving { State::Moving } else { State::Ending };
        true
    }

    /// The trailers that passed.
    #[must_use]
    pub fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_deref()
    }

    /// Moves what can be moved now; ready once the end was sent. What was gathered is always sent before waiting.
    ///
    /// # Errors
    /// Says which end failed.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Session,
        to: &mut Session,
    ) -> Poll<Result<(), Failed>> {
        loop {
            if let Some(replay) = &mut self.replay
                && replay.sent < replay.data.len()
                && self.state != State::Done
            {
                let unsent = &replay.data[replay.sent..];
                replay.sent += ready!(to.poll_write_body(context, unsent)).map_err(Failed::To)?;
                continue;
            }
            if let Some(coder) = &mut self.coder
                && !coder.out.is_empty()
                && self.state != State::Done
            {
                let moved = ready!(to.poll_write_body(context, &coder.out)).map_err(Failed::To)?;
                keep(&mut self.replay, &coder.out[..moved]);
                coder.out.advance(moved);
                continue;
            }
            match self.state {
                State::Moving => match from.poll_body(context) {
                    Poll::Pending => {
                        ready!(to.poll_flush(context)).map_err(Failed::To)?;
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(broken)) => return Poll::Ready(Err(Failed::From(broken))),
                    Poll::Ready(Ok(Step::Data)) if self.is_too_long(from.data().len()) => {
                        let most = self.most.unwrap_or_default();
                        return Poll::Ready(Err(Failed::From(Broken::TooLong(most))));
                    }
                    Poll::Ready(Ok(Step::Data)) if self.coder.is_some() => self.translate(from)?,
                    Poll::Ready(Ok(Step::Data)) => {
                        let moved = ready!(to.poll_write_body(context, from.data())).map_err(Failed::To)?;
                        keep(&mut self.replay, &from.data()[..moved]);
                        from.consume(moved);
                        self.bytes += moved as u64;
                    }
                    Poll::Ready(Ok(Step::End)) => {
                        self.trailers = from.take_trailers();
                        self.state = State::Ending;
                        if let Some(coder) = &mut self.coder {
                            coder.end(self.trailers.as_deref()).map_err(|text| Failed::From(text.into()))?;
                        }
                    }
                },
                State::Ending => {
                    if self.half_close
                        && let Some(connection) = to.as_h1()
                    {
                        connection.half_close();
                    }
                    let in_body = self.coder.as_ref().is_some_and(|coder| coder.takes_trailers());
                    let trailers = if in_body { None } else { self.trailers.as_deref() };
                    to.finish(trailers).map_err(Failed::To)?;
                    self.state = State::Flushing;
                }
                State::Flushing => {
                    ready!(to.poll_flush(context)).map_err(Failed::To)?;
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_too_long(&self, more: usize) -> bool {
        self.most.is_some_and(|most| self.bytes + more as u64 > most)
    }

    /// Ends a body before its time, with trailers of our own: what is still to be sent of it, if they are put there.
    pub(crate) fn cut_with(&mut self, trailers: &Fields) -> Option<BytesMut> {
        let coder = self.coder.as_mut().filter(|coder| coder.takes_trailers())?;
        // Only the decoding of what a caller sent can fail.
        coder.end(Some(trailers)).ok()?;
        Some(std::mem::take(&mut coder.out))
    }

    /// Takes a piece into the coder; its translation is sent before another is taken.
    fn translate(&mut self, from: &mut Session) -> Result<(), Failed> {
        let Some(coder) = &mut self.coder else { return Ok(()) };
        let count = from.data().len();
        coder.feed(from.data()).map_err(|text| Failed::From(text.into()))?;
        from.consume(count);
        self.bytes += count as u64;
        Ok(())
    }
}

/// Remembers what was moved for another try, up to the limit.
fn keep(kept: &mut Option<Replay>, moved: &[u8]) {
    let Some(replay) = kept else { return };
    if replay.data.len() + moved.len() > replay.limit {
        *kept = None;
    } else {
        replay.data.extend_from_slice(moved);
        replay.sent = replay.data.len();
    }
}
