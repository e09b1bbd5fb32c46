//! The one writer: collects changes until a burst is over, applies them to the world, and publishes what the mesh
//! is now.
//!
//! It has a thread of its own, because a large change may take long and serving must not stall. It publishes
//! nothing until every source has told all that it had at the start: half a mesh would look like removals.

pub mod batch;
mod memory;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use lateen_model::{Catalog, Delta, Kind, MeshSettings, Process, Resource, Str};
use lateen_runtime::metrics::{Labels, Registry, SharedCounter, SharedGauge, SharedHistogram};
use lateen_wire::server::{Publisher, Views};
use lateen_world::{Change, ObjectKey, Outcome, Problem, Settings, Status, World};
use tokio::sync::{oneshot, watch};

use crate::source::files::{FileChange, Report};
use crate::source::registration::Registered;
use crate::store::{self, Store};
use batch::{Batch, Pace};
use memory::Memory;

/// Reports that wait for the writer; a source that is faster waits itself.
const QUEUE: usize = 1024;

/// One state of the mesh.
#[derive(Clone)]
pub struct Published {
    /// Every resource.
    pub catalog: Catalog,
    /// What changed since the state before.
    pub delta: Arc<Delta>,
    /// The settings of the mesh.
    pub mesh: MeshSettings,
    /// What should run; the same pointer as long as nothing about it changed.
    pub processes: Arc<Vec<Process>>,
    /// What became of each object.
    pub statuses: Arc<BTreeMap<ObjectKey, Arc<Status>>>,
    /// Problems of files that belong to no object, by file.
    pub problems: Arc<BTreeMap<Str, Vec<Problem>>>,
}

/// What is known of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceState {
    /// `files`, `registration`.
    pub name: &'static str,
    /// Whether all that it had at the start has been told.
    pub synced: bool,
    /// What it could not read.
    pub problems: Vec<String>,
}

/// The name of the source of files.
const FILES: &str = "files";
/// The name of the source of registrations; complete from the beginning.
const REGISTRATION: &str = "registration";

/// What reaches the writer.
enum Arrival {
    Files(Report),
    Registered(Registered),
    End,
}

/// Follows the hub. Clones are cheap.
#[derive(Clone)]
pub struct HubHandle {
    published: watch::Receiver<Option<Arc<Published>>>,
    sources: Arc<Mutex<Vec<SourceState>>>,
    views: Views,
}

impl HubHandle {
    /// What proxies see; empty before every source has synced.
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// The newest state; none before every source has synced.
    pub fn published(&self) -> Option<Arc<Published>> {
        self.published.borrow().clone()
    }

    /// Hears of each newer state. It ends when the hub does.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.clone()
    }

    /// Where changes come from, in the order of their names.
    pub fn sources(&self) -> Vec<SourceState> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells the hub what happened.
#[derive(Clone)]
pub struct Teller(SyncSender<Arrival>);

impl Teller {
    /// A report of the files; waits while the hub is busy. False when the hub is gone.
    pub fn files(&self, report: Report) -> bool {
        self.0.send(Arrival::Files(report)).is_ok()
    }

