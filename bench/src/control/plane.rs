//! A control plane in a process of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lateen_control::api::ApiClient;
use serde::Serialize;

use super::mesh::Mesh;
use super::millis;
use crate::child::{self, Measured};
use crate::contender::CORE;

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(120);

/// A running control plane.
pub(super) struct Plane {
    process: Measured,
    pub(super) api: ApiClient,
    pub(super) socket: PathBuf,
}

/// What it took to be ready, without clients.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Started {
    pub(super) millis: f64,
    pub(super) cpu_millis: f64,
    pub(super) memory_mib: f64,
}

impl Plane {
    /// Starts one for a mesh, with an empty state directory.
    pub(super) async fn start(mesh: &Mesh) -> anyhow::Result<(Self, Started)> {
        let (state, run) = (mesh.root().join("state"), mesh.root().join("run"));
        std::fs::create_dir_all(&run)?;
        let mut command = child::lateen(CORE)?;
        command.arg("control").arg("--dir").arg(mesh.objects());
        command.arg("--state").arg(&state).arg("--run").arg(&run).env("LATEEN_LOG", "error");
        let start = Instant::now();
        let process = Measured::start(command)?;
        let api = ApiClient::new(run.join("api.sock"));
        let mut plane = Plane { process, api, socket: run.join("control.sock") };
        plane.wait(start + START).await?;
        let started = Started {
            millis: millis(start.elapsed()),
            cpu_millis: millis(plane.cpu()?),
            memory_mib: plane.memory_mib()?,
        };
        Ok((plane, started))
    }

    async fn wait(&mut self, deadline: Instant) -> anyhow::Result<()> {
        while self.api.text("/healthz/ready").await.is_err() {
            anyhow::ensure!(self.process.is_alive(), "the control plane ended at its start");
            anyhow::ensure!(Instant::now() < deadline, "the control plane was not ready within {START:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// What all its threads spent on a core so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        self.process.cpu()
    }

    pub(super) fn memory_mib(&self) -> anyhow::Result<f64> {
        Ok(self.process.memory()? as f64 / f64::from(1 << 20))
    }
}
