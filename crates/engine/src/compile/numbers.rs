//! Small stable numbers for names; a number is used again when its name is gone.

use std::collections::HashMap;
use std::hash::Hash;

pub(super) struct Numbers<K> {
    numbers: HashMap<K, u32>,
    free: Vec<u32>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), free: Vec::new() }
    }
}

impl<K: Eq + Hash + Clone> Numbers<K> {
    pub(super) fn get(&self, name: &K) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn get_or_add(&mut self, name: &K) -> u32 {
        if let Some(number) = self.get(name) {
            return number;
        }
        let next = u32::try_from(self.numbers.len()).expect("there are fewer than 2^32 names");
        // All numbers below the count are taken, unless some are free.
        let number = self.free.pop().unwrap_or(next);
        self.numbers.insert(name.clone(), number);
        number
    }

    pub(super) fn remove(&mut self, name: &K) -> Option<u32> {
        let number = self.numbers.remove(name)?;
        self.free.push(number);
        Some(number)
    }
}
