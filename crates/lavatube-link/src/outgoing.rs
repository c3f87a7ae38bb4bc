//! One block on its way out: what was sent of it, what is known to be missing, and what is to be sent next.
//!
//! ```text
//!             begin                owed
//!  Waiting ----------> Sending <---------- Resting <----+
//!     |                 |  ^    ---------->  |  |       |
//!     | resume          |  |      spent      |  |       |
//!     v       owed      |  |                 |  |       | spent
//!  Asking --------------|--+                 |  |       |
//!   | ^ ^               |  | owed            |  |       |
//!   | | |               |  |                 |  |       |
//!   | | |               |  +-- Holding <-----+  |       |
//!   | | |               |  hold | ^  ^  hold    |       |
//!   | | |               +-------|-+  |          |       |
//!   | | |                       +----|----------|-------+
//!   | | |         hold               |          |
//!   +-|-|----------------------------+          |
//!     | +-- forgotten, from Holding             |
//!     +---- forgotten, from Resting ------------+
//!
//!  from each: stored, refused or withdrawn --> (gone)
//! ```
//!
//! *Owed*: more symbols are to be sent; *spent*: none for now; *forgotten*: the peer does not know the transfer. It must not know datagrams or time's passing. Step 9 of the walk.

use std::sync::Arc;

use lavatube_base::{BlockId, Instant};
use lavatube_format::btpu::{Announce, Symbol};

use crate::code::Shape;
use crate::estimate::Estimate;
use crate::job::Job;

/// Where a block is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Waiting,
    /// Announced, and the peer is asked how much it holds from before.
    Asking,
    /// Symbols are to be sent.
    Sending,
    /// Enough were sent; a report will tell.
    Resting,
    /// The peer wants no symbols for now.
    Holding,
}

/// What may happen to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It is this block's turn for the first time.
    Begin,
    /// The same, of a block that an earlier life of this node may have sent in part.
    Resume,
    /// Symbols are to be sent.
    Owed,
    /// No symbols are to be sent for now.
    Spent,
    /// The peer says hold.
    Hold,
    /// The peer does not know the transfer, or no longer.
    Forgotten,
}

impl State {
    /// The one transition table; what it does not name changes nothing.
    pub fn next(self, happening: Happening) -> Self {
        use Happening::{Begin, Forgotten, Hold, Owed, Resume, Spent};
        use State::{Asking, Holding, Resting, Sending, Waiting};
        match (self, happening) {
            (Waiting, Begin) => Sending,
            (Waiting, Resume) => Asking,
            (Asking | Sending | Resting, Hold) => Holding,
            (Asking | Resting | Holding, Owed) => Sending,
            (Sending | Holding, Spent) => Resting,
            (Resting | Holding, Forgotten) => Asking,
            (state, _) => state,
        }
    }
}

/// A block that is to be sent.
#[derive(Debug, Clone)]
pub struct Block {
    /// The caller's name for it.
    pub key: u64,
    /// 0 goes first.
    pub priority: u8,
    /// Its length in bytes, 1 to `lavatube_base::limits::BLOCK_LEN_MAX`.
    pub len: u64,
    /// `H16` of it.
    pub id: BlockId,
    /// It may have been sent in part before this node restarted: the peer is asked before bytes are spent.
    pub resumed: bool,
}

/// A block on its way out.
#[derive(Debug)]
pub struct Outgoing {
    pub block: Block,
    pub shape: Shape,
    pub state: State,
    /// The sender's number for it, once it has begun.
    pub transfer: u32,
    /// Symbols to be sent now, and symbols to be sent a little later unless a report says otherwise: bursts are short.
    pub owed: u64,
    pub later: u64,
    /// Symbols sent, and how many of them a horizon has passed.
    pub sent: u64,
    pub passed: u64,
    /// Symbols sent since there was reason to believe that the peer does not know the transfer.
    fresh: u64,
    /// The next symbol's number.
    cursor: usize,
    /// What the last report said is missing.
    pub missing: u32,
    /// Each symbol was sent: the peer has most of those that are sent again.
    exhausted: bool,
    /// An announcement is due before the next symbol.
    pub unannounced: bool,
    /// Its bytes and repair symbols, while they are in memory.
    pub bytes: Option<Arc<Vec<u8>>>,
    repairs: Vec<u8>,
    /// More repair symbols are being made.
    encoding: bool,
    /// The caller was asked for the bytes.
    pub wanted: bool,
    /// When it was last sent of or heard of, and how often it was asked for since.
    pub quiet_since: Instant,
    pub asked: u32,
    /// One-way: how many more times it is to be sent, and symbols each time.
    pub rounds: u8,
    pub provided: Option<u64>,
}

