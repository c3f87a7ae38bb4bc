//! One block on its way in: pieces are kept, questions answered by reports, and the block is handed out once.
//!
//! A block that is whole stays until the peer has acknowledged the reports that say so, or has not for too long. Memory is the caller's to
//! grant: a piece for which there is none is as good as lost, and comes again. It must not know other blocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::{BLOCK_LEN_MAX, DATAGRAM_LEN_MAX, LTP_CHECKPOINTS_MAX, LTP_REPORTS_MAX, LTP_STRETCHES_MAX};
use lavatube_format::ltp::{Checkpoint, Data, Mark, Reason, ReportHead, SessionId, put_report};

use super::DEFER;
use super::desk::{Desk, Word};
use super::measure::Measure;
use super::ranges::Ranges;
use super::stages::{InTurn, Incoming};
use super::wait::Wait;

/// A block on its way in.
#[derive(Debug)]
pub(crate) struct Import {
    pub id: SessionId,
    pub state: Incoming,
    /// Its place among the blocks that came in, by age.
    pub age: u64,
    service: u64,
    bytes: Vec<u8>,
    held: Ranges,
    red_end: Option<u64>,
    green_start: Option<u64>,
    block_end: Option<u64>,
    /// Checkpoints to be answered: number, the report that each answers, and where it ends.
    pending: BTreeMap<u64, (u64, u64)>,
    /// When they are answered.
    due: Option<Instant>,
    /// When each was answered.
    answered: BTreeMap<u64, Instant>,
    /// The latest of all, as in `pending`.
    latest: Option<(u64, (u64, u64))>,
    reports: BTreeMap<u64, Sent>,
    /// Lower bounds of reports sent.
    lowers: BTreeMap<u64, u64>,
    next_report: u64,
    /// One past what reports that answer no report have covered.
    covered: u64,
    heard_at: Instant,
    /// The block was taken.
    taken: bool,
    /// Why it was given up, and whether that was told.
    failed: Option<Reason>,
    told: bool,
    cancel: Wait,
}

/// A report that waits for its acknowledgement.
#[derive(Debug)]
struct Sent {
    scope: Range<u64>,
    bytes: Vec<u8>,
    wait: Wait,
}

/// A block that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub service: u64,
    pub bytes: Vec<u8>,
    pub red_len: u64,
    /// All of the green part is there as well.
    pub whole: bool,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Took {
    /// It is kept, or was before.
    Kept,
    /// There was no room: as good as lost.
    NoRoom,
}

impl Import {
    /// A block of which the first piece came; `first` is the number of its first report.
    pub fn new(id: SessionId, service: u64, age: u64, first: u64, now: Instant) -> Self {
        Self {
            id,
            state: Incoming::Receiving,
            age,
            service,
            bytes: Vec::new(),
            held: Ranges::default(),
            red_end: None,
            green_start: None,
            block_end: None,
            pending: BTreeMap::new(),
            due: None,
            answered: BTreeMap::new(),
            latest: None,
            reports: BTreeMap::new(),
            lowers: BTreeMap::new(),
            next_report: first,
            covered: 0,
            heard_at: now,
            taken: false,
            failed: None,
            told: false,
            cancel: Wait::default(),
        }
    }

    /// Bytes that came in.
    pub fn len(&self) -> u64 {
        self.held.len()
    }

    /// When something of it last came in.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Length of the red part, once it is known, and the number that the next report will have.
    pub fn traces(&self) -> (Option<u64>, u64) {
        (self.red_end, self.next_report)
    }

    fn turn(&mut self, turn: InTurn) {
        self.state = self.state.next(turn);
    }

    fn is_red_whole(&self) -> bool {
        self.red_end.is_some_and(|end| self.held.contains(&(0..end)))
    }

    fn is_whole(&self) -> bool {
        self.block_end.is_some_and(|end| self.held.contains(&(0..end)))
    }

