//! A small sandbox for one case.

use std::{net::SocketAddr, os::fd::OwnedFd, path::PathBuf};

use lateen_capture::Rules;
use lateen_sandbox::{
    Descriptors, Environment, Exit, Kind, Pod, PodSpec, Process, ProcessSpec, RefusedNews, Resolver, Sandbox,
    SocketKind, output,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream, unix::pipe},
    sync::mpsc,
};

use crate::helper;

pub(crate) struct Shop {
    pub(crate) sandbox: Sandbox,
    pub(crate) news: mpsc::Receiver<RefusedNews>,
}

impl Shop {
    pub(crate) async fn open(environment: Environment) -> Shop {
        let gateways = vec!["198.18.0.1/16".parse().unwrap(), "fd6c::1/64".parse().unwrap()];
        let (sandbox, news) = Sandbox::start(environment, gateways).await.expect("a sandbox");
        Shop { sandbox, news }
    }

    /// The pod number `number`: 198.18.0.`number` and fd6c::`number`.
    pub(crate) async fn pod(&self, number: u8, rules: Option<Rules>) -> Pod {
        self.pod_without(number, rules, Vec::new()).await
    }

    /// The same, whose applications do not see these directories.
    pub(crate) async fn pod_without(&self, number: u8, rules: Option<Rules>, hidden: Vec<PathBuf>) -> Pod {
        let spec = PodSpec {
            name: format!("pod-{number}"),
            hostname: format!("host-{number}"),
            addresses: vec![
                format!("198.18.0.{number}/16").parse().unwrap(),
                format!("fd6c::{number}/64").parse().unwrap(),
            ],
            rules,
            resolver: Some(Resolver::kubernetes(
                vec!["198.18.0.1".parse().unwrap()],
                "default",
                "cluster.local",
            )),
            hidden,
        };
        let pod = self.sandbox.make_pod(spec).await.expect("a pod");
        assert_eq!(pod.warnings(), [""; 0], "{:?}", self.sandbox.warnings());
        pod
    }

    pub(crate) async fn close(self) {
        self.sandbox.shut_down().await.expect("an end");
    }
}

/// A helper that runs, and its standard output.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) out: BufReader<pipe::Receiver>,
}

impl Running {
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).await.expect("its output");
        line
    }
}

pub(crate) fn helper_spec(kind: Kind, arguments: &[&str]) -> ProcessSpec {
    let argv =
        ["/proc/self/exe", helper::ARGUMENT].iter().chain(arguments).map(ToString::to_string).collect();
    ProcessSpec { argv, env: vec![], cwd: None, kind }
}

/// Starts a helper in `pod`.
pub(crate) async fn start(pod: &Pod, kind: Kind, arguments: &[&str]) -> Running {
    let (out, writer) = output::pipe().expect("a pipe");
    let errors: OwnedFd = std::fs::File::options()
        .write(true)
        .open("/dev/stderr")
        .map_or_else(|_| std::fs::File::create("/dev/null").expect("/dev/null").into(), OwnedFd::from);
    let descriptors = Descriptors::new().with(1, writer).with(2, errors);
    let process = pod.spawn(helper_spec(kind, arguments), descriptors).await.expect("a process");
    Running { process, out: BufReader::new(out) }
}

/// Runs a helper to its end, and returns what it printed.
pub(crate) async fn run(pod: &Pod, kind: Kind, arguments: &[&str]) -> String {
    let mut running = start(pod, kind, arguments).await;
    let mut text = String::new();
    running.out.read_to_string(&mut text).await.expect("its output");
    assert_eq!(running.process.wait().await, Exit::Code(0), "{arguments:?} printed {text}");
    text
}

/// A listener of our own inside `pod`, for both families.
pub(crate) async fn listen(pod: &Pod, port: u16) -> TcpListener {
    let socket = pod.open_socket(SocketKind::Tcp6, true).await.expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from(([0u16; 8], port))).expect("bind");
    rustix::net::listen(&socket, 16).expect("listen");
    TcpListener::from_std(socket.into()).expect("a listener")
}

/// A connection of our own from inside `pod`.
pub(crate) async fn connect(pod: &Pod, marked: bool, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    let kind = if address.is_ipv4() { SocketKind::Tcp4 } else { SocketKind::Tcp6 };
    let socket = pod.open_socket(kind, marked).await.expect("a socket");
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}
