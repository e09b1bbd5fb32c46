//! One kept HTTP/1.1 connection: write the same bytes, find the end of the answer, again.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::response::{self, Body, Chunks};
use super::tally::{Answered, ErrorKind};

/// What is read at a time.
const BUFFER: usize = 32 << 10;

/// A connection to the target, made when it is needed.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// Bytes read and not yet understood; nothing stays here between requests.
    buffer: Vec<u8>,
    is_head_request: bool,
    is_idempotent: bool,
    pub(super) reconnects: u64,
}

/// A request that failed, and whether the server had begun to answer.
struct Failure {
    kind: ErrorKind,
    was_silent: bool,
}

impl Connection {
    pub(super) fn new(address: SocketAddr, is_head_request: bool, is_idempotent: bool) -> Self {
        let buffer = Vec::with_capacity(BUFFER);
        Connection { address, stream: None, buffer, is_head_request, is_idempotent, reconnects: 0 }
    }

    /// Forgets the connection: what may still arrive on it belongs to a request given up.
    pub(super) fn close(&mut self) {
        self.stream = None;
    }

    /// Sends one request and reads its answer. When a kept connection turns out to be closed before
    /// any byte of an answer, the request is sent once more on a new one, as every client does.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answered, ErrorKind> {
        let was_kept = self.stream.is_some();
        let first = self.attempt(request).await;
        match first {
            Err(Failure { kind: ErrorKind::Closed | ErrorKind::Reset, was_silent: true })
                if was_kept && self.is_idempotent =>
            {
                self.reconnects += 1;
                self.attempt(request).await.map_err(|failure| failure.kind)
            }
            other => other.map_err(|failure| failure.kind),
        }
    }

    async fn attempt(&mut self, request: &[u8]) -> Result<Answered, Failure> {
        let silent = |kind| Failure { kind, was_silent: true };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address).await.map_err(|_| silent(ErrorKind::Connect))?,
        };
        self.buffer.clear();
        stream.write_all(request).await.map_err(|error| silent(kind_of(&error)))?;
        let (answered, keeps_alive) = self.read(&mut stream).await.map_err(|kind| {
            let was_silent = self.buffer.is_empty();
            Failure { kind, was_silent }
        })?;
        if keeps_alive {
            self.stream = Some(stream);
        }
        Ok(answered)
    }

    async fn read(&mut self, stream: &mut TcpStream) -> Result<(Answered, bool), ErrorKind> {
        let head = loop {
            match response::head(&self.buffer, self.is_head_request)? {
                // An interim answer; the real one follows, perhaps in the same bytes.
                Some(head) if head.status < 200 => drop(self.buffer.drain(..head.length)),
                Some(head) => break head,
                None if fill(stream, &mut self.buffer).await? == 0 => return Err(ErrorKind::Closed),
                None => {}
            }
        };
        let early = self.buffer.len() - head.length;
        let body = match head.body {
            Body::Sized(size) => self.skip(stream, size, early as u64).await?,
            Body::Chunked => self.skip_chunks(stream, head.length).await?,
            Body::UntilClose => self.skip_to_end(stream, early as u64).await?,
        };
        Ok((Answered { status: head.status, bytes: head.length as u64 + body }, head.keeps_alive))
    }

    async fn skip(&mut self, stream: &mut TcpStream, size: u64, mut seen: u64) -> Result<u64, ErrorKind> {
        while seen < size {
            self.buffer.clear();
            match fill(stream, &mut self.buffer).await? {
                0 => return Err(ErrorKind::Closed),
                count => seen += count as u64,
            }
        }
        // More than was announced: the next answer would start in the wrong place.
        if seen == size { Ok(size) } else { Err(ErrorKind::Malformed) }
    }

    async fn skip_chunks(&mut self, stream: &mut TcpStream, start: usize) -> Result<u64, ErrorKind> {
        let mut chunks = Chunks::default();
        let mut seen = chunks.take(&self.buffer[start..])?;
        while chunks != Chunks::Done {
            self.buffer.clear();
            if fill(stream, &mut self.buffer).await? == 0 {
                return Err(ErrorKind::Closed);
            }
            seen += chunks.take(&self.buffer)?;
        }
        Ok(seen as u64)
    }

    async fn skip_to_end(&mut self, stream: &mut TcpStream, mut seen: u64) -> Result<u64, ErrorKind> {
        loop {
            self.buffer.clear();
            match fill(stream, &mut self.buffer).await? {
                0 => return Ok(seen),
                count => seen += count as u64,
            }
        }
    }
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize, ErrorKind> {
    buffer.reserve(BUFFER / 2);
    stream.read_buf(buffer).await.map_err(|error| kind_of(&error))
}

/// Connects without waiting for acknowledgements of small writes.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What an error of a connected socket means.
fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ErrorKind::Reset,
        _ => ErrorKind::Closed,
    }
}
