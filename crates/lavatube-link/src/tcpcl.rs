//! TCPCLv4 (RFC 9174): a session over a stream of bytes, by which other nodes of a network take bundles from us and give us theirs.
//!
//! For hops on the ground, where TCP is at home. Transfers follow one another on the stream and several may be under way
//! unanswered, so a round trip is not paid for each. It must not know what a bundle is, nor sockets and clocks; and it does
//! not speak TLS: what must be secret or genuine is sealed before it comes here, and a peer that demands TLS is told apart.
//!
//! **An acknowledgement is not storage.** [`Event::Acknowledged`] says that the peer's TCPCL has the bytes; nodes are known
//! that drop bundles after that. So nothing leaves a spool for it. On our side the last segment of a transfer is answered only
//! after its owner said [`Session::accepted`].
//!
//! The loop is that of [`Link`](crate::Link): bytes and time in, bytes and events out.

mod receiving;
mod sending;
mod stage;

use std::collections::VecDeque;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::{BUNDLE_LEN_MAX, TCPCL_SEGMENT_LEN_MAX};
use lavatube_format::Malformed;
use lavatube_format::tcpcl::{
    CONTACT_LEN, Contact, EndReason, Init, Message, REJECT_UNEXPECTED, REJECT_UNKNOWN, Refusal, VERSION, head_len,
    put_contact, put_end, put_init, put_keepalive, put_reject,
};

use receiving::Receiving;
use sending::Sending;
pub use sending::SubmitError;
pub use stage::Stage;
use stage::Turn;

/// What a session is given at birth.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our name, such as `ipn:1.0`.
    pub node: String,
    /// Whether we made the connection: then we greet first.
    pub active: bool,
    /// Something is sent at least so often, in seconds; 0 for never. The lower one of both sides counts.
    pub keepalive_s: u16,
}

