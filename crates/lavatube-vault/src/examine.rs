//! Examining: how an object is, shard by shard, down to the block, and what could still be lost with it.
//!
//! Nothing is changed. What it finds is what `check` prints. Step 18 of the walk.

use std::ops::Range;

use lavatube_base::ObjectId;

use crate::gather::Gather;
use crate::read::merge_ranges;
use crate::{DriveError, ReadError, Vault};

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Both headers of every shard.
    Headers,
    /// Every byte.
    Bytes,
}

/// How a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// As it should be, as far as was looked.
    Good,
    /// It was never written: too few drives were there.
    NotStored,
    /// Its file, or its drive, is not there.
    Missing,
    /// Its file is there and cannot be read.
    Unreadable(DriveError),
    /// Both headers are damaged beyond what they say together.
    HeadersLost,
    /// The file is a shard of another object, generation or vault.
    OtherStripe,
    /// Some of it is wrong; the rest is used.
    Damaged {
        /// Damaged copies of the header, 0 to 2.
        header_copies: u8,
        /// Blocks of 16 KiB that do not match their hash, in the order they were met.
        blocks: Vec<u32>,
    },
}

/// One shard of an object, where it should be and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHealth {
    /// Which shard.
    pub shard: u8,
    /// The drive slot it is in, if any.
    pub slot: Option<usize>,
    /// What people call that drive; empty without one.
    pub label: String,
    /// How it is.
    pub state: ShardState,
}

/// How an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// All its shards.
    pub shards: Vec<ShardHealth>,
    /// How many of them must be had.
    pub data: usize,
    /// Whether all its bytes can be read.
    pub restorable: bool,
    /// The bytes that cannot.
    pub lost: Vec<Range<u64>>,
    /// How many more drives may be lost, whichever they are, without losing a byte.
    pub losses_survivable: u8,
}

impl Health {
    /// Whether every shard is as it should be.
    pub fn is_whole(&self) -> bool {
        self.shards.iter().all(|s| s.state == ShardState::Good)
    }
}

impl Vault {
    /// Looks at an object.
    ///
    /// # Errors
    /// [`ReadError::NotHere`].
    pub fn examine(&self, id: ObjectId, depth: Depth) -> Result<Health, ReadError> {
        // Of a pack that was thinned what stays.
        let id = self.index.thin.get(&id).copied().unwrap_or(id);
        let entry = self.entry(id).ok_or(ReadError::NotHere(id))?;
        let (g, mut gather) = (entry.geometry, Gather::new(self, id, &entry));
        (0..g.shards()).for_each(|shard| gather.examine_header(shard));
        let mut lost = Vec::new();
        let mut spare = (0..g.shards()).filter(|&s| gather.header(s).is_some()).count().checked_sub(g.k());
        let mut lose = |row: usize, shard: usize| {
            let (block, origin) = (g.block_range(row), shard * g.shard_len());
            let (from, to) = (origin + block.start, (origin + block.end).min(g.object_len()));
            if from < to {
                lost.push(from as u64..to as u64);
            }
        };
        let data: Vec<usize> = (0..g.k()).collect();
        if depth == Depth::Bytes {
            for mut window in gather.windows(0..g.blocks()) {
                (0..g.shards()).for_each(|shard| gather.load(&mut window, shard));
                for row in window.rows.clone() {
                    spare = spare.min(window.good_count(row).checked_sub(g.k()));
                    if !gather.settle_row(&mut window, row, &data) {
                        data.iter().filter(|&&s| !window.is_good(s, row)).for_each(|&s| lose(row, s));
                    }
                }
                gather.done(window);
            }
        } else if spare.is_none() {
            let gone: Vec<usize> = data.into_iter().filter(|&s| gather.header(s).is_none()).collect();
            (0..g.blocks()).for_each(|row| gone.iter().for_each(|&s| lose(row, s)));
        }
        let lost = merge_ranges(lost);
        let spare = u8::try_from(spare.unwrap_or(0)).unwrap_or(u8::MAX);
        let shards = self.shard_healths(&gather).collect();
        Ok(Health { shards, data: g.k(), restorable: lost.is_empty(), lost, losses_survivable: spare })
    }

    /// What a gathering saw of each shard.
    fn shard_healths<'s>(&'s self, gather: &'s Gather<'_>) -> impl Iterator<Item = ShardHealth> + 's {
        (0u8..).zip(&gather.states).map(|(shard, state)| {
            let slot = gather.entry.slot(shard.into());
            let label = slot.and_then(|s| self.slots.get(s)).map(|s| s.card.label.clone()).unwrap_or_default();
            ShardHealth { shard, slot, label, state: state.clone() }
        })
    }

    /// Those that were not good.
    pub(crate) fn damage(&self, gather: &Gather<'_>) -> Vec<ShardHealth> {
        self.shard_healths(gather).filter(|s| s.state != ShardState::Good).collect()
    }
}
