//! Reading a chunk from one place: catalog, pack, pieces, frame, body. Steps 19 to 21 of the walk.
//!
//! A reader keeps the frames it opened lately, because neighbours in a tree are neighbours in a pack. Packs are read
//! ahead of what the caller said it [expects](PlaceReader::expect), and no further: what another thread restores is not
//! fetched twice. It must not know why it is asked for one place and not for another, but for the bases of differences,
//! which it looks for itself.

use lavatube_base::ChunkId;
use lavatube_base::limits::{DELTA_DEPTH_MAX, ZSTD_WINDOW_LOG_MAX};
use lavatube_format::catalog::{PackRow, Place};
use lavatube_format::pack::{Delta, Method, capacity};
use lavatube_seal::Opened;
use zstd::zstd_safe::{DCtx, DParameter};

use super::cache::FrameCache;
use super::index::Index;
use super::pack::OpenPack;
use super::window::{Spot, Window};
use super::{Archive, FetchCause};
use crate::frame::{FrameError, FrameOpener};
use crate::meter::Meter;

/// Where a chunk is, and how long its body, if that was said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Located {
    /// Where.
    pub(super) place: Place,
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

/// Reads chunks for one thread, each from one place.
pub(super) struct PlaceReader<'a> {
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
    /// Where bytes that are fetched are counted.
    pub(super) meter: Option<&'a Meter>,
}

/// Most stored bytes fetched at once beyond a single frame.
const READ_AHEAD: usize = 1 << 20;
/// Gap between two expected frames that is fetched rather than skipped.
pub(crate) const GAP_MAX: usize = 32 << 10;
const PACKS_OPEN: usize = 16;
const INDEXES_HELD: usize = 2;
const BROKEN_KEPT: usize = 64;
/// Look-ups in a row that fall into one pack before its index is worth fetching.
const STREAK: u32 = 32;

impl<'a> PlaceReader<'a> {
    /// A reader that keeps up to `cache_bytes` of opened frames.
    ///
    /// # Errors
    /// [`FrameError`] when zstd cannot be set up.
    pub(super) fn new(archive: Archive<'a>, cache_bytes: usize, meter: Option<&'a Meter>) -> Result<Self, FrameError> {
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
            meter,
        })
    }

    /// Chunk `id` from where it was located.
    ///
    /// # Errors
    /// [`FetchCause`] when it cannot be had from there.
    pub(super) fn chunk(
        &mut self,
        id: &ChunkId,
        located: &Located,
        len: Option<u64>,
    ) -> Result<Opened<'_>, FetchCause> {
        let archive = self.archive;
        let content = if located.place.delta {
            self.undone = self.undo_delta(id, located, 0)?;
            &self.undone[..]
        } else {
            self.body(id, located, len)?
        };
        archive.verify(content, id, len)
    }

    /// A copy of chunk `id` from another place than `tried`, where it was not had because of `cause`: from the newest that
    /// has it whole. It is a base with `depth` differences above it.
    ///
    /// # Errors
    /// `cause`, when no other place has it either; that the vault is away, when one may.
    pub(super) fn copy_from_others(
        &mut self,
        id: &ChunkId,
        len: Option<u64>,
        depth: usize,
        tried: Place,
        cause: FetchCause,
    ) -> Result<Vec<u8>, FetchCause> {
        for place in self.archive.ask(|catalog| catalog.places(id))?.into_iter().filter(|place| *place != tried) {
            match self.copy(id, len, depth, &Located { place, body_len: None }) {
                Err(other) if !other.is_away() => {}
                had => return had,
            }
        }
        Err(cause)
    }

    fn copy(&mut self, id: &ChunkId, len: Option<u64>, depth: usize, located: &Located) -> Result<Vec<u8>, FetchCause> {
        let content = match located.place.delta {
            true => self.undo_delta(id, located, depth)?,
            false => self.body(id, located, len)?.to_vec(),
        };
        self.archive.verify(&content, id, len)?;
        Ok(content)
    }

    /// Says which places will be asked for next, in order, so that they are read in few large ranges.
    pub(super) fn expect(&mut self, places: impl IntoIterator<Item = Place>) {
        self.expected.clear();
        for place in places {
            let (start, end) = frame_range(&place);
            match self.expected.last_mut() {
                Some(s)
                    if s.pack == place.pack
                        && start >= s.start
                        && start <= s.end + GAP_MAX
                        && self.archive.stay(place.pack, s.end..start) =>
                {
                    s.end = s.end.max(end)
                }
                _ => self.expected.push(Span { pack: place.pack, start, end }),
            }
        }
    }

    /// Where chunk `id` is: the newest place, or one in a pack whose index is at hand.
    ///
    /// # Errors
    /// [`FetchCause`] when the catalog does not know it or cannot be read.
    pub(super) fn locate(&mut self, id: &ChunkId) -> Result<Located, FetchCause> {
        for held in self.packs.iter().rev() {
            let known = held.index.as_ref().and_then(|index| index.find(id));
            if let Some(known) = known.filter(|known| self.archive.catalog.stands(&known.place)) {
                return Ok(Located { place: known.place, body_len: Some(known.body_len) });
            }
        }
        let place = self.archive.ask(|catalog| catalog.find(id))?.ok_or(FetchCause::Unknown)?;
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
        let base = match self.copy(&delta.base, None, depth + 1, &base_at) {
            Err(cause) if !cause.is_away() => {
                self.copy_from_others(&delta.base, None, depth + 1, base_at.place, cause)?
            }
            had => had?,
        };
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
