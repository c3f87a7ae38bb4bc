//! One peer: when it may be sent something, and what goes first.
//!
//! First what is said before any data, then what is missing of blocks, then what was never sent; so the oldest blocks are whole first
//! and memory is free again. It must not know which other peers there are, nor what time it is.

use std::collections::{BTreeMap, VecDeque};

use lavatube_base::Instant;
use lavatube_base::limits::DATAGRAM_LEN_MAX;
use lavatube_format::ltp::{ReportHead, SessionId, put_cancel, put_cancel_ack, put_report, put_report_ack};

use super::alarms::{Alarms, Who};
use super::config::PeerConfig;
use super::desk::{Desk, Word};
use super::ended::Ended;
use super::engine::Event;
use super::export::Export;
use super::import::Import;
use super::measure::Measure;
use super::stages::Outgoing;
use super::status::{Load, PeerStatus, Receiving, Sending, Totals};
use crate::line::{Line, Turn};
use crate::pacer::{PACKET_OWN_LEN, Pacer, cost};

mod blocks;

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
    /// When one last looked whether a block that comes in is to give way.
    gave_way_at: Option<Instant>,
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
            gave_way_at: None,
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
        if self.is_speechless() {
            self.probe(now);
        }
    }

    /// Whether nobody is heard and nobody asks, although there is something to be sent: that would last for ever.
    fn is_speechless(&self) -> bool {
        self.line == Line::Silent
            && !self.exports.is_empty()
            && self.desk.is_empty()
            && !self.exports.values().any(Export::is_asking)
            && !self.imports.values().any(Import::is_asking)
    }

    fn probe(&mut self, now: Instant) {
        let red = |export: &&mut Export| export.is_red() && export.state != Outgoing::Waiting;
        if let Some(export) = self.exports.values_mut().find(red) {
            export.probe(&mut self.desk, &self.measure, now);
        } else if !self.waiting.is_empty() {
            self.begin(now);
        }
        if self.is_speechless() {
            // Only green blocks: nobody will ever answer.
            self.line = self.line.next(Turn::Answered);
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
        let probe = self.is_speechless().then_some(now);
        [silent, self.alarms.first(), self.desk.timeout(), send, probe].into_iter().flatten().min()
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

    pub fn load(&self) -> Load {
        Load { waiting_len: self.export_len - self.in_flight, len_sent: self.totals.len_sent }
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
