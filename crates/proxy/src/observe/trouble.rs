//! What was denied and what failed, counted by reason: the first numbers to look at when something does not work.

use std::cell::RefCell;

use hashbrown::HashMap;
use lateen_engine::DenialReason;
use lateen_runtime::metrics::{Counter, CounterFamily, Labels, Registry, WorkerMetrics};

use super::access::Record;

/// One worker's counters.
pub struct Trouble {
    denied: CounterFamily,
    faults: CounterFamily,
    cells: RefCell<Cells>,
}

/// The cells made so far; reasons are a closed set.
struct Cells {
    metrics: WorkerMetrics,
    denied: HashMap<&'static str, Counter>,
    faults: HashMap<&'static str, Counter>,
}

impl Trouble {
    /// The cells of one more worker; made on the worker's own thread.
    pub fn new(registry: &Registry) -> Self {
        Self {
            denied: registry.counter("lateen_denied_total", "connections and requests refused, by reason"),
            faults: registry
                .counter("lateen_faults_total", "connections and requests that failed, by reason"),
            cells: RefCell::new(Cells {
                metrics: registry.worker(),
                denied: HashMap::new(),
                faults: HashMap::new(),
            }),
        }
    }

    /// Takes note of a record.
    pub fn record(&self, record: &Record<'_>) {
        if record.denial.is_none() && record.fault.is_none() {
            return;
        }
        let Cells { metrics, denied, faults } = &mut *self.cells.borrow_mut();
        let (family, known, reason) = match (record.denial, record.fault) {
            (Some(denial), _) => (self.denied, denied, reason_of(&denial.reason)),
            (None, Some(fault)) => (self.faults, faults, fault.details()),
            (None, None) => return,
        };
        known
            .entry(reason)
            .or_insert_with(|| metrics.counter(family, &Labels::new([("reason", reason)])))
            .increment();
    }
}

const fn reason_of(reason: &DenialReason) -> &'static str {
    match reason {
        DenialReason::DeniedBy { .. } => "denied_by_policy",
        DenialReason::NotAllowed { .. } => "not_allowed",
        DenialReason::PlaintextRefused { .. } => "plaintext",
        DenialReason::PolicyMissing { .. } => "policy_missing",
        DenialReason::OwnWorkloadUnknown => "own_workload_unknown",
        DenialReason::NotOurs => "not_ours",
        DenialReason::Misdirected => "misdirected",
        DenialReason::Undeclared => "undeclared",
        DenialReason::NoRoute => "no_route",
        DenialReason::NoBackend { .. } => "no_backend",
        DenialReason::NoEndpoint => "no_endpoint",
        DenialReason::AllTried => "all_tried",
        DenialReason::RateLimited { .. } => "rate_limited",
        DenialReason::TooLarge { .. } => "too_large",
    }
}
