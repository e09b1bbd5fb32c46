//! A closed loop of HTTP/1.1 requests on bare epoll: what a load generator costs is taken from the core that
//! the backend needs too, so this one does nothing but send, receive and count.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::figures::quantile;

/// How long answers under way at the end are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that stay open from run to run.
pub(crate) struct Drive {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// What a run found.
pub(crate) struct Driven {
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

struct Connection {
    stream: TcpStream,
    sent_at: Instant,
    /// The head of an answer, while it is not complete.
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is there.
    missing: Option<usize>,
    is_waiting: bool,
    /// Whether it is only read when there is something.
    is_polled: bool,
}

impl Drive {
    pub(crate) fn connect(address: SocketAddr, count: u32, request: Vec<u8>) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..u64::from(count) {
            let stream = TcpStream::connect(address).context("connect the load")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index), EventFlags::IN)?;
            let sent_at = Instant::now();
            connections.push(Connection {
                stream,
                sent_at,
                head: Vec::new(),
                missing: None,
                is_waiting: false,
                is_polled: true,
            });
        }
        Ok(Drive { epoll, connections, request, buffer: vec![0; 256 << 10] })
    }

    /// So many requests on the first connection, one after the other.
    pub(crate) fn run_many(&mut self, count: u32) -> anyhow::Result<()> {
        let connection = self.connections.first_mut().context("no connection")?;
        connection.stream.set_nonblocking(false)?;
        connection.is_polled = false;
        connection.stream.set_read_timeout(Some(PATIENCE))?;
        for _ in 0..count {
            connection.send(&self.request, Instant::now())?;
            while !connection.receive(&mut self.buffer)? {}
        }
        Ok(())
    }

    /// Keeps one request under way on each connection for so long, and waits for the last answers. Any answer
    /// but 200, and any connection that ends, is an error.
    pub(crate) fn run(&mut self, duration: Duration) -> anyhow::Result<Driven> {
        let start = Instant::now();
        let (end, patience) = (start + duration, start + duration + PATIENCE);
        let mut latencies: Vec<f64> = Vec::with_capacity(1 << 16);
        for connection in &mut self.connections {
            connection.send(&self.request, start)?;
        }
        let mut waiting = self.connections.len();
        let mut events = Vec::with_capacity(256);
        let pause = Timespec { tv_sec: 1, tv_nsec: 0 };
        while waiting > 0 {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&pause))?;
            anyhow::ensure!(Instant::now() < patience, "{waiting} answers did not come");
            for event in events.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                if !connection.receive(&mut self.buffer)? {
                    continue;
                }
                let now = Instant::now();
                latencies.push((now - connection.sent_at).as_secs_f64() * 1e6);
                if now < end {
                    connection.send(&self.request, now)?;
                } else {
                    waiting -= 1;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        latencies.sort_by(f64::total_cmp);
        let at = |share| quantile(&latencies, share).unwrap_or_default();
        Ok(Driven { answers: latencies.len() as u64, seconds, p50_micros: at(0.5), p99_micros: at(0.99) })
    }
}

impl Connection {
    fn send(&mut self, request: &[u8], now: Instant) -> anyhow::Result<()> {
        self.stream.write_all(request).context("send a request")?;
        (self.sent_at, self.is_waiting) = (now, true);
        Ok(())
    }

    /// Whether the answer is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.is_polled => return Ok(false),
            Err(error) => return Err(error).context("read an answer"),
        };
        anyhow::ensure!(count > 0 && self.is_waiting, "the proxy ended a connection");
        let missing = match self.missing {
            Some(missing) => missing.checked_sub(count),
            None => {
                self.head.extend_from_slice(&buffer[..count]);
                let Some((head, body)) = whole(&self.head)? else { return Ok(false) };
                let missing = body.checked_sub(self.head.len() - head);
                self.head.clear();
                missing
            }
        };
        let missing = missing.context("more came than was asked for")?;
        self.missing = (missing > 0).then_some(missing);
        self.is_waiting = missing > 0;
        Ok(missing == 0)
    }
}

/// How long a head is and what body it announces, once it is complete.
fn whole(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("an answer's head is no text")?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "an answer says:\n{head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((end + 4, length.context("an answer without a content-length")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_once_they_are_whole() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(whole(head).unwrap(), Some((head.len(), 7)));
        assert!(whole(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
