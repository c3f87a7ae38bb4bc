//! Which counters of a link were used up, on the disk: none is ever used twice. FORMAT section 13.
//!
//! It must not know what they count.

use std::io;
use std::path::PathBuf;

use lavatube_base::digest::h16;
use lavatube_base::hex;
use lavatube_base::time::WallTime;

use super::{LinkError, io_error, unfit};
use crate::atomic::{self, IfThere};
use crate::copies;

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
    /// Where there are none for these keys, they begin at `first`. Of the file and its copy each that is right counts: the higher numbers.
    pub(super) fn open(path: PathBuf, keys: String, first: u64) -> Result<Self, LinkError> {
        let texts = [path.clone(), copies::copy_of(&path)].map(|path| match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            // Bytes that are no text are damaged ones.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok(DAMAGED.to_owned()),
            other => other.map_err(|e| io_error(&path, &e)),
        });
        let mut found: Option<(u64, u64)> = None;
        let (mut is_damaged, mut is_right) = (false, false);
        for text in texts {
            match said(&text?) {
                Said::Nothing => {}
                Said::Damaged => is_damaged = true,
                Said::Counters { of, reserved, floor } => {
                    is_right = true;
                    if of == keys {
                        let (most, highest) = found.unwrap_or((0, 0));
                        found = Some((reserved.max(most), floor.max(highest)));
                    }
                }
            }
        }
        if is_damaged && !is_right {
            return Err(unfit(&path, &"no counters of a link: pair both ends anew, with new keys"));
        }
        let (reserved, floor) = found.unwrap_or((first, 0));
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
        let text = format!("{} {} {}", self.keys, self.reserved, self.floor);
        let text = format!("{text} {}\n", check_of(&text));
        for path in [&self.path, &copies::copy_of(&self.path)] {
            atomic::write(path, text.as_bytes(), IfThere::Replace).map_err(|e| io_error(path, &e))?;
        }
        Ok(())
    }
}

/// What a file of counters says.
enum Said {
    Nothing,
    Damaged,
    Counters { of: String, reserved: u64, floor: u64 },
}

fn said(text: &str) -> Said {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (of, reserved, floor, check) = match words[..] {
        [] if text.is_empty() => return Said::Nothing,
        // Of before there was a check.
        [of, reserved, floor] => (of, reserved, floor, None),
        [of, reserved, floor, check] => (of, reserved, floor, Some(check)),
        _ => return Said::Damaged,
    };
    let is_right = check.is_none_or(|check| check == check_of(&format!("{of} {reserved} {floor}")));
    match (reserved.parse(), floor.parse()) {
        (Ok(reserved), Ok(floor)) if is_right => Said::Counters { of: of.to_owned(), reserved, floor },
        _ => Said::Damaged,
    }
}

fn check_of(text: &str) -> String {
    hex(&h16(&[text.as_bytes()]))
}

const DAMAGED: &str = "damaged";

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
        // One of the two is enough, whatever is wrong with the other.
        let (whole, copy) = (std::fs::read(&path).unwrap(), copies::copy_of(&path));
        for file in [&path, &copy] {
            for bit in 0..whole.len() * 8 {
                let mut bad = whole.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(file, bad).unwrap();
                let again = open("aa").unwrap();
                assert_eq!((again.reserved, again.floor), (1 << 20, 70), "bit {bit}");
            }
            std::fs::remove_file(file).unwrap();
            assert_eq!(open("aa").unwrap().reserved, 1 << 20);
            std::fs::write(file, &whole).unwrap();
        }
        // A kill between the two leaves the higher one.
        open("aa").unwrap().reserve(2 << 20).unwrap();
        std::fs::write(&copy, &whole).unwrap();
        assert_eq!(open("aa").unwrap().reserved, 2 << 20);
        std::fs::write(&path, "aa 5 6").unwrap();
        std::fs::remove_file(&copy).unwrap();
        assert_eq!((open("aa").unwrap().reserved, open("bb").unwrap().reserved), (5, 7), "of before there was a check");
        for damaged in ["aa", "aa 5", "aa 5 x", "aa 5 6 7", "zz", "0"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(open("aa").is_err(), "{damaged}");
        }
    }
}
