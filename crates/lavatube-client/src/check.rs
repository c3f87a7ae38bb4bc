//! Checking a vault with the read key: is all there that was ever backed up, and does it open?
//!
//! [`structure`] asks for every manifest, pack, tree chunk and reference; [`read_pack`] opens packs through and through.
//! Both end in a set of chunks and packs that are suspected, and [`damage`] says which files of which snapshots cannot be
//! restored because of them: exactly these, no others, and none whose chunks are whole in other packs. The vault's own scrubbing needs no keys and is not done here. It
//! must not know how results are shown.

mod chain;
mod data;
mod turn;

pub use chain::{ChainFault, chain_faults};
pub use data::{PackRead, packs_to_read, read_pack};
pub use turn::{Candidate, Turn};

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::{ChunkId, ObjectId};
use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Entry, Kind, Ref};

use crate::browse::{self, Listing};
use crate::far::FarError;
use crate::fetch::Fetcher;
use crate::layers::refs::expand;
use crate::layers::{LostRange, Step, TreeError, TreeReader, read_layer, read_tree_chunk};
use crate::meter::Meter;
use crate::vaulted::Refused;

/// Why a check did not come to an end. What it finds is no error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The vault cannot be asked.
    #[error(transparent)]
    Far(#[from] FarError),
    /// The vault went away while trees were read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Chunks that cannot be had from a place they should be in, and why.
pub type BadChunks = BTreeMap<ChunkId, String>;

/// All that was found bad where it should be. A chunk is lost only if it is bad in every pack that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bad {
    /// Single chunks.
    pub chunks: BadChunks,
    /// Packs that cannot be opened or whose index cannot be read, or which are lost in part. What the catalog knows of them may still be had.
    pub packs: BTreeMap<ObjectId, String>,
}

impl Bad {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.packs.is_empty()
    }

    /// Adds what reading a pack found.
    pub fn absorb(&mut self, read: PackRead) {
        self.chunks.extend(read.bad);
        if let Some(cause) = read.broken {
            self.packs.insert(read.row.id, format!("pack {}: {cause}", read.row.id.short()));
        }
    }

    /// Whether chunk `id` is bad or in a pack that is.
    fn is_suspect(&self, fetcher: &mut Fetcher<'_>, id: &ChunkId) -> bool {
        if self.chunks.contains_key(id) {
            return true;
        }
        if self.packs.is_empty() {
            return false;
        }
        let place = fetcher.place(id).ok();
        let row = place.and_then(|place| fetcher.archive().catalog.pack(place.pack));
        row.is_some_and(|row| self.packs.contains_key(&row.id))
    }
}

/// What a check of the structure found.
#[derive(Debug, Default)]
pub struct Structure {
    /// Believed manifests.
    pub manifests: u64,
    /// Manifests that are not believed or whose notes do not open.
    pub refused: Vec<Refused>,
    /// What is wrong with depositors' chains of manifests.
    pub chain: Vec<ChainFault>,
    /// Packs that manifests name.
    pub packs: u64,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Snapshots whose record or a layer of whose tree cannot be read at all.
    pub unreadable: Vec<(ChunkId, TreeError)>,
    /// Packs the vault does not have, and chunks that trees need and that cannot be had for another reason.
    pub bad: Bad,
}

impl Structure {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.refused.is_empty() && self.chain.is_empty() && self.unreadable.is_empty() && self.bad.is_empty()
    }
}

/// A file that damage touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The snapshot.
    pub snapshot: ChunkId,
    /// Path in its tree.
    pub path: Vec<u8>,
    /// The first of its chunks that cannot be had.
    pub chunk: ChunkId,
    /// What is wrong with it.
    pub reason: String,
}

/// What damage means for the snapshots.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Files that cannot be restored exactly.
    pub files: Vec<DamagedFile>,
    /// Parts of trees that cannot be read, by snapshot: which files they have is not known.
    pub lost: Vec<(ChunkId, LostRange)>,
    /// Snapshots nothing can be said about.
    pub unreadable: Vec<(ChunkId, String)>,
}

impl Damage {
    /// Whether nothing is touched.
    pub fn is_none(&self) -> bool {
        self.files.is_empty() && self.lost.is_empty() && self.unreadable.is_empty()
    }
}

