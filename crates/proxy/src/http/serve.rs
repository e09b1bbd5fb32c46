//! A connection that carries HTTP/1.1 requests, one after the other, until somebody has had enough.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use lateen_runtime::stream::Stream;
use tokio::io::AsyncWriteExt as _;

use super::exchange::{self, Entry, Heads, Next};
use super::h1::connection::{Broken, Connection};
use super::h2;
use super::head::MethodKind;
use super::session::Session;
use crate::enter::explicit;
use crate::fault::{Fault, Reason};
use crate::worker::Worker;

/// How long, and how much, is read from a client that is still talking when its connection is closed.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// Serves the requests of one connection, of which `read_before` was read already.
pub(crate) async fn h1(worker: Rc<Worker>, stream: Stream, read_before: BytesMut, entry: Entry) {
    let mut down = Session::H1(Box::new(Connection::new(stream, read_before)));
    let mut heads = Box::<Heads>::default();
    // Listened to from the first wait to the last: listening anew for each request would cost each of them.
    let drain = worker.shared.drain.clone();
    let mut draining = pin!(drain.begun());
    loop {
        let next = match next_request(&worker, &mut down, &mut heads, draining.as_mut()).await {
            Ok(true) if entry.explicit => match Box::pin(explicit(&worker, &entry, down, &mut heads)).await {
                Some((next, session)) => {
                    down = session;
                    next
                }
                None => return,
            },
            Ok(true)
                if heads.request.h2c
                    && !entry.facts.tls
                    && let Some(settings) = h2::upgrade::settings(&heads.request) =>
            {
                return Box::pin(to_h2(worker, down, &heads, settings, entry)).await;
            }
            Ok(true) => exchange::run(&worker, &entry, &mut down, &mut heads).await,
            Ok(false) => return,
            Err(refused) => {
                let Some((status, fault, details)) = answer_of(refused) else { return };
                let refusing =
                    exchange::refuse(&worker, &entry, &mut down, &mut heads, status, fault, details);
                Box::pin(refusing).await;
                Next::Linger
            }
        };
        match next {
            Next::KeepAlive => {}
            Next::Linger => return Box::pin(linger(&worker, down)).await,
            Next::Close => return,
        }
    }
}

/// A request to an explicit proxy. None: it was a CONNECT, and the connection has gone its way.
async fn explicit(
    worker: &Rc<Worker>,
    entry: &Entry,
    mut down: Session,
    heads: &mut Heads,
) -> Option<(Next, Session)> {
    let Some(entry) = explicit::entry_of(entry, &heads.request) else {
        let fault = Fault::downstream(Reason::Protocol, "the request names no destination");
        exchange::refuse(worker, entry, &mut down, heads, 400, fault, "proxy.no_destination").await;
        return Some((Next::Linger, down));
    };
    if heads.request.kind == MethodKind::Connect {
        if let Session::H1(connection) = down {
            explicit::connect(Rc::clone(worker), *connection, entry).await;
        }
        return None;
    }
    let next = exchange::run(worker, &entry, &mut down, heads).await;
    Some((next, down))
}

/// The request asks that the connection becomes one of HTTP/2, whose first it then is.
async fn to_h2(worker: Rc<Worker>, down: Session, heads: &Heads, settings: Vec<u8>, entry: Entry) {
    let Session::H1(connection) = down else { return };
    let (mut stream, read, _) = connection.into_parts();
    let stream_idle = worker.settings().stream_idle;
    let answered = worker.deadlines().within(stream_idle, stream.write_all(h2::upgrade::SWITCHING)).await;
    if matches!(answered, Ok(Ok(()))) {
        let stream = h2::upgrade::upgraded(stream, read, &heads.request, settings);
        h2::server::serve(worker, stream, entry).await;
    }
}

/// Why there is no next request.
enum Refused {
    Broken(Broken),
    /// The head came too slowly.
    Slow,
}

/// Waits for a request. False: the connection is over, and nobody is owed an answer.
async fn next_request(
    worker: &Worker,
    down: &mut Session,
    heads: &mut Heads,
    mut draining: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, Refused> {
    let settings = worker.settings();
    let Session::H1(connection) = down else { return Ok(false) };
    let limits = settings.head;
    // Requests that were sent ahead, and those that came with the connection, need no timer.
    let first =
        poll_fn(|context| Poll::Ready(connection.poll_request(context, limits, &mut heads.request))).await;
    if let Poll::Ready(outcome) = first {
        return outcome.map_err(Refused::Broken);
    }
    let mut begun = connection.head_has_begun();
    let mut limit = worker.deadlines().after(if begun { settings.head_time } else { settings.idle });
    let mut looked = true;
    poll_fn(|context| {
        // The first look was just now, and asked to be woken.
        if !std::mem::take(&mut looked)
            && let Poll::Ready(outcome) = connection.poll_request(context, limits, &mut heads.request)
        {
            return Poll::Ready(outcome.map_err(Refused::Broken));
        }
        if !begun && connection.head_has_begun() {
            begun = true;
            limit.reset(settings.head_time);
        }
        if Pin::new(&mut limit).poll(context).is_ready() {
            return Poll::Ready(if begun { Err(Refused::Slow) } else { Ok(false) });
        }
        // A head that has begun is served to its end.
        if !begun && draining.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(false));
        }
        Poll::Pending
    })
    .await
}

/// The status, the fault and its name, if the client is still there to hear of it.
fn answer_of(refused: Refused) -> Option<(u16, Fault, &'static str)> {
    match refused {
        Refused::Slow => {
            let fault = Fault::downstream(Reason::SlowRequest, "the head of the request came too slowly");
            Some((408, fault, "request_header_timeout"))
        }
        Refused::Broken(Broken::Head(head)) => {
            let fault = Fault::downstream(Reason::Protocol, head.to_string());
            Some((head.status(), fault, head.details()))
        }
        Refused::Broken(broken) => {
            tracing::debug!(%broken, "connection ended");
            None
        }
    }
}

/// Closes without losing the answer: the kernel would throw it away together with what the client still sends.
async fn linger(worker: &Worker, down: Session) {
    let Session::H1(mut connection) = down else { return };
    connection.half_close();
    let closing = async {
        if poll_fn(|context| connection.poll_flush(context)).await.is_err() {
            return;
        }
        connection.discard_input(LINGER_BYTES).await;
    };
    // Over time or not, the connection is closed now.
    let _ = worker.deadlines().within(LINGER, closing).await;
}
