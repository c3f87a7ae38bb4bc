//! The sending half: which block, which symbol, how many, and what reports make of it.
//!
//! Blocks go by priority, then age. Each gets as many symbols as the estimate says it needs, then the next one has its turn;
//! reports correct that while it goes on, so the link is never idle for want of an answer. It must not know sockets, keys or
//! when the link is up. Steps 8 and 9 of the walk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::limits::{FLIGHT_MAX, HELD_BLOCKS_MAX, HELD_LEN_MAX, OUTGOING_MAX, QUEUE_MAX};
use lavatube_base::{BlockId, Instant};
use lavatube_format::btpu::{ANNOUNCE_LEN, Report, SYMBOL_FRAMING_LEN, Standing, put_announce, put_probe, put_symbol};

use crate::code::Shape;
use crate::estimate::Estimate;
use crate::governor::Heard;
use crate::job::Job;
use crate::outgoing::{Block, Outgoing, State};
use crate::{Event, OneWay, SubmitError};

/// Blocks on their way out.
#[derive(Debug)]
pub struct Sender {
    queue: BTreeMap<Rank, Outgoing>,
    keys: BTreeMap<u64, Rank>,
    transfers: BTreeMap<u32, Rank>,
    /// Blocks whose bytes are in memory or were asked for.
    held: BTreeSet<Rank>,
    /// The block that symbols are taken of, until something changes.
    current: Option<Rank>,
    /// What left and no report has passed yet, oldest first.
    flight: VecDeque<Flight>,
    /// Transfers the peer is to be told the end of.
    pub cancelled: VecDeque<u32>,
    serial: u64,
    next_transfer: u32,
    first_counter: u64,
    last_report: Option<u64>,
    one_way: Option<OneWay>,
    pub estimate: Estimate,
    /// Bytes that fill the link while an answer is under way.
    pub window: u64,
    pub symbols_sent: u64,
    pub symbols_repeated: u64,
    /// Some block may need repair symbols that are not made.
    encode: bool,
    padded: Vec<u8>,
}

/// Priority, then age.
type Rank = (u8, u64);

/// A datagram, or the part of it that is about one transfer.
#[derive(Debug, Clone, Copy)]
struct Flight {
    counter: u64,
    at: Instant,
    transfer: u32,
    symbols: u32,
}

impl Sender {
    /// With nothing to send. Each transfer takes at least one datagram of its own to announce, so numbers that begin at the first counter are new in every life.
    pub fn new(first_counter: u64, estimate: Estimate, one_way: Option<OneWay>) -> Self {
        let low = u32::try_from(first_counter & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            queue: BTreeMap::new(),
            keys: BTreeMap::new(),
            transfers: BTreeMap::new(),
            held: BTreeSet::new(),
            current: None,
            flight: VecDeque::new(),
            cancelled: VecDeque::new(),
            serial: 0,
            next_transfer: low,
            first_counter,
            last_report: None,
            one_way,
            estimate,
            window: u64::MAX,
            symbols_sent: 0,
            symbols_repeated: 0,
            encode: false,
            padded: Vec::new(),
        }
    }

    /// A block is to be sent.
    pub fn submit(&mut self, block: Block, events: &mut VecDeque<Event>) -> Result<(), SubmitError> {
        let shape = Shape::of(block.len).ok_or(SubmitError::Length)?;
        if self.keys.contains_key(&block.key) {
            return Err(SubmitError::Known);
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(SubmitError::Full);
        }
        let rank = (block.priority, self.serial);
        self.serial += 1;
        self.keys.insert(block.key, rank);
        let mut out = Outgoing::new(block, shape, 0);
        if let Some((one_way, margin)) =
            self.one_way.and_then(|one_way| Some((one_way, one_way.margin(out.block.len)?)))
        {
            (out.rounds, out.provided) = (one_way.repeats, Some(margin.sent));
            // Nobody could say how much of it is there.
            out.block.resumed = false;
        }
        self.queue.insert(rank, out);
        self.changed(events);
        Ok(())
    }

