//! One block on its way out: sent once, then what is missing by the reports, until all of it is there.
//!
//! The last piece of the block and of each round is a checkpoint of a few bytes, so that copies of it cost nothing. It
//! must not know other blocks, nor when it may send.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::{
    DATAGRAM_LEN_MAX, LTP_CHECKPOINTS_MAX, LTP_REPORTS_MAX, LTP_ROUNDS_MAX, LTP_STRETCHES_MAX,
};
use lavatube_format::ltp::{Checkpoint, Data, Mark, Reason, Report, SessionId, put_data, room_for_data};

use super::DEFER;
use super::desk::{Desk, Word};
use super::measure::Measure;
use super::ranges::Ranges;
use super::stages::{OutTurn, Outgoing};
use super::wait::Wait;

/// A block on its way out.
#[derive(Debug)]
pub(crate) struct Export {
    pub id: SessionId,
    /// The caller's name for it.
    pub key: u64,
    pub state: Outgoing,
    /// Why it was given up, and whether that was told.
    failed: Option<Reason>,
    told: bool,
    service: u64,
    red: bool,
    bytes: Vec<u8>,
    len: u64,
    /// Everything below was sent once.
    next: u64,
    acked: Ranges,
    /// Checkpoints without an answer.
    asked: BTreeMap<u64, Asked>,
    next_checkpoint: u64,
    /// Missing by the reports and not sent since.
    wanted: Ranges,
    wanted_at: Option<Instant>,
    /// The report to be answered: lower bound and number of the lowest that says what is wanted, and of the lowest there was.
    answers: Option<(u64, u64)>,
    lowest: Option<(u64, u64)>,
    round: Option<Round>,
    seen: BTreeSet<u64>,
    /// Reports in a row that said nothing new.
    barren: u32,
    /// Nothing is sent, asked or wanted, and still it is not whole: ask once more then.
    stalled_at: Option<Instant>,
    cancel: Wait,
}

/// A checkpoint without an answer.
#[derive(Debug)]
struct Asked {
    piece: Range<u64>,
    report: u64,
    /// What was sent before it since the report it answers: on its way.
    round: Ranges,
    wait: Wait,
}

/// What is being sent again.
#[derive(Debug)]
struct Round {
    pieces: Vec<Range<u64>>,
    at: usize,
    laps: u32,
    checkpoint: u64,
}

impl Export {
    /// A block that waits; `first` is the number of its first checkpoint.
    pub fn new(id: SessionId, key: u64, service: u64, red: bool, bytes: Vec<u8>, first: u64) -> Self {
        Self {
            id,
            key,
            state: Outgoing::Waiting,
            failed: None,
            told: false,
            service,
            red,
            len: bytes.len() as u64,
            bytes,
            next: 0,
            acked: Ranges::default(),
            asked: BTreeMap::new(),
            next_checkpoint: first,
            wanted: Ranges::default(),
            wanted_at: None,
            answers: None,
            lowest: None,
            round: None,
            seen: BTreeSet::new(),
            barren: 0,
            stalled_at: None,
            cancel: Wait::default(),
        }
    }

    /// Bytes of the block.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is sent until it arrives.
    pub fn is_red(&self) -> bool {
        self.red
    }

    /// Bytes that the peer says it holds.
    pub fn acked(&self) -> u64 {
        self.acked.len()
    }

    fn turn(&mut self, turn: OutTurn) {
        self.state = self.state.next(turn);
    }

    /// The first piece is to be sent.
    pub fn begin(&mut self, desk: &mut Desk, measure: &Measure, now: Instant) {
        self.turn(OutTurn::Begin);
        self.ask_at_the_end(desk, measure, now);
    }

    /// Appends the next piece that was never sent.
    pub fn put_first(&mut self, out: &mut Vec<u8>, desk: &mut Desk, measure: &Measure, now: Instant) {
        let plain = if self.red { Mark::Red } else { Mark::Green };
        let stop = if self.red { tail(&(0..self.len())).start } else { self.len() };
        let piece = self.next..self.piece_end(self.next, stop, plain);
        let mark = if !self.red && piece.end == self.len() { Mark::GreenEnd } else { plain };
        self.put(out, &piece, mark);
        self.next = piece.end;
        self.ask_at_the_end(desk, measure, now);
    }