    /// A piece came in; the block may have `room` bytes of memory.
    pub fn handle_data(&mut self, data: &Data<'_>, room: usize, measure: &Measure, now: Instant) -> Took {
        self.heard_at = now;
        if !matches!(self.state, Incoming::Receiving | Incoming::Whole) {
            return Took::Kept;
        }
        let piece = data.offset..data.offset + data.bytes.len() as u64;
        if let Some(reason) = self.breach(data, &piece) {
            self.give_up(reason);
            return Took::Kept;
        }
        if self.state == Incoming::Receiving && !self.keep(data, &piece, room) {
            return Took::NoRoom;
        }
        if let Mark::RedEnd(_) | Mark::BlockEnd(_) = data.mark {
            self.red_end = Some(piece.end);
        }
        if let Mark::BlockEnd(_) | Mark::GreenEnd = data.mark {
            self.block_end = Some(piece.end);
        }
        if !data.mark.is_red() {
            self.green_start = Some(self.green_start.map_or(piece.start, |start| start.min(piece.start)));
        }
        if let Some(Checkpoint { number, report }) = data.mark.checkpoint() {
            self.asked(number, report, piece.end, measure, now);
        }
        if self.state == Incoming::Receiving && self.is_red_whole() {
            if self.due.is_none() && self.pending.is_empty() {
                // The last answer said otherwise: what came since was late, and the peer need not send it again.
                self.pending.extend(self.latest);
            }
            // Nothing more will come: nothing is gained by waiting.
            self.due = Some(now);
        }
        Took::Kept
    }

    /// The rule that a piece breaks, if it does.
    fn breach(&self, data: &Data<'_>, piece: &Range<u64>) -> Option<Reason> {
        //= rfc5326#6.21 red after green, or green before red
        let after_green = self.green_start.is_some_and(|start| piece.end > start) && data.mark.is_red();
        let before_red = self.red_end.is_some_and(|end| piece.start < end) && !data.mark.is_red();
        if after_green || before_red {
            return Some(Reason::Miscolored);
        }
        let ends_red = matches!(data.mark, Mark::RedEnd(_) | Mark::BlockEnd(_));
        let ends_block = matches!(data.mark, Mark::BlockEnd(_) | Mark::GreenEnd);
        let beyond = |end: Option<u64>| end.is_some_and(|end| piece.end > end);
        let other = |end: Option<u64>, is_end: bool| is_end && end.is_some_and(|end| piece.end != end);
        let wrong = other(self.red_end, ends_red)
            || other(self.block_end, ends_block)
            || beyond(self.block_end)
            || data.mark.is_red() && beyond(self.red_end)
            || ends_block && self.held.end() > piece.end
            || data.service != self.service
            || piece.end > BLOCK_LEN_MAX as u64;
        wrong.then_some(Reason::System)
    }

    /// Keeps a piece, if there is room.
    fn keep(&mut self, data: &Data<'_>, piece: &Range<u64>, room: usize) -> bool {
        if self.held.contains(piece) {
            return true;
        }
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let (start, end) = (index(piece.start), index(piece.end));
        let scattered = self.held.stretches() >= LTP_STRETCHES_MAX && self.held.is_apart(piece);
        if end > room.max(self.bytes.len()) || scattered {
            return false;
        }
        if start == self.bytes.len() {
            self.bytes.extend_from_slice(data.bytes);
        } else {
            if end > self.bytes.len() {
                self.bytes.resize(end, 0);
            }
            self.bytes[start..end].copy_from_slice(data.bytes);
        }
        self.held.insert(piece.clone());
        true
    }

    /// A checkpoint came: it is answered soon, not at once, for what is late is on its heels.
    fn asked(&mut self, number: u64, report: u64, end: u64, measure: &Measure, now: Instant) {
        if let Some(at) = self.answered.get(&number)
            && now.since(*at) < (measure.round_trip() / 2).max(3 * DEFER)
        {
            // A copy, or a repeat that crossed the answer.
            return;
        }
        self.latest = Some((number, (report, end)));
        self.pending.extend(self.latest);
        if self.pending.len() > LTP_CHECKPOINTS_MAX {
            self.pending.pop_first();
        }
        self.due.get_or_insert(now + DEFER);
    }

