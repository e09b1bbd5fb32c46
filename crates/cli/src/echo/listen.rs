//! Sockets that listen on both families, and the loop that accepts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Error;

/// As many as the kernel allows by default.
const BACKLOG: i32 = 4096;

/// Opens `port` on one address, or on all addresses of both families; of IPv4 alone where the kernel
/// has no IPv6.
pub(super) fn open(address: Option<IpAddr>, port: u16) -> Result<TcpListener, Error> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let wanted = address.map_or(any, |address| SocketAddr::from((address, port)));
    let listener = match listen(wanted) {
        Err(error) if address.is_none() && lacks_ipv6(&error) => listen((Ipv4Addr::UNSPECIFIED, port).into()),
        other => other,
    };
    listener.map_err(|source| Error { address: wanted, source })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A service that restarts gets its port back at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn lacks_ipv6(error: &io::Error) -> bool {
    let lacking = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    lacking.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The next connection, or `None` when stopped and nobody waits any more: a client that the kernel has
/// already connected is served, not reset.
pub(super) async fn accept(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Small answers shall not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                return Some((stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())));
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                // Out of descriptors, most likely: leave time for some to be closed.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
