//! The receiving half: symbols into the store, blocks out of it, and reports of what is missing.
//!
//! ```text
//!               enough               whole             accepted
//!   Gathering ----------> Rebuilding --------> Whole -----------> (kept)
//!     ^   ^ |                | |                 |     refused
//!     |   | | no room        | |                 +--------------> (refused)
//!     |   +-|----------------+ | no room         |
//!     |     |   damaged        |                 |
//!     |     v                  |                 | no room
//!     +--- Waiting <-----------+-----------------+
//!   later
//! ```
//!
//! A report says one number per block, and each report says all that is new, so a lost one costs nothing. It must not know
//! what a block is for, nor files: symbols are kept behind [`SymbolStore`]. Steps 11 and 12 of the walk.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lavatube_base::limits::{
    INCOMING_MAX, KEPT_MAX, REBUILT_BLOCKS_MAX, REBUILT_LEN_MAX, REPORT_ENTRIES_MAX, TRANSFERS_MAX,
};
use lavatube_base::{BlockId, Instant, Latest};
use lavatube_format::btpu::{Announce, ENTRY_LEN, Entry, REPORT_LEN, Standing, Symbol, Tally, put_report};

use crate::Event;
use crate::code::Shape;
use crate::early::Early;
use crate::job::Job;
use crate::pacer;
use crate::store::{StoreError, SymbolStore};

/// Where a block is on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Symbols are missing.
    Gathering,
    /// There are enough symbols: a job makes the block of them, when there is room for it.
    Rebuilding,
    /// The caller has it and will say whether it is stored.
    Whole,
    /// The caller, or the store, had no room; once more at this time.
    Waiting(Instant),
}

/// What may happen to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    /// As many symbols as are needed are held.
    Enough,
    /// It was rebuilt, and its id is right.
    Whole,
    /// It was rebuilt, and its id is wrong.
    Damaged,
    /// The caller or the store has no room before this time.
    NoRoom(Instant),
    /// It is tried once more, with what the store holds.
    Later,
}

impl State {
    /// The one transition table; what it does not name changes nothing.
    fn next(self, happening: Happening) -> Self {
        match (self, happening) {
            (Self::Gathering, Happening::Enough) => Self::Rebuilding,
            (Self::Rebuilding, Happening::Whole) => Self::Whole,
            (_, Happening::NoRoom(until)) => Self::Waiting(until),
            (Self::Rebuilding, Happening::Damaged) | (Self::Waiting(_), Happening::Later) => Self::Gathering,
            (state, _) => state,
        }
    }
}

/// A block on its way in.
#[derive(Debug)]
pub struct Incoming {
    pub id: BlockId,
    pub shape: Shape,
    pub priority: u8,
    pub state: State,
    /// A job has its symbols.
    in_work: bool,
    /// Of a block of one symbol, that one: it never sees the store.
    single: Option<(u32, Vec<u8>)>,
    held: Vec<u64>,
    pub count: usize,
    next: u32,
    touched: u64,
}

/// A transfer number of the peer: which block, when there was news of it, and how often that was told.
#[derive(Debug)]
struct Heard {
    block: Option<BlockId>,
    touched: u64,
    told: u8,
}

/// Blocks on their way in.
pub struct Receiver<S> {
    store: S,
    incoming: BTreeMap<BlockId, Incoming>,
    transfers: BTreeMap<u32, Heard>,
    early: Early,
    /// Blocks to be rebuilt, in order.
    rebuild: VecDeque<BlockId>,
    kept: Latest<BlockId, ()>,
    refused: Latest<BlockId, ()>,
    /// Counts news, so that the newest is told first.
    news: u64,
    horizon: Option<(u64, Instant)>,
    received: u32,
    report_due: Option<Instant>,
    last_report: Option<(Instant, usize)>,
    pub symbols_received: u64,
    pub symbols_repeated: u64,
    pub damaged: u64,
}

impl<S: SymbolStore> Receiver<S> {
    /// With what the store holds from before.
    pub fn new(store: S) -> Self {
        Self {
            store,
            incoming: BTreeMap::new(),
            transfers: BTreeMap::new(),
            early: Early::default(),
            rebuild: VecDeque::new(),
            kept: Latest::new(KEPT_MAX),
            refused: Latest::new(KEPT_MAX),
            news: 0,
            horizon: None,
            received: 0,
            report_due: None,
            last_report: None,
            symbols_received: 0,
            symbols_repeated: 0,
            damaged: 0,
        }
    }

