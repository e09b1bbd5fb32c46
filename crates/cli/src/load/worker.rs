//! One thread of a load: its connections as local tasks, its pace, its tally.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::deadline::{Deadline, Deadlines};
use super::pace::{Pacer, Schedule};
use super::plan::Plan;
use super::tally::{Answered, ErrorKind, Progress, Tally};
use super::{h1, h2};

/// After a connection that could not be made, a closed loop pauses so long.
const PAUSE: Duration = Duration::from_millis(20);

/// What a thread is given.
pub(super) struct Worker {
    pub(super) plan: Arc<Plan>,
    pub(super) address: SocketAddr,
    pub(super) start: Instant,
    /// Which of `count` threads this is.
    pub(super) index: u32,
    pub(super) count: u32,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: CancellationToken,
}

/// What the tasks of a thread share.
struct Shared {
    worker: Worker,
    pacer: Option<Rc<Pacer>>,
    deadlines: Deadlines,
    tally: RefCell<Tally>,
    is_stopped: Cell<bool>,
}

impl Worker {
    /// Runs to the end of the load.
    pub(super) fn run(self) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime needs descriptors, of which a load needs more");
        let local = LocalSet::new();
        runtime.block_on(local.run_until(self.work()))
    }

    async fn work(self) -> Tally {
        let (timeout, stop) = (self.plan.timeout, self.stop.clone());
        // All threads begin together.
        tokio::time::sleep_until(self.start.into()).await;
        let shared = Shared::new(self);
        let mut tasks = JoinSet::new();
        Rc::clone(&shared).start_connections(&mut tasks);
        let pace = async {
            match &shared.pacer {
                // Without a timer there is no load to speak of: end at once.
                Some(pacer) => drop(pacer.run().await.inspect_err(|_| pacer.stop())),
                None => std::future::pending().await,
            }
            std::future::pending::<()>().await;
        };
        let stopped = async {
            stop.cancelled().await;
            shared.halt();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = async { while tasks.join_next().await.is_some() {} } => {}
            () = shared.deadlines.sweep(timeout) => {}
            () = pace => {}
            () = stopped => {}
        }
        shared.count_missed();
        shared.tally.take()
    }

    fn measured_from(&self) -> Instant {
        self.start + self.plan.warmup
    }

    fn end(&self) -> Instant {
        self.measured_from() + self.plan.duration
    }

    /// How many of the load's connections are this thread's.
    fn connections(&self) -> u32 {
        let more = u32::from(self.index < self.plan.connections % self.count);
        self.plan.connections / self.count + more
    }
}

impl Shared {
    fn new(worker: Worker) -> Rc<Self> {
        let schedule = |interval| Schedule {
            start: worker.start,
            end: worker.end(),
            interval,
            index: worker.index,
            count: worker.count,
        };
        let pacer = worker.plan.interval().map(|interval| Pacer::new(schedule(interval)));
        let (deadlines, tally) = (Deadlines::default(), RefCell::default());
        Rc::new(Shared { worker, pacer, deadlines, tally, is_stopped: Cell::new(false) })
    }

    fn start_connections(self: Rc<Self>, tasks: &mut JoinSet<()>) {
        for _ in 0..self.worker.connections() {
            let Some(streams) = self.worker.plan.http2_streams else {
                tasks.spawn_local(Rc::clone(&self).http1());
                continue;
            };
            let connection = h2::Connection::new(self.worker.address, &self.worker.plan);
            for _ in 0..streams {
                tasks.spawn_local(Rc::clone(&self).http2(Rc::clone(&connection)));
            }
        }
    }

    async fn http1(self: Rc<Self>) {
        let plan = &self.worker.plan;
        let mut request = plan.http1_head();
        request.extend_from_slice(&plan.body);
        let is_head = plan.method == hyper::Method::HEAD;
        let mut connection = h1::Connection::new(self.worker.address, is_head, plan.is_idempotent());
        let deadline = self.deadlines.add();
        while let Some(due) = self.next().await {
            let outcome = deadline.within(connection.exchange(&request)).await;
            if outcome.is_none() {
                connection.close();
            }
            self.record(due, outcome).await;
        }
        self.tally.borrow_mut().reconnects += connection.reconnects;
    }

    async fn http2(self: Rc<Self>, connection: Rc<h2::Connection>) {
        let deadline: Rc<Deadline> = self.deadlines.add();
        while let Some(due) = self.next().await {
            let outcome = deadline.within(connection.exchange()).await;
            self.record(due, outcome).await;
        }
    }

    /// When the next request is due; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        if let Some(pacer) = &self.pacer {
            return pacer.next().await;
        }
        let now = Instant::now();
        (now < self.worker.end() && !self.is_stopped.get()).then_some(now)
    }

    async fn record(&self, due: Instant, outcome: Option<Result<Answered, ErrorKind>>) {
        let outcome = outcome.unwrap_or(Err(ErrorKind::Timeout));
        let is_measured = due >= self.worker.measured_from();
        self.tally.borrow_mut().record(&self.worker.progress, is_measured, due.elapsed(), outcome);
        if outcome == Err(ErrorKind::Connect) && self.pacer.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends the load before its time.
    fn halt(&self) {
        self.is_stopped.set(true);
        self.tally.borrow_mut().stopped = Some(Instant::now());
        if let Some(pacer) = &self.pacer {
            pacer.stop();
        }
    }

    fn count_missed(&self) {
        let Some(pacer) = &self.pacer else { return };
        let measured_from = self.worker.measured_from();
        let missed = pacer.missed().filter(|due| *due >= measured_from).count();
        self.tally.borrow_mut().unsent += missed as u64;
    }
}