/// Checks manifests, chains, the presence of every pack, every tree, and that every reference leads somewhere. Reads all
/// trees and no file's content.
///
/// # Errors
/// [`CheckError`] when the vault cannot be asked; what is wrong with it is in the result.
pub fn structure(fetcher: &mut Fetcher<'_>, meter: &Meter) -> Result<Structure, CheckError> {
    let archive = fetcher.archive();
    let sessions = archive.sessions;
    let mut out =
        Structure { manifests: sessions.all().len() as u64, chain: chain_faults(sessions), ..Structure::default() };
    for row in sessions.all().iter().flat_map(|vaulted| sessions.standing(vaulted)) {
        out.packs += 1;
        if !archive.far.has(row.id)? {
            meter.errors.add(1);
            out.bad.packs.insert(row.id, format!("the vault does not have pack {}", row.id.short()));
        }
    }
    let Listing { snapshots, unreadable, refused } = browse::snapshots(fetcher)?;
    out.refused = refused;
    out.unreadable.extend(unreadable.into_iter().map(|(place, e)| (place.id, e)));
    let mut trees = Trees::default();
    for listed in &snapshots {
        out.snapshots += 1;
        for layer in &listed.snapshot.layers {
            match trees.layer(fetcher, layer, meter) {
                Ok(()) => {}
                Err(e) if e.is_away() => return Err(e.into()),
                Err(e) => {
                    out.unreadable.push((listed.place.id, e));
                    break;
                }
            }
        }
    }
    if !trees.freed.is_empty() {
        // What newer layers hide may have been freed, and what a snapshot has must not have been.
        for listed in &snapshots {
            trees.visible(fetcher, &listed.snapshot)?;
        }
    }
    meter.errors.add(trees.bad.len() as u64);
    out.bad.chunks = trees.bad;
    Ok(out)
}

/// Walks trees; what two snapshots share is looked at once.
#[derive(Default)]
struct Trees {
    layers: BTreeSet<ChunkId>,
    seen: BTreeSet<ChunkId>,
    bad: BadChunks,
    /// Chunks that trees name and releases freed, and what is wrong when a snapshot has one.
    freed: BTreeMap<ChunkId, String>,
}

impl Trees {
    fn layer(&mut self, fetcher: &mut Fetcher<'_>, id: &ChunkId, meter: &Meter) -> Result<(), TreeError> {
        if self.layers.contains(id) {
            return Ok(());
        }
        let layer = read_layer(fetcher, id)?;
        for number in 0..layer.chunks.len() {
            if !self.seen.insert(layer.chunks[number].id) {
                continue;
            }
            match read_tree_chunk(fetcher, &layer, number) {
                Ok(entries) => {
                    for entry in entries {
                        meter.others.add(1);
                        if let Kind::File(content) = entry.kind {
                            self.content(fetcher, &content.refs, content.depth)?;
                        }
                    }
                }
                Err(e) => self.note(e)?,
            }
        }
        self.layers.insert(*id);
        Ok(())
    }

    fn content(&mut self, fetcher: &mut Fetcher<'_>, refs: &[Ref], depth: u64) -> Result<(), TreeError> {
        for r in refs {
            if depth == 0 {
                // That its pack is missing is known of the pack already.
                if let Err(e) = fetcher.place(&r.id) {
                    self.miss(fetcher, r.id, e.cause.to_string());
                }
            } else if self.seen.insert(r.id) {
                match expand(fetcher, r, depth) {
                    Ok(below) => self.content(fetcher, &below, depth - 1)?,
                    Err(e) if e.is_away() => return Err(e),
                    Err(e) => self.miss(fetcher, e.chunk(), e.to_string()),
                }
            }
        }
        Ok(())
    }

    /// A chunk that is named and is not to be had.
    fn miss(&mut self, fetcher: &Fetcher<'_>, chunk: ChunkId, why: String) {
        let archive = fetcher.archive();
        // Who came later never knew what was in packs that are gone.
        let is_news =
            !archive.sessions.released().objects.is_empty() && matches!(archive.catalog.never_knew(&chunk), Ok(true));
        if is_news {
            self.freed.insert(chunk, why);
        } else if matches!(archive.catalog.was_freed(&chunk), Ok(true)) {
            self.freed.insert(chunk, "a release freed it, and a snapshot that stays needs it".into());
        } else {
            self.bad.insert(chunk, why);
        }
    }