    /// Once only the last few bytes are left, they are asked with.
    fn ask_at_the_end(&mut self, desk: &mut Desk, measure: &Measure, now: Instant) {
        let whole = 0..self.len();
        if !self.red {
            if self.next == whole.end {
                self.turn(OutTurn::Whole);
            }
        } else if self.next == tail(&whole).start {
            self.next = whole.end;
            let mut round = Ranges::default();
            round.insert(whole.clone());
            let checkpoint = self.ask(tail(&whole), 0, round);
            desk.repeat(Word::Checkpoint { session: self.id, checkpoint }, measure.copies(), now);
            self.turn(OutTurn::Sent);
        }
    }

    /// A checkpoint that is to be sent.
    fn ask(&mut self, piece: Range<u64>, report: u64, round: Ranges) -> u64 {
        let number = self.next_checkpoint;
        self.next_checkpoint += 1;
        self.asked.insert(number, Asked { piece, report, round, wait: Wait::default() });
        if self.asked.len() > LTP_CHECKPOINTS_MAX {
            self.asked.pop_first();
        }
        number
    }

    /// Appends a checkpoint, if its answer is still awaited.
    pub fn put_checkpoint(&mut self, number: u64, out: &mut Vec<u8>, measure: &Measure, now: Instant) {
        let Some(asked) = self.asked.get_mut(&number) else { return };
        asked.wait.leaves(now, measure.patience());
        let (piece, checkpoint) = (asked.piece.clone(), Checkpoint { number, report: asked.report });
        let end = piece.end == self.len();
        self.put(out, &piece, if end { Mark::BlockEnd(checkpoint) } else { Mark::Checkpoint(checkpoint) });
    }

    /// Appends the next piece that is to be sent again, if there is one.
    pub fn put_again(&mut self, out: &mut Vec<u8>, desk: &mut Desk, measure: &Measure, now: Instant) {
        let start = out.len();
        while let Some(round) = &mut self.round
            && out.len() == start
        {
            if round.at == round.pieces.len() {
                round.laps -= 1;
                round.at = 0;
                if round.laps == 0 || round.pieces.is_empty() {
                    let word = Word::Checkpoint { session: self.id, checkpoint: round.checkpoint };
                    desk.repeat(word, measure.copies(), now);
                    self.round = None;
                    self.turn(OutTurn::Sent);
                    self.settle(measure, now);
                }
                continue;
            }
            let piece = round.pieces[round.at].clone();
            round.at += 1;
            if !self.acked.contains(&piece) {
                self.put(out, &piece, Mark::Red);
            }
        }
    }

    fn put(&self, out: &mut Vec<u8>, piece: &Range<u64>, mark: Mark) {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(index(piece.start)..index(piece.end)).unwrap_or_default();
        put_data(out, self.id, &Data { mark, service: self.service, offset: piece.start, bytes });
    }

    /// Where the piece ends that begins at `start` and fills a datagram.
    fn piece_end(&self, start: u64, stop: u64, mark: Mark) -> u64 {
        stop.min(start + room_for_data(DATAGRAM_LEN_MAX, self.id, mark, self.service, start) as u64)
    }

    /// A report came in. Whether it may be one about this block.
    pub fn handle_report(&mut self, report: &Report<'_>, measure: &mut Measure, now: Instant) -> bool {
        if report.upper > self.next || !self.red {
            return false;
        }
        let listens = matches!(self.state, Outgoing::Sending | Outgoing::Asking | Outgoing::Resending);
        if !listens || !self.seen.insert(report.number) {
            return true;
        }
        if self.seen.len() > LTP_REPORTS_MAX {
            self.seen.pop_first();
        }
        let first = self.lowest.is_none();
        let before = self.acked.len();
        for claim in report.claims() {
            // What is claimed in crumbs is sent once more, rather than remembered.
            if self.acked.stretches() < LTP_STRETCHES_MAX || !self.acked.is_apart(&claim) {
                self.acked.insert(claim);
            }
        }
        self.barren = if self.acked.len() > before { 0 } else { self.barren + 1 };
        let this = (report.lower, report.number);
        self.lowest = Some(self.lowest.map_or(this, |lowest| lowest.min(this)));
        if let Some(asked) = self.asked.get(&report.checkpoint)
            && let Some(took) = asked.wait.took(now)
        {
            measure.answered(took, asked.wait.repeats() > 0);
        }
        if first {
            let pieces = |len: u64| len as f64 / DATAGRAM_LEN_MAX as f64;
            let missing: u64 = self.acked.gaps(report.lower..report.upper).map(|gap| gap.end - gap.start).sum();
            measure.pieces(pieces(missing), pieces(report.upper - report.lower));
        }
        self.note_missing(report, now);
        // What this report speaks of need not be reported once more: nor what was asked before about a part of it.
        let scope = report.lower..report.upper;
        let answered = |number: u64, asked: &Asked| {
            number == report.checkpoint
                || number < report.checkpoint
                    && asked.round.iter().all(|r| scope.start <= r.start && r.end <= scope.end)
        };
        self.asked.retain(|number, asked| !answered(*number, asked));
        if self.acked.contains(&(0..self.len())) {
            self.turn(OutTurn::Whole);
        } else if self.barren > LTP_ROUNDS_MAX {
            self.give_up(Reason::Rounds);
        }
        self.settle(measure, now);
        true
    }

