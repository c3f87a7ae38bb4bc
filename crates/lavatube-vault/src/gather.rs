//! Gathering: blocks of one object back from the drives, each against its hash, wrong ones replaced by what others tell.
//!
//! Works through windows of rows so that memory stays small whatever the object. Everything seen to be wrong on the way is
//! noted per shard. It must not know what the bytes are for. Step 20 of the walk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use lavatube_base::ObjectId;
use lavatube_base::digest::h16;
use lavatube_codes::Code;
use lavatube_format::shard::{ShardHeader, shard_name};

use crate::index::Entry;
use crate::row::{self, RowBlock};
use crate::{Drive, DriveError, ShardState, Vault};

/// Parsed headers of shards read lately.
#[derive(Default)]
pub(crate) struct HeaderCache {
    headers: BTreeMap<(ObjectId, u8), Arc<ShardHeader>>,
    hashes: usize,
}

impl HeaderCache {
    fn keep(&mut self, header: &Arc<ShardHeader>) {
        self.hashes += header.hashes.len() + 8;
        if self.hashes > HASHES_CACHED_MAX {
            self.headers.clear();
            self.hashes = header.hashes.len() + 8;
        }
        self.headers.insert((header.object, header.index), header.clone());
    }

    /// Forgets an object whose shards were written anew.
    pub(crate) fn forget(&mut self, object: ObjectId) {
        self.headers.retain(|(id, _), _| *id != object);
    }
}

/// One object being gathered.
pub(crate) struct Gather<'v> {
    vault: &'v Vault,
    id: ObjectId,
    pub(crate) entry: &'v Entry,
    code: Cow<'v, Code>,
    headers: Vec<Option<Arc<ShardHeader>>>,
    looked: Vec<bool>,
    /// Bytes that may still be hashed in vain.
    allowance: u64,
    /// Memory of windows that are done with.
    spare: Vec<Vec<u8>>,
    /// What was seen of each shard so far.
    pub(crate) states: Vec<ShardState>,
}

/// A few rows of an object, of the shards that were loaded.
pub(crate) struct Window {
    pub(crate) rows: Range<usize>,
    lanes: Vec<Option<Lane>>,
}

/// One shard's blocks of a window.
struct Lane {
    bytes: Vec<u8>,
    there: Vec<bool>,
    good: Vec<bool>,
}

impl<'v> Gather<'v> {
    pub(crate) fn new(vault: &'v Vault, id: ObjectId, entry: &'v Entry) -> Self {
        let shards = entry.geometry.shards();
        Self {
            vault,
            id,
            entry,
            code: vault.code_of(entry),
            headers: vec![None; shards],
            looked: vec![false; shards],
            allowance: row::ALLOWANCE,
            spare: Vec::new(),
            states: vec![ShardState::Good; shards],
        }
    }

    /// Windows that cover `rows`.
    pub(crate) fn windows(&self, rows: Range<usize>) -> impl Iterator<Item = Window> + use<> {
        let shards = self.entry.geometry.shards();
        rows.clone().step_by(WINDOW_ROWS).map(move |from| Window {
            rows: from..rows.end.min(from + WINDOW_ROWS),
            lanes: (0..shards).map(|_| None).collect(),
        })
    }

    /// A window is done with.
    pub(crate) fn done(&mut self, window: Window) {
        self.spare.extend(window.lanes.into_iter().flatten().map(|lane| lane.bytes));
    }

