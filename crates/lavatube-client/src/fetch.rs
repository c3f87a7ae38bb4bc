//! Fetching chunks: from an id to verified content. Steps 19 to 21 of the walk.
//!
//! Catalog, pack, pieces, frame, body: each [`Fetcher`] does that for one thread and keeps the frames it opened lately,
//! because neighbours in a tree are neighbours in a pack. Packs are read ahead of what the caller said it
//! [expects](Fetcher::expect), and no further: what another thread restores is not fetched twice. Content leaves here as
//! [`Opened`] only, its id derived again. It must not know trees.

mod cache;
mod index;
pub mod pack;
mod window;

use lavatube_base::limits::{DELTA_DEPTH_MAX, ZSTD_WINDOW_LOG_MAX};
use lavatube_base::{ChunkId, ObjectId};
use lavatube_format::Malformed;
use lavatube_format::catalog::{PackRow, Place};
use lavatube_format::pack::{Delta, Method, capacity};
use lavatube_seal::{ChunkIdKey, Opened, SealError};
use zstd::zstd_safe::{DCtx, DParameter};

use crate::catalog::{Catalog, CatalogError};
use crate::far::{Far, FarError};
use crate::fault::Fault;
use crate::frame::{FrameError, FrameOpener};
use crate::meter::Meter;
use crate::rebuild;
use crate::vaulted::Sessions;

use cache::FrameCache;
use index::Index;
use pack::OpenPack;
use window::{Spot, Window};

/// Everything a reading thread needs, shared and never written.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    /// Where chunks are.
    pub catalog: &'a Catalog<'a>,
    /// The sessions that are believed, and their keys.
    pub sessions: &'a Sessions<'a>,
    /// The vault.
    pub far: &'a dyn Far,
    /// The key chunk ids are derived with.
    pub chunk_ids: &'a ChunkIdKey,
}

impl Archive<'_> {
    /// Where chunk `id` lies. Damage of the catalog must not be taken for damage of the vault: it is mended first.
    fn find(&self, id: &ChunkId) -> Result<Option<Place>, FetchCause> {
        match self.catalog.find(id) {
            Ok(place) => Ok(place),
            Err(_) => {
                rebuild::mend(self)?;
                Ok(self.catalog.find(id)?)
            }
        }
    }
}

/// Why a chunk was not had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunk {}{}: {cause}", .chunk.short(), .pack.map(|p| format!(" in pack {}", p.short())).unwrap_or_default())]
pub struct FetchError {
    /// The chunk.
    pub chunk: ChunkId,
    /// The pack it should be in, when that is known.
    pub pack: Option<ObjectId>,
    /// What went wrong.
    pub cause: FetchCause,
}

/// What went wrong when a chunk was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchCause {
    /// The catalog has no such chunk.
    #[error("the catalog does not know it; rebuild the catalog from the vault")]
    Unknown,
    /// The catalog cannot be read, or names a pack that it does not have.
    #[error("{0}")]
    Catalog(String),
    /// No believed manifest names the pack.
    #[error("no believed manifest names the pack")]
    NotListed,
    /// The far side did not give the bytes.
    #[error(transparent)]
    Far(#[from] FarError),
    /// The bytes do not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The bytes open, and are not what the index or catalog says.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The content is not that of the id.
    #[error("the content is not what was stored (its id differs)")]
    WrongContent,
}

impl FetchCause {
    /// Whether the vault is away, so that asking for other chunks is of no use now.
    pub fn is_away(&self) -> bool {
        self.fault() == Fault::Away
    }
}

impl From<Malformed> for FetchCause {
    fn from(e: Malformed) -> Self {
        Self::Damaged(e.to_string())
    }
}

impl From<FrameError> for FetchCause {
    fn from(e: FrameError) -> Self {
        Self::Damaged(e.to_string())
    }
}

impl From<CatalogError> for FetchCause {
    fn from(e: CatalogError) -> Self {
        Self::Catalog(e.to_string())
    }
}

