//! Scanning: the vault found again by the headers of its shards, when the journal cannot be believed or is gone.
//!
//! Reads one header per shard file and nothing else. Step 20 of the walk, on a bad day.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::limits::SHARD_BLOCK_LEN;
use lavatube_base::{ObjectId, VaultId};
use lavatube_format::journal::{FIRST_CHECK, NO_SLOT};
use lavatube_format::shard::{SHARDS, ShardHeader, parse_shard_name, shard_name};

use crate::index::Entry;
use crate::status::Slot;
use crate::{Drive, DriveError, Vault};

/// All stripes of a vault that the drives speak of: for each object its newest generation that can be read, else the
/// generation with most shards.
pub(crate) fn scan(vault: VaultId, slots: &[Slot]) -> BTreeMap<ObjectId, Entry> {
    let mut found: BTreeMap<(ObjectId, u32), Entry> = BTreeMap::new();
    let mut further: BTreeMap<(ObjectId, u32), Vec<(u8, u8)>> = BTreeMap::new();
    for (slot, place) in (0u8..).zip(slots) {
        let Some(drive) = place.reader() else { continue };
        let mut names = Vec::new();
        // A listing that fails half way has still told something.
        let _ = drive.list(SHARDS, &mut |name| names.push(name.to_owned()));
        names.sort_unstable();
        for name in names {
            let Some((object, index)) = parse_shard_name(&name) else { continue };
            let Ok(Some(header)) = read_header(drive, &name) else { continue };
            if (header.vault, header.object, header.index) != (vault, object, index) {
                continue;
            }
            let entry = found.entry((object, header.generation)).or_insert_with(|| Entry {
                kind: header.kind,
                geometry: header.geometry,
                generation: header.generation,
                sequence: 0,
                check: FIRST_CHECK,
                slots: vec![NO_SLOT; header.geometry.shards()].into(),
                place: None,
                claim: None,
                born_s: u64::MAX,
            });
            if (entry.kind, entry.geometry) != (header.kind, header.geometry) {
                continue;
            }
            // What was written later, of an object that was stored in several attempts, claims a later place.
            entry.claim = entry.claim.max(header.place);
            let known = &mut entry.slots[usize::from(index)];
            if *known != NO_SLOT {
                // What an attempt has left that did not end, or a drive that was exchanged: as good as the other.
                further.entry((object, header.generation)).or_default().push((index, slot));
            }
            if *known == NO_SLOT || header.drive == place.card.drive {
                let before = std::mem::replace(known, slot);
                further.entry((object, header.generation)).and_modify(|all| all.push((index, before)));
            }
        }
    }
    let mut best: BTreeMap<ObjectId, Entry> = BTreeMap::new();
    for ((object, generation), mut entry) in found {
        spread(&mut entry, further.get(&(object, generation)).map_or(&[], Vec::as_slice));
        let rank = |e: &Entry| (is_readable(e), if is_readable(e) { 0 } else { shards_of(e) });
        // Generations come ascending: an equal one is newer.
        if best.get(&object).is_none_or(|known| rank(&entry) >= rank(known)) {
            best.insert(object, entry);
        }
    }
    best
}

/// Of shards that lie on one drive all but one are forgotten, if the others are enough to read the object: mending writes
/// them to drives of their own. `further` are other places of shards, by index and slot; they are taken where that helps.
fn spread(entry: &mut Entry, further: &[(u8, u8)]) {
    let taken: Vec<u8> = entry.slots.iter().copied().filter(|slot| *slot != NO_SLOT).collect();
    if taken.iter().collect::<BTreeSet<_>>().len() == taken.len() {
        return;
    }
    let mut places: Vec<Vec<u8>> =
        entry.slots.iter().map(|slot| Vec::from_iter(Some(*slot).filter(|slot| *slot != NO_SLOT))).collect();
    for (index, slot) in further {
        places[usize::from(*index)].extend(Some(*slot).filter(|slot| *slot != NO_SLOT));
    }
    let mut holders = BTreeMap::new();
    let alone =
        (0..places.len()).filter(|index| find_place(*index, &places, &mut holders, &mut BTreeSet::new())).count();
    if alone >= entry.geometry.k() {
        entry.slots.fill(NO_SLOT);
    }
    for (slot, index) in holders {
        entry.slots[index] = slot;
    }
}

