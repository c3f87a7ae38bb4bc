//! Stretches of bytes: what is held, what is acknowledged, what is missing of a block.
//!
//! It exists because LTP speaks of bytes, not of numbered pieces, and both ends cut as they like. Stretches that touch are one.
//! It must not know what the bytes are.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of offsets, kept as stretches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start to end; none is empty, none touches another.
    map: BTreeMap<u64, u64>,
    len: u64,
}

impl Ranges {
    /// Adds a stretch; how many offsets are new.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        let Range { mut start, mut end } = range;
        if start >= end {
            return 0;
        }
        // What comes in order makes the last stretch longer.
        if let Some(mut last) = self.map.last_entry()
            && *last.key() <= start
            && start == *last.get()
        {
            last.insert(end);
            self.len += end - start;
            return end - start;
        }
        let before = self.len;
        if let Some((&from, &to)) = self.map.range(..=start).next_back()
            && to >= start
        {
            (start, end) = (from, end.max(to));
        }
        while let Some((&from, &to)) = self.map.range(start..=end).next() {
            self.map.remove(&from);
            self.len -= to - from;
            end = end.max(to);
        }
        self.map.insert(start, end);
        self.len += end - start;
        self.len - before
    }

    /// Takes a stretch away.
    pub fn remove(&mut self, range: Range<u64>) {
        let before = self.map.range(..range.start).next_back().map(|(from, to)| *from..*to);
        let inside = self.map.range(range.start..range.end.max(range.start)).map(|(from, to)| *from..*to);
        let cut: Vec<_> = before.into_iter().chain(inside).filter(|held| held.end > range.start).collect();
        for held in cut.into_iter().filter(|_| range.start < range.end) {
            self.map.remove(&held.start);
            self.len -= held.end - held.start;
            for rest in [held.start..range.start, range.end..held.end] {
                if rest.start < rest.end {
                    self.len += rest.end - rest.start;
                    self.map.insert(rest.start, rest.end);
                }
            }
        }
    }

    /// Whether all of a stretch is in it.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.start >= range.end || self.map.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// Whether a stretch more would come of it: whether it touches none that is there.
    pub fn is_apart(&self, range: &Range<u64>) -> bool {
        let before = self.map.range(..=range.end).next_back();
        before.is_none_or(|(_, end)| *end < range.start)
    }

    /// What of `scope` is in it, in order.
    pub fn within(&self, scope: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.map.range(..scope.start).next_back().map(|(from, to)| (*from, *to));
        let rest = self.map.range(scope.start..scope.end.max(scope.start)).map(|(from, to)| (*from, *to));
        let clipped = move |(from, to): (u64, u64)| scope.start.max(from)..scope.end.min(to);
        first.into_iter().chain(rest).map(clipped).filter(|range| range.start < range.end)
    }

    /// What of `scope` is not in it, in order.
    pub fn gaps(&self, scope: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = scope.end;
        let edges = self.within(scope.clone()).chain(std::iter::once(end..end));
        edges
            .scan(scope.start, |at, held| {
                let gap = *at..held.start;
                *at = held.end;
                Some(gap)
            })
            .filter(|gap| gap.start < gap.end)
    }

    /// The stretches, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.map.iter().map(|(from, to)| *from..*to)
    }

    /// How many offsets are in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many stretches there are.
    pub fn stretches(&self) -> usize {
        self.map.len()
    }

    /// One past the highest offset.
    pub fn end(&self) -> u64 {
        self.map.last_key_value().map_or(0, |(_, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_the_set_of_its_offsets(steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..60), scope in (0u64..70, 0u64..70)) {
            let (mut ranges, mut naive) = (Ranges::default(), BTreeSet::new());
            for (insert, start, len) in steps {
                if insert {
                    let (before, stretches) = (naive.len(), ranges.stretches());
                    let apart = len > 0 && ranges.is_apart(&(start..start + len));
                    naive.extend(start..start + len);
                    prop_assert_eq!(ranges.insert(start..start + len), (naive.len() - before) as u64);
                    prop_assert_eq!(apart, ranges.stretches() > stretches);
                } else {
                    naive.retain(|at| !(start..start + len).contains(at));
                    ranges.remove(start..start + len);
                }
                prop_assert_eq!(ranges.len(), naive.len() as u64);
                prop_assert_eq!(ranges.iter().flatten().collect::<Vec<_>>(), naive.iter().copied().collect::<Vec<_>>());
                let edges: Vec<_> = ranges.iter().collect();
                prop_assert!(edges.windows(2).all(|w| w[0].end < w[1].start) && edges.iter().all(|r| r.start < r.end));
                prop_assert_eq!(ranges.contains(&(start..start + len)), (start..start + len).all(|at| naive.contains(&at)));
            }
            let scope = scope.0..scope.1;
            prop_assert_eq!(ranges.within(scope.clone()).flatten().collect::<Vec<_>>(), scope.clone().filter(|at| naive.contains(at)).collect::<Vec<_>>());
            prop_assert_eq!(ranges.gaps(scope.clone()).flatten().collect::<Vec<_>>(), scope.filter(|at| !naive.contains(at)).collect::<Vec<_>>());
            prop_assert_eq!(ranges.end(), naive.last().map_or(0, |at| at + 1));
            prop_assert_eq!(ranges.stretches(), ranges.iter().count());
        }
    }
}
