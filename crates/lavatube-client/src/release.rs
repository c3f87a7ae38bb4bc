//! What a release may free: every pack that no kept snapshot needs, and of others what no kept snapshot needs of them.
//!
//! All trees of all snapshots that are not forgotten are walked, those of all machines of the tenant. Whatever stands in the way of
//! being sure of that is a doubt, and in doubt nothing is freed. Steps 19 and 20 of the walk. It must not know who signs, nor
//! what a vault does.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::digest::h16;
use lavatube_base::limits::THIN_SHARE;
use lavatube_base::{ChunkId, ObjectId, Stays};
use lavatube_format::catalog::{PackRow, Place};
use lavatube_format::pack::{class_len, covering};
use lavatube_format::remnant;
use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Kind, Ref};

use crate::browse::{self, Listing};
use crate::check::{ChainFault, chain_faults};
use crate::far::FarError;
use crate::fetch::Fetcher;
use crate::fetch::pack::OpenPack;
use crate::layers::refs::expand;
use crate::layers::{Step, TreeError, TreeReader, read_layer};
use crate::meter::Meter;
use crate::released::Released;
use crate::vaulted::Sessions;

/// What may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs and objects of tags, ascending.
    pub objects: BTreeSet<ObjectId>,
    /// How many of them are packs.
    pub packs: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Packs that stay in part, and what stays of each, ascending.
    pub thins: Vec<(ObjectId, Stays)>,
    /// Bytes that the vault holds less of them then.
    pub thinned_bytes: u64,
    /// Forgotten snapshots that are not whole any more then.
    pub snapshots: Vec<ChunkId>,
    /// Snapshots that stay,
    pub kept: u64,
    /// packs that they need,
    pub kept_packs: u64,
    /// and bytes of those,
    pub kept_bytes: u64,
    /// of which so many are of frames in which no kept snapshot needs anything, or beside all frames, and stay nevertheless.
    pub idle_bytes: u64,
    /// Packs that no snapshot needs and that may not go yet,
    pub retained_packs: u64,
    /// and bytes of those.
    pub retained_bytes: u64,
}

/// Why nothing can be freed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Something is not known for certain.
    #[error("{0}")]
    Doubt(String),
    /// The vault cannot be asked.
    #[error(transparent)]
    Far(#[from] FarError),
}

impl Plan {
    /// Whether nothing would be freed.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.thins.is_empty()
    }
}

/// Finds out what no kept snapshot needs, and nothing of that is in a session whose manifest is among `retained`. What kept snapshots
/// need is looked for beside what is `pending`: named by releases that are still to be followed.
///
/// # Errors
/// [`PlanError::Doubt`] says what stands in the way.
pub fn plan(
    fetcher: &mut Fetcher<'_>,
    retained: &BTreeSet<ObjectId>,
    pending: &Released,
    meter: &Meter,
) -> Result<Plan, PlanError> {
    let doubt = |text: String| Err(PlanError::Doubt(text));
    let sessions = fetcher.archive().sessions;
    // Where a chain has several ends all of them are there.
    let is_doubt = |fault: &&ChainFault| !matches!(fault, ChainFault::Forked { .. });
    if let Some(fault) = chain_faults(sessions).iter().find(is_doubt) {
        return doubt(fault.to_string());
    }
    let Listing { snapshots, unreadable, refused } = browse::snapshots(fetcher).map_err(in_doubt)?;
    if let Some(refused) = refused.first() {
        return doubt(format!("manifest {} is not believed: {}", refused.id.short(), refused.reason));
    }
    if let Some((place, e)) = unreadable.iter().find(|(place, _)| !place.is_forgotten()) {
        return doubt(format!("snapshot {} cannot be read: {e}", place.id.short()));
    }
    let mut out = Plan::default();
    let mut needs = Needs { pending: pending.clone(), ..Needs::default() };
    for listed in &snapshots {
        if listed.place.is_forgotten() {
            // What it leans on was there before it, and stays with it.
            out.snapshots.extend(Some(listed.place.id).filter(|_| !retained.contains(&listed.place.manifest)));
            continue;
        }
        out.kept += 1;
        needs.chunk(fetcher, &listed.place.id)?;
        for chunk in &listed.snapshot.roll {
            needs.chunk(fetcher, chunk)?;
        }
        for layer in &listed.snapshot.layers {
            needs.layer(fetcher, layer)?;
        }
        needs.tree(fetcher, &listed.snapshot, meter)?;
    }
    out.snapshots.extend(unreadable.iter().map(|(place, _)| place.id));
    let kept = needs.packs(fetcher)?;
    sum(sessions, &kept, retained, &mut out);
    needs.thin(fetcher, retained, &mut out)?;
    out.idle_bytes = out.kept_bytes.saturating_sub(needs.frames.values().map(|len| u64::from(*len)).sum());
    Ok(out)
}

