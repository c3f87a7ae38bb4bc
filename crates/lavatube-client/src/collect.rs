//! Collects chunks: known ones become references, new ones go into frames. Steps 3 and 4 of the walk.
//!
//! Data and tree chunks are framed apart, so that listing a snapshot opens few frames. It must not know what happens to
//! a frame after it was handed to the [`Outlet`]: one thread or four, spool or vault.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use lavatube_base::ChunkId;
use lavatube_format::catalog::{PackRow, Record};
use lavatube_format::pack::ChunkEntry;
use lavatube_seal::ChunkIdKey;

use crate::catalog::{Catalog, CatalogError, records_of};
use crate::delivery::DeliveredPack;
use crate::frame::RawFrame;
use crate::packer::PackError;

/// Raw bytes of a frame unless told otherwise. Measured in `docs/decisions/0002-chunk-and-frame-sizes.md`: twice as much
/// saves 2 % and doubles what one small file costs to read back.
pub const FRAME_LEN: usize = 512 << 10;
/// Raw bytes of the last frames of a session.
const LAST_FRAME_LEN: usize = 32 << 10;
/// Records of delivered packs are put into the catalog in runs of this many.
const SPILL_RECORDS: usize = 256 << 10;

/// Where frames go to be pressed, packed and delivered, in the order of their numbers.
pub trait Outlet {
    /// Takes a frame. May wait when too many are under way.
    ///
    /// # Errors
    /// When an earlier frame could not be packed or delivered.
    fn submit(&mut self, frame: RawFrame) -> Result<(), PackError>;

    /// Packs that were delivered since the last call. Does not wait.
    fn delivered(&mut self) -> Vec<DeliveredPack>;

    /// An empty buffer to fill, perhaps one that served before.
    fn buffer(&mut self) -> Vec<u8> {
        Vec::with_capacity(FRAME_LEN + FRAME_LEN / 8)
    }
}

/// Which frames a chunk goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lane {
    /// Content of files.
    #[default]
    Data,
    /// Content of files that does not compress: in frames of a chunk or two, which fill packs without gaps.
    Loose,
    /// Trees, lists, descriptors and snapshot records.
    Tree,
}

impl Lane {
    /// All lanes; the one with snapshot records last.
    pub const ALL: [Self; 3] = [Self::Data, Self::Loose, Self::Tree];

    /// Raw bytes of its frames, where those of data have `frame_len`.
    const fn frame_len(self, frame_len: usize) -> usize {
        match self {
            Self::Data | Self::Tree => frame_len,
            Self::Loose => frame_len / 4,
        }
    }
}

/// Why collecting failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Packing or delivering failed.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// Chunk ids are pseudo-random already; hashing them again would be a waste.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for (i, b) in bytes.iter().take(8).enumerate() {
            self.0 ^= u64::from(*b) << (8 * i);
        }
    }
    fn write_u128(&mut self, v: u128) {
        self.0 = (v >> 64) as u64 ^ v as u64;
    }
}

fn short(id: &ChunkId) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&id.0[..16]);
    u128::from_le_bytes(first)
}

/// The collector of one backup.
pub struct Collector<'c, 's> {
    ids: ChunkIdKey,
    catalog: &'c mut Catalog<'s>,
    outlet: &'c mut dyn Outlet,
    frame_len: usize,
    /// Chunks of this session that are not in the catalog yet.
    in_flight: HashSet<u128, BuildHasherDefault<IdHasher>>,
    frames: [RawFrame; 3],
    next_frame: u64,
    rows: Vec<PackRow>,
    records: Vec<Record>,
    first_row: u32,
    new_bytes: u64,
}

impl<'c, 's> Collector<'c, 's> {
    /// A collector that asks `catalog` and feeds `outlet` with frames of at most `frame_len` raw bytes, or of one chunk.
    pub fn new(ids: ChunkIdKey, catalog: &'c mut Catalog<'s>, outlet: &'c mut dyn Outlet, frame_len: usize) -> Self {
        let first_row = u32::try_from(catalog.packs().len()).unwrap_or(u32::MAX);
        Self {
            ids,
            catalog,
            outlet,
            frame_len,
            in_flight: HashSet::default(),
            frames: Default::default(),
            next_frame: 0,
            rows: Vec::new(),
            records: Vec::new(),
            first_row,
            new_bytes: 0,
        }
    }

