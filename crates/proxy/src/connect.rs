//! `Hop` to a stream or to a session: the layers of a way out are data, matched here.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use lateen_engine::Hop;
use lateen_runtime::sock::{self, ConnectOptions};
use lateen_runtime::stream::Stream;
use tokio::net::TcpStream;

use crate::fault::{Fault, Reason};
use crate::worker::Worker;
use terms::Terms;

pub(crate) mod breaker;
pub(crate) mod first_words;
pub mod hbone;
pub(crate) mod keepalive;
pub mod pool;
pub(crate) mod resolve;
pub(crate) mod terms;
pub mod tls;

pub use breaker::Breakers;

/// Opens a new stream along `hop`.
///
/// # Errors
/// No connection, no certificate, a peer that is not who must answer, a tunnel that was refused; none of it has shown
/// the application a byte.
pub(crate) async fn open(worker: &Rc<Worker>, hop: &Hop, terms: &Terms) -> Result<Stream, Fault> {
    match hop {
        Hop::Local(address) => {
            let really = worker.shared.local_ports.get(&address.port()).unwrap_or(address);
            Ok(dial(worker, *really, terms).await?.into())
        }
        Hop::Plain(address) => Ok(dial(worker, *address, terms).await?.into()),
        Hop::Hbone { addr, authority, accept } => {
            Box::pin(hbone::open(worker, *addr, *authority, accept, terms)).await
        }
    }
}

/// A TCP connection, made by the broker where the address is out of reach.
pub(crate) async fn dial(worker: &Worker, address: SocketAddr, terms: &Terms) -> Result<TcpStream, Fault> {
    let shared = &worker.shared;
    let connecting = async {
        match &shared.broker {
            Some(broker) if !shared.is_local(address) => broker.connect(address).await,
            _ => {
                let options = ConnectOptions { mark: shared.mark, ..ConnectOptions::default() };
                sock::connect(address, &options).await
            }
        }
    };
    match worker.deadlines().within(terms.connect, connecting).await {
        Ok(Ok(stream)) => {
            if let Some(keepalive) = &terms.keepalive {
                // Only a help against peers that vanish; without it the request's own time still ends.
                let _ = sock::set_keepalive(&stream, keepalive.time, keepalive.interval, keepalive.probes);
            }
            Ok(stream)
        }
        Ok(Err(error)) => Err(refused(address, &error)),
        Err(_) => Err(Fault::connect(
            Reason::ConnectTimeout,
            format!("connect to {address}: timed out; does a firewall or NetworkPolicy drop it?"),
        )),
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> Fault {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "; does anything listen there?",
        _ => "",
    };
    Fault::connect(Reason::ConnectFailure, format!("connect to {address}: {error}{hint}"))
}

impl crate::worker::Shared {
    fn is_local(&self, address: SocketAddr) -> bool {
        address.ip().is_loopback() || self.local_ranges.iter().any(|range| range.contains(&address.ip()))
    }
}
