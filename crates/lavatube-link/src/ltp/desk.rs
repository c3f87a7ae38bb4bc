//! What is to be said before any data: acknowledgements, reports, checkpoints, cancellations; some of it more than once.
//!
//! It exists because these are small and everything waits for them: they go first, and a few copies some milliseconds apart cost
//! less than a round trip. It holds names, not bytes: what is no longer true when its turn comes is not said. It
//! must not know what sessions are about.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::LTP_CONTROL_MAX;
use lavatube_format::ltp::{Reason, SessionId};

/// Something small to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A report of the peer came in.
    ReportAck { session: SessionId, report: u64 },
    /// A report about a block of the peer.
    Report { session: SessionId, report: u64 },
    /// A checkpoint of a block of ours.
    Checkpoint { session: SessionId, checkpoint: u64 },
    /// A block is given up, by its sender or its receiver.
    Cancel { session: SessionId, by_sender: bool, reason: Reason },
    /// A cancellation came in, said by the block's sender or its receiver.
    CancelAck { session: SessionId, to_sender: bool },
}

/// Words that wait to be said.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    next: VecDeque<Word>,
    later: BTreeMap<(Instant, u64), Word>,
    serial: u64,
}

impl Desk {
    /// To be said once, next: a question of a block that is on its way, of which each waits here once at most. Never dropped: it would never be
    /// asked.
    pub fn ask(&mut self, word: Word) {
        self.next.push_back(word);
    }

    /// To be said once, next: an answer. Dropped if too much waits; the peer asks again.
    pub fn say(&mut self, word: Word) {
        if self.next.len() + self.later.len() < LTP_CONTROL_MAX {
            self.next.push_back(word);
        }
    }

    /// A question to be asked next and then again, `copies` times in all.
    pub fn repeat(&mut self, word: Word, copies: u32, now: Instant) {
        self.ask(word);
        for copy in 1..copies {
            if self.next.len() + self.later.len() < LTP_CONTROL_MAX {
                self.serial += 1;
                self.later.insert((now + APART * copy, self.serial), word);
            }
        }
    }

    /// Takes what is to be said now.
    pub fn take(&mut self, now: Instant) -> Option<Word> {
        self.ripen(now);
        self.next.pop_front()
    }

    /// Whether something is to be said now.
    pub fn is_waiting(&mut self, now: Instant) -> bool {
        self.ripen(now);
        !self.next.is_empty()
    }

    /// Whether nothing waits, not even a copy.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty() && self.later.is_empty()
    }

    /// When the next copy is to be said.
    pub fn timeout(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    fn ripen(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            self.next.push_back(first.remove());
        }
    }
}

/// Between copies: longer than a short burst of losses, shorter than what a report waits for.
const APART: Duration = Duration::from_millis(8);

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { engine: 1, number: 2 };

    fn number(word: &Word) -> u64 {
        let Word::Report { report, .. } = word else { panic!("all are reports here") };
        *report
    }

    fn word(report: u64) -> Word {
        Word::Report { session: SESSION, report }
    }

    #[test]
    fn copies_come_one_after_the_other_and_nothing_comes_more_often() {
        let (mut desk, now) = (Desk::default(), Instant(5));
        desk.repeat(word(1), 3, now);
        desk.say(word(2));
        assert_eq!((desk.take(now), desk.take(now), desk.take(now)), (Some(word(1)), Some(word(2)), None));
        assert_eq!(desk.timeout(), Some(now + APART));
        assert!(desk.is_waiting(now + 2 * APART));
        let rest: Vec<_> = std::iter::from_fn(|| desk.take(now + 2 * APART)).collect();
        assert_eq!((rest, desk.timeout()), (vec![word(1); 2], None));
    }

    #[test]
    fn as_many_answers_wait_as_the_limit_says_and_no_more() {
        let mut desk = Desk::default();
        (0..LTP_CONTROL_MAX as u64 + 9).for_each(|n| desk.say(word(n)));
        assert_eq!(std::iter::from_fn(|| desk.take(Instant(u64::MAX))).count(), LTP_CONTROL_MAX);
    }

    #[test]
    fn no_question_is_dropped_but_copies_are() {
        let mut desk = Desk::default();
        let questions = 2 * LTP_CONTROL_MAX as u64;
        (0..questions).for_each(|n| desk.repeat(word(n), 2, Instant(0)));
        let said: Vec<_> = std::iter::from_fn(|| desk.take(Instant(u64::MAX))).collect();
        let copies = said.len() - said.iter().map(number).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!((said.len() - copies, copies <= LTP_CONTROL_MAX), (questions as usize, true));
    }
}
