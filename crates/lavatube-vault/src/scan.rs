//! Scanning: the vault found again by the headers of its shards, when the journal cannot be believed or is gone.
//!
//! Reads one header per shard file and nothing else. Step 20 of the walk, on a bad day.

use std::collections::BTreeMap;

use lavatube_base::limits::SHARD_BLOCK_LEN;
use lavatube_base::{ObjectId, VaultId};
use lavatube_format::journal::{FIRST_CHECK, NO_SLOT};
use lavatube_format::shard::{SHARDS, ShardHeader, parse_shard_name};

use crate::index::Entry;
use crate::status::Slot;
use crate::{Drive, DriveError};

/// All stripes of a vault that the drives speak of: for each object its newest generation that can be read, else the
/// generation with most shards.
pub(crate) fn scan(vault: VaultId, slots: &[Slot]) -> BTreeMap<ObjectId, Entry> {
    let mut found: BTreeMap<(ObjectId, u32), Entry> = BTreeMap::new();
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
            });
            if (entry.kind, entry.geometry) != (header.kind, header.geometry) {
                continue;
            }
            let known = &mut entry.slots[usize::from(index)];
            if *known == NO_SLOT || header.drive == place.card.drive {
                *known = slot;
            }
        }
    }
    let mut best: BTreeMap<ObjectId, Entry> = BTreeMap::new();
    for ((object, _), entry) in found {
        let rank = |e: &Entry| (is_readable(e), if is_readable(e) { 0 } else { shards_of(e) });
        // Generations come ascending: an equal one is newer.
        if best.get(&object).is_none_or(|known| rank(&entry) >= rank(known)) {
            best.insert(object, entry);
        }
    }
    best
}

/// Whether the entry names enough shards to read the object.
pub(crate) fn is_readable(entry: &Entry) -> bool {
    shards_of(entry) >= entry.geometry.k()
}

fn shards_of(entry: &Entry) -> usize {
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
