//! Sockets: bound all at once before anything is served, then given to the workers.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;

use lateen_runtime::drain::Drain;
use lateen_runtime::sock::{self, ListenOptions};
use lateen_runtime::workers::WorkerContext;
use tokio::sync::mpsc;

use crate::dns::{Resolver, serve_tcp, serve_udp};
use crate::enter::Door;
use crate::gateways::Opened;
use crate::observe::view::View;
use crate::role::{Listeners, Listening, Sharing};
use crate::worker::Worker;
use crate::worker::accept::{LaneEnd, Spread, accept, accept_spread, accept_while, serve_lane, spread};

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
#[error("listen on {at} ({name}); is another process there, or does the port need a capability?")]
pub struct ListenError {
    name: &'static str,
    at: SocketAddr,
    #[source]
    source: io::Error,
}

/// A listener that is bound.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bound {
    /// What it is called.
    pub name: String,
    /// Where.
    pub address: SocketAddr,
}

/// What one worker serves.
#[derive(Default)]
pub(crate) struct Share {
    accepts: Vec<(TcpListener, Door)>,
    spreads: Vec<(TcpListener, Spread)>,
    lanes: Vec<(LaneEnd, Door)>,
    names: Vec<(UdpSocket, TcpListener)>,
    opened: Option<mpsc::UnboundedReceiver<Opened>>,
}

/// Binds everything, for so many workers.
///
/// # Errors
/// The first address that cannot be listened on. IPv6 may be missing from the machine: then it is left out.
pub(crate) fn bind(listeners: &Listeners, workers: usize) -> Result<(Vec<Share>, Vec<Bound>), ListenError> {
    let mut shares: Vec<Share> = (0..workers).map(|_| Share::default()).collect();
    let mut bound = Vec::new();
    for listening in &listeners.tcp {
        let address =
            tcp(listening, &mut shares).map_err(|source| failed(listening.name, listening.at, source));
        bound.extend(there(address, listening.name, listening.at)?);
    }
    for at in &listeners.dns {
        let address = names(*at, &mut shares[0]).map_err(|source| failed("dns", *at, source));
        bound.extend(there(address, "dns", *at)?);
    }
    Ok((shares, bound))
}

/// The workers' ends for listeners that come and go.
pub(crate) fn gateway(shares: &mut [Share]) -> Vec<mpsc::UnboundedSender<Opened>> {
    let lane = |share: &mut Share| {
        let (sender, receiver) = mpsc::unbounded_channel();
        share.opened = Some(receiver);
        sender
    };
    shares.iter_mut().map(lane).collect()
}

fn failed(name: &'static str, at: SocketAddr, source: io::Error) -> ListenError {
    ListenError { name, at, source }
}

/// A listener that is there; none where its whole family is missing.
fn there(
    address: Result<SocketAddr, ListenError>,
    name: &'static str,
    at: SocketAddr,
) -> Result<Option<Bound>, ListenError> {
    match address {
        Ok(address) => {
            tracing::info!(%address, name, "listening");
            Ok(Some(Bound { name: name.to_owned(), address }))
        }
        Err(error) if at.is_ipv6() && is_missing_family(&error.source) => {
            tracing::info!(address = %at, name, "not listening: there is no IPv6 here");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn tcp(listening: &Listening, shares: &mut [Share]) -> io::Result<SocketAddr> {
    let Listening { at, door, sharing, .. } = listening;
    match sharing {
        Sharing::EachWorker => {
            let (sockets, address) = one_for_each(*at, shares.len())?;
            for (share, socket) in shares.iter_mut().zip(sockets) {
                share.accepts.push((socket, door.clone()));
            }
            Ok(address)
        }
        Sharing::FewestOpen => {
            let socket = sock::listen(*at, &ListenOptions::default())?;
            let address = socket.local_addr()?;
            let (spread, lanes) = spread(shares.len());
            shares[0].spreads.push((socket, spread));
            for (share, lane) in shares.iter_mut().zip(lanes) {
                share.lanes.push((lane, door.clone()));
            }
            Ok(address)
        }
    }
}

/// So many sockets that share a port; with port 0 all get the one that the first was given.
pub(crate) fn one_for_each(at: SocketAddr, workers: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let options = ListenOptions { reuse_port: workers > 1, ..ListenOptions::default() };
    let first = sock::listen(at, &options)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(sock::listen(address, &options)?);
    }
    Ok((sockets, address))
}

fn names(at: SocketAddr, share: &mut Share) -> io::Result<SocketAddr> {
    let tcp = sock::listen(at, &ListenOptions::default())?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address)?;
    udp.set_nonblocking(true)?;
    share.names.push((udp, tcp));
    Ok(address)
}

/// Starts to serve a share, on its worker.
pub(crate) fn serve(share: Share, worker: &Rc<Worker>, context: &WorkerContext, resolver: &Resolver) {
    let Share { accepts, spreads, lanes, names, opened } = share;
    for (listener, door) in accepts {
        context.spawn(told(accept(Rc::clone(worker), listener, door)));
    }
    for (lane, door) in lanes {
        context.spawn(serve_lane(Rc::clone(worker), lane, door));
    }
    for (listener, spread) in spreads {
        context.spawn(told(accept_spread(Rc::clone(worker), listener, spread)));
    }
    for (udp, tcp) in names {
        context.spawn(told(answer(Rc::clone(worker), udp, tcp, resolver.clone())));
    }
    if let Some(opened) = opened {
        context.spawn(open(Rc::clone(worker), context.clone(), opened));
    }
}

/// An accept loop that cannot even begin is something to know of.
async fn told(serving: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "cannot serve a listener");
    }
}

async fn answer(worker: Rc<Worker>, udp: UdpSocket, tcp: TcpListener, resolver: Resolver) -> io::Result<()> {
    let (udp, tcp) = (tokio::net::UdpSocket::from_std(udp)?, tokio::net::TcpListener::from_std(tcp)?);
    let names = Rc::new(View::new(&worker.shared.snapshots));
    let drain: &Drain = &worker.shared.drain;
    tokio::join!(
        serve_udp(udp, Rc::clone(&names), resolver.clone(), drain.clone()),
        serve_tcp(tcp, names, resolver, drain.clone()),
    );
    Ok(())
}

/// Serves what a gateway opens while it runs.
async fn open(worker: Rc<Worker>, context: WorkerContext, mut opened: mpsc::UnboundedReceiver<Opened>) {
    while let Some(Opened { listener, doors }) = opened.recv().await {
        context.spawn(told(accept_while(Rc::clone(&worker), listener, doors)));
    }
}
