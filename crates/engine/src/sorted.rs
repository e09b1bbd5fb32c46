//! `Sorted<T>`: values in their order, whose clone is cheap and whose change copies one chunk, not the whole.

use std::sync::Arc;

/// The most values of a chunk. A change copies one chunk; a clone counts up one reference for each.
const CHUNK: usize = 128;

/// An ordered set that shares its chunks with its clones.
#[derive(Clone)]
pub(crate) struct Sorted<T> {
    /// In order; none is empty.
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Ord + Clone> Sorted<T> {
    /// Puts a value where it belongs; one that is equal is replaced.
    pub(crate) fn insert(&mut self, value: T) {
        let at = self.chunk_of(&value).min(self.chunks.len().saturating_sub(1));
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![value]));
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match chunk.binary_search(&value) {
            Ok(place) => chunk[place] = value,
            Err(place) => chunk.insert(place, value),
        }
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(upper));
        }
    }

    /// Takes out the value that is equal.
    pub(crate) fn remove(&mut self, value: &T) -> Option<T> {
        let at = self.chunk_of(value);
        let chunk = self.chunks.get_mut(at)?;
        let place = chunk.binary_search(value).ok()?;
        let removed = Arc::make_mut(chunk).remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        Some(removed)
    }

    /// The first chunk whose last value is not before this one.
    fn chunk_of(&self, value: &T) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last < value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_an_ordered_set_and_clones_keep_what_they_had(
            changes in proptest::collection::vec((any::<bool>(), 0u32..400), 0..1500),
        ) {
            let (mut sorted, mut expected) = (Sorted::default(), BTreeSet::new());
            let mut kept = Vec::new();
            for (number, (there, value)) in changes.into_iter().enumerate() {
                if there {
                    sorted.insert(value);
                    expected.insert(value);
                } else {
                    prop_assert_eq!(sorted.remove(&value), expected.take(&value));
                }
                if number % 200 == 0 {
                    kept.push((sorted.clone(), expected.clone()));
                }
            }
            kept.push((sorted, expected));
            for (sorted, expected) in kept {
                prop_assert!(sorted.iter().eq(expected.iter()));
                prop_assert_eq!(sorted.is_empty(), expected.is_empty());
                prop_assert!(sorted.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
            }
        }
    }
}