/// What the owner of a session is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session is open.
    Opened {
        /// The peer's name, as it says itself; nothing proves it.
        node: String,
        /// Longest bundle it takes.
        transfer_mru: u64,
    },
    /// A bundle came in: [`Session::accepted`] when it is stored, or [`Session::refused`].
    Received {
        /// The peer's number for it.
        transfer: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The peer's TCPCL has all bytes of a bundle. That is not storage.
    Acknowledged {
        /// The owner's key for it.
        key: u64,
    },
    /// The peer does not take a bundle.
    Refused {
        /// The owner's key for it.
        key: u64,
        /// Why.
        reason: Refusal,
    },
    /// The session ended before a bundle was acknowledged, or even sent.
    Unsent {
        /// The owner's key for it.
        key: u64,
    },
    /// The session is over.
    Ended(Ended),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// We wanted it.
    #[error("ended from here")]
    Ours,
    /// The peer wanted it.
    #[error("ended by the peer ({0:?})")]
    Peer(EndReason),
    /// The peer did not want a session.
    #[error("the peer wants no session (it said {0:?}); it may demand TLS, which is not spoken here")]
    NoSession(Option<EndReason>),
    /// The connection ended.
    #[error("the connection was lost")]
    Lost,
    /// Nothing was heard for too long.
    #[error("nothing was heard from the peer for too long")]
    Idle,
    /// No session was agreed on in time.
    #[error("the peer did not open a session in time")]
    Late,
    /// The peer speaks another version.
    #[error("the peer speaks version {0} of TCPCL, not 4")]
    Version(u8),
    /// The peer broke a rule.
    #[error("the peer broke a rule of TCPCL: {0}")]
    Broken(&'static str),
}

/// One session, from greeting to end.
#[derive(Debug)]
pub struct Session {
    config: Config,
    stage: Stage,
    /// Bytes of a message that is not whole yet; at most a head.
    head: Vec<u8>,
    /// Messages that wait to be sent, but for segments.
    control: Vec<u8>,
    receiving: Receiving,
    sending: Sending,
    events: VecDeque<Event>,
    keepalive: Option<Duration>,
    heard_at: Instant,
    sent_at: Instant,
    /// When to give up, in the stages that must not last.
    deadline: Instant,
    end_sent: bool,
    end_heard: bool,
    why: Option<Ended>,
}

impl Session {
    /// A session over a connection that was just made, or accepted.
    pub fn new(config: Config, now: Instant) -> Self {
        let mut control = Vec::new();
        if config.active {
            put_contact(&mut control);
        }
        Self {
            config,
            stage: Stage::Greeting,
            head: Vec::new(),
            control,
            receiving: Receiving::default(),
            sending: Sending::default(),
            events: VecDeque::new(),
            keepalive: None,
            heard_at: now,
            sent_at: now,
            deadline: now + CONTACT_MAX,
            end_sent: false,
            end_heard: false,
            why: None,
        }
    }

    /// A bundle is to be sent; `key` is the owner's, and comes back in events.
    ///
    /// # Errors
    /// [`SubmitError`] when it is not taken.
    pub fn submit(&mut self, key: u64, bytes: Vec<u8>) -> Result<(), SubmitError> {
        match self.stage {
            Stage::Ending | Stage::Closed => Err(SubmitError::Ending),
            _ => self.sending.submit(key, bytes),
        }
    }

    /// A bundle that came in is stored: its last segment is acknowledged.
    pub fn accepted(&mut self, transfer: u64) {
        self.receiving.accepted(transfer, &mut self.control);
        self.settle();
    }

    /// A bundle that came in is not taken.
    pub fn refused(&mut self, transfer: u64, reason: Refusal) {
        self.receiving.refused(transfer, reason, &mut self.control);
        self.settle();
    }

    /// Ends the session when what is under way has been answered.
    pub fn end(&mut self, now: Instant) {
        self.why.get_or_insert(Ended::Ours);
        self.begin_end(false, EndReason::Unknown, now);
    }

    /// Whether more bytes of the peer are taken now. While bundles wait to be stored, or answers to be sent, they should stay
    /// with TCP, which slows the peer down.
    pub fn wants_input(&self) -> bool {
        self.stage != Stage::Closed && self.receiving.has_room() && self.control.len() < CONTROL_LEN_HIGH
    }

    /// How far the session is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether there is nothing more to read or write: the connection can be closed.
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed && self.control.is_empty()
    }

    /// Bytes came in; how many of them were taken. Fewer than there are while [`Session::wants_input`] is `false`: the rest is
    /// to be given again when it is not.
    #[must_use]
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) -> usize {
        self.heard_at = now;
        let mut rest = bytes;
        while self.wants_input() {
            if self.receiving.is_in_segment() {
                let taken = self.receiving.take(rest, &mut self.control, &mut self.events);
                rest = &rest[taken..];
                if self.receiving.is_in_segment() {
                    break;
                }
                self.settle();
                continue;
            }
            match self.gather(&mut rest) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    self.unknown();
                    break;
                }
            }
            let head = std::mem::take(&mut self.head);
            let handled = match self.stage {
                Stage::Greeting => self.handle_greeting(&head, now),
                _ => self.handle_message(&head, now),
            };
            if let Err(e) = handled {
                self.broken(e.rule);
            }
            self.head = head;
            self.head.clear();
        }
        // What comes after the end of a session is nobody's.
        if self.stage == Stage::Closed { bytes.len() } else { bytes.len() - rest.len() }
    }

    /// Moves bytes into `head` until a message is whole; whether it is.
    fn gather(&mut self, bytes: &mut &[u8]) -> Result<bool, Malformed> {
        loop {
            let len = match self.stage {
                Stage::Greeting => Some(CONTACT_LEN),
                _ => head_len(&self.head)?,
            };
            // Where the length is not known yet, the next byte may tell it.
            let missing = len.map_or(1, |len| len - self.head.len());
            if missing == 0 {
                return Ok(true);
            }
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(taken);
            *bytes = rest;
            if taken.is_empty() {
                return Ok(false);
            }
        }
    }

    fn handle_greeting(&mut self, head: &[u8], now: Instant) -> Result<(), Malformed> {
        let Ok(head) = head.try_into() else { return Ok(()) };
        let contact = Contact::decode(head)?;
        if !self.config.active {
            put_contact(&mut self.control);
        }
        if contact.version != VERSION {
            //= rfc9174#4.3 no version that both know
            put_end(&mut self.control, false, EndReason::Version);
            self.close(Ended::Version(contact.version));
            return Ok(());
        }
        // The peer may be able to do TLS; we said that we are not, so it is not used, or the peer goes away.
        self.stage = self.stage.next(Turn::Greeted);
        self.deadline = now + CONTACT_MAX;
        if self.config.active {
            self.put_init();
        }
        Ok(())
    }

    fn put_init(&mut self) {
        let init = Init {
            keepalive_s: self.config.keepalive_s,
            segment_mru: TCPCL_SEGMENT_LEN_MAX as u64,
            transfer_mru: BUNDLE_LEN_MAX as u64,
            node: &self.config.node,
            strange: false,
        };
        put_init(&mut self.control, &init);
    }

    fn handle_message(&mut self, head: &[u8], now: Instant) -> Result<(), Malformed> {
        let kind = head.first().copied().unwrap_or(0);
        match (self.stage, Message::decode(head)?) {
            (Stage::Opening, Message::Init(init)) => self.handle_init(&init, now),
            (Stage::Opening, Message::End { reason, .. }) => {
                self.end_heard = true;
                self.close(Ended::NoSession(Some(reason)));
            }
            (_, Message::End { reply, reason }) => {
                self.end_heard = true;
                self.why.get_or_insert(Ended::Peer(reason));
                self.begin_end(!reply, reason, now);
            }
            (_, Message::Keepalive) => {}
            (_, Message::Reject { .. }) => self.broken("it rejected a message of ours"),
            (Stage::Open | Stage::Ending, Message::Segment(segment)) => {
                let ending = self.stage == Stage::Ending;
                if let Err(rule) = self.receiving.begin(&segment, ending, &mut self.control) {
                    self.broken(rule);
                }
            }
            (Stage::Open | Stage::Ending, Message::Ack { end, transfer, len, .. }) => {
                if let Err(rule) = self.sending.acknowledged(transfer, len, end, &mut self.events) {
                    self.broken(rule);
                }
                self.settle();
            }
            (Stage::Open | Stage::Ending, Message::Refuse { reason, transfer }) => {
                self.sending.refused(transfer, reason, &mut self.events);
                self.settle();
            }
            // It crossed our wish to end.
            (Stage::Ending, Message::Init(_)) => {}
            (Stage::Opening, _) | (_, Message::Init(_)) => {
                //= rfc9174#5.1.2 what has no place here is rejected
                put_reject(&mut self.control, REJECT_UNEXPECTED, kind);
                self.broken("a message where it has no place");
            }
            (Stage::Greeting | Stage::Closed, _) => {}
        }
        Ok(())
    }

    fn handle_init(&mut self, init: &Init<'_>, now: Instant) {
        if init.strange || init.segment_mru == 0 {
            put_end(&mut self.control, false, EndReason::Contact);
            return self.close(Ended::Broken("a session on terms that are not known here"));
        }
        if !self.config.active {
            self.put_init();
        }
        //= rfc9174#4.7 the lower keepalive of both; 0 is none
        let keepalive_s = init.keepalive_s.min(self.config.keepalive_s);
        self.keepalive = (keepalive_s > 0).then(|| Duration::from_secs(keepalive_s.into()));
        self.sending.open(init.segment_mru, init.transfer_mru);
        self.stage = self.stage.next(Turn::Opened);
        (self.heard_at, self.sent_at) = (now, now);
        self.events.push_back(Event::Opened { node: init.node.to_owned(), transfer_mru: init.transfer_mru });
    }

    /// The stream holds what cannot be read any further.
    fn unknown(&mut self) {
        //= rfc9174#5.1.2 a type that is not known is rejected, and its length is not known either
        if let Some(kind) = self.head.first() {
            put_reject(&mut self.control, REJECT_UNKNOWN, *kind);
        }
        self.broken("a message of a type or length that is not known");
    }

    fn broken(&mut self, rule: &'static str) {
        if self.stage != Stage::Greeting && self.stage != Stage::Closed && !self.end_sent {
            put_end(&mut self.control, false, EndReason::Unknown);
        }
        self.close(Ended::Broken(rule));
    }

    /// Nothing new begins; what is under way may be finished.
    fn begin_end(&mut self, reply: bool, reason: EndReason, now: Instant) {
        match self.stage {
            Stage::Closed => return,
            Stage::Greeting => return self.close(Ended::Ours),
            _ => {}
        }
        if !self.end_sent {
            self.end_sent = true;
            put_end(&mut self.control, reply, reason);
            self.deadline = now + ENDING_MAX;
        }
        self.stage = self.stage.next(Turn::End);
        self.sending.drop_queue(&mut self.events);
        self.settle();
    }

    /// Closes a session that has ended on both sides and has nothing under way.
    fn settle(&mut self) {
        let done = self.end_sent && self.end_heard && self.sending.is_idle() && self.receiving.is_idle();
        if self.stage == Stage::Ending && done {
            self.close(self.why.unwrap_or(Ended::Ours));
        }
    }

    fn close(&mut self, why: Ended) {
        if self.stage == Stage::Closed {
            return;
        }
        self.stage = self.stage.next(Turn::Close);
        self.sending.drop_all(&mut self.events);
        self.receiving = Receiving::default();
        self.events.push_back(Event::Ended(why));
    }

    /// The connection ended: nothing more can be read or written.
    pub fn handle_closed(&mut self) {
        let why = match self.stage {
            Stage::Greeting | Stage::Opening => Ended::NoSession(None),
            Stage::Ending if self.sending.is_idle() && self.receiving.is_idle() => self.why.unwrap_or(Ended::Lost),
            _ => Ended::Lost,
        };
        self.close(why);
        self.control.clear();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.stage {
            Stage::Closed => {}
            Stage::Greeting | Stage::Opening if self.deadline <= now => {
                if self.stage == Stage::Opening {
                    put_end(&mut self.control, false, EndReason::Contact);
                }
                self.close(Ended::Late);
            }
            Stage::Ending if self.deadline <= now => self.close(self.why.unwrap_or(Ended::Lost)),
            Stage::Greeting | Stage::Opening | Stage::Ending => {}
            Stage::Open => self.keep_alive(now),
        }
    }

    fn keep_alive(&mut self, now: Instant) {
        let Some(every) = self.keepalive else { return };
        if !self.wants_input() {
            // It may have spoken; nobody listens.
            self.heard_at = now;
        }
        //= rfc9174#5.1.1 two intervals of silence are the end
        if self.heard_at + every * 2 <= now {
            self.why = Some(Ended::Idle);
            return self.begin_end(false, EndReason::Idle, now);
        }
        if self.sent_at + every <= now && self.control.is_empty() {
            put_keepalive(&mut self.control);
        }
    }

    /// Appends what is to be written next to `out`: all that waits but segments, or one segment. `false` when there is nothing.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let some = if self.control.is_empty() {
            matches!(self.stage, Stage::Open | Stage::Ending) && self.sending.put(out, &mut self.events)
        } else {
            out.append(&mut self.control);
            true
        };
        if some {
            self.sent_at = now;
        }
        some
    }

    /// The next thing to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Session::handle_timeout`] next, if nothing happens before; it may be in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Greeting | Stage::Opening | Stage::Ending => Some(self.deadline),
            Stage::Open => self.keepalive.map(|every| (self.sent_at + every).min(self.heard_at + every * 2)),
            Stage::Closed => None,
        }
    }
}

/// A session must be agreed on so soon (RFC 9174, 4.2: at most a minute).
const CONTACT_MAX: Duration = Duration::from_secs(60);
/// What is under way when a session ends has so long.
const ENDING_MAX: Duration = Duration::from_secs(60);
/// Answers that wait to be written, beyond which nothing more is read.
const CONTROL_LEN_HIGH: usize = 64 << 10;

#[cfg(test)]
mod tests;
