//! Fetching chunks: from an id to verified content. Steps 19 to 21 of the walk.
//!
//! A chunk lies in one place, mostly, and is fetched from there. Where that fails, each other place it has is tried, by a
//! second reader: it is lost only when all of them are. Content leaves here as [`Opened`] only, its id derived again. It
//! must not know trees.

mod cache;
mod index;
pub mod pack;
pub(crate) mod place;
mod window;

use lavatube_base::{ChunkId, ObjectId};
use lavatube_format::Malformed;
use lavatube_format::catalog::{PackRow, Place};
use lavatube_format::pack::covering;
use lavatube_seal::{ChunkIdKey, Opened, SealError};

use crate::catalog::{Catalog, CatalogError};
use crate::far::{Far, FarError};
use crate::fault::Fault;
use crate::frame::FrameError;
use crate::meter::Meter;
use crate::rebuild;
use crate::vaulted::Sessions;

use place::PlaceReader;

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
    /// Asks the catalog. Damage of it must not be taken for damage of the vault: it is mended first.
    fn ask<T>(&self, question: impl Fn(&Catalog<'_>) -> Result<T, CatalogError>) -> Result<T, FetchCause> {
        match question(self.catalog) {
            Ok(answer) => Ok(answer),
            Err(_) => {
                rebuild::mend(self)?;
                Ok(question(self.catalog)?)
            }
        }
    }

    /// Whether nothing was freed of plaintext of a pack, so that it can be read along with what is around it.
    pub(crate) fn stay(&self, pack: u32, plain: std::ops::Range<usize>) -> bool {
        self.catalog.pack(pack).is_none_or(|row| self.stays(row, plain))
    }

    /// The same, of a pack of which no row is needed.
    pub(crate) fn stays(&self, row: &PackRow, plain: std::ops::Range<usize>) -> bool {
        let Some(stays) = self.sessions.released().stays.get(&row.id) else { return true };
        plain.is_empty() || stays.has(&covering(row.class, plain.start, plain.len()).1)
    }

    /// `content`, if it is that of chunk `id`, and of length `len` when that is known.
    fn verify<'c>(&self, content: &'c [u8], id: &ChunkId, len: Option<u64>) -> Result<Opened<'c>, FetchCause> {
        if len.is_some_and(|len| len != content.len() as u64) {
            return Err(FetchCause::Damaged("its length is not the one the tree states".into()));
        }
        //= FORMAT#F10 the id is derived again from the content, whatever way the content came
        self.chunk_ids.open(content, *id).ok_or(FetchCause::WrongContent)
    }
}

/// Why a chunk was not had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunk {}{}: {cause}", .chunk.short(), .pack.map(|p| format!(" in pack {}", p.short())).unwrap_or_default())]
pub struct FetchError {
    /// The chunk.
    pub chunk: ChunkId,
    /// The pack it should be in, when that is known: the newest, when there are several.
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
    /// Whether the vault is away, or nothing of it has room here, so that asking for other chunks is of no use now.
    pub fn is_away(&self) -> bool {
        matches!(self.fault(), Fault::Away | Fault::Full)
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

/// Fetches chunks for one thread.
pub struct Fetcher<'a> {
    archive: Archive<'a>,
    cache_bytes: usize,
    meter: Option<&'a Meter>,
    reader: PlaceReader<'a>,
    /// Reads what the first reader does not have whole; there is none before something fails.
    second: Option<PlaceReader<'a>>,
    /// What the second reader read last.
    copy: Vec<u8>,
}

/// Bytes of raw frames a fetcher keeps unless told otherwise.
pub const CACHE_BYTES: usize = 24 << 20;

impl<'a> Fetcher<'a> {
    /// A fetcher that keeps up to `cache_bytes` of opened frames ([`CACHE_BYTES`] is a good number for one thread), and
    /// half as much again while it meets damage.
    ///
    /// # Errors
    /// [`FrameError`] when zstd cannot be set up.
    pub fn new(archive: Archive<'a>, cache_bytes: usize) -> Result<Self, FrameError> {
        let reader = PlaceReader::new(archive, cache_bytes, None)?;
        Ok(Self { archive, cache_bytes, meter: None, reader, second: None, copy: Vec::new() })
    }

    /// Counts what is fetched in `meter.stored_bytes`.
    #[must_use]
    pub fn counting(mut self, meter: &'a Meter) -> Self {
        self.meter = Some(meter);
        self.reader.meter = self.meter;
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
    /// [`FetchError`] naming chunk, pack and cause, when it cannot be had from any place it has. Content that does not
    /// have the id is never returned.
    pub fn chunk(&mut self, id: &ChunkId, len: Option<u64>) -> Result<Opened<'_>, FetchError> {
        let located = self.reader.locate(id).map_err(|cause| FetchError { chunk: *id, pack: None, cause })?;
        let pack = self.archive.catalog.pack(located.place.pack).map(|row| row.id);
        let fail = |cause| FetchError { chunk: *id, pack, cause };
        let cause = match self.reader.chunk(id, &located, len) {
            Err(cause) if !cause.is_away() => cause,
            had => return had.map_err(fail),
        };
        let second = match &mut self.second {
            Some(second) => second,
            none => {
                let new = PlaceReader::new(self.archive, self.cache_bytes / 2, self.meter);
                none.insert(new.map_err(|e| fail(e.into()))?)
            }
        };
        self.copy = second.copy_from_others(id, len, 0, located.place, cause).map_err(fail)?;
        self.archive.verify(&self.copy, id, len).map_err(fail)
    }

    /// Where chunk `id` is, for whoever plans what to fetch next: the newest place, when it has several.
    ///
    /// # Errors
    /// [`FetchError`] when the catalog does not know it or cannot be read.
    pub fn place(&mut self, id: &ChunkId) -> Result<Place, FetchError> {
        self.reader.locate(id).map(|l| l.place).map_err(|cause| FetchError { chunk: *id, pack: None, cause })
    }

    /// Says which places will be asked for next, in order, so that they are read in few large ranges.
    pub fn expect(&mut self, places: impl IntoIterator<Item = Place>) {
        self.reader.expect(places);
    }
}

#[cfg(test)]
mod tests;
