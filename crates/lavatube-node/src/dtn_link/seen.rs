//! Which numbers of the other end's bundles came in, so that none is taken twice. It must not know what they are numbers of.

use std::collections::BTreeSet;

use lavatube_base::limits::BUNDLES_SEEN_MAX;

/// The latest numbers, and a floor below which all others are.
pub(super) struct Seen {
    numbers: BTreeSet<u64>,
    floor: u64,
}

impl Seen {
    /// Nothing yet but what an earlier life remembers: all below `floor` are seen.
    pub fn new(floor: u64) -> Self {
        Self { numbers: BTreeSet::new(), floor }
    }

    /// Takes a number in; whether it is new.
    pub fn take(&mut self, number: u64) -> bool {
        let is_new = number >= self.floor && self.numbers.insert(number);
        if self.numbers.len() > BUNDLES_SEEN_MAX
            && let Some(first) = self.numbers.pop_first()
        {
            self.floor = first + 1;
        }
        is_new
    }

    /// It was not taken after all, and may come again.
    pub fn forget(&mut self, number: u64) {
        self.numbers.remove(&number);
    }

    /// The floor of the next life. What is under way now comes again with another number.
    pub fn next_floor(&self) -> u64 {
        self.numbers.last().map_or(self.floor, |last| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_taken_once_in_any_order_as_far_as_the_limit_goes() {
        let mut seen = Seen::new(10);
        assert!(!seen.take(9) && seen.take(10) && !seen.take(10) && seen.take(12) && seen.take(11));
        seen.forget(11);
        assert!(seen.take(11) && !seen.take(11));
        assert_eq!(seen.next_floor(), 13);
        let most = BUNDLES_SEEN_MAX as u64;
        assert!((13..13 + most).all(|number| seen.take(number)) && !seen.take(12) && !seen.take(10));
        assert!(!seen.take(13), "below the floor or among the latest");
        assert_eq!(Seen::new(seen.next_floor()).next_floor(), 13 + most);
    }
}
