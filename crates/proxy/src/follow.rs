//! Batches of changes to snapshots: compiled on a thread of their own, published to all workers at once.
//!
//! Whatever becomes of the control plane, the last snapshot goes on being served. What cannot be compiled, a mistake
//! of ours, is counted and leaves the last snapshot in force as well.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::{fmt, io};

use lateen_engine::{Compiler, Snapshot};
use lateen_model::{Catalog, Delta, Revision, Viewer};
use lateen_runtime::clock;
use lateen_runtime::live::{Live, LiveHandle};
use lateen_runtime::metrics::{Labels, Registry, SharedCounter, SharedGauge, SharedHistogram};
use lateen_wire::convert::Refused;
use lateen_wire::session::Batch;
use tokio::sync::oneshot;

use crate::health::uptime;

mod files;
mod plane;
#[cfg(test)]
mod tests;

pub use files::{Error as FilesError, load};
pub use plane::follow;

const COMPILE_BUCKETS: &[f64] = &[0.000_1, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// What was told, as it was told: for the dump.
#[derive(Clone, Default)]
pub struct Held {
    /// Everything, at the revision last taken.
    pub catalog: Catalog,
    /// What was refused of it.
    pub refused: Arc<[Refused]>,
}

/// What is counted of snapshots.
struct Metrics {
    revision: SharedGauge,
    resources: SharedGauge,
    refused: SharedGauge,
    failures: SharedCounter,
    compile: SharedHistogram,
}

impl Metrics {
    fn register(registry: &Registry) -> Self {
        let gauge = |name, help| registry.shared_gauge(registry.gauge(name, help), &Labels::none());
        let failures =
            registry.counter("lateen_snapshot_failures_total", "batches that could not be compiled");
        let compile = registry.histogram(
            "lateen_snapshot_compile_seconds",
            "from a batch of changes to the published snapshot",
            COMPILE_BUCKETS,
        );
        Self {
            revision: gauge("lateen_snapshot_revision", "the revision of the mesh that is served"),
            resources: gauge("lateen_snapshot_resources", "resources held"),
            refused: gauge("lateen_snapshot_refused_resources", "resources that were refused"),
            failures: registry.shared_counter(failures, &Labels::none()),
            compile: registry.shared_histogram(compile, &Labels::none()),
        }
    }
}

type Job = (Batch, oneshot::Sender<()>);

/// The thread that compiles. Ends when dropped.
pub struct Snapshots {
    snapshots: LiveHandle<Snapshot>,
    held: LiveHandle<Held>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// Starts with the empty mesh, as `viewer` sees it.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(viewer: Viewer, registry: &Registry) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let mut compiler = Compiler::new(viewer.clone());
        let empty = Snapshot::clone(&compiler.apply(&Delta::default()));
        let work = Work {
            viewer,
            compiler,
            snapshots: Live::new(empty),
            held: Live::new(Held::default()),
            metrics: Metrics::register(registry),
        };
        let (snapshots, held) = (work.snapshots.handle(), work.held.handle());
        let thread =
            std::thread::Builder::new().name("compile".to_owned()).spawn(move || work.run(&queue))?;
        Ok(Self { snapshots, held, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Takes a batch in. Once this is over every worker decides by it.
    pub async fn take(&self, batch: Batch) {
        let (done, wait) = oneshot::channel();
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send((batch, done)).is_ok());
        // The thread ends only with us.
        debug_assert!(sent, "the compiling thread lives as long as its owner");
        let _ = wait.await;
    }

    /// What is served.
    #[must_use]
    pub fn snapshots(&self) -> &LiveHandle<Snapshot> {
        &self.snapshots
    }

    /// What was told.
    #[must_use]
    pub fn held(&self) -> &LiveHandle<Held> {
        &self.held
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("revision", &self.held.current().catalog.revision()).finish()
    }
}

/// What the thread owns.
struct Work {
    viewer: Viewer,
    compiler: Compiler,
    snapshots: Live<Snapshot>,
    held: Live<Held>,
    metrics: Metrics,
}

impl Work {
    fn run(mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok((batch, done)) = queue.recv() {
            self.take(batch);
            // Nobody may be waiting any more.
            let _ = done.send(());
        }
    }

    fn take(&mut self, batch: Batch) {
        let Batch { delta, revision, refused } = batch;
        let began = clock::now();
        for refused in &refused {
            tracing::warn!(
                resource = %refused.name,
                why = %refused.why,
                denies = refused.stand_in.is_some(),
                "resource refused"
            );
        }
        let mut held = Held::clone(&self.held.current());
        held.catalog.advance(&delta, revision);
        held.refused = refused.into();
        self.metrics.resources.set(signed(held.catalog.len()));
        self.metrics.refused.set(signed(held.refused.len()));
        let compiled = self.compile(&delta, &held.catalog);
        self.held.publish(held);
        let Some(snapshot) = compiled else { return };
        self.snapshots.publish(snapshot);
        self.metrics.revision.set(i64::try_from(revision.0).unwrap_or(i64::MAX));
        self.metrics.compile.observe(began.elapsed().as_secs_f64());
        let Revision(revision) = revision;
        tracing::debug!(revision, set = delta.set.len(), removed = delta.removed.len(), "snapshot published");
    }

    /// The next snapshot; after a panic by a new compiler from all there is, and if that panics too, none.
    fn compile(&mut self, delta: &Delta, catalog: &Catalog) -> Option<Arc<Snapshot>> {
        // What a panic left half done is thrown away.
        let compiler = AssertUnwindSafe(&mut self.compiler);
        if let Ok(snapshot) = catch_unwind(move || { compiler }.at(uptime()).apply(delta)) {
            return Some(snapshot);
        }
        self.metrics.failures.increment();
        tracing::error!(
            "compiling a change panicked; please report this. Trying once more from the beginning"
        );
        let viewer = self.viewer.clone();
        let again = catch_unwind(AssertUnwindSafe(|| {
            let mut compiler = Compiler::new(viewer);
            let snapshot = compiler.at(uptime()).apply(&catalog.to_delta());
            (compiler, snapshot)
        }));
        match again {
            Ok((compiler, snapshot)) => {
                self.compiler = compiler;
                Some(snapshot)
            }
            Err(_) => {
                self.compiler = Compiler::new(self.viewer.clone());
                self.metrics.failures.increment();
                tracing::error!("compiling panicked again; the last snapshot stays in force");
                None
            }
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
