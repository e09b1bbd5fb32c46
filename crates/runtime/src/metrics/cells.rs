//! The memory that is counted in.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells of one writer, handed out in order; aligned so that no other writer's cells share a cache line (two
/// lines, since processors fetch them in pairs).
#[repr(align(128))]
pub(super) struct Chunk([AtomicU64; 512]);

/// A run of cells inside a chunk: one for a counter or a gauge; for a histogram one a bucket, one for the infinite
/// bucket, one for the sum.
#[derive(Clone)]
pub(super) struct Slot {
    chunk: Arc<Chunk>,
    start: usize,
    length: usize,
}

impl Slot {
    /// The next `length` cells of the writer's chunk, or of a new one.
    pub(super) fn take(current: &mut Option<(Arc<Chunk>, usize)>, length: usize) -> Self {
        let (chunk, start) = match current.take() {
            Some((chunk, used)) if used + length <= chunk.0.len() => (chunk, used),
            _ => (Arc::new(Chunk([const { AtomicU64::new(0) }; 512])), 0),
        };
        debug_assert!(length <= chunk.0.len(), "bounds are limited where histograms are declared");
        *current = Some((Arc::clone(&chunk), start + length));
        Self { chunk, start, length }
    }

    #[inline]
    fn cells(&self) -> &[AtomicU64] {
        &self.chunk.0[self.start..self.start + self.length]
    }

    pub(super) fn values(&self) -> impl Iterator<Item = u64> {
        self.cells().iter().map(|cell| cell.load(Ordering::Relaxed))
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunk, &other.chunk) && self.start == other.start
    }
}

/// Adds without a locked instruction: right as long as one thread writes.
#[inline]
fn add_alone(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Which bucket a value falls into; the last is the infinite one.
#[inline]
fn bucket(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|&bound| bound < value)
}

/// One worker's part of a counter.
#[derive(Clone)]
pub struct Counter(pub(super) Slot, pub(super) PhantomData<*const ()>);

impl Counter {
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, amount: u64) {
        add_alone(&self.0.cells()[0], amount);
    }

    /// This worker's part, for tests and decisions.
    pub fn value(&self) -> u64 {
        self.0.cells()[0].load(Ordering::Relaxed)
    }
}

/// One worker's part of a gauge: the sum over all workers is shown, so each moves it only by differences.
#[derive(Clone)]
pub struct Gauge(pub(super) Slot, pub(super) PhantomData<*const ()>);

impl Gauge {
    #[inline]
    pub fn increment(&self) {
        add_alone(&self.0.cells()[0], 1);
    }

    #[inline]
    pub fn decrement(&self) {
        add_alone(&self.0.cells()[0], u64::MAX);
    }

    /// One up now, one down when the guard is dropped.
    pub fn hold(&self) -> GaugeGuard {
        self.increment();
        GaugeGuard(self.clone())
    }

    pub fn value(&self) -> i64 {
        self.0.cells()[0].load(Ordering::Relaxed).cast_signed()
    }
}

/// Takes one off its gauge when dropped.
pub struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.decrement();
    }
}

/// One worker's part of a histogram.
#[derive(Clone)]
pub struct Histogram(pub(super) Slot, pub(super) &'static [f64], pub(super) PhantomData<*const ()>);

impl Histogram {
    #[inline]
    pub fn observe(&self, value: f64) {
        let cells = self.0.cells();
        add_alone(&cells[bucket(self.1, value)], 1);
        let sum = &cells[self.1.len() + 1];
        sum.store((f64::from_bits(sum.load(Ordering::Relaxed)) + value).to_bits(), Ordering::Relaxed);
    }
}

/// A counter for threads that are no workers.
#[derive(Clone)]
pub struct SharedCounter(pub(super) Slot);

impl SharedCounter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.0.cells()[0].fetch_add(amount, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.cells()[0].load(Ordering::Relaxed)
    }
}

/// A gauge for threads that are no workers.
#[derive(Clone)]
pub struct SharedGauge(pub(super) Slot);

impl SharedGauge {
    pub fn set(&self, value: i64) {
        self.0.cells()[0].store(value.cast_unsigned(), Ordering::Relaxed);
    }

    pub fn add(&self, difference: i64) {
        self.0.cells()[0].fetch_add(difference.cast_unsigned(), Ordering::Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.cells()[0].load(Ordering::Relaxed).cast_signed()
    }
}

/// A histogram for threads that are no workers.
#[derive(Clone)]
pub struct SharedHistogram(pub(super) Slot, pub(super) &'static [f64]);

impl SharedHistogram {
    pub fn observe(&self, value: f64) {
        let cells = self.0.cells();
        cells[bucket(self.1, value)].fetch_add(1, Ordering::Relaxed);
        let sum = &cells[self.1.len() + 1];
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let added = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        debug_assert!(added.is_ok(), "the update always gives a value");
    }
}
