//! A mesh as users write it, through the real way: text to `World` to the canonical YAML that a proxy loads.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use lateen_model::{
    Catalog, Identity, Instance, Labels, Namespace, NodeName, ServiceAccount, TrustDomain, Tunnel,
};
use lateen_pki::{Issuer, PrivateKey, Root, SecretPem, csr};
use lateen_world::{Change, Settings, World};

const DAY: Duration = Duration::from_secs(86_400);

/// The objects of one test, and who runs.
#[derive(Default)]
pub struct Mesh {
    text: String,
    instances: Vec<Instance>,
}

/// A service's port by which callers know it.
pub const PORT: u16 = 80;

impl Mesh {
    /// Adds objects.
    pub fn add(&mut self, yaml: &str) -> &mut Self {
        let _ = write!(self.text, "---\n{}\n", yaml.trim_end());
        self
    }

    /// Adds a service on port 80 with one instance at `at`, whose port is named `port` (`http`, `http2`, `grpc`).
    pub fn service(&mut self, name: &str, port: &str, at: SocketAddr, tunnel: Tunnel) -> &mut Self {
        self.service_of(name, port, &[at], tunnel)
    }

    /// The same with several instances, all on one port.
    pub fn service_of(&mut self, name: &str, port: &str, at: &[SocketAddr], tunnel: Tunnel) -> &mut Self {
        let target = at.first().map_or(PORT, SocketAddr::port);
        self.add(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: {{selector: \
             {{app: {name}}}, ports: [{{name: {port}, port: {PORT}, targetPort: {target}}}]}}}}"
        ));
        for (index, at) in at.iter().enumerate() {
            self.workload(name, &format!("{name}-{index}"), at.ip(), tunnel);
        }
        self
    }

    /// Adds one that runs as `app`, called `name`.
    pub fn workload(&mut self, app: &str, name: &str, at: IpAddr, tunnel: Tunnel) -> &mut Self {
        self.instances.push(Instance {
            name: name.into(),
            namespace: Namespace::default(),
            process: app.into(),
            labels: [("app", app)].into_iter().collect::<Labels>(),
            service_account: account(app),
            addresses: vec![at],
            ports: Vec::new(),
            tunnel,
            ready: true,
            node: NodeName::default(),
        });
        self
    }

    /// What it means. Objects of a test have no problems.
    ///
    /// # Errors
    /// Says which.
    pub fn catalog(&self) -> anyhow::Result<Catalog> {
        let mut world = World::new(Settings::default());
        let mut changes = vec![Change::SetFile { path: "mesh.yaml".into(), text: self.text.clone() }];
        changes.extend(self.instances.iter().cloned().map(Change::SetInstance));
        world.apply(changes);
        let problems = world.problems();
        anyhow::ensure!(problems.is_empty(), "the objects of this test have problems: {problems:#?}");
        Ok(world.catalog())
    }

    /// Writes what it means as a proxy's dump would.
    ///
    /// # Errors
    /// When the objects have problems, or the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<Catalog> {
        let catalog = self.catalog()?;
        std::fs::write(path, lateen_wire::json::to_yaml(&catalog)).context("write the mesh")?;
        Ok(catalog)
    }
}

fn account(name: &str) -> ServiceAccount {
    ServiceAccount::parse(name).unwrap_or_default()
}

/// Certificates in files, for proxies without a control plane.
pub struct Authority {
    issuer: Issuer,
    folder: PathBuf,
}

/// Where a proxy's certificate lies.
pub struct Files {
    /// The chain.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// Whom it trusts.
    pub roots: PathBuf,
}

impl Authority {
    /// A new root; files go to `folder`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let root = Root::generate(&TrustDomain::default(), SystemTime::now());
        std::fs::write(folder.join("root.pem"), root.to_pem().0)?;
        Ok(Self { issuer: Issuer::new(root, DAY), folder: folder.to_owned() })
    }

    /// A certificate for the account `name`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn certify(&self, name: &str) -> anyhow::Result<Files> {
        let identity = Identity::new(TrustDomain::default(), Namespace::default(), account(name));
        // Our own keys never leave memory; this one must be told to another process.
        let text = rcgen::KeyPair::generate()?.serialize_pem();
        let key = PrivateKey::from_pem(&SecretPem::new(text.clone()))?;
        let request = csr::Request::parse(&csr::make(&key, &identity))?;
        let issued = self.issuer.issue(&request, &identity, DAY, SystemTime::now())?;
        let files = Files {
            chain: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
            roots: self.folder.join("root.pem"),
        };
        std::fs::write(&files.chain, issued.to_pem())?;
        std::fs::write(&files.key, text)?;
        Ok(files)
    }
}
