//! What an end of a link has on its disk: counters, blocks that were stored, symbols of blocks that come in.
//!
//! As `lavatube-node` keeps them: counters replace their file durably, the list of stored blocks is appended to and not
//! synced, symbols are written thirty-two at a time and not synced either, because losing them costs only that they are
//! sent again. A kill takes what was not written, a power cut also any part of what was not synced. It must not know
//! what the blocks are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_base::{BlockId, Instant, ObjectId};
use lavatube_client::sent::Sent;
use lavatube_link::{StoreError, SymbolStore, Symbols};

use crate::chance::Chance;
use crate::sabotage::Sabotage;
use crate::wires::{Halt, Wires};

#[derive(Default)]
struct Media {
    reserved: u64,
    floor: u64,
    /// With a planted bug: counters that are said to be on the disk.
    doubtful: Option<u64>,
    kept: Vec<(BlockId, ObjectId)>,
    /// How many of these are durable.
    kept_durable: usize,
    symbols: BTreeMap<BlockId, BTreeMap<u32, Vec<u8>>>,
    /// Objects that were begun to be sent, and how many of them are durable.
    begun: Vec<ObjectId>,
    begun_durable: usize,
    /// What was sent one way, in which contact, and how many of these lines are durable.
    sent: Vec<(ObjectId, u32, Instant)>,
    sent_durable: usize,
    weather: Option<(f64, f64)>,
}

/// The disk of one end; clones are the same disk.
#[derive(Clone)]
pub struct LinkDisk {
    end: &'static str,
    media: Arc<Mutex<Media>>,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
}

impl LinkDisk {
    /// An empty disk of the end of that name.
    pub fn new(end: &'static str, wires: &Arc<Wires>, sabotage: Option<Sabotage>) -> Self {
        Self { end, media: Arc::default(), wires: wires.clone(), sabotage }
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One past the highest counter that may have been used, and one past the highest that came in.
    pub fn counters(&self) -> (u64, u64) {
        let media = self.media();
        (media.reserved, if self.sabotage == Some(Sabotage::ReplaysCount) { 0 } else { media.floor })
    }

    /// One past the highest counter that came in, as it was kept.
    pub fn floor(&self) -> u64 {
        self.media().floor
    }

    /// Reserves counters up to `end`, durably.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn reserve(&self, end: u64) -> Result<(), String> {
        self.replace("reserve counters", |media| {
            if self.sabotage == Some(Sabotage::CountersAreReservedLate) {
                media.doubtful.get_or_insert(media.reserved);
            }
            media.reserved = media.reserved.max(end);
        })
    }

    /// Remembers what came in, durably.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep_floor(&self, floor: u64) -> Result<(), String> {
        if floor <= self.media().floor {
            return Ok(());
        }
        // Whether a death comes before or after it, the one floor or the other is there: no death comes in it.
        self.wires.look("keep the floor", self.end).map_err(|halt| failed(halt).0)?;
        self.media().floor = floor;
        Ok(())
    }

    /// The file of counters is replaced: wholly or not at all.
    fn replace(&self, what: &str, change: impl FnOnce(&mut Media)) -> Result<(), String> {
        let go = self.wires.act(what, self.end, 0).map_err(|halt| failed(halt).0)?;
        if go.torn.is_none_or(|n| n % 2 == 0) {
            change(&mut self.media());
        }
        go.done();
        Ok(())
    }

    /// The blocks that were stored and whose objects are there; the list is made anew of them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open_kept(&self, is_there: impl Fn(ObjectId) -> bool) -> Result<Vec<BlockId>, String> {
        let go = self.wires.act("make the list of stored blocks anew", self.end, 0).map_err(|halt| failed(halt).0)?;
        if go.torn.is_none_or(|n| n % 2 == 0) {
            let mut media = self.media();
            media.kept.retain(|(_, object)| is_there(*object));
            media.kept_durable = media.kept.len();
        }
        go.done();
        Ok(self.media().kept.iter().map(|(block, _)| *block).collect())
    }

    /// Notes a block that was stored.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(&self, block: BlockId, object: ObjectId) -> Result<(), String> {
        let go = self.wires.act("note a stored block", self.end, 0).map_err(|halt| failed(halt).0)?;
        // What is cut in the middle is passed over when it is read.
        if go.torn.is_none() {
            self.media().kept.push((block, object));
        }
        go.done();
        Ok(())
    }

    /// Symbols of a block that lie here.
    pub fn held(&self, block: BlockId) -> usize {
        self.media().symbols.get(&block).map_or(0, BTreeMap::len)
    }

    /// Objects that an earlier life began to send.
    pub fn begun(&self) -> BTreeSet<ObjectId> {
        let mut media = self.media();
        media.begun_durable = media.begun.len();
        media.begun.iter().copied().collect()
    }

    /// Notes that an object is begun to be sent.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin(&self, id: ObjectId) -> Result<(), String> {
        if self.media().begun.contains(&id) {
            return Ok(());
        }
        let go = self.wires.act("note a begun object", self.end, 0).map_err(|halt| failed(halt).0)?;
        if go.torn.is_none() {
            self.media().begun.push(id);
        }
        go.done();
        Ok(())
    }

    /// Only these still wait to be sent.
    pub fn retain_begun(&self, here: &BTreeSet<ObjectId>) {
        let mut media = self.media();
        media.begun.retain(|id| here.contains(id));
        media.begun_durable = media.begun.len();
    }

    /// What earlier lives sent one way, each object to be sent so many times.
    pub fn sent(&self, times: u32) -> Sent {
        let mut media = self.media();
        media.sent_durable = media.sent.len();
        // The last line about an object counts.
        Sent::new(media.sent.iter().map(|(id, times, contact)| (*id, (*times, *contact))).collect(), times)
    }

    /// Notes that an object was sent, for this many times by now.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn note_sent(&self, id: ObjectId, times: u32, contact: Instant) -> Result<(), String> {
        let go = self.wires.act("note a sent object", self.end, 0).map_err(|halt| failed(halt).0)?;
        if go.torn.is_none() {
            self.media().sent.push((id, times, contact));
        }
        go.done();
        Ok(())
    }

    /// Only these are still in the spool: the list is made anew of them.
    pub fn retain_sent(&self, here: &BTreeSet<ObjectId>) {
        let mut media = self.media();
        media.sent.retain(|(id, ..)| here.contains(id));
        media.sent_durable = media.sent.len();
    }

    /// Share of datagrams lost, and how bursty losses are, as an earlier life measured it.
    pub fn weather(&self) -> Option<(f64, f64)> {
        self.media().weather
    }

    /// Remembers that.
    pub fn keep_weather(&self, loss: f64, dispersion: f64) {
        self.media().weather = Some((loss, dispersion));
    }

    /// The process died; what it wrote is with the system.
    pub fn lose_process(&self) {
        let mut media = self.media();
        if let Some(reserved) = media.doubtful.take() {
            media.reserved = reserved;
        }
        if self.sabotage == Some(Sabotage::SymbolsAreNotWritten) {
            media.symbols.clear();
        }
    }

    /// The power failed.
    pub fn lose_power(&self, chance: &mut Chance) {
        self.lose_process();
        let mut media = self.media();
        let left = media.kept_durable + chance.index(media.kept.len() - media.kept_durable + 1);
        media.kept.truncate(left);
        media.kept_durable = left;
        let left = media.begun_durable + chance.index(media.begun.len() - media.begun_durable + 1);
        media.begun.truncate(left);
        let left = media.sent_durable + chance.index(media.sent.len() - media.sent_durable + 1);
        media.sent.truncate(left);
        let loses = *chance.pick(&[0, 100, 1000]);
        media.symbols.values_mut().for_each(|slots| slots.retain(|_, _| !chance.per_mille(loses)));
    }

    /// The symbols, for a new life of the end, which has so many files open at most.
    pub fn symbols(&self, open_max: usize) -> SimSymbols {
        SimSymbols { disk: self.clone(), open_max, open: BTreeMap::new(), pending: None, calls: 0 }
    }
}

