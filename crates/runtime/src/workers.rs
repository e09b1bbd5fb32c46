//! One thread and one event loop per core, sharing nothing.
//!
//! A job is sent to a worker as a function that makes a future there; neither the future nor what it spawns ever
//! leaves the thread. A job that panics is caught, counted and logged; its worker and all other jobs go on.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread::JoinHandle as ThreadHandle;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::deadline::Deadlines;

/// A future that stays on its thread.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

type Job = Box<dyn FnOnce(WorkerContext) -> LocalFuture<()> + Send>;

/// Why a job gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobFailed {
    #[error("the job panicked; the log has its message")]
    Panicked,
    #[error("the worker has stopped")]
    Stopped,
}

/// The threads. Dropping it stops them where they are; [`Workers::join`] lets them finish.
pub struct Workers {
    threads: Vec<Thread>,
    panics: Arc<AtomicU64>,
}

struct Thread {
    jobs: mpsc::UnboundedSender<Job>,
    stop: Arc<Notify>,
    ended: oneshot::Receiver<()>,
    handle: ThreadHandle<()>,
}

/// What a job knows of its worker, and how it starts more work there. Clones are cheap and stay on the thread.
#[derive(Clone)]
pub struct WorkerContext {
    index: usize,
    count: usize,
    deadlines: Deadlines,
    panics: Arc<AtomicU64>,
    tasks: Rc<Tasks>,
}

/// How many tasks run, so that a join knows when the last has ended.
#[derive(Default)]
struct Tasks {
    running: Cell<usize>,
    none_left: Notify,
}

impl Workers {
    /// Starts `count` threads, at least one, named `name-0`, `name-1`, and so on (Linux shows 15 bytes of it).
    ///
    /// # Errors
    /// When a thread or its event loop cannot be made.
    pub fn start(count: usize, name: &str) -> io::Result<Self> {
        let count = count.max(1);
        let panics = Arc::new(AtomicU64::new(0));
        let threads = (0..count)
            .map(|index| Thread::start(index, count, format!("{name}-{index}"), Arc::clone(&panics)))
            .collect::<io::Result<_>>()?;
        Ok(Self { threads, panics })
    }

    #[expect(clippy::len_without_is_empty, reason = "there is always at least one worker")]
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Jobs and tasks that panicked so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// The same, for who asks later.
    pub fn panic_count(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let panics = Arc::clone(&self.panics);
        move || panics.load(Ordering::Relaxed)
    }

    /// Starts `job` on worker `index`; the returned future gives its result. Dropping that future leaves the job
    /// running.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn run<J, F, T>(
        &self,
        index: usize,
        job: J,
    ) -> impl Future<Output = Result<T, JobFailed>> + Send + use<J, F, T>
    where
        J: FnOnce(WorkerContext) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |context| {
            Box::pin(async move {
                let panics = Arc::clone(&context.panics);
                let result = caught(&panics, async move { job(context).await }).await;
                // Nobody may be waiting for the result: that is allowed.
                drop(sender.send(result));
            })
        });
        let sent = self.threads[index].jobs.send(job).is_ok();
        async move {
            match receiver.await {
                Ok(Some(result)) => Ok(result),
                Ok(None) => Err(JobFailed::Panicked),
                Err(_) => {
                    tracing::debug!(index, sent, "worker stopped before its job ended");
                    Err(JobFailed::Stopped)
                }
            }
        }
    }

    /// Starts one job on each worker and waits for all results, in the order of workers.
    ///
    /// # Errors
    /// The first failure.
    pub async fn run_each<J, F, T>(&self, mut job: impl FnMut(usize) -> J) -> Result<Vec<T>, JobFailed>
    where
        J: FnOnce(WorkerContext) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let running: Vec<_> = (0..self.len()).map(|index| self.run(index, job(index))).collect();
        let mut results = Vec::with_capacity(running.len());
        for job in running {
            results.push(job.await?);
        }
        Ok(results)
    }

    /// Takes no more jobs, waits until every job and every task it spawned has ended, then ends the threads.
    pub async fn join(mut self) {
        for Thread { jobs, ended, handle, .. } in self.threads.drain(..) {
            drop(jobs);
            // An error means that the thread is gone, which is what is waited for.
            drop(ended.await);
            // Everything of ours has run by now, only the exit of the thread is left.
            if handle.join().is_err() {
                tracing::error!("worker ended by a panic outside its jobs");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.stop.notify_one();
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("count", &self.len()).field("panics", &self.panics()).finish()
    }
}

impl Thread {
    fn start(index: usize, count: usize, name: String, panics: Arc<AtomicU64>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let (tell_start, start_told) = std::sync::mpsc::channel();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let handle = std::thread::Builder::new().name(name).spawn(move || {
            let runtime =
                match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(tell_start.send(Err(error))),
                };
            drop(tell_start.send(Ok(())));
            live(&runtime, index, count, panics, queue, &stopped);
            drop(runtime);
            // Nobody waits when the workers were dropped.
            let _ = end.send(());
        })?;
        start_told.recv().map_err(io::Error::other)??;
        Ok(Self { jobs, stop, ended, handle })
    }
}

