//! Filling the catalog from the vault: every pack carries its own index. A fresh machine with the read key starts here.
//!
//! Only the tail of each pack is fetched. Packs are taken in the order of the manifests, so that two machines come to the
//! same table. A cut is noticed by the catalog's mark: a catalog that knows a pack but not its chunks would send them
//! again and find nothing. So is damage that was left out. It must not know where the sessions came from.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_format::catalog::{PackRow, Record};
use lavatube_seal::ChunkIdKey;

use crate::catalog::{Catalog, CatalogError, records_of};
use crate::far::Far;
use crate::fetch::pack::{OpenPack, want_indexes};
use crate::fetch::{Archive, FetchCause};
use crate::meter::Meter;
use crate::session;
use crate::state::{State, StateError};
use crate::vaulted::Sessions;

/// Why the catalog was not filled.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Its files failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state's files failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was just written cannot be read.
    #[error("the catalog was damaged while it was made: the disk with the state folder fails")]
    Again,
    /// The vault went away; what was learnt so far is thrown away by the next rebuild.
    #[error("{0}")]
    Away(FetchCause),
}

/// What a rebuild found.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Packs whose index was read.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Packs that manifests name and whose index cannot be read: their chunks are unknown.
    pub lost: Vec<(ObjectId, FetchCause)>,
}

/// Records are put into the catalog in runs of this many.
const SPILL_RECORDS: usize = 256 << 10;

/// Throws the catalog away and fills it anew.
///
/// # Errors
/// [`RebuildError`]; the marker stays then. A pack that is lost is no error but in the report.
pub fn rebuild(
    catalog: &mut Catalog<'_>,
    sessions: &Sessions<'_>,
    far: &dyn Far,
    chunk_ids: &ChunkIdKey,
    meter: &Meter,
) -> Result<Rebuilt, RebuildError> {
    catalog.clear()?;
    let out = fill(catalog, sessions, far, chunk_ids, meter)?;
    if catalog.is_hurt() {
        return Err(RebuildError::Again);
    }
    catalog.unmark()?;
    Ok(out)
}

/// Adds the packs that manifests name and the catalog does not have: those of other machines, or all. Starts from
/// nothing when the last time was cut, or something of the catalog is damaged.
///
/// # Errors
/// As [`rebuild`].
pub fn catch_up(
    state: &dyn State,
    catalog: &mut Catalog<'_>,
    sessions: &Sessions<'_>,
    far: &dyn Far,
    chunk_ids: &ChunkIdKey,
    meter: &Meter,
) -> Result<Rebuilt, RebuildError> {
    if !catalog.is_marked()? {
        session::complete_catalog(state, catalog)?;
        let out = fill(catalog, sessions, far, chunk_ids, meter)?;
        if !catalog.is_hurt() {
            catalog.unmark()?;
            return Ok(out);
        }
    }
    rebuild(catalog, sessions, far, chunk_ids, meter)
}

fn fill(
    catalog: &mut Catalog<'_>,
    sessions: &Sessions<'_>,
    far: &dyn Far,
    chunk_ids: &ChunkIdKey,
    meter: &Meter,
) -> Result<Rebuilt, RebuildError> {
    let known: BTreeSet<ObjectId> = catalog.packs().iter().map(|row| row.id).collect();
    let missing: Vec<PackRow> = sessions
        .all()
        .iter()
        .flat_map(|vaulted| sessions.standing(vaulted))
        .filter(|row| !known.contains(&row.id))
        .collect();
    let mut out = Rebuilt::default();
    if missing.is_empty() {
        return Ok(out);
    }
    catalog.mark()?;
    meter.files_total.set(missing.len() as u64);
    let (mut rows, mut records): (Vec<PackRow>, Vec<Record>) = (Vec::new(), Vec::new());
    let archive = Archive { catalog: &*catalog, sessions, far, chunk_ids };
    match want_indexes(&archive, &missing) {
        Err(cause) if cause.is_away() => return Err(RebuildError::Away(cause)),
        _ => {}
    }
    for row in missing {
        let archive = Archive { catalog: &*catalog, sessions, far, chunk_ids };
        match OpenPack::open(&archive, row).and_then(|pack| pack.index(far)) {
            Ok(frames) => {
                let number = u32::try_from(catalog.packs().len() + rows.len()).unwrap_or(u32::MAX);
                let before = records.len();
                records.extend(records_of(number, &frames));
                out.packs += 1;
                out.chunks += (records.len() - before) as u64;
                rows.push(row);
            }
            Err(cause) if cause.is_away() => return Err(RebuildError::Away(cause)),
            Err(cause) => {
                meter.errors.add(1);
                // No row: the pack is asked for again at the next catching up.
                out.lost.push((row.id, cause));
            }
        }
        meter.files.add(1);
        if records.len() >= SPILL_RECORDS {
            spill(catalog, &mut rows, &mut records)?;
        }
    }
    spill(catalog, &mut rows, &mut records)?;
    Ok(out)
}

fn spill(catalog: &mut Catalog<'_>, rows: &mut Vec<PackRow>, records: &mut Vec<Record>) -> Result<(), CatalogError> {
    catalog.add_packs(rows)?;
    rows.clear();
    catalog.add_records(std::mem::take(records))
}

/// Makes the runs of a catalog anew in which a reader met damage, from the indexes of all packs in its table. The numbers of
/// packs stay, so that others go on reading with what they know. What came of it is told to all who ask.
///
/// # Errors
/// When the vault went away or the state fails.
pub(crate) fn mend(archive: &Archive<'_>) -> Result<(), FetchCause> {
    let Archive { catalog, far, .. } = archive;
    catalog.make_anew(|add| {
        let mut records = Vec::new();
        for (number, row) in (0..).zip(catalog.packs()) {
            match OpenPack::open(archive, *row).and_then(|pack| pack.index(*far)) {
                Ok(frames) => records.extend(records_of(number, &frames)),
                Err(cause) if cause.is_away() => return Err(cause),
                // Its row stays without chunks; a rebuild takes it out.
                Err(_) => catalog.mark().map_err(CatalogError::from)?,
            }
            if records.len() >= SPILL_RECORDS {
                add(std::mem::take(&mut records))?;
            }
        }
        Ok(add(records)?)
    })
}

#[cfg(test)]
mod tests;
