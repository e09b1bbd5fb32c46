//! Our own proxies, each told what it must know by files: the mesh as a proxy's dump writes it, its
//! certificate, and a bootstrap.
//!
//! Plain mode's listeners stand in for redirected traffic, so that no namespace is needed and every
//! contender is reached over the same loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use lateen_model::{Identity, Instance, Labels, Namespace, NodeName, ServiceAccount, TrustDomain, Tunnel};
use lateen_pki::{Issuer, PrivateKey, Root, SecretPem, csr};
use lateen_world::{Change, Settings, World};
use serde_json::{Value, json};

use crate::child::{self, Measured};
use crate::contender::{CORE, Stage, free_address};

/// The service that is called.
pub(crate) const HOST: &str = "backend.default.svc.cluster.local";

/// Who calls, as the backend is told behind a pair.
pub(crate) const CALLER: &str = "uri=spiffe://cluster.local/ns/default/sa/client";

/// The service's port.
const PORT: u16 = 80;

/// Where HBONE is listened for.
const HBONE: u16 = 15008;

/// The address of the backend's workload in the pair: its sidecar listens there, on HBONE's own port.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 99, 15, 8));

/// Other services that the callers could call.
const OTHERS: usize = 20;

/// Where the load connects, and what is measured.
type Started = (SocketAddr, Vec<Measured>);

/// One hop, out: the backend has no proxy.
pub(crate) fn outbound(stage: &Stage) -> anyhow::Result<Started> {
    let files = Files::new(stage, "outbound")?;
    files.write_mesh(stage.backend, Tunnel::None)?;
    let address = free_address()?;
    let listen = json!([{ "listen": address, "host": HOST, "port": PORT }]);
    let client = files.start("client", &json!({ "hbone": free_address()?, "outbound": listen }))?;
    Ok((address, vec![client]))
}

/// One hop, in: callers come in plaintext.
pub(crate) fn inbound(stage: &Stage) -> anyhow::Result<Started> {
    let files = Files::new(stage, "inbound")?;
    let address = SocketAddr::new(SERVER, free_address()?.port());
    files.write_mesh(address, Tunnel::Hbone)?;
    let listen = json!([{ "listen": address, "forward": stage.backend }]);
    let hbone = SocketAddr::new(SERVER, HBONE);
    let server = files.start("backend", &json!({ "hbone": hbone, "inbound": listen }))?;
    Ok((address, vec![server]))
}

/// Both, with mTLS between them.
pub(crate) fn pair(stage: &Stage) -> anyhow::Result<Started> {
    let files = Files::new(stage, "pair")?;
    let application = SocketAddr::new(SERVER, free_address()?.port());
    files.write_mesh(application, Tunnel::Hbone)?;
    let listen = json!([{ "listen": application, "forward": stage.backend }]);
    let hbone = SocketAddr::new(SERVER, HBONE);
    let server = files.start("backend", &json!({ "hbone": hbone, "inbound": listen }))?;
    let address = free_address()?;
    let listen = json!([{ "listen": address, "host": HOST, "port": PORT }]);
    let client = files.start("client", &json!({ "hbone": free_address()?, "outbound": listen }))?;
    Ok((address, vec![client, server]))
}

/// The files of one mesh.
struct Files {
    directory: PathBuf,
    issuer: Issuer,
}

impl Files {
    fn new(stage: &Stage, name: &str) -> anyhow::Result<Self> {
        let directory = stage.scratch.join(name);
        std::fs::create_dir_all(&directory)?;
        let root = Root::generate(&TrustDomain::default(), SystemTime::now());
        let (chain, _) = root.to_pem();
        std::fs::write(directory.join("root.pem"), &chain)?;
        Ok(Files { directory, issuer: Issuer::new(root, DAY) })
    }