    /// A datagram that is the peer's and new came in.
    pub fn handle_counter(&mut self, counter: u64, now: Instant) {
        self.received = self.received.wrapping_add(1);
        if self.horizon.is_none_or(|(horizon, _)| counter > horizon) {
            self.horizon = Some((counter, now));
        }
    }

    /// What a transfer carries.
    pub fn handle_announce(&mut self, announce: &Announce, now: Instant) {
        let shape = Shape::of(announce.block_len).filter(|s| s.symbol_len() == usize::from(announce.symbol_len));
        let Some(shape) = shape else { return };
        self.touch(announce.transfer, Some(announce.block), now);
        if self.kept.contains(&announce.block) || self.refused.contains(&announce.block) {
            return self.early.take(announce.transfer, |_| self.symbols_repeated += 1);
        }
        // The same id with another length is somebody's mistake; the first one stands.
        if !self.incoming.contains_key(&announce.block) {
            self.begin(announce, shape, now);
            self.complete(announce.block);
        }
        let mut early = std::mem::take(&mut self.early);
        early.take(announce.transfer, |symbol| self.put_symbol(announce.block, symbol, now));
        self.early = early;
    }

    fn begin(&mut self, announce: &Announce, shape: Shape, now: Instant) {
        if self.incoming.len() >= INCOMING_MAX {
            // The one without news for longest is forgotten here; the store keeps its symbols.
            let oldest = self.incoming.values().min_by_key(|block| block.touched).map(|block| block.id);
            oldest.and_then(|id| self.incoming.remove(&id));
        }
        let id = announce.block;
        let mut block = Incoming {
            id,
            shape,
            priority: announce.priority,
            state: State::Gathering,
            in_work: false,
            single: None,
            held: vec![0; shape.symbols().div_ceil(64)],
            count: 0,
            next: 0,
            touched: self.news,
        };
        block.load(&mut self.store, now);
        self.incoming.insert(id, block);
    }

    /// A piece of a block.
    pub fn handle_symbol(&mut self, symbol: &Symbol<'_>, now: Instant) {
        self.symbols_received += 1;
        match self.touch(symbol.transfer, None, now) {
            Some(id) => self.put_symbol(id, symbol, now),
            None => self.early.keep(symbol),
        }
    }

    fn put_symbol(&mut self, id: BlockId, symbol: &Symbol<'_>, now: Instant) {
        let Some(block) = self.incoming.get_mut(&id).filter(|block| block.state == State::Gathering) else {
            self.symbols_repeated += 1;
            return;
        };
        block.touched = self.news;
        let source = usize::try_from(symbol.number).is_ok_and(|number| number < block.shape.k());
        if symbol.bytes.len() != block.shape.symbol_len() || source == symbol.repair {
            return;
        }
        match block.take(symbol.number) {
            None => {}
            Some(false) => self.symbols_repeated += 1,
            Some(true) if block.shape.k() == 1 => {
                block.single = Some((symbol.number, symbol.bytes.to_vec()));
                self.complete(id);
            }
            Some(true) => match self.store.put(id, symbol.number, symbol.bytes) {
                Ok(()) => self.complete(id),
                Err(_) => self.wait(id, now),
            },
        }
    }

    /// The peer gave a transfer up.
    pub fn handle_cancel(&mut self, transfer: u32) {
        self.early.take(transfer, |_| {});
        let block = self.transfers.remove(&transfer).and_then(|heard| heard.block);
        if let Some(id) = block.filter(|id| self.incoming.get(id).is_some_and(|block| block.state != State::Whole)) {
            self.forget(id);
        }
    }

    /// The peer asks.
    pub fn handle_probe(&mut self, transfers: impl Iterator<Item = u32>, now: Instant) {
        for transfer in transfers {
            self.touch(transfer, None, now);
        }
        self.report_due = Some(now);
    }

