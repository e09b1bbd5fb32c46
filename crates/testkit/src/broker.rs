//! The broker's answering end: ports that a gateway asks for are opened on any free one.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use lateen_runtime::broker::{Answer, Ask, BrokerSocket, Request};

/// Answers until the other end closes.
pub(crate) async fn serve(socket: OwnedFd) -> io::Result<()> {
    let socket = BrokerSocket::new(socket)?;
    while let Some(Request { id, ask }) = socket.next().await? {
        match ask {
            Ask::Listen { .. } => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                let at = listener.local_addr()?;
                socket.answer(&Answer::granted(id, Some(at)), Some(listener.as_fd())).await?;
            }
            Ask::Connect(_) | Ask::Resolver {} => {
                let no = io::Error::other("everything is reached directly here");
                socket.answer(&Answer::refused(id, &no), None).await?;
            }
        }
    }
    Ok(())
}
