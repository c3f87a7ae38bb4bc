//! The guard at both doors: a counter and a tag on what goes out, and nothing in that has not passed key id, tag and window.
//!
//! It exists so that forged and replayed datagrams cost a hash and change nothing. It must not know what messages say, nor
//! where counters are reserved: the caller does that on disk. Steps 9 to 11 of the walk.

use std::ops::Range;

use lavatube_base::digest::h16;
use lavatube_base::limits::REPLAY_WINDOW;
use lavatube_base::many::h16_many;
use lavatube_format::datagram::{COUNTER_MAX, Datagram, TAG_LEN, put_head};

/// A secret both nodes hold, for one direction.
pub type Key = [u8; 32];

/// Seals what goes out.
pub struct Sealing {
    key: Key,
    key_id: u16,
    reserved: Range<u64>,
    tags: Vec<[u8; TAG_LEN]>,
}

impl Sealing {
    /// With the counters that the caller reserved.
    pub fn new(key: Key, reserved: Range<u64>) -> Self {
        assert!(reserved.end <= COUNTER_MAX + 1, "a counter has 48 bits");
        Self { key, key_id: key_id(&key), reserved, tags: Vec::new() }
    }

    /// The next counter, and whether there is one.
    pub fn next(&self) -> Option<u64> {
        Some(self.reserved.start).filter(|_| !self.reserved.is_empty())
    }

    /// The lowest counter that was not used.
    pub fn counter(&self) -> u64 {
        self.reserved.start
    }

    /// Counters left.
    pub fn left(&self) -> u64 {
        self.reserved.end.saturating_sub(self.reserved.start)
    }

    /// End of the reserved range.
    pub fn end(&self) -> u64 {
        self.reserved.end
    }

    /// More counters were reserved, up to `end`.
    pub fn extend(&mut self, end: u64) {
        assert!(end <= COUNTER_MAX + 1, "a counter has 48 bits");
        self.reserved.end = self.reserved.end.max(end);
    }

    /// Appends the head of a datagram. What is appended next is its messages, then comes [`Sealing::close`].
    pub fn open(&self, out: &mut Vec<u8>) {
        put_head(out, self.key_id, self.reserved.start);
    }

    /// Leaves room for the tag of the datagram that was begun; its counter is spent. It must not leave before [`Sealing::tag`].
    pub fn close(&mut self, out: &mut Vec<u8>) {
        //= FORMAT#F21 a counter is used once, and only from the reserved range
        assert!(!self.reserved.is_empty(), "a counter beyond what is reserved");
        self.reserved.start += 1;
        out.extend_from_slice(&[0; TAG_LEN]);
    }

    /// Tags the datagrams in `out` that begin at `start` and end at `ends`.
    pub fn tag(&mut self, out: &mut [u8], start: usize, ends: &[usize]) {
        let begins = std::iter::once(&start).chain(ends);
        let tagged: Vec<&[u8]> = begins.zip(ends).map(|(begin, end)| &out[*begin..end - TAG_LEN]).collect();
        self.tags.clear();
        h16_many(Some(&self.key), &tagged, &mut self.tags);
        for (end, tag) in ends.iter().zip(&self.tags) {
            out[end - TAG_LEN..*end].copy_from_slice(tag);
        }
    }
}

/// Opens what comes in.
pub struct Opening {
    key: Key,
    key_id: u16,
    window: Window,
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// Too short, too long, or under another key: not from the peer.
    Foreign,
    /// The tag is wrong.
    Forged,
    /// It came before, or is too old to tell.
    Replayed,
}

impl Opening {
    /// Counters below `floor` came in before a restart.
    pub fn new(key: Key, floor: u64) -> Self {
        Self { key, key_id: key_id(&key), window: Window::new(floor) }
    }

    /// The tags that these datagrams should have, appended to `tags`; whatever is none gets one too, for [`Opening::open`] to refuse.
    pub fn tags(&self, datagrams: &[&[u8]], tags: &mut Vec<[u8; TAG_LEN]>) {
        let tagged: Vec<&[u8]> = datagrams
            .iter()
            .map(|bytes| Datagram::decode(bytes).ok().filter(|d| d.key_id == self.key_id).map_or(&[][..], |d| d.tagged))
            .collect();
        h16_many(Some(&self.key), &tagged, tags);
    }

    /// The counter and messages of a datagram that is the peer's and new; `tag` is the one it should have.
    pub fn open<'a>(&mut self, bytes: &'a [u8], tag: &[u8; TAG_LEN]) -> Result<(u64, &'a [u8]), Drop> {
        //= FORMAT#F22 key id, then tag, then window; nothing has changed when one of them says no
        let datagram = Datagram::decode(bytes).ok().filter(|d| d.key_id == self.key_id).ok_or(Drop::Foreign)?;
        // One comparison of the whole: its time does not tell how much of a forged tag was right.
        if u128::from_ne_bytes(*tag) ^ u128::from_ne_bytes(*datagram.tag) != 0 {
            return Err(Drop::Forged);
        }
        if !self.window.take(datagram.counter) {
            return Err(Drop::Replayed);
        }
        Ok((datagram.counter, datagram.messages))
    }

    /// One past the highest counter that came in: what to persist as the next run's floor.
    pub fn floor(&self) -> u64 {
        self.window.end
    }
}

