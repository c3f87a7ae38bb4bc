//! The machine: one link to one peer, turned by datagrams, time and its caller.
//!
//! It puts the halves together and decides what goes into the next datagram; guard, plan and pacer stand at its door. It must
//! not know sockets, threads or clocks: after any call, drain [`Link::poll_transmit`], [`Link::poll_job`] and [`Link::poll_event`],
//! then ask [`Link::poll_timeout`]. Steps 8 to 12 of the walk.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use lavatube_base::limits::{DATAGRAM_LEN_MAX, ECHOES_MAX, PROBE_ENTRIES_MAX};
use lavatube_base::{BlockId, Instant};
use lavatube_format::btpu::{Message, Messages, put_cancel, put_echo, put_probe};
use lavatube_format::datagram::TAG_LEN;

use crate::Config;
use crate::contact::{Contact, ContactPlan};
use crate::estimate::Estimate;
use crate::governor::Governor;
use crate::guard::{Drop, Opening, Sealing};
use crate::job::{Done, Job, Outcome};
use crate::line::{Line, Turn};
use crate::outgoing::Block;
use crate::pacer::{PACKET_OWN_LEN, Pacer};
use crate::receiver::{self, Receiver};
use crate::sender::Sender;
use crate::status::{Receiving, Sending, Status, Totals};
use crate::store::SymbolStore;

/// A link to one peer.
pub struct Link<S> {
    sealing: Sealing,
    opening: Opening,
    plan: ContactPlan,
    contact: Option<Contact>,
    contact_len_sent: u64,
    pacer: Pacer,
    /// Where the rate is found out.
    governed: bool,
    governor: Option<Governor>,
    line: Line,
    /// Since when something that asks for an answer has had none.
    unanswered_since: Option<Instant>,
    /// While the line is silent: the next probe, and how many there were.
    probe_at: Instant,
    probes: u32,
    two_way: bool,
    listens_only: bool,
    sender: Sender,
    receiver: Receiver<S>,
    events: VecDeque<Event>,
    /// Transfers to be asked about.
    ask: Vec<u32>,
    /// Whether anybody is there is to be asked, though there is no transfer to ask about.
    asks_anybody: bool,
    /// Echo requests to be sent, those under way, and nonces to be sent back.
    echo_requests: VecDeque<u64>,
    echoes_under_way: VecDeque<(u64, Instant)>,
    echo_replies: VecDeque<u64>,
    /// The caller was asked for more counters.
    reserving: bool,
    totals: Totals,
    /// Kept for its memory.
    tags: Vec<[u8; TAG_LEN]>,
}

/// What a link tells its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The bytes of a block are needed: [`Link::supply`] them, or [`Link::withdraw`] the block.
    Wanted {
        /// The block.
        key: u64,
    },
    /// The peer says it has stored the block.
    Delivered {
        /// The block.
        key: u64,
    },
    /// The peer does not want the block.
    Refused {
        /// The block.
        key: u64,
    },
    /// One way: the block was sent as often as it was to be.
    Spent {
        /// The block.
        key: u64,
        /// The chance that it did not arrive is at most one in so many, if losses are no worse than provided for.
        one_in: u64,
    },
    /// A block came in whole. Answer with [`Link::accepted`] once it is stored, or [`Link::refused`] or [`Link::busy`].
    Received {
        /// Its id, which is that of these bytes.
        id: BlockId,
        /// 0 goes first.
        priority: u8,
        /// The block.
        bytes: Vec<u8>,
    },
    /// Counters run out at `end`: put a higher end on disk, sync, then say so with [`Link::reserved`].
    ReserveCounters {
        /// End of the present range.
        end: u64,
    },
    /// An echo came back.
    Echoed {
        /// The number that was sent.
        nonce: u64,
        /// How long it took.
        took: Duration,
    },
}

/// Why a block is not taken to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It is empty or too long.
    #[error("a block has 1 byte to 64 MiB + 4 KiB")]
    Length,
    /// Its key is in use.
    #[error("a block with this key is on its way")]
    Known,
    /// Too many wait.
    #[error("too many blocks wait to be sent")]
    Full,
}