/// Finds a slot of its own for a shard, moving others if need be; whether there is one.
fn find_place(index: usize, places: &[Vec<u8>], holders: &mut BTreeMap<u8, usize>, tried: &mut BTreeSet<u8>) -> bool {
    for slot in &places[index] {
        if tried.insert(*slot) {
            let holder = holders.get(slot).copied();
            if holder.is_none_or(|other| find_place(other, places, holders, tried)) {
                holders.insert(*slot, index);
                return true;
            }
        }
    }
    false
}

impl Vault {
    /// Where shards of an object lie, by index and slot, of which `entry` says that they were not stored: a journal may have
    /// been written anew from what could be seen while their drives were away.
    pub(crate) fn unplaced(&self, id: ObjectId, entry: &Entry) -> Vec<(u8, u8)> {
        let own = (self.card.vault, id, entry.kind, entry.geometry, entry.generation);
        let mut taken: BTreeSet<u8> = entry.slots.iter().copied().filter(|slot| *slot != NO_SLOT).collect();
        let mut out = Vec::new();
        for (index, _) in (0u8..).zip(&entry.slots).filter(|(_, slot)| **slot == NO_SLOT) {
            let name = shard_name(id, index);
            let lies_in = |place: &Slot| {
                let header = read_header(place.reader()?, &name).ok().flatten()?;
                Some(
                    (header.vault, header.object, header.kind, header.geometry, header.generation) == own
                        && header.index == index,
                )
            };
            let mut free = (0u8..).zip(&self.slots).filter(|(slot, _)| !taken.contains(slot));
            if let Some((slot, _)) = free.find(|(_, place)| lies_in(place) == Some(true)) {
                taken.insert(slot);
                out.push((index, slot));
            }
        }
        out
    }
}

/// Whether the entry names enough shards to read the object.
pub(crate) fn is_readable(entry: &Entry) -> bool {
    shards_of(entry) >= entry.geometry.k()
}

pub(crate) fn shards_of(entry: &Entry) -> usize {
    entry.slots.iter().filter(|s| **s != NO_SLOT).count()
}

/// The header of a shard file of which nothing is known, from either copy or both.
pub(crate) fn read_header(drive: &dyn Drive, name: &str) -> Result<Option<ShardHeader>, DriveError> {
    let mut first = read_part(drive, name, 0, FIRST_READ)?;
    let claimed = ShardHeader::claimed_len(&first);
    if let Some(len) = claimed {
        if len > first.len() {
            first = read_part(drive, name, 0, len)?;
        }
        first.truncate(len);
        if let Ok(header) = ShardHeader::decode(&first) {
            return Ok(Some(header));
        }
    }
    let file_len = drive.len(name)?.unwrap_or(0);
    let Some(len) = ShardHeader::len_in_file(file_len) else { return Ok(None) };
    let last = read_part(drive, name, file_len.saturating_sub(len as u64), len)?;
    let first = read_part(drive, name, 0, len)?;
    Ok(ShardHeader::decode_copies(&first, &last))
}

fn read_part(drive: &dyn Drive, name: &str, at: u64, len: usize) -> Result<Vec<u8>, DriveError> {
    let mut out = vec![0; len];
    let n = drive.read_at(name, at, &mut out)?;
    out.truncate(n);
    Ok(out)
}

/// Enough for the header of a shard of 4 MiB.
const FIRST_READ: usize = 176 + 16 * ((4 << 20) / SHARD_BLOCK_LEN);
