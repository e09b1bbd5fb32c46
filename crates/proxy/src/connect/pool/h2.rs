//! HTTP/2: connections that requests share.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use lateen_engine::Hop;
use lateen_runtime::stream::Stream;
use tokio::sync::Mutex;

use super::{Lease, Pool, Ticket, Upstream};
use crate::connect::breaker::{Counted, Group};
use crate::connect::first_words::FirstWords;
use crate::connect::{keepalive, open, terms::Terms};
use crate::fault::{Fault, Reason, Retry};
use crate::http::h2::flow::Flow;
use crate::http::h2::heads;
use crate::http::head::RequestHead;
use crate::http::session::Session;
use crate::worker::Worker;

/// The connections of one hop.
#[derive(Default)]
pub(super) struct Shared {
    open: RefCell<Vec<Multiplexed>>,
    /// Held while a connection is made, so that many requests at once make one, not many.
    making: Mutex<()>,
    /// How often that failed, and why the last time: who waited for it fails with it.
    failed: RefCell<(u64, Option<Fault>)>,
}

/// An HTTP/2 connection that requests share.
#[derive(Clone)]
struct Multiplexed {
    requests: SendRequest<Bytes>,
    /// One for the pool, one for each request under upstream.
    users: Rc<()>,
    ticket: Option<Rc<Ticket>>,
}

/// A request under way on a shared connection.
pub(super) struct User {
    _users: Rc<()>,
    ticket: Option<Rc<Ticket>>,
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(ticket) = &self.ticket {
            ticket.tell_freed();
        }
    }
}

impl Pool {
    /// Begins a request on an HTTP/2 connection, new if none has room.
    ///
    /// # Errors
    /// See [`open`]; also when the request has no form in HTTP/2, or a limit is met.
    pub(crate) async fn begin_h2(
        &self,
        worker: &Rc<Worker>,
        upstream: Upstream<'_>,
        request: &RequestHead,
        scheme: &'static str,
    ) -> Result<Lease, Fault> {
        let head = heads::write_request(request, request.framing, scheme)
            .map_err(|error| Fault::downstream(Reason::Protocol, error.to_string()))?;
        let shared = self.shared(upstream);
        let terms = Terms::of(worker.settings(), upstream.group);
        let (multiplexed, reused) = match shared.find(terms.streams).await {
            Some(found) => (found, true),
            None => Box::pin(shared.obtain(worker, upstream, &terms)).await?,
        };
        let ends = request.framing.is_empty();
        let Multiplexed { mut requests, users, ticket } = multiplexed;
        if let Some(ticket) = &ticket {
            ticket.count();
        }
        let hop = upstream.hop;
        let (response, body) = requests
            .send_request(head, ends)
            .map_err(|error| Fault::connect(Reason::Reset, format!("send a request to {hop:?}: {error}")))?;
        let session = Session::H2(Box::new(Flow::client(response, body, ends)));
        let user = User { _users: users, ticket: ticket.clone() };
        Ok(Lease { session, reused, ticket, _user: Some(user) })
    }

    fn shared(&self, upstream: Upstream<'_>) -> Rc<Shared> {
        let mut table = self.shared.borrow_mut();
        match table.get(&upstream) {
            Some(shared) => Rc::clone(shared),
            None => Rc::clone(table.entry(upstream.key()).or_default()),
        }
    }
}

impl Shared {
    async fn find(&self, most: usize) -> Option<Multiplexed> {
        loop {
            let candidate = {
                let mut open = self.open.borrow_mut();
                open.retain(|shared| !shared.is_spent());
                open.iter().find(|shared| Rc::strong_count(&shared.users) <= most).cloned()?
            };
            let Multiplexed { requests, users, ticket } = candidate;
            match requests.ready().await {
                Ok(requests) => return Some(Multiplexed { requests, users, ticket }),
                // The connection has ended or is ending.
                Err(_) => self.open.borrow_mut().retain(|shared| !Rc::ptr_eq(&shared.users, &users)),
            }
        }
    }