impl<S: SymbolStore> Link<S> {
    /// A link whose counters in `reserved` were put on disk, and whose incoming symbols lie in `store`. `reserved` must begin at the end of the range of the life before.
    pub fn new(config: Config, reserved: Range<u64>, store: S, now: Instant) -> Self {
        assert!(config.key_in != config.key_out, "each direction has a key of its own");
        let estimate = Estimate::new(config.loss, config.dispersion, config.worth);
        let mut link = Self {
            sender: Sender::new(reserved.start, estimate, config.one_way),
            sealing: Sealing::new(config.key_out, reserved),
            opening: Opening::new(config.key_in, config.floor),
            plan: config.plan,
            contact: None,
            contact_len_sent: 0,
            pacer: Pacer::new(0, now),
            governed: config.governed && config.one_way.is_none(),
            governor: None,
            line: Line::Shut,
            unanswered_since: None,
            probe_at: now,
            probes: 0,
            two_way: config.one_way.is_none(),
            listens_only: config.listens_only,
            receiver: Receiver::new(store),
            events: VecDeque::new(),
            ask: Vec::new(),
            asks_anybody: false,
            echo_requests: VecDeque::new(),
            echoes_under_way: VecDeque::new(),
            echo_replies: VecDeque::new(),
            reserving: false,
            totals: Totals::default(),
            tags: Vec::new(),
        };
        link.turn(now);
        link
    }

    /// A block is to be sent.
    ///
    /// # Errors
    /// [`SubmitError`] when it is not taken.
    pub fn submit(&mut self, block: Block) -> Result<(), SubmitError> {
        self.sender.submit(block, &mut self.events)
    }

    /// The bytes of a block, after [`Event::Wanted`].
    pub fn supply(&mut self, key: u64, bytes: Vec<u8>) {
        self.sender.supply(key, bytes, &mut self.events);
    }

    /// A block is no longer to be sent.
    pub fn withdraw(&mut self, key: u64) {
        self.sender.withdraw(key, &mut self.events);
    }

    /// A block that came in is stored for good; the peer may forget it. Also for blocks stored before a restart, so that they are not carried once more.
    pub fn accepted(&mut self, id: BlockId, now: Instant) {
        self.receiver.accepted(id, now);
    }

    /// A block that came in is not wanted; the peer is told.
    pub fn refused(&mut self, id: BlockId, now: Instant) {
        self.receiver.refused(id, now);
    }

    /// There is no room for a block that came in: the peer holds it, and it is handed out again later.
    pub fn busy(&mut self, id: BlockId, now: Instant) {
        self.receiver.busy(id, now);
    }

    /// Counters up to `end` are reserved on disk, after [`Event::ReserveCounters`].
    pub fn reserved(&mut self, end: u64) {
        self.sealing.extend(end);
        self.reserving = false;
    }

    /// Asks the peer to send `nonce` back.
    pub fn ping(&mut self, nonce: u64) {
        self.echo_requests.push_back(nonce);
        self.echo_requests.truncate(ECHOES_MAX);
    }