/// Where a chunk is, and how long its body, if that was said.
#[derive(Debug, Clone, Copy)]
struct Located {
    place: Place,
    body_len: Option<usize>,
}

/// An open pack, the newest last.
struct Held {
    number: u32,
    pack: OpenPack,
    index: Option<Index>,
}

/// A stretch of a pack that will be asked for.
struct Span {
    pack: u32,
    start: usize,
    end: usize,
}

/// Fetches chunks for one thread.
pub struct Fetcher<'a> {
    archive: Archive<'a>,
    opener: FrameOpener,
    frames: FrameCache,
    window: Window,
    expected: Vec<Span>,
    packs: Vec<Held>,
    broken: Vec<(u32, FetchCause)>,
    /// Pack of the last look-ups and how many in a row fell into it.
    streak: (u32, u32),
    undone: Vec<u8>,
    meter: Option<&'a Meter>,
}

/// Bytes of raw frames a fetcher keeps unless told otherwise.
pub const CACHE_BYTES: usize = 24 << 20;
/// Most stored bytes fetched at once beyond a single frame.
const READ_AHEAD: usize = 1 << 20;
/// Gap between two expected frames that is fetched rather than skipped.
const GAP_MAX: usize = 32 << 10;
const PACKS_OPEN: usize = 16;
const INDEXES_HELD: usize = 2;
const BROKEN_KEPT: usize = 64;
/// Look-ups in a row that fall into one pack before its index is worth fetching.
const STREAK: u32 = 32;

impl<'a> Fetcher<'a> {
    /// A fetcher that keeps up to `cache_bytes` of opened frames ([`CACHE_BYTES`] is a good number for one thread).
    ///
    /// # Errors
    /// [`FrameError`] when zstd cannot be set up.
    pub fn new(archive: Archive<'a>, cache_bytes: usize) -> Result<Self, FrameError> {
        Ok(Self {
            archive,
            opener: FrameOpener::new()?,
            frames: FrameCache::new(cache_bytes),
            window: Window::default(),
            expected: Vec::new(),
            packs: Vec::new(),
            broken: Vec::new(),
            streak: (0, 0),
            undone: Vec::new(),
            meter: None,
        })
    }

    /// Counts what is fetched in `meter.stored_bytes`.
    #[must_use]
    pub fn counting(mut self, meter: &'a Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// What the fetcher reads from.
    pub fn archive(&self) -> Archive<'a> {
        self.archive
    }

