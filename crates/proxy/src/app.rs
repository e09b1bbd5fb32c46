//! `App`: a whole proxy: build everything, start nothing; then run; then drain.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use lateen_model::{ProxyRole, Viewer};
use lateen_pki::{CertifiedIdentity, Current, PrivateKey, SecretPem, TrustBundle};
use lateen_runtime::clock::Clock;
use lateen_runtime::limits::worker_count;
use lateen_runtime::log::LogFilter;
use lateen_runtime::metrics::{Labels, Registry};
use lateen_runtime::ready::{Ready, StartupTask};
use lateen_runtime::sock::take_inherited;
use lateen_wire::Claim;
use lateen_wire::session::Batch;
use tokio::sync::watch;

use crate::config::{Bootstrap, Control, Endpoint, InvalidBootstrap};
use crate::follow::{self, Snapshots};
use crate::identity::{self, Holding, Published};
use crate::listen::{Bound, ListenError};
use crate::plane::{InvalidPlane, Plane};
use crate::role::Listeners;

mod ending;
mod run;
#[cfg(test)]
mod tests;

pub use ending::Ending;

/// The most workers of a sidecar that was not told how many: it shares the machine with its application.
const SIDECAR_WORKERS: usize = 2;

/// Why a proxy does not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bootstrap makes no sense.
    #[error("read the bootstrap")]
    Bootstrap(#[from] InvalidBootstrap),
    /// Its control plane cannot be asked.
    #[error("read control of the bootstrap")]
    Plane(#[from] InvalidPlane),
    /// Its resources cannot be loaded.
    #[error(transparent)]
    Files(#[from] follow::FilesError),
    /// Its certificate cannot be loaded.
    #[error("read {what} from {}", path.display())]
    Certificate {
        /// Which of the files.
        what: &'static str,
        /// Where.
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate without key or roots, or the other way round.
    #[error("certificateChain, privateKey and rootCertificates belong together; give all of them, or none")]
    HalfCertificate,
    /// A listener is missing.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Something of the system is missing.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// No valid certificate, and none to be had.
    #[error(transparent)]
    Lost(#[from] identity::Lost),
    /// A worker ended.
    #[error("start a worker")]
    Worker(#[from] lateen_runtime::workers::JobFailed),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Where identity and resources come from.
enum Source {
    Plane { plane: Plane, claim: Claim },
    Files { batch: Batch, holding: Option<Holding> },
}

/// A proxy that was built.
pub struct App {
    core: Core,
    listeners: Listeners,
    workers: usize,
    source: Source,
    way: Way,
    admin: Option<Endpoint>,
    patience: Duration,
    descriptors: Descriptors,
    startup: Startup,
}

/// What all parts of a proxy look at.
struct Core {
    viewer: Viewer,
    clock: Clock,
    log: Option<LogFilter>,
    registry: Registry,
    ready: Ready,
    published: Arc<Published>,
    snapshots: Arc<Snapshots>,
    ending: Ending,
    listening: watch::Sender<Vec<Bound>>,
    opened: watch::Sender<Vec<Bound>>,
}

/// How it reaches others.
struct Way {
    local_ranges: Vec<IpNet>,
    mark: Option<u32>,
    resolver: Option<SocketAddr>,
}

/// What was inherited.
struct Descriptors {
    broker: Option<OwnedFd>,
    ready: Option<File>,
    access_log: Option<File>,
}

/// What stands before readiness.
struct Startup {
    certificate: StartupTask,
    snapshot: StartupTask,
    listeners: StartupTask,
}

impl App {
    /// Builds a proxy: reads what there is to read, takes what was inherited, binds nothing. `log` is the filter that
    /// the admin page changes.
    ///
    /// # Errors
    /// When the bootstrap makes no sense, or what it names is not there.
    pub fn build(bootstrap: &Bootstrap, log: Option<LogFilter>) -> Result<Self, Error> {
        let clock = Clock::system();
        let role = bootstrap.role()?;
        let viewer = bootstrap.viewer()?;
        let listeners = Listeners::of(bootstrap)?;
        let mark = bootstrap.capture.map(|capture| capture.mark);
        let source = source(bootstrap, &viewer, mark, clock)?;
        let most = if role == ProxyRole::Sidecar { SIDECAR_WORKERS } else { usize::MAX };
        let (registry, ready) = (Registry::new(), Ready::new());
        declare(&registry, role, clock);
        let snapshots =
            Snapshots::start(viewer.clone(), &registry).map_err(system("start the thread that compiles"))?;
        let startup = Startup {
            certificate: ready.task("certificate"),
            snapshot: ready.task("snapshot"),
            listeners: ready.task("listeners"),
        };
        let core = Core {
            viewer,
            clock,
            log,
            registry,
            ready,
            published: Arc::default(),
            snapshots: Arc::new(snapshots),
            ending: Ending::default(),
            listening: watch::Sender::default(),
            opened: watch::Sender::default(),
        };
        Ok(Self {
            core,
            listeners,
            workers: worker_count(bootstrap.workers.and_then(NonZeroUsize::new), most),
            source,
            way: Way { local_ranges: bootstrap.local_ranges()?, mark, resolver: bootstrap.resolver },
            admin: bootstrap.admin.clone(),
            patience: Duration::from_secs(bootstrap.drain_seconds),
            descriptors: Descriptors::take(bootstrap)?,
            startup,
        })
    }

    /// Writes the access log there, whatever the bootstrap says: for who runs a proxy inside a process of its own.
    pub fn write_access_log_to(&mut self, file: File) {
        self.descriptors.access_log = Some(file);
    }

    /// Reaches the machine through the broker at the other end of this pair, whatever the bootstrap says.
    pub fn reach_through(&mut self, broker: OwnedFd) {
        self.descriptors.broker = Some(broker);
    }

    /// Ends it from inside the process.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.core.ending.clone()
    }

    /// Whether it serves.
    #[must_use]
    pub fn ready(&self) -> Ready {
        self.core.ready.clone()
    }

    /// Where it listens, once it does.
    #[must_use]
    pub fn listening(&self) -> watch::Receiver<Vec<Bound>> {
        self.core.listening.subscribe()
    }

    /// What a gateway has opened.
    #[must_use]
    pub fn opened(&self) -> watch::Receiver<Vec<Bound>> {
        self.core.opened.subscribe()
    }
}

impl Descriptors {
    fn take(bootstrap: &Bootstrap) -> Result<Self, Error> {
        let take = |number: Option<i32>, what| number.map(take_inherited).transpose().map_err(system(what));
        Ok(Self {
            broker: take(bootstrap.broker_fd, "take brokerFd")?,
            ready: take(bootstrap.ready_fd, "take readyFd")?.map(File::from),
            access_log: take(bootstrap.access_log_fd, "take accessLogFd")?.map(File::from),
        })
    }
}

fn source(bootstrap: &Bootstrap, viewer: &Viewer, mark: Option<u32>, clock: Clock) -> Result<Source, Error> {
    match &bootstrap.control {
        Control::Plane { at, root_certificates, identity, token } => {
            let plane = Plane::new(at, identity, root_certificates, token.clone(), mark, clock)?;
            let claim = Claim {
                role: viewer.role,
                address: bootstrap.addresses.first().copied(),
                name: viewer.name.clone(),
                namespace: viewer.identity.namespace.clone(),
            };
            Ok(Source::Plane { plane, claim })
        }
        Control::Files { resources, certificate_chain, private_key, root_certificates } => {
            let holding = match (certificate_chain, private_key, root_certificates) {
                (Some(chain), Some(key), Some(roots)) => Some(holding(viewer, chain, key, roots)?),
                (None, None, None) => None,
                _ => return Err(Error::HalfCertificate),
            };
            Ok(Source::Files { batch: follow::load(resources)?, holding })
        }
    }
}

fn holding(viewer: &Viewer, chain: &PathBuf, key: &PathBuf, roots: &PathBuf) -> Result<Holding, Error> {
    fn read<T, E: std::error::Error + Send + Sync + 'static>(
        what: &'static str,
        path: &PathBuf,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Result<T, Error> {
        let failed = |source| Error::Certificate { what, path: path.clone(), source };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.into()))?;
        parse(text).map_err(|error| failed(error.into()))
    }
    let key = read("privateKey", key, |text| PrivateKey::from_pem(&SecretPem::new(text)))?;
    let certified = read("certificateChain", chain, |text| CertifiedIdentity::from_pem(&text, key))?;
    let domain = viewer.identity.trust_domain.clone();
    let bundle = read("rootCertificates", roots, |text| TrustBundle::from_pem(domain, &text))?;
    Ok(Holding { certified: Current::new(certified), bundle: Current::new(bundle) })
}

/// Metrics of the process itself.
fn declare(registry: &Registry, role: ProxyRole, clock: Clock) {
    let build = registry.gauge("lateen_build_info", "what runs here; always 1");
    let labels = Labels::new([("role", role.as_str()), ("version", env!("CARGO_PKG_VERSION"))]);
    registry.shared_gauge(build, &labels).set(1);
    let uptime = registry.gauge("lateen_uptime_seconds", "seconds since the proxy was built");
    let began = clock.wall();
    registry.ask(uptime, Labels::none(), move || {
        clock.wall().duration_since(began).unwrap_or_default().as_secs_f64().floor()
    });
}