impl Outgoing {
    /// A block that waits.
    pub fn new(block: Block, shape: Shape, rounds: u8) -> Self {
        let missing = u32::try_from(shape.k()).unwrap_or(u32::MAX);
        Self {
            block,
            shape,
            state: State::Waiting,
            transfer: 0,
            owed: 0,
            later: 0,
            sent: 0,
            passed: 0,
            fresh: 0,
            cursor: 0,
            missing,
            exhausted: false,
            unannounced: true,
            bytes: None,
            repairs: Vec::new(),
            encoding: false,
            wanted: false,
            quiet_since: Instant(0),
            asked: 0,
            rounds,
            provided: None,
        }
    }

    /// Its turn has come.
    pub fn begin(&mut self, transfer: u32, estimate: &Estimate, sigmas: f64) {
        self.transfer = transfer;
        self.owe(estimate, sigmas);
        self.state = self.state.next(if self.block.resumed { Happening::Resume } else { Happening::Begin });
    }

    /// A report came: so much is missing, and the next number nobody has seen is `next`.
    pub fn heard(&mut self, missing: u32, next: u32, estimate: &Estimate, sigmas: f64) {
        self.missing = missing;
        // With nothing under way, no symbol from `next` on is there, whoever sent it: what an outage took, what an earlier life left.
        let next = usize::try_from(next).unwrap_or(usize::MAX);
        self.exhausted = next >= self.shape.symbols();
        if self.sent == self.passed && !self.exhausted {
            self.cursor = next;
        }
        self.owe(estimate, sigmas);
        self.state = self.state.next(if self.owed > 0 { Happening::Owed } else { Happening::Spent });
    }

    /// Sets what is owed: what is missing, less what is under way and will probably arrive.
    pub fn owe(&mut self, estimate: &Estimate, sigmas: f64) {
        let (under_way, missing) = (self.sent - self.passed, u64::from(self.missing));
        let few = self.is_small() && sigmas > 0.0;
        let symbols = self.provided.unwrap_or_else(|| match few {
            true => estimate.symbols_for_few(self.missing),
            false => self.in_vain(estimate.symbols_for(self.missing, sigmas)),
        });
        let owed = symbols.saturating_sub(under_way);
        self.owed = if few && self.provided.is_none() { owed.min(missing) } else { owed };
        self.later = owed - self.owed;
    }

    /// How many are to be sent so that so many of them are new to the peer.
    fn in_vain(&self, symbols: u64) -> u64 {
        let (all, missing) = (self.shape.symbols() as u64, u64::from(self.missing));
        let unheld = (self.shape.r() as u64 + missing).min(all);
        if self.exhausted { (symbols * all).div_ceil(unheld).min(all) } else { symbols }
    }

    /// Whether a round trip is dearer than all of its symbols.
    pub fn is_small(&self) -> bool {
        self.shape.k() <= SMALL
    }

    /// What was to be sent a little later is due.
    pub fn due(&mut self) {
        self.owed = self.later.min(self.missing.into());
        self.later -= self.owed;
        self.state = self.state.next(Happening::Owed);
    }

    /// What was sent is taken for lost, though nobody says so: it is sent once more.
    pub fn once_more(&mut self, estimate: &Estimate) {
        self.owed = self.missing.into();
        self.later = estimate.symbols_for_few(self.missing).saturating_sub(self.owed);
        (self.unannounced, self.fresh) = (true, 0);
        self.state = self.state.next(Happening::Owed);
    }

    /// The peer wants nothing of it for now.
    pub fn hold(&mut self) {
        self.state = self.state.next(Happening::Hold);
    }

    /// The peer does not know what the transfer is.
    pub fn forgotten(&mut self) {
        (self.unannounced, self.fresh) = (true, 0);
        self.state = self.state.next(Happening::Forgotten);
    }

