//! Messages between supervisor and holder: `runtime`'s datagrams with descriptors, for the holder, which waits.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use lateen_runtime::sock::{receive_message, send_message};

/// The longest message, in bytes; the kernel's default buffers hold one of this size.
pub(crate) const LONGEST: usize = 160 * 1024;

/// Sends one message, waiting for room if need be.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    retry(|| send_message(&socket, bytes, descriptors))
}

/// Waits for one message; `None` when the other end is gone.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<(&[u8], Vec<OwnedFd>)>> {
    let received = match retry(|| receive_message(&socket, buffer)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    };
    Ok((received.length > 0).then_some((&buffer[..received.length], received.descriptors)))
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use lateen_runtime::sock::seqpacket_pair;

    use super::*;

    #[test]
    fn the_longest_message_fits_into_the_kernel_and_an_end_is_nothing() {
        let (left, right) = seqpacket_pair().unwrap();
        send(&left, &vec![7; LONGEST], &[]).unwrap();
        drop(left);
        let mut buffer = vec![0; LONGEST];
        assert_eq!(receive(&right, &mut buffer).unwrap().unwrap().0.len(), LONGEST);
        assert!(receive(&right, &mut buffer).unwrap().is_none());
    }
}
