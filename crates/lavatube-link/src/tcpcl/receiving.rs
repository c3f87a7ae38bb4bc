//! Transfers that come in: segments into bundles, bundles to the owner, answers as the owner says.
//!
//! Answers leave in the order of what they answer, whatever the order in which the owner stores: foreign nodes are known that
//! count on it.

use std::collections::VecDeque;

use lavatube_base::limits::{
    BUNDLE_LEN_MAX, TCPCL_ANSWERS_MAX, TCPCL_HELD_LEN_MAX, TCPCL_HELD_MAX, TCPCL_SEGMENT_LEN_MAX,
};
use lavatube_format::tcpcl::{Refusal, Segment, put_ack, put_refuse};

use super::Event;

#[derive(Debug, Default)]
pub(super) struct Receiving {
    current: Option<Incoming>,
    /// What was not answered yet, in order. The first one waits for the owner.
    answers: VecDeque<Answer>,
    /// How many of them wait for the owner, and the length of those bundles.
    held: usize,
    held_len: u64,
}

#[derive(Debug)]
struct Answer {
    transfer: u64,
    start: bool,
    end: bool,
    /// How much of the transfer had come in.
    len: u64,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The owner was not heard yet.
    Held,
    Taken,
    Refused(Refusal),
}

#[derive(Debug)]
struct Incoming {
    transfer: u64,
    whole: Option<u64>,
    bytes: Vec<u8>,
    /// It was refused, and what still comes of it is passed over.
    refused: bool,
    /// The segment at hand, and how many bytes of it are still to come.
    segment: Option<(Segment, u64)>,
}

impl Receiving {
    /// Whether few enough bundles wait for the owner.
    pub fn has_room(&self) -> bool {
        let few = self.held < TCPCL_HELD_MAX && self.answers.len() < TCPCL_ANSWERS_MAX;
        few && self.held_len < TCPCL_HELD_LEN_MAX as u64
    }

    /// Whether nothing is half received or unanswered.
    pub fn is_idle(&self) -> bool {
        self.held == 0 && self.current.as_ref().is_none_or(|current| current.refused)
    }

    /// Whether the next bytes are those of a segment.
    pub fn is_in_segment(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.segment.is_some())
    }

    /// A segment begins.
    ///
    /// # Errors
    /// The rule that the peer broke.
    pub fn begin(&mut self, segment: &Segment, ending: bool, control: &mut Vec<u8>) -> Result<(), &'static str> {
        if segment.len > TCPCL_SEGMENT_LEN_MAX as u64 {
            return Err("a segment longer than we said we take");
        }
        if segment.start {
            //= rfc9174#5.2.2 transfers follow one another; one that was refused may stop anywhere
            if self.current.as_ref().is_some_and(|current| !current.refused) {
                return Err("a transfer that begins inside another");
            }
            if self.answers.iter().any(|answer| answer.transfer == segment.transfer) {
                return Err("a transfer of a number that is in use");
            }
            let (transfer, whole) = (segment.transfer, segment.whole);
            self.current = Some(Incoming { transfer, whole, bytes: Vec::new(), refused: false, segment: None });
        }
        let Some(current) = self.current.as_mut().filter(|current| current.transfer == segment.transfer) else {
            return Err("a segment of a transfer that was not begun");
        };
        let len = current.bytes.len() as u64 + segment.len;
        let refusal = match () {
            () if segment.start && ending => Some(Refusal::Ending),
            () if segment.strange => Some(Refusal::Extension),
            //= rfc9174#5.2.3 no transfer is longer than we said we take, nor than it said itself
            () if current.whole.unwrap_or(len).max(len) > BUNDLE_LEN_MAX as u64 => Some(Refusal::NotAcceptable),
            () if current.whole.is_some_and(|whole| len > whole || (segment.end && len < whole)) => {
                Some(Refusal::NotAcceptable)
            }
            () => None,
        };
        let refusal = refusal.filter(|_| !current.refused);
        if refusal.is_some() {
            current.refused = true;
            current.bytes = Vec::new();
        }
        current.segment = Some((*segment, segment.len));
        if let Some(reason) = refusal {
            self.answer(segment, 0, Standing::Refused(reason), control);
        }
        Ok(())
    }

    /// Takes bytes of the segment at hand; how many.
    pub fn take(&mut self, bytes: &[u8], control: &mut Vec<u8>, events: &mut VecDeque<Event>) -> usize {
        let Some(current) = &mut self.current else { return 0 };
        let Some((segment, left)) = &mut current.segment else { return 0 };
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        *left -= taken as u64;
        if !current.refused {
            grow(&mut current.bytes, taken, current.whole);
            current.bytes.extend_from_slice(&bytes[..taken]);
        }
        if *left > 0 {
            return taken;
        }
        let (segment, len) = (*segment, current.bytes.len() as u64);
        current.segment = None;
        if current.refused {
            self.current = self.current.take().filter(|_| !segment.end);
        } else if !segment.end {
            //= rfc9174#5.2.3 each segment is acknowledged with what came in so far
            self.answer(&segment, len, Standing::Taken, control);
        } else if let Some(current) = self.current.take() {
            self.held += 1;
            self.held_len += len;
            self.answer(&segment, len, Standing::Held, control);
            events.push_back(Event::Received { transfer: current.transfer, bytes: current.bytes });
        }
        taken
    }

    fn answer(&mut self, segment: &Segment, len: u64, standing: Standing, control: &mut Vec<u8>) {
        let Segment { transfer, start, end, .. } = *segment;
        self.answers.push_back(Answer { transfer, start, end, len, standing });
        self.put_answers(control);
    }

    /// Appends the answers that are due.
    fn put_answers(&mut self, control: &mut Vec<u8>) {
        while let Some(answer) = self.answers.pop_front_if(|answer| answer.standing != Standing::Held) {
            match answer.standing {
                Standing::Refused(reason) => put_refuse(control, answer.transfer, reason),
                _ => put_ack(control, answer.start, answer.end, answer.transfer, answer.len),
            }
        }
    }

    /// A bundle is stored.
    pub fn accepted(&mut self, transfer: u64, control: &mut Vec<u8>) {
        self.release(transfer, Standing::Taken, control);
    }

    /// A bundle is not taken.
    pub fn refused(&mut self, transfer: u64, reason: Refusal, control: &mut Vec<u8>) {
        self.release(transfer, Standing::Refused(reason), control);
    }

    fn release(&mut self, transfer: u64, standing: Standing, control: &mut Vec<u8>) {
        let held = |answer: &&mut Answer| answer.transfer == transfer && answer.standing == Standing::Held;
        let Some(answer) = self.answers.iter_mut().find(held) else { return };
        answer.standing = standing;
        self.held -= 1;
        self.held_len -= answer.len;
        self.put_answers(control);
    }
}

/// Makes room for `more` bytes: at most twice what is there, whatever length was promised.
fn grow(bytes: &mut Vec<u8>, more: usize, whole: Option<u64>) {
    let need = bytes.len() + more;
    if need > bytes.capacity() {
        let whole = whole.and_then(|whole| usize::try_from(whole).ok()).unwrap_or(usize::MAX);
        bytes.reserve_exact((2 * need).min(whole).max(need) - bytes.len());
    }
}