/// Which of the latest counters came in: one bit each, at the counter modulo the window's size.
struct Window {
    seen: Vec<u64>,
    /// One past the highest.
    end: u64,
}

impl Window {
    /// All below `floor` counts as seen.
    fn new(floor: u64) -> Self {
        Self { seen: vec![u64::MAX; REPLAY_WINDOW / 64], end: floor }
    }

    /// Whether `counter` is new; from now on it is not.
    fn take(&mut self, counter: u64) -> bool {
        if counter >= self.end {
            let first = self.end.max(counter.saturating_sub(SIZE - 1));
            for passed in first..=counter {
                let (word, bit) = self.place(passed);
                *word &= !bit;
            }
            self.end = counter + 1;
        } else if self.end - counter > SIZE {
            return false;
        }
        let (word, bit) = self.place(counter);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn place(&mut self, counter: u64) -> (&mut u64, u64) {
        let at = usize::try_from(counter % SIZE).unwrap_or_default();
        (&mut self.seen[at / 64], 1 << (at % 64))
    }
}

/// The counter of a datagram that was tagged with `key`, if it was: for whoever has another key in reserve. Nothing tells
/// whether it is new.
pub fn counter_under(key: &Key, bytes: &[u8]) -> Option<u64> {
    let datagram = Datagram::decode(bytes).ok().filter(|d| d.key_id == key_id(key))?;
    let mut tag = Vec::new();
    h16_many(Some(key), &[datagram.tagged], &mut tag);
    let same = u128::from_ne_bytes(*tag.first()?) ^ u128::from_ne_bytes(*datagram.tag) == 0;
    same.then_some(datagram.counter)
}

fn key_id(key: &Key) -> u16 {
    let digest = h16(&[b"lavatube/1 link key", key]);
    u16::from_be_bytes([digest[0], digest[1]])
}

const SIZE: u64 = REPLAY_WINDOW as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const KEY: Key = [7; 32];

    fn sealed(counter: u64, messages: &[u8]) -> Vec<u8> {
        let mut sealing = Sealing::new(KEY, counter..counter + 1);
        let mut out = Vec::new();
        sealing.open(&mut out);
        out.extend_from_slice(messages);
        sealing.close(&mut out);
        let end = out.len();
        sealing.tag(&mut out, 0, &[end]);
        out
    }

    fn open<'a>(opening: &mut Opening, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), Drop> {
        let mut tags = Vec::new();
        opening.tags(&[bytes], &mut tags);
        opening.open(bytes, &tags[0])
    }

    #[test]
    fn what_is_sealed_opens_once() {
        let mut opening = Opening::new(KEY, 0);
        let datagram = sealed(5, b"moon");
        assert_eq!(open(&mut opening, &datagram), Ok((5, &b"moon"[..])));
        assert_eq!(open(&mut opening, &datagram), Err(Drop::Replayed));
        assert_eq!(opening.floor(), 6);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_dropped_and_changes_nothing() {
        let mut opening = Opening::new(KEY, 0);
        let datagram = sealed(9, b"moon");
        for at in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[at] ^= 1;
            assert!(matches!(open(&mut opening, &forged), Err(Drop::Foreign | Drop::Forged)));
            assert!(open(&mut opening, &datagram[..at]).is_err());
        }
        assert_eq!(open(&mut Opening::new([8; 32], 0), &datagram), Err(Drop::Foreign));
        assert_eq!(opening.floor(), 0);
        assert!(open(&mut opening, &datagram).is_ok());
    }

    #[test]
    fn counters_from_before_a_restart_are_old() {
        let mut opening = Opening::new(KEY, 100);
        assert_eq!(open(&mut opening, &sealed(99, b"")), Err(Drop::Replayed));
        assert!(open(&mut opening, &sealed(100, b"")).is_ok());
    }

    #[test]
    fn the_window_is_as_wide_as_its_limit() {
        let mut window = Window::new(0);
        assert!(window.take(SIZE));
        assert!(!window.take(0));
        assert!(window.take(1));
        assert!(window.take(1 << 40) && !window.take(1));
    }

    #[test]
    #[should_panic(expected = "beyond what is reserved")]
    fn a_counter_that_was_not_reserved_is_never_used() {
        let mut sealing = Sealing::new(KEY, 3..3);
        assert_eq!(sealing.next(), None);
        sealing.close(&mut Vec::new());
    }

    proptest! {
        #[test]
        fn the_window_says_what_a_set_would_say(counters in proptest::collection::vec(0u64..3 * SIZE, 1..300)) {
            let (mut window, mut set, mut end) = (Window::new(0), BTreeSet::new(), 0);
            for counter in counters {
                let new = counter + SIZE >= end && set.insert(counter);
                end = end.max(counter + 1);
                prop_assert_eq!(window.take(counter), new);
            }
        }
    }
}
