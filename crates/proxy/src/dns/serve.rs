//! The sockets on which names are asked for.

use super::answer::{Names, Reply, answer};
use lateen_runtime::broker::Broker;
use lateen_runtime::drain::Drain;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions that may be under way with the machine's resolver; more are answered with a refusal.
const PASSED_ON: usize = 256;

/// TCP connections at once.
const CONNECTIONS: usize = 64;

/// The longest the machine's resolver may take, and a client between two questions.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where names that the mesh does not know are asked for.
#[derive(Clone)]
pub enum Resolver {
    /// Nowhere.
    Nobody,
    /// At this address.
    At {
        /// The resolver.
        address: SocketAddr,
        /// The mark that keeps the question from being redirected to ourselves.
        mark: Option<u32>,
    },
    /// At the machine's resolver, by a socket from the broker.
    Broker(Arc<Broker>),
}

impl Resolver {
    async fn ask(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let socket = match self {
            Self::Nobody => return Err(io::Error::new(io::ErrorKind::NotConnected, "no resolver is known")),
            Self::At { address, mark } => {
                let any: SocketAddr =
                    if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
                let socket = UdpSocket::bind(any).await?;
                if let Some(mark) = mark {
                    socket2::SockRef::from(&socket).set_mark(*mark)?;
                }
                socket.connect(address).await?;
                socket
            }
            Self::Broker(broker) => broker.resolver().await?,
        };
        socket.send(question).await?;
        let mut answer = vec![0; 4096];
        loop {
            let length = timeout(PATIENCE, socket.recv(&mut answer)).await??;
            // Whoever answers must know the number of the question.
            if length >= 12 && answer[..2] == question[..2] {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    }
}

async fn reply(
    packet: &[u8],
    datagram: bool,
    names: &dyn Names,
    resolver: &Resolver,
    slots: &Semaphore,
) -> Vec<u8> {
    match answer(packet, datagram, names) {
        Reply::Send(bytes) => bytes,
        Reply::Ignore => Vec::new(),
        Reply::PassOn { otherwise } => {
            let Ok(_slot) = slots.try_acquire() else { return otherwise };
            match resolver.ask(packet).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::debug!(%error, "name not resolved");
                    otherwise
                }
            }
        }
    }
}

/// Answers datagrams until the proxy ends. Runs on one worker.
pub async fn serve_udp<N: Names + 'static>(
    socket: UdpSocket,
    names: Rc<N>,
    resolver: Resolver,
    drain: Drain,
) {
    let (socket, slots) = (Rc::new(socket), Rc::new(Semaphore::new(PASSED_ON)));
    let mut packet = vec![0; 4096];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut packet) => received,
            () = drain.forced() => return,
        };
        // An ICMP answer to an earlier datagram shows up here as an error of the socket; it is not its end.
        let Ok((length, client)) = received else { continue };
        let question = packet[..length].to_vec();
        let (socket, names, resolver, slots) =
            (Rc::clone(&socket), Rc::clone(&names), resolver.clone(), Rc::clone(&slots));
        tokio::task::spawn_local(async move {
            let bytes = reply(&question, true, &*names, &resolver, &slots).await;
            if !bytes.is_empty() {
                let _ = socket.send_to(&bytes, client).await;
            }
        });
    }
}

/// Answers over TCP until the proxy ends. Runs on one worker.
pub async fn serve_tcp<N: Names + 'static>(
    listener: TcpListener,
    names: Rc<N>,
    resolver: Resolver,
    drain: Drain,
) {
    let (slots, connections) = (Rc::new(Semaphore::new(PASSED_ON)), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.forced() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let (names, resolver, slots) = (Rc::clone(&names), resolver.clone(), Rc::clone(&slots));
        tokio::task::spawn_local(async move {
            let _permit = permit;
            // The client's end, an error or silence: all end the connection, and none is worth a line.
            let _ = connection(stream, &*names, &resolver, &slots).await;
        });
    }
}

async fn connection(
    mut stream: TcpStream,
    names: &dyn Names,
    resolver: &Resolver,
    slots: &Semaphore,
) -> io::Result<()> {
    loop {
        let length = timeout(PATIENCE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(PATIENCE, stream.read_exact(&mut question)).await??;
        let bytes = reply(&question, false, names, resolver, slots).await;
        let Ok(length) = u16::try_from(bytes.len()) else { return Ok(()) };
        if length == 0 {
            return Ok(());
        }
        stream.write_u16(length).await?;
        stream.write_all(&bytes).await?;
    }
}
