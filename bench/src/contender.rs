//! What is compared: how each is started between the load and the backend.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::child::{self, Measured};
use crate::envoy;
use crate::ours;

/// The core of whatever is measured.
pub(crate) const CORE: usize = 0;

/// How long one may take to listen.
const START: Duration = Duration::from_secs(20);

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// A TCP relay on bare epoll.
    Floor,
    /// Our sidecar on the way out: services, routes, retries.
    SidecarOutbound,
    /// Our sidecar on the way in: policies.
    SidecarInbound,
    /// Two sidecars of ours with mTLS between them.
    Pair,
    /// Envoy with one route and nothing else.
    EnvoyPlain,
    /// Envoy with policies, retries and an access log.
    EnvoyMesh,
}

/// A contender that serves.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    processes: Vec<Measured>,
}

/// What contenders are started with.
pub(crate) struct Stage {
    pub(crate) backend: SocketAddr,
    pub(crate) envoy: Option<PathBuf>,
    /// For configuration files.
    pub(crate) scratch: PathBuf,
}

impl Contender {
    pub(crate) const ALL: [Contender; 6] = [
        Contender::Floor,
        Contender::SidecarOutbound,
        Contender::SidecarInbound,
        Contender::Pair,
        Contender::EnvoyPlain,
        Contender::EnvoyMesh,
    ];

    /// As it stands in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Contender::Floor => "raw TCP relay, bare epoll (the floor)",
            Contender::SidecarOutbound => "Lateen 1 hop, out: 21 services + retries + access log",
            Contender::SidecarInbound => "Lateen 1 hop, in: 2 policies + access log",
            Contender::Pair => "Lateen pair, mTLS (sum of both)",
            Contender::EnvoyPlain => "Envoy 1 hop, plain route",
            Contender::EnvoyMesh => "Envoy 1 hop, RBAC + retries + access log",
        }
    }

    /// Why it cannot take part here.
    pub(crate) fn lacks(self, stage: &Stage) -> Option<&'static str> {
        match self {
            Contender::EnvoyPlain | Contender::EnvoyMesh if stage.envoy.is_none() => {
                Some("Envoy is not there and could not be installed; name one with --envoy")
            }
            _ => None,
        }
    }

    /// What the backend must have seen of a request that claims `x-forwarded-client-cert: forged`, and what
    /// it must not have seen.
    pub(crate) fn traces(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Contender::Floor => (Some("forged"), None),
            Contender::SidecarOutbound | Contender::SidecarInbound => (None, Some("forged")),
            Contender::Pair => (Some(ours::CALLER), Some("forged")),
            Contender::EnvoyPlain | Contender::EnvoyMesh => (Some("x-envoy-expected-rq-timeout-ms"), None),
        }
    }

    /// A path that its policies deny.
    pub(crate) fn denied_path(self) -> Option<&'static str> {
        match self {
            Contender::Floor | Contender::SidecarOutbound | Contender::EnvoyPlain => None,
            Contender::SidecarInbound | Contender::Pair | Contender::EnvoyMesh => Some("/admin"),
        }
    }

    /// Starts it and waits until it takes connections.
    pub(crate) fn start(self, stage: &Stage) -> anyhow::Result<Running> {
        let (address, processes) = match self {
            Contender::Floor => {
                let address = free_address()?;
                let mut command = child::relay(CORE)?;
                command.arg(address.to_string()).arg(stage.backend.to_string());
                (address, vec![Measured::start(command)?])
            }
            Contender::SidecarOutbound => ours::outbound(stage)?,
            Contender::SidecarInbound => ours::inbound(stage)?,
            Contender::Pair => ours::pair(stage)?,
            Contender::EnvoyPlain | Contender::EnvoyMesh => {
                let address = free_address()?;
                let program = stage.envoy.as_ref().context("Envoy is not there")?;
                let is_mesh = self == Contender::EnvoyMesh;
                let config = stage.scratch.join(if is_mesh { "envoy-mesh.yaml" } else { "envoy-plain.yaml" });
                std::fs::write(&config, envoy::config(address, stage.backend, is_mesh))?;
                (address, vec![Measured::start(envoy::command(program, &config)?)?])
            }
        };
        let mut running = Running { address, processes };
        running.wait()?;
        Ok(running)
    }
}

impl Running {
    /// What all its processes spent on a core so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.processes.iter().map(Measured::cpu).sum()
    }

    /// Resident memory of all its processes, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.processes.iter().map(Measured::memory).sum()
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            anyhow::ensure!(self.processes.iter_mut().all(Measured::is_alive), "a proxy ended at its start");
            anyhow::ensure!(Instant::now() < deadline, "a proxy did not listen within {START:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// An address of the loopback that is free now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
