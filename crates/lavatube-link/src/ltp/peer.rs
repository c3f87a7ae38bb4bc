//! One peer: when it may be sent something, and what goes first.
//!
//! First what is said before any data, then what is missing of blocks, then what was never sent; so the oldest blocks are whole first
//! and memory is free again. It must not know which other peers there are, nor what time it is.

use std::collections::{BTreeMap, VecDeque};

use lavatube_base::Instant;
use lavatube_base::limits::{BLOCK_LEN_MAX, DATAGRAM_LEN_MAX, LTP_SESSIONS_MAX};
use lavatube_format::ltp::{
    Data, Reason, Report, ReportHead, SessionId, put_cancel, put_cancel_ack, put_report, put_report_ack,
};

use super::alarms::{Alarms, Who};
use super::config::PeerConfig;
use super::desk::{Desk, Word};
use super::ended::{End, Ended, Late};
use super::engine::{Block, Event, SendError};
use super::export::{Export, Outgoing};
use super::import::{Import, Incoming, Took};
use super::measure::Measure;
use super::status::{PeerStatus, Receiving, Sending, Totals};
use crate::line::{Line, Turn};
use crate::pacer::{PACKET_OWN_LEN, Pacer, cost};

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    config: PeerConfig,
    line: Line,
    rate_bit_s: u64,
    pacer: Pacer,
    closed_at: Option<Instant>,
    /// Since when something that asks for an answer has had none.
    unanswered_since: Option<Instant>,
    measure: Measure,
    desk: Desk,
    alarms: Alarms,
    totals: Totals,
    exports: BTreeMap<u64, Export>,
    /// Session numbers of blocks, by the caller's name for them.
    keys: BTreeMap<u64, u64>,
    /// Session numbers: of what was never sent, of what is being sent, of what has something to be sent again.
    waiting: VecDeque<u64>,
    sending: Option<u64>,
    again: VecDeque<u64>,
    /// Blocks under way, their bytes, and those of all that wait as well.
    under_way: usize,
    in_flight: u64,
    export_len: u64,
    imports: BTreeMap<u64, Import>,
    /// Session numbers of what comes in, the oldest first.
    ages: BTreeMap<u64, u64>,
    next_age: u64,
    import_len: usize,
    ended: Ended,
}

impl Peer {
    pub fn new(config: PeerConfig, now: Instant) -> Self {
        Self {
            config,
            line: Line::Shut,
            rate_bit_s: 0,
            pacer: Pacer::new(0, now),
            closed_at: None,
            unanswered_since: None,
            measure: Measure::new(config.light, config.loss),
            desk: Desk::default(),
            alarms: Alarms::default(),
            totals: Totals::default(),
            exports: BTreeMap::new(),
            keys: BTreeMap::new(),
            waiting: VecDeque::new(),
            sending: None,
            again: VecDeque::new(),
            under_way: 0,
            in_flight: 0,
            export_len: 0,
            imports: BTreeMap::new(),
            ages: BTreeMap::new(),
            next_age: 0,
            import_len: 0,
            ended: Ended::default(),
        }
    }

    // --- contacts ---

    pub fn open(&mut self, rate_bit_s: u64, now: Instant) {
        self.rate_bit_s = rate_bit_s;
        self.pacer = Pacer::new(rate_bit_s, now);
        self.unanswered_since = None;
        self.line = self.line.next(Turn::Open);
        if let Some(closed_at) = self.closed_at.take() {
            //= rfc5326#6.6 the clocks go on where they stood
            let gap = now.since(closed_at);
            self.exports.values_mut().for_each(|export| export.shift(gap));
            self.imports.values_mut().for_each(|import| import.shift(gap, now));
            self.alarms.clear();
            self.set_all_alarms();
        }
    }

    pub fn close(&mut self, now: Instant) {
        self.line = self.line.next(Turn::Close);
        self.closed_at.get_or_insert(now);
    }

    /// Something of the peer came in.
    pub fn heard(&mut self, now: Instant) {
        self.totals.segments_received += 1;
        self.unanswered_since = None;
        if self.line == Line::Silent {
            self.line = self.line.next(Turn::Answered);
            self.exports.values_mut().for_each(|export| export.hasten(now));
            self.imports.values_mut().for_each(|import| import.hasten(now));
            self.set_all_alarms();
        }
    }

