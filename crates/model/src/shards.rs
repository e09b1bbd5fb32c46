//! `Shards<K, V>`: a map whose update copies one shard, not the whole.

use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// How many shards: an update of a map of 10,000 copies about 40 entries.
const SHARDS: usize = 256;

/// Keys come from configuration, so the hash need not stand up to those who send requests.
type Shard<K, V> = HashMap<K, V, FixedState>;

/// A map that is cheap to clone and cheap to change after a clone: an update copies the one shard it touches.
#[derive(Clone)]
pub struct Shards<K, V> {
    shards: Box<[Arc<Shard<K, V>>]>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Shards<K, V> {
    fn index<Q: Hash + ?Sized>(key: &Q) -> usize {
        let hash = FixedState::default().hash_one(key);
        // The low bits choose the bucket within a shard; the shard takes high ones.
        usize::try_from(hash >> 56).expect("eight bits fit") % SHARDS
    }

    /// The value under a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards[Self::index(key)].get(key)
    }

    /// Sets a value; gives back the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = Arc::make_mut(&mut self.shards[Self::index(&key)]).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a value out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shard = &mut self.shards[Self::index(key)];
        if !shard.contains_key(key) {
            return None;
        }
        let value = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(value.is_some());
        value
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut map = Shards::default();
        for n in 0..1000 {
            assert_eq!(map.insert(n, n), None);
        }
        let before = map.clone();
        assert_eq!(map.remove(&7), Some(7));
        assert_eq!(map.remove(&7), None);
        assert_eq!(map.insert(8, 80), Some(8));
        assert_eq!((before.len(), before.get(&7), before.get(&8)), (1000, Some(&7), Some(&8)));
        assert_eq!((map.len(), map.get(&7), map.get(&8)), (999, None, Some(&80)));
        assert_eq!(map.iter().count(), 999);
    }
}
