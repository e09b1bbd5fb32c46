//! Bytes as they are on the wire between pods, recorded outside of any proxy.
//!
//! In a namespace a raw socket on the pod's link sees every frame. In plain mode, where nobody may listen on
//! the machine's loopback, a relay of its own stands at the address others use and records what passes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use lateen_runtime::sock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};

/// The port whose traffic is recorded.
const HBONE: u16 = 15008;
/// Bytes that are kept of one direction of one connection.
const MOST_BYTES: usize = 1 << 20;
/// Directions of connections that are kept.
const MOST_FLOWS: usize = 64;

/// What was recorded: one stream of bytes for each direction of each connection.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    flows: Mutex<HashMap<(SocketAddr, SocketAddr), Flow>>,
}

#[derive(Debug, Default)]
struct Flow {
    bytes: Vec<u8>,
    /// The next byte that is new, by TCP's numbers; a segment seen twice is kept once.
    next: Option<u32>,
}

impl Tap {
    /// What was recorded so far.
    pub(crate) fn streams(&self) -> Vec<Vec<u8>> {
        self.lock().values().map(|flow| flow.bytes.clone()).filter(|bytes| !bytes.is_empty()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(SocketAddr, SocketAddr), Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the frames of a pod's link, until the socket ends with the pod.
    pub(crate) async fn frames(self: Arc<Self>, socket: OwnedFd) {
        let Ok(socket) = sock::watch(socket) else { return };
        let mut frame = vec![0; 65_536];
        loop {
            let read = socket
                .async_io(Interest::READABLE, |socket| Ok(rustix::io::read(socket, frame.as_mut_slice())?))
                .await;
            match read {
                Ok(length) => self.frame(&frame[..length]),
                Err(_) => return,
            }
        }
    }

    fn frame(&self, frame: &[u8]) {
        let Some(segment) = Segment::parse(frame) else { return };
        if (segment.from.port() != HBONE && segment.to.port() != HBONE) || segment.payload.is_empty() {
            return;
        }
        let mut flows = self.lock();
        if flows.len() >= MOST_FLOWS && !flows.contains_key(&(segment.from, segment.to)) {
            return;
        }
        let flow = flows.entry((segment.from, segment.to)).or_default();
        let next = *flow.next.get_or_insert(segment.number);
        // Only what continues the stream is kept; on one machine nothing is lost and little comes twice.
        if segment.number == next && flow.bytes.len() + segment.payload.len() <= MOST_BYTES {
            flow.bytes.extend_from_slice(segment.payload);
            flow.next = Some(next.wrapping_add(u32::try_from(segment.payload.len()).unwrap_or_default()));
        }
    }

    /// Plain mode: takes connections at `listen`, passes them on to `forward`, and records both directions.
    pub(crate) async fn relay(self: Arc<Self>, listener: TcpListener, forward: SocketAddr) {
        while let Ok((client, from)) = listener.accept().await {
            let tap = Arc::clone(&self);
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(forward).await else { return };
                let ((client_in, client_out), (server_in, server_out)) =
                    (client.into_split(), server.into_split());
                tokio::join!(
                    tap.pass(client_in, server_out, (from, forward)),
                    tap.pass(server_in, client_out, (forward, from)),
                );
            });
        }
    }

    async fn pass(
        &self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        ends: (SocketAddr, SocketAddr),
    ) {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(length) = from.read(&mut chunk).await {
            if length == 0 || to.write_all(&chunk[..length]).await.is_err() {
                break;
            }
            let mut flows = self.lock();
            if flows.len() < MOST_FLOWS || flows.contains_key(&ends) {
                let flow = flows.entry(ends).or_default();
                if flow.bytes.len() + length <= MOST_BYTES {
                    flow.bytes.extend_from_slice(&chunk[..length]);
                }
            }
        }
        let _ = to.shutdown().await;
    }
}

/// A TCP segment in an Ethernet frame.
struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    number: u32,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    fn parse(frame: &'a [u8]) -> Option<Self> {
        let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
        let packet = frame.get(14..)?;
        let (source, destination, tcp) = match kind {
            0x0800 => {
                let head = usize::from(packet.first()? & 15) * 4;
                let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
                if *packet.get(9)? != 6 {
                    return None;
                }
                let address = |at: usize| Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into());
                (address(12)?, address(16)?, packet.get(head..total.min(packet.len()))?)
            }
            0x86dd => {
                let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
                if *packet.get(6)? != 6 {
                    return None;
                }
                let address = |at: usize| Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into());
                (address(8)?, address(24)?, packet.get(40..(40 + length).min(packet.len()))?)
            }
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let payload = tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?;
        Some(Self {
            from: SocketAddr::new(source, port(0)?),
            to: SocketAddr::new(destination, port(2)?),
            number: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        let total = u16::try_from(40 + payload.len()).unwrap();
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(40_000u16.to_be_bytes());
        frame.extend(HBONE.to_be_bytes());
        frame.extend(number.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn segments_are_put_together_once() {
        let tap = Tap::default();
        for (number, payload) in [(u32::MAX, &b"ab"[..]), (u32::MAX, b"ab"), (1, b"cd"), (9, b"gap")] {
            tap.frame(&frame(number, payload));
        }
        assert_eq!(tap.streams(), [b"abcd".to_vec()]);
    }

    #[test]
    fn short_frames_are_passed_over() {
        let whole = frame(1, b"x");
        for length in 0..whole.len() - 1 {
            let tap = Tap::default();
            tap.frame(&whole[..length]);
        }
    }
}
