//! Ports whose protocol nobody declared: HTTP is served request by request, anything else is moved as it is.
//!
//! Callers of HTTP nearly always speak at once, and then nothing is done ahead. Where nobody has spoken after
//! [`GRACE`], the other side is connected while the caller is listened to, so that a server that speaks first is hardly
//! kept waiting: whoever then speaks first decides. A connection that was made ahead for a caller of HTTP is kept for its
//! requests.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use lateen_engine::{Decision, Forward};
use lateen_runtime::clock::{self, Duration};
use lateen_runtime::deadline::Deadline;
use lateen_runtime::stream::Stream;
use tokio_util::io::poll_read_buf;

use super::preface::{self, Seen};
use crate::http::exchange::Entry;
use crate::http::serve;
use crate::tcp::forward::{self, Reached, Unreached};
use crate::worker::Worker;

/// How long a caller may be silent before the other side is connected: longer than the way from a caller's `connect` to
/// its first write on one machine, and not felt by callers of a server that speaks first.
const GRACE: Duration = Duration::from_millis(2);
/// The first read of either side.
const FIRST_READ: usize = 8 * 1024;

/// Looks at the first bytes and does what they say; `otherwise` is for what is not HTTP, `reached` a connection that
/// was made for it already.
pub(super) async fn run(
    worker: Rc<Worker>,
    mut stream: Stream,
    mut read_before: BytesMut,
    entry: Entry,
    otherwise: Decision,
    reached: Option<Reached>,
) {
    let to = match otherwise {
        Decision::Forward(to) => to,
        otherwise => {
            let seen = patient_look(&worker, &mut stream, &mut read_before).await;
            return match seen {
                Err(error) => tracing::debug!(%error, "connection ended before its first byte"),
                Ok(Seen::Other | Seen::Nothing) => {
                    Box::pin(super::act(worker, stream, read_before, entry, otherwise)).await;
                }
                Ok(seen) => requests(worker, stream, read_before, entry, seen).await,
            };
        }
    };
    let mut ahead = Ahead {
        way: Way::of(reached),
        worker: Rc::clone(&worker),
        client: entry.facts.client.ip(),
        to: to.clone(),
    };
    match ahead.listen(&mut stream, &mut read_before).await {
        Err(error) => tracing::debug!(%error, "connection ended before its first byte"),
        Ok(seen @ (Seen::Http1 | Seen::Http2)) => {
            ahead.leave_to_requests().await;
            requests(worker, stream, read_before, entry, seen).await;
        }
        Ok(_) => match ahead.reached().await {
            Ok(reached) => forward::relay(worker, stream, read_before, entry, to, reached).await,
            Err(unreached) => drop(unreached.record(&worker, &entry, &to)),
        },
    }
}

async fn requests(worker: Rc<Worker>, stream: Stream, read_before: BytesMut, entry: Entry, seen: Seen) {
    match seen {
        Seen::Http2 => super::serve_h2(worker, stream, read_before, entry).await,
        _ => serve::h1(worker, stream, read_before, entry).await,
    }
}

/// Where there is no server that could speak first, the caller has all the time that idle connections have.
async fn patient_look(worker: &Worker, stream: &mut Stream, read: &mut BytesMut) -> io::Result<Seen> {
    let settings = worker.settings();
    match preface::look(worker, stream, read, settings.detect).await {
        Ok(Seen::Nothing) => preface::look(worker, stream, read, settings.idle).await,
        seen => seen,
    }
}

/// The other side, while it is not known whether it is needed.
struct Ahead {
    worker: Rc<Worker>,
    client: IpAddr,
    to: Forward,
    way: Way,
}

type Reaching = Pin<Box<dyn Future<Output = Result<Reached, Unreached>>>>;

enum Way {
    NotBegun,
    Reaching(Reaching),
    Ended(Box<Result<Reached, Unreached>>),
}

impl Way {
    fn of(reached: Option<Reached>) -> Self {
        reached.map_or(Way::NotBegun, |reached| Way::Ended(Box::new(Ok(reached))))
    }
}