    fn set_all_alarms(&mut self) {
        for (number, export) in &self.exports {
            self.alarms.set(Who::Export(*number), export.timeout());
        }
        for (number, import) in &self.imports {
            self.alarms.set(Who::Import(*number), import.timeout(self.config.idle_max, &self.measure));
        }
    }

    // --- blocks out ---

    /// Whether a block may be submitted.
    pub fn room_for(&self, block: &Block) -> Result<(), SendError> {
        if self.keys.contains_key(&block.key) {
            return Err(SendError::Known);
        }
        let len = self.export_len + block.bytes.len() as u64;
        // One block may always wait, whatever its length.
        let full = len > self.config.export_len_max && self.export_len > 0;
        if full || self.exports.len() >= LTP_SESSIONS_MAX { Err(SendError::Full) } else { Ok(()) }
    }

    pub fn submit(&mut self, session: SessionId, block: Block, first_checkpoint: u64) {
        self.keys.insert(block.key, session.number);
        self.export_len += block.bytes.len() as u64;
        let export = Export::new(session, block.key, block.service, block.red, block.bytes, first_checkpoint);
        self.exports.insert(session.number, export);
        self.waiting.push_back(session.number);
    }

    pub fn cancel(&mut self, key: u64, events: &mut VecDeque<Event>) {
        if let Some(number) = self.keys.get(&key).copied()
            && let Some(export) = self.exports.get_mut(&number)
        {
            export.give_up(Reason::Cancelled);
            self.settle_export(number, events);
        }
    }

    /// Tells what became of a block, and when it wants to be called.
    fn settle_export(&mut self, number: u64, events: &mut VecDeque<Event>) {
        let Some(export) = self.exports.get_mut(&number) else { return };
        let (peer, key, len, state) = (self.config.engine, export.key, export.len(), export.state);
        let failed = export.take_failed();
        let ended = failed.is_some() || state == Outgoing::Done && !export.is_failed();
        if let Some(reason) = failed {
            if state == Outgoing::GivingUp {
                self.desk.say(Word::Cancel { session: export.id, by_sender: true, reason });
            }
            self.totals.blocks_failed += 1;
            events.push_back(Event::Failed { peer, key, reason });
        } else if ended {
            self.totals.blocks_sent += 1;
            events.push_back(if export.is_red() { Event::Delivered { peer, key } } else { Event::Sent { peer, key } });
        }
        if ended {
            self.keys.remove(&key);
            self.export_len -= len;
            match self.waiting.iter().position(|waiting| *waiting == number) {
                Some(at) => drop(self.waiting.remove(at)),
                None => (self.under_way, self.in_flight) = (self.under_way - 1, self.in_flight - len),
            }
            self.sending = self.sending.filter(|sending| *sending != number);
        }
        if state == Outgoing::Done {
            self.exports.remove(&number);
        } else {
            self.alarms.set(Who::Export(number), export.timeout());
        }
    }

    pub fn handle_report(
        &mut self,
        session: SessionId,
        report: &Report<'_>,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) {
        //= rfc5326#6.13 a report is acknowledged, whatever has become of its session
        self.desk.say(Word::ReportAck { session, report: report.number });
        if let Some(export) = self.exports.get_mut(&session.number) {
            export.handle_report(report, &mut self.measure, now);
            self.settle_export(session.number, events);
        }
    }

    // --- blocks in ---

    pub fn handle_data(
        &mut self,
        session: SessionId,
        data: &Data<'_>,
        wanted: bool,
        first_report: u64,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) {
        let number = session.number;
        if !self.imports.contains_key(&number) && !self.begin_import(session, data, wanted, first_report, now) {
            return;
        }
        let Some(import) = self.imports.get_mut(&number) else { return };
        let (before, len) = (import.memory(), import.len());
        // The oldest block may always grow, or none might ever become whole.
        let oldest = self.ages.first_key_value().is_some_and(|(_, oldest)| *oldest == number);
        let left = self.config.import_len_max.saturating_sub(self.import_len);
        let room = if oldest { BLOCK_LEN_MAX } else { before + left };
        match import.handle_data(data, room, &self.measure, now) {
            Took::NoRoom => self.totals.no_room += 1,
            Took::Kept if import.len() == len => self.totals.needless += 1,
            Took::Kept => {}
        }
        self.import_len = self.import_len + import.memory() - before;
        self.settle_import(number, now, events);
    }