    /// The bytes that were asked for.
    pub fn supply(&mut self, key: u64, bytes: Vec<u8>, events: &mut VecDeque<Event>) {
        let Some(rank) = self.keys.get(&key) else { return };
        if let Some(out) = self.queue.get_mut(rank).filter(|out| out.wanted) {
            assert!(bytes.len() == out.shape.block_len(), "the block has the length that was submitted");
            out.bytes = Some(Arc::new(bytes));
            out.wanted = false;
        }
        self.changed(events);
    }

    /// Repair symbols that are to be made.
    pub fn poll_job(&mut self) -> Option<Job> {
        if std::mem::take(&mut self.encode) {
            for rank in &self.held {
                if let Some(job) = self.queue.get_mut(rank).and_then(Outgoing::poll_job) {
                    // There may be more.
                    self.encode = true;
                    return Some(job);
                }
            }
        }
        None
    }

    /// They are made.
    pub fn encoded(&mut self, key: u64, id: BlockId, repairs: Vec<u8>) {
        let out = self.keys.get(&key).and_then(|rank| self.queue.get_mut(rank));
        // Under the same name there may be another block by now.
        if let Some(out) = out.filter(|out| out.block.id == id) {
            out.encoded(repairs);
        }
        (self.current, self.encode) = (None, true);
    }

    /// The block is no longer to be sent.
    pub fn withdraw(&mut self, key: u64, events: &mut VecDeque<Event>) {
        let Some(rank) = self.keys.get(&key).copied() else { return };
        if let Some(out) = self.remove(rank).filter(|out| out.state != State::Waiting) {
            self.cancelled.push_back(out.transfer);
            self.cancelled.truncate(OUTGOING_MAX);
        }
        self.changed(events);
    }

    /// What the peer says came in; `counter` is that of the datagram it stood in, `next` the counter that we have not used yet.
    /// Returns what it says of the link.
    pub fn handle_report(
        &mut self,
        report: &Report<'_>,
        counter: u64,
        next: u64,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) -> Option<Heard> {
        let tally = report.tally;
        // Older reports say less; one about what we never sent is about another life of ours.
        if self.last_report.is_some_and(|last| counter <= last) || tally.horizon >= next {
            return None;
        }
        self.last_report = Some(counter);
        let round_trip = self.pass(tally.horizon, tally.age_us, now);
        let known = self.estimate.heard(tally.horizon, tally.received, self.first_counter);
        for entry in report.entries() {
            let Some(rank) = self.transfers.get(&entry.transfer).copied() else { continue };
            let sigmas = self.sigmas(rank);
            let Some(out) = self.queue.get_mut(&rank) else { continue };
            (out.quiet_since, out.asked) = (now, 0);
            let key = out.block.key;
            match entry.standing {
                Standing::Missing(missing) => out.heard(missing, entry.next, &self.estimate, sigmas),
                Standing::Hold => out.hold(),
                // What is under way may be what it asks for.
                Standing::Unknown if out.is_small() && out.sent > out.passed => {}
                Standing::Unknown if out.is_small() && out.state != State::Asking => out.once_more(&self.estimate),
                Standing::Unknown => out.forgotten(),
                Standing::Kept | Standing::Refused => {
                    let kept = entry.standing == Standing::Kept;
                    self.remove(rank);
                    events.push_back(if kept { Event::Delivered { key } } else { Event::Refused { key } });
                }
            }
        }
        self.changed(events);
        let age = Duration::from_micros(tally.age_us.into());
        let (passed, came) = known.filter(|_| tally.age_us < u32::MAX)?;
        let ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        Some(Heard { arrived: Instant(now.0.saturating_sub(ns)), round_trip, passed, came })
    }

