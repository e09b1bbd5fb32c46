//! This worker's connections to applications and, inside tunnels, to other proxies, kept for the next request.
//!
//! HTTP/1.1: idle connections by hop, the last used first. HTTP/2: connections by hop that requests share.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;
use h2::client::SendRequest;
use hashbrown::HashMap;
use lateen_engine::Hop;
use lateen_runtime::clock::{self, Instant};
use lateen_runtime::stream::Stream;

use super::open;
use crate::fault::{Fault, Reason, Retry};
use crate::http::h1::connection::Connection;
use crate::http::h2::flow::Flow;
use crate::http::h2::heads;
use crate::http::head::RequestHead;
use crate::http::session::Session;
use crate::worker::Worker;

/// Idle connections that are kept for one hop.
const MOST_IDLE_PER_HOP: usize = 512;
/// How often connections that waited too long are closed.
const TIDY: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Hop, Vec<Idle>, RandomState>>,
    shared: RefCell<HashMap<Hop, Vec<Multiplexed>, RandomState>>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// An HTTP/2 connection that requests share.
#[derive(Clone)]
struct Multiplexed {
    requests: SendRequest<Bytes>,
    /// One for the pool, one for each request under way.
    users: Rc<()>,
}

/// A session towards an endpoint, with the request's head sent or about to be.
pub(crate) struct Lease {
    pub(crate) session: Session,
    /// The connection carried other requests before: that it was closed meanwhile says nothing of the endpoint.
    pub(crate) reused: bool,
    _user: Option<Rc<()>>,
}