/// Symbols put one after the other that were not written yet.
struct Pending {
    block: BlockId,
    first: u32,
    symbols: Vec<Vec<u8>>,
}

/// The symbols of one life.
pub struct SimSymbols {
    disk: LinkDisk,
    open_max: usize,
    /// When each was last used.
    open: BTreeMap<BlockId, u64>,
    pending: Option<Pending>,
    calls: u64,
}

impl SimSymbols {
    /// The process ends in order and writes what it has. What is lost is sent again.
    pub fn close(mut self) {
        let _ = self.flush();
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let len = pending.symbols.iter().map(Vec::len).sum::<usize>() as u64;
        let go = self.disk.wires.act("write symbols", self.disk.end, len).map_err(failed)?;
        // A slot that was written in part has a wrong check, and is none.
        let part = go.torn.map_or(pending.symbols.len(), |n| Chance::new(n).index(pending.symbols.len() + 1));
        let mut media = self.disk.media();
        let slots = media.symbols.entry(pending.block).or_default();
        slots.extend((pending.first..).zip(pending.symbols).take(part));
        drop(media);
        go.done();
        Ok(())
    }
}

impl SymbolStore for SimSymbols {
    fn open(&mut self, block: BlockId, _symbols: usize, _symbol_len: usize) -> Result<Vec<u32>, StoreError> {
        self.flush()?;
        self.calls += 1;
        if self.open.len() >= self.open_max {
            let oldest = self.open.iter().min_by_key(|(_, used)| **used).map(|(block, _)| *block);
            oldest.and_then(|block| self.open.remove(&block));
        }
        self.open.insert(block, self.calls);
        let media = self.disk.media();
        Ok(media.symbols.get(&block).map(|slots| slots.keys().copied().collect()).unwrap_or_default())
    }

    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError> {
        let next = |p: &Pending| p.first + u32::try_from(p.symbols.len()).unwrap_or(u32::MAX);
        let follows = |p: &Pending| p.block == block && next(p) == number && p.symbols.len() < PENDING_MAX;
        if self.pending.as_ref().is_some_and(|pending| !follows(pending)) {
            self.flush()?;
        }
        self.calls += 1;
        let calls = self.calls;
        *self.open.get_mut(&block).ok_or_else(|| StoreError("the block is not open".into()))? = calls;
        let pending = self.pending.get_or_insert_with(|| Pending { block, first: number, symbols: Vec::new() });
        pending.symbols.push(symbol.to_vec());
        Ok(())
    }

    fn symbols(&mut self, block: BlockId) -> Result<Symbols, StoreError> {
        self.flush()?;
        if !self.open.contains_key(&block) {
            return Err(StoreError("the block is not open".into()));
        }
        let slots = self.disk.media().symbols.get(&block).cloned().unwrap_or_default();
        Ok(Box::new(move |show| {
            slots.iter().for_each(|(number, symbol)| show(*number, symbol));
            Ok(())
        }))
    }

    fn remove(&mut self, block: BlockId) {
        self.pending.take_if(|pending| pending.block == block);
        self.open.remove(&block);
        self.disk.media().symbols.remove(&block);
    }
}

fn failed(halt: Halt) -> StoreError {
    StoreError(match halt {
        Halt::Dead => "the process is dead".into(),
        Halt::Fault => "input/output error".into(),
    })
}

/// Symbols written at a time.
pub const PENDING_MAX: usize = 32;