    /// Takes off the flight what the horizon has passed. Returns how long its way there and back took, if that can be told.
    fn pass(&mut self, horizon: u64, age_us: u32, now: Instant) -> Option<Duration> {
        let mut round_trip = None;
        while let Some(flight) = self.flight.pop_front_if(|flight| flight.counter <= horizon) {
            self.land(flight);
            if flight.counter == horizon && age_us < u32::MAX {
                let age = Duration::from_micros(u64::from(age_us));
                let took = now.since(flight.at).saturating_sub(age);
                self.estimate.took(took);
                round_trip = Some(took);
            }
        }
        round_trip
    }

    fn land(&mut self, flight: Flight) {
        let rank = self.transfers.get(&flight.transfer);
        if let Some(out) = rank.and_then(|rank| self.queue.get_mut(rank)) {
            out.passed += u64::from(flight.symbols);
        }
    }

    /// A contact opened: silence before it does not count, and what is sent one way is sent once more.
    pub fn handle_opening(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        for rank in self.transfers.values() {
            let Some(out) = self.queue.get_mut(rank) else { continue };
            (out.quiet_since, out.asked) = (now, 0);
            if self.one_way.is_some() && out.state == State::Resting {
                out.again(&self.estimate);
            }
        }
        self.changed(events);
    }

    /// Appends announcements and symbols as long as they fit below `end`; whether there was one.
    pub fn put(
        &mut self,
        out: &mut Vec<u8>,
        end: usize,
        counter: u64,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let (start, mut announced) = (out.len(), false);
        while let Some(rank) = self.choose() {
            // What it takes to tell is spent once a block, not once a symbol.
            let sigmas = if self.queue.get(&rank).is_some_and(|out| out.sent == 0) { self.sigmas(rank) } else { 0.0 };
            let Some(block) = self.queue.get_mut(&rank) else { break };
            let begins = block.state == State::Waiting;
            if begins || block.unannounced {
                // One announcement a datagram: so there are never more transfers than counters.
                if announced || out.len() + ANNOUNCE_LEN + PROBE_LEN > end {
                    break;
                }
                if begins {
                    block.begin(self.next_transfer, &self.estimate, sigmas);
                    self.transfers.insert(self.next_transfer, rank);
                    self.next_transfer = self.next_transfer.wrapping_add(1);
                }
                put_announce(out, &block.announce());
                if block.state == State::Asking {
                    put_probe(out, std::iter::once(block.transfer));
                }
                (announced, block.unannounced, block.quiet_since) = (true, false, now);
                fly(&mut self.flight, Flight { counter, at: now, transfer: block.transfer, symbols: 0 });
            } else {
                if out.len() + SYMBOL_FRAMING_LEN + block.shape.symbol_len() > end {
                    break;
                }
                if block.sent == 0 {
                    // More may be known by now than when it began.
                    block.owe(&self.estimate, sigmas);
                    self.encode = true;
                }
                block.put_symbol(&mut self.padded, |symbol| put_symbol(out, symbol));
                block.quiet_since = now;
                self.symbols_sent += 1;
                self.symbols_repeated += u64::from(block.repeats());
                fly(&mut self.flight, Flight { counter, at: now, transfer: block.transfer, symbols: 1 });
            }
            self.settle(rank, events);
        }
        if self.one_way.is_some() {
            self.flight.clear();
        }
        while self.flight.len() > FLIGHT_MAX {
            let Some(oldest) = self.flight.pop_front() else { break };
            self.land(oldest);
        }
        out.len() > start
    }

    /// After a symbol of `rank`: whether the turn goes to another, and whether it was the last of one way.
    fn settle(&mut self, rank: Rank, events: &mut VecDeque<Event>) {
        let Some(block) = self.queue.get(&rank) else { return };
        if block.ready() {
            self.current = Some(rank);
            return;
        }
        if let Some(one_way) = self.one_way.filter(|_| block.state == State::Resting && block.rounds == 0) {
            // Each contact is luck of its own.
            let one = one_way.margin(block.block.len).map_or(1.0, |margin| margin.failure);
            let all = one.powi(1 + i32::from(one_way.repeats));
            // Neither negative nor a number that is none; beyond the largest it is the largest.
            let one_in = all.recip() as u64;
            events.push_back(Event::Spent { key: block.block.key, one_in });
            self.remove(rank);
        }
        self.changed(events);
    }