    /// A block whose first piece came; `false` when the piece belongs to none.
    fn begin_import(&mut self, session: SessionId, data: &Data<'_>, wanted: bool, first: u64, now: Instant) -> bool {
        match self.ended.handle_data(session.number, data, now) {
            Late::New => {}
            late => {
                self.totals.needless += 1;
                match late {
                    Late::Report(report) => self.desk.say(Word::Report { session, report }),
                    Late::Cancel(reason) => self.desk.say(Word::Cancel { session, by_sender: false, reason }),
                    Late::New | Late::Ignore => {}
                }
                return false;
            }
        }
        if !wanted {
            //= rfc5326#4.1 nobody is there whom it is for
            self.give_up_unseen(session, Reason::Unreachable, now);
            return false;
        }
        let full = self.import_len >= self.config.import_len_max && !self.imports.is_empty();
        if full || self.imports.len() >= LTP_SESSIONS_MAX {
            self.totals.no_room += 1;
            return false;
        }
        let age = self.next_age;
        self.next_age += 1;
        self.ages.insert(age, session.number);
        self.imports.insert(session.number, Import::new(session, data.service, age, first, now));
        true
    }

    fn give_up_unseen(&mut self, session: SessionId, reason: Reason, now: Instant) {
        self.totals.blocks_failed += 1;
        self.ended.insert(session.number, End::GivenUp(reason), now);
        self.desk.say(Word::Cancel { session, by_sender: false, reason });
    }

    /// Hands a block out, tells of its end, and when it wants to be called.
    fn settle_import(&mut self, number: u64, now: Instant, events: &mut VecDeque<Event>) {
        let Some(import) = self.imports.get_mut(&number) else { return };
        let (peer, before) = (self.config.engine, import.memory());
        if let Some(block) = import.take(&self.measure, now) {
            self.totals.blocks_received += 1;
            let (session, (service, bytes)) = (import.id, (block.service, block.bytes));
            let (red_len, whole) = (block.red_len, block.whole);
            events.push_back(Event::Received { peer, session, service, bytes, red_len, whole });
            self.ages.remove(&import.age);
        }
        import.handle_timeout(&mut self.desk, &mut self.measure, self.config.repeats_max, self.config.idle_max, now);
        if let Some(reason) = import.take_failed() {
            self.totals.blocks_failed += 1;
            self.ages.remove(&import.age);
            self.desk.say(Word::Cancel { session: import.id, by_sender: false, reason });
            events.push_back(Event::Abandoned { peer, session: import.id, reason });
        }
        self.import_len = self.import_len + import.memory() - before;
        if import.state == Incoming::Done {
            let (red_end, next_report) = import.traces();
            let end = import.failed().map_or(End::Whole { red_end, next_report, asked: 0 }, End::GivenUp);
            self.ended.insert(number, end, now);
            self.import_len -= import.memory();
            self.ages.remove(&import.age);
            self.imports.remove(&number);
        } else {
            self.alarms.set(Who::Import(number), import.timeout(self.config.idle_max, &self.measure));
        }
    }

    pub fn handle_report_ack(&mut self, number: u64, report: u64, now: Instant, events: &mut VecDeque<Event>) {
        if let Some(import) = self.imports.get_mut(&number) {
            import.handle_report_ack(report, &mut self.measure, now);
            self.settle_import(number, now, events);
        }
    }

    // --- cancellations ---

    /// The peer gives a block up: one of its own, or one of ours.
    pub fn handle_cancel(
        &mut self,
        session: SessionId,
        reason: Reason,
        by_sender: bool,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) {
        //= rfc5326#6.17 a cancellation is acknowledged, whatever has become of its session
        self.desk.say(Word::CancelAck { session, to_sender: by_sender });
        let number = session.number;
        if !by_sender {
            if let Some(export) = self.exports.get_mut(&number) {
                export.given_up(reason);
                self.settle_export(number, events);
            }
        } else if let Some(mut import) = self.imports.remove(&number) {
            let (peer, was) = (self.config.engine, import.state);
            self.import_len -= import.memory();
            self.ages.remove(&import.age);
            import.given_up();
            if was == Incoming::Receiving {
                self.totals.blocks_failed += 1;
                events.push_back(Event::Abandoned { peer, session, reason });
            }
            let (red_end, next_report) = import.traces();
            let end = if was == Incoming::Whole { End::Whole { red_end, next_report, asked: 0 } } else { End::ByPeer };
            self.ended.insert(number, end, now);
        }
    }

