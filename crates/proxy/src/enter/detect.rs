//! Ports whose protocol nobody declared: HTTP is served request by request, anything else is moved as it is.
//!
//! Callers of HTTP nearly always speak at once. Where nobody does, the other side is connected, so that a server that
//! speaks first is not kept waiting; whoever then speaks first decides.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::BytesMut;
use lateen_engine::Decision;
use lateen_runtime::stream::Stream;
use tokio_util::io::poll_read_buf;

use super::preface::{self, Seen};
use crate::http::exchange::Entry;
use crate::http::serve;
use crate::tcp::forward::{self, Reached};
use crate::worker::Worker;

/// Looks at the first bytes and does what they say; `otherwise` is for what is not HTTP, `reached` a connection that
/// was made for it already.
pub(super) async fn run(
    worker: Rc<Worker>,
    mut stream: Stream,
    mut read_before: BytesMut,
    entry: Entry,
    otherwise: Decision,
    mut reached: Option<Reached>,
) {
    let wait = worker.settings().detect;
    let seen = match preface::look(&worker, &mut stream, &mut read_before, wait).await {
        Ok(Seen::Nothing) => match &otherwise {
            Decision::Forward(to) => {
                if reached.is_none() {
                    reached = match forward::reach(&worker, to).await {
                        Ok(reached) => Some(reached),
                        Err(unreached) => return drop(unreached.record(&worker, &entry, to)),
                    };
                }
                match &mut reached {
                    Some(reached) => who_speaks(&worker, &mut stream, &mut read_before, reached).await,
                    None => Ok(Seen::Nothing),
                }
            }
            _ => preface::look(&worker, &mut stream, &mut read_before, worker.settings().idle).await,
        },
        seen => seen,
    };
    match (seen, otherwise) {
        (Err(error), _) => tracing::debug!(%error, "connection ended before its first byte"),
        (Ok(seen @ (Seen::Http1 | Seen::Http2)), _) => {
            if let Some(reached) = reached {
                reached.leave_to_requests(&worker);
            }
            match seen {
                Seen::Http2 => super::serve_h2(worker, stream, read_before, entry).await,
                _ => serve::h1(worker, stream, read_before, entry).await,
            }
        }
        (Ok(_), Decision::Forward(to)) => match reached {
            Some(reached) => forward::relay(worker, stream, read_before, entry, to, reached).await,
            None => forward::run(worker, stream, read_before, entry, to).await,
        },
        (Ok(_), otherwise) => Box::pin(super::act(worker, stream, read_before, entry, otherwise)).await,
    }
}

/// Waits for the first byte of either side. What the server says first is kept for the relay.
async fn who_speaks(
    worker: &Worker,
    stream: &mut Stream,
    read_before: &mut BytesMut,
    reached: &mut Reached,
) -> io::Result<Seen> {
    let wait = worker.settings().tcp_idle;
    let mut limit = worker.deadlines().after(wait);
    read_before.reserve(1024);
    let mut answer = BytesMut::with_capacity(1024);
    let caller_spoke = poll_fn(|context| {
        if let Poll::Ready(read) = poll_read_buf(Pin::new(&mut *stream), context, read_before) {
            return Poll::Ready(read.map(|read| read > 0));
        }
        if let Poll::Ready(read) = poll_read_buf(Pin::new(reached.stream()), context, &mut answer) {
            return Poll::Ready(read.map(|_| false));
        }
        Pin::new(&mut limit).poll(context).map(|()| Ok(false))
    })
    .await?;
    *reached.read_before() = answer;
    if caller_spoke {
        return preface::look(worker, stream, read_before, worker.settings().head_time).await;
    }
    Ok(Seen::Other)
}