    /// What waited is tried again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |block: &&Incoming| matches!(block.state, State::Waiting(at) if at <= now);
        let due: Vec<BlockId> = self.incoming.values().filter(due).map(|block| block.id).collect();
        for id in due {
            let Some(block) = self.incoming.get_mut(&id) else { continue };
            block.load(&mut self.store, now);
            self.complete(id);
            self.news_of(id, now, false);
        }
    }

    /// The block is stored there for good: this is what the peer waits for. Also for blocks stored in an earlier life.
    pub fn accepted(&mut self, id: BlockId, now: Instant) {
        self.forget(id);
        self.kept.insert(id, ());
        self.news_of(id, now, true);
    }

    /// The block is not wanted.
    pub fn refused(&mut self, id: BlockId, now: Instant) {
        self.forget(id);
        self.refused.insert(id, ());
        self.news_of(id, now, true);
    }

    /// There is no room for the block now.
    pub fn busy(&mut self, id: BlockId, now: Instant) {
        self.wait(id, now);
        self.news_of(id, now, true);
    }

    fn wait(&mut self, id: BlockId, now: Instant) {
        if let Some(block) = self.incoming.get_mut(&id) {
            block.state = block.state.next(Happening::NoRoom(now + LATER));
        }
    }

    fn forget(&mut self, id: BlockId) {
        if self.incoming.remove(&id).is_none_or(|block| block.shape.k() > 1) {
            self.store.remove(id);
        }
    }

    /// A block that has enough symbols is to be rebuilt.
    fn complete(&mut self, id: BlockId) {
        let Some(block) = self.incoming.get_mut(&id) else { return };
        if block.state == State::Gathering && block.count >= block.shape.k() {
            block.state = block.state.next(Happening::Enough);
            self.rebuild.push_back(id);
        }
    }

    /// The next block to be rebuilt, when memory allows: those that the caller has not answered count.
    pub fn poll_job(&mut self, now: Instant) -> Option<Job> {
        while let Some(id) = self.rebuild.front().copied() {
            let Some(block) = self.incoming.get_mut(&id).filter(|block| block.state == State::Rebuilding) else {
                self.rebuild.pop_front();
                continue;
            };
            if let Some((number, symbol)) = block.single.take() {
                self.rebuild.pop_front();
                let symbols = move |show: &mut dyn FnMut(u32, &[u8])| {
                    show(number, &symbol);
                    Ok(())
                };
                return Some(Job::rebuild(id, block.shape, Box::new(symbols)));
            }
            let (shape, len) = (block.shape, block.shape.block_len());
            let in_hand = self.incoming.values().filter(|block| block.state == State::Whole || block.in_work);
            let (blocks, sum) = in_hand.fold((0, 0), |(n, len), block| (n + 1, len + block.shape.block_len()));
            if blocks >= REBUILT_BLOCKS_MAX && sum + len > REBUILT_LEN_MAX {
                return None;
            }
            self.rebuild.pop_front();
            match self.store.symbols(id) {
                Ok(symbols) => {
                    if let Some(block) = self.incoming.get_mut(&id) {
                        block.in_work = true;
                    }
                    return Some(Job::rebuild(id, shape, symbols));
                }
                Err(_) => self.wait(id, now),
            }
        }
        None
    }

    /// A block was rebuilt: it is handed out if it is the one that was announced.
    pub fn rebuilt(
        &mut self,
        id: BlockId,
        bytes: Result<Option<Vec<u8>>, StoreError>,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) {
        let Some(block) = self.incoming.get_mut(&id) else { return };
        block.in_work = false;
        if block.state != State::Rebuilding {
            return;
        }
        match bytes {
            Ok(Some(bytes)) => {
                block.state = block.state.next(Happening::Whole);
                events.push_back(Event::Received { id, priority: block.priority, bytes });
            }
            Ok(None) => {
                // Each symbol was the peer's word, so the store or the peer is wrong: nothing of it is to be trusted.
                block.state = block.state.next(Happening::Damaged);
                self.damaged += 1;
                self.store.remove(id);
                block.load(&mut self.store, now);
                self.news_of(id, now, false);
            }
            Err(_) => self.wait(id, now),
        }
    }

    /// Notes news of a transfer and says which block it is.
    fn touch(&mut self, transfer: u32, block: Option<BlockId>, now: Instant) -> Option<BlockId> {
        self.news += 1;
        if !self.transfers.contains_key(&transfer) && self.transfers.len() >= TRANSFERS_MAX {
            let oldest = self.transfers.iter().min_by_key(|(_, heard)| heard.touched).map(|(transfer, _)| *transfer);
            oldest.and_then(|transfer| self.transfers.remove(&transfer));
        }
        let heard = self.transfers.entry(transfer).or_insert(Heard { block: None, touched: 0, told: 0 });
        heard.block = block.or(heard.block);
        (heard.touched, heard.told) = (self.news, 0);
        let block = heard.block.filter(|id| {
            let known = |id| self.incoming.contains_key(id) || self.kept.contains(id) || self.refused.contains(id);
            // Forgotten for others: it must be announced again.
            known(id) || block.is_some()
        });
        heard.block = block;
        if self.report_due.is_none() {
            self.report_due = Some(self.earliest_report(now, 1));
        }
        block
    }

    /// News that the caller made.
    fn news_of(&mut self, id: BlockId, now: Instant, soon: bool) {
        self.news += 1;
        for heard in self.transfers.values_mut().filter(|heard| heard.block == Some(id)) {
            (heard.touched, heard.told) = (self.news, 0);
        }
        let at = self.earliest_report(now, if soon { 4 } else { 1 });
        self.report_due = Some(self.report_due.map_or(at, |due| due.min(at)));
    }

    /// A report is due a while after the last one; `sooner` divides that while.
    fn earliest_report(&self, now: Instant, sooner: u32) -> Instant {
        self.last_report.map_or(now, |(at, _)| now.max(at + REPORT_EVERY / sooner))
    }

    /// When a report is due, if there is something to say: so that reports take a small share of the way back, which has `rate_bit_s`.
    pub fn report_at(&self, rate_bit_s: u64) -> Option<Instant> {
        let due = self.report_due.filter(|_| self.horizon.is_some())?;
        let share = self.last_report.map(|(at, len)| at + report_gap(rate_bit_s, len));
        Some(share.map_or(due, |at| due.max(at)))
    }

    /// Appends a report that fits below `end`.
    pub fn put_report(&mut self, out: &mut Vec<u8>, end: usize, now: Instant) {
        let Some((horizon, at)) = self.horizon else { return };
        let fit = (end - out.len()).saturating_sub(REPORT_LEN) / ENTRY_LEN;
        let mut tell: Vec<(u8, u64, u32)> = self
            .transfers
            .iter()
            .filter(|(_, h)| h.told < TELL)
            .map(|(t, h)| (h.told, u64::MAX - h.touched, *t))
            .collect();
        // What was told least comes first, then the newest.
        tell.sort_unstable();
        let all = tell.len();
        tell.truncate(fit.min(REPORT_ENTRIES_MAX));
        let age_us = u32::try_from(now.since(at).as_micros()).unwrap_or(u32::MAX);
        let start = out.len();
        put_report(
            out,
            &Tally { horizon, received: self.received, age_us },
            tell.iter().map(|(_, _, transfer)| self.entry(*transfer)),
        );
        for (_, _, transfer) in &tell {
            if let Some(heard) = self.transfers.get_mut(transfer) {
                heard.told += 1;
            }
        }
        self.last_report = Some((now, out.len() - start + OVERHEAD));
        let more = all > tell.len() || self.transfers.values().any(|heard| heard.told < TELL);
        self.report_due = more.then(|| now + REPORT_EVERY);
    }

    fn entry(&self, transfer: u32) -> Entry {
        let block = self.transfers.get(&transfer).and_then(|heard| heard.block);
        let (standing, next) = match block {
            Some(id) if self.kept.contains(&id) => (Standing::Kept, 0),
            Some(id) if self.refused.contains(&id) => (Standing::Refused, 0),
            Some(id) => match self.incoming.get(&id) {
                Some(block) if block.state == State::Gathering => (Standing::Missing(block.missing()), block.next),
                Some(block) => (Standing::Hold, block.next),
                None => (Standing::Unknown, 0),
            },
            None => (Standing::Unknown, 0),
        };
        Entry { transfer, standing, next }
    }

    /// When [`Receiver::handle_timeout`] will have something to do.
    pub fn timeout(&self) -> Option<Instant> {
        let at = |block: &Incoming| if let State::Waiting(at) = block.state { Some(at) } else { None };
        self.incoming.values().filter_map(at).min()
    }

    /// All blocks on their way in.
    pub fn blocks(&self) -> impl Iterator<Item = &Incoming> + '_ {
        self.incoming.values()
    }

    /// The store, at the end of this machine's life.
    pub fn into_store(self) -> S {
        self.store
    }
}

