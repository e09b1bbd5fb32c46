//! An accepted socket to what is done with it: who comes, where to, and the first decision.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use lateen_engine::{ConnectionFacts, Decision, Direction, decide_connection};
use lateen_model::Str;
use lateen_pki::tls::ListenerSettings;
use lateen_runtime::stream::Stream;
use tokio::net::TcpStream;

use crate::http::exchange::Entry;
use crate::http::{h2, serve};
use crate::tcp::forward;
use crate::worker::Worker;

pub mod captured;
mod detect;
pub(crate) mod explicit;
pub mod hbone;
pub mod preface;
pub mod terminate;

/// What a listener is for.
#[derive(Clone)]
pub enum Door {
    /// What the application sends, redirected to us: the kernel knows where it was meant to go.
    Outbound,
    /// What others send to the application in plaintext, redirected to us.
    Inbound,
    /// Tunnels of other proxies.
    Hbone,
    /// What the application sends to an address that stands for one service (plain mode).
    Service {
        /// The host that the listener stands for.
        host: Str,
        /// The service's port.
        port: u16,
    },
    /// What others send in plaintext to a port of the workload (plain mode).
    Port {
        /// The workload's port.
        port: u16,
    },
    /// A listener of a gateway, with TLS or without.
    Gateway {
        /// The listener's port, by which routes know it; published ones may differ.
        port: u16,
        /// How TLS ends, if it ends here.
        tls: Option<Arc<ListenerSettings>>,
    },
    /// An explicit HTTP proxy for the application.
    Proxy,
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, tcp: TcpStream, door: Door) {
    let (Ok(client), Ok(local)) = (tcp.peer_addr(), tcp.local_addr()) else { return };
    let facts = |direction, destination| ConnectionFacts {
        direction,
        client,
        destination,
        destination_host: None,
        peer: None,
        sni: None,
        tls: false,
    };
    match door {
        Door::Hbone => Box::pin(hbone::serve(worker, tcp, client, local)).await,
        Door::Outbound | Door::Inbound => {
            let direction =
                if matches!(door, Door::Outbound) { Direction::Outbound } else { Direction::Inbound };
            match captured::destination(&tcp, local) {
                Ok(destination) => decide(worker, tcp.into(), facts(direction, destination)).await,
                Err(error) => tracing::debug!(%client, %error, "connection refused"),
            }
        }
        Door::Service { host, port } => {
            let facts = facts(Direction::Outbound, SocketAddr::new(local.ip(), port));
            let facts = ConnectionFacts { destination_host: Some(host), ..facts };
            decide(worker, tcp.into(), facts).await;
        }
        Door::Port { port } => {
            let facts = facts(Direction::Inbound, SocketAddr::new(local.ip(), port));
            decide(worker, tcp.into(), facts).await;
        }
        Door::Gateway { port, tls } => {
            let facts = facts(Direction::Gateway, SocketAddr::new(local.ip(), port));
            match tls {
                None => decide(worker, tcp.into(), facts).await,
                Some(settings) => Box::pin(terminate::serve(worker, tcp, &settings, facts)).await,
            }
        }
        Door::Proxy => {
            let facts = facts(Direction::Outbound, local);
            let entry = Entry { explicit: true, ..Entry::new(facts) };
            serve::h1(worker, tcp.into(), BytesMut::new(), entry).await;
        }
    }
}

/// Asks what is to be done with a connection, and does it.
pub(crate) async fn decide(worker: Rc<Worker>, stream: Stream, facts: ConnectionFacts) {
    let decision = decide_connection(&worker.snapshot(), &facts);
    let tls = stream.tls().and_then(|tls| tls.protocol_version());
    let entry = Entry { tls, ..Entry::new(facts) };
    act(worker, stream, BytesMut::new(), entry, decision).await;
}

/// Does what was decided with a connection, of which `read_before` was read already.
pub(crate) async fn act(
    worker: Rc<Worker>,
    mut stream: Stream,
    mut read_before: BytesMut,
    entry: Entry,
    decision: Decision,
) {
    match decision {
        Decision::Deny(denial) => forward::denied(&worker, &entry, &denial),
        Decision::Forward(forward) => {
            Box::pin(forward::run(worker, stream, read_before, entry, forward)).await;
        }
        Decision::Serve(_) => {
            let wait = worker.settings().idle;
            match preface::look(&worker, &mut stream, &mut read_before, wait).await {
                Ok(preface::Seen::Http2) => serve_h2(worker, stream, read_before, entry).await,
                Ok(preface::Seen::Nothing) | Err(_) => {}
                Ok(_) => serve::h1(worker, stream, read_before, entry).await,
            }
        }
        Decision::Detect(otherwise) => {
            Box::pin(detect::run(worker, stream, read_before, entry, *otherwise, None)).await;
        }
    }
}

async fn serve_h2(worker: Rc<Worker>, stream: Stream, read_before: BytesMut, entry: Entry) {
    let stream = preface::unread(stream, read_before);
    Box::pin(h2::server::serve(worker, stream, entry)).await;
}
