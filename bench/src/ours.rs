//! Our own proxies, each told what it must know by files: the mesh as a proxy's dump writes it, its
//! certificate, and a bootstrap.
//!
//! Plain mode's listeners stand in for redirected traffic, so that no namespace is needed and every
//! contender is reached over the same loopback.

pub(crate) mod objects;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use lateen_model::{Identity, Instance, Labels, Namespace, NodeName, ServiceAccount, TrustDomain, Tunnel};
use lateen_pki::{Issuer, PrivateKey, Root, SecretPem, csr};
use lateen_world::{Change, Settings, Severity, World};
use serde_json::{Value, json};

use self::objects::{HOST, HOST_HTTP2, PORT};
use crate::child::{self, Measured};
use crate::contender::{CORE, Running, Stage, free_address};

/// Who calls, as the backend is told behind a pair.
pub(crate) const CALLER: &str = "uri=spiffe://cluster.local/ns/default/sa/client";

/// Where HBONE is listened for.
const HBONE: u16 = 15008;

/// One hop, out: the backend has no proxy, and the mesh is two services.
pub(crate) fn minimal(stage: &Stage) -> anyhow::Result<Running> {
    let files = Files::new(stage, "minimal")?;
    let backends = [stage.http1.port(), stage.http2.port()];
    files.write_mesh(objects::minimal(backends, false), LOCAL, Tunnel::None)?;
    let (listen, http1, http2) = outbound()?;
    let plain = json!({ "hbone": free_address()?, "outbound": listen });
    let client = files.start("client", "sidecar", Some(&plain))?;
    Ok(Running { http1, http2, processes: vec![client] })
}

/// One hop with everything: a gateway has routes and policies at once.
pub(crate) fn gateway(stage: &Stage, is_logged: bool) -> anyhow::Result<Running> {
    let files = Files::new(stage, if is_logged { "gateway-logged" } else { "gateway" })?;
    let address = free_address()?;
    let backends = [stage.http1.port(), stage.http2.port()];
    let text = objects::full(backends, address.port(), is_logged);
    files.write_mesh(text, LOCAL, Tunnel::None)?;
    Ok(Running::one(address, files.start("gateway", "gateway", None)?))
}

/// Both, with mTLS between them.
pub(crate) fn pair(stage: &Stage) -> anyhow::Result<Running> {
    let files = Files::new(stage, "pair")?;
    let (server, _) = serving(stage, &files)?;
    let (listen, http1, http2) = outbound()?;
    let plain = json!({ "hbone": free_address()?, "outbound": listen });
    let client = files.start("client", "sidecar", Some(&plain))?;
    Ok(Running { http1, http2, processes: vec![client, server] })
}

/// The serving half of a pair, and where it listens for HBONE.
pub(crate) fn server_of(stage: &Stage) -> anyhow::Result<(Measured, SocketAddr, Authority)> {
    let files = Files::new(stage, "server")?;
    let (server, hbone) = serving(stage, &files)?;
    Ok((server, hbone, files.authority))
}

/// Writes the mesh of a pair and starts the sidecar of the backend.
fn serving(stage: &Stage, files: &Files) -> anyhow::Result<(Measured, SocketAddr)> {
    let address = server_address();
    let ports = [free_address()?.port(), free_address()?.port()];
    let gateway_port = free_address()?.port();
    files.write_mesh(objects::full(ports, gateway_port, false), address, Tunnel::Hbone)?;
    let forward =
        |port: u16, to: SocketAddr| json!({ "listen": SocketAddr::new(address, port), "forward": to });
    let inbound = json!([forward(ports[0], stage.http1), forward(ports[1], stage.http2)]);
    let hbone = SocketAddr::new(address, HBONE);
    let server = files.start("backend", "sidecar", Some(&json!({ "hbone": hbone, "inbound": inbound })))?;
    Ok((server, hbone))
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The address of the backend's workload in a pair: its sidecar listens there on HBONE's own port, so each run
/// has an address of its own.
fn server_address() -> IpAddr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 64 + b % 64, c, d.max(1)))
}

/// Listeners for callers of both services.
fn outbound() -> anyhow::Result<(Value, SocketAddr, SocketAddr)> {
    let (http1, http2) = (free_address()?, free_address()?);
    let listen = |at: SocketAddr, host: &str| json!({ "listen": at, "host": host, "port": PORT });
    Ok((json!([listen(http1, HOST), listen(http2, HOST_HTTP2)]), http1, http2))
}

/// Files of a certificate, its key and the roots of others.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) roots: PathBuf,
}

/// A root of our own, for proxies whose certificates are files.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer,
}

impl Authority {
    pub(crate) fn new(directory: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let root = Root::generate(&TrustDomain::default(), SystemTime::now());
        let (chain, _) = root.to_pem();
        std::fs::write(directory.join("root.pem"), &chain)?;
        Ok(Authority { directory, issuer: Issuer::new(root, DAY) })
    }

    /// The roots that peers' certificates must lead to.
    pub(crate) fn roots(&self) -> PathBuf {
        self.directory.join("root.pem")
    }

