//! Which counters of a link were used up, on the disk: none is ever used twice. FORMAT section 13.
//!
//! It must not know what they count.

use std::io;
use std::path::PathBuf;

use lavatube_base::time::WallTime;

use super::{LinkError, io_error, unfit};
use crate::atomic::{self, IfThere};

/// Where counters begin that nobody remembers: a machine that takes the place of one that was lost, with the key of the
/// recovery key, must not use those again that the other has used. Time has gone on faster than counters.
pub(super) fn first_counter(now: WallTime) -> u64 {
    u64::try_from(now.s).unwrap_or(0).min(SECONDS_MAX) * COUNTERS_PER_SECOND
}

/// Which counters this end may have used, and the highest of the other end's that came in.
#[derive(Debug)]
pub(crate) struct Counters {
    path: PathBuf,
    keys: String,
    /// One past the highest that may have been used.
    pub reserved: u64,
    /// One past the highest that came in.
    pub floor: u64,
}

impl Counters {
    /// Where there are none for these keys, they begin at `first`.
    pub(super) fn open(path: PathBuf, keys: String, first: u64) -> Result<Self, LinkError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io_error(&path, &e)),
        };
        let mut words = text.split_whitespace();
        if words.next().is_none_or(|of| of != keys) && (text.is_empty() || text.split_whitespace().count() == 3) {
            return Ok(Self { path, keys, reserved: first, floor: 0 });
        }
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (Some(reserved), Some(floor), None) = (number(), number(), words.next()) else {
            return Err(unfit(&path, &"no counters of a link: pair both ends anew, with new keys"));
        };
        Ok(Self { path, keys, reserved, floor })
    }

    /// Reserves all up to `end`, durably.
    pub fn reserve(&mut self, end: u64) -> Result<(), LinkError> {
        //= FORMAT#F21 on disk before the first of them is used
        let reserved = self.reserved.max(end);
        let before = std::mem::replace(&mut self.reserved, reserved);
        self.write().inspect_err(|_| self.reserved = before)
    }

    /// Remembers what came in.
    pub fn keep_floor(&mut self, floor: u64) -> Result<(), LinkError> {
        if floor <= self.floor {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.floor, floor);
        self.write().inspect_err(|_| self.floor = before)
    }

    fn write(&self) -> Result<(), LinkError> {
        let text = format!("{} {} {}\n", self.keys, self.reserved, self.floor);
        atomic::write(&self.path, text.as_bytes(), IfThere::Replace).map_err(|e| io_error(&self.path, &e))
    }
}

/// More datagrams a second than any link carries for years; a counter has 48 bits.
const COUNTERS_PER_SECOND: u64 = 1 << 16;
const SECONDS_MAX: u64 = (1 << 31) + (1 << 30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_never_used_twice_and_belong_to_a_pair_of_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters");
        let open = |keys: &str| Counters::open(path.clone(), keys.into(), 7);
        let mut counters = open("aa").unwrap();
        assert_eq!((counters.reserved, counters.floor), (7, 0));
        counters.reserve(1 << 20).unwrap();
        counters.keep_floor(70).unwrap();
        counters.keep_floor(60).unwrap();
        let again = open("aa").unwrap();
        assert_eq!((again.reserved, again.floor), (1 << 20, 70));
        assert_eq!(open("bb").unwrap().reserved, 7);
        for damaged in ["aa", "aa 5", "aa 5 x", "aa 5 6 7", "zz", "0"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(open("aa").is_err(), "{damaged}");
        }
    }
}
