//! Our proxy as a process: told who it is by files, asked where it listens, and its access log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::mesh::{Authority, Files};
use crate::process::{self, Process, eventually};

/// A proxy that serves.
pub struct Proxy {
    process: Process,
    bound: Vec<(String, SocketAddr)>,
    log: PathBuf,
}

/// What to start one with.
pub struct Start<'a> {
    /// Where its files go.
    pub folder: &'a Path,
    /// `sidecar` or `gateway`.
    pub role: &'a str,
    /// Its account and its label `app`; its workload is `name-0`.
    pub name: &'a str,
    /// The resources.
    pub mesh: &'a Path,
    /// Listeners of plain mode.
    pub plain: Option<Value>,
    /// Its certificate.
    pub certificate: Option<Files>,
    /// So many workers.
    pub workers: usize,
}

impl Proxy {
    /// Starts one, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(start: Start<'_>) -> anyhow::Result<Self> {
        let Start { folder, role, name, mesh, plain, certificate, workers } = start;
        let mut control = json!({ "from": "files", "resources": mesh });
        if let Some(Files { chain, key, roots }) = certificate {
            control["certificateChain"] = json!(chain);
            control["privateKey"] = json!(key);
            control["rootCertificates"] = json!(roots);
        }
        let bootstrap = json!({
            "role": role, "name": format!("{name}-0"), "namespace": "default", "serviceAccount": name,
            "labels": { "app": name }, "workers": workers, "plain": plain, "control": control, "drainSeconds": 3,
        });
        Self::run(folder, name, &bootstrap)
    }

    /// Starts one with a bootstrap.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn run(folder: &Path, name: &str, bootstrap: &Value) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.json"));
        let (log, tell) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.bound")));
        std::fs::write(&path, bootstrap.to_string())?;
        let mut process = Process::start(process::proxy(&path, &log, &tell)?)?;
        let told = eventually(&format!("the proxy of {name} serves"), || {
            std::fs::read_to_string(&tell).ok().or_else(|| (!process.is_alive()).then(String::new))
        })?;
        anyhow::ensure!(!told.is_empty(), "the proxy of {name} ended at its start");
        let bound: Vec<Value> = serde_json::from_str(&told)?;
        let read = |bound: &Value| {
            Some((bound["name"].as_str()?.to_owned(), bound["address"].as_str()?.parse().ok()?))
        };
        Ok(Self { process, bound: bound.iter().filter_map(read).collect(), log })
    }

    /// The first listener whose name begins so.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let mut found = self.bound.iter().filter(|(bound, _)| bound.starts_with(name));
        let (_, address) = found.next().with_context(|| format!("no listener {name} in {:?}", self.bound))?;
        let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
        Ok(SocketAddr::new(ip, address.port()))
    }

    /// All listeners whose name begins so, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<SocketAddr> {
        let named = self.bound.iter().filter(|(bound, _)| bound.starts_with(name));
        named.map(|(_, address)| *address).collect()
    }

    /// Ends it as an operator would, and gives the lines of its access log.
    ///
    /// # Errors
    /// When it did not end well.
    pub fn finish(mut self) -> anyhow::Result<Vec<Value>> {
        let status = self.process.end()?;
        anyhow::ensure!(status.success(), "the proxy ended with {status}");
        self.lines()
    }

    /// The lines of its access log so far.
    ///
    /// # Errors
    /// When they are not JSON.
    pub fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.log)?;
        let complete = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        complete.lines().map(|line| serde_json::from_str(line).context("a line of the access log")).collect()
    }
}

/// An address of the loopback that no other test uses.
#[must_use]
pub fn own_address() -> IpAddr {
    let [a, b, c, ..] = lateen_runtime::random::next_u64().to_be_bytes();
    Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254)).into()
}

/// A port that was free a moment ago, for all addresses: a gateway listens on all of them. It is none of those that the
/// kernel gives to connections, so that no caller takes it before the one it is for.
///
/// # Errors
/// When the machine has none.
pub fn free_port(ip: IpAddr) -> anyhow::Result<u16> {
    const TRIES: usize = 64;
    let mut refused = None;
    for _ in 0..TRIES {
        let port = 10_240 + u16::try_from(lateen_runtime::random::next_u64() % 22_000)?;
        let free = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).and_then(|all| {
            drop(all);
            std::net::TcpListener::bind((ip, port))
        });
        match free {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or_else(|| anyhow::anyhow!("no try was made"), Into::into))
}

/// HBONE's own port: tunnels go to no other.
const HBONE: u16 = 15008;

/// One sidecar on the way out, or two with mTLS between them.
pub struct Way {
    /// The proxies, the client's first.
    pub proxies: Vec<Proxy>,
    /// Where clients call.
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// How a [`Way`] is made.
pub struct Plan<'a> {
    /// How the service's port is named: `http`, `http2`, `grpc`.
    pub port: &'a str,
    /// Where the application listens.
    pub application: SocketAddr,
    /// Objects besides the service `app`.
    pub objects: &'a str,
    /// Two proxies with mTLS between them.
    pub pair: bool,
}

impl Way {
    /// Starts the proxies between a client and an application, which is called `app`.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start(plan: &Plan<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("mesh.yaml");
        let ip = own_address();
        let at = if plan.pair { SocketAddr::new(ip, plan.application.port()) } else { plan.application };
        let tunnel = if plan.pair { lateen_model::Tunnel::Hbone } else { lateen_model::Tunnel::None };
        let mut mesh = crate::mesh::Mesh::default();
        mesh.service("app", plan.port, at, tunnel);
        mesh.workload("client", "client-0", own_address(), lateen_model::Tunnel::Hbone);
        if !plan.objects.is_empty() {
            mesh.add(plan.objects);
        }
        mesh.write(&path)?;
        let authority = Authority::new(folder.path())?;
        let start = |name, plain| -> anyhow::Result<Proxy> {
            Proxy::start(Start {
                folder: folder.path(),
                role: "sidecar",
                name,
                mesh: &path,
                plain: Some(plain),
                certificate: Some(authority.certify(name)?),
                workers: 1,
            })
        };
        let mut proxies = Vec::new();
        if plan.pair {
            let hbone = SocketAddr::new(ip, HBONE);
            let inbound = json!([{ "listen": at, "forward": plan.application }]);
            proxies.push(start("app", json!({ "hbone": hbone, "inbound": inbound }))?);
        }
        let outbound = json!([{ "listen": "127.0.0.1:0", "host": "app.default.svc.cluster.local", "port": crate::mesh::PORT }]);
        proxies.insert(0, start("client", json!({ "hbone": "127.0.0.1:0", "outbound": outbound }))?);
        let address = proxies[0].at("outbound")?;
        Ok(Self { proxies, address, _folder: folder })
    }
}
