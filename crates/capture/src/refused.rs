//! What the rules refused: a socket on the `NFLOG` group of one namespace that tells each packet's destination
//! (`include/uapi/linux/netfilter/nfnetlink_log.h`). Reading is non-blocking; the kernel drops what nobody
//! reads, so a flood costs nothing but its own records, and the counter of the rules still has them all.

use std::{
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{RecvFlags, recv};

use crate::{
    During, Error,
    netlink::{ACK, AttributeReader, Attributes, Connection, Message, Replies},
};

/// The group of our rules; groups belong to a network namespace, so pods do not hear each other.
pub const GROUP: u16 = 1337;

const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIGURE: u16 = SUBSYSTEM | 1;

/// A packet that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// IANA's number of the transport: 17 is UDP.
    pub transport: u8,
    /// Where it wanted to go; port 0 where the transport has none.
    pub destination: SocketAddr,
}

/// Hears what one namespace refuses.
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens in the calling thread's namespace; needs `CAP_NET_ADMIN` there.
    pub fn open() -> Result<Listener, Error> {
        const COMMAND: u16 = 1;
        const BIND: u8 = 1;
        const MODE: u16 = 2;
        const COPY_PACKET: u8 = 2;
        const TIMEOUT: u16 = 4;
        let mut connection = Connection::open(Some(rustix::net::netlink::NETFILTER), "NETLINK_NETFILTER")?;
        let range = 64u32.to_be_bytes();
        let mode = [&range[..], &[COPY_PACKET, 0]].concat();
        // The kernel gathers records for this long (hundredths of a second) before it sends them.
        let timeout = 10u32.to_be_bytes().to_vec();
        for (what, kind, value) in [
            ("nflog bind", COMMAND, vec![BIND]),
            ("nflog copy packets", MODE, mode),
            ("nflog timeout", TIMEOUT, timeout),
        ] {
            let [high, low] = GROUP.to_be_bytes();
            connection.request(&[Message {
                what: what.into(),
                kind: CONFIGURE,
                flags: ACK,
                header: vec![0, 0, high, low],
                attributes: Attributes::default().bytes(kind, &value),
            }])?;
        }
        Ok(Listener(connection.into_socket()))
    }

    /// The packets of one datagram, without waiting; empty when nothing is there.
    pub fn read(&self) -> Result<Vec<Refused>, Error> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let received = match recv(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
            Ok(((received, _), _)) => received,
            // Overrun means only that some records were dropped.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error).during("recv(nflog)"),
        };
        Ok(parse(received))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(datagram: &[u8]) -> Vec<Refused> {
    const PAYLOAD: u16 = 9;
    Replies(datagram)
        .filter(|reply| reply.kind == PACKET)
        .filter_map(|reply| {
            let (_, packet) = AttributeReader(reply.payload.get(4..)?).find(|(kind, _)| *kind == PAYLOAD)?;
            read_packet(packet)
        })
        .collect()
}

/// The transport and destination of an IP packet (RFC 791, RFC 8200; no extension headers are looked through).
fn read_packet(packet: &[u8]) -> Option<Refused> {
    let (transport, address, header): (u8, IpAddr, usize) = match packet.first()? >> 4 {
        4 => {
            let octets: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            (*packet.get(9)?, Ipv4Addr::from(octets).into(), usize::from(packet[0] & 0xf) * 4)
        }
        6 => {
            let octets: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (*packet.get(6)?, Ipv6Addr::from(octets).into(), 40)
        }
        _ => return None,
    };
    let port = match transport {
        6 | 17 | 132 => u16::from_be_bytes(*packet.get(header + 2..)?.first_chunk()?),
        _ => 0,
    };
    Some(Refused { transport, destination: SocketAddr::new(address, port) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_destination_of_a_datagram_is_read() {
        let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 2, 192, 0, 2, 7];
        packet.extend_from_slice(&[0x80, 0, 0x00, 0x7b, 0, 12, 0, 0]);
        let refused = read_packet(&packet).unwrap();
        assert_eq!(refused, Refused { transport: 17, destination: "192.0.2.7:123".parse().unwrap() });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = read_packet(&bytes);
        }
    }
}
