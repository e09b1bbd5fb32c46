//! Whether an application may be sent to: its probe, asked from the pod's own network.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use lateen_control::api::types::{Probe, ProbeCheck, Process};
use lateen_sandbox::{Descriptors, Kind, Pod, ProcessSpec, SocketKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::command::{Layout, Place, environment};

/// Between two questions until an application answers first: starting is told at once.
const EAGER: Duration = Duration::from_millis(20);

/// Tells each change, and never ends. Without a probe, a process that accepts connections on its first port
/// is ready for good.
pub(crate) async fn watch(
    process: &Process,
    pod: &Pod,
    place: &Place,
    layout: &Layout,
    tell: impl Fn(bool),
) -> Infallible {
    let Some(probe) = &process.readiness else {
        if let Some((_, at)) = layout.ports.first() {
            while !connects(pod, place, *at, Duration::from_secs(1)).await {
                tokio::time::sleep(EAGER).await;
            }
        }
        tell(true);
        return std::future::pending().await;
    };
    tokio::time::sleep(Duration::from_millis(probe.initial_delay_ms)).await;
    let (mut ready, mut in_a_row, mut ever) = (false, 0, false);
    loop {
        let good = ask(probe, pod, place, layout).await;
        in_a_row = if good == ready { 0 } else { in_a_row + 1 };
        let threshold = if ready { probe.failure_threshold } else { probe.success_threshold };
        if in_a_row >= threshold.max(1) {
            (ready, in_a_row, ever) = (good, 0, true);
            tell(ready);
        }
        let period = Duration::from_millis(probe.period_ms);
        tokio::time::sleep(if ever { period } else { period.min(EAGER) }).await;
    }
}

async fn ask(probe: &Probe, pod: &Pod, place: &Place, layout: &Layout) -> bool {
    let limit = Duration::from_millis(probe.timeout_ms.max(1));
    match &probe.check {
        ProbeCheck::TcpSocket { port } => match target(*port, place, layout) {
            Some(at) => connects(pod, place, at, limit).await,
            None => false,
        },
        ProbeCheck::HttpGet { port, path } => match target(*port, place, layout) {
            Some(at) => tokio::time::timeout(limit, get(pod, place, at, path))
                .await
                .is_ok_and(|good| good == Some(true)),
            None => false,
        },
        ProbeCheck::Exec { command } => {
            let spec =
                ProcessSpec { argv: command.clone(), env: environment(), cwd: None, kind: Kind::Application };
            let Ok(running) = pod.spawn(spec, Descriptors::new()).await else { return false };
            match tokio::time::timeout(limit, running.wait()).await {
                Ok(exit) => exit.is_success(),
                Err(_) => {
                    let _ = running.signal(libc_sigkill(), true).await;
                    false
                }
            }
        }
    }
}

const fn libc_sigkill() -> i32 {
    nix::sys::signal::Signal::SIGKILL as i32
}

/// A probe may name a port that is not declared: the application then listens on it as it stands.
fn target(port: u16, place: &Place, layout: &Layout) -> Option<SocketAddr> {
    layout.of(port).or_else(|| (!place.is_plain()).then(|| SocketAddr::new(place.networks[0].addr(), port)))
}

async fn connects(pod: &Pod, place: &Place, at: SocketAddr, limit: Duration) -> bool {
    tokio::time::timeout(limit, connect(pod, place, at)).await.is_ok_and(|stream| stream.is_some())
}

async fn connect(pod: &Pod, place: &Place, at: SocketAddr) -> Option<TcpStream> {
    if place.is_plain() {
        return TcpStream::connect(at).await.ok();
    }
    let kind = if at.is_ipv4() { SocketKind::Tcp4 } else { SocketKind::Tcp6 };
    let socket = pod.open_socket(kind, true).await.ok()?;
    TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(at).await.ok()
}

async fn get(pod: &Pod, place: &Place, at: SocketAddr, path: &str) -> Option<bool> {
    let mut stream = connect(pod, place, at).await?;
    let path = if path.is_empty() { "/" } else { path };
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nuser-agent: lateen-probe\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    // The status line is all that counts: `HTTP/1.1 200`.
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.ok()?;
    let status: u16 = std::str::from_utf8(&line[9..]).ok()?.parse().ok()?;
    Some((200..400).contains(&status))
}
