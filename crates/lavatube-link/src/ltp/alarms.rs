//! When which block wants to be called: the earliest first.
//!
//! It exists because there are thousands of blocks and each has its own times. It must not know what they want.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::Instant;

/// A block, by its session number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Export(u64),
    Import(u64),
}

/// Who is called when.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Instant, Who)>,
    of: BTreeMap<Who, Instant>,
}

impl Alarms {
    /// Calls `who` at that time or sooner: a time that was put off is not worth the work, they look and ask again.
    pub fn set(&mut self, who: Who, at: Option<Instant>) {
        let Some(at) = at else { return };
        match self.of.get(&who) {
            Some(before) if *before <= at => return,
            Some(before) => self.by_time.remove(&(*before, who)),
            None => false,
        };
        self.of.insert(who, at);
        self.by_time.insert((at, who));
    }

    /// Takes who is to be called now.
    pub fn take(&mut self, now: Instant) -> Option<Who> {
        let (at, who) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, who));
        self.of.remove(&who);
        Some(who)
    }

    /// When somebody is to be called.
    pub fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Nobody is to be called.
    pub fn clear(&mut self) {
        self.by_time.clear();
        self.of.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_called_first_and_each_once() {
        let mut alarms = Alarms::default();
        alarms.set(Who::Export(1), Some(Instant(30)));
        alarms.set(Who::Import(1), Some(Instant(20)));
        alarms.set(Who::Export(1), Some(Instant(10)));
        alarms.set(Who::Export(1), Some(Instant(40)));
        alarms.set(Who::Import(2), None);
        assert_eq!((alarms.first(), alarms.take(Instant(9))), (Some(Instant(10)), None));
        assert_eq!(alarms.take(Instant(25)), Some(Who::Export(1)));
        assert_eq!(alarms.take(Instant(25)), Some(Who::Import(1)));
        assert_eq!((alarms.take(Instant(99)), alarms.first()), (None, None));
    }
}
