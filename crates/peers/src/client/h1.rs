//! HTTP/1.1, byte by byte.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{Answered, CALLER, PATIENCE, Response, Unanswered};
use crate::strict::find;

/// A connection that sends bytes and reads answers.
pub struct Connection {
    tcp: TcpStream,
    buffer: Vec<u8>,
}

/// Asks for a page.
///
/// # Errors
/// When there is no answer.
pub fn get(at: SocketAddr, path: &str) -> io::Result<Response> {
    let mut connection = Connection::open(at)?;
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").as_bytes());
    connection.read(false).map_err(|why| io::Error::other(format!("{why:?}")))
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&CALLER.into())?;
        socket.connect_timeout(&at.into(), PATIENCE)?;
        let tcp = TcpStream::from(socket);
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { tcp, buffer: Vec::new() })
    }

    /// Waits so long for an answer.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn patience(&self, patience: Duration) -> io::Result<()> {
        self.tcp.set_read_timeout(Some(patience))
    }

    /// Sends bytes; that the peer has gone shows when its answer is read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.tcp.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.tcp.shutdown(std::net::Shutdown::Write);
    }

    /// The next final answer; `head` says that it has no body.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read(&mut self, head: bool) -> Answered {
        loop {
            let response = self.read_one(head)?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                return Ok(response);
            }
        }
    }

    /// Whether the peer ends the connection without another byte.
    pub fn is_over(&mut self) -> bool {
        self.buffer.is_empty() && matches!(self.more(), Ok(false) | Err(_))
    }

    fn more(&mut self) -> Result<bool, Unanswered> {
        let mut piece = [0; 16 * 1024];
        match self.tcp.read(&mut piece) {
            Ok(read) => {
                self.buffer.extend_from_slice(&piece[..read]);
                Ok(read > 0)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(Unanswered::Silent)
            }
            Err(_) => Ok(false),
        }
    }

    fn line(&mut self) -> Result<String, Unanswered> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(line[..end].iter().map(|byte| char::from(*byte)).collect());
            }
            if !self.more()? {
                return Err(if self.buffer.is_empty() { Unanswered::Closed } else { Unanswered::Garbled });
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Unanswered> {
        while self.buffer.len() < length {
            if !self.more()? {
                return Err(Unanswered::Garbled);
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>, Unanswered> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or(Unanswered::Garbled)?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn read_one(&mut self, head: bool) -> Answered {
        let start = self.line()?;
        let status = start.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.ok_or(Unanswered::Garbled)?;
        let fields = self.fields()?;
        let mut response = Response { status, fields, ..Response::default() };
        let close = response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        response.persistent = start.starts_with("HTTP/1.1") && !close;
        let length = response.field("content-length").map(str::to_owned);
        if head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        if response.field("transfer-encoding").is_some() {
            response.body = self.chunks()?;
            response.trailers = self.fields()?;
        } else if let Some(length) = length {
            response.body = self.exactly(length.parse().map_err(|_| Unanswered::Garbled)?)?;
        } else {
            while self.more()? {}
            response.body = std::mem::take(&mut self.buffer);
            response.persistent = false;
        }
        Ok(response)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Unanswered> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| Unanswered::Garbled)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err(Unanswered::Garbled);
            }
        }
    }
}
