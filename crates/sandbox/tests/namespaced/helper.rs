//! Small programs that cases run inside pods: this same binary, started with [`ARGUMENT`].

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process::exit,
};

use nix::sys::socket::{setsockopt, sockopt};

pub(crate) const ARGUMENT: &str = "__helper";

/// Becomes a helper and ends, if started as one.
pub(crate) fn run_if_asked() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((first, rest)) = arguments.split_first() else { return };
    if first != ARGUMENT {
        return;
    }
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match rest[..] {
        ["get", address] => get(address),
        ["serve", address, times] => serve(address, times.parse().expect("a number")),
        ["datagrams", address] => datagrams(address),
        ["names", address] => names(address.parse().expect("an address")),
        ["resolve", name] => resolve(name),
        ["privileges"] => privileges(),
        ["print", path] => print(&std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string())),
        ["elsewhere", path] => elsewhere(path),
        ["hostname"] => print(&nix::sys::utsname::uname().expect("uname").nodename().to_string_lossy()),
        ["read", descriptor] => {
            print(&std::fs::read_to_string(format!("/proc/self/fd/{descriptor}")).expect("it is open"));
        }
        ["sleep"] => sleep(),
        ["orphan"] => orphan(),
        ["supervise", environment] => super::life::supervise(environment),
        _ => exit(2),
    }
    exit(0);
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("standard output is open");
}

/// Prints what every other process that is seen here finds under a path.
fn elsewhere(path: &str) {
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let other = format!("{}/root{path}", entry.path().display());
        print(&std::fs::read_to_string(other).unwrap_or_default());
    }
}

/// Connects and prints what comes.
fn get(address: &str) {
    let text = TcpStream::connect(address).and_then(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    print(&text.unwrap_or_else(|error| format!("{error}")));
}

/// Greets so many callers by their address. Says when it listens.
fn serve(address: &str, times: usize) {
    let listener = TcpListener::bind(address).expect("bind");
    print("listening\n");
    for _ in 0..times {
        let (mut stream, from) = listener.accept().expect("accept");
        let _ = stream.write_all(format!("hello {}", from.ip().to_canonical()).as_bytes());
    }
}

/// Sends two datagrams and prints what the kernel says.
fn datagrams(address: &str) {
    let target: SocketAddr = address.parse().expect("an address");
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind");
    socket.connect(target).expect("connect");
    for _ in 0..2 {
        print(if socket.send(b"x").is_err() { "refused " } else { "sent " });
    }
}

/// A name server of one answer: every IPv4 question gets `answer`, twice, then it ends.
fn names(answer: Ipv4Addr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 15053)).expect("bind");
    print("listening\n");
    let mut question = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut question).expect("receive");
        // RFC 1035, 4.1: header, then the question, which ends with its type and class.
        let end = 12 + question[12..length].iter().position(|byte| *byte == 0).expect("a name") + 5;
        let wants_ipv4 = question[end - 4..end - 2] == [0, 1];
        let mut reply = question[..end].to_vec();
        reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(wants_ipv4), 0, 0, 0, 0]);
        if wants_ipv4 {
            reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
            reply.extend_from_slice(&answer.octets());
        }
        socket.send_to(&reply, from).expect("send");
    }
}

fn resolve(name: &str) {
    let found = (name, 80)
        .to_socket_addrs()
        .map(|found| found.map(|one| one.ip().to_string()).collect::<std::collections::BTreeSet<_>>());
    print(
        &found
            .map_or_else(|error| error.to_string(), |found| found.into_iter().collect::<Vec<_>>().join(" ")),
    );
}

/// What this process may do, one line each.
fn privileges() {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    for line in status.lines().filter(|line| line.starts_with("Cap") || line.starts_with("NoNewPrivs")) {
        print(&format!("{}\n", line.replace('\t', " ")));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let mark = setsockopt(&socket, sockopt::Mark, &lateen_capture::MARK);
    print(&format!("mark: {}\n", mark.map_or_else(|errno| errno.to_string(), |()| "set".into())));
    let flush = lateen_capture::nft::remove();
    print(&format!("flush: {}\n", flush.map_or_else(|error| error.to_string(), |()| "done".into())));
    let leave = lateen_capture::Netns::create();
    print(&format!("unshare: {}\n", leave.map_or_else(|error| error.to_string(), |_| "done".into())));
}

fn sleep() {
    print("sleeping\n");
    loop {
        std::thread::park();
    }
}

/// Leaves a child behind in a session of its own, tells nothing of it but its presence, and stays.
fn orphan() {
    use std::os::unix::process::CommandExt;
    let mut child = std::process::Command::new("/proc/self/exe");
    child.args([ARGUMENT, "sleep"]).process_group(0);
    // The child says "sleeping" on the same output, and does not end by itself.
    let _ = child.spawn().expect("a child").wait();
    loop {
        std::thread::park();
    }
}