    /// The peer knows that a block was given up: ours, or one of its own.
    pub fn handle_cancel_ack(&mut self, number: u64, ours: bool, now: Instant, events: &mut VecDeque<Event>) {
        if ours {
            if let Some(export) = self.exports.get_mut(&number) {
                export.cancel_answered();
                self.settle_export(number, events);
            }
        } else if let Some(import) = self.imports.get_mut(&number) {
            import.cancel_answered();
            self.settle_import(number, now, events);
        }
    }

    // --- time ---

    pub fn handle_timeout(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        if self.line == Line::Shut {
            return;
        }
        if self.line == Line::Open && self.silent_at().is_some_and(|at| at <= now) {
            self.line = self.line.next(Turn::Unanswered);
        }
        let idle = self.sending.is_none() && self.waiting.is_empty();
        let slot = idle.then(|| cost(self.rate_bit_s, DATAGRAM_LEN_MAX + PACKET_OWN_LEN));
        while let Some(who) = self.alarms.take(now) {
            match who {
                Who::Export(number) => {
                    let Some(export) = self.exports.get_mut(&number) else { continue };
                    let (was, repeats_max) = (export.state, self.config.repeats_max);
                    let again = export.handle_timeout(&mut self.desk, &self.measure, repeats_max, slot, now);
                    if again && was != Outgoing::Resending {
                        self.again.push_back(number);
                    }
                    self.settle_export(number, events);
                }
                Who::Import(number) => self.settle_import(number, now, events),
            }
        }
    }

    /// When the line falls silent, if nothing is heard.
    fn silent_at(&self) -> Option<Instant> {
        self.unanswered_since.map(|since| since + 2 * self.measure.patience())
    }

