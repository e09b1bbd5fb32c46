//! Whole messages with descriptors, between processes of one machine (`SOCK_SEQPACKET`, `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Descriptors that one message may carry.
pub const MAX_DESCRIPTORS: usize = 8;

/// A message that came.
#[derive(Debug)]
pub struct Received {
    /// How much of the buffer it filled; 0 when the other end is closed.
    pub length: usize,
    /// In the order they were sent; close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Two connected, non-blocking sockets that keep messages apart; close-on-exec.
///
/// # Errors
/// When there are no more descriptors.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one whole message with at most [`MAX_DESCRIPTORS`].
///
/// # Errors
/// `WouldBlock` when the other end reads too slowly, `InvalidInput` for too many descriptors, or the kernel's
/// refusal. A closed other end is an error, never a signal.
pub fn send_message(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The space is rounded up and may hold more than was asked for: count as well.
    let fits = descriptors.len() <= MAX_DESCRIPTORS
        && (descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
    if !fits {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent != bytes.len() {
        return Err(io::Error::other("the message was cut; is this a SOCK_SEQPACKET socket?"));
    }
    Ok(())
}

/// Receives one whole message.
///
/// # Errors
/// `WouldBlock` when there is none, `InvalidData` when it is longer than the buffer or carries too many descriptors
/// (all of which are closed), or the kernel's refusal.
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    Ok(Received { length: message.bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_and_descriptors_arrive_whole() {
        let (near, far) = seqpacket_pair().expect("pair");
        let (passed, mut kept) = UnixStream::pair().expect("pair");
        send_message(&near, b"first", &[passed.as_fd()]).expect("send");
        send_message(&near, b"second", &[]).expect("send");
        drop(passed);
        let mut buffer = [0; 64];
        let first = receive_message(&far, &mut buffer).expect("receive");
        assert_eq!((&buffer[..first.length], first.descriptors.len()), (&b"first"[..], 1));
        let mut arrived = UnixStream::from(first.descriptors.into_iter().next().expect("one"));
        kept.write_all(b"through").expect("write");
        drop(kept);
        let mut text = String::new();
        arrived.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
        let second = receive_message(&far, &mut buffer).expect("receive");
        assert_eq!(&buffer[..second.length], b"second");
        let none = receive_message(&far, &mut buffer).expect_err("nothing left");
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        drop(near);
        assert_eq!(receive_message(&far, &mut buffer).expect("the end").length, 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (near, far) = seqpacket_pair().expect("pair");
        let many = vec![near.as_fd(); MAX_DESCRIPTORS + 1];
        let refused = send_message(&near, b"x", &many).expect_err("too many");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        send_message(&near, &[1; 100], &many[..2]).expect("send");
        let cut = receive_message(&far, &mut [0; 10]).expect_err("too long");
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        drop(far);
        assert!(send_message(&near, b"x", &[]).is_err(), "an error, not a signal");
    }
}