    /// What is missing by a report is wanted, but for what was sent after the question that it answers.
    fn note_missing(&mut self, report: &Report<'_>, now: Instant) {
        //= rfc5326#6.13 what the report's scope has and its claims do not is sent again
        let mut missing = Ranges::default();
        self.acked.gaps(report.lower..report.upper).for_each(|gap| {
            missing.insert(gap);
        });
        for asked in self.asked.range(report.checkpoint.saturating_add(1)..).map(|(_, asked)| asked) {
            asked.round.iter().for_each(|sent| missing.remove(sent));
        }
        if missing.is_empty() {
            return;
        }
        missing.iter().for_each(|gap| {
            self.wanted.insert(gap);
        });
        // Others of the same answer follow on its heels: they are one round.
        self.wanted_at.get_or_insert(now + DEFER);
        let this = (report.lower, report.number);
        self.answers = Some(self.answers.map_or(this, |answers| answers.min(this)));
    }

    /// Begins to send again what is wanted. `idle_slot`: how long a datagram takes, on a link that has nothing new to send.
    fn start_round(&mut self, measure: &Measure, idle_slot: Option<Duration>) {
        let (mut todo, answers) = (std::mem::take(&mut self.wanted), self.answers.take());
        self.wanted_at = None;
        self.acked.iter().for_each(|held| todo.remove(held));
        let Some(last) = todo.iter().next_back() else { return };
        let (piece, mut pieces) = (tail(&last), Vec::new());
        for range in todo.iter() {
            let stop = range.end.min(piece.start);
            let mut at = range.start;
            while at < stop {
                let end = self.piece_end(at, stop, Mark::Red);
                pieces.push(at..end);
                at = end;
            }
        }
        let laps = idle_slot.map_or(1, |slot| measure.laps(pieces.len(), slot));
        let checkpoint = self.ask(piece, answers.map_or(0, |(_, number)| number), todo);
        self.round = Some(Round { pieces, at: 0, laps, checkpoint });
        self.turn(OutTurn::Missing);
    }

    /// If nobody will do anything about it any more although it is not whole, ask again after a while.
    ///
    /// A report may come in several segments, and the first of them ends the wait for all: should the others be given up by a peer that
    /// counts its repeats, RFC 5326 has nobody who asks again.
    fn settle(&mut self, measure: &Measure, now: Instant) {
        let quiet = self.asked.is_empty() && self.wanted_at.is_none() && self.round.is_none();
        self.stalled_at = match self.state {
            Outgoing::Asking if quiet => Some(self.stalled_at.unwrap_or(now + measure.patience())),
            _ => None,
        };
    }

    /// Whether an answer is awaited.
    pub fn is_asking(&self) -> bool {
        self.cancel.due().is_some() || self.asked.values().any(|asked| asked.wait.due().is_some())
    }

    /// Asks about what was sent so far, if only to hear something.
    pub fn probe(&mut self, desk: &mut Desk, measure: &Measure, now: Instant) {
        if self.red && matches!(self.state, Outgoing::Sending | Outgoing::Asking | Outgoing::Resending) {
            self.next = self.next.max(TAIL.min(self.len));
            let report = self.lowest.map_or(0, |(_, number)| number);
            let checkpoint = self.ask(tail(&(0..self.next)), report, Ranges::default());
            desk.repeat(Word::Checkpoint { session: self.id, checkpoint }, measure.copies(), now);
        }
    }

