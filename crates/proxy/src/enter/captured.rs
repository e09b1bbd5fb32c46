//! Redirected sockets: where did the application mean to go.

use std::io;
use std::net::SocketAddr;

use lateen_runtime::sock;
use tokio::net::TcpStream;

/// The address that the connection was made to before it was redirected to `local`.
///
/// # Errors
/// The kernel does not know, or the connection was made to the listener itself: sent on it would come back for ever.
pub(crate) fn destination(tcp: &TcpStream, local: SocketAddr) -> io::Result<SocketAddr> {
    let destination = sock::original_destination(tcp)?;
    if destination == local {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the connection was not redirected to the proxy",
        ));
    }
    Ok(destination)
}
