//! The blocks of one peer, out and in: taken, told of, forgotten; and how many bytes they are.
//!
//! It exists beside `peer.rs`, which says when something is sent, because this says what becomes of it. It must not know pacers
//! and contacts.

use std::collections::VecDeque;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::{BLOCK_LEN_MAX, LTP_SESSIONS_MAX};
use lavatube_format::ltp::{Data, Reason, Report, SessionId};

use super::Peer;
use crate::ltp::alarms::Who;
use crate::ltp::desk::Word;
use crate::ltp::ended::{End, Late};
use crate::ltp::engine::{Block, Event, SendError};
use crate::ltp::export::Export;
use crate::ltp::import::{Import, Took};
use crate::ltp::stages::{Incoming, Outgoing};

impl Peer {
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

    /// The peer asks about a block that an earlier life of ours began.
    pub fn disown(&mut self, session: SessionId) {
        self.desk.say(Word::Cancel { session, by_sender: true, reason: Reason::System });
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
    pub(super) fn settle_export(&mut self, number: u64, events: &mut VecDeque<Event>) {
        let Some(export) = self.exports.get_mut(&number) else { return };
        let (peer, key, len, state) = (self.config.engine, export.key, export.len(), export.state);
        let failed = export.take_failed();
        let ended = failed.is_some() || state == Outgoing::Done && !export.is_failed();
        if let Some(reason) = failed {
            if state == Outgoing::GivingUp {
                self.desk.ask(Word::Cancel { session: export.id, by_sender: true, reason });
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

    pub fn set_import_len_max(&mut self, len: usize) {
        self.config.import_len_max = len;
    }

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
        if !self.imports.contains_key(&number) {
            if self.is_full() {
                self.give_way(now, events);
            }
            if !self.begin_import(session, data, wanted, first_report, now) {
                return;
            }
        }
        let Some(import) = self.imports.get_mut(&number) else { return };
        let (before, len) = (import.memory(), import.len());
        // The oldest block may always grow, or none might ever become whole.
        let oldest = self.ages.first_key_value().is_some_and(|(_, oldest)| *oldest == number);
        let left = self.config.import_len_max.saturating_sub(self.import_len);
        let room = if oldest { BLOCK_LEN_MAX } else { before + left };
        let took = import.handle_data(data, room, &self.measure, now);
        match took {
            Took::NoRoom => self.totals.no_room += 1,
            Took::Kept if import.len() == len => self.totals.needless += 1,
            Took::Kept => {}
        }
        self.import_len = self.import_len + import.memory() - before;
        self.settle_import(number, now, events);
        if took == Took::NoRoom {
            self.give_way(now, events);
        }
    }

    /// Gives up the block that was quiet for longest, if that is long: its sender is no more, or sends it again. Without that, what
    /// engines left that were killed would hold the memory until it is idle.
    fn give_way(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        if self.gave_way_at.is_some_and(|at| now.since(at) < GIVE_WAY_EVERY) {
            return;
        }
        self.gave_way_at = Some(now);
        let quiet = QUIET + 4 * self.measure.patience();
        let receiving = self.imports.iter_mut().filter(|(_, import)| import.state == Incoming::Receiving);
        let Some((number, import)) = receiving.min_by_key(|(_, import)| import.heard_at()) else { return };
        if import.heard_at() + quiet > now {
            return;
        }
        let (number, before) = (*number, import.memory());
        import.give_up(Reason::System);
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
        if self.is_full() {
            self.totals.no_room += 1;
            return false;
        }
        let age = self.next_age;
        self.next_age += 1;
        self.ages.insert(age, session.number);
        self.imports.insert(session.number, Import::new(session, data.service, age, first, now));
        true
    }

    fn is_full(&self) -> bool {
        let no_memory = self.import_len >= self.config.import_len_max && !self.imports.is_empty();
        no_memory || self.imports.len() >= LTP_SESSIONS_MAX
    }

    fn give_up_unseen(&mut self, session: SessionId, reason: Reason, now: Instant) {
        self.totals.blocks_failed += 1;
        self.ended.insert(session.number, End::GivenUp(reason), now);
        self.desk.say(Word::Cancel { session, by_sender: false, reason });
    }

    /// Hands a block out, tells of its end, and when it wants to be called.
    pub(super) fn settle_import(&mut self, number: u64, now: Instant, events: &mut VecDeque<Event>) {
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
            self.desk.ask(Word::Cancel { session: import.id, by_sender: false, reason });
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
}

/// A block of which nothing came for so long, and four times as long as an answer takes, gives way where memory is short,
const QUIET: Duration = Duration::from_secs(300);
/// and one looks for that so often.
const GIVE_WAY_EVERY: Duration = Duration::from_millis(100);