    /// A connection with room; the second value says whether it carried other requests.
    async fn obtain(
        &self,
        worker: &Rc<Worker>,
        upstream: Upstream<'_>,
        terms: &Terms,
    ) -> Result<(Multiplexed, bool), Fault> {
        let breakers = &worker.shared.breakers;
        let pending = |group: &Rc<Group>| {
            group.take(Counted::Pending).ok_or_else(|| group.overflow(breakers, Counted::Pending))
        };
        let _pending = upstream.group.map(pending).transpose()?;
        let failures = self.failed.borrow().0;
        loop {
            let _making = self.making.lock().await;
            // Somebody else may have made one while we waited, or found that it cannot be.
            if let Some(found) = self.find(terms.streams).await {
                return Ok((found, true));
            }
            if let (count, Some(fault)) = &*self.failed.borrow()
                && *count != failures
            {
                return Err(fault.clone());
            }
            let ticket = match upstream.group {
                None => None,
                Some(group) => match Ticket::take(worker, group) {
                    Some(ticket) => Some(Rc::new(ticket)),
                    None => {
                        group.count_overflow(breakers, Counted::Connections);
                        group.freed().await;
                        continue;
                    }
                },
            };
            let made = self.make(worker, upstream.hop, terms, ticket).await;
            if let Err(fault) = &made {
                let mut failed = self.failed.borrow_mut();
                *failed = (failed.0 + 1, Some(fault.clone()));
            }
            return Ok((made?, false));
        }
    }

    async fn make(
        &self,
        worker: &Rc<Worker>,
        hop: &Hop,
        terms: &Terms,
        ticket: Option<Rc<Ticket>>,
    ) -> Result<Multiplexed, Fault> {
        let stream = open(worker, hop, terms).await?;
        let (stream, heard) = FirstWords::of(stream);
        let (requests, connection) = handshake(worker, stream, terms).await?;
        let (pings, place) = (terms.pings, ticket.clone());
        worker.spawn(async move {
            // How it ends is told to each of its streams.
            keepalive::drive(connection, pings).await;
            drop(place);
        });
        match worker.deadlines().within(terms.connect, heard).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                let text = format!("begin HTTP/2 with {hop:?}: closed before a word; does it speak HTTP/2?");
                return Err(Fault::connect(Reason::ConnectFailure, text));
            }
            Err(_) => return Err(Fault::connect(Reason::ConnectTimeout, "begin HTTP/2: timed out")),
        }
        let users = Rc::new(());
        let shared = Multiplexed { requests, users, ticket };
        self.open.borrow_mut().push(shared.clone());
        let Multiplexed { requests, users, ticket } = shared;
        let requests = requests.ready().await.map_err(|error| {
            Fault::connect(Reason::ConnectFailure, format!("begin HTTP/2 with {hop:?}: {error}"))
        })?;
        Ok(Multiplexed { requests, users, ticket })
    }

    /// Forgets connections that have served enough; forgetting the last handle ends them. Whether any is left.
    pub(super) fn tidy(&self) -> bool {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| !shared.is_spent());
        !open.is_empty()
    }

    pub(super) fn clear(&self) {
        self.open.borrow_mut().clear();
    }

    /// Forgets a connection that carries nothing.
    pub(super) fn close_one(&self) -> bool {
        let mut open = self.open.borrow_mut();
        let unused = open.iter().position(|shared| Rc::strong_count(&shared.users) == 1);
        unused.map(|at| open.swap_remove(at)).is_some()
    }
}

impl Multiplexed {
    fn is_spent(&self) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| ticket.is_spent())
    }
}

async fn handshake(
    worker: &Worker,
    stream: FirstWords<Stream>,
    terms: &Terms,
) -> Result<(SendRequest<Bytes>, h2::client::Connection<FirstWords<Stream>, Bytes>), Fault> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .max_header_list_size(worker.settings().head.bytes as u32)
        .max_send_buffer_size(256 * 1024)
        .enable_push(false);
    match worker.deadlines().within(terms.connect, builder.handshake(stream)).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => {
            Err(Fault::connect(Reason::ConnectFailure, format!("begin HTTP/2: {error}")).retry(Retry::Safe))
        }
        Err(_) => Err(Fault::connect(Reason::ConnectTimeout, "begin HTTP/2: timed out")),
    }
}
