//! A control plane as a process, over directories of its own, for tests in which the mesh changes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use lateen_control::api::ApiClient;
use lateen_control::api::types::{Instance, TokenRequest, Tunnel};
use serde_json::{Value, json};

use crate::process::{self, Process};
use crate::proxy::Proxy;

/// A running control plane.
pub struct Control {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    api: ApiClient,
    _process: Process,
}

impl Control {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        for name in ["mesh", "run"] {
            std::fs::create_dir(path(name))?;
        }
        let mut command = process::lateen()?;
        command.arg("control").arg("--dir").arg(path("mesh")).env("LATEEN_LOG", "error");
        command.arg("--state").arg(path("state")).arg("--run").arg(path("run"));
        let mut process = Process::start(command)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let api = ApiClient::new(path("run").join("api.sock"));
        process::eventually("the control plane answers", || {
            let ready = runtime.block_on(api.status()).is_ok_and(|status| status.ready);
            (ready || !process.is_alive()).then_some(())
        })?;
        Ok(Self { folder, runtime, api, _process: process })
    }

    /// Writes a file of the mesh, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, yaml: &str) -> anyhow::Result<()> {
        let (new, path) = (self.folder.path().join(name), self.folder.path().join("mesh").join(name));
        std::fs::write(&new, yaml)?;
        Ok(std::fs::rename(new, path)?)
    }

    /// Registers an instance of `app` without a proxy.
    ///
    /// # Errors
    /// When it is refused.
    pub fn register(&self, app: &str, name: &str, at: IpAddr) -> anyhow::Result<()> {
        let instance = Instance {
            process: app.to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            service_account: app.to_owned(),
            addresses: vec![at],
            ports: Vec::new(),
            tunnel: Tunnel::None,
            ready: true,
            node: String::new(),
        };
        self.runtime.block_on(self.api.put_instance("default", name, &instance)).context("register")
    }

    /// Starts the sidecar of `client`, which listens for each of these services; gives where.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn sidecar(&self, services: &[&str]) -> anyhow::Result<(Proxy, Vec<SocketAddr>)> {
        let identity = "spiffe://cluster.local/ns/default/sa/client";
        let request = TokenRequest { identity: identity.to_owned(), uid: None };
        let token = self.runtime.block_on(self.api.mint_token(&request)).context("mint a token")?;
        let outbound = |service: &&str| {
            let host = format!("{service}.default.svc.cluster.local");
            json!({ "listen": "127.0.0.1:0", "host": host, "port": crate::mesh::PORT })
        };
        let outbound: Vec<Value> = services.iter().map(outbound).collect();
        let socket: PathBuf = self.folder.path().join("run/control.sock");
        let bootstrap = json!({
            "role": "sidecar", "name": "client-0", "namespace": "default", "serviceAccount": "client",
            "labels": { "app": "client" }, "workers": 1, "drainSeconds": 3,
            "plain": { "hbone": "127.0.0.1:0", "outbound": outbound },
            "control": {
                "from": "plane", "at": { "socket": socket }, "rootCertificates": token.roots,
                "identity": token.control_identity, "token": token.token,
            },
        });
        let proxy = Proxy::run(self.folder.path(), "client", &bootstrap)?;
        let at = proxy.all("outbound");
        Ok((proxy, at))
    }
}
