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

/// How often it is told what moved on a connection that goes on (as Istio does).
const TELL: Duration = Duration::from_secs(15);

/// Relays until the end; counts in `moved` as it goes, for who ends it earlier, and calls `tell` now and then when
/// something has moved.
///
/// One slow tick serves for telling and for `idle`: bytes that move set no limit anew. A connection on which nothing
/// moves is ended up to one tick late.
pub async fn relay(
    down: &mut Side,
    up: &mut Side,
    idle: Duration,
    deadlines: &Deadlines,
    moved: &Cell<Moved>,
    mut tell: impl FnMut(),
) -> End {
    let mut request = Direction::new(std::mem::take(&mut down.read_before));
    let mut response = Direction::new(std::mem::take(&mut up.read_before));
    let tick = TELL.min(idle);
    let mut limit = deadlines.after(tick);
    let (mut told, mut quiet) = (0, Duration::ZERO);
    poll_fn(|context| {
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
        ready!(Pin::new(&mut limit).poll(context));
        if request.bytes + response.bytes == told {
            quiet += tick;
        } else {
            (told, quiet) = (request.bytes + response.bytes, Duration::ZERO);
            tell();
        }
        if quiet >= idle {
            return Poll::Ready(End::Idle);
        }
        limit.reset(tick);
        // Watched from this look on.
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

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_runtime::clock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    type Told = std::rc::Rc<std::cell::RefCell<Vec<Moved>>>;

    /// A relay between two ends, with paused time; `test` gets the far ends and what was told so far.
    fn check<F: Future<Output = ()>>(
        idle: Duration,
        test: impl FnOnce(DuplexStream, DuplexStream, Told) -> F,
    ) -> (End, Moved, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let side = || {
                let (near, far) = duplex(1024);
                (Side { stream: near.into(), read_before: BytesMut::new() }, far)
            };
            let ((mut down, caller), (mut up, server)) = (side(), side());
            let (deadlines, moved, told) = (Deadlines::default(), Cell::default(), Told::default());
            let seen = Told::clone(&told);
            let tell = || seen.borrow_mut().push(moved.get());
            let began = clock::now();
            let relaying = async {
                let end = relay(&mut down, &mut up, idle, &deadlines, &moved, tell).await;
                (end, began.elapsed())
            };
            let ((end, lasted), ()) = tokio::join!(relaying, test(caller, server, told));
            (end, moved.get(), lasted)
        })
    }

    #[test]
    fn what_moves_is_told_every_fifteen_seconds_while_it_moves() {
        let (end, moved, _) = check(Duration::from_secs(3600), async |mut caller, mut server, told| {
            for bytes in [5, 7] {
                caller.write_all(&vec![0; bytes]).await.expect("sent");
                server.read_exact(&mut vec![0; bytes]).await.expect("moved");
                clock::sleep(TELL + Duration::from_secs(1)).await;
            }
            clock::sleep(TELL * 4).await;
            let received: Vec<_> = told.borrow().iter().map(|moved| moved.received).collect();
            assert_eq!(received, [5, 12], "and nothing while nothing moves");
        });
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!(moved, Moved { received: 12, sent: 0 });
    }

    #[test]
    fn what_stands_still_ends_after_its_time_and_not_before() {
        let idle = Duration::from_secs(60);
        let (end, _, lasted) = check(idle, async |mut caller, mut server, _| {
            clock::sleep(idle / 2).await;
            caller.write_all(b"x").await.expect("sent");
            server.read_u8().await.expect("moved");
            // Both stay open for longer than that.
            clock::sleep(idle * 4).await;
        });
        assert!(matches!(end, End::Idle), "{end:?}");
        let still = lasted - idle / 2;
        assert!(still >= idle && still <= idle + TELL + Duration::from_secs(1), "{still:?}");
    }
}
