//! What a restore will fetch: the parts of packs that hold the content of the chosen entries, before any of them is asked
//! for.
//!
//! For a vault that is far away: one request says all of it. Whatever the plan does not foresee, because something is
//! damaged, is fetched when it is met; so the plan need not be exact. Step 19 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lavatube_base::{ChunkId, ObjectId};
use lavatube_format::pack::capacity;
use lavatube_format::tree::{Content, Entry, Kind};

use super::{RestoreRequest, common_parent, parent, trim};
use crate::far::FarError;
use crate::fetch::pack::{OpenPack, sealed_ranges};
use crate::fetch::place::GAP_MAX;
use crate::fetch::{FetchError, Fetcher};
use crate::layers::refs::LeafRefs;
use crate::layers::{Step, TreeError, TreeReader, is_within, read_snapshot};

/// Parts of packs, in order of packs and places.
#[derive(Debug, Default)]
pub struct Plan {
    /// By number of the pack: where in its plaintext something begins that is needed, and where it ends.
    spans: BTreeMap<u32, BTreeMap<usize, usize>>,
    seen: BTreeSet<(u32, u32)>,
    /// Entries whose content is needed.
    pub files: u64,
    /// Apparent bytes of them.
    pub bytes: u64,
}

impl Plan {
    /// The plan of a restore. `is_there` tells whether an entry is in the target already, by its path below the target.
    ///
    /// # Errors
    /// [`TreeError`] when the snapshot or a layer cannot be read, or the vault is away.
    pub fn of_restore(
        fetcher: &mut Fetcher<'_>,
        request: &RestoreRequest<'_>,
        is_there: &dyn Fn(&[u8], &Entry, &Content) -> bool,
    ) -> Result<Self, TreeError> {
        let snapshot = read_snapshot(fetcher, &request.snapshot)?;
        let inside = request.inside.map(trim).filter(|path| !path.is_empty());
        let strip = match inside {
            Some(inside) => parent(inside).to_vec(),
            None => common_parent(&snapshot.paths),
        };
        let mut plan = Self::default();
        let mut reader = TreeReader::open(fetcher, &snapshot, inside)?;
        while let Some(step) = reader.next(fetcher)? {
            let Step::Entry(entry) = step else { continue };
            let Kind::File(content) = &entry.kind else { continue };
            if !is_within(&entry.path, &strip) || !(request.select)(&entry.path, false) {
                continue;
            }
            let below = entry.path[strip.len()..].strip_prefix(b"/").unwrap_or(&entry.path[strip.len()..]);
            if !is_there(below, &entry, content) {
                plan.add_file(fetcher, content)?;
            }
        }
        Ok(plan)
    }

    /// The plan of one file.
    ///
    /// # Errors
    /// As [`Plan::of_restore`].
    pub fn add_file(&mut self, fetcher: &mut Fetcher<'_>, content: &Content) -> Result<(), TreeError> {
        self.files += 1;
        self.bytes += content.size;
        let mut leaves = LeafRefs::new(content);
        loop {
            match leaves.next(fetcher) {
                Ok(Some(leaf)) => self.add_chunk(fetcher, &leaf.id, 0),
                Ok(None) => return Ok(()),
                Err(e) if e.is_away() => return Err(e),
                // It is met again when the file is restored, and told then.
                Err(_) => return Ok(()),
            }
        }
    }

    fn add_chunk(&mut self, fetcher: &mut Fetcher<'_>, id: &ChunkId, depth: usize) {
        let Ok(place) = fetcher.place(id) else { return };
        if place.delta && depth <= lavatube_base::limits::DELTA_DEPTH_MAX {
            let base = fetcher.base_of(id, place.pack);
            base.iter().for_each(|base| self.add_chunk(fetcher, base, depth + 1));
        }
        if !self.seen.insert((place.pack, place.frame_at)) {
            return;
        }
        let (start, end) = (place.frame_at as usize, place.frame_at as usize + place.frame_len as usize);
        let spans = self.spans.entry(place.pack).or_default();
        spans.entry(start).and_modify(|to| *to = end.max(*to)).or_insert(end);
    }

    /// The parts: sealed bytes of packs. Those that are near each other are one, as a reader will ask for them.
    pub fn parts(&self, fetcher: &Fetcher<'_>) -> Vec<(ObjectId, Range<u64>)> {
        let mut out: Vec<(ObjectId, Range<u64>)> = Vec::new();
        for (number, spans) in &self.spans {
            let Some(row) = fetcher.archive().catalog.pack(*number) else { continue };
            let mut merged: Vec<Range<usize>> = Vec::new();
            for (start, end) in spans {
                match merged.last_mut() {
                    Some(last) if *start <= last.end + GAP_MAX && fetcher.archive().stay(*number, last.end..*start) => {
                        last.end = last.end.max(*end)
                    }
                    _ => merged.push(*start..*end),
                }
            }
            merged.retain(|range| range.end <= capacity(row.class));
            let sealed = sealed_ranges(row.class, merged);
            out.extend(sealed.into_iter().map(|r| (row.id, r.start as u64..r.end as u64)));
        }
        out
    }
}

impl Fetcher<'_> {
    /// Asks a distant vault for these chunks at once. What is not known or does not come is told when it is fetched.
    ///
    /// # Errors
    /// [`FetchError`] when the vault does not answer.
    pub fn want(&mut self, chunks: &[ChunkId]) -> Result<(), FetchError> {
        let Some(first) = chunks.first().filter(|_| self.archive().far.is_distant()) else { return Ok(()) };
        let mut plan = Plan::default();
        chunks.iter().for_each(|id| plan.add_chunk(self, id, 0));
        let parts = plan.parts(self);
        let fail = |e: FarError| FetchError { chunk: *first, pack: None, cause: e.into() };
        self.archive().far.want(&parts).map_err(fail)
    }

    /// What chunk `id`, which is stored as a difference in pack `number`, is a difference to, as far as can be told.
    fn base_of(&self, id: &ChunkId, number: u32) -> Option<ChunkId> {
        let archive = self.archive();
        let pack = OpenPack::open(&archive, *archive.catalog.pack(number)?).ok()?;
        let index = pack.index(archive.far).ok()?;
        let chunk = index.iter().flat_map(|frame| &frame.chunks).find(|chunk| chunk.id == *id)?;
        chunk.delta.as_deref().map(|delta| delta.base)
    }
}
