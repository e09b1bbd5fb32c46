//! Sockets: the options that std and tokio do not name, and descriptors from and to other processes.
//!
//! The only `unsafe` of this crate is here: where a descriptor number that the parent process promised becomes an
//! owned descriptor, and where the event loop is given one to watch.

mod pass;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, TcpStream};

pub use pass::{MAX_DESCRIPTORS, Received, receive_message, send_message, seqpacket_pair};

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Several sockets share the port, one a worker; the kernel spreads connections over them (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Accept connections to addresses that are not ours (`IP_TRANSPARENT`; needs `CAP_NET_ADMIN`).
    pub transparent: bool,
    /// Mark what this socket sends (`SO_MARK`; needs `CAP_NET_ADMIN`); accepted connections inherit it.
    pub mark: Option<u32>,
    /// Connections that wait for `accept`; the kernel caps it by `net.core.somaxconn`.
    pub backlog: i32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { reuse_port: false, transparent: false, mark: None, backlog: 4_096 }
    }
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions {
    /// Mark what this socket sends (`SO_MARK`; needs `CAP_NET_ADMIN`), so that redirect rules leave it alone.
    pub mark: Option<u32>,
    /// The address to come from.
    pub source: Option<IpAddr>,
    /// `source` need not be ours (`IP_TRANSPARENT`; needs `CAP_NET_ADMIN`).
    pub transparent: bool,
}

/// A listening, non-blocking TCP socket. An IPv6 socket takes IPv6 only, so that both families can be bound to the
/// same port.
///
/// # Errors
/// The kernel's refusal: the port is taken, the address is not ours, or an option needs a capability.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if options.transparent {
        set_transparent(&socket, address)?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    // Accepted connections inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Connects with options; small writes leave at once (`TCP_NODELAY`). No time limit: the caller has one.
///
/// # Errors
/// The kernel's or the peer's refusal.
pub async fn connect(address: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(mark) = options.mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    if let Some(source) = options.source {
        if options.transparent {
            set_transparent(&SockRef::from(&socket), address)?;
        }
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

/// Small writes leave at once.
///
/// # Errors
/// When the connection is gone already.
pub fn set_no_delay(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_nodelay(true)
}

/// Asks a silent peer after `idle` whether it is there, then every `interval`; after `retries` unanswered questions
/// the connection ends. What is not said is as the system has it.
///
/// # Errors
/// When the connection is gone already, or the system does not take a value.
pub fn set_keepalive(
    socket: &impl AsFd,
    idle: Option<Duration>,
    interval: Option<Duration>,
    retries: Option<u32>,
) -> io::Result<()> {
    let mut settings = TcpKeepalive::new();
    settings = idle.map_or(settings.clone(), |idle| settings.clone().with_time(idle));
    settings = interval.map_or(settings.clone(), |interval| settings.clone().with_interval(interval));
    settings = retries.map_or(settings.clone(), |retries| settings.clone().with_retries(retries));
    SockRef::from(socket).set_tcp_keepalive(&settings)
}

/// Where a redirected connection was going (`SO_ORIGINAL_DST`). Without redirection the kernel either refuses or
/// names the address that was really reached: compare with the listener's own.
///
/// # Errors
/// When the connection was not redirected, or is gone.
pub fn original_destination(connection: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(connection);
    let address = match connection.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4()?,
        // An IPv4 connection on a socket of both families is found in the IPv4 table.
        SocketAddr::V6(local) if local.ip().to_ipv4_mapped().is_some() => socket.original_dst_v4()?,
        SocketAddr::V6(_) => socket.original_dst_v6()?,
    };
    address.as_socket().ok_or_else(|| io::Error::other("the original destination is no IP address"))
}

/// Who is at the other end of a unix socket, said by the kernel as of when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Absent when the process is of a namespace that we cannot see.
    pub pid: Option<i32>,
    pub uid: u32,
    pub gid: u32,
}

/// Who is at the other end (`SO_PEERCRED`).
///
/// # Errors
/// When the connection is gone.
pub fn peer_credentials(connection: &tokio::net::UnixStream) -> io::Result<PeerCredentials> {
    let peer = connection.peer_cred()?;
    Ok(PeerCredentials { pid: peer.pid().filter(|&pid| pid > 0), uid: peer.uid(), gid: peer.gid() })
}