    /// Looks for what was freed among what a snapshot has.
    fn visible(&mut self, fetcher: &mut Fetcher<'_>, snapshot: &Snapshot) -> Result<(), CheckError> {
        // What cannot be read is told elsewhere.
        let Ok(mut reader) = TreeReader::open(fetcher, snapshot, None) else { return Ok(()) };
        while let Some(step) = reader.next(fetcher)? {
            let Step::Entry(Entry { kind: Kind::File(content), .. }) = step else { continue };
            self.missed(fetcher, &content.refs, content.depth);
        }
        Ok(())
    }

    fn missed(&mut self, fetcher: &mut Fetcher<'_>, refs: &[Ref], depth: u64) {
        for r in refs {
            if let Some(why) = self.freed.get(&r.id) {
                self.bad.insert(r.id, why.clone());
            } else if depth > 0
                && let Ok(below) = expand(fetcher, r, depth)
            {
                self.missed(fetcher, &below, depth - 1);
            }
        }
    }

    fn note(&mut self, e: TreeError) -> Result<(), TreeError> {
        if e.is_away() {
            return Err(e);
        }
        self.bad.insert(e.chunk(), e.to_string());
        Ok(())
    }
}

/// Says which files of which snapshots cannot be restored because of `bad`. One pass over each tree, and a look at each
/// chunk that is suspected; nothing when nothing is bad.
///
/// # Errors
/// [`CheckError`] when the vault is away.
pub fn damage(fetcher: &mut Fetcher<'_>, bad: &Bad) -> Result<Damage, CheckError> {
    let mut out = Damage::default();
    if bad.is_empty() {
        return Ok(out);
    }
    let Listing { snapshots, unreadable, .. } = browse::snapshots(fetcher)?;
    out.unreadable.extend(unreadable.into_iter().map(|(place, e)| (place.id, e.to_string())));
    let mut known = Known::new();
    for listed in snapshots {
        let snapshot = listed.place.id;
        let mut reader = match TreeReader::open(fetcher, &listed.snapshot, None) {
            Ok(reader) => reader,
            Err(e) if e.is_away() => return Err(e.into()),
            Err(e) => {
                out.unreadable.push((snapshot, e.to_string()));
                continue;
            }
        };
        while let Some(step) = reader.next(fetcher)? {
            match step {
                Step::Lost(range) => out.lost.push((snapshot, range)),
                Step::Entry(entry) => {
                    let Kind::File(content) = &entry.kind else { continue };
                    if let Some((chunk, reason)) = first_bad(fetcher, &content.refs, content.depth, bad, &mut known)? {
                        out.files.push(DamagedFile { snapshot, path: entry.path, chunk, reason });
                    }
                }
            }
        }
    }
    Ok(out)
}

/// What was found at and below chunks, which many files and snapshots share: by chunk and depth.
type Known = BTreeMap<(ChunkId, u64), Option<(ChunkId, String)>>;

/// The first chunk of a file that cannot be had, and why.
fn first_bad(
    fetcher: &mut Fetcher<'_>,
    refs: &[Ref],
    depth: u64,
    bad: &Bad,
    known: &mut Known,
) -> Result<Option<(ChunkId, String)>, TreeError> {
    for r in refs {
        if depth == 0 && !bad.is_suspect(fetcher, &r.id) {
            continue;
        }
        let found = match known.get(&(r.id, depth)) {
            Some(found) => found.clone(),
            None => {
                let found = match look(fetcher, r, depth, bad, known) {
                    Ok(found) => found,
                    Err(e) if e.is_away() => return Err(e),
                    Err(e) => Some((e.chunk(), e.to_string())),
                };
                known.insert((r.id, depth), found.clone());
                found
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The first chunk that cannot be had at or below a reference. What is only suspected is fetched: where a pack's index is
/// lost, the catalog may still know what lies where in it, and a chunk may be in a second pack.
fn look(
    fetcher: &mut Fetcher<'_>,
    r: &Ref,
    depth: u64,
    bad: &Bad,
    known: &mut Known,
) -> Result<Option<(ChunkId, String)>, TreeError> {
    if depth > 0 {
        let below = expand(fetcher, r, depth)?;
        return first_bad(fetcher, &below, depth - 1, bad, known);
    }
    fetcher.chunk(&r.id, Some(r.len))?;
    Ok(None)
}

#[cfg(test)]
mod tests;
