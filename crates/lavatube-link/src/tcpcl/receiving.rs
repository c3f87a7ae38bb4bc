//! Transfers that come in: segments into bundles, bundles to the owner, answers as the owner says.

use std::collections::{BTreeMap, VecDeque};

use lavatube_base::limits::{BUNDLE_LEN_MAX, TCPCL_HELD_LEN_MAX, TCPCL_HELD_MAX, TCPCL_SEGMENT_LEN_MAX};
use lavatube_format::tcpcl::{Refusal, Segment, put_ack, put_refuse};

use super::Event;

#[derive(Debug, Default)]
pub(super) struct Receiving {
    current: Option<Incoming>,
    /// Whole and not yet answered: whether their last segment was their first, and their length.
    held: BTreeMap<u64, (bool, u64)>,
    held_len: u64,
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
        self.held.len() < TCPCL_HELD_MAX && self.held_len < TCPCL_HELD_LEN_MAX as u64
    }

    /// Whether nothing is half received or unanswered.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.current.as_ref().is_none_or(|current| current.refused)
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
            if self.held.contains_key(&segment.transfer) {
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
        if let (Some(reason), false) = (refusal, current.refused) {
            put_refuse(control, current.transfer, reason);
            current.refused = true;
            current.bytes = Vec::new();
        }
        current.segment = Some((*segment, segment.len));
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
        if !segment.end {
            if !current.refused {
                //= rfc9174#5.2.3 each segment is acknowledged with what came in so far
                put_ack(control, segment.start, false, current.transfer, len);
            }
            return taken;
        }
        if let Some(current) = self.current.take().filter(|current| !current.refused) {
            self.held.insert(current.transfer, (segment.start, len));
            self.held_len += len;
            events.push_back(Event::Received { transfer: current.transfer, bytes: current.bytes });
        }
        taken
    }

    /// A bundle is stored.
    pub fn accepted(&mut self, transfer: u64, control: &mut Vec<u8>) {
        if let Some((start, len)) = self.release(transfer) {
            put_ack(control, start, true, transfer, len);
        }
    }

    /// A bundle is not taken.
    pub fn refused(&mut self, transfer: u64, reason: Refusal, control: &mut Vec<u8>) {
        if self.release(transfer).is_some() {
            put_refuse(control, transfer, reason);
        }
    }

    fn release(&mut self, transfer: u64) -> Option<(bool, u64)> {
        let held = self.held.remove(&transfer)?;
        self.held_len -= held.1;
        Some(held)
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