    /// A certificate for a service account of the namespace `default`.
    pub(crate) fn certify(&self, name: &str) -> anyhow::Result<Certificate> {
        let account = ServiceAccount::parse(name)?;
        let identity = Identity::new(TrustDomain::default(), Namespace::default(), account);
        // Our own keys never leave memory; this one must be told to another process.
        let key_text = rcgen::KeyPair::generate()?.serialize_pem();
        let key = PrivateKey::from_pem(&SecretPem::new(key_text.clone()))?;
        let request = csr::Request::parse(&csr::make(&key, &identity))?;
        let issued = self.issuer.issue(&request, &identity, DAY, SystemTime::now())?;
        let (chain, key) =
            (self.directory.join(format!("{name}.pem")), self.directory.join(format!("{name}.key")));
        std::fs::write(&chain, issued.to_pem())?;
        std::fs::write(&key, key_text)?;
        Ok(Certificate { chain, key, roots: self.roots() })
    }
}

/// The files of one mesh.
struct Files {
    directory: PathBuf,
    authority: Authority,
    callgrind: Option<PathBuf>,
}

impl Files {
    fn new(stage: &Stage, name: &str) -> anyhow::Result<Self> {
        let directory = stage.scratch.join(name);
        Ok(Files {
            authority: Authority::new(directory.clone())?,
            directory,
            callgrind: stage.callgrind.clone(),
        })
    }

    /// Writes the mesh as all proxies know it. A field that is not enforced yet is left to say so in the table's
    /// notes; anything else that is wrong is an error.
    fn write_mesh(&self, objects: String, backend: IpAddr, tunnel: Tunnel) -> anyhow::Result<()> {
        let mut world = World::new(Settings::default());
        let outcome = world.apply(vec![
            Change::SetFile { path: "bench.yaml".into(), text: objects },
            Change::SetInstance(instance("backend", backend, tunnel)?),
            Change::SetInstance(instance("client", LOCAL, Tunnel::Hbone)?),
            Change::SetInstance(instance("gateway", LOCAL, Tunnel::None)?),
        ]);
        let problems = world.problems();
        let wrong: Vec<_> = problems.iter().filter(|p| p.severity != Severity::Unsupported).collect();
        anyhow::ensure!(wrong.is_empty(), "the bench's own objects have problems: {wrong:?}");
        anyhow::ensure!(!outcome.delta.is_empty(), "the bench's own objects mean nothing");
        std::fs::write(self.directory.join("mesh.yaml"), lateen_wire::json::to_yaml(&world.catalog()))?;
        Ok(())
    }

    /// Starts the proxy of a workload, with one worker.
    fn start(&self, name: &str, role: &str, plain: Option<&Value>) -> anyhow::Result<Measured> {
        let certificate = self.authority.certify(name)?;
        let bootstrap = json!({
            "role": role,
            "name": name,
            "namespace": "default",
            "serviceAccount": name,
            "labels": { "app": name },
            "workers": 1,
            "plain": plain,
            "control": {
                "from": "files",
                "resources": self.directory.join("mesh.yaml"),
                "certificateChain": certificate.chain,
                "privateKey": certificate.key,
                "rootCertificates": certificate.roots,
            },
        });
        let path = self.directory.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&bootstrap)?)?;
        let mut command = match &self.callgrind {
            Some(to) => child::counted_lateen(CORE, &to.join(format!("{name}.out")))?,
            None => child::lateen(CORE)?,
        };
        // Where there is an access log it is written, line by line, to where nobody keeps it, as Envoy's is.
        command.arg("proxy").arg("--bootstrap").arg(path).stdout(Stdio::null()).env("LATEEN_LOG", "error");
        Measured::start(command)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn instance(name: &str, address: IpAddr, tunnel: Tunnel) -> anyhow::Result<Instance> {
    Ok(Instance {
        name: name.into(),
        namespace: Namespace::default(),
        process: name.into(),
        labels: [("app", name)].into_iter().collect::<Labels>(),
        service_account: ServiceAccount::parse(name)?,
        addresses: vec![address],
        ports: Vec::new(),
        tunnel,
        ready: true,
        node: NodeName::default(),
    })
}

/// What of the objects is read and not enforced yet.
pub(crate) fn unsupported() -> Vec<String> {
    let mut world = World::new(Settings::default());
    world.apply(vec![Change::SetFile { path: "bench.yaml".into(), text: objects::full([1, 2], 3, false) }]);
    let problems = world.problems();
    let mut fields: Vec<String> = problems
        .into_iter()
        .filter(|problem| problem.severity == Severity::Unsupported)
        .filter_map(|problem| problem.field.map(|field| field.to_string()))
        .collect();
    fields.sort();
    fields.dedup();
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_right_and_their_dump_can_be_loaded() {
        let scratch = std::env::temp_dir().join(format!("lateen-bench-test-{}", std::process::id()));
        let address = SocketAddr::new(LOCAL, 1);
        let stage =
            Stage { http1: address, http2: address, envoy: None, scratch: scratch.clone(), callgrind: None };
        let files = Files::new(&stage, "mesh").unwrap();
        files.write_mesh(objects::full([1, 2], 3, false), LOCAL, Tunnel::Hbone).unwrap();
        let dump = std::fs::read_to_string(scratch.join("mesh/mesh.yaml")).unwrap();
        let loaded = lateen_wire::json::from_yaml(&dump).unwrap();
        assert!(loaded.refused.is_empty());
        assert!(files.authority.certify("client").unwrap().chain.exists());
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