    /// Notes a datagram that carries nothing of a block but may be a horizon.
    pub fn flew(&mut self, counter: u64, now: Instant) {
        if self.one_way.is_none() && !self.transfers.is_empty() {
            fly(&mut self.flight, Flight { counter, at: now, transfer: 0, symbols: 0 });
        }
    }

    /// Whether [`Sender::put`] would have something.
    pub fn is_ready(&mut self) -> bool {
        self.choose().is_some()
    }

    /// The next block that has something to say: the first by rank.
    fn choose(&mut self) -> Option<Rank> {
        let current = self.current.filter(|rank| self.queue.get(rank).is_some_and(Outgoing::ready));
        self.current = current.or_else(|| {
            let may_begin = self.transfers.len() < OUTGOING_MAX;
            let says = |out: &Outgoing| match out.state {
                State::Waiting => may_begin && (out.bytes.is_some() || out.block.resumed),
                State::Asking => out.unannounced,
                _ => out.ready(),
            };
            self.queue.iter().take(SEARCH).find(|(_, out)| says(out)).map(|(rank, _)| *rank)
        });
        self.current
    }

    /// Standard deviations of bad luck to provide for: many when the link would be idle while a second round is under way.
    fn sigmas(&self, rank: Rank) -> f64 {
        // Others wait for a message.
        if rank.0 == 0 {
            return SIGMAS_LAST;
        }
        let busy = |out: &&Outgoing| matches!(out.state, State::Waiting | State::Sending);
        let behind = self.queue.range((Bound::Excluded(rank), Bound::Unbounded)).map(|(_, out)| out).filter(busy);
        let (mut blocks, mut len) = (0, 0);
        for out in behind.take(SEARCH) {
            (blocks, len) = (blocks + 1, len + out.block.len);
            if len >= self.window || blocks == SEARCH {
                let k = self.queue.get(&rank).map_or(0, |out| out.shape.k());
                return if k < FEW { SIGMAS_FEW } else { SIGMAS_AMONG };
            }
        }
        SIGMAS_LAST
    }

    /// Something changed: the turn is decided anew, and bytes are asked for as far as memory allows.
    fn changed(&mut self, events: &mut VecDeque<Event>) {
        (self.current, self.encode) = (None, true);
        let wants =
            |out: &Outgoing| matches!(out.state, State::Waiting | State::Sending) && out.bytes.is_none() && !out.wanted;
        let wanting: Vec<Rank> = self
            .queue
            .iter()
            .take(SEARCH)
            .filter(|(_, out)| wants(out))
            .map(|(r, _)| *r)
            .take(HELD_BLOCKS_MAX + 1)
            .collect();
        for rank in wanting {
            // A block of an earlier life may be there already.
            let ask_first = |out: &Outgoing| out.state == State::Waiting && out.block.resumed;
            let Some(len) = self.queue.get(&rank).filter(|out| !ask_first(out)).map(|out| out.shape.block_len()) else {
                continue;
            };
            if !self.make_room(rank, len) {
                break;
            }
            if let Some(out) = self.queue.get_mut(&rank) {
                out.wanted = true;
                self.held.insert(rank);
                events.push_back(Event::Wanted { key: out.block.key });
            }
        }
    }

    /// Room for one more block in memory; those that rest give way first, then those of a later rank.
    fn make_room(&mut self, rank: Rank, len: usize) -> bool {
        let held_len = |out: &Outgoing| if out.wanted { out.shape.block_len() } else { out.held_len() };
        loop {
            let used: usize = self.held.iter().filter_map(|rank| self.queue.get(rank)).map(held_len).sum();
            if self.held.len() < HELD_BLOCKS_MAX || (used + len <= HELD_LEN_MAX && self.held.len() < OUTGOING_MAX) {
                return true;
            }
            let idle = |rank: &&Rank| {
                self.queue
                    .get(rank)
                    .is_some_and(|out| out.bytes.is_some() && !matches!(out.state, State::Waiting | State::Sending))
            };
            let later = |other: &&Rank| **other > rank && self.queue.get(other).is_some_and(|out| out.bytes.is_some());
            let found = self.held.iter().rev().find(idle).or_else(|| self.held.iter().rev().find(later)).copied();
            let Some(victim) = found else { return false };
            self.held.remove(&victim);
            if let Some(out) = self.queue.get_mut(&victim) {
                out.drop_bytes();
            }
        }
    }

