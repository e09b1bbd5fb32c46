//! Copies both ways in one task: each direction ends by itself (half-close), both end when one breaks or when nothing
//! moves for too long.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use lateen_runtime::deadline::Deadlines;
use lateen_runtime::stream::Stream;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

/// The first buffer of a direction, and what it may grow to while it is filled by single reads.
const SMALL: usize = 8 * 1024;
const LARGE: usize = 64 * 1024;

/// How much was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the caller.
    pub received: u64,
    /// To the caller.
    pub sent: u64,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both directions were closed.
    Closed,
    /// The caller's connection broke.
    Downstream(io::Error),
    /// The other connection broke.
    Upstream(io::Error),
    /// Nothing moved for too long.
    Idle,
}

/// A connection and what was read of it before the relay began.
pub struct Side {
    /// The connection.
    pub stream: Stream,
    /// Bytes that go to the other side first.
    pub read_before: BytesMut,
}

/// Relays until the end; counts in `moved` as it goes, for who ends it earlier.
pub async fn relay(
    down: &mut Side,
    up: &mut Side,
    idle: Duration,
    deadlines: &Deadlines,
    moved: &Cell<Moved>,
) -> End {
    let mut request = Direction::new(std::mem::take(&mut down.read_before));
    let mut response = Direction::new(std::mem::take(&mut up.read_before));
    let mut limit = deadlines.after(idle);
    poll_fn(|context| {
        let before = request.bytes + response.bytes;
        let to_up = request.poll(context, &mut down.stream, &mut up.stream);
        let to_down = response.poll(context, &mut up.stream, &mut down.stream);
        moved.set(Moved { received: request.bytes, sent: response.bytes });
        match (to_up, to_down) {
            (Poll::Ready(Err(Broke::Read(error))), _) | (_, Poll::Ready(Err(Broke::Write(error)))) => {
                return Poll::Ready(End::Downstream(error));
            }
            (Poll::Ready(Err(Broke::Write(error))), _) | (_, Poll::Ready(Err(Broke::Read(error)))) => {
                return Poll::Ready(End::Upstream(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        if request.bytes + response.bytes != before {
            limit.reset(idle);
        }
        Pin::new(&mut limit).poll(context).map(|()| End::Idle)
    })
    .await
}

enum Broke {
    Read(io::Error),
    Write(io::Error),
}

struct Direction {
    buffer: BytesMut,
    state: State,
    size: usize,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader saw the end: what is left is written, then the end is told.
    Ended,
    Done,
}

impl Direction {
    fn new(read_before: BytesMut) -> Self {
        Self { buffer: read_before, state: State::Open, size: SMALL, bytes: 0 }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Broke>> {
        loop {
            while !self.buffer.is_empty() {
                let written =
                    ready!(Pin::new(&mut *to).poll_write(context, &self.buffer)).map_err(Broke::Write)?;
                if written == 0 {
                    return Poll::Ready(Err(Broke::Write(io::ErrorKind::WriteZero.into())));
                }
                self.buffer.advance(written);
                self.bytes += written as u64;
            }
            match self.state {
                State::Open => match self.poll_fill(context, from) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broke::Read(error))),
                    Poll::Pending => {
                        ready!(Pin::new(&mut *to).poll_flush(context)).map_err(Broke::Write)?;
                        return Poll::Pending;
                    }
                },
                State::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(context)).map_err(Broke::Write)?;
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, from: &mut Stream) -> Poll<io::Result<()>> {
        self.buffer.reserve(self.size);
        let read = ready!(poll_read_buf(Pin::new(from), context, &mut self.buffer))?;
        if read == 0 {
            self.state = State::Ended;
        } else if read >= self.size {
            self.size = LARGE.min(self.size * 2);
        }
        Poll::Ready(Ok(()))
    }
}
