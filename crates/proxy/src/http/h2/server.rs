//! An HTTP/2 connection of a caller: driven by its own task, each of its requests an exchange in a task of its own.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use lateen_runtime::stream::Stream;

use super::flow::Flow;
use super::heads;
use crate::fault::{Fault, Reason};
use crate::http::exchange::{self, Entry, Heads};
use crate::http::session::Session;
use crate::worker::Worker;

/// Requests that a caller may have under way on one connection.
const MOST_STREAMS: u32 = 256;

/// Serves the requests of one connection.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, entry: Entry) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(worker.settings().head.bytes as u32)
        .max_send_buffer_size(256 * 1024);
    let handshake = worker.deadlines().within(worker.settings().head_time, builder.handshake(stream)).await;
    let connection = match handshake {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "no HTTP/2 connection"),
        Err(_) => return tracing::debug!("no HTTP/2 connection in time"),
    };
    let entry = Rc::new(entry);
    let task_worker = Rc::clone(&worker);
    drive(&worker, connection, move |parts, body, respond| {
        let (worker, entry) = (Rc::clone(&task_worker), Rc::clone(&entry));
        let request = one_request(Rc::clone(&worker), entry, parts, body, respond);
        worker.spawn(request);
    })
    .await;
}

/// Accepts streams until the connection ends, is idle for too long, or everything drains.
pub(crate) async fn drive<F>(worker: &Rc<Worker>, mut connection: Connection<Stream, Bytes>, mut each: F)
where
    F: FnMut(http::request::Parts, RecvStream, SendResponse<Bytes>),
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
                    each(parts, body, respond);
                    idle.reset(worker.settings().idle);
                }
                Some(Err(error)) => return tracing::debug!(%error, "HTTP/2 connection ended"),
                None => return,
            },
            () = draining.as_mut(), if !ending => {
                ending = true;
                // GOAWAY: what is under way ends, nothing new begins.
                connection.graceful_shutdown();
            }
            () = &mut idle, if !ending => {
                if connection.has_streams() {
                    idle.reset(worker.settings().idle);
                } else {
                    ending = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

async fn one_request(
    worker: Rc<Worker>,
    entry: Rc<Entry>,
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
            exchange::run(&worker, &entry, &mut down, &mut request).await;
        }
        Err(error) => {
            let fault = Fault::downstream(Reason::Protocol, error.to_string());
            let (status, details) = (error.status(), error.details());
            exchange::refuse(&worker, &entry, &mut down, &mut request, status, fault, details).await;
        }
    }
}