/// The life of a worker: take jobs until no more can come, then wait for the last task; or stop when told.
fn live(
    runtime: &LocalRuntime,
    index: usize,
    count: usize,
    panics: Arc<AtomicU64>,
    mut queue: mpsc::UnboundedReceiver<Job>,
    stop: &Notify,
) {
    let tasks = Rc::new(Tasks::default());
    let context =
        WorkerContext { index, count, deadlines: Deadlines::default(), panics, tasks: Rc::clone(&tasks) };
    runtime.block_on(async move {
        let work = async {
            while let Some(job) = queue.recv().await {
                context.spawn(job(context.clone()));
            }
            while tasks.running.get() > 0 {
                tasks.none_left.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.notified() => {}
            () = work => {}
        }
    });
}

impl WorkerContext {
    /// Which worker this is, from 0.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// How many workers there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The time limits of this worker.
    pub const fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Starts a task on this worker. A panic in it is caught, counted and logged, and gives `None`.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let panics = Arc::clone(&self.panics);
        let running = Running::one_more(&self.tasks);
        tokio::task::spawn_local(async move {
            let _running = running;
            caught(&panics, future).await
        })
    }
}

impl fmt::Debug for WorkerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerContext").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Counts a task for as long as it lives, however it ends.
struct Running(Rc<Tasks>);

impl Running {
    fn one_more(tasks: &Rc<Tasks>) -> Self {
        tasks.running.set(tasks.running.get() + 1);
        Self(Rc::clone(tasks))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        if self.0.running.get() == 0 {
            self.0.none_left.notify_one();
        }
    }
}

/// Polls `future` behind a wall that panics do not pass.
async fn caught<F: Future>(panics: &AtomicU64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let outcome = poll_fn(|context| {
        // Unwind safety: after a panic the future is never polled again, only dropped.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await;
    outcome
        .inspect_err(|payload| {
            panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(message = message(&**payload), "a task panicked; please report this");
        })
        .ok()
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    #[tokio::test]
    async fn each_worker_runs_its_job_on_its_own_thread() {
        let workers = Workers::start(3, "test").expect("threads");
        let names = workers
            .run_each(|index| {
                move |context: WorkerContext| async move {
                    assert_eq!((context.index(), context.count()), (index, 3));
                    std::thread::current().name().map(str::to_owned)
                }
            })
            .await
            .expect("no panic");
        assert_eq!(names.into_iter().flatten().collect::<Vec<_>>(), ["test-0", "test-1", "test-2"]);
        workers.join().await;
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_the_worker_goes_on() {
        let workers = Workers::start(1, "test").expect("threads");
        let before = workers.run(0, |_| async { assert_eq!(1, 2, "on purpose") });
        assert_eq!(before.await, Err(JobFailed::Panicked));
        let spawned = workers.run(0, |context| async move {
            let task = context.spawn(async { assert_eq!(1, 2, "on purpose, spawned") });
            task.await.expect("not cancelled")
        });
        assert_eq!(spawned.await, Ok(None));
        assert_eq!(workers.run(0, |_| async { 5 }).await, Ok(5));
        assert_eq!(workers.panics(), 2);
        workers.join().await;
    }

    #[tokio::test]
    async fn joining_waits_for_what_jobs_spawned() {
        let done = Arc::new(AtomicBool::new(false));
        let workers = Workers::start(1, "test").expect("threads");
        let told = Arc::clone(&done);
        let job = workers.run(0, |context| async move {
            let deadlines = context.deadlines().clone();
            context.spawn(async move {
                deadlines.after(Duration::from_millis(1)).await;
                told.store(true, Ordering::Release);
            });
        });
        job.await.expect("job ends");
        workers.join().await;
        assert!(done.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn dropping_stops_a_job_that_never_ends() {
        let workers = Workers::start(1, "test").expect("threads");
        let endless = workers.run(0, |_| std::future::pending::<()>());
        drop(workers);
        assert_eq!(endless.await, Err(JobFailed::Stopped));
    }
}
