//! The few calls that Rust cannot vouch for. They are sound because the holder has one thread.
#![expect(unsafe_code, reason = "fork and descriptor numbers have no safe form")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use lateen_capture::{During, Error};
use nix::{
    errno::Errno,
    sys::signal::{SigHandler, SigSet, Signal, signal},
    unistd::ForkResult,
};

/// Splits the process. Must be called with one thread only: another one's locks would stay locked for ever in
/// the child.
pub(crate) fn fork() -> Result<ForkResult, Error> {
    debug_assert_eq!(threads(), 1, "the holder must have no threads");
    // SAFETY: the holder starts no thread, so the child inherits no lock that another thread held.
    unsafe { nix::unistd::fork() }.during("fork()")
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Makes every descriptor above the standard three close at the next exec, whoever opened it.
pub(crate) fn close_at_exec() {
    const FLAG_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only flags of descriptors change; kernels before 5.11 refuse, and then nothing is lost, since
    // all that we open ourselves has the flag from the start.
    let _ =
        unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, FLAG_CLOEXEC) };
}

/// Gives an open file the number `target`, which survives the exec.
pub(crate) fn place(descriptor: BorrowedFd<'_>, target: i32) -> Result<(), Error> {
    // SAFETY: called between fork and exec, where nothing owns the numbers that get replaced.
    let placed = unsafe { libc::dup2(descriptor.as_raw_fd(), target) };
    Errno::result(placed).map(drop).during(format!("dup2({target})"))
}

/// Undoes what a runtime does to signals, so that a new program starts with the usual ones.
pub(crate) fn reset_signals() -> Result<(), Error> {
    for reset in [Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the default action replaces a handler; no handler of ours can be running.
        unsafe { signal(reset, SigHandler::SigDfl) }.during(format!("signal({reset}, SIG_DFL)"))?;
    }
    SigSet::empty().thread_set_mask().during("sigprocmask()")
}

/// Ties a packet socket to one link (packet(7)).
pub(crate) fn bind_to_link(socket: &OwnedFd, protocol: u16, link: u32) -> Result<(), Error> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(link).expect("the kernel numbers links from 1 upwards"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a whole `sockaddr_ll` that outlives the call, and the length is its own.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(bound).map(drop).during("bind(AF_PACKET)")
}