    /// One-way: the whole of it is sent once more, in other symbols as far as there are any.
    pub fn again(&mut self, estimate: &Estimate) {
        self.rounds = self.rounds.saturating_sub(1);
        self.passed = self.sent;
        self.owe(estimate, 0.0);
        (self.unannounced, self.fresh) = (true, 0);
        self.state = self.state.next(Happening::Owed);
    }

    /// Whether a symbol can be sent at once.
    pub fn ready(&self) -> bool {
        self.state == State::Sending && self.bytes.is_some() && self.next_repair().is_none_or(|i| i < self.made())
    }

    /// Which repair symbol is next, if one is.
    fn next_repair(&self) -> Option<usize> {
        // When all were sent, they are sent again from the first: of what is lost now, other symbols may arrive.
        (self.cursor % self.shape.symbols()).checked_sub(self.shape.k())
    }

    /// Repair symbols that are at hand.
    fn made(&self) -> usize {
        self.repairs.len() / self.shape.symbol_len()
    }

    /// The job of making the repair symbols that are to be sent, unless they are made or being made.
    pub fn poll_job(&mut self) -> Option<Job> {
        let bytes = self.bytes.as_ref().filter(|_| self.state == State::Sending && !self.encoding)?;
        let owed = usize::try_from(self.owed).unwrap_or(usize::MAX);
        let end = (self.cursor % self.shape.symbols()).saturating_add(owed);
        let need = end.saturating_sub(self.shape.k()).min(self.shape.r());
        if need <= self.made() {
            return None;
        }
        // Some more, because reports ask for a few more; if that was not enough, twice as many: each time costs all of it.
        let count = (need + need / 2 + SPARE).max(2 * self.made()).min(self.shape.r());
        self.encoding = true;
        Some(Job::encode(self.block.key, self.block.id, self.shape, Arc::clone(bytes), count))
    }

    /// What came of it.
    pub fn encoded(&mut self, repairs: Vec<u8>) {
        self.encoding = false;
        if self.bytes.is_some() && repairs.len() > self.repairs.len() {
            self.repairs = repairs;
        }
    }

    /// What announces it.
    pub fn announce(&self) -> Announce {
        Announce {
            transfer: self.transfer,
            block_len: self.block.len,
            symbol_len: u16::try_from(self.shape.symbol_len()).unwrap_or(u16::MAX),
            priority: self.block.priority,
            block: self.block.id,
        }
    }