    fn remove(&mut self, rank: Rank) -> Option<Outgoing> {
        let out = self.queue.remove(&rank)?;
        self.held.remove(&rank);
        self.keys.remove(&out.block.key);
        if out.state != State::Waiting {
            self.transfers.remove(&out.transfer);
        }
        Some(out)
    }

    /// Transfers that nothing was heard of for `patience` since they were last sent of, doubling with each question. Small blocks are sent
    /// once more beside the question, and what was to be sent later of others is.
    pub fn overdue(&mut self, patience: Duration, now: Instant, events: &mut VecDeque<Event>) -> Vec<u32> {
        let (mut due, mut any) = (Vec::new(), false);
        for (transfer, rank) in &self.transfers {
            let Some(out) = self.queue.get_mut(rank).filter(|out| deadline(out, patience).is_some_and(|at| at <= now))
            else {
                continue;
            };
            any = true;
            if out.later > 0 && out.state == State::Resting {
                out.due();
                continue;
            }
            out.asked += 1;
            match out.state {
                // Its announcement asks.
                State::Asking => (out.unannounced, out.quiet_since) = (true, now),
                State::Resting if out.is_small() => out.once_more(&self.estimate),
                _ => {}
            }
            if out.state != State::Asking {
                due.push(*transfer);
            }
        }
        if any {
            self.changed(events);
        }
        due
    }

    /// When [`Sender::overdue`] will have something.
    pub fn overdue_at(&self, patience: Duration) -> Option<Instant> {
        if self.one_way.is_some() {
            return None;
        }
        self.transfers.values().filter_map(|rank| deadline(self.queue.get(rank)?, patience)).min()
    }

    /// All transfers under way.
    pub fn under_way(&self) -> impl Iterator<Item = u32> + '_ {
        self.transfers.keys().copied()
    }

    /// All blocks, in the order in which they go.
    pub fn blocks(&self) -> impl Iterator<Item = &Outgoing> + '_ {
        self.queue.values()
    }
}

fn deadline(out: &Outgoing, patience: Duration) -> Option<Instant> {
    if out.later > 0 && out.state == State::Resting {
        return Some(out.quiet_since + SPREAD);
    }
    let waits = matches!(out.state, State::Asking | State::Resting | State::Holding);
    waits.then(|| out.quiet_since + patience * (1 << out.asked.min(BACKOFF_MAX)))
}

fn fly(flight: &mut VecDeque<Flight>, new: Flight) {
    match flight.back_mut() {
        Some(last) if (last.counter, last.transfer) == (new.counter, new.transfer) => last.symbols += new.symbols,
        _ => flight.push_back(new),
    }
}

/// Between symbols of which one is to be enough: few bursts are longer.
const SPREAD: Duration = Duration::from_millis(150);
/// Bytes of a probe about one transfer.
const PROBE_LEN: usize = 8;
/// How far down the queue one looks: past all that are under way, and some.
const SEARCH: usize = OUTGOING_MAX + 64;
/// For the last block: one in a thousand needs a second round.
const SIGMAS_LAST: f64 = 3.0;
/// Where enough others follow, a second round costs nothing but a few symbols.
const SIGMAS_AMONG: f64 = 1.0;
/// Of a block of few symbols a deviation is a large part, and what was sent in vain costs more than telling what is missing.
const SIGMAS_FEW: f64 = 0.0;
const FEW: usize = 256;
/// Questions are asked at most 2^5 times as rarely.
const BACKOFF_MAX: u32 = 5;