    /// When to call [`Peer::handle_timeout`] and [`Peer::put`].
    pub fn timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.line == Line::Shut {
            return None;
        }
        let silent = self.silent_at().filter(|_| self.line == Line::Open);
        let data = self.sending.is_some() || !self.again.is_empty() || self.may_begin();
        let sends = self.desk.is_waiting(now) || self.line == Line::Open && data;
        let send = if self.pacer.is_open(now) { Some(now) } else { self.pacer.opens_at() };
        let send = send.filter(|_| sends);
        [silent, self.alarms.first(), self.desk.timeout(), send].into_iter().flatten().min()
    }

    // --- datagrams out ---

    /// Whether the next block that waits may begin.
    fn may_begin(&self) -> bool {
        let Some(export) = self.waiting.front().and_then(|number| self.exports.get(number)) else { return false };
        let fits = self.in_flight + export.len() <= self.window() || self.under_way == 0;
        self.under_way < self.config.sessions_max && fits
    }

    /// Bytes that may be under way: what the link carries in five round trips.
    fn window(&self) -> u64 {
        let bits = u128::from(self.rate_bit_s) * (ROUND_TRIPS * self.measure.patience()).as_millis() / 1000;
        u64::try_from(bits / 8).unwrap_or(u64::MAX).max(WINDOW_MIN)
    }

    /// Appends the next datagram, if one may and need be sent.
    pub fn put(&mut self, out: &mut Vec<u8>, now: Instant, events: &mut VecDeque<Event>) -> bool {
        if self.line == Line::Shut || !self.pacer.is_open(now) {
            return false;
        }
        let start = out.len();
        let mut resent = false;
        while out.len() == start {
            if let Some(word) = self.desk.take(now) {
                self.put_word(word, out, now, events);
            } else if self.line != Line::Open {
                return false;
            } else if let Some(number) = self.again.front().copied() {
                resent = true;
                self.put_again(number, out, now, events);
            } else if let Some(number) = self.sending {
                self.put_first(number, out, now, events);
            } else if self.may_begin() {
                self.begin(now);
            } else {
                return false;
            }
        }
        let len = out.len() - start;
        self.pacer.sent(len, now);
        self.totals.datagrams_sent += 1;
        self.totals.len_sent += (len + PACKET_OWN_LEN) as u64;
        self.totals.len_resent += if resent { (len + PACKET_OWN_LEN) as u64 } else { 0 };
        true
    }

    fn begin(&mut self, now: Instant) {
        let Some(number) = self.waiting.pop_front() else { return };
        let Some(export) = self.exports.get_mut(&number) else { return };
        self.under_way += 1;
        self.in_flight += export.len();
        export.begin(&mut self.desk, &self.measure, now);
        self.sending = (export.state == Outgoing::Sending).then_some(number);
    }

    fn put_first(&mut self, number: u64, out: &mut Vec<u8>, now: Instant, events: &mut VecDeque<Event>) {
        let export = self.exports.get_mut(&number).filter(|export| export.state == Outgoing::Sending);
        let Some(export) = export else {
            self.sending = None;
            return;
        };
        export.put_first(out, &mut self.desk, &self.measure, now);
        if export.state != Outgoing::Sending {
            self.sending = None;
            self.settle_export(number, events);
        }
    }

    fn put_again(&mut self, number: u64, out: &mut Vec<u8>, now: Instant, events: &mut VecDeque<Event>) {
        if let Some(export) = self.exports.get_mut(&number) {
            export.put_again(out, &mut self.desk, &self.measure, now);
            if export.state == Outgoing::Resending {
                return;
            }
        }
        self.again.pop_front();
        self.settle_export(number, events);
    }

    /// Appends a word, if it is still true.
    fn put_word(&mut self, word: Word, out: &mut Vec<u8>, now: Instant, events: &mut VecDeque<Event>) {
        let start = out.len();
        let asks = match word {
            Word::ReportAck { session, report } => {
                put_report_ack(out, session, report);
                false
            }
            Word::CancelAck { session, to_sender } => {
                put_cancel_ack(out, session, to_sender);
                false
            }
            Word::Cancel { session, by_sender, reason } => {
                put_cancel(out, session, by_sender, reason);
                if by_sender {
                    if let Some(export) = self.exports.get_mut(&session.number) {
                        export.cancel_leaves(&self.measure, now);
                    }
                } else if let Some(import) = self.imports.get_mut(&session.number) {
                    import.cancel_leaves(&self.measure, now);
                }
                true
            }
            Word::Checkpoint { session, checkpoint } => {
                if let Some(export) = self.exports.get_mut(&session.number) {
                    export.put_checkpoint(checkpoint, out, &self.measure, now);
                }
                true
            }
            Word::Report { session, report } => {
                match self.imports.get_mut(&session.number) {
                    Some(import) => import.put_report(report, out, &self.measure, now),
                    None => self.put_late_report(session, report, out),
                }
                true
            }
        };
        if asks && out.len() > start {
            self.unanswered_since.get_or_insert(now);
        }
        match word {
            Word::Checkpoint { session, .. } | Word::Cancel { session, by_sender: true, .. } => {
                self.settle_export(session.number, events);
            }
            Word::Report { session, .. } | Word::Cancel { session, by_sender: false, .. } => {
                self.settle_import(session.number, now, events);
            }
            Word::ReportAck { .. } | Word::CancelAck { .. } => {}
        }
    }

    /// A report about a block that came to its end here: all of it came.
    fn put_late_report(&mut self, session: SessionId, number: u64, out: &mut Vec<u8>) {
        if let Some((checkpoint, upper)) = self.ended.late_report(session.number, number) {
            let head = ReportHead { number, checkpoint, lower: 0, upper };
            put_report(out, session, head, &mut std::iter::once(0..upper).peekable(), DATAGRAM_LEN_MAX);
        }
    }

    pub fn status(&self) -> PeerStatus {
        let sending = |export: &Export| Sending {
            key: export.key,
            session: export.id,
            len: export.len(),
            acked: export.acked(),
            state: export.state,
        };
        let receiving = |import: &Import| Receiving {
            session: import.id,
            len: import.len(),
            red_len: import.traces().0,
            state: import.state,
        };
        PeerStatus {
            engine: self.config.engine,
            line: self.line,
            rate_bit_s: self.rate_bit_s,
            light: self.measure.light(),
            loss: self.measure.loss(),
            outgoing: self.exports.values().map(sending).collect(),
            incoming: self.imports.values().map(receiving).collect(),
            export_len: self.export_len,
            import_len: self.import_len,
            totals: self.totals,
        }
    }
}

/// How many round trips of bytes are under way at most.
const ROUND_TRIPS: u32 = 5;
/// And never less than this many bytes.
const WINDOW_MIN: u64 = 1 << 20;