/// The user we run as.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether an idle connection can still carry a request: it is open and nothing waits to be read. One look, without
/// consuming anything and without waiting.
pub fn is_idle_and_open(socket: &impl AsFd) -> bool {
    let mut byte = [0u8; 1];
    loop {
        match rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => {}
            // Closed (0 bytes), broken, or talking out of turn.
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Takes a descriptor that the parent process promised under `number`, and keeps it from our own children. Each
/// number can be taken once.
///
/// # Errors
/// When it is one of the standard three, was taken before, or is not open.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    let refuse =
        |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} {why}")));
    if number <= 2 {
        return refuse("is not one to inherit");
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&number) {
        return refuse("was taken before");
    }
    // SAFETY: the borrow lasts for the next call only, in which the kernel checks the number.
    #[expect(unsafe_code, reason = "a number becomes a descriptor here")]
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    // A descriptor opened by ourselves is close-on-exec, as everything std opens: those have an owner already.
    if flags.contains(FdFlags::CLOEXEC) {
        return refuse("was opened by this process itself");
    }
    taken.push(number);
    // SAFETY: it is open and came from the parent (it is not close-on-exec), and it is given out only once, so the
    // new owner is the only one.
    #[expect(unsafe_code, reason = "a number becomes a descriptor here")]
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&owned, flags | FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Lets the current runtime watch a descriptor, which becomes non-blocking.
///
/// # Errors
/// When the kernel cannot watch what it is.
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    // SAFETY: an `OwnedFd` is open, always names the same descriptor, and closes it only when dropped, which here is
    // when the `AsyncFd` is.
    #[expect(unsafe_code, reason = "tokio wants the promise that `OwnedFd` gives")]
    let watched = unsafe { AsyncFd::register(descriptor) };
    Ok(watched?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, IntoRawFd};

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn several_listeners_share_a_port_and_connections_work() {
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = listen(loopback(), &options).expect("listen");
        let address = first.local_addr().expect("address");
        let second = listen(address, &options).expect("the same port again");
        let near = connect(address, &ConnectOptions::default()).await.expect("connect");
        assert!(near.nodelay().expect("option"));
        set_keepalive(&near, Some(Duration::from_secs(60)), None, Some(3)).expect("keepalive");
        let first = tokio::net::TcpListener::from_std(first).expect("listener");
        let second = tokio::net::TcpListener::from_std(second).expect("listener");
        let (far, _) = tokio::select! {
            accepted = first.accept() => accepted,
            accepted = second.accept() => accepted,
        }
        .expect("accept");
        assert!(far.nodelay().expect("inherited"));
        assert!(
            original_destination(&far).map_or(true, |address| address == far.local_addr().expect("address"))
        );
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_source_asked_for() {
        let listener = listen(loopback(), &ListenOptions::default()).expect("listen");
        let source = IpAddr::from([127, 0, 0, 2]);
        let options = ConnectOptions { source: Some(source), ..ConnectOptions::default() };
        let near = connect(listener.local_addr().expect("address"), &options).await.expect("connect");
        assert_eq!(near.local_addr().expect("address").ip(), source);
    }

    #[test]
    fn an_idle_connection_is_one_without_bytes_or_end() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().expect("pair");
        assert!(is_idle_and_open(&near));
        far.write_all(b"x").expect("write");
        assert!(!is_idle_and_open(&near), "something waits to be read");
        let mut byte = [0];
        (&near).read_exact(&mut byte).expect("looking consumed nothing");
        assert!(is_idle_and_open(&near));
        drop(far);
        assert!(!is_idle_and_open(&near));
    }

    #[tokio::test]
    async fn the_kernel_says_who_is_at_the_other_end() {
        let (near, _far) = tokio::net::UnixStream::pair().expect("pair");
        let peer = peer_credentials(&near).expect("credentials");
        assert_eq!(peer.uid, own_uid());
        assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
    }

    #[test]
    fn an_inherited_descriptor_is_taken_once() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().expect("pair");
        assert!(take_inherited(near.as_raw_fd()).is_err(), "it has an owner in this process");
        // As a parent would leave it: open, without close-on-exec, owned by nobody.
        fcntl_setfd(&near, FdFlags::empty()).expect("flags");
        let number = near.into_raw_fd();
        let taken = take_inherited(number).expect("take");
        assert!(fcntl_getfd(&taken).expect("flags").contains(FdFlags::CLOEXEC));
        assert!(take_inherited(number).is_err());
        far.write_all(b"x").expect("write");
        assert!(!is_idle_and_open(&taken));
        for number in [-1, 0, 2, 1_000_000] {
            assert!(take_inherited(number).is_err(), "{number}");
        }
    }
}
