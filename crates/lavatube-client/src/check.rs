//! Checking a vault with the read key: is all there that was ever backed up, and does it open?
//!
//! [`structure`] asks for every manifest, pack, tree chunk and reference; [`read_pack`] opens packs through and through.
//! Both end in a set of bad chunks, and [`damage`] says which files of which snapshots they touch: exactly these, no
//! others. The vault's own scrubbing needs no keys and is not done here. It must not know how results are shown.

mod chain;
mod data;

pub use chain::{ChainFault, chain_faults};
pub use data::{PackRead, packs_to_read, read_pack};

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::{ChunkId, ObjectId};
use lavatube_format::tree::{Kind, Ref};

use crate::browse::{self, Listing};
use crate::far::FarError;
use crate::fetch::Fetcher;
use crate::layers::refs::expand;
use crate::layers::{LostRange, Step, TreeError, TreeReader, read_layer, read_tree_chunk};
use crate::meter::Meter;
use crate::vaulted::{Refused, Sessions};

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

/// Chunks that cannot be had, and why.
pub type BadChunks = BTreeMap<ChunkId, String>;

/// All that is known to be bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bad {
    /// Single chunks.
    pub chunks: BadChunks,
    /// Packs with all that is in them.
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

    /// Why chunk `id` is bad, if it is.
    fn reason(&self, fetcher: &mut Fetcher<'_>, id: &ChunkId) -> Option<String> {
        if let Some(reason) = self.chunks.get(id) {
            return Some(reason.clone());
        }
        if self.packs.is_empty() {
            return None;
        }
        let place = fetcher.place(id).ok()?;
        let row = fetcher.archive().catalog.pack(place.pack)?;
        self.packs.get(&row.id).cloned()
    }
}

/// What a check of the structure found.
#[derive(Debug, Default)]
pub struct Structure {
    /// Believed manifests.
    pub manifests: u64,
    /// Manifests that are not believed or whose notes do not open.
    pub refused: Vec<Refused>,
    /// Breaks in depositors' chains of manifests.
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
    /// The first of its chunks that is bad.
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
    let mut out = Structure {
        manifests: sessions.all().len() as u64,
        chain: chain_faults(sessions.all()),
        ..Structure::default()
    };
    for row in sessions.all().iter().flat_map(Sessions::rows) {
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
                    self.bad.insert(r.id, e.cause.to_string());
                }
            } else if self.seen.insert(r.id) {
                match expand(fetcher, r, depth) {
                    Ok(below) => self.content(fetcher, &below, depth - 1)?,
                    Err(e) => self.note(e)?,
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, e: TreeError) -> Result<(), TreeError> {
        if e.is_away() {
            return Err(e);
        }
        self.bad.insert(e.chunk(), e.to_string());
        Ok(())
    }
}

/// Says which files of which snapshots `bad` touches. One pass over each tree; nothing when nothing is bad.
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
    let mut lists = Lists::new();
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
                    if let Some((chunk, reason)) = first_bad(fetcher, &content.refs, content.depth, bad, &mut lists)? {
                        out.files.push(DamagedFile { snapshot, path: entry.path, chunk, reason });
                    }
                }
            }
        }
    }
    Ok(out)
}

/// What was found below list chunks, which many snapshots share.
type Lists = BTreeMap<ChunkId, Option<(ChunkId, String)>>;

/// The first bad chunk of a file, and why it is.
fn first_bad(
    fetcher: &mut Fetcher<'_>,
    refs: &[Ref],
    depth: u64,
    bad: &Bad,
    lists: &mut Lists,
) -> Result<Option<(ChunkId, String)>, TreeError> {
    for r in refs {
        let mut found = bad.reason(fetcher, &r.id).map(|reason| (r.id, reason));
        if found.is_none() && depth > 0 {
            found = match lists.get(&r.id) {
                Some(known) => known.clone(),
                None => {
                    let below = match expand(fetcher, r, depth) {
                        Ok(below) => first_bad(fetcher, &below, depth - 1, bad, lists)?,
                        Err(e) if e.is_away() => return Err(e),
                        Err(e) => Some((e.chunk(), e.to_string())),
                    };
                    lists.insert(r.id, below.clone());
                    below
                }
            };
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