    fn drive(&self, shard: usize) -> Option<&'v dyn Drive> {
        self.vault.slots.get(self.entry.slot(shard)?)?.reader()
    }

    /// Whether a shard is read only where the others are not enough.
    pub(crate) fn is_last_resort(&self, shard: usize) -> bool {
        let place = self.entry.slot(shard).and_then(|slot| self.vault.slots.get(slot));
        place.is_some_and(crate::status::Slot::is_last_resort)
    }

    fn name(&self, shard: usize) -> String {
        shard_name(self.id, narrow(shard))
    }

    /// The header of a shard from the cache or its drive; what is wrong with it is noted.
    pub(crate) fn header(&mut self, shard: usize) -> Option<Arc<ShardHeader>> {
        if !self.looked[shard] {
            self.looked[shard] = true;
            let cached = self.cached(shard);
            self.headers[shard] = cached.or_else(|| {
                let header = Arc::new(self.read_header(shard, false)?);
                if let Ok(mut cache) = self.vault.headers.lock() {
                    cache.keep(&header);
                }
                Some(header)
            });
        }
        self.headers[shard].clone()
    }

    fn cached(&self, shard: usize) -> Option<Arc<ShardHeader>> {
        let cache = self.vault.headers.lock().ok()?;
        cache.headers.get(&(self.id, narrow(shard))).filter(|h| self.is_ours(h, shard)).cloned()
    }

    /// Reads both copies of a shard's header, past the cache.
    pub(crate) fn examine_header(&mut self, shard: usize) {
        self.looked[shard] = true;
        self.headers[shard] = self.read_header(shard, true).map(Arc::new);
    }

    fn read_header(&mut self, shard: usize, both: bool) -> Option<ShardHeader> {
        let Some(drive) = self.drive(shard) else {
            let has_slot = self.entry.slot(shard).is_some();
            self.states[shard] = if has_slot { ShardState::Missing } else { ShardState::NotStored };
            return None;
        };
        let (name, g) = (self.name(shard), self.entry.geometry);
        let read = |at: usize| {
            let mut bytes = vec![0; g.header_len()];
            drive.read_at(&name, at as u64, &mut bytes).map(|n| {
                bytes.truncate(n);
                bytes
            })
        };
        let first = match read(0) {
            Ok(bytes) => bytes,
            Err(DriveError::NotFound) => {
                self.states[shard] = ShardState::Missing;
                return None;
            }
            Err(error) => {
                self.states[shard] = ShardState::Unreadable(error);
                Vec::new()
            }
        };
        let first_header = ShardHeader::decode(&first).ok();
        if first_header.is_some() && !both {
            return self.accept(shard, first_header);
        }
        let last = read(g.header_len() + g.shard_len()).unwrap_or_default();
        // Behind something else it is not found by whoever knows no more than the length of the file.
        let is_last = drive.len(&name).is_ok_and(|len| len == Some((2 * g.header_len() + g.shard_len()) as u64));
        let last_header = ShardHeader::decode(&last).ok().filter(|_| is_last);
        let damaged = usize::from(first_header.is_none()) + usize::from(last_header.is_none());
        let header = first_header.or(last_header).or_else(|| ShardHeader::decode_copies(&first, &last));
        if header.is_none() {
            if !matches!(self.states[shard], ShardState::Unreadable(_)) {
                self.states[shard] = ShardState::HeadersLost;
            }
        } else if damaged > 0 {
            self.states[shard] = ShardState::Damaged { header_copies: narrow(damaged), blocks: Vec::new() };
        }
        self.accept(shard, header)
    }

    fn accept(&mut self, shard: usize, header: Option<ShardHeader>) -> Option<ShardHeader> {
        let header = header?;
        if self.is_ours(&header, shard) {
            return Some(header);
        }
        self.states[shard] = ShardState::OtherStripe;
        None
    }

    fn is_ours(&self, header: &ShardHeader, shard: usize) -> bool {
        //= FORMAT#F15 a shard of another generation is as good as none
        header.generation == self.entry.generation
            && header.object == self.id
            && usize::from(header.index) == shard
            && header.geometry == self.entry.geometry
            && header.kind == self.entry.kind
            && header.vault == self.vault.card.vault
    }

    /// Loads a shard's blocks of the window and checks each.
    pub(crate) fn load(&mut self, window: &mut Window, shard: usize) {
        if window.lanes[shard].is_some() {
            return;
        }
        let Some(header) = self.header(shard) else { return };
        let g = self.entry.geometry;
        let start = g.block_range(window.rows.start).start;
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.resize(g.block_range(window.rows.end - 1).end - start, 0);
        let mut there = vec![true; window.rows.len()];
        if self.read_body(shard, start, &mut bytes).is_err() {
            // One unreadable sector must not take its neighbours with it.
            for (row, there) in window.rows.clone().zip(&mut there) {
                let block = g.block_range(row);
                let part = &mut bytes[block.start - start..block.end - start];
                *there = self.read_body(shard, block.start, part).is_ok();
            }
        }
        let mut good = Vec::with_capacity(there.len());
        for (row, there) in window.rows.clone().zip(&there) {
            let block = g.block_range(row);
            let right = *there && h16(&[&bytes[block.start - start..block.end - start]]) == header.hashes[row];
            if !right {
                self.note_bad_block(shard, row);
            }
            good.push(right);
        }
        window.lanes[shard] = Some(Lane { bytes, there, good });
    }

    /// Reads whole blocks of a shard into `out`. Whether all of them are as they should be.
    pub(crate) fn read_good(&mut self, shard: usize, rows: Range<usize>, out: &mut [u8]) -> bool {
        let Some(header) = self.header(shard) else { return false };
        let g = self.entry.geometry;
        let start = g.block_range(rows.start).start;
        self.read_body(shard, start, out).is_ok()
            && rows
                .map(|row| (row, g.block_range(row)))
                .all(|(row, block)| h16(&[&out[block.start - start..block.end - start]]) == header.hashes[row])
    }

    fn note_bad_block(&mut self, shard: usize, row: usize) {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        match &mut self.states[shard] {
            ShardState::Damaged { blocks, .. } if blocks.contains(&row) => {}
            ShardState::Damaged { blocks, .. } => blocks.push(row),
            state => *state = ShardState::Damaged { header_copies: 0, blocks: vec![row] },
        }
    }

    /// Reads shard bytes from `at` on into `buf`, undoing the rotation. What the file does not have is zeros.
    fn read_body(&self, shard: usize, at: usize, buf: &mut [u8]) -> Result<(), DriveError> {
        let drive = self.drive(shard).ok_or(DriveError::Gone)?;
        let (name, g) = (self.name(shard), self.entry.geometry);
        let (len, rotation) = (g.shard_len(), g.rotation(shard));
        let mut done = 0;
        while done < buf.len() {
            let position = (at + done + rotation) % len;
            let n = (buf.len() - done).min(len - position);
            let part = &mut buf[done..done + n];
            let got = drive.read_at(&name, (g.header_len() + position) as u64, part)?;
            part[got..].fill(0);
            done += n;
        }
        Ok(())
    }

    /// Makes the blocks of `wanted` shards in one row good, loading as many others as that takes. Whether it could.
    pub(crate) fn settle_row(&mut self, window: &mut Window, row: usize, wanted: &[usize]) -> bool {
        if wanted.iter().all(|&s| window.is_good(s, row)) {
            return true;
        }
        let k = self.code.k();
        let (last, first): (Vec<usize>, Vec<usize>) =
            (0..self.entry.geometry.shards()).partition(|shard| self.is_last_resort(*shard));
        for shard in first.into_iter().chain(last) {
            if window.good_count(row) >= k {
                break;
            }
            self.load(window, shard);
        }
        if window.good_count(row) >= k && self.rebuild_row(window, row, wanted) {
            return true;
        }
        // Hashes alone do not do it: everything that is there may help.
        (0..self.entry.geometry.shards()).for_each(|shard| self.load(window, shard));
        let len = self.entry.geometry.block_range(row).len();
        let mut blocks: Vec<RowBlock> = (0..self.entry.geometry.shards())
            .map(|shard| {
                let hash = self.headers[shard].as_ref().map(|h| h.hashes[row]);
                RowBlock::read(window.block(self, shard, row).map(<[u8]>::to_vec), hash)
            })
            .collect();
        row::settle(&self.code, &mut blocks, len, &mut self.allowance);
        for (shard, block) in blocks.into_iter().enumerate().filter(|(_, b)| b.good) {
            if let Some(bytes) = block.bytes {
                window.put(self, shard, row, &bytes);
            }
        }
        wanted.iter().all(|&s| window.is_good(s, row))
    }

    /// The common case: `k` good blocks are loaded, the wanted ones that are not good follow from them.
    fn rebuild_row(&mut self, window: &mut Window, row: usize, wanted: &[usize]) -> bool {
        let len = self.entry.geometry.block_range(row).len();
        let bad: Vec<usize> = wanted.iter().copied().filter(|&s| !window.is_good(s, row)).collect();
        let mut made = vec![vec![0; len]; bad.len()];
        {
            let good = (0..self.entry.geometry.shards()).filter(|&s| window.is_good(s, row));
            let have: Vec<(usize, &[u8])> = good.filter_map(|s| Some((s, window.block(self, s, row)?))).collect();
            let mut want: Vec<(usize, &mut [u8])> =
                bad.iter().zip(&mut made).map(|(s, bytes)| (*s, &mut bytes[..])).collect();
            if self.code.rebuild(&have, &mut want).is_err() {
                return false;
            }
        }
        let contradicts = |(shard, bytes): (&usize, &Vec<u8>)| {
            self.headers[*shard].as_ref().is_some_and(|h| h.hashes[row] != h16(&[bytes]))
        };
        if bad.iter().zip(&made).any(contradicts) {
            return false;
        }
        bad.iter().zip(&made).for_each(|(&shard, bytes)| window.put(self, shard, row, bytes));
        true
    }
}

