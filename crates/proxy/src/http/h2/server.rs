//! An HTTP/2 connection of a caller: driven by its own task, each of its requests an exchange in a task of its own.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use lateen_runtime::stream::Stream;

use super::flow::Flow;
use super::heads;
use crate::fault::{Fault, Reason};
use crate::http::exchange::{self, Entry, Heads, Next};
use crate::http::session::Session;
use crate::worker::Worker;

/// Requests that a caller may have under way on one connection.
const MOST_STREAMS: u32 = 256;
/// Requests that a caller may give up before their answers are complete, as long as it gives up more of them than it
/// lets end: each costs an application work for nothing (CVE-2023-44487). Envoy's number.
const MOST_GIVEN_UP: u32 = 500;

/// Serves the requests of one connection.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, entry: Entry) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(worker.settings().head.bytes as u32)
        .max_send_buffer_size(256 * 1024)
        .enable_connect_protocol();
    let handshake = worker.deadlines().within(worker.settings().head_time, builder.handshake(stream)).await;
    let connection = match handshake {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "no HTTP/2 connection"),
        Err(_) => return tracing::debug!("no HTTP/2 connection in time"),
    };
    let (entry, tally) = (Rc::new(entry), Rc::<Tally>::default());
    let task_worker = Rc::clone(&worker);
    drive(&worker, connection, move |parts, body, respond| {
        let (worker, entry) = (Rc::clone(&task_worker), Rc::clone(&entry));
        let request = one_request(Rc::clone(&worker), entry, Rc::clone(&tally), parts, body, respond);
        worker.spawn(request);
        tally.judge()
    })
    .await;
}

/// What a caller did with its requests.
#[derive(Default)]
struct Tally {
    begun: Cell<u32>,
    given_up: Cell<u32>,
}

impl Tally {
    /// Counts another request, and says whether the caller has gone too far.
    fn judge(&self) -> ControlFlow<h2::Reason> {
        self.begun.set(self.begun.get().saturating_add(1));
        if self.given_up.get() >= MOST_GIVEN_UP && self.given_up.get() > self.begun.get() / 2 {
            return ControlFlow::Break(h2::Reason::ENHANCE_YOUR_CALM);
        }
        ControlFlow::Continue(())
    }
}

/// Accepts streams until the connection ends, is idle for too long, or everything drains; or until `each` says that it
/// shall end here and now.
pub(crate) async fn drive<F>(worker: &Rc<Worker>, mut connection: Connection<Stream, Bytes>, mut each: F)
where
    F: FnMut(http::request::Parts, RecvStream, SendResponse<Bytes>) -> ControlFlow<h2::Reason>,
{
    let mut idle = worker.deadlines().after(worker.settings().idle);
    let mut draining = pin!(worker.shared.drain.begun());
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (parts, body) = request.into_parts();
                    if let ControlFlow::Break(reason) = each(parts, body, respond) {
                        tracing::debug!(%reason, "HTTP/2 connection is ended");
                        connection.abrupt_shutdown(reason);
                    }
                    idle.reset(worker.settings().idle);
                }
                Some(Err(error)) => return tracing::debug!(%error, "HTTP/2 connection ended"),
                None => return,
            },
            () = draining.as_mut(), if !ending => {
                ending = true;
                // GOAWAY: what is under way ends, nothing new begins.
                connection.graceful_shutdown();
                idle.reset(worker.settings().head_time);
            }
            () = &mut idle => match (connection.has_streams(), ending) {
                (true, false) => idle.reset(worker.settings().idle),
                (true, true) => idle.reset(worker.settings().head_time),
                (false, false) => {
                    ending = true;
                    connection.graceful_shutdown();
                    idle.reset(worker.settings().head_time);
                }
                // The caller was told, and had its time to say that it heard.
                (false, true) => return,
            },
        }
    }
}

async fn one_request(
    worker: Rc<Worker>,
    entry: Rc<Entry>,
    tally: Rc<Tally>,
    parts: http::request::Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
) {
    let mut request = Heads::default();
    let ends = body.is_end_stream();
    let read = heads::read_request(&parts, ends, worker.settings().head.fields, &mut request.request);
    drop(parts);
    let mut down = Session::H2(Box::new(Flow::server(body, respond)));
    match read {
        Ok(()) => {
            let next = exchange::run(&worker, &entry, &mut down, &mut request).await;
            let mut context = Context::from_waker(Waker::noop());
            if next == Next::Close && down.poll_gone(&mut context).is_ready() {
                tally.given_up.set(tally.given_up.get().saturating_add(1));
            }
        }
        Err(error) => {
            let fault = Fault::downstream(Reason::Protocol, error.to_string());
            let (status, details) = (error.status(), error.details());
            exchange::refuse(&worker, &entry, &mut down, &mut request, status, fault, details).await;
        }
    }
}
