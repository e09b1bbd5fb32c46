//! A mesh on this machine: what `up` and `demo` start, and what `run`, `status` and `dump` speak to.
//!
//! The supervisor stays in the machine's namespaces. It finds out what the machine allows, starts the
//! sandbox and, as a child that may be killed at any time, the control plane; then it keeps the pods as the
//! control plane lists them: for each a sidecar first, the application once its sidecar is ready. What
//! happens is told as [`Event`]s. When it ends, in whatever way, everything ends with it.

mod access;
mod admin;
mod command;
mod control;
mod event;
mod home;
mod instance;
pub(crate) mod join;
mod pods;
mod readiness;
mod registration;
mod sidecar;
mod tap;

pub use admin::get as proxy_page;
pub(crate) use command::environment;
pub use control::ControlProcess;
pub use event::{Event, Events};
pub use home::{Announcement, Home};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use lateen_control::api::ApiClient;
use lateen_sandbox::address::{AddressBook, Ranges};
use lateen_sandbox::{Attempt, Environment, Sandbox};
use tokio_util::sync::CancellationToken;

use crate::args;

/// How long applications may take to end after they were asked to.
pub const GRACE: Duration = Duration::from_secs(5);

/// What a mesh is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of objects.
    pub dir: PathBuf,
    /// Where the state is kept; per user when absent.
    pub state: Option<PathBuf>,
    /// How processes are kept apart.
    pub environment: args::Environment,
    /// Ranges of the pods' addresses.
    pub pod_range: Vec<IpNet>,
    /// Ranges of the services' addresses.
    pub service_range: Vec<IpNet>,
    /// Threads of each sidecar.
    pub sidecar_workers: u16,
    /// Let traffic pass that a security object not enforced yet would have to judge.
    pub allow_unenforced: bool,
    /// Whether what processes print is shown.
    pub show_output: bool,
    /// A pod whose wire is recorded.
    pub tap: Option<String>,
}

/// Which events the planes log, as their own commands read it.
const LOG_FILTER: &str = "LATEEN_LOG";
/// What they log when nobody says: what a user has to know stands among the events of the mesh.
const QUIET: &str = "warn";

/// What everything of one mesh shares.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) home: Home,
    pub(crate) environment: Environment,
    pub(crate) sandbox: Sandbox,
    pub(crate) api: ApiClient,
    pub(crate) book: Mutex<AddressBook>,
    pub(crate) events: Events,
    pub(crate) tap: Arc<tap::Tap>,
}

impl Shared {
    /// The address book, for one change; it is saved with every new name.
    pub(crate) fn with_book<T>(
        &self,
        change: impl FnOnce(&mut AddressBook) -> Result<T, lateen_sandbox::address::Error>,
    ) -> anyhow::Result<T> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let value = change(&mut book)?;
        book.save()?;
        Ok(value)
    }
}

