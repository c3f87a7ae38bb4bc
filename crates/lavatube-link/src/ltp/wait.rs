//! A question that waits for its answer: when it was asked, when the answer is overdue, how often it was asked.
//!
//! The clock runs from the moment at which a segment leaves, not from that at which it was made (RFC 5326 6.2 and 6.3), and stands still
//! while the contact is closed (6.5, 6.6). It must not know what is asked.

use std::time::Duration;

use lavatube_base::Instant;

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wait {
    asked: Option<Instant>,
    due: Option<Instant>,
    repeats: u32,
}

impl Wait {
    /// It leaves now.
    pub fn leaves(&mut self, now: Instant, patience: Duration) {
        self.asked.get_or_insert(now);
        let longer = BACKOFF_MAX.min(patience.saturating_mul(1 << self.repeats.min(DOUBLED_MAX)));
        self.due = Some(now + longer.max(patience));
    }

    /// When an answer is overdue; none while it has not left, or waits to leave again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the answer is overdue; if so the question is to be asked again, and this was one more repeat.
    pub fn is_overdue(&mut self, now: Instant) -> bool {
        let overdue = self.due.is_some_and(|due| due <= now);
        if overdue {
            self.due = None;
            self.repeats += 1;
        }
        overdue
    }

    /// How often it was repeated because no answer came.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// How long ago it left first.
    pub fn took(&self, now: Instant) -> Option<Duration> {
        self.asked.map(|asked| now.since(asked))
    }

    /// The contact was closed for so long.
    pub fn shift(&mut self, gap: Duration) {
        self.asked = self.asked.map(|at| at + gap);
        self.due = self.due.map(|at| at + gap);
    }

    /// The other side is heard again: whatever was doubled meanwhile is due then at the latest, and patience begins anew.
    pub fn hasten(&mut self, at: Instant) {
        self.due = self.due.map(|due| due.min(at));
        self.repeats = self.repeats.min(1);
    }
}

/// Times that patience doubles.
const DOUBLED_MAX: u32 = 10;
/// Beyond this it does not double.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    const PATIENCE: Duration = Duration::from_secs(3);

    #[test]
    fn patience_begins_when_it_leaves_and_doubles_each_time() {
        let mut wait = Wait::default();
        assert!(!wait.is_overdue(s(1000)), "it has not left");
        let mut now = 1000;
        for doubled in [3, 6, 12, 24, 48, 96, 192, 300, 300] {
            wait.leaves(s(now), PATIENCE);
            now += doubled;
            assert_eq!(wait.due(), Some(s(now)));
            assert!(!wait.is_overdue(Instant(s(now).0 - 1)) && wait.is_overdue(s(now)));
        }
        assert_eq!((wait.repeats(), wait.took(s(1100))), (9, Some(Duration::from_secs(100))));
        // Where the light takes longer than that, patience is what the light takes.
        let mut far = Wait::default();
        far.leaves(s(0), Duration::from_secs(2500));
        assert_eq!(far.due(), Some(s(2500)));
    }

    #[test]
    fn it_stands_still_while_the_contact_is_closed_and_hurries_when_somebody_is_heard() {
        let mut wait = Wait::default();
        wait.leaves(s(10), PATIENCE);
        wait.shift(Duration::from_secs(3600));
        assert_eq!((wait.due(), wait.took(s(3611))), (Some(s(3613)), Some(Duration::from_secs(1))));
        assert!(wait.is_overdue(s(3613)));
        (0..5).for_each(|_| {
            wait.leaves(s(4000), PATIENCE);
            wait.is_overdue(s(9000));
        });
        wait.leaves(s(9000), PATIENCE);
        wait.hasten(s(9002));
        assert_eq!((wait.due(), wait.repeats()), (Some(s(9002)), 1));
    }
}