    /// Bytes of content that were new so far, of both lanes.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes
    }

    /// Adds a chunk and returns its id and whether it was new.
    ///
    /// # Errors
    /// When the catalog or the outlet fails.
    pub fn add(&mut self, lane: Lane, content: &[u8]) -> Result<(ChunkId, bool), CollectError> {
        let id = self.ids.id(content);
        if self.in_flight.contains(&short(&id)) || self.catalog.knows(&id)? {
            return Ok((id, false));
        }
        self.in_flight.insert(short(&id));
        self.new_bytes += content.len() as u64;
        let frame_len = lane.frame_len(self.frame_len);
        let frame = self.lane(lane);
        if !frame.chunks.is_empty() && frame.bytes.len() + content.len() > frame_len {
            self.flush(lane)?;
        }
        if self.lane(lane).bytes.capacity() == 0 {
            self.lane(lane).bytes = match lane {
                // It is stored as it is and stays in memory until its pack is full: no byte more than it needs.
                Lane::Loose => Vec::with_capacity(content.len().max(frame_len)),
                Lane::Data | Lane::Tree => self.outlet.buffer(),
            };
        }
        let frame = self.lane(lane);
        frame.bytes.extend_from_slice(content);
        frame.chunks.push(ChunkEntry { id, body_len: content.len(), delta: None });
        Ok((id, true))
    }

    fn lane(&mut self, lane: Lane) -> &mut RawFrame {
        &mut self.frames[lane as usize]
    }

    /// Hands the open frame of `lane` on.
    fn flush(&mut self, lane: Lane) -> Result<(), CollectError> {
        let number = self.next_frame;
        let frame = std::mem::take(self.lane(lane));
        if !frame.chunks.is_empty() {
            self.next_frame += 1;
            self.outlet.submit(RawFrame { number, lane, ..frame })?;
        }
        self.absorb()
    }

    /// Hands all open frames on in small ones: the last of a session, which the smaller pack classes can then be filled
    /// with.
    ///
    /// # Errors
    /// When the outlet fails.
    pub fn flush_last(&mut self) -> Result<(), CollectError> {
        Lane::ALL.into_iter().try_for_each(|lane| self.flush_small(lane))
    }

    fn flush_small(&mut self, lane: Lane) -> Result<(), CollectError> {
        let frame = std::mem::take(self.lane(lane));
        let mut rest = &frame.bytes[..];
        for chunk in frame.chunks {
            let (body, after) = rest.split_at(chunk.body_len);
            rest = after;
            let open = self.lane(lane);
            open.bytes.extend_from_slice(body);
            open.chunks.push(chunk);
            if open.bytes.len() >= LAST_FRAME_LEN {
                self.flush(lane)?;
            }
        }
        self.flush(lane)
    }

    /// Takes note of what was delivered; spills into the catalog when that is much.
    fn absorb(&mut self) -> Result<(), CollectError> {
        for pack in self.outlet.delivered() {
            let row = self.first_row + u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
            self.records.extend(records_of(row, &pack.frames));
            self.rows.push(pack.row);
        }
        if self.records.len() >= SPILL_RECORDS { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), CollectError> {
        if !self.rows.is_empty() {
            self.catalog.add_packs(&self.rows)?;
            self.rows.clear();
        }
        let records = std::mem::take(&mut self.records);
        for record in &records {
            self.in_flight.remove(&short(&record.id));
        }
        self.catalog.add_records(records)?;
        self.first_row = u32::try_from(self.catalog.packs().len()).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Puts all that was delivered into the catalog, after the session is done.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub fn finish(mut self) -> Result<(), CollectError> {
        self.absorb()?;
        self.spill()
    }
}