impl Pool {
    /// Begins an HTTP/1.1 request: on an idle connection if there is one and `fresh` is not asked for.
    ///
    /// # Errors
    /// See [`open`].
    pub(crate) async fn begin_h1(
        &self,
        worker: &Rc<Worker>,
        hop: &Hop,
        fresh: bool,
        request: &RequestHead,
        now: Instant,
    ) -> Result<Lease, Fault> {
        let pooled = if fresh { None } else { self.take(hop, worker.settings().pool_idle, now) };
        let reused = pooled.is_some();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let stream = Box::pin(open(worker, hop)).await?;
                Box::new(Connection::new(stream, BytesMut::new()))
            }
        };
        connection.write_request(request, request.framing);
        Ok(Lease { session: Session::H1(connection), reused, _user: None })
    }

    /// Begins a request on an HTTP/2 connection, new if none has room.
    ///
    /// # Errors
    /// See [`open`]; also when the request has no form in HTTP/2.
    pub(crate) async fn begin_h2(
        &self,
        worker: &Rc<Worker>,
        hop: &Hop,
        request: &RequestHead,
        scheme: &'static str,
    ) -> Result<Lease, Fault> {
        let head = heads::write_request(request, request.framing, scheme)
            .map_err(|error| Fault::downstream(Reason::Protocol, error.to_string()))?;
        let (shared, reused) = match self.find_shared(hop, worker.settings().streams_per_connection).await {
            Some(shared) => (shared, true),
            None => (Box::pin(self.open_shared(worker, hop)).await?, false),
        };
        let ends = request.framing.is_empty();
        let Multiplexed { mut requests, users } = shared;
        let (response, body) = requests
            .send_request(head, ends)
            .map_err(|error| Fault::connect(Reason::Reset, format!("send a request to {hop:?}: {error}")))?;
        let session = Session::H2(Box::new(Flow::client(response, body, ends)));
        Ok(Lease { session, reused, _user: Some(users) })
    }

    async fn find_shared(&self, hop: &Hop, most: usize) -> Option<Multiplexed> {
        loop {
            let candidate = {
                let shared = self.shared.borrow();
                shared.get(hop)?.iter().find(|shared| Rc::strong_count(&shared.users) <= most).cloned()?
            };
            let Multiplexed { requests, users } = candidate;
            match requests.ready().await {
                Ok(requests) => return Some(Multiplexed { requests, users }),
                // The connection has ended or is ending.
                Err(_) => self.forget_shared(hop, &users),
            }
        }
    }

    fn forget_shared(&self, hop: &Hop, users: &Rc<()>) {
        if let Some(list) = self.shared.borrow_mut().get_mut(hop) {
            list.retain(|shared| !Rc::ptr_eq(&shared.users, users));
        }
    }

    async fn open_shared(&self, worker: &Rc<Worker>, hop: &Hop) -> Result<Multiplexed, Fault> {
        let stream = open(worker, hop).await?;
        let (requests, connection) = handshake(worker, stream).await?;
        worker.spawn(async move {
            // How it ends is told to each of its streams.
            let _ = connection.await;
        });
        let shared = Multiplexed { requests, users: Rc::new(()) };
        self.shared.borrow_mut().entry(hop.clone()).or_default().push(shared.clone());
        let requests = shared.requests.ready().await.map_err(|error| {
            Fault::connect(Reason::ConnectFailure, format!("begin HTTP/2 with {hop:?}: {error}"))
        })?;
        Ok(Multiplexed { requests, users: shared.users })
    }

    fn take(&self, hop: &Hop, idle: Duration, now: Instant) -> Option<Box<Connection>> {
        let mut table = self.idle.borrow_mut();
        let list = table.get_mut(hop)?;
        while let Some(mut candidate) = list.pop() {
            if now.saturating_duration_since(candidate.since) < idle && candidate.connection.is_reusable() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection whose request is over for the next one, if it can carry one.
    pub(crate) fn put(&self, hop: &Hop, mut connection: Box<Connection>, now: Instant) {
        if !connection.is_between_messages() {
            return;
        }
        connection.shrink();
        let idle = Idle { connection, since: now };
        let mut table = self.idle.borrow_mut();
        match table.get_mut(hop) {
            Some(list) if list.len() < MOST_IDLE_PER_HOP => list.push(idle),
            Some(_) => {}
            None => {
                table.insert(hop.clone(), vec![idle]);
            }
        }
    }

    /// Keeps a stream that was opened ahead of its first request.
    pub(crate) fn put_stream(&self, hop: &Hop, stream: Stream) {
        self.put(hop, Box::new(Connection::new(stream, BytesMut::new())), clock::now());
    }

    /// Closes what waited too long or was closed by the other side.
    fn tidy(&self, longest: Duration) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain_mut(|idle| idle.since.elapsed() < longest && idle.connection.is_reusable());
            !list.is_empty()
        });
        self.shared.borrow_mut().retain(|_, list| !list.is_empty());
    }
}

async fn handshake(
    worker: &Worker,
    stream: Stream,
) -> Result<(SendRequest<Bytes>, h2::client::Connection<Stream, Bytes>), Fault> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .max_header_list_size(worker.settings().head.bytes as u32)
        .max_send_buffer_size(256 * 1024)
        .enable_push(false);
    let handshake = worker.deadlines().within(worker.settings().connect, builder.handshake(stream)).await;
    match handshake {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => {
            Err(Fault::connect(Reason::ConnectFailure, format!("begin HTTP/2: {error}")).retry(Retry::Safe))
        }
        Err(_) => Err(Fault::connect(Reason::ConnectTimeout, "begin HTTP/2: timed out")),
    }
}

/// Tidies the pools of a worker for as long as it lives, and ends its connections when a drain has no more patience.
pub(crate) async fn keep_tidy(worker: Weak<Worker>) {
    loop {
        let parts =
            worker.upgrade().map(|worker| (worker.deadlines().after(TIDY), worker.shared.drain.clone()));
        let Some((deadline, drain)) = parts else { return };
        let forced = tokio::select! {
            () = deadline => false,
            () = drain.forced() => true,
        };
        let Some(worker) = worker.upgrade() else { return };
        if forced {
            return worker.abort_connections();
        }
        worker.pool.tidy(worker.settings().pool_idle);
        worker.tunnels.tidy();
    }
}