    /// The content of chunk `id`, whose length is `len` when the caller knows it (references of files say; those of
    /// snapshots, layers and lists do not).
    ///
    /// # Errors
    /// [`FetchError`] naming chunk, pack and cause. Content that does not have the id is never returned.
    pub fn chunk(&mut self, id: &ChunkId, len: Option<u64>) -> Result<Opened<'_>, FetchError> {
        let located = self.locate(id).map_err(|cause| FetchError { chunk: *id, pack: None, cause })?;
        let pack = self.archive.catalog.pack(located.place.pack).map(|row| row.id);
        let fail = |cause| FetchError { chunk: *id, pack, cause };
        let keys = self.archive.chunk_ids;
        //= FORMAT#F10 the id is derived again from the content, whatever way the content came
        let content = if located.place.delta {
            self.undone = self.undo_delta(id, &located, 0).map_err(fail)?;
            &self.undone[..]
        } else {
            self.body(id, &located, len).map_err(fail)?
        };
        if len.is_some_and(|len| len != content.len() as u64) {
            return Err(fail(FetchCause::Damaged("its length is not the one the tree states".into())));
        }
        keys.open(content, *id).ok_or_else(|| fail(FetchCause::WrongContent))
    }

    /// Where chunk `id` is, for whoever plans what to fetch next.
    ///
    /// # Errors
    /// [`FetchError`] when the catalog does not know it or cannot be read.
    pub fn place(&mut self, id: &ChunkId) -> Result<Place, FetchError> {
        self.locate(id).map(|l| l.place).map_err(|cause| FetchError { chunk: *id, pack: None, cause })
    }

    /// Says which places will be asked for next, in order, so that they are read in few large ranges.
    pub fn expect(&mut self, places: impl IntoIterator<Item = Place>) {
        self.expected.clear();
        for place in places {
            let (start, end) = frame_range(&place);
            match self.expected.last_mut() {
                Some(s) if s.pack == place.pack && start >= s.start && start <= s.end + GAP_MAX => {
                    s.end = s.end.max(end)
                }
                _ => self.expected.push(Span { pack: place.pack, start, end }),
            }
        }
    }

    fn locate(&mut self, id: &ChunkId) -> Result<Located, FetchCause> {
        for held in self.packs.iter().rev() {
            if let Some(known) = held.index.as_ref().and_then(|index| index.find(id)) {
                return Ok(Located { place: known.place, body_len: Some(known.body_len) });
            }
        }
        let place = self.archive.find(id)?.ok_or(FetchCause::Unknown)?;
        self.streak = if self.streak.0 == place.pack { (place.pack, self.streak.1 + 1) } else { (place.pack, 1) };
        if self.streak.1 == STREAK {
            // It only saves look-ups; whether the pack can be opened is told when a chunk of it is wanted.
            let _ = self.load_index(place.pack);
        }
        Ok(Located { place, body_len: None })
    }

    /// A chunk's body, as it stands in its frame.
    fn body(&mut self, id: &ChunkId, located: &Located, len: Option<u64>) -> Result<&[u8], FetchCause> {
        let place = located.place;
        let len = match located.body_len.or(len.and_then(|len| usize::try_from(len).ok())) {
            Some(len) => len,
            None => self.known(place.pack, id)?.0,
        };
        // A frame that is stored as it is and hardly holds another chunk is not worth a copy.
        let frame = if place.method == Method::Raw && len > place.frame_len as usize / 2 {
            let spot = self.stored(&place)?;
            self.window.get(&spot)
        } else {
            let slot = self.frame(&place)?;
            self.frames.raw(slot)
        };
        let start = place.body_at as usize;
        let body = start.checked_add(len).and_then(|end| frame.get(start..end));
        body.ok_or_else(|| FetchCause::Damaged("its body reaches beyond its frame".into()))
    }

    /// Body length and delta of a chunk, from its pack's index.
    fn known(&mut self, pack: u32, id: &ChunkId) -> Result<(usize, Option<Delta>), FetchCause> {
        let held = self.load_index(pack)?;
        let index = self.packs[held].index.as_ref();
        let known = index.and_then(|index| index.find(id).map(|k| (k.body_len, index.delta(id))));
        known.ok_or_else(|| FetchCause::Damaged("the pack's index does not have it, and the catalog says so".into()))
    }

    fn undo_delta(&mut self, id: &ChunkId, located: &Located, depth: usize) -> Result<Vec<u8>, FetchCause> {
        //= FORMAT#F9 a base is no delta of a depth over 7
        if depth > DELTA_DEPTH_MAX {
            return Err(FetchCause::Damaged("a chain of differences is longer than it may be".into()));
        }
        let (_, delta) = self.known(located.place.pack, id)?;
        let delta = delta.ok_or_else(|| FetchCause::Damaged("a difference without a base".into()))?;
        let base_at = self.locate(&delta.base)?;
        let base = if base_at.place.delta {
            self.undo_delta(&delta.base, &base_at, depth + 1)?
        } else {
            self.body(&delta.base, &base_at, None)?.to_vec()
        };
        self.archive.chunk_ids.open(&base, delta.base).ok_or(FetchCause::WrongContent)?;
        apply_delta(&base, self.body(id, located, None)?, delta.content_len)
    }

    /// The slot of the frame at `place`, fetched and opened unless it is at hand.
    fn frame(&mut self, place: &Place) -> Result<usize, FetchCause> {
        let key = (place.pack, place.frame_at);
        if let Some(slot) = self.frames.find(key) {
            return Ok(slot);
        }
        let stored = self.stored(place)?;
        let mut raw = self.frames.buffer();
        self.opener.open_whole(place.method, self.window.get(&stored), &mut raw)?;
        Ok(self.frames.insert(key, raw))
    }

    /// Brings the stored frame at `place` into the window.
    fn stored(&mut self, place: &Place) -> Result<Spot, FetchCause> {
        let (at, end) = frame_range(place);
        if let Some(spot) = self.window.find(place.pack, at, end - at) {
            return Ok(spot);
        }
        let held = self.hold(place.pack)?;
        let pack = &self.packs[held].pack;
        let (far, class) = (self.archive.far, pack.row.class);
        let expected = self.expected.iter().find(|s| s.pack == place.pack && (s.start..s.end).contains(&at));
        let expected = expected.map_or(end, |s| s.end.min(capacity(class)).max(end));
        let upto = expected.min(self.window.next(place.pack, at) + READ_AHEAD).max(end);
        let mut read = self.window.read(place.pack, pack, far, at..end, upto);
        if upto > end && read.as_ref().is_err_and(|e| !e.is_away()) {
            // What is damaged may lie beyond what is wanted now.
            read = self.window.read(place.pack, pack, far, at..end, end);
        }
        read?;
        let next = self.window.end();
        if next < expected {
            pack.expect(far, next, READ_AHEAD.min(expected - next));
        }
        if let Some(meter) = self.meter {
            meter.stored_bytes.add(self.window.len() as u64);
        }
        let spot = self.window.find(place.pack, at, end - at);
        spot.ok_or_else(|| FetchCause::Damaged("its frame reaches beyond the pack".into()))
    }

    /// Opens a pack unless it is open, and gives its place among the open ones: the last.
    fn hold(&mut self, number: u32) -> Result<usize, FetchCause> {
        if let Some(i) = self.packs.iter().rposition(|h| h.number == number) {
            self.packs[i..].rotate_left(1);
            return Ok(self.packs.len() - 1);
        }
        if let Some((_, cause)) = self.broken.iter().find(|(n, _)| *n == number) {
            return Err(cause.clone());
        }
        let row: PackRow = *self
            .archive
            .catalog
            .pack(number)
            .ok_or_else(|| FetchCause::Catalog(format!("the catalog has no pack number {number}; rebuild it")))?;
        let pack = OpenPack::open(&self.archive, row).inspect_err(|cause| {
            // A pack has many chunks: a lost one is asked for once, not once for each of them.
            if !cause.is_away() && self.broken.len() < BROKEN_KEPT {
                self.broken.push((number, cause.clone()));
            }
        })?;
        if self.packs.len() == PACKS_OPEN {
            self.packs.remove(0);
        }
        self.packs.push(Held { number, pack, index: None });
        Ok(self.packs.len() - 1)
    }

    fn load_index(&mut self, number: u32) -> Result<usize, FetchCause> {
        let held = self.hold(number)?;
        if self.packs[held].index.is_none() {
            let frames = self.packs[held].pack.index(self.archive.far)?;
            self.packs[held].index = Some(Index::new(number, &frames));
            let older = self.packs.iter_mut().rev().filter(|h| h.index.is_some()).skip(INDEXES_HELD);
            older.for_each(|h| h.index = None);
        }
        Ok(held)
    }
}

fn frame_range(place: &Place) -> (usize, usize) {
    let at = place.frame_at as usize;
    (at, at + place.frame_len as usize)
}

/// Content from a body that was compressed with `base` as prefix.
fn apply_delta(base: &[u8], body: &[u8], content_len: usize) -> Result<Vec<u8>, FetchCause> {
    let fail =
        |code| FetchCause::Damaged(format!("a difference does not open: {}", zstd::zstd_safe::get_error_name(code)));
    let mut zstd = DCtx::create();
    zstd.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(fail)?;
    zstd.ref_prefix(base).map_err(fail)?;
    // The index reader has bounded the length.
    let mut out = Vec::with_capacity(content_len);
    zstd.decompress(&mut out, body).map_err(fail)?;
    if out.len() != content_len {
        return Err(FetchCause::Damaged("a difference opens to another length than its index says".into()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