impl Ahead {
    /// Waits until it is clear what is spoken. What either side said is kept for whoever goes on.
    async fn listen(&mut self, stream: &mut Stream, read: &mut BytesMut) -> io::Result<Seen> {
        let mut caller = Caller { stream, read, limit: None, hurried: false };
        if let Way::NotBegun = self.way
            && let Ok(seen) = clock::timeout(GRACE, poll_fn(|context| caller.poll_read(context))).await
        {
            return seen;
        }
        caller.limit = Some(self.worker.deadlines().after(self.worker.settings().tcp_idle));
        poll_fn(|context| {
            if let Poll::Ready(seen) = caller.poll(context, &self.worker) {
                return Poll::Ready(seen);
            }
            if self.poll_server(context).is_ready() {
                return Poll::Ready(Ok(Seen::Other));
            }
            if matches!(&self.way, Way::Ended(ended) if ended.is_err()) {
                // A caller of HTTP is still owed an answer, any other has nothing to wait for.
                caller.hurry(&self.worker);
            }
            caller.poll_limit(context)
        })
        .await
    }

    /// Connects; then ready as soon as the server has said something, or has gone.
    fn poll_server(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Way::NotBegun = self.way {
            self.way = Way::Reaching(reach(Rc::clone(&self.worker), self.client, self.to.clone()));
        }
        if let Way::Reaching(reaching) = &mut self.way
            && let Poll::Ready(ended) = reaching.as_mut().poll(context)
        {
            self.way = Way::Ended(Box::new(ended));
        }
        let Way::Ended(ended) = &mut self.way else { return Poll::Pending };
        let Ok(reached) = &mut **ended else { return Poll::Pending };
        let mut said = std::mem::take(reached.read_before());
        said.reserve(FIRST_READ);
        let spoke = poll_read_buf(Pin::new(reached.stream()), context, &mut said).map(drop);
        if spoke.is_ready() {
            *reached.read_before() = said;
        }
        spoke
    }

    /// The connection; made now if it was not begun.
    async fn reached(self) -> Result<Reached, Unreached> {
        match self.way {
            Way::NotBegun => reach(self.worker, self.client, self.to).await,
            Way::Reaching(reaching) => reaching.await,
            Way::Ended(ended) => *ended,
        }
    }

    /// Keeps what was made for requests. What is being made is waited for: the first request would have to make another.
    async fn leave_to_requests(self) {
        let Self { worker, way, .. } = self;
        let reached = match way {
            Way::NotBegun => return,
            Way::Ended(ended) => *ended,
            Way::Reaching(reaching) => {
                match worker.deadlines().within(worker.settings().detect, reaching).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Ok(reached) = reached {
            reached.leave_to_requests(&worker);
        }
    }
}

fn reach(worker: Rc<Worker>, client: IpAddr, to: Forward) -> Reaching {
    Box::pin(async move { forward::reach(&worker, client, &to).await })
}

/// The side that came to us.
struct Caller<'a> {
    stream: &'a mut Stream,
    read: &'a mut BytesMut,
    /// How long both sides may be silent; set while waiting.
    limit: Option<Deadline>,
    /// Whether the limit is the short one.
    hurried: bool,
}

impl Caller<'_> {
    /// Once the caller has begun to speak, it must soon be clear what.
    fn poll(&mut self, context: &mut Context<'_>, worker: &Worker) -> Poll<io::Result<Seen>> {
        let seen = self.poll_read(context);
        if seen.is_pending() && !self.read.is_empty() {
            self.hurry(worker);
        }
        seen
    }

    /// Reads until it is clear. A caller that ends its side without a word wants to hear the server.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Seen>> {
        loop {
            if let Some(seen) = preface::judge(self.read) {
                return Poll::Ready(Ok(seen));
            }
            self.read.reserve(FIRST_READ);
            match poll_read_buf(Pin::new(&mut *self.stream), context, self.read) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Seen::Other)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn hurry(&mut self, worker: &Worker) {
        if let Some(limit) = &mut self.limit
            && !self.hurried
        {
            self.hurried = true;
            limit.reset(worker.settings().detect);
        }
    }

    fn poll_limit(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Seen>> {
        match &mut self.limit {
            Some(limit) => Pin::new(limit).poll(context).map(|()| Ok(Seen::Other)),
            None => Poll::Pending,
        }
    }
}
