//! The life of the process: build everything, bind nothing; then run; then drain.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lateen_runtime::clock::{self, Clock};
use lateen_runtime::drain::{self, Drainer};
use lateen_runtime::log::LogFilter;
use lateen_runtime::metrics::{Labels, Registry};
use lateen_runtime::ready::Ready;
use lateen_runtime::sock::{self, ListenOptions};
use lateen_wire::server::Listener;
use tokio::net::{TcpListener, UnixListener};

use crate::authority::tokens::Tokens;
use crate::authority::{self, Authority};
use crate::config::Config;
use crate::control::Control;
use crate::fleet::Fleet;
use crate::hub::{Hub, Teller};
use crate::serve;
use crate::serve::owners::{self, SocketFile};
use crate::source::files::Files;
use crate::source::manifest::Manifests;
use crate::source::registration::{Registered, Registrations};
use crate::store::{self, Store};

/// So long those who are served may take to finish.
const PATIENCE: Duration = Duration::from_secs(5);
/// The certificate is compared with the wall clock so often: a laptop sleeps.
const TEND: Duration = Duration::from_secs(60);

/// Why a control plane cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The authority cannot work.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// A place cannot be listened at.
    #[error("listen on {place}: {source}")]
    Listen {
        /// Where.
        place: String,
        /// What the machine said.
        source: io::Error,
    },
    /// The machine gives no thread or no pipe.
    #[error("start: {0}")]
    Start(#[from] io::Error),
    /// The one writer is gone, which must not happen.
    #[error("the hub ended; its last words are in the log")]
    HubEnded,
}

impl Error {
    fn listen(place: impl Display) -> impl FnOnce(io::Error) -> Self {
        let place = place.to_string();
        move |source| Self::Listen { place, source }
    }
}

/// A control plane that is built and not started.
pub struct App {
    control: Arc<Control>,
    hub: Hub,
    teller: Teller,
    drainer: Drainer,
}

impl App {
    /// Reads the state and wires everything; binds nothing, starts nothing.
    ///
    /// # Errors
    /// When the state cannot be used, or another control plane uses it.
    pub fn build(
        config: Config,
        clock: Clock,
        metrics: Registry,
        log: Option<LogFilter>,
    ) -> Result<Self, Error> {
        let store = Arc::new(Store::open(&config.state)?);
        // A root that cannot be used is told now, not after the first object is read.
        authority::check_root(&store)?;
        let (mut hub, teller, handle) =
            Hub::new(Arc::clone(&store), config.world.clone(), config.pace, &metrics)?;
        let registrations = {
            let teller = teller.clone();
            Registrations::load(Arc::clone(&store), move |registered| teller.registered(registered))?
        };
        hub.remember(registrations.all().into_iter().map(|instance| Registered::Set(Box::new(instance))));
        let manifests = {
            let teller = teller.clone();
            Manifests::load(Arc::clone(&store), move |registered| teller.registered(registered))?
        };
        hub.remember(manifests.all());
        let tokens = Tokens::load(Arc::clone(&store), clock)?;
        let (drainer, drain) = drain::channel();
        let fleet = Fleet::default();
        let connected = metrics.gauge("lateen_control_proxies", "Connected proxies.");
        let counted = fleet.clone();
        metrics.ask(connected, Labels::none(), move || counted.len() as f64);
        let control = Arc::new(Control {
            config,
            store,
            clock,
            metrics,
            ready: Ready::new(),
            drain,
            log,
            hub: handle,
            registrations,
            manifests,
            tokens,
            fleet,
            authority: OnceLock::new(),
        });
        Ok(Self { control, hub, teller, drainer })
    }

    /// Serves until `end`, then drains.
    ///
    /// # Errors
    /// When a place cannot be listened at, or a part ends that must not.
    pub async fn run(self, end: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { control, hub, teller, drainer } = self;
        let synced = control.ready.task("all files read");
        let listening = control.ready.task("listeners");
        let Sockets { api, control: listeners, files: _socket_files } = Sockets::bind(&control.config)?;
        let api = tokio::spawn(serve::api::serve(api, Arc::clone(&control), control.drain.clone()));
        let mut ended = hub.start()?;
        let files = follow_files(&control.config, teller.clone())?;
        let work = async {
            let authority = found(&control).await?;
            synced.done();
            serve::proxies(&control, &authority, listeners);
            listening.done();
            tracing::info!("ready");
            tend(&control, &authority).await;
            Ok(())
        };
        let outcome = tokio::select! {
            () = end => Ok(()),
            outcome = work => outcome,
            _ = &mut ended => Err(Error::HubEnded),
        };
        // Changes end first, so that nothing new has to be told while those who are connected leave.
        drop(files);
        teller.end();
        let drained = drainer.drain(PATIENCE).await;
        tracing::info!(?drained, "ended");
        // It ends with the drain; what it answered last is written. After this the state is free for the next.
        let _ = clock::timeout(PATIENCE, api).await;
        if !matches!(outcome, Err(Error::HubEnded)) {
            let _ = clock::timeout(PATIENCE, ended).await;
        }
        outcome
    }
}

/// The sockets, bound.
pub(crate) struct Sockets {
    pub(crate) api: UnixListener,
    pub(crate) control: Vec<Listener>,
    /// Their files go with the process.
    files: Vec<SocketFile>,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, Error> {
        let bind = |path: PathBuf| owners::bind(&path).map_err(Error::listen(path.display()));
        let (api, api_file) = bind(config.api_socket())?;
        let (control, control_file) = bind(config.control_socket())?;
        let mut listeners = vec![Listener::Unix(control)];
        if let Some(address) = config.listen {
            let listener = sock::listen(address, &ListenOptions::default())
                .and_then(TcpListener::from_std)
                .map_err(Error::listen(address))?;
            tracing::info!(address = %listener.local_addr()?, "listening for proxies");
            listeners.push(Listener::Tcp(listener));
        }
        Ok(Self { api, control: listeners, files: vec![api_file, control_file] })
    }
}

/// Follows the directory of objects on a thread of its own.
fn follow_files(config: &Config, teller: Teller) -> io::Result<Files> {
    Files::start(config.directory.clone(), config.files.clone(), move |report| teller.files(report))
}

/// Waits for the first state of the mesh, which says who we are.
async fn found(control: &Control) -> Result<Arc<Authority>, Error> {
    let mut states = control.hub.follow();
    let state = states.wait_for(Option::is_some).await.map_err(|_| Error::HubEnded)?.clone();
    let mesh = state.map(|state| state.mesh.clone()).unwrap_or_default();
    let authority = Arc::new(authority::open(&control.store, &mesh, control.clock, &control.metrics)?);
    Ok(Arc::clone(control.authority.get_or_init(|| authority)))
}

/// Keeps the control plane's own certificate right, for ever.
async fn tend(control: &Control, authority: &Authority) {
    let mut states = control.hub.follow();
    loop {
        if let Some(state) = states.borrow_and_update().clone()
            && let Err(error) = authority.tend(&state.mesh)
        {
            tracing::error!(%error, "the control plane keeps its old certificate");
        }
        if let Ok(Err(_)) = clock::timeout(TEND, states.changed()).await {
            // The hub is gone, which the caller sees.
            std::future::pending::<()>().await;
        }
    }
}