    /// A registration; false when the hub is busy or gone.
    pub fn registered(&self, registered: Registered) -> bool {
        match self.0.try_send(Arrival::Registered(registered)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Nothing more will be told. What was told before is still applied, unless its burst is not over.
    pub fn end(&self) {
        // Who is gone has ended.
        let _ = self.0.send(Arrival::End);
    }
}

/// The hub, built and not started.
pub struct Hub {
    world: World,
    memory: Memory,
    pace: Pace,
    arrivals: Receiver<Arrival>,
    changes: Vec<Change>,
    batch: Batch,
    now: Published,
    published: watch::Sender<Option<Arc<Published>>>,
    publisher: Publisher,
    sources: Arc<Mutex<Vec<SourceState>>>,
    metrics: Metrics,
}

impl Hub {
    /// A hub that goes on where the state directory ends.
    ///
    /// # Errors
    /// When a file of the state cannot be read.
    pub fn new(
        store: Arc<Store>,
        settings: Settings,
        pace: Pace,
        registry: &Registry,
    ) -> Result<(Self, Teller, HubHandle), store::Error> {
        let (memory, remembered) = Memory::load(store)?;
        let world = World::restore(settings, remembered.allocations, remembered.objects);
        let (teller, arrivals) = sync_channel(QUEUE);
        let (published, follower) = watch::channel(None);
        let state = |name, synced| SourceState { name, synced, problems: Vec::new() };
        let sources = Arc::new(Mutex::new(vec![state(FILES, false), state(REGISTRATION, true)]));
        let publisher = Publisher::new(&Catalog::after(remembered.revision));
        let handle =
            HubHandle { published: follower, sources: Arc::clone(&sources), views: publisher.views() };
        let now = Published {
            catalog: Catalog::after(remembered.revision),
            delta: Arc::default(),
            mesh: MeshSettings::default(),
            processes: Arc::default(),
            statuses: Arc::default(),
            problems: Arc::default(),
        };
        let metrics = Metrics::new(registry);
        let batch = Batch::default();
        let hub = Self {
            world,
            memory,
            pace,
            arrivals,
            changes: Vec::new(),
            batch,
            now,
            published,
            publisher,
            sources,
            metrics,
        };
        Ok((hub, Teller(teller), handle))
    }

    /// What was registered in earlier runs; to be told before the start.
    pub fn remember(&mut self, registered: impl IntoIterator<Item = Registered>) {
        self.changes.extend(registered.into_iter().map(change));
    }

    /// Starts the writer's thread. The answer comes when it ends: because it was told to, or because it failed.
    ///
    /// # Errors
    /// When the machine gives no thread.
    pub fn start(self) -> io::Result<oneshot::Receiver<()>> {
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("hub".into()).spawn(move || {
            // Dropped at the end, also at that of a panic.
            let _ended = ended;
            self.run();
        })?;
        Ok(end)
    }

    fn run(mut self) {
        loop {
            let arrival = match self.batch.closes(self.pace) {
                None => self.arrivals.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(closes) => self.arrivals.recv_timeout(closes.saturating_duration_since(Instant::now())),
            };
            match arrival {
                Ok(Arrival::Files(report)) => self.report(report),
                Ok(Arrival::Registered(registered)) => {
                    self.changes.push(change(registered));
                    self.batch.arrive(Instant::now());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Arrival::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.batch.closes(self.pace).is_some_and(|closes| Instant::now() >= closes) {
                self.batch = Batch::default();
                if self.is_synced() {
                    self.apply();
                }
            }
        }
    }

    fn report(&mut self, report: Report) {
        if report.synced || !report.changes.is_empty() {
            self.batch.arrive(Instant::now());
        }
        self.changes.extend(report.changes.into_iter().map(|change| match change {
            FileChange::Set { file, text } => Change::SetFile { path: Str::from(&*file), text },
            FileChange::Hidden { file } => Change::HideFile { path: Str::from(&*file) },
            FileChange::Removed { file } => Change::RemoveFile { path: Str::from(&*file) },
        }));
        let mut sources = self.sources();
        let Some(files) = sources.iter_mut().find(|source| source.name == FILES) else { return };
        files.synced |= report.synced;
        if let Some(problems) = report.problems {
            for problem in &problems {
                tracing::warn!(file = problem.file, message = problem.message, "file not read");
            }
            files.problems = problems.into_iter().map(|problem| problem.message).collect();
        }
    }

    fn sources(&self) -> MutexGuard<'_, Vec<SourceState>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_synced(&self) -> bool {
        self.sources().iter().all(|source| source.synced)
    }

    /// Applies what has arrived and publishes what came of it, if that is different or the first.
    fn apply(&mut self) {
        let begun = Instant::now();
        let changes = std::mem::take(&mut self.changes);
        let count = changes.len();
        let outcome = self.world.apply(changes);
        self.metrics.batches.increment();
        self.metrics.apply.observe(begun.elapsed().as_secs_f64());
        tell_log(&outcome);
        self.memory.keep(&outcome, &self.world);
        let first = self.published.borrow().is_none();
        if !self.advance(outcome) && !first {
            return;
        }
        // Not shown to anybody before it cannot be given again.
        self.memory.reach(self.now.catalog.revision());
        self.metrics.revision.set(i64::try_from(self.now.catalog.revision().0).unwrap_or(i64::MAX));
        self.metrics.resources.set(i64::try_from(self.now.catalog.len()).unwrap_or(i64::MAX));
        let (revision, took) = (self.now.catalog.revision(), begun.elapsed());
        tracing::debug!(%revision, changes = count, resources = self.now.delta.set.len(), ?took, "published");
        if !self.now.delta.is_empty() || first {
            self.publisher.publish(&self.now.catalog, &self.now.delta);
        }
        self.published.send_replace(Some(Arc::new(self.now.clone())));
    }

    /// Makes the outcome the present; false when nothing that anybody sees is different.
    fn advance(&mut self, outcome: Outcome) -> bool {
        let Outcome { delta, statuses, gone, files, .. } = outcome;
        let first = self.published.borrow().is_none();
        let told = !(statuses.is_empty() && gone.is_empty() && files.is_empty());
        if told {
            let known = Arc::make_mut(&mut self.now.statuses);
            gone.iter().for_each(|key| drop(known.remove(key)));
            known.extend(statuses.into_iter().map(|status| (status.object.clone(), Arc::new(status))));
            let problems = Arc::make_mut(&mut self.now.problems);
            for (file, found) in files {
                if found.is_empty() {
                    problems.remove(&file);
                } else {
                    problems.insert(file, found);
                }
            }
        }
        if delta.is_empty() && !first {
            // Only statuses: no proxy needs a new revision for that.
            self.now.delta = Arc::default();
            return told;
        }
        let set = delta.set.iter().any(|entry| entry.resource.kind() == Kind::Process);
        let removed = delta.removed.iter().any(|key| self.is_process(key));
        self.now.catalog.apply(&delta);
        self.now.delta = Arc::new(delta);
        self.now.mesh = self.world.mesh().clone();
        if set || removed {
            self.now.processes = Arc::new(processes(&self.now.catalog));
        }
        true
    }

    fn is_process(&self, key: &lateen_model::Key) -> bool {
        self.now.catalog.get(key).is_some_and(|entry| matches!(entry.resource, Resource::Process(_)))
    }
}

fn change(registered: Registered) -> Change {
    match registered {
        Registered::Set(instance) => Change::SetInstance(*instance),
        Registered::Removed((namespace, name)) => Change::RemoveInstance { namespace, name },
        Registered::Text { path, text } => Change::SetFile { path, text },
        Registered::NoText { path } => Change::RemoveFile { path },
    }
}

/// What should run, by namespace and name.
fn processes(catalog: &Catalog) -> Vec<Process> {
    let process = |entry: &Arc<lateen_model::Entry>| match &entry.resource {
        Resource::Process(process) => Some(process.clone()),
        _ => None,
    };
    let mut processes: Vec<_> = catalog.iter().filter_map(process).collect();
    processes.sort_by(|a, b| (&a.namespace, &a.name, &a.key).cmp(&(&b.namespace, &b.name, &b.key)));
    processes
}

fn tell_log(outcome: &Outcome) {
    use lateen_world::Severity;
    let own = outcome.statuses.iter().flat_map(|status| &status.problems);
    for problem in own.chain(outcome.files.iter().flat_map(|(_, problems)| problems)) {
        match problem.severity {
            Severity::Error | Severity::Unsupported => tracing::warn!("{problem}"),
            Severity::Warning => tracing::info!("{problem}"),
        }
    }
}

struct Metrics {
    batches: SharedCounter,
    apply: SharedHistogram,
    revision: SharedGauge,
    resources: SharedGauge,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        const BOUNDS: &[f64] =
            &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let none = Labels::none();
        let batches = registry.counter("lateen_control_batches_total", "Batches of changes applied.");
        let apply = registry.histogram(
            "lateen_control_apply_seconds",
            "Time to apply one batch of changes to the world.",
            BOUNDS,
        );
        let revision = registry.gauge("lateen_control_revision", "The newest state of the mesh.");
        let resources = registry.gauge("lateen_control_resources", "Resources in the mesh.");
        Self {
            batches: registry.shared_counter(batches, &none),
            apply: registry.shared_histogram(apply, &none),
            revision: registry.shared_gauge(revision, &none),
            resources: registry.shared_gauge(resources, &none),
        }
    }
}
