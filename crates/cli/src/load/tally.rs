//! What one thread counts, and how tallies add up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Why a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// No connection could be made.
    Connect,
    /// The connection ended before the answer did.
    Closed,
    /// The connection was reset.
    Reset,
    /// The answer took longer than the timeout.
    Timeout,
    /// The answer was not HTTP.
    Malformed,
    /// The HTTP/2 stream or connection ended with an error.
    Http2,
}

impl ErrorKind {
    /// As it stands in results.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Connect => "connect",
            ErrorKind::Closed => "closed",
            ErrorKind::Reset => "reset",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Malformed => "malformed",
            ErrorKind::Http2 => "http2",
        }
    }
}

/// Counters for the progress line, shared by the threads.
#[derive(Debug, Default)]
pub(super) struct Progress {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) bytes: u64,
}

/// What was counted among the requests that were due in the measured time.
pub(super) struct Tally {
    /// Of answers, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) errors: BTreeMap<ErrorKind, u64>,
    /// Requests that were due but never sent.
    pub(super) unsent: u64,
    /// Bytes received, heads included.
    pub(super) bytes: u64,
    /// Kept connections that had closed and were made anew.
    pub(super) reconnects: u64,
    /// When the load was stopped before its end.
    pub(super) stopped: Option<Instant>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, Duration::from_secs(3600).as_nanos() as u64, 3);
        Tally {
            latency: latency.expect("the bounds are in order and three digits are allowed"),
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            unsent: 0,
            bytes: 0,
            reconnects: 0,
            stopped: None,
        }
    }
}

impl Tally {
    /// Counts what became of a request, for the progress line and, when it was due in the measured
    /// time, for the result.
    pub(super) fn record(
        &mut self,
        progress: &Progress,
        is_measured: bool,
        latency: Duration,
        outcome: Result<Answered, ErrorKind>,
    ) {
        let counter = if outcome.is_ok() { &progress.answered } else { &progress.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if !is_measured {
            return;
        }
        match outcome {
            Ok(answered) => {
                self.latency.saturating_record(latency.as_nanos().max(1) as u64);
                *self.statuses.entry(answered.status).or_default() += 1;
                self.bytes += answered.bytes;
            }
            Err(kind) => *self.errors.entry(kind).or_default() += 1,
        }
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency).expect("all tallies have the same bounds");
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (kind, count) in &other.errors {
            *self.errors.entry(*kind).or_default() += count;
        }
        self.unsent += other.unsent;
        self.bytes += other.bytes;
        self.reconnects += other.reconnects;
        self.stopped = self.stopped.or(other.stopped);
    }
}
