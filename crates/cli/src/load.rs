//! A load generator that does not hide how late it was.
//!
//! At a constant rate every request has a moment at which it is due, and its latency counts from
//! there: a server that stalls for a second is charged for every request that was due in that second,
//! not only for the one that happened to wait (what is known as coordinated omission). Requests that
//! were due but could not be sent before the end are counted as well. Without a rate each connection
//! sends its next request as soon as it has its answer.
//!
//! Each thread owns its connections and runs them as local tasks: nothing is shared but a handful of
//! counters for the progress line. HTTP/1.1 is a loop of our own over a socket; HTTP/2 is the `h2` crate.

mod deadline;
mod h1;
mod h2;
mod pace;
mod plan;
mod report;
mod response;
mod tally;
mod worker;

pub use plan::{InvalidPlan, Plan, Target};
pub use report::{Latency, Report};
pub use tally::ErrorKind;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::tally::{Progress, Tally};
use self::worker::Worker;

/// Why no load could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("resolve {host}: {source}")]
    Resolve { host: String, source: std::io::Error },
    #[error("connect to {authority}: {source}")]
    Connect { authority: String, source: std::io::Error },
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
}

/// A load under way on threads of its own.
pub struct Load {
    plan: Arc<Plan>,
    threads: Vec<thread::JoinHandle<Tally>>,
    progress: Arc<Progress>,
    stop: CancellationToken,
    measured_from: Instant,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Since the first request was due, warm-up included.
    pub elapsed: Duration,
    /// Answers received, those of the warm-up included.
    pub answered: u64,
    pub failed: u64,
}

impl Load {
    /// Finds the server, connects to it once to see that it is there, and starts.
    pub fn start(plan: Plan) -> Result<Self, Error> {
        let plan = Arc::new(plan);
        let address = plan.target.reach(plan.timeout)?;
        let progress = Arc::new(Progress::default());
        let stop = CancellationToken::new();
        // All threads share one schedule; a moment for them to come up belongs to no request.
        let start = Instant::now() + Duration::from_millis(5);
        let count = plan.threads.clamp(1, plan.connections);
        let mut threads = Vec::new();
        for index in 0..count {
            let worker = Worker {
                plan: Arc::clone(&plan),
                address,
                start,
                index,
                count,
                progress: Arc::clone(&progress),
                stop: stop.clone(),
            };
            let thread = thread::Builder::new().name(format!("load-{index}"));
            threads.push(thread.spawn(move || worker.run()).map_err(Error::Thread)?);
        }
        let measured_from = start + plan.warmup;
        Ok(Load { plan, threads, progress, stop, measured_from })
    }

    /// Ends the load before its time; what was measured until then counts.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether every thread is through.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }

    pub fn status(&self) -> Status {
        let start = self.measured_from - self.plan.warmup;
        Status {
            elapsed: Instant::now().saturating_duration_since(start),
            answered: self.progress.answered(),
            failed: self.progress.failed(),
        }
    }

    /// Waits for the end and adds up.
    pub fn finish(self) -> Report {
        let mut total = Tally::default();
        for thread in self.threads {
            // A thread that panicked has said so on stderr; the others still count.
            if let Ok(tally) = thread.join() {
                total.add(&tally);
            }
        }
        let measured = match total.stopped {
            Some(stopped) => stopped.saturating_duration_since(self.measured_from).min(self.plan.duration),
            None => self.plan.duration,
        };
        Report::new(&self.plan, &total, measured.as_secs_f64())
    }
}
