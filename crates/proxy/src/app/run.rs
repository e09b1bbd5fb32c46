//! The life of a proxy that was built: certificate and snapshot, then listeners, then traffic, then the drain.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use lateen_runtime::broker::Broker;
use lateen_runtime::clock;
use lateen_runtime::drain::{self, Drain, Drained, Drainer};
use lateen_runtime::limits::raise_open_files;
use lateen_runtime::metrics::Labels;
use lateen_runtime::ready::StartupTask;
use lateen_runtime::signal::Signals;
use lateen_runtime::workers::{WorkerContext, Workers};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{App, Core, Error, Source, Way, system};
use crate::admin::{self, Pages, SocketFile};
use crate::config::Endpoint;
use crate::connect::Breakers;
use crate::dns::Resolver;
use crate::follow::follow;
use crate::gateways::{Gateways, Opener};
use crate::health::outliers::Outliers;
use crate::identity::{CertStore, Lost, Metrics, PlaneAuthority};
use crate::listen::{self, Share};
use crate::observe::log::LogWriter;
use crate::observe::observer::Observer;
use crate::observe::view::View;
use crate::rate::RateTable;
use crate::role::Listeners;
use crate::worker::{Settings, Shared, Worker};

/// What tasks of workers may take to end after the drain has ended their connections.
const LAST_MOMENT: Duration = Duration::from_secs(1);

impl App {
    /// Runs until told to end, by SIGTERM, SIGINT, a page or [`super::Ending`]; then drains. A second request ends it
    /// at once. Wants a runtime with all drivers; one thread is enough, the workers have threads of their own.
    ///
    /// # Errors
    /// When something that it cannot do without is missing at the start, or its identity is lost.
    pub async fn run(self) -> Result<(), Error> {
        let Self { core, listeners, workers, source, way, admin, patience, descriptors, startup } = self;
        if let Err(error) = raise_open_files() {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
        let (drainer, drain) = drain::channel();
        let mut tasks = JoinSet::new();
        core.hear_signals(&mut tasks)?;
        let _socket = core.serve_pages(&mut tasks, admin.as_ref(), &drain)?;
        let (first, mut lost) = core.obtain(&mut tasks, source, startup.certificate, startup.snapshot).await;
        tokio::select! {
            () = first => {}
            () = core.ending.asked() => return Ok(()),
            why = &mut lost => return Err(gone(why)),
        }
        let broker =
            descriptors.broker.map(Broker::start).transpose().map_err(system("talk to the broker"))?;
        let log = access_log(descriptors.access_log).map_err(system("start the access log"))?;
        core.tell_dropped(&log);
        let start = Start { core: &core, way, broker, drain, log: &log, count: workers };
        let workers = start.start(&mut tasks, &listeners, startup.listeners).await?;
        let ready = core.ready.clone();
        tasks.spawn(async move {
            ready.wait().await;
            tracing::info!("ready");
            if let Some(descriptor) = descriptors.ready {
                announce(descriptor);
            }
        });
        let outcome = tokio::select! {
            () = core.ending.asked() => Ok(()),
            why = &mut lost => Err(gone(why)),
        };
        core.drain(&drainer, patience).await;
        // No gateway opens anything any more; else its workers would wait for that.
        drop(tasks);
        // What hangs even now goes with the process.
        let _ = clock::timeout(LAST_MOMENT, workers.join()).await;
        outcome
    }
}

/// Why the store ended; that it was dropped can only be because everything was.
fn gone(why: Result<Lost, oneshot::error::RecvError>) -> Error {
    why.map_or_else(|_| Error::Worker(lateen_runtime::workers::JobFailed::Stopped), Error::Lost)
}

fn access_log(to: Option<File>) -> std::io::Result<LogWriter> {
    match to {
        Some(file) => LogWriter::start(file),
        None => LogWriter::start(std::io::stdout()),
    }
}

/// One byte, and the end: who waits for it then knows that we serve.
fn announce(mut descriptor: File) {
    if let Err(error) = descriptor.write_all(b"\n") {
        tracing::debug!(%error, "nobody waits to hear that we are ready");
    }
}

impl Core {
    fn hear_signals(&self, tasks: &mut JoinSet<()>) -> Result<(), Error> {
        let (mut signals, _) = Signals::listen().map_err(system("listen for signals"))?;
        let ending = self.ending.clone();
        tasks.spawn(async move {
            loop {
                let why = signals.next().await;
                tracing::info!(?why, "told to end");
                ending.insist();
            }
        });
        Ok(())
    }

    fn serve_pages(
        &self,
        tasks: &mut JoinSet<()>,
        at: Option<&Endpoint>,
        drain: &Drain,
    ) -> Result<Option<SocketFile>, Error> {
        let Some(at) = at else { return Ok(None) };
        let (listener, file) = admin::bind(at).map_err(system("listen for the admin pages"))?;
        let pages = Pages {
            registry: self.registry.clone(),
            ready: self.ready.clone(),
            held: self.snapshots.held().clone(),
            holding: self.published.holding.handle(),
            listening: vec![self.listening.subscribe(), self.opened.subscribe()],
            log: self.log.clone(),
            ending: self.ending.clone(),
        };
        let (pages, drain) = (pages.build(), drain.clone());
        tasks.spawn(async move {
            if let Err(error) = pages.serve(listener, drain).await {
                tracing::error!(%error, "the admin pages ended");
            }
        });
        Ok(file)
    }