/// A running mesh.
pub struct Mesh {
    shared: Arc<Shared>,
    attempts: Vec<Attempt>,
    control: Arc<ControlProcess>,
    pods: Arc<pods::Pods>,
    admin: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Mesh {
    /// Starts everything but the pods, which follow as the control plane lists them.
    ///
    /// # Errors
    /// When the state is in use or unusable, or the sandbox or the control plane do not start.
    pub async fn start(options: Options, events: Events) -> anyhow::Result<Self> {
        let home = Home::open(options.state.as_deref())?;
        home.holds_not(&options.dir)?;
        let ranges = ranges(&options)?;
        // The control plane has a book of its own in the same directory, for services.
        let book = AddressBook::open(home.state().join("pods.json"), ranges)?;
        let (environment, attempts) = choose(options.environment).await?;
        let (sandbox, refused) =
            Sandbox::start(environment, book.gateways()).await.context("start the sandbox")?;
        let stop = CancellationToken::new();
        let control = ControlProcess::start(&home, &options, book.ranges(), events.clone()).await?;
        let shared = Arc::new(Shared {
            api: ApiClient::new(home.run().join("api.sock")),
            book: Mutex::new(book),
            home,
            environment,
            sandbox,
            options,
            events,
            tap: Arc::default(),
        });
        let pods = Arc::new(pods::Pods::new(Arc::clone(&shared)));
        let admin = admin::serve(Arc::clone(&shared), Arc::clone(&pods), stop.clone()).await?;
        let door = join::Door::open(shared.home.run())?;
        join::sweep(&shared.api).await.context("forget what an earlier mesh left")?;
        shared.home.announce(&Announcement {
            environment: environment.name().to_owned(),
            supervisor: std::process::id(),
            admin,
            run: shared.home.run().to_owned(),
        })?;
        let tasks = vec![
            tokio::spawn(Arc::clone(&pods).follow(stop.clone())),
            tokio::spawn(door.serve(Arc::clone(&pods), stop.clone())),
            tokio::spawn(event::tell_refused(refused, shared.events.clone())),
        ];
        Ok(Self { shared, attempts, control, pods, admin, stop, tasks })
    }

    /// How pods are made.
    pub fn environment(&self) -> Environment {
        self.shared.environment
    }

    /// What was tried to find that out.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The control plane's process.
    pub fn control(&self) -> &Arc<ControlProcess> {
        &self.control
    }

    /// The control plane's API.
    pub fn api(&self) -> &ApiClient {
        &self.shared.api
    }

    /// Where state and sockets are.
    pub fn home(&self) -> &Home {
        &self.shared.home
    }

    /// Where the pages of all proxies are served, on the loopback of the machine.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What is recorded of the wire of the pod that was named for it.
    pub(crate) fn tap(&self) -> &Arc<tap::Tap> {
        &self.shared.tap
    }

    /// Where the access log of a pod's proxy is written.
    pub(crate) fn access_log(&self, pod: &str) -> PathBuf {
        access::path(self.shared.home.state(), pod)
    }

    /// The process of a pod's application, while it runs.
    pub(crate) fn application(&self, pod: &str) -> Option<i32> {
        Some(self.pods.facts(pod)?.application()?.pid())
    }

    /// Kills the application of a pod without warning.
    pub(crate) async fn kill(&self, pod: &str) -> anyhow::Result<()> {
        let application = self.pods.facts(pod).and_then(|facts| facts.application());
        let application = application.with_context(|| format!("no application runs in {pod}"))?;
        Ok(application.signal(nix::sys::signal::Signal::SIGKILL as i32, true).await?)
    }

    /// The pods that run.
    pub(crate) fn pods(&self) -> &Arc<pods::Pods> {
        &self.pods
    }

    /// Waits until the sandbox has ended by itself: it never should.
    pub async fn broken(&self) {
        self.shared.sandbox.watch_end().await;
    }

    /// Ends everything, in order: applications are asked, sidecars drain, then the rest is taken away.
    pub async fn stop(self) {
        self.stop.cancel();
        self.pods.stop().await;
        // What is left is killed with the holder; a holder that is gone already is what we want.
        let _ = self.shared.sandbox.shut_down().await;
        self.control.stop().await;
        for task in self.tasks {
            task.abort();
        }
    }
}

/// The environment asked for, or the best that works.
async fn choose(wanted: args::Environment) -> anyhow::Result<(Environment, Vec<Attempt>)> {
    let asked = match wanted {
        args::Environment::Auto => {
            let probe = lateen_sandbox::probe().await;
            return Ok((probe.environment, probe.attempts));
        }
        args::Environment::Root => Environment::Root,
        args::Environment::User => Environment::UserNamespace,
        args::Environment::Plain => Environment::Plain,
    };
    if asked != Environment::Plain {
        lateen_sandbox::try_environment(asked).await.with_context(|| format!("make a pod: {asked}"))?;
    }
    Ok((asked, Vec::new()))
}

/// The ranges that were asked for, over the defaults; none when nothing was asked for.
fn ranges(options: &Options) -> anyhow::Result<Option<Ranges>> {
    if options.pod_range.is_empty() && options.service_range.is_empty() {
        return Ok(None);
    }
    let mut ranges = Ranges::default();
    for range in &options.pod_range {
        match range {
            IpNet::V4(range) => ranges.pods = *range,
            IpNet::V6(range) => ranges.pods6 = *range,
        }
    }
    for range in &options.service_range {
        match range {
            IpNet::V4(range) => ranges.services = *range,
            IpNet::V6(range) => ranges.services6 = *range,
        }
    }
    Ok(Some(ranges))
}