    /// Takes the block, once it is to be handed out.
    pub fn take(&mut self, measure: &Measure, now: Instant) -> Option<Block> {
        if self.taken || self.state != Incoming::Receiving {
            return None;
        }
        let red = self.is_red_whole();
        let whole = self.is_whole();
        // Green pieces are not sent again: the red part does not wait for long.
        let late = red && self.block_end != self.red_end && self.heard_at + measure.patience() <= now;
        if !whole && !late {
            return None;
        }
        let red_len = self.red_end.unwrap_or(0);
        let mut bytes = std::mem::take(&mut self.bytes);
        if !whole {
            bytes.truncate(usize::try_from(red_len).unwrap_or(usize::MAX));
        }
        self.taken = true;
        self.turn(InTurn::Whole);
        if red_len == 0 {
            // All green: nobody waits for a report.
            self.turn(InTurn::Acknowledged);
        }
        Some(Block { service: self.service, bytes, red_len, whole })
    }

    /// Whether the whole red part is here for a report, now or before it was handed out.
    fn holds(&self, range: &Range<u64>) -> Ranges {
        let mut held = Ranges::default();
        match self.taken {
            true => {
                held.insert(range.clone());
            }
            false => self.held.within(range.clone()).for_each(|stretch| {
                held.insert(stretch);
            }),
        }
        held
    }

    /// Answers what is to be answered.
    fn report(&mut self, desk: &mut Desk, measure: &mut Measure, now: Instant) {
        self.due = None;
        for (checkpoint, (report, upper)) in std::mem::take(&mut self.pending) {
            //= rfc5326#6.11 an answer to an answer begins where that began; others where the one before ended
            let lower = match self.lowers.get(&report) {
                Some(lower) => *lower,
                None if report == 0 && self.covered < upper => self.covered,
                None => 0,
            };
            let scope = lower..upper;
            if scope.start >= scope.end {
                continue;
            }
            let held = self.holds(&scope);
            if report == 0 && self.answered.is_empty() {
                let pieces = |len: u64| len as f64 / DATAGRAM_LEN_MAX as f64;
                measure.pieces(pieces(upper - lower - held.len()), pieces(upper - lower));
            }
            // What these will say includes what those said that lie within.
            self.reports.retain(|_, sent| sent.scope.start < scope.start || sent.scope.end > scope.end);
            self.write_reports(checkpoint, &scope, &held, desk, measure.copies(), now);
            if report == 0 {
                self.covered = self.covered.max(upper);
            }
            self.answered.insert(checkpoint, now);
            if self.answered.len() > LTP_CHECKPOINTS_MAX {
                self.answered.pop_first();
            }
        }
    }

    /// One report in as many segments as it takes.
    fn write_reports(
        &mut self,
        checkpoint: u64,
        scope: &Range<u64>,
        held: &Ranges,
        desk: &mut Desk,
        copies: u32,
        now: Instant,
    ) {
        let (mut lower, mut claims) = (scope.start, held.iter().peekable());
        while lower < scope.end {
            let number = self.next_report;
            self.next_report += 1;
            let mut bytes = Vec::new();
            let head = ReportHead { number, checkpoint, lower, upper: scope.end };
            let upper = put_report(&mut bytes, self.id, head, &mut claims, DATAGRAM_LEN_MAX);
            self.lowers.insert(number, lower);
            self.reports.insert(number, Sent { scope: lower..upper, bytes, wait: Wait::default() });
            if self.lowers.len() > LTP_REPORTS_MAX {
                self.lowers.pop_first();
            }
            if self.reports.len() > LTP_REPORTS_MAX {
                self.reports.pop_first();
            }
            desk.repeat(Word::Report { session: self.id, report: number }, copies, now);
            lower = upper;
        }
    }

    /// Appends a report, if it still waits for its acknowledgement.
    pub fn put_report(&mut self, number: u64, out: &mut Vec<u8>, measure: &Measure, now: Instant) {
        if let Some(sent) = self.reports.get_mut(&number) {
            sent.wait.leaves(now, measure.patience());
            out.extend_from_slice(&sent.bytes);
        }
    }

    /// The peer has a report.
    pub fn handle_report_ack(&mut self, number: u64, measure: &mut Measure, now: Instant) {
        self.heard_at = now;
        if let Some(sent) = self.reports.remove(&number)
            && let Some(took) = sent.wait.took(now)
        {
            measure.answered(took, sent.wait.repeats() > 0);
        }
        self.settle();
    }