    /// Begins to obtain certificate and resources. Gives what ends when both are there for the first time, and who
    /// tells that there will never be a certificate again.
    async fn obtain(
        &self,
        tasks: &mut JoinSet<()>,
        source: Source,
        certificate: StartupTask,
        snapshot: StartupTask,
    ) -> (impl Future<Output = ()> + use<>, oneshot::Receiver<Lost>) {
        let (lose, lost) = oneshot::channel();
        let holding = self.published.holding.handle();
        let metrics = Metrics::register(&self.registry, holding.clone(), self.clock);
        let needs_certificate = matches!(source, Source::Plane { .. });
        match source {
            Source::Plane { plane, claim } => {
                let authority = PlaneAuthority::new(plane.clone(), holding.clone());
                let identity = self.viewer.identity.clone();
                let store =
                    CertStore::new(identity, authority, Arc::clone(&self.published), self.clock, metrics);
                tasks.spawn(async move { drop(lose.send(store.run(certificate).await)) });
                let (snapshots, registry) = (Arc::clone(&self.snapshots), self.registry.clone());
                let holding = holding.clone();
                tasks.spawn(async move {
                    follow(plane, claim, holding, &snapshots, &registry, snapshot).await;
                });
            }
            Source::Files { batch, holding } => {
                if let Some(holding) = holding {
                    self.published.publish(holding, self.clock);
                }
                certificate.done();
                self.snapshots.take(batch).await;
                snapshot.done();
                // Nothing is lost as long as nobody says so.
                tasks.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(lose);
                });
            }
        }
        let snapshots = self.snapshots.snapshots().clone();
        let first = async move {
            snapshots.newer_than(0).await;
            if needs_certificate {
                holding.newer_than(0).await;
            }
        };
        (first, lost)
    }

    fn tell_dropped(&self, log: &LogWriter) {
        let family =
            self.registry.gauge("lateen_access_log_dropped_lines", "lines that could not be written");
        let dropped = log.dropped();
        self.registry.ask(family, Labels::none(), move || dropped() as f64);
    }

    /// Lets what is under way finish, in bounds.
    async fn drain(&self, drainer: &Drainer, patience: Duration) {
        tracing::info!(?patience, "draining");
        tokio::select! {
            drained = drainer.drain(patience) => match drained {
                Drained::Clean => tracing::info!("drained"),
                Drained::Forced { holders } => tracing::warn!(connections = holders, "ended what was left"),
            },
            () = self.ending.insisted() => {
                tracing::info!("ending at once");
                drainer.drain(Duration::ZERO).await;
            }
        }
    }
}

/// What workers are started with.
struct Start<'a> {
    core: &'a Core,
    way: Way,
    broker: Option<Broker>,
    drain: Drain,
    log: &'a LogWriter,
    count: usize,
}

impl Start<'_> {
    /// Binds everything, then starts the workers on it.
    async fn start(
        self,
        tasks: &mut JoinSet<()>,
        listeners: &Listeners,
        listening: StartupTask,
    ) -> Result<Workers, Error> {
        let core = self.core;
        let (mut shares, bound) = listen::bind(listeners, self.count)?;
        let lanes = listeners.by_resources.then(|| listen::gateway(&mut shares));
        let resolver = self.resolver();
        let shared = self.shared(listeners);
        let workers = Workers::start(self.count, "worker").map_err(system("start the workers"))?;
        let panics = core.registry.gauge("lateen_panicked_tasks", "tasks that panicked; please report any");
        let count = workers.panic_count();
        core.registry.ask(panics, Labels::none(), move || count() as f64);
        for (index, share) in shares.into_iter().enumerate() {
            workers.run(index, self.job(share, &shared, &resolver)).await?;
        }
        core.listening.send_replace(bound);
        match lanes {
            None => listening.done(),
            Some(lanes) => {
                let opener = self.broker.map_or(Opener::Here, Opener::Broker);
                let gateways = Gateways::new(opener, lanes, core.clock, core.opened.clone());
                tasks.spawn(gateways.run(core.snapshots.snapshots().clone(), listening));
            }
        }
        Ok(workers)
    }

    fn job(
        &self,
        share: Share,
        shared: &Arc<Shared>,
        resolver: &Resolver,
    ) -> impl FnOnce(WorkerContext) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send + 'static + use<>
    {
        let (shared, resolver) = (Arc::clone(shared), resolver.clone());
        let (registry, clock, queue) = (self.core.registry.clone(), self.core.clock, self.log.queue());
        move |context| {
            Box::pin(async move {
                let view = View::new(&shared.snapshots);
                let sink = Observer::new(&registry, Some(queue), view, clock);
                let worker = Worker::new(shared, context.clone(), Box::new(sink));
                listen::serve(share, &worker, &context, &resolver);
            })
        }
    }

    fn shared(&self, listeners: &Listeners) -> Arc<Shared> {
        Arc::new(Shared {
            settings: Settings::default(),
            snapshots: self.core.snapshots.snapshots().clone(),
            credentials: self.core.published.credentials.handle(),
            drain: self.drain.clone(),
            broker: self.broker.clone(),
            local_ranges: self.way.local_ranges.clone(),
            local_ports: listeners.local_ports.iter().map(|(port, at)| (*port, *at)).collect(),
            mark: self.way.mark,
            rates: RateTable::default(),
            outliers: Outliers::new(&self.core.registry),
            breakers: Breakers::new(&self.core.registry),
        })
    }

    /// Who is asked for names that the mesh does not know.
    fn resolver(&self) -> Resolver {
        match (self.way.resolver, &self.broker) {
            (Some(address), _) => Resolver::At { address, mark: self.way.mark },
            (None, Some(broker)) => Resolver::Broker(Arc::new(broker.clone())),
            (None, None) => Resolver::Nobody,
        }
    }
}
