//! Blocks of one engine that came to an end: so that what comes late is not taken for something new.
//!
//! A block is handed out once, however often its pieces come. A checkpoint of a block that is here is answered even then: its sender may
//! have missed that. It is forgotten after a while, since the sender's numbers may come again after its restart. It
//! must not know what the blocks were.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::LTP_ENDED_MAX;
use lavatube_format::ltp::{Data, Mark, Reason};

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was handed out: length of its red part, the number of the next report about it, and the last checkpoint that asked since.
    Whole { red_end: Option<u64>, next_report: u64, asked: u64 },
    /// It was given up here.
    GivenUp(Reason),
    /// Its sender gave it up.
    ByPeer,
}

/// Blocks that came to an end, by session number.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    by_number: BTreeMap<u64, (Instant, End)>,
    order: VecDeque<u64>,
}

/// What is to be done about a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// It belongs to nothing that ended.
    New,
    /// Nothing.
    Ignore,
    /// Its block is here: say so, in a report with this number.
    Report(u64),
    /// Its block is not wanted: say so.
    Cancel(Reason),
}

impl Ended {
    /// A block came to an end.
    pub fn insert(&mut self, number: u64, end: End, now: Instant) {
        if self.by_number.insert(number, (now, end)).is_none() {
            self.order.push_back(number);
        }
        while self.order.len() > LTP_ENDED_MAX || self.order.front().is_some_and(|first| self.is_stale(*first, now)) {
            if let Some(first) = self.order.pop_front() {
                self.by_number.remove(&first);
            }
        }
    }

    fn is_stale(&self, number: u64, now: Instant) -> bool {
        self.by_number.get(&number).is_none_or(|(at, _)| now.since(*at) > REMEMBERED)
    }

    /// What is to be done about a piece that came.
    pub fn handle_data(&mut self, number: u64, data: &Data<'_>, now: Instant) -> Late {
        if self.is_stale(number, now) {
            return Late::New;
        }
        let Some((_, end)) = self.by_number.get_mut(&number) else { return Late::New };
        match end {
            End::ByPeer => Late::Ignore,
            End::GivenUp(reason) => Late::Cancel(*reason),
            End::Whole { red_end, next_report, asked } => {
                let piece_end = data.offset + data.bytes.len() as u64;
                let ends_red = matches!(data.mark, Mark::RedEnd(_) | Mark::BlockEnd(_));
                if ends_red && *red_end != Some(piece_end) {
                    // Another block under the same number.
                    return Late::New;
                }
                let Some(checkpoint) = data.mark.checkpoint().filter(|_| red_end.is_some_and(|end| piece_end <= end))
                else {
                    return Late::Ignore;
                };
                *asked = checkpoint.number;
                *next_report += 1;
                Late::Report(*next_report - 1)
            }
        }
    }

    /// The checkpoint that the last late report about a block answers, and the length of its red part; none if `report` is another.
    pub fn late_report(&self, number: u64, report: u64) -> Option<(u64, u64)> {
        match self.by_number.get(&number)?.1 {
            End::Whole { red_end: Some(end), next_report, asked } if next_report == report + 1 => Some((asked, end)),
            _ => None,
        }
    }
}

/// For how long.
const REMEMBERED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_format::ltp::Checkpoint;

    const WHOLE: End = End::Whole { red_end: Some(100), next_report: 5, asked: 0 };

    fn piece(mark: Mark, offset: u64) -> Data<'static> {
        Data { mark, service: 1, offset, bytes: &[0; 10] }
    }

    #[test]
    fn what_is_late_is_answered_and_what_is_new_is_new() {
        let (mut ended, now) = (Ended::default(), Instant(9));
        ended.insert(1, WHOLE, now);
        ended.insert(2, End::GivenUp(Reason::System), now);
        ended.insert(3, End::ByPeer, now);
        let checkpoint = Checkpoint { number: 8, report: 0 };
        let mut late = |number, mark, offset, now| ended.handle_data(number, &piece(mark, offset), now);
        assert_eq!(late(4, Mark::Red, 0, now), Late::New);
        assert_eq!(late(1, Mark::Red, 0, now), Late::Ignore);
        assert_eq!(late(1, Mark::Checkpoint(checkpoint), 40, now), Late::Report(5));
        assert_eq!(late(1, Mark::BlockEnd(checkpoint), 90, now), Late::Report(6));
        assert_eq!(late(1, Mark::BlockEnd(checkpoint), 91, now), Late::New);
        assert_eq!(late(2, Mark::Red, 0, now), Late::Cancel(Reason::System));
        assert_eq!(late(3, Mark::BlockEnd(checkpoint), 90, now), Late::Ignore);
        assert_eq!(ended.late_report(1, 6), Some((8, 100)));
        assert_eq!((ended.late_report(1, 5), ended.late_report(2, 6)), (None, None));
        let later = now + REMEMBERED + Duration::from_secs(1);
        assert_eq!(ended.handle_data(1, &piece(Mark::Red, 0), later), Late::New);
    }

    #[test]
    fn as_many_are_remembered_as_the_limit_says_and_no_more() {
        let mut ended = Ended::default();
        (0..=LTP_ENDED_MAX as u64).for_each(|number| ended.insert(number, WHOLE, Instant(0)));
        assert_eq!(ended.handle_data(0, &piece(Mark::Red, 0), Instant(0)), Late::New);
        assert_eq!(ended.handle_data(1, &piece(Mark::Red, 0), Instant(0)), Late::Ignore);
        assert_eq!((ended.order.len(), ended.by_number.len()), (LTP_ENDED_MAX, LTP_ENDED_MAX));
    }
}