impl Incoming {
    /// Notes that a symbol is held: whether it is new; `None` when there is no such symbol.
    fn take(&mut self, number: u32) -> Option<bool> {
        let at = usize::try_from(number).ok().filter(|at| *at < self.shape.symbols())?;
        let (word, bit) = (&mut self.held[at / 64], 1 << (at % 64));
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        self.next = self.next.max(number + 1);
        Some(new)
    }

    /// Begins with what the store holds, which may be less than what was counted when it failed.
    fn load(&mut self, store: &mut impl SymbolStore, now: Instant) {
        self.held.fill(0);
        (self.count, self.next, self.state) = (0, 0, self.state.next(Happening::Later));
        if self.shape.k() == 1 {
            return;
        }
        match store.open(self.id, self.shape.symbols(), self.shape.symbol_len()) {
            Ok(numbers) => {
                for number in numbers {
                    self.take(number);
                }
            }
            Err(_) => self.state = self.state.next(Happening::NoRoom(now + LATER)),
        }
    }

    /// Symbols that are missing, at least one: none is for the caller to say.
    pub fn missing(&self) -> u32 {
        u32::try_from(self.shape.k().saturating_sub(self.count)).unwrap_or(u32::MAX).max(1)
    }
}

/// How long to wait after a report of `len` bytes on a way back of `rate_bit_s`.
pub fn report_gap(rate_bit_s: u64, len: usize) -> Duration {
    pacer::cost(rate_bit_s, len).saturating_mul(REPORT_SHARE)
}