    /// The next symbol, by way of `put`; `padded` is a scratch of a symbol's length.
    pub fn put_symbol(&mut self, padded: &mut Vec<u8>, put: impl FnOnce(Symbol<'_>)) {
        let Some(bytes) = &self.bytes else { return };
        let len = self.shape.symbol_len();
        self.cursor %= self.shape.symbols();
        let (number, repair) = (self.cursor, self.next_repair());
        let mut symbol = match repair {
            Some(i) => self.repairs.get(i * len..(i + 1) * len).unwrap_or_default(),
            None => self.shape.source(bytes, number),
        };
        if symbol.len() < len {
            padded.clear();
            padded.extend_from_slice(symbol);
            padded.resize(len, 0);
            symbol = padded;
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        put(Symbol { transfer: self.transfer, repair: repair.is_some(), number, bytes: symbol });
        self.cursor += 1;
        self.sent += 1;
        self.fresh += 1;
        self.owed = self.owed.saturating_sub(1);
        // Often at first, because without it symbols mean little there, and seldom later.
        // Where nobody can ask for it, so often that losing all of them is losing the block.
        let every = self.provided.map_or(ANNOUNCE_EVERY, |n| (n / ANNOUNCEMENTS).clamp(1, ANNOUNCE_EVERY));
        self.unannounced = ANNOUNCE_AFTER.contains(&self.fresh) || self.fresh.is_multiple_of(every);
        if self.owed == 0 {
            self.state = self.state.next(Happening::Spent);
        }
    }

    /// Whether all symbols were sent at least once.
    pub fn repeats(&self) -> bool {
        self.sent > self.shape.symbols() as u64
    }

    /// Bytes held in memory for it.
    pub fn held_len(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len()) + self.repairs.len()
    }

    /// Gives its memory back; bytes are asked for again when they are needed.
    pub fn drop_bytes(&mut self) {
        self.bytes = None;
        self.repairs = Vec::new();
    }
}

/// Symbols of a message, or of a pack of almost nothing.
const SMALL: usize = 16;
/// Symbols that come before their announcement are kept there, so it need not be repeated as soon as can be.
const ANNOUNCE_AFTER: [u64; 3] = [1, 4, 16];
/// An announcement is as long as a symbol is every 1024 bytes or so: one in 64 costs a thousandth.
const ANNOUNCE_EVERY: u64 = 64;
/// Announcements of a block where no report comes, or as many as it has symbols.
const ANNOUNCEMENTS: u64 = 32;
/// Repair symbols made beside those that are owed and half as many.
const SPARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Done, Outcome};

    #[test]
    fn the_table_is_the_drawing() {
        use Happening::{Begin, Forgotten, Hold, Owed, Resume, Spent};
        use State::{Asking, Holding, Resting, Sending, Waiting};
        let drawn = [
            (Waiting, Begin, Sending),
            (Waiting, Resume, Asking),
            (Asking, Owed, Sending),
            (Asking, Hold, Holding),
            (Sending, Spent, Resting),
            (Sending, Hold, Holding),
            (Resting, Owed, Sending),
            (Resting, Hold, Holding),
            (Holding, Owed, Sending),
            (Holding, Spent, Resting),
            (Resting, Forgotten, Asking),
            (Holding, Forgotten, Asking),
        ];
        for state in [Waiting, Asking, Sending, Resting, Holding] {
            for happening in [Begin, Resume, Owed, Spent, Hold, Forgotten] {
                let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (state, happening));
                assert_eq!(state.next(happening), arrow.map_or(state, |(_, _, to)| *to), "{state:?} {happening:?}");
            }
        }
    }

    #[test]
    fn a_report_sets_what_is_owed_and_does_not_add_to_it() {
        let estimate = Estimate::new(0.0, 1.0, 200.0);
        let block = Block { key: 1, priority: 0, len: 14_360, id: BlockId([1; 16]), resumed: false };
        let mut out = Outgoing::new(block, Shape::of(14_360).unwrap(), 0);
        out.begin(9, &estimate, 0.0);
        out.bytes = Some(Arc::new(vec![5; 14_360]));
        assert_eq!(out.owed, 10);
        let mut numbers = Vec::new();
        while out.ready() {
            out.put_symbol(&mut Vec::new(), |symbol| numbers.push(symbol.number));
        }
        assert_eq!((out.state, numbers), (State::Resting, (0..10).collect()));
        // All ten are under way: nothing is owed whatever the report says.
        out.heard(10, 0, &estimate, 0.0);
        assert_eq!((out.state, out.owed), (State::Resting, 0));
        out.passed = 10;
        out.heard(3, 9, &estimate, 0.0);
        out.heard(3, 9, &estimate, 0.0);
        assert_eq!((out.state, out.owed), (State::Sending, 3));
        // The last one did not arrive either; then come those never sent, once they are made.
        let Done(Outcome::Encoded { repairs, .. }) = out.poll_job().unwrap().run() else { panic!("repairs") };
        assert!(out.poll_job().is_none() && repairs.len() == 16 * out.shape.symbol_len());
        out.encoded(repairs);
        let mut numbers = Vec::new();
        while out.ready() {
            out.put_symbol(&mut Vec::new(), |symbol| numbers.push((symbol.number, symbol.repair)));
        }
        assert_eq!(numbers, [(9, false), (10, true), (11, true)]);
    }

    #[test]
    fn when_all_were_sent_they_are_sent_again_and_each_has_its_turn() {
        let estimate = Estimate::new(0.0, 1.0, 200.0);
        let block = Block { key: 1, priority: 0, len: 3, id: BlockId([1; 16]), resumed: false };
        let mut out = Outgoing::new(block, Shape::of(3).unwrap(), 0);
        out.begin(9, &estimate, 0.0);
        out.bytes = Some(Arc::new(vec![5; 3]));
        let mut numbers = Vec::new();
        for _ in 0..18 {
            if let Some(Done(Outcome::Encoded { repairs, .. })) = out.poll_job().map(Job::run) {
                out.encoded(repairs);
            }
            assert!(out.ready());
            out.put_symbol(&mut Vec::new(), |symbol| numbers.push(symbol.number));
            out.passed = out.sent;
            out.heard(1, 17, &estimate, 0.0);
        }
        assert_eq!(numbers, (0..17).chain([0]).collect::<Vec<_>>());
    }
}