    /// A datagram came in. Whether it was the peer's and new: then where it came from is where the peer is.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Instant) -> bool {
        self.handle_datagrams(&[bytes], now)
    }

    /// Datagrams came in from one place, in this order; together they cost less than one by one. Whether one of them was the peer's and new.
    pub fn handle_datagrams(&mut self, datagrams: &[&[u8]], now: Instant) -> bool {
        self.turn(now);
        let mut tags = std::mem::take(&mut self.tags);
        tags.clear();
        self.opening.tags(datagrams, &mut tags);
        let mut genuine = false;
        for (bytes, tag) in datagrams.iter().zip(&tags) {
            match self.opening.open(bytes, tag) {
                Ok((counter, messages)) => {
                    genuine = true;
                    self.totals.datagrams_received += 1;
                    self.totals.len_received += (bytes.len() + PACKET_OWN_LEN) as u64;
                    self.handle_messages(counter, messages, now);
                }
                Err(Drop::Foreign) => self.totals.foreign += 1,
                Err(Drop::Forged) => self.totals.forged += 1,
                Err(Drop::Replayed) => self.totals.replayed += 1,
            }
        }
        self.tags = tags;
        genuine
    }

    fn handle_messages(&mut self, counter: u64, messages: &[u8], now: Instant) {
        self.receiver.handle_counter(counter, now);
        for message in Messages::new(messages) {
            match message {
                Ok(message) => self.handle_message(message, counter, now),
                Err(_) => self.totals.malformed += 1,
            }
        }
    }

    fn handle_message(&mut self, message: Message<'_>, counter: u64, now: Instant) {
        match message {
            Message::Symbol(symbol) => self.receiver.handle_symbol(&symbol, now),
            Message::Announce(announce) => self.receiver.handle_announce(&announce, now),
            Message::Report(report) => {
                self.answered(now);
                let next = self.sealing.counter();
                self.sender.window = self.window();
                let heard = self.sender.handle_report(&report, counter, next, now, &mut self.events);
                if let (Some(governor), Some(heard)) = (&mut self.governor, heard) {
                    governor.heard(heard, now);
                    self.pacer.set_rate(governor.rate_bit_s());
                }
            }
            Message::Probe(transfers) => self.receiver.handle_probe(transfers.iter(), now),
            Message::Cancel { transfer } => self.receiver.handle_cancel(transfer),
            Message::EchoRequest(nonce) => {
                self.echo_replies.push_back(nonce);
                self.echo_replies.truncate(ECHOES_MAX);
            }
            Message::EchoReply(nonce) => {
                self.answered(now);
                if let Some(at) = self.echoes_under_way.iter().position(|(sent, _)| *sent == nonce) {
                    let took = self.echoes_under_way.remove(at).map_or(Duration::ZERO, |(_, sent)| now.since(sent));
                    self.events.push_back(Event::Echoed { nonce, took });
                }
            }
            Message::Padding | Message::Foreign => {}
        }
    }

    fn answered(&mut self, now: Instant) {
        self.unanswered_since = None;
        if self.line == Line::Silent {
            // What was sent meanwhile is in the dark; nobody is late yet.
            self.sender.handle_opening(now, &mut self.events);
        }
        self.line = self.line.next(Turn::Answered);
        self.probes = 0;
    }

    /// The plan has changed.
    pub fn handle_contact(&mut self, plan: ContactPlan, now: Instant) {
        self.plan = plan;
        self.turn(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.turn(now);
        self.receiver.handle_timeout(now);
        let patience = self.patience();
        if self.line == Line::Open && self.unanswered_at().is_some_and(|at| at <= now) {
            self.line = self.line.next(Turn::Unanswered);
            self.probe_at = now;
        }
        match self.line {
            Line::Open if self.two_way => {
                self.ask.append(&mut self.sender.overdue(patience, now, &mut self.events));
            }
            Line::Silent if self.probe_at <= now => {
                self.ask = self.sender.under_way().take(PROBE_ENTRIES_MAX).collect();
                // Of blocks that wait nothing can be asked, and without an answer none of them ever begins.
                self.asks_anybody = self.ask.is_empty() && self.sender.blocks().next().is_some();
                self.probe_at = now + PROBES_EVERY_MAX.min(patience * (1 << self.probes.min(PROBES_DOUBLED_MAX)));
                self.probes += 1;
            }
            _ => {}
        }
    }

    /// Opens and closes contacts as the plan says.
    fn turn(&mut self, now: Instant) {
        let contact = self.plan.at(now).copied();
        if contact == self.contact {
            return;
        }
        self.contact = contact;
        self.contact_len_sent = 0;
        self.unanswered_since = None;
        self.line = self.line.next(Turn::Close);
        if let Some(contact) = contact {
            self.line = self.line.next(Turn::Open);
            self.pacer = Pacer::new(contact.rate_up_bit_s, now);
            if self.governed {
                let governor = Governor::new(contact.rate_up_bit_s, self.sender.estimate.loss(), now);
                self.pacer.set_rate(governor.rate_bit_s());
                self.governor = Some(governor);
            }
            self.probes = 0;
            self.sender.window = self.window();
            self.sender.handle_opening(now, &mut self.events);
        }
    }

    /// What is sent at most: as planned, or as found out.
    fn rate_up(&self) -> u64 {
        let planned = self.contact.map_or(0, |contact| contact.rate_up_bit_s);
        self.governor.as_ref().map_or(planned, |governor| governor.rate_bit_s().min(planned))
    }

    /// Bytes that fill the link for as long as an answer takes.
    fn window(&self) -> u64 {
        let rate = self.rate_up();
        let bits = u128::from(rate) * self.patience().as_millis() / 1000;
        u64::try_from(bits / 8).unwrap_or(u64::MAX)
    }

    /// Appends the next datagram to `out`; `false` when none may or need be sent now.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        self.poll_transmits(now, out, &mut Vec::new(), 1) == 1
    }

    /// Appends up to `most` datagrams to `out` and where each ends to `ends`; how many. Together they cost less than one by one.
    pub fn poll_transmits(&mut self, now: Instant, out: &mut Vec<u8>, ends: &mut Vec<usize>, most: usize) -> usize {
        self.turn(now);
        let (start, first) = (out.len(), ends.len());
        while ends.len() - first < most && self.put_datagram(now, out) {
            ends.push(out.len());
        }
        self.sealing.tag(out, start, &ends[first..]);
        ends.len() - first
    }

    /// Appends a datagram but for its tag.
    fn put_datagram(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let (Some(counter), true) = (self.sealing.next(), self.may_send(now)) else { return false };
        let start = out.len();
        self.sealing.open(out);
        let (first, end) = (out.len(), start + DATAGRAM_LEN_MAX - TAG_LEN);
        let mut asks = self.put_control(out, end, now);
        if self.line == Line::Open {
            asks |= self.sender.put(out, end, counter, now, &mut self.events);
        }
        if out.len() == first {
            out.truncate(start);
            return false;
        }
        self.sealing.close(out);
        self.sender.flew(counter, now);
        if asks && self.two_way {
            self.unanswered_since.get_or_insert(now);
        }
        let len = out.len() - start;
        self.pacer.sent(len, now);
        if let Some(governor) = &mut self.governor {
            governor.sent(len + PACKET_OWN_LEN);
        }
        self.contact_len_sent += (len + PACKET_OWN_LEN) as u64;
        self.totals.datagrams_sent += 1;
        self.totals.len_sent += (len + PACKET_OWN_LEN) as u64;
        if self.sealing.left() < COUNTERS_LOW && !self.reserving {
            self.reserving = true;
            self.events.push_back(Event::ReserveCounters { end: self.sealing.end() });
        }
        true
    }

    /// Whether contact, budget and rate allow a datagram.
    fn may_send(&self, now: Instant) -> bool {
        let room = (DATAGRAM_LEN_MAX + PACKET_OWN_LEN) as u64;
        let paid = |contact: Contact| contact.budget.is_none_or(|budget| self.contact_len_sent + room <= budget);
        !self.listens_only && self.contact.is_some_and(paid) && self.pacer.is_open(now)
    }

    /// Appends what is not a block: it goes first. Whether it asks for an answer.
    fn put_control(&mut self, out: &mut Vec<u8>, end: usize, now: Instant) -> bool {
        let mut asks = false;
        while let Some(nonce) = self.echo_replies.pop_front() {
            put_echo(out, true, nonce);
        }
        while let Some(nonce) = self.echo_requests.pop_front() {
            put_echo(out, false, nonce);
            self.echoes_under_way.push_back((nonce, now));
            self.echoes_under_way.truncate(ECHOES_MAX);
            asks = true;
        }
        if self.report_at().is_some_and(|at| at <= now) {
            self.receiver.put_report(out, end, now);
        }
        while end - out.len() >= SMALL
            && let Some(transfer) = self.sender.cancelled.pop_front()
        {
            put_cancel(out, transfer);
        }
        let fit = (end - out.len()).saturating_sub(SMALL) / 4;
        if fit > 0 && (!self.ask.is_empty() || self.asks_anybody) {
            let rest = self.ask.split_off(self.ask.len().min(fit.min(PROBE_ENTRIES_MAX)));
            put_probe(out, self.ask.iter().copied());
            (self.ask, self.asks_anybody) = (rest, false);
            asks = true;
        }
        asks
    }

    /// The next work to be done elsewhere, or here and at once: [`Job::run`] it, then [`Link::finished`].
    pub fn poll_job(&mut self, now: Instant) -> Option<Job> {
        self.sender.poll_job().or_else(|| self.receiver.poll_job(now))
    }

    /// What came of a job.
    pub fn finished(&mut self, done: Done, now: Instant) {
        match done.0 {
            Outcome::Encoded { key, id, repairs } => self.sender.encoded(key, id, repairs),
            Outcome::Rebuilt { id, bytes } => self.receiver.rebuilt(id, bytes, &mut self.events, now),
        }
    }

    /// The next thing to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Link::handle_timeout`] and [`Link::poll_transmit`] next, if nothing happens before; it may be in the past.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let edge = self.contact.map(|contact| contact.end).or_else(|| self.plan.next(now).map(|contact| contact.start));
        let mut at = [edge, self.receiver.timeout()].into_iter().flatten().min();
        let mut sooner = |other: Option<Instant>| at = [at, other].into_iter().flatten().min();
        let room = (DATAGRAM_LEN_MAX + PACKET_OWN_LEN) as u64;
        let paid = |contact: Contact| contact.budget.is_none_or(|budget| self.contact_len_sent + room <= budget);
        if !self.listens_only && self.contact.is_some_and(paid) && self.sealing.left() > 0 {
            let opens = self.pacer.opens_at();
            let control = !self.echo_requests.is_empty() || !self.echo_replies.is_empty();
            let control = control || !self.ask.is_empty() || self.asks_anybody;
            if control || (self.line == Line::Open && self.sender.is_ready()) {
                sooner(opens);
            }
            sooner(self.report_at().max(opens).filter(|_| self.report_at().is_some()));
        }
        match self.line {
            Line::Open => {
                sooner(self.unanswered_at());
                sooner(self.sender.overdue_at(self.patience()));
            }
            Line::Silent => sooner(Some(self.probe_at)),
            Line::Shut => {}
        }
        at
    }

    fn report_at(&self) -> Option<Instant> {
        self.receiver.report_at(self.rate_up())
    }

    /// How long an answer may take: a round trip, a quarter for what is slower today, and the while a report waits for its share of the way back.
    fn patience(&self) -> Duration {
        let planned = self.contact.and_then(|contact| contact.light).map(|light| light * 2);
        let round_trip = self.sender.estimate.round_trip().or(planned).unwrap_or(ROUND_TRIP_MAX);
        let back = self.contact.map_or(0, |contact| contact.rate_down_bit_s);
        let waits = if back > 0 { receiver::report_gap(back, REPORT_LEN_TYPICAL) } else { Duration::ZERO };
        round_trip + round_trip / 4 + SLACK + waits.min(WAITS_MAX)
    }

    /// When the line falls silent: while blocks are sent, reports come many times in a round trip.
    fn unanswered_at(&self) -> Option<Instant> {
        Some(self.unanswered_since? + self.patience())
    }

    /// How things are. For people, not for the loop: it copies.
    pub fn status(&self, now: Instant) -> Status {
        let sending = |out: &crate::outgoing::Outgoing| Sending {
            key: out.block.key,
            priority: out.block.priority,
            len: out.block.len,
            symbols: out.shape.k() as u64,
            missing: out.missing,
            sent: out.sent,
            stage: out.state,
            provided: out.provided,
        };
        let receiving = |block: &receiver::Incoming| Receiving {
            id: block.id,
            priority: block.priority,
            len: block.shape.block_len() as u64,
            symbols: block.shape.k() as u64,
            held: block.count as u64,
            whole: block.state == receiver::State::Whole,
            waits: matches!(block.state, receiver::State::Waiting(_)),
        };
        Status {
            line: self.line,
            contact: self.contact,
            next_contact: self.plan.next(now).copied(),
            contact_len_sent: self.contact_len_sent,
            rate_up_bit_s: self.rate_up(),
            loss: self.sender.estimate.loss(),
            dispersion: self.sender.estimate.dispersion(),
            light: self.sender.estimate.round_trip().map(|there_and_back| there_and_back / 2),
            outgoing: self.sender.blocks().map(sending).collect(),
            incoming: self.receiver.blocks().map(receiving).collect(),
            totals: self.totals(),
            floor: self.opening.floor(),
        }
    }

    /// Counts since birth.
    pub fn totals(&self) -> Totals {
        Totals {
            symbols_sent: self.sender.symbols_sent,
            symbols_resent: self.sender.symbols_repeated,
            symbols_received: self.receiver.symbols_received,
            symbols_needless: self.receiver.symbols_repeated,
            damaged: self.receiver.damaged,
            ..self.totals
        }
    }

    /// The store, when the link is given up.
    pub fn into_store(self) -> S {
        self.receiver.into_store()
    }
}

/// What one takes a round trip to be before it was measured, where the plan does not say: more than there is up to the Moon.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(4);
/// Reports wait for a while, and so do timers.
const SLACK: Duration = Duration::from_millis(500);
/// Bytes of a packet with a report of ten blocks or so, and how long at most one waits for such reports.
const REPORT_LEN_TYPICAL: usize = 200;
const WAITS_MAX: Duration = Duration::from_secs(60);
/// A silent line is probed at least so often, and the time between probes doubles at most so many times.
const PROBES_EVERY_MAX: Duration = Duration::from_secs(60);
const PROBES_DOUBLED_MAX: u32 = 8;
/// Counters left when more are asked for: seconds at any rate we know.
const COUNTERS_LOW: u64 = 1 << 16;
/// Longest message of a fixed, small length.
const SMALL: usize = 12;