    /// Writes the mesh as both proxies know it.
    fn write_mesh(&self, backend: SocketAddr, tunnel: Tunnel) -> anyhow::Result<()> {
        let mut world = World::new(Settings::default());
        let text = objects(backend.port());
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut changes = vec![
            Change::SetFile { path: "bench.yaml".into(), text },
            Change::SetInstance(instance("backend", backend.ip(), tunnel)?),
            Change::SetInstance(instance("client", local, Tunnel::Hbone)?),
        ];
        for number in 0..OTHERS {
            changes.push(Change::SetInstance(instance(&format!("other-{number}"), local, Tunnel::None)?));
        }
        let outcome = world.apply(changes);
        let problems = world.problems();
        anyhow::ensure!(problems.is_empty(), "the bench's own objects have problems: {problems:?}");
        anyhow::ensure!(!outcome.delta.is_empty(), "the bench's own objects mean nothing");
        std::fs::write(self.directory.join("mesh.yaml"), lateen_wire::json::to_yaml(&world.catalog()))?;
        Ok(())
    }

    /// Starts the sidecar of a workload, with one worker.
    fn start(&self, name: &str, plain: &Value) -> anyhow::Result<Measured> {
        let (chain, key) = self.certify(name)?;
        let bootstrap = json!({
            "role": "sidecar",
            "name": name,
            "namespace": "default",
            "serviceAccount": name,
            "labels": { "app": name },
            "workers": 1,
            "plain": plain,
            "control": {
                "from": "files",
                "resources": self.directory.join("mesh.yaml"),
                "certificateChain": chain,
                "privateKey": key,
                "rootCertificates": self.directory.join("root.pem"),
            },
        });
        let path = self.directory.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&bootstrap)?)?;
        let mut command = child::lateen(CORE)?;
        // The access log is written, line by line, to where nobody keeps it, as Envoy's is.
        command.arg("proxy").arg("--bootstrap").arg(path).stdout(Stdio::null()).env("LATEEN_LOG", "error");
        Measured::start(command)
    }

    fn certify(&self, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
        let account = ServiceAccount::parse(name)?;
        let identity = Identity::new(TrustDomain::default(), Namespace::default(), account);
        // Our own keys never leave memory; this one must be told to another process.
        let key_text = rcgen::KeyPair::generate()?.serialize_pem();
        let key = PrivateKey::from_pem(&SecretPem::new(key_text.clone()))?;
        let request = csr::Request::parse(&csr::make(&key, &identity))?;
        let issued = self.issuer.issue(&request, &identity, DAY, SystemTime::now())?;
        let (chain_path, key_path) =
            (self.directory.join(format!("{name}.pem")), self.directory.join(format!("{name}.key")));
        std::fs::write(&chain_path, issued.to_pem())?;
        std::fs::write(&key_path, key_text)?;
        Ok((chain_path, key_path))
    }
}

const DAY: Duration = Duration::from_secs(86_400);

fn instance(name: &str, address: IpAddr, tunnel: Tunnel) -> anyhow::Result<Instance> {
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

/// The backend with its route and its policies, and services beside it.
fn objects(target_port: u16) -> String {
    let others: String = (0..OTHERS).map(|number| service(&format!("other-{number}"), target_port)).collect();
    format!("{}{others}{ROUTE}{POLICIES}", service("backend", target_port))
}

fn service(name: &str, target_port: u16) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: {PORT}, targetPort: {target_port}}}]
"
    )
}

const ROUTE: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: backend, namespace: default}
spec:
  hosts: [backend]
  http:
  - match: [{headers: {end-user: {exact: nobody}}}]
    route: [{destination: {host: other-1}}]
  - timeout: 15s
    retries: {attempts: 2, retryOn: 'connect-failure,refused-stream,unavailable'}
    route: [{destination: {host: backend}}]
";

const POLICIES: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-admin, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  action: DENY
  rules: [{to: [{operation: {paths: ['/admin*']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-reading, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  rules: [{to: [{operation: {methods: ['GET'], paths: ['/*']}}]}]
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_right_and_their_dump_can_be_loaded() {
        let scratch = std::env::temp_dir().join(format!("lateen-bench-test-{}", std::process::id()));
        let backend = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let stage = Stage { backend, envoy: None, scratch: scratch.clone() };
        let files = Files::new(&stage, "mesh").unwrap();
        files.write_mesh(backend, Tunnel::Hbone).unwrap();
        let dump = std::fs::read_to_string(scratch.join("mesh/mesh.yaml")).unwrap();
        let loaded = lateen_wire::json::from_yaml(&dump).unwrap();
        assert!(loaded.refused.is_empty());
        let (chain, _) = files.certify("client").unwrap();
        assert!(chain.exists());
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
