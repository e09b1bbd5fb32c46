//! How many connections there are, in all and of one origin: a hostile caller takes away no more than its own.

use super::accept::{Limits, Origin};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts connections.
#[derive(Clone)]
pub(super) struct Guests {
    places: Arc<Semaphore>,
    of_one: usize,
    counts: Counts,
}

type Counts = Arc<Mutex<HashMap<Origin, usize>>>;

/// One connection; dropping it makes room.
pub(super) struct Guest {
    pub(super) origin: Origin,
    counts: Counts,
    _place: OwnedSemaphorePermit,
}

impl Guests {
    pub(super) fn new(limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        Self { places, of_one: limits.of_one, counts: Counts::default() }
    }

    /// Waits for room for one more.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Whether one more of this origin comes in.
    pub(super) fn admit(&self, origin: Origin, place: OwnedSemaphorePermit) -> Option<Guest> {
        let mut counts = lock(&self.counts);
        let count = counts.entry(origin).or_default();
        if *count >= self.of_one {
            return None;
        }
        *count += 1;
        Some(Guest { origin, counts: Arc::clone(&self.counts), _place: place })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.origin);
            }
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<Origin, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_origin_takes_only_its_own_places() {
        let guests = Guests::new(Limits { connections: 3, of_one: 2 });
        let (loud, quiet) = (Origin::Process(1), Origin::Process(2));
        let first = guests.admit(loud, guests.place().await).expect("room");
        let _second = guests.admit(loud, guests.place().await).expect("room");
        assert!(guests.admit(loud, guests.place().await).is_none(), "it has its share");
        let _third = guests.admit(quiet, guests.place().await).expect("the place was given back");
        drop(first);
        assert!(guests.admit(loud, guests.place().await).is_some());
        assert!(guests.counts.lock().expect("no panic").contains_key(&quiet));
    }
}
