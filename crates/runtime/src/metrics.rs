//! Counters and histograms that cost an addition.
//!
//! A [`Registry`] knows the families: name, help, kind. Each worker counts into cells of its own, which it gets by
//! naming a family and a label set once ([`WorkerMetrics`]); after that, counting is a load, an addition and a store
//! on memory that no other thread writes. A scrape sums the cells of all workers ([`Registry::render`]). What has no
//! worker (the control plane, background tasks) uses the `shared_` cells, which any thread may write.
//!
//! The number of label sets of a family is bounded. Beyond the bound, values go to one more series of the family,
//! labelled `overflow="true"`, so that totals stay right, and `lateen_metrics_overflow_total` says how often a new
//! label set was refused.

mod cells;
mod labels;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cells::{Counter, Gauge, Histogram, SharedCounter, SharedGauge, SharedHistogram};
pub use labels::Labels;
pub use text::Format;

use cells::{Chunk, Slot};

/// Label sets a family may have before the rest goes to its overflow series.
pub const LABEL_SETS_PER_FAMILY: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A family whose series only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterFamily(FamilyId);
/// A family whose series go up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GaugeFamily(FamilyId);
/// A family of distributions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramFamily(FamilyId, &'static [f64]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FamilyId(usize);

/// A value asked for at scrape time.
type Asked = Box<dyn Fn() -> f64 + Send>;

pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// Upper bounds of a histogram's buckets, without the infinite one.
    bounds: &'static [f64],
    /// Every worker's cells of each label set.
    series: BTreeMap<Labels, Vec<Slot>>,
    asked: BTreeMap<Labels, Asked>,
}

/// All metrics of a process. Clones share them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    families: Mutex<Vec<Family>>,
    /// Cells that any thread may write.
    common: Mutex<Cells>,
    label_sets: usize,
    overflowed: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    pub fn new() -> Self {
        Self::with_label_sets(LABEL_SETS_PER_FAMILY)
    }

    /// A registry whose families hold at most `label_sets` label sets each.
    pub fn with_label_sets(label_sets: usize) -> Self {
        let shared = Shared {
            families: Mutex::default(),
            common: Mutex::default(),
            label_sets,
            overflowed: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Declares a counter; the same name twice gives the same family.
    ///
    /// # Panics
    /// When the name is not a metric name ending in `_total`, or is taken by another kind: a mistake of the program,
    /// seen at its first start.
    pub fn counter(&self, name: &'static str, help: &'static str) -> CounterFamily {
        assert!(name.ends_with("_total"), "the counter `{name}` must end in `_total`");
        CounterFamily(self.declare(name, help, Kind::Counter, &[]))
    }

    /// Declares a gauge; the same name twice gives the same family.
    ///
    /// # Panics
    /// As [`Registry::counter`].
    pub fn gauge(&self, name: &'static str, help: &'static str) -> GaugeFamily {
        GaugeFamily(self.declare(name, help, Kind::Gauge, &[]))
    }

    /// Declares a histogram with the upper bounds of its buckets, ascending, at most 256, without the infinite one.
    ///
    /// # Panics
    /// As [`Registry::counter`], and when the bounds are not such.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> HistogramFamily {
        let ascending = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let finite = bounds.iter().all(|bound| bound.is_finite());
        assert!(
            ascending && finite && bounds.len() <= 256,
            "bounds of `{name}` must be finite, ascending, at most 256"
        );
        HistogramFamily(self.declare(name, help, Kind::Histogram, bounds), bounds)
    }

    /// A gauge whose value is asked for at each scrape. The question must be quick and must not use this registry.
    pub fn ask(&self, family: GaugeFamily, labels: Labels, question: impl Fn() -> f64 + Send + 'static) {
        self.families()[family.0.0].asked.insert(labels, Box::new(question));
    }

    /// The cells of one more worker; make it on the worker's own thread.
    pub fn worker(&self) -> WorkerMetrics {
        WorkerMetrics { registry: self.clone(), cells: Cells::default(), here: PhantomData }
    }

    /// A counter that any thread may count up.
    pub fn shared_counter(&self, family: CounterFamily, labels: &Labels) -> SharedCounter {
        SharedCounter(self.common_slot(family.0, labels, 1))
    }

    /// A gauge that any thread may move.
    pub fn shared_gauge(&self, family: GaugeFamily, labels: &Labels) -> SharedGauge {
        SharedGauge(self.common_slot(family.0, labels, 1))
    }

    /// A histogram that any thread may add to.
    pub fn shared_histogram(&self, family: HistogramFamily, labels: &Labels) -> SharedHistogram {
        SharedHistogram(self.common_slot(family.0, labels, family.1.len() + 2), family.1)
    }

    /// Everything as text, for a scraper.
    pub fn render(&self, format: Format) -> String {
        let overflowed = self.shared.overflowed.load(Ordering::Relaxed);
        text::render(&self.families(), overflowed, format)
    }

    fn declare(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        bounds: &'static [f64],
    ) -> FamilyId {
        assert!(labels::is_metric_name(name), "`{name}` is not a metric name");
        let mut families = self.families();
        if let Some(at) = families.iter().position(|family| family.name == name) {
            let same = families[at].kind == kind && families[at].bounds == bounds;
            assert!(same, "`{name}` is declared twice and differently");
            return FamilyId(at);
        }
        families.push(Family { name, help, kind, bounds, series: BTreeMap::new(), asked: BTreeMap::new() });
        FamilyId(families.len() - 1)
    }

    fn common_slot(&self, family: FamilyId, labels: &Labels, length: usize) -> Slot {
        let mut cells = self.shared.common.lock().unwrap_or_else(PoisonError::into_inner);
        cells.slot(self, family, labels, length)
    }

    fn families(&self) -> MutexGuard<'_, Vec<Family>> {
        self.shared.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes cells known to scrapes, under `labels` or, when there are too many label sets, under overflow.
    fn admit(&self, family: FamilyId, labels: &Labels, slot: impl FnOnce(&Labels) -> Slot) -> Slot {
        let mut families = self.families();
        let series = &mut families[family.0].series;
        let fits = series.contains_key(labels) || series.len() < self.shared.label_sets;
        let labels = if fits {
            labels.clone()
        } else {
            self.shared.overflowed.fetch_add(1, Ordering::Relaxed);
            Labels::overflow()
        };
        let slot = slot(&labels);
        let slots = series.entry(labels).or_default();
        if !slots.iter().any(|known| known.same_as(&slot)) {
            slots.push(slot.clone());
        }
        slot
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("families", &self.families().len()).finish_non_exhaustive()
    }
}

