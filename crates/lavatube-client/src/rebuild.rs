//! Filling the catalog from the vault: every pack carries its own index. A fresh machine with the read key starts here.
//!
//! Only the tail of each pack is fetched. Packs are taken in the order of the manifests, so that two machines come to the
//! same table. A cut is noticed by a marker: a catalog that knows a pack but not its chunks would send them again and find
//! nothing. It must not know where the sessions came from.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_format::catalog::{PackRow, Record};
use lavatube_seal::ChunkIdKey;

use crate::catalog::{Catalog, CatalogError, records_of};
use crate::far::Far;
use crate::fetch::pack::OpenPack;
use crate::fetch::{Archive, FetchCause};
use crate::meter::Meter;
use crate::session;
use crate::state::{State, StateError, write_all};
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

const MARKER: &str = "catalog-rebuilding";
/// Records are put into the catalog in runs of this many.
const SPILL_RECORDS: usize = 256 << 10;

/// Whether a rebuild was cut: the catalog must not be used before another one.
///
/// # Errors
/// When the state cannot be asked.
pub fn was_cut(state: &dyn State) -> Result<bool, StateError> {
    Ok(state.len(MARKER).map_err(StateError::on(MARKER))?.is_some())
}

/// Throws the catalog away and fills it anew.
///
/// # Errors
/// [`RebuildError`]; the marker stays then. A pack that is lost is no error but in the report.
pub fn rebuild(
    state: &dyn State,
    catalog: &mut Catalog<'_>,
    sessions: &Sessions<'_>,
    far: &dyn Far,
    chunk_ids: &ChunkIdKey,
    meter: &Meter,
) -> Result<Rebuilt, RebuildError> {
    write_all(state, MARKER, &[])?;
    catalog.clear()?;
    fill(state, catalog, sessions, far, chunk_ids, meter)
}

/// Adds the packs that manifests name and the catalog does not have: those of other machines, or all. Starts from
/// nothing when the last time was cut.
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
    if was_cut(state)? {
        return rebuild(state, catalog, sessions, far, chunk_ids, meter);
    }
    session::complete_catalog(state, catalog)?;
    fill(state, catalog, sessions, far, chunk_ids, meter)
}

fn fill(
    state: &dyn State,
    catalog: &mut Catalog<'_>,
    sessions: &Sessions<'_>,
    far: &dyn Far,
    chunk_ids: &ChunkIdKey,
    meter: &Meter,
) -> Result<Rebuilt, RebuildError> {
    let known: BTreeSet<ObjectId> = catalog.packs().iter().map(|row| row.id).collect();
    let missing: Vec<PackRow> =
        sessions.all().iter().flat_map(Sessions::rows).filter(|row| !known.contains(&row.id)).collect();
    let mut out = Rebuilt::default();
    if missing.is_empty() {
        state.remove(MARKER).map_err(StateError::on(MARKER))?;
        return Ok(out);
    }
    write_all(state, MARKER, &[])?;
    meter.files_total.set(missing.len() as u64);
    let (mut rows, mut records): (Vec<PackRow>, Vec<Record>) = (Vec::new(), Vec::new());
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
    state.remove(MARKER).map_err(StateError::on(MARKER))?;
    Ok(out)
}

fn spill(catalog: &mut Catalog<'_>, rows: &mut Vec<PackRow>, records: &mut Vec<Record>) -> Result<(), CatalogError> {
    catalog.add_packs(rows)?;
    rows.clear();
    catalog.add_records(std::mem::take(records))
}

#[cfg(test)]
mod tests;
