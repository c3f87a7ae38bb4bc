//! Transfers on their way out: one after the other, several of them unanswered.

use std::collections::VecDeque;

use lavatube_base::limits::{
    BUNDLE_LEN_MAX, TCPCL_QUEUE_LEN_MAX, TCPCL_QUEUE_MAX, TCPCL_SEGMENT_LEN_MAX, TCPCL_UNANSWERED_MAX,
};
use lavatube_format::tcpcl::{Refusal, put_segment};

use super::Event;

/// Why a bundle was not taken to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It has no bytes, or more than this peer, or we, carry.
    #[error("the bundle is empty, or longer than the peer takes")]
    Length,
    /// As many wait as may: again after an event.
    #[error("as many bundles wait as may")]
    Full,
    /// The session ends.
    #[error("the session ends")]
    Ending,
}

#[derive(Debug, Default)]
pub(super) struct Sending {
    queue: VecDeque<(u64, Vec<u8>)>,
    queue_len: usize,
    current: Option<Current>,
    /// Begun, in order; the last of them may be `current`.
    unanswered: VecDeque<Unanswered>,
    next_transfer: u64,
    segment_len: usize,
    transfer_mru: Option<u64>,
}

#[derive(Debug)]
struct Current {
    transfer: u64,
    bytes: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
struct Unanswered {
    transfer: u64,
    key: u64,
    len: u64,
    sent: u64,
}

impl Sending {
    /// The peer said what it takes.
    pub fn open(&mut self, segment_mru: u64, transfer_mru: u64) {
        self.segment_len = usize::try_from(segment_mru).unwrap_or(usize::MAX).min(TCPCL_SEGMENT_LEN_MAX);
        self.transfer_mru = Some(transfer_mru);
    }

    pub fn submit(&mut self, key: u64, bytes: Vec<u8>) -> Result<(), SubmitError> {
        let max = self.transfer_mru.unwrap_or(u64::MAX).min(BUNDLE_LEN_MAX as u64);
        if bytes.is_empty() || bytes.len() as u64 > max {
            return Err(SubmitError::Length);
        }
        if self.queue.len() >= TCPCL_QUEUE_MAX || self.queue_len + bytes.len() > TCPCL_QUEUE_LEN_MAX {
            return Err(SubmitError::Full);
        }
        self.queue_len += bytes.len();
        self.queue.push_back((key, bytes));
        Ok(())
    }

    /// Appends the next segment, if there is one.
    pub fn put(&mut self, out: &mut Vec<u8>, events: &mut VecDeque<Event>) -> bool {
        while self.current.is_none() {
            if self.unanswered.len() >= TCPCL_UNANSWERED_MAX {
                return false;
            }
            let Some((key, bytes)) = self.queue.pop_front() else { return false };
            self.queue_len -= bytes.len();
            //= rfc9174#5.2.3 nothing longer than the peer said
            if self.transfer_mru.is_some_and(|mru| bytes.len() as u64 > mru) {
                events.push_back(Event::Refused { key, reason: Refusal::NotAcceptable });
                continue;
            }
            let transfer = self.next_transfer;
            self.next_transfer += 1;
            self.unanswered.push_back(Unanswered { transfer, key, len: bytes.len() as u64, sent: 0 });
            self.current = Some(Current { transfer, bytes, sent: 0 });
        }
        let Some(current) = &mut self.current else { return false };
        let (from, whole) = (current.sent, current.bytes.len());
        let to = whole.min(from + self.segment_len);
        let start = (from == 0).then_some(whole as u64);
        put_segment(out, current.transfer, start, to == whole, &current.bytes[from..to]);
        current.sent = to;
        if let Some(last) = self.unanswered.back_mut() {
            last.sent = to as u64;
        }
        if to == whole {
            self.current = None;
        }
        true
    }

    /// The peer has `len` bytes of a transfer.
    pub fn acknowledged(
        &mut self,
        transfer: u64,
        len: u64,
        end: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), &'static str> {
        // One that is not known was refused before its acknowledgement came.
        let Some(at) = self.unanswered.iter().position(|out| out.transfer == transfer) else { return Ok(()) };
        let out = &self.unanswered[at];
        if len > out.sent || (end && len < out.len) {
            return Err("it acknowledged what was not sent");
        }
        // All of it is the end: nodes are known that never set the flag.
        if len == out.len {
            events.push_back(Event::Acknowledged { key: out.key });
            self.unanswered.remove(at);
        }
        Ok(())
    }

    /// The peer does not take a transfer: what is left of it is not sent.
    pub fn refused(&mut self, transfer: u64, reason: Refusal, events: &mut VecDeque<Event>) {
        let Some(at) = self.unanswered.iter().position(|out| out.transfer == transfer) else { return };
        let Some(out) = self.unanswered.remove(at) else { return };
        if self.current.as_ref().is_some_and(|current| current.transfer == transfer) {
            self.current = None;
        }
        events.push_back(match reason {
            //= rfc9174#5.2.4 it has the whole already
            Refusal::Completed => Event::Acknowledged { key: out.key },
            _ => Event::Refused { key: out.key, reason },
        });
    }

    /// Whether nothing that was begun is unanswered.
    pub fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// What was not begun will not be sent.
    pub fn drop_queue(&mut self, events: &mut VecDeque<Event>) {
        self.queue_len = 0;
        events.extend(self.queue.drain(..).map(|(key, _)| Event::Unsent { key }));
    }

    /// Nothing more will be sent or answered.
    pub fn drop_all(&mut self, events: &mut VecDeque<Event>) {
        self.current = None;
        events.extend(self.unanswered.drain(..).map(|out| Event::Unsent { key: out.key }));
        self.drop_queue(events);
    }
}