/// One writer's cells, and which label set has which.
#[derive(Default)]
struct Cells {
    known: HashMap<FamilyId, HashMap<Labels, Slot>>,
    chunk: Option<(Arc<Chunk>, usize)>,
}

impl Cells {
    fn slot(&mut self, registry: &Registry, family: FamilyId, labels: &Labels, length: usize) -> Slot {
        if let Some(slot) = self.known.get(&family).and_then(|known| known.get(labels)) {
            return slot.clone();
        }
        let overflow = Labels::overflow();
        let spilled = self.known.get(&family).and_then(|known| known.get(&overflow)).cloned();
        let (chunk, known) = (&mut self.chunk, &mut self.known);
        let mut admitted = None;
        let slot = registry.admit(family, labels, |labels| {
            admitted = Some(labels.clone());
            match spilled {
                Some(slot) if *labels == overflow => slot,
                _ => Slot::take(chunk, length),
            }
        });
        // A refused label set is not remembered: remembering is what has to be bounded.
        if let Some(admitted) = admitted {
            known.entry(family).or_default().insert(admitted, slot.clone());
        }
        slot
    }
}

/// The cells of one worker. Asking for a series takes a lock and may allocate; keep what it gives.
pub struct WorkerMetrics {
    registry: Registry,
    cells: Cells,
    /// Not to be sent: its cells have one writer.
    here: PhantomData<*const ()>,
}

impl WorkerMetrics {
    pub fn counter(&mut self, family: CounterFamily, labels: &Labels) -> Counter {
        Counter(self.cells.slot(&self.registry, family.0, labels, 1), PhantomData)
    }

    pub fn gauge(&mut self, family: GaugeFamily, labels: &Labels) -> Gauge {
        Gauge(self.cells.slot(&self.registry, family.0, labels, 1), PhantomData)
    }

    pub fn histogram(&mut self, family: HistogramFamily, labels: &Labels) -> Histogram {
        let slot = self.cells.slot(&self.registry, family.0, labels, family.1.len() + 2);
        Histogram(slot, family.1, PhantomData)
    }

    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
