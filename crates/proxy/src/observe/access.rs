//! `Record`: what is told of one request, or of one connection that carried no requests.
//!
//! It borrows everything: making one costs nothing, and whoever writes it down decides what to copy.

use std::net::SocketAddr;
use std::time::Duration;

use lateen_engine::{Denial, Direction, Effective};
use lateen_model::{Identity, Workload};

use crate::fault::Fault;
use crate::tcp::relay::Moved;

/// Where records go: metrics and logs in a proxy, a list in a test. Called on the worker's thread, once at the end
/// of each request and of each forwarded connection; must not block.
pub trait Sink {
    /// Takes note.
    fn record(&self, record: &Record<'_>);

    /// A forwarded connection begins: `istio_tcp_connections_opened_total`.
    fn opened(&self, record: &Record<'_>) {
        let _ = record;
    }

    /// A forwarded connection goes on, and bytes have moved since it was last told of; now and then, not often.
    fn moved(&self, record: &Record<'_>) {
        let _ = record;
    }
}

/// One request or connection, at its end.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// How it came in: decides who reports (`source` for outbound, `destination` for inbound).
    pub direction: &'a Direction,
    /// What it was.
    pub what: What<'a>,
    /// From the first byte of the head (or the accept) to the last byte sent.
    pub duration: Duration,
    /// From the end of the request's head until the response's head came. None if none came.
    pub upstream_time: Option<Duration>,
    /// Body bytes (or stream bytes) from the caller.
    pub bytes_received: u64,
    /// Body bytes (or stream bytes) to the caller.
    pub bytes_sent: u64,
    /// What of these [`Sink::moved`] has told already.
    pub counted: Moved,
    /// The caller's address as we see it.
    pub client: SocketAddr,
    /// Where the connection was meant to go.
    pub destination: SocketAddr,
    /// The caller, proved by mTLS.
    pub peer: Option<&'a Identity>,
    /// Whether the caller's bytes came in over our mTLS.
    pub mutual_tls: bool,
    /// The name a TLS client asked for.
    pub server_name: Option<&'a str>,
    /// What was decided, once something was: route name, route, service.
    pub effective: Option<&'a Effective>,
    /// The endpoint of the last try.
    pub endpoint: Option<SocketAddr>,
    /// The workload of the last try, if the mesh knows it.
    pub workload: Option<&'a Workload>,
    /// The identities that were allowed to answer, if it went over mTLS.
    pub upstream_identity: Option<&'a Identity>,
    /// How often an endpoint was asked.
    pub attempts: u32,
    /// Why it was refused, if it was: carries the policy.
    pub denial: Option<&'a Denial>,
    /// What went wrong, if something did.
    pub fault: Option<&'a Fault>,
    /// Envoy's response flags, `-` for none.
    pub flags: &'a str,
    /// `response_code_details`: `via_upstream`, the name of the fault, or the denial's.
    pub details: &'a str,
}

/// What was going on.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A request.
    Http(Http<'a>),
    /// A connection whose bytes were moved as they are, or that was refused.
    Tcp,
}

/// What only requests have.
#[derive(Clone, Copy, Debug)]
pub struct Http<'a> {
    /// `HTTP/1.1` and so on.
    pub protocol: &'static str,
    /// The method; empty when the head could not be read.
    pub method: &'a str,
    /// Path and query as they arrived, before rewrites.
    pub path: &'a str,
    /// `Host` or `:authority`.
    pub authority: &'a str,
    /// `user-agent`.
    pub user_agent: Option<&'a str>,
    /// `x-request-id`, made here if it was missing.
    pub request_id: Option<&'a str>,
    /// `x-forwarded-for` as sent on.
    pub forwarded_for: Option<&'a str>,
    /// The status sent; 0 if none was.
    pub status: u16,
    /// `grpc-status` of trailers or head, when the request is gRPC.
    pub grpc_status: Option<u16>,
    /// Whether it is gRPC by its content type.
    pub grpc: bool,
}