/// While something comes in, at most so often.
const REPORT_EVERY: Duration = Duration::from_millis(50);
/// One part in so many of the way back is for reports.
const REPORT_SHARE: u32 = 50;
/// Bytes of a packet around a report.
const OVERHEAD: usize = 24 + pacer::PACKET_OWN_LEN;
/// News is told so often, because reports are lost too.
const TELL: u8 = 3;
/// What had no room is tried again after this.
const LATER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::limits::KEPT_MAX;

    #[test]
    fn the_table_is_the_drawing() {
        use Happening::{Damaged, Enough, Later, NoRoom};
        use State::{Gathering, Rebuilding, Waiting, Whole};
        let (early, late) = (Instant(1), Instant(2));
        let drawn = [
            (Gathering, Enough, Rebuilding),
            (Rebuilding, Happening::Whole, Whole),
            (Rebuilding, Damaged, Gathering),
            (Gathering, NoRoom(late), Waiting(late)),
            (Rebuilding, NoRoom(late), Waiting(late)),
            (Whole, NoRoom(late), Waiting(late)),
            (Waiting(early), NoRoom(late), Waiting(late)),
            (Waiting(early), Later, Gathering),
        ];
        for state in [Gathering, Rebuilding, Whole, Waiting(early)] {
            for happening in [Enough, Happening::Whole, Damaged, NoRoom(late), Later] {
                let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (state, happening));
                assert_eq!(state.next(happening), arrow.map_or(state, |(_, _, to)| *to), "{state:?} {happening:?}");
            }
        }
    }

    #[test]
    fn as_many_ids_are_remembered_as_the_limit_says_and_the_oldest_goes() {
        let id = |n: usize| BlockId((n as u128).to_be_bytes());
        let mut kept = Latest::new(KEPT_MAX);
        (0..=KEPT_MAX).for_each(|n| kept.insert(id(n), ()));
        assert!(!kept.contains(&id(0)) && kept.contains(&id(1)) && kept.contains(&id(KEPT_MAX)));
        assert_eq!(kept.len(), KEPT_MAX);
    }
}