    /// Time has passed. Whether there is now something to be sent again.
    pub fn handle_timeout(
        &mut self,
        desk: &mut Desk,
        measure: &Measure,
        repeats_max: u32,
        idle_slot: Option<Duration>,
        now: Instant,
    ) -> bool {
        let (session, copies) = (self.id, measure.copies());
        if self.state == Outgoing::GivingUp && self.cancel.is_overdue(now) {
            if self.cancel.repeats() > CANCELS_MAX {
                self.turn(OutTurn::Answered);
            } else {
                let reason = self.failed.unwrap_or(Reason::Retries);
                desk.ask(Word::Cancel { session, by_sender: true, reason });
            }
        }
        let mut given_up = false;
        for (number, asked) in &mut self.asked {
            if asked.wait.is_overdue(now) {
                given_up |= asked.wait.repeats() > repeats_max;
                desk.repeat(Word::Checkpoint { session, checkpoint: *number }, copies, now);
            }
        }
        if given_up {
            //= rfc5326#6.7 a checkpoint that was repeated too often ends the session
            self.give_up(Reason::Retries);
        }
        if self.state == Outgoing::Asking && self.stalled_at.is_some_and(|at| at <= now) {
            self.probe(desk, measure, now);
            self.stalled_at = None;
        }
        if self.state == Outgoing::Asking && self.wanted_at.is_some_and(|at| at <= now) {
            self.start_round(measure, idle_slot);
            self.settle(measure, now);
        }
        self.state == Outgoing::Resending
    }

    /// When to call [`Export::handle_timeout`].
    pub fn timeout(&self) -> Option<Instant> {
        let wanted = self.wanted_at.filter(|_| self.state == Outgoing::Asking);
        let cancel = self.cancel.due().filter(|_| self.state == Outgoing::GivingUp);
        let asked = self.asked.values().filter_map(|asked| asked.wait.due()).min();
        [wanted, cancel, asked, self.stalled_at].into_iter().flatten().min()
    }

    /// Why it was given up, once.
    pub fn take_failed(&mut self) -> Option<Reason> {
        self.failed.filter(|_| !std::mem::replace(&mut self.told, true))
    }

    /// Whether it was given up.
    pub fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// It is not to be sent any more; the peer is to be told.
    pub fn give_up(&mut self, reason: Reason) {
        self.turn(OutTurn::GiveUp);
        self.end(reason);
    }

    /// The peer does not want it.
    pub fn given_up(&mut self, reason: Reason) {
        let waited = self.state != Outgoing::GivingUp;
        self.turn(OutTurn::GivenUp);
        if waited {
            self.end(reason);
        }
    }

    fn end(&mut self, reason: Reason) {
        self.failed.get_or_insert(reason);
        (self.bytes, self.round, self.wanted_at, self.stalled_at) = (Vec::new(), None, None, None);
        self.asked.clear();
    }

    /// The peer knows that it was given up.
    pub fn cancel_answered(&mut self) {
        self.turn(OutTurn::Answered);
    }

    /// The cancellation leaves.
    pub fn cancel_leaves(&mut self, measure: &Measure, now: Instant) {
        self.cancel.leaves(now, measure.patience());
    }

    /// The contact was closed for so long.
    pub fn shift(&mut self, gap: Duration) {
        self.asked.values_mut().for_each(|asked| asked.wait.shift(gap));
        self.cancel.shift(gap);
        self.stalled_at = self.stalled_at.map(|at| at + gap);
    }

    /// The peer is heard again.
    pub fn hasten(&mut self, at: Instant) {
        self.asked.values_mut().for_each(|asked| asked.wait.hasten(at));
        self.cancel.hasten(at);
    }
}

/// The last few bytes of a stretch, or all of a short one.
fn tail(range: &Range<u64>) -> Range<u64> {
    let len = range.end - range.start;
    if len <= SHORT { range.clone() } else { range.end - TAIL..range.end }
}

/// Bytes of a checkpoint's piece.
const TAIL: u64 = 16;
/// A stretch of no more than this is one piece.
const SHORT: u64 = 256;
/// Cancellations that are said without an answer.
const CANCELS_MAX: u32 = 8;
