//! Reading: any range of an object, each byte vouched for by a hash.
//!
//! Only the blocks that cover the range are read while all is well. What cannot be had is named to the byte. It must not
//! write anything: mending is `mend`'s. Step 20 of the walk.

use std::ops::Range;

use lavatube_base::limits::SHARD_BLOCK_LEN;
use lavatube_base::{Denial, ObjectId, Refusal, Verified};

use crate::gather::{Gather, Window};
use crate::index::Entry;
use crate::{ShardHealth, Vault};

/// What was noticed while reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// Shards that were looked at and were not as they should be. The bytes read are right nevertheless.
    pub damage: Vec<ShardHealth>,
}

/// Why bytes were not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The vault does not have the object.
    #[error("the vault has no object {0}")]
    NotHere(ObjectId),
    /// The range is not inside the object.
    #[error("the object has {len} bytes")]
    OutOfRange {
        /// The object's length.
        len: u64,
    },
    /// Some of the bytes asked for are lost; the others can be read when asked for alone.
    #[error("{} of the object's bytes are lost", ranges.iter().map(|r| r.end - r.start).sum::<u64>())]
    Lost {
        /// Exactly which, ascending, within the range asked for.
        ranges: Vec<Range<u64>>,
        /// What is wrong with the shards.
        damage: Vec<ShardHealth>,
    },
    /// A release freed some of the bytes asked for; others of the pack stay.
    #[error("a release freed some of these bytes of pack {pack}")]
    Freed {
        /// The pack.
        pack: ObjectId,
    },
    /// All blocks agree with their headers but the whole not with its id: the headers were written wrong.
    #[error("the shards agree with each other but not with the id of object {0}")]
    Contradiction(ObjectId),
}

impl ReadError {
    /// What it is to a client.
    pub fn denial(&self) -> Denial {
        match self {
            Self::NotHere(_) | Self::Freed { .. } => Denial::Absent,
            Self::OutOfRange { .. } => Denial::Refused(Refusal::Caller),
            Self::Lost { .. } | Self::Contradiction(_) => Denial::Lost,
        }
    }
}

