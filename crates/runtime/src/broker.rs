//! The way out of a network namespace that has no way out.
//!
//! A process inside a pod asks the broker, which lives outside, to connect, to listen or to give a socket to the name
//! server, and gets the open socket back. One JSON message a question and one an answer over a `SOCK_SEQPACKET`
//! pair, the socket travelling with the answer; answers come in any order and carry the question's id. This file has
//! the messages, for both ends, and the asking end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use crate::sock::{receive_message, send_message, watch};

/// The longest message either side may send, in bytes.
pub const MAX_MESSAGE: usize = 4_096;

/// Questions that may wait for an answer at once; more of them wait to be asked.
const MAX_WAITING: usize = 4_096;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    #[serde(flatten)]
    pub ask: Ask,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A TCP connection to this address.
    Connect(SocketAddr),
    /// A listening TCP socket on the machine.
    Listen { port: u16 },
    /// A UDP socket connected to the machine's first name server.
    Resolver {},
}

/// An answer; without an error a socket travels with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub id: u64,
    /// What went wrong, as a text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What went wrong, as the system's number, where the system said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Where a listening socket can be reached, which may differ from what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<SocketAddr>,
}

impl Answer {
    /// The answer that carries a socket.
    pub fn granted(id: u64, published: Option<SocketAddr>) -> Self {
        Self { id, published, ..Self::default() }
    }

    /// The answer that says why not.
    pub fn refused(id: u64, error: &io::Error) -> Self {
        Self { id, error: Some(error.to_string()), errno: error.raw_os_error(), published: None }
    }

    /// The error of a refusal, as the same error that the system would have given here.
    fn failure(&self) -> Option<io::Error> {
        match (self.errno, &self.error) {
            (Some(errno), _) => Some(io::Error::from_raw_os_error(errno)),
            (None, Some(error)) => Some(io::Error::other(error.clone())),
            (None, None) => None,
        }
    }
}

/// Reads one message as JSON.
///
/// # Errors
/// `InvalidData` when it is not what it should be.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one message as JSON.
///
/// # Errors
/// `InvalidInput` when it is too long for the other end.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the broker message is too long"));
    }
    Ok(bytes)
}

type Granted = (Answer, OwnedFd);
type Waiting = oneshot::Sender<io::Result<Granted>>;

/// The asking end. Clones ask the same broker, from any thread.
#[derive(Clone, Debug)]
pub struct Broker {
    questions: mpsc::Sender<(Ask, Waiting)>,
}

impl Broker {
    /// Starts to ask over `socket`, one end of a [`crate::sock::seqpacket_pair`]. The work is done by a task of the
    /// current runtime; it ends with the last clone, or when the broker goes away.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn start(socket: OwnedFd) -> io::Result<Self> {
        let socket = watch(socket)?;
        let (questions, queue) = mpsc::channel(64);
        tokio::spawn(Conversation { socket, waiting: HashMap::new(), last_id: 0 }.run(queue));
        Ok(Self { questions })
    }

    /// A connection to `address`, made outside. The caller limits the time.
    ///
    /// # Errors
    /// What connecting said outside; `BrokenPipe` when there is no broker any more.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let (_, socket) = self.ask(Ask::Connect(address)).await?;
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A listening, non-blocking socket outside, and where it can be reached.
    ///
    /// # Errors
    /// As [`Broker::connect`].
    pub async fn listen(&self, port: u16) -> io::Result<(std::net::TcpListener, SocketAddr)> {
        let (answer, socket) = self.ask(Ask::Listen { port }).await?;
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let published = answer.published.map_or_else(|| listener.local_addr(), Ok)?;
        Ok((listener, published))
    }

    /// A socket connected to the machine's name server.
    ///
    /// # Errors
    /// As [`Broker::connect`].
    pub async fn resolver(&self) -> io::Result<UdpSocket> {
        let (_, socket) = self.ask(Ask::Resolver {}).await?;
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    async fn ask(&self, ask: Ask) -> io::Result<Granted> {
        let gone =
            || io::Error::new(io::ErrorKind::BrokenPipe, "the broker is gone; is `lateen up` running?");
        let (sender, answer) = oneshot::channel();
        self.questions.send((ask, sender)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// The task behind the clones of a [`Broker`].
struct Conversation {
    socket: AsyncFd<OwnedFd>,
    waiting: HashMap<u64, Waiting>,
    last_id: u64,
}

impl Conversation {
    async fn run(mut self, mut queue: mpsc::Receiver<(Ask, Waiting)>) {
        let mut asking = true;
        let mut buffer = vec![0; MAX_MESSAGE];
        while asking || !self.waiting.is_empty() {
            let outcome = tokio::select! {
                question = queue.recv(), if asking && self.waiting.len() < MAX_WAITING => match question {
                    Some((ask, waiting)) => self.send(ask, waiting).await,
                    None => {
                        asking = false;
                        Ok(())
                    }
                },
                received = self.socket.async_io(Interest::READABLE, |socket| receive_message(socket, &mut buffer)) => {
                    received.and_then(|received| self.answered(&buffer[..received.length], received.descriptors))
                }
            };
            if let Err(error) = outcome {
                // Who still waits learns it from the dropped senders.
                return tracing::warn!(%error, waiting = self.waiting.len(), "lost the broker");
            }
        }
    }

    async fn send(&mut self, ask: Ask, waiting: Waiting) -> io::Result<()> {
        self.last_id += 1;
        let bytes = encode(&Request { id: self.last_id, ask })?;
        self.socket.async_io(Interest::WRITABLE, |socket| send_message(socket, &bytes, &[])).await?;
        self.waiting.insert(self.last_id, waiting);
        Ok(())
    }

    fn answered(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<()> {
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let answer: Answer = decode(bytes)?;
        let Some(waiting) = self.waiting.remove(&answer.id) else {
            tracing::debug!(id = answer.id, "the broker answered what nobody asked");
            return Ok(());
        };
        let granted = match (answer.failure(), descriptors.into_iter().next()) {
            (Some(error), _) => Err(error),
            (None, Some(socket)) => Ok((answer, socket)),
            (None, None) => Err(io::Error::new(io::ErrorKind::InvalidData, "the broker sent no socket")),
        };
        // Who asked may have given up: then the socket is closed here.
        drop(waiting.send(granted));
        Ok(())
    }
}

/// The answering end of the pair, for who serves.
#[derive(Debug)]
pub struct BrokerSocket(Arc<AsyncFd<OwnedFd>>);

impl Clone for BrokerSocket {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl BrokerSocket {
    /// Watches `socket`, one end of a [`crate::sock::seqpacket_pair`], on the current runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(Arc::new(watch(socket)?)))
    }

    /// The next question; `None` when the other end is gone.
    ///
    /// # Errors
    /// `InvalidData` for what is no question; the next one may be.
    pub async fn next(&self) -> io::Result<Option<Request>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let received =
            self.0.async_io(Interest::READABLE, |socket| receive_message(socket, &mut buffer)).await?;
        if received.length == 0 { Ok(None) } else { decode(&buffer[..received.length]).map(Some) }
    }

    /// Answers, with the socket if it is a grant.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn answer(&self, answer: &Answer, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = encode(answer)?;
        let sockets: &[_] = socket.as_slice();
        self.0.async_io(Interest::WRITABLE, |to| send_message(to.as_fd(), &bytes, sockets)).await
    }
}

#[cfg(test)]
mod tests;
