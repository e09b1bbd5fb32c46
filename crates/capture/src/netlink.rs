//! The little of netlink that links and rules need: messages with nested attributes, and a socket that sends
//! some and waits for the kernel's verdict (RFC 3549; `include/uapi/linux/netlink.h`).

use std::{mem::MaybeUninit, os::fd::OwnedFd, time::Duration};

use nix::errno::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::SocketAddrNetlink,
    recv, send, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::{During, Error};

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

const HEADER: usize = 16;
const ERROR_TYPE: u16 = 2;
const DONE_TYPE: u16 = 3;
const NESTED: u16 = 0x8000;

/// Writes attributes; lengths of nested ones are filled in when their closure returns.
#[derive(Default, Clone, Debug)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("attributes of ours are far below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// A number in the host's order, as rtnetlink wants it.
    pub(crate) fn native(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network order, as nfnetlink wants it.
    pub(crate) fn network(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nested(self, kind: u16, inner: Attributes) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// One message, and the name of what it does for the error that may come back.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) what: String,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    /// The family's own fixed header, for example `ifinfomsg`.
    pub(crate) header: Vec<u8>,
    pub(crate) attributes: Attributes,
}

impl Message {
    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let length = HEADER + self.header.len() + self.attributes.as_slice().len();
        let length = u32::try_from(length).expect("messages of ours are far below 4 GiB");
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&(self.flags | REQUEST).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.header);
        out.extend_from_slice(self.attributes.as_slice());
        debug_assert_eq!((out.len() - start) % 4, 0, "netlink headers are multiples of four");
    }
}

/// A netlink socket in the namespace of the thread that opened it.
pub(crate) struct Connection {
    socket: OwnedFd,
    family: &'static str,
    sequence: u32,
}

impl Connection {
    pub(crate) fn open(protocol: Option<Protocol>, family: &'static str) -> Result<Connection, Error> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .during(format!("socket(AF_NETLINK, {family})"))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0)).during(format!("bind({family})"))?;
        // The kernel answers at once; the limit only keeps a surprise from becoming a hang.
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))
            .during("setsockopt(SO_RCVTIMEO)")?;
        Ok(Connection { socket, family, sequence: 0 })
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends `messages` in one datagram and waits until the last one is acknowledged. The first refusal is
    /// the error, named after the message that was refused.
    pub(crate) fn request(&mut self, messages: &[Message]) -> Result<(), Error> {
        self.exchange(messages).map(drop)
    }

    /// As [`Connection::request`], and returns the payloads (without netlink header) that came before the
    /// acknowledgement.
    pub(crate) fn exchange(&mut self, messages: &[Message]) -> Result<Vec<Vec<u8>>, Error> {
        let first = self.sequence + 1;
        let mut datagram = Vec::new();
        for message in messages {
            self.sequence += 1;
            message.write(self.sequence, &mut datagram);
        }
        let what = |sequence: u32| {
            let index = sequence.saturating_sub(first) as usize;
            messages.get(index).map_or(self.family, |message| &message.what)
        };
        send(&self.socket, &datagram, SendFlags::empty()).during(format!("send({})", what(first)))?;
        let awaited = messages.iter().rposition(|message| message.flags & ACK != 0);
        let Some(awaited) = awaited else { return Ok(Vec::new()) };
        let last = first + u32::try_from(awaited).expect("few messages");
        let mut payloads = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); 64 * 1024];
        loop {
            let ((received, _), _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())
                .during(format!("recv({})", what(last)))?;
            for reply in Replies(received) {
                match reply.kind {
                    ERROR_TYPE if reply.errno() != 0 => {
                        return Err(Error::new(what(reply.sequence), reply.errno()));
                    }
                    ERROR_TYPE | DONE_TYPE if reply.sequence == last => return Ok(payloads),
                    ERROR_TYPE | DONE_TYPE => {}
                    _ => payloads.push(reply.payload.to_vec()),
                }
            }
        }
    }
}

/// One message from the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl Reply<'_> {
    /// The errno of an `NLMSG_ERROR` (0 is an acknowledgement; a torn message counts as `EBADMSG`).
    fn errno(&self) -> i32 {
        match self.payload.first_chunk::<4>() {
            Some(code) => i32::from_ne_bytes(*code).saturating_neg(),
            None => Errno::EBADMSG as i32,
        }
    }
}

/// The messages of one datagram; stops at the first torn one.
pub(crate) struct Replies<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Replies<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let length = u32_at(header, 0)? as usize;
        let payload = self.0.get(HEADER..length)?;
        let reply = Reply { kind: u16_at(header, 4)?, sequence: u32_at(header, 8)?, payload };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    }
}

/// The attributes of a message as (type without flags, value); stops at the first torn one.
pub(crate) struct AttributeReader<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for AttributeReader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::default().text(1, "lo");
        let outer = Attributes::default().nested(4, inner).native(2, 7);
        let read: Vec<_> = AttributeReader(outer.as_slice()).collect();
        assert_eq!(read[0].0, 4);
        assert_eq!(AttributeReader(read[0].1).collect::<Vec<_>>(), [(1, &b"lo\0"[..])]);
        assert_eq!(read[1], (2, &7u32.to_ne_bytes()[..]));
    }

    #[test]
    fn a_written_message_is_read_back() {
        let attributes = Attributes::default().native(1, 2);
        let message = Message { what: "x".into(), kind: 20, flags: ACK, header: vec![0; 4], attributes };
        let mut bytes = Vec::new();
        message.write(9, &mut bytes);
        let replies: Vec<_> = Replies(&bytes).collect();
        assert_eq!((replies.len(), replies[0].kind, replies[0].sequence), (1, 20, 9));
        assert_eq!(replies[0].payload.len(), 12);
    }

    proptest! {
        #[test]
        fn torn_bytes_end_the_reading(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Replies(&bytes).count() <= bytes.len() / HEADER);
            prop_assert!(AttributeReader(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
