//! What is compared: how each is started between the load and the backend.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use crate::child::{self, Measured};
use crate::ours::{self, CALLER};
use crate::{envoy, others};

/// The core of whatever is measured.
pub(crate) const CORE: usize = 0;

/// How long one may take to listen.
const START: Duration = Duration::from_secs(20);

/// One row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// No proxy at all: what others add is counted from here.
    Direct,
    /// A TCP relay on bare epoll.
    Floor,
    /// Our sidecar on the way out, with one service and nothing else.
    Minimal,
    /// Our gateway with everything: 200 routes, 2 policies, retries, timeouts, outlier detection, limits.
    Full,
    /// The same with an access log.
    FullLogged,
    /// Two sidecars of ours with everything, mTLS between them.
    Pair,
    /// nginx as a plain reverse proxy.
    Nginx,
    /// haproxy as a plain reverse proxy.
    Haproxy,
    /// Envoy with everything that ours has.
    EnvoyFull,
    /// Two Envoys with everything, mTLS between them.
    EnvoyPair,
}

/// A contender that serves.
pub(crate) struct Running {
    /// Where callers of the HTTP/1.1 backend connect.
    pub(crate) http1: SocketAddr,
    /// Where callers of the HTTP/2 backend connect.
    pub(crate) http2: SocketAddr,
    pub(crate) processes: Vec<Measured>,
}

/// What contenders are started with.
pub(crate) struct Stage {
    /// Backends.
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) envoy: Option<PathBuf>,
    /// For configuration files.
    pub(crate) scratch: PathBuf,
    /// Our own run under callgrind, which writes there.
    pub(crate) callgrind: Option<PathBuf>,
}

impl Contender {
    pub(crate) const ALL: [Contender; 10] = [
        Contender::Direct,
        Contender::Floor,
        Contender::Minimal,
        Contender::Full,
        Contender::FullLogged,
        Contender::Pair,
        Contender::Nginx,
        Contender::Haproxy,
        Contender::EnvoyFull,
        Contender::EnvoyPair,
    ];

    /// As it stands in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Contender::Direct => "no proxy",
            Contender::Floor => "raw TCP relay, bare epoll (the floor)",
            Contender::Minimal => "Lateen, one service and nothing else",
            Contender::Full => "Lateen, full config",
            Contender::FullLogged => "Lateen, full config and access log",
            Contender::Pair => "Lateen pair, mTLS, full config (sum of both)",
            Contender::Nginx => "nginx, plain reverse proxy",
            Contender::Haproxy => "haproxy, plain reverse proxy",
            Contender::EnvoyFull => "Envoy, full config",
            Contender::EnvoyPair => "Envoy pair, mTLS, full config (sum of both)",
        }
    }

    /// Why it cannot take part here.
    pub(crate) fn lacks(self, stage: &Stage) -> Option<&'static str> {
        match self {
            Contender::EnvoyFull | Contender::EnvoyPair if stage.envoy.is_none() => {
                Some("Envoy is not there and could not be installed; name one with --envoy")
            }
            Contender::Nginx if others::find("nginx").is_none() => Some("nginx is not installed"),
            Contender::Haproxy if others::find("haproxy").is_none() => Some("haproxy is not installed"),
            _ => None,
        }
    }

    /// What the backend must have seen of a request that claims `x-forwarded-client-cert: forged`.
    pub(crate) fn traces(self) -> &'static [&'static str] {
        match self {
            Contender::Direct | Contender::Floor => &["forged"],
            Contender::Nginx | Contender::Haproxy => &[],
            Contender::Minimal | Contender::Full | Contender::FullLogged => &["x-request-id: "],
            Contender::EnvoyFull => &["x-request-id: ", "x-envoy-expected-rq-timeout-ms"],
            // Told by the second proxy, which knows it from a verified certificate alone.
            Contender::Pair | Contender::EnvoyPair => &["x-request-id: ", CALLER],
        }
    }

    /// Whether that claim must not arrive.
    pub(crate) fn removes_claims(self) -> bool {
        matches!(
            self,
            Contender::Minimal
                | Contender::Full
                | Contender::FullLogged
                | Contender::Pair
                | Contender::EnvoyPair
        )
    }

    /// A path that its policies deny.
    pub(crate) fn denied_path(self) -> Option<&'static str> {
        match self {
            Contender::Direct
            | Contender::Floor
            | Contender::Minimal
            | Contender::Nginx
            | Contender::Haproxy => None,
            _ => Some("/admin"),
        }
    }

    /// Starts it and waits until it takes connections.
    pub(crate) fn start(self, stage: &Stage) -> anyhow::Result<Running> {
        let mut running = match self {
            Contender::Direct => Running { http1: stage.http1, http2: stage.http2, processes: Vec::new() },
            Contender::Floor => {
                let address = free_address()?;
                let mut command = child::relay(CORE)?;
                command.arg(address.to_string()).arg(stage.http1.to_string());
                Running::one(address, Measured::start(command)?)
            }
            Contender::Minimal => ours::minimal(stage)?,
            Contender::Full => ours::gateway(stage, false)?,
            Contender::FullLogged => ours::gateway(stage, true)?,
            Contender::Pair => ours::pair(stage)?,
            Contender::Nginx => others::nginx(stage)?,
            Contender::Haproxy => others::haproxy(stage)?,
            Contender::EnvoyFull => envoy::single(stage)?,
            Contender::EnvoyPair => envoy::pair(stage)?,
        };
        running.wait().with_context(|| format!("start {}", self.title()))?;
        Ok(running)
    }
}

impl Running {
    /// One process with one address for everything.
    pub(crate) fn one(address: SocketAddr, process: Measured) -> Self {
        Running { http1: address, http2: address, processes: vec![process] }
    }

    /// What all its processes spent on a core so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.processes.iter().map(Measured::cpu).sum()
    }

    /// Resident memory of all its processes, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.processes.iter().map(Measured::memory).sum()
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        for address in [self.http1, self.http2] {
            while TcpStream::connect(address).is_err() {
                let is_alive = self.processes.iter_mut().all(Measured::is_alive);
                anyhow::ensure!(is_alive, "it ended before it listened on {address}");
                anyhow::ensure!(start.elapsed() < START, "{address} does not listen after {START:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

/// A loopback address that nobody has at this moment.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