impl Vault {
    /// Appends the bytes `range` of an object to `out`. May be called from several threads at once.
    ///
    /// # Errors
    /// [`ReadError`]; `out` is then as it was.
    pub fn read(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<ReadReport, ReadError> {
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bounds = bounds.filter(|(start, end)| start <= end);
        let Some(entry) = self.entry(id) else {
            let remnant = self.index.thin.get(&id).ok_or(ReadError::NotHere(id))?;
            let (start, end) = bounds.ok_or(ReadError::OutOfRange { len: 0 })?;
            return self.read_remnant(*remnant, start..end, out);
        };
        let len = entry.geometry.object_len();
        let Some((start, end)) = bounds.filter(|(_, end)| *end <= len) else {
            return Err(ReadError::OutOfRange { len: len as u64 });
        };
        let report = self.read_from(id, &entry, start..end, out);
        if let Err(ReadError::Lost { .. }) = report {
            let places = self.unplaced(id, &entry);
            if !places.is_empty() {
                let mut entry = entry.into_owned();
                places.into_iter().for_each(|(index, slot)| entry.slots[usize::from(index)] = slot);
                return self.read_from(id, &entry, start..end, out);
            }
        }
        // Of what was moved the old one may be there still.
        if let Err(ReadError::Lost { damage, .. }) = &report
            && let Some(entry) = self.with_left_over(id, &entry, damage)
        {
            return self.read_from(id, &entry, start..end, out).or(report);
        }
        report
    }

    /// The same, of an object whose shards lie where `entry` says.
    fn read_from(
        &self,
        id: ObjectId,
        entry: &Entry,
        range: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<ReadReport, ReadError> {
        let (start, end, len) = (range.start, range.end, entry.geometry.object_len());
        let base = out.len();
        out.resize(base + end - start, 0);
        let mut gather = Gather::new(self, id, entry);
        let lost = gather_range(&mut gather, start..end, &mut out[base..]);
        let damage = self.damage(&gather);
        if !lost.is_empty() {
            out.truncate(base);
            return Err(ReadError::Lost { ranges: lost, damage });
        }
        if (start, end) == (0, len) && Verified::check(&out[base..], id).is_none() {
            out.truncate(base);
            return Err(ReadError::Contradiction(id));
        }
        Ok(ReadReport { damage })
    }
}

/// Fills `out` with the object's bytes `range`; returns the ranges that are lost.
fn gather_range(gather: &mut Gather<'_>, range: Range<usize>, out: &mut [u8]) -> Vec<Range<u64>> {
    let g = gather.entry.geometry;
    let mut lost = Vec::new();
    let parts: Vec<Part> = (0..g.k()).filter_map(|shard| Part::of(shard, g.shard_len(), &range)).collect();
    // Short ranges cross shards at rows far apart; long ones go row by row, so that each block is read once.
    let groups: Vec<&[Part]> = if range.len() <= g.shard_len() { parts.chunks(1).collect() } else { vec![&parts[..]] };
    for group in groups {
        if straight(gather, group, &range, out) {
            continue;
        }
        let from = group.iter().map(|p| p.rows.start).min().unwrap_or(0);
        let to = group.iter().map(|p| p.rows.end).max().unwrap_or(0);
        for mut window in gather.windows(from..to) {
            fill(gather, &mut window, group, &range, out, &mut lost);
        }
    }
    merge_ranges(lost)
}

/// Reads the parts of a group to where they are wanted and checks them there: while all is well, no byte is read or copied
/// twice. Whether all was well; what was not is for [`fill`] to mend and to note.
fn straight(gather: &mut Gather<'_>, group: &[Part], range: &Range<usize>, out: &mut [u8]) -> bool {
    // Where a shard is away, or on a drive that is not trusted, its rows are rebuilt from the others, which reads these as well.
    group.iter().all(|part| !gather.is_last_resort(part.shard) && gather.header(part.shard).is_some())
        && group.iter().all(|part| straight_part(gather, part, range, out))
}

fn straight_part(gather: &mut Gather<'_>, part: &Part, range: &Range<usize>, out: &mut [u8]) -> bool {
    let g = gather.entry.geometry;
    let origin = part.shard * g.shard_len();
    let (from, to) = (range.start.max(origin) - origin, range.end.min(origin + g.shard_len()) - origin);
    let out = &mut out[origin + from - range.start..origin + to - range.start];
    let mut edge = [0; SHARD_BLOCK_LEN];
    let mut row = part.rows.start;
    while row < part.rows.end {
        let block = g.block_range(row);
        let (start, end) = (block.start.max(from), block.end.min(to));
        if (start..end) == block {
            let is_whole = |row: &usize| g.block_range(*row).end <= to;
            let upto = (row + 1..part.rows.end).find(|row| !is_whole(row)).unwrap_or(part.rows.end);
            let end = g.block_range(upto - 1).end;
            if !gather.read_good(part.shard, row..upto, &mut out[start - from..end - from]) {
                return false;
            }
            row = upto;
        } else {
            // Only a piece of it is wanted, but its hash is that of the whole.
            let bytes = &mut edge[..block.len()];
            if !gather.read_good(part.shard, row..row + 1, bytes) {
                return false;
            }
            out[start - from..end - from].copy_from_slice(&bytes[start - block.start..end - block.start]);
            row += 1;
        }
    }
    true
}

fn fill(
    gather: &mut Gather<'_>,
    window: &mut Window,
    parts: &[Part],
    range: &Range<usize>,
    out: &mut [u8],
    lost: &mut Vec<Range<u64>>,
) {
    let g = gather.entry.geometry;
    let rows = window.rows.clone();
    for part in parts.iter().filter(|p| p.rows.start < rows.end && rows.start < p.rows.end) {
        if !gather.is_last_resort(part.shard) {
            gather.load(window, part.shard);
        }
    }
    for row in rows {
        let wanted: Vec<usize> = parts.iter().filter(|p| p.rows.contains(&row)).map(|p| p.shard).collect();
        gather.settle_row(window, row, &wanted);
        for shard in wanted {
            let block = g.block_range(row);
            let origin = shard * g.shard_len();
            let from = (origin + block.start).max(range.start);
            let to = (origin + block.end).min(range.end);
            if from >= to {
                continue;
            }
            match window.block(gather, shard, row).filter(|_| window.is_good(shard, row)) {
                Some(bytes) => out[from - range.start..to - range.start]
                    .copy_from_slice(&bytes[from - origin - block.start..to - origin - block.start]),
                None => lost.push(from as u64..to as u64),
            }
        }
    }
}

/// The rows of one data shard that a range needs.
struct Part {
    shard: usize,
    rows: Range<usize>,
}

impl Part {
    fn of(shard: usize, shard_len: usize, range: &Range<usize>) -> Option<Self> {
        let origin = shard * shard_len;
        let from = range.start.max(origin);
        let to = range.end.min(origin + shard_len);
        let rows = (from.checked_sub(origin)? / SHARD_BLOCK_LEN)..to.saturating_sub(origin).div_ceil(SHARD_BLOCK_LEN);
        (from < to).then_some(Self { shard, rows })
    }
}

/// Sorts ranges and joins those that touch.
pub(crate) fn merge_ranges(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
