//! HTTP/1.1 on bare epoll: requests without a body, one at a time, answered with as many bytes as the bench says.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsRawFd as _, OwnedFd};

use super::State;

/// The most that is written at a time.
const CHUNK: usize = 256 << 10;

pub(super) fn start(state: Arc<State>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, data(listener.as_raw_fd()), EventFlags::IN)?;
    let server = Server { epoll, listener, state, callers: HashMap::new(), answer: Answer::of(0) };
    std::thread::Builder::new().name("backend-1".to_owned()).spawn(move || server.serve())?;
    Ok(address)
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    state: Arc<State>,
    callers: HashMap<i32, Caller>,
    answer: Answer,
}

struct Caller {
    stream: TcpStream,
    input: Vec<u8>,
    /// Of the answer under way, what was sent and what there is.
    sent: usize,
    total: usize,
    /// What is said instead of the answer; the connection ends with it.
    last_words: Option<Vec<u8>>,
}

/// An answer: its head and the first bytes of its body are kept, the rest looks the same.
struct Answer {
    body: usize,
    front: Vec<u8>,
    fill: Vec<u8>,
}

impl Answer {
    fn of(body: usize) -> Self {
        let mut front = head(body, "").into_bytes();
        let total = front.len() + body;
        front.resize(total.min(CHUNK), b'x');
        Answer { body, front, fill: vec![b'x'; CHUNK] }
    }

    fn total(&self) -> usize {
        head(self.body, "").len() + self.body
    }
}

fn head(body: usize, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n{more}\r\n")
}

impl Server {
    fn serve(mut self) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let descriptor = event.data.u64() as i32;
                if descriptor == self.listener.as_raw_fd() {
                    self.accept()?;
                } else if self.step(descriptor).is_err() {
                    self.callers.remove(&descriptor);
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let descriptor = stream.as_raw_fd();
            epoll::add(&self.epoll, &stream, data(descriptor), flags)?;
            let caller = Caller { stream, input: Vec::new(), sent: 0, total: 0, last_words: None };
            self.callers.insert(descriptor, caller);
        }
        Ok(())
    }

    /// Does all that can be done for a caller now; an error ends its connection.
    fn step(&mut self, descriptor: i32) -> io::Result<()> {
        let Some(caller) = self.callers.get_mut(&descriptor) else { return Ok(()) };
        let body = self.state.body.load(Ordering::Relaxed);
        if self.answer.body != body && self.answer.total() > 0 {
            self.answer = Answer::of(body);
        }
        if caller.sent < caller.total {
            caller.send(&self.answer)?;
        }
        while caller.sent == caller.total && caller.receive()? {
            self.state.requests.fetch_add(1, Ordering::Relaxed);
            if caller.input.starts_with(b"GET /head ") {
                let said = head(caller.input.len(), "connection: close\r\n");
                caller.last_words = Some([said.as_bytes(), &caller.input].concat());
            }
            caller.input.clear();
            (caller.sent, caller.total) = (0, self.answer.total());
            caller.send(&self.answer)?;
        }
        Ok(())
    }
}

impl Caller {
    /// Whether a whole request is there.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 8 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            // The requests of this bench have no body and are not pipelined.
            if self.input.ends_with(b"\r\n\r\n") {
                return Ok(true);
            }
        }
    }

    fn send(&mut self, answer: &Answer) -> io::Result<()> {
        if let Some(words) = self.last_words.take() {
            self.stream.set_nonblocking(false)?;
            self.stream.write_all(&words)?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.sent < self.total {
            let rest = match answer.front.get(self.sent..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &answer.fill[..(self.total - self.sent).min(CHUNK)],
            };
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn data(descriptor: i32) -> EventData {
    EventData::new_u64(descriptor as u64)
}