/// What of all sessions is not among the packs that are `kept`.
fn sum(sessions: &Sessions<'_>, kept: &BTreeSet<ObjectId>, retained: &BTreeSet<ObjectId>, out: &mut Plan) {
    let (mut tags_kept, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let stays = sessions.all().iter().filter(|vaulted| retained.contains(&vaulted.id));
    let stays: BTreeSet<ObjectId> = stays.flat_map(|vaulted| vaulted.manifest.needs()).collect();
    for vaulted in sessions.all() {
        for row in sessions.standing(vaulted) {
            if kept.contains(&row.id) || stays.contains(&row.id) {
                tags_kept.extend(vaulted.manifest.tags.iter().copied());
            }
            let bytes = held(sessions, &row);
            match seen.insert(row.id) {
                true if kept.contains(&row.id) => {
                    out.kept_packs += 1;
                    out.kept_bytes += bytes;
                }
                true if stays.contains(&row.id) => {
                    out.retained_packs += 1;
                    out.retained_bytes += bytes;
                }
                true => {
                    out.objects.insert(row.id);
                    out.packs += 1;
                    out.bytes += bytes;
                }
                false => {}
            }
        }
    }
    let tags = sessions.all().iter().flat_map(|vaulted| &vaulted.manifest.tags);
    let is_free = |id: &&ObjectId| !tags_kept.contains(*id) && !sessions.released().objects.contains(*id);
    out.objects.extend(tags.filter(is_free));
}

/// Bytes that the vault holds of a pack.
fn held(sessions: &Sessions<'_>, row: &PackRow) -> u64 {
    sessions.released().stays.get(&row.id).map_or(class_len(row.class) as u64, remnant::len_of)
}

/// Gathers the packs that snapshots need.
#[derive(Default)]
struct Needs {
    /// Layers, tree chunks and lists that were gone through,
    seen: BTreeSet<ChunkId>,
    /// and files, by their references.
    files: BTreeSet<[u8; 16]>,
    /// Numbers of packs in the catalog.
    rows: BTreeSet<u32>,
    /// Stored lengths of frames, by pack and place.
    frames: BTreeMap<(u32, u32), u32>,
    /// What is on its way out.
    pending: Released,
}

impl Needs {
    fn chunk(&mut self, fetcher: &mut Fetcher<'_>, id: &ChunkId) -> Result<(), PlanError> {
        let mut place = fetcher.place(id).map_err(|e| PlanError::Doubt(e.to_string()))?;
        if self.is_pending(fetcher, &place) {
            // The release that waits was made in knowledge of another place, and leaves that alone.
            let places = fetcher.archive().catalog.places(id).map_err(|e| PlanError::Doubt(e.to_string()))?;
            let other = places.into_iter().find(|place| !self.is_pending(fetcher, place));
            place = other.ok_or_else(|| {
                PlanError::Doubt(format!("chunk {} is needed, and a release that waits frees it", id.short()))
            })?;
        }
        if place.delta {
            return Err(PlanError::Doubt(format!("chunk {} is kept as a difference to another", id.short())));
        }
        self.rows.insert(place.pack);
        self.frames.insert((place.pack, place.frame_at), place.frame_len);
        Ok(())
    }

    /// What a layer itself is made of.
    fn layer(&mut self, fetcher: &mut Fetcher<'_>, id: &ChunkId) -> Result<(), PlanError> {
        if !self.seen.insert(*id) {
            return Ok(());
        }
        self.chunk(fetcher, id)?;
        let layer = read_layer(fetcher, id).map_err(in_doubt)?;
        for chunk in layer.chunks {
            if self.seen.insert(chunk.id) {
                self.chunk(fetcher, &chunk.id)?;
            }
        }
        Ok(())
    }

    /// The content of all files that the snapshot has: what newer layers hide in older ones is not needed.
    fn tree(&mut self, fetcher: &mut Fetcher<'_>, snapshot: &Snapshot, meter: &Meter) -> Result<(), PlanError> {
        let mut reader = TreeReader::open(fetcher, snapshot, None).map_err(in_doubt)?;
        while let Some(step) = reader.next(fetcher).map_err(in_doubt)? {
            let entry = match step {
                Step::Entry(entry) => entry,
                Step::Lost(lost) => return Err(in_doubt(lost.error)),
            };
            meter.others.add(1);
            let Kind::File(content) = entry.kind else { continue };
            let ids: Vec<&[u8]> = content.refs.iter().map(|r| &r.id.0[..]).collect();
            // Most files are in many snapshots as they are.
            if self.files.insert(h16(&ids)) {
                self.content(fetcher, &content.refs, content.depth)?;
            }
        }
        Ok(())
    }

    fn content(&mut self, fetcher: &mut Fetcher<'_>, refs: &[Ref], depth: u64) -> Result<(), PlanError> {
        for r in refs {
            if depth == 0 {
                self.chunk(fetcher, &r.id)?;
            } else if self.seen.insert(r.id) {
                self.chunk(fetcher, &r.id)?;
                let below = expand(fetcher, r, depth).map_err(in_doubt)?;
                self.content(fetcher, &below, depth - 1)?;
            }
        }
        Ok(())
    }

    /// Whether a release that waits frees what is there.
    fn is_pending(&self, fetcher: &Fetcher<'_>, place: &Place) -> bool {
        let Some(row) = fetcher.archive().catalog.pack(place.pack) else { return false };
        let frame = covering(row.class, place.frame_at as usize, place.frame_len as usize).1;
        self.pending.objects.contains(&row.id)
            || self.pending.stays.get(&row.id).is_some_and(|stays| !stays.has(&frame))
    }

    /// Finds out of which of the packs that are needed enough may go.
    fn thin(&self, fetcher: &mut Fetcher<'_>, retained: &BTreeSet<ObjectId>, out: &mut Plan) -> Result<(), PlanError> {
        let archive = fetcher.archive();
        let held_back = archive.sessions.all().iter().filter(|vaulted| retained.contains(&vaulted.id));
        let held_back: BTreeSet<ObjectId> = held_back.flat_map(|vaulted| vaulted.manifest.needs()).collect();
        for number in &self.rows {
            let Some(row) = archive.catalog.pack(*number).filter(|row| !held_back.contains(&row.id)) else { continue };
            let Some(all) = Stays::all(class_len(row.class)) else { continue };
            let now = archive.sessions.released().stays.get(&row.id).unwrap_or(&all);
            let needed = self.frames.range((*number, 0)..=(*number, u32::MAX));
            let frames: Vec<_> =
                needed.map(|((_, at), len)| covering(row.class, *at as usize, *len as usize).1).collect();
            let without_index = Stays::touching(class_len(row.class), frames.iter().cloned());
            if !without_index.and_then(|stays| now.and(&stays)).is_some_and(|stays| is_worth_it(now, &stays)) {
                continue;
            }
            // Its index stays, so that whoever finds nothing but packs knows what is in them, and so does what it is filled up with:
            // how much that is, is nobody's business.
            let tail = OpenPack::open(&archive, *row).and_then(|pack| pack.tail_range(archive.far));
            let tail = tail.map_err(|e| PlanError::Doubt(format!("pack {}: {e}", row.id.short())))?;
            let stays = Stays::touching(class_len(row.class), frames.into_iter().chain([tail]));
            let Some(stays) = stays.and_then(|stays| now.and(&stays)).filter(|stays| is_worth_it(now, stays)) else {
                continue;
            };
            let goes = held(archive.sessions, row).saturating_sub(remnant::len_of(&stays));
            out.thinned_bytes += goes;
            out.kept_bytes -= goes;
            out.thins.push((row.id, stays));
        }
        out.thins.sort();
        Ok(())
    }

    /// The packs, each of which the vault has and a believed manifest names.
    fn packs(&self, fetcher: &Fetcher<'_>) -> Result<BTreeSet<ObjectId>, PlanError> {
        let archive = fetcher.archive();
        let mut out = BTreeSet::new();
        for number in &self.rows {
            let Some(row) = archive.catalog.pack(*number) else {
                return Err(PlanError::Doubt("the catalog names a pack that it does not have".into()));
            };
            if !matches!(archive.sessions.keys_of(row), Ok(Some(_))) {
                return Err(PlanError::Doubt(format!("no believed manifest names pack {}", row.id.short())));
            }
            if !archive.far.has(row.id)? {
                return Err(PlanError::Doubt(format!("the vault does not have pack {}", row.id.short())));
            }
            out.insert(row.id);
        }
        Ok(out)
    }
}

/// Whether enough goes of a pack that it is worth writing the rest anew.
fn is_worth_it(now: &Stays, then: &Stays) -> bool {
    (now.len() - then.len()) * THIN_SHARE >= now.len()
}

fn in_doubt(e: TreeError) -> PlanError {
    PlanError::Doubt(e.to_string())
}
