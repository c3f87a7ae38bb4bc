//! The latest of a kind, up to a limit: what more would be is forgotten from the oldest on.
//!
//! It exists so that no list of what was seen grows with the years. It must not know what is remembered, or why.

use std::collections::{BTreeMap, VecDeque};

/// The latest values, by key.
#[derive(Debug)]
pub struct Latest<K, V> {
    by_key: BTreeMap<K, V>,
    order: VecDeque<K>,
    most: usize,
}

impl<K: Ord + Copy, V> Latest<K, V> {
    /// None yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self { by_key: BTreeMap::new(), order: VecDeque::new(), most }
    }

    /// Remembers one more, or another value of one that is remembered, which makes it no younger.
    pub fn insert(&mut self, key: K, value: V) {
        if self.by_key.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }

    /// What is remembered of it.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key)
    }

    /// Whether it is remembered.
    pub fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_what_comes_again_grows_no_younger() {
        let mut latest = Latest::new(3);
        assert!(latest.is_empty());
        [(1, 'a'), (2, 'b'), (3, 'c'), (1, 'd'), (4, 'e')]
            .into_iter()
            .for_each(|(key, value)| latest.insert(key, value));
        assert!(!latest.contains(&1) && latest.get(&1).is_none());
        assert_eq!((latest.get(&2), latest.get(&4), latest.len()), (Some(&'b'), Some(&'e'), 3));
        latest.insert(2, 'f');
        assert_eq!((latest.get(&2), latest.len(), latest.order.len()), (Some(&'f'), 3, 3));
    }
}
