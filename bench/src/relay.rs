//! The floor: a TCP relay that looks at nothing, on bare epoll. What it costs is what the kernel costs.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::Context as _;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsRawFd as _, OwnedFd};

/// What is read at a time.
const BUFFER: usize = 64 << 10;

/// Relays every connection to LISTEN on to BACKEND.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let [listen, backend] = arguments else { anyhow::bail!("wants LISTEN BACKEND") };
    let parse = |text: &OsString| text.to_str()?.parse::<SocketAddr>().ok();
    let listen = parse(listen).context("LISTEN is not an address")?;
    let backend = parse(backend).context("BACKEND is not an address")?;
    Relay::new(listen, backend)?.serve()
}

/// A socket and the one that its bytes go to, both by descriptor.
struct End {
    stream: TcpStream,
    other: i32,
    /// What the other sent and this one could not take yet; the other is not read meanwhile.
    backlog: Vec<u8>,
}

struct Relay {
    epoll: OwnedFd,
    listener: TcpListener,
    backend: SocketAddr,
    ends: HashMap<i32, End>,
}

impl Relay {
    fn new(listen: SocketAddr, backend: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, data(listener.as_raw_fd()), EventFlags::IN)?;
        Ok(Relay { epoll, listener, backend, ends: HashMap::new() })
    }

    fn serve(mut self) -> anyhow::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut events = Vec::with_capacity(256);
        loop {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let (descriptor, flags) = (event.data.u64() as i32, event.flags);
                if descriptor == self.listener.as_raw_fd() {
                    self.accept()?;
                    continue;
                }
                // The end may have come with the last bytes, without an event of its own.
                let is_last = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                let moved = self.relieve(descriptor, &mut buffer);
                let moved = moved.and_then(|()| self.relay(descriptor, &mut buffer));
                if moved.is_err() || is_last {
                    self.close(descriptor);
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((client, _)) = self.listener.accept() {
            let server = TcpStream::connect(self.backend)?;
            let descriptors = [client.as_raw_fd(), server.as_raw_fd()];
            for (stream, other) in [(client, descriptors[1]), (server, descriptors[0])] {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&self.epoll, &stream, data(stream.as_raw_fd()), flags)?;
                self.ends.insert(stream.as_raw_fd(), End { stream, other, backlog: Vec::new() });
            }
        }
        Ok(())
    }

    /// Sends what had to wait; once all is sent the other end is read again.
    fn relieve(&mut self, descriptor: i32, buffer: &mut [u8]) -> io::Result<()> {
        let Some(end) = self.ends.get_mut(&descriptor).filter(|end| !end.backlog.is_empty()) else {
            return Ok(());
        };
        let sent = send(&mut end.stream, &end.backlog)?;
        end.backlog.drain(..sent);
        let (is_relieved, other) = (end.backlog.is_empty(), end.other);
        if is_relieved { self.relay(other, buffer) } else { Ok(()) }
    }

    /// Passes on all that can be read now. An error, or the end, closes both.
    fn relay(&mut self, descriptor: i32, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(other) = self.ends.get(&descriptor).map(|end| end.other) else { return Ok(()) };
            if self.ends.get(&other).is_none_or(|to| !to.backlog.is_empty()) {
                return Ok(());
            }
            let Some(end) = self.ends.get_mut(&descriptor) else { return Ok(()) };
            let count = match end.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(to) = self.ends.get_mut(&other) else { return Ok(()) };
            let sent = send(&mut to.stream, &buffer[..count])?;
            to.backlog.extend_from_slice(&buffer[sent..count]);
            // Less than the buffer holds: the socket is empty, and what comes next wakes us.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn close(&mut self, descriptor: i32) {
        if let Some(end) = self.ends.remove(&descriptor) {
            self.ends.remove(&end.other);
        }
    }
}

/// How much a socket took.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}

fn data(descriptor: i32) -> EventData {
    EventData::new_u64(descriptor as u64)
}