    fn settle(&mut self) {
        if self.state == Incoming::Whole && self.reports.is_empty() && self.pending.is_empty() {
            self.turn(InTurn::Acknowledged);
        }
    }

    /// Whether an answer is awaited.
    pub fn is_asking(&self) -> bool {
        self.cancel.due().is_some() || self.reports.values().any(|sent| sent.wait.due().is_some())
    }

    /// Time has passed.
    pub fn handle_timeout(
        &mut self,
        desk: &mut Desk,
        measure: &mut Measure,
        repeats_max: u32,
        idle_max: Duration,
        now: Instant,
    ) {
        let (session, copies) = (self.id, measure.copies());
        if self.due.is_some_and(|at| at <= now) && matches!(self.state, Incoming::Receiving | Incoming::Whole) {
            self.report(desk, measure, now);
        }
        let mut tired = Vec::new();
        for (number, sent) in &mut self.reports {
            if sent.wait.is_overdue(now) {
                //= rfc5326#6.8 a report is repeated until it is acknowledged, but not for ever
                if sent.wait.repeats() > repeats_max {
                    tired.push(*number);
                }
                desk.repeat(Word::Report { session, report: *number }, copies, now);
            }
        }
        tired.iter().for_each(|number| {
            self.reports.remove(number);
        });
        self.settle();
        if self.state == Incoming::Receiving && self.heard_at + idle_max <= now {
            self.give_up(Reason::Retries);
        }
        if self.state == Incoming::GivingUp && self.cancel.is_overdue(now) {
            if self.cancel.repeats() > CANCELS_MAX {
                self.turn(InTurn::Answered);
            } else {
                let reason = self.failed.unwrap_or(Reason::Retries);
                desk.ask(Word::Cancel { session, by_sender: false, reason });
            }
        }
    }

    /// When to call [`Import::handle_timeout`] and [`Import::take`].
    pub fn timeout(&self, idle_max: Duration, measure: &Measure) -> Option<Instant> {
        let receiving = self.state == Incoming::Receiving;
        let idle = receiving.then(|| self.heard_at + idle_max);
        let green = (receiving && self.is_red_whole()).then(|| self.heard_at + measure.patience());
        let cancel = self.cancel.due().filter(|_| self.state == Incoming::GivingUp);
        let reports = self.reports.values().filter_map(|sent| sent.wait.due()).min();
        [self.due, idle, green, cancel, reports].into_iter().flatten().min()
    }

    /// It is not wanted any more; the peer is to be told.
    pub fn give_up(&mut self, reason: Reason) {
        if self.state == Incoming::Receiving {
            self.failed = Some(reason);
            (self.bytes, self.held) = (Vec::new(), Ranges::default());
            self.reports.clear();
            self.pending.clear();
            self.due = None;
        }
        self.turn(InTurn::GiveUp);
    }

    /// Why it was given up here.
    pub fn failed(&self) -> Option<Reason> {
        self.failed
    }

    /// Why it was given up here, once.
    pub fn take_failed(&mut self) -> Option<Reason> {
        self.failed.filter(|_| !std::mem::replace(&mut self.told, true))
    }

    /// The peer gave it up.
    pub fn given_up(&mut self) {
        self.turn(InTurn::GivenUp);
        self.turn(InTurn::Answered);
    }

    /// The peer knows that it was given up.
    pub fn cancel_answered(&mut self) {
        self.turn(InTurn::Answered);
    }

    /// The cancellation leaves.
    pub fn cancel_leaves(&mut self, measure: &Measure, now: Instant) {
        self.cancel.leaves(now, measure.patience());
    }

    /// The contact was closed for so long, until now.
    pub fn shift(&mut self, gap: Duration, now: Instant) {
        self.reports.values_mut().for_each(|sent| sent.wait.shift(gap));
        self.cancel.shift(gap);
        self.heard_at = (self.heard_at + gap).min(now);
    }

    /// The peer is heard again.
    pub fn hasten(&mut self, at: Instant) {
        self.reports.values_mut().for_each(|sent| sent.wait.hasten(at));
        self.cancel.hasten(at);
    }
}

/// Cancellations that are said without an answer.
const CANCELS_MAX: u32 = 8;