impl Window {
    /// Whether a block is loaded (or was rebuilt) and right.
    pub(crate) fn is_good(&self, shard: usize, row: usize) -> bool {
        self.lanes[shard].as_ref().is_some_and(|lane| lane.good[row - self.rows.start])
    }

    /// Number of shards with a good block in the row.
    pub(crate) fn good_count(&self, row: usize) -> usize {
        (0..self.lanes.len()).filter(|&s| self.is_good(s, row)).count()
    }

    /// A block as loaded or rebuilt.
    pub(crate) fn block(&self, of: &Gather<'_>, shard: usize, row: usize) -> Option<&[u8]> {
        let lane = self.lanes[shard].as_ref().filter(|lane| lane.there[row - self.rows.start])?;
        let start = of.entry.geometry.block_range(self.rows.start).start;
        let block = of.entry.geometry.block_range(row);
        Some(&lane.bytes[block.start - start..block.end - start])
    }

    fn put(&mut self, of: &Gather<'_>, shard: usize, row: usize, bytes: &[u8]) {
        let g = of.entry.geometry;
        let start = g.block_range(self.rows.start).start;
        let len = g.block_range(self.rows.end - 1).end - start;
        let rows = self.rows.len();
        let lane = self.lanes[shard].get_or_insert_with(|| Lane {
            bytes: vec![0; len],
            there: vec![false; rows],
            good: vec![false; rows],
        });
        let block = g.block_range(row);
        lane.bytes[block.start - start..block.end - start].copy_from_slice(bytes);
        lane.there[row - self.rows.start] = true;
        lane.good[row - self.rows.start] = true;
    }
}

fn narrow(n: usize) -> u8 {
    u8::try_from(n).expect("shard indexes are below DRIVES_MAX")
}

/// Rows read at once: 256 KiB of each shard.
const WINDOW_ROWS: usize = 16;
/// Block hashes kept in memory: 4 MiB.
const HASHES_CACHED_MAX: usize = (4 << 20) / 16;
