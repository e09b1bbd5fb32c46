//! `Observer`: one worker's sink: counts every record, writes down those that the mesh asks for.

use super::access::{Record, Sink, What};
use super::line::write_line;
use super::log::LogQueue;
use super::metrics::{Directory, StandardMetrics};
use super::trouble::Trouble;
use lateen_model::AccessLog;
use lateen_runtime::clock::Clock;
use lateen_runtime::metrics::Registry;
use std::cell::RefCell;

/// What an observer asks of the current snapshot.
pub trait Settings: Directory {
    /// Which records are written to the access log.
    fn access_log(&self) -> AccessLog;
}

/// One worker's sink.
pub struct Observer<S> {
    metrics: RefCell<StandardMetrics>,
    trouble: Trouble,
    log: Option<LogQueue>,
    settings: S,
    clock: Clock,
}

impl<S: Settings> Observer<S> {
    /// Counts into cells of `registry`, writes into `log` where there is one; made on the worker's own thread.
    pub fn new(registry: &Registry, log: Option<LogQueue>, settings: S, clock: Clock) -> Self {
        let metrics = RefCell::new(StandardMetrics::new(registry));
        Self { metrics, trouble: Trouble::new(registry), log, settings, clock }
    }
}

impl<S: Settings> Sink for Observer<S> {
    fn record(&self, record: &Record<'_>) {
        self.metrics.borrow_mut().ended(record, &self.settings);
        self.trouble.record(record);
        let Some(log) = &self.log else { return };
        let wanted = match self.settings.access_log() {
            AccessLog::Off => false,
            AccessLog::Errors => failed(record),
            AccessLog::All => true,
        };
        if wanted {
            let now = self.clock.wall();
            log.push(|out| write_line(out, record, now));
        }
    }

    fn opened(&self, record: &Record<'_>) {
        self.metrics.borrow_mut().opened(record, &self.settings);
    }

    fn moved(&self, record: &Record<'_>) {
        self.metrics.borrow_mut().moved(record, &self.settings);
    }
}

fn failed(record: &Record<'_>) -> bool {
    let status = match record.what {
        What::Http(http) => http.status,
        What::Tcp => 0,
    };
    record.denial.is_some() || record.fault.is_some() || status >= 500
}
