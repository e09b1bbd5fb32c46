//! `Slots`: values under small stable numbers; an update copies one chunk, not the whole.

use std::sync::Arc;

const CHUNK: usize = 128;

/// Values under small numbers. A clone shares all chunks but those changed later.
pub(crate) struct Slots<T>(Vec<Arc<[Option<Arc<T>>; CHUNK]>>);

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    pub(crate) fn get(&self, number: u32) -> Option<&Arc<T>> {
        let number = number as usize;
        self.0.get(number / CHUNK)?[number % CHUNK].as_ref()
    }

    pub(crate) fn set(&mut self, number: u32, value: Option<Arc<T>>) {
        let number = number as usize;
        while self.0.len() <= number / CHUNK {
            self.0.push(Arc::new([const { None }; CHUNK]));
        }
        Arc::make_mut(&mut self.0[number / CHUNK])[number % CHUNK] = value;
    }

    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u32, &Arc<T>)> {
        let chunks = (0_u32..).step_by(CHUNK).zip(&self.0);
        chunks.flat_map(|(first, chunk)| {
            (first..).zip(chunk.iter()).filter_map(|(number, value)| Some((number, value.as_ref()?)))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter().flat_map(|chunk| chunk.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut slots = Slots::default();
        for n in 0..300 {
            slots.set(n, Some(Arc::new(n)));
        }
        let before = slots.clone();
        slots.set(7, None);
        assert_eq!((before.get(7).map(|n| **n), slots.get(7), slots.get(9999)), (Some(7), None, None));
        assert_eq!((before.iter().count(), slots.iter().count()), (300, 299));
    }
}
