//! The catalog: which chunks the vault has and where (chunk id → pack and range). Step 3 of the walk.
//!
//! A chunk that was stored twice, by two machines say, has two places, and both are kept: one of them may be lost.
//!
//! It is a cache, and one that rots is no reason to stop. A backup leaves damaged runs out: what they knew is sent again.
//! A reader makes the runs anew while it reads, from the packs' own indexes. Either way a marker stays until the catalog
//! is whole again. It must not know what a chunk holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

use lavatube_base::{ChunkId, Stays};
use lavatube_format::Malformed;
use lavatube_format::catalog::{PACK_LEN, PackRow, Place, Record};
use lavatube_format::pack::{FrameEntry, covering};

use crate::fetch::FetchCause;
use crate::released::Released;
use crate::state::{State, StateError, read_all, write_all};

mod runs;
use runs::Runs;

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Its files failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of it is damaged. Rebuilding it from the vault mends it.
    #[error("the catalog file {name} is damaged: {source}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        source: Malformed,
    },
}

impl CatalogError {
    /// The file to blame.
    fn file(&self) -> &str {
        match self {
            Self::State(e) => &e.name,
            Self::Damaged { name, .. } => name,
        }
    }
}

const FOLDER: &str = "catalog/";
const PACKS: &str = "catalog/packs";
const MARKER: &str = "catalog-rebuilding";

/// The catalog of one vault.
pub struct Catalog<'s> {
    state: &'s dyn State,
    packs: Vec<PackRow>,
    runs: RwLock<Runs>,
    /// What came of making the runs anew for those who read them now: tried once.
    anew: OnceLock<Result<(), FetchCause>>,
    /// Something that was damaged is left out.
    hurt: bool,
    /// Rows of packs that the vault does not have any more.
    doubts: BTreeSet<u32>,
    /// Rows of packs that were freed: nothing is in them any more.
    freed: BTreeSet<u32>,
    /// Rows of packs of which some was freed, and what stays.
    thin: BTreeMap<u32, Stays>,
}

impl<'s> Catalog<'s> {
    /// Opens the catalog in `state`; an absent one is empty. Runs that are damaged are left out, and all is forgotten when
    /// the pack table is; the catalog is [marked](Catalog::is_marked) then.
    ///
    /// # Errors
    /// When files cannot be listed, written or removed.
    pub fn open(state: &'s dyn State) -> Result<Self, CatalogError> {
        let runs = RwLock::new(Runs::new(1));
        let mut out = Self {
            state,
            packs: Vec::new(),
            runs,
            anew: OnceLock::new(),
            hurt: false,
            doubts: BTreeSet::new(),
            freed: BTreeSet::new(),
            thin: BTreeMap::new(),
        };
        for name in state.list(FOLDER).map_err(StateError::on(FOLDER))? {
            if let Err(e) = out.runs_mut().open(state, &name) {
                out.leave_out(e.file())?;
            }
        }
        match out.read_table() {
            // In a table that was cut other packs would get the numbers that records have for those that are gone.
            Ok(packs) if packs.len() as u64 >= u64::from(out.runs_mut().packs()) => out.packs = packs,
            _ => {
                out.clear()?;
                out.hurt = true;
            }
        }
        Ok(out)
    }

    fn read_table(&self) -> Result<Vec<PackRow>, CatalogError> {
        let table = read_all(self.state, PACKS, u64::MAX)?.unwrap_or_default();
        // A torn last row is one that nothing refers to yet.
        let (rows, torn) = table.as_chunks::<PACK_LEN>();
        let packs: Vec<_> =
            rows.iter().map(|row| PackRow::decode(row)).collect::<Result<_, _>>().map_err(damaged(PACKS))?;
        if !torn.is_empty() {
            write_all(self.state, PACKS, rows.as_flattened())?;
        }
        Ok(packs)
    }

    /// Where chunk `id` lies, if the vault has it: the newest place, when it has several.
    ///
    /// # Errors
    /// When a run cannot be read or is damaged: nobody knows what else it has.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Place>, CatalogError> {
        if self.freed.is_empty() && self.thin.is_empty() {
            return Ok(self.runs().find(self.state, id, 1)?.pop());
        }
        Ok(self.places(id)?.into_iter().next())
    }

    /// All places where chunk `id` lies, the newest first. Asks every run, where [`Catalog::find`] stops at the first.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>, CatalogError> {
        let mut places = self.runs().find(self.state, id, usize::MAX)?;
        places.retain(|place| self.stands(place));
        Ok(places)
    }

    /// Whether what lies in a place was not freed: all of its frame stays.
    pub fn stands(&self, place: &Place) -> bool {
        if self.freed.contains(&place.pack) {
            return false;
        }
        let (Some(stays), Some(row)) = (self.thin.get(&place.pack), self.pack(place.pack)) else { return true };
        stays.has(&covering(row.class, place.frame_at as usize, place.frame_len as usize).1)
    }

    /// Whether chunk `id` lay only where something was freed.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub fn was_freed(&self, id: &ChunkId) -> Result<bool, CatalogError> {
        let places = self.runs().find(self.state, id, usize::MAX)?;
        Ok(!places.is_empty() && !places.iter().any(|place| self.stands(place)))
    }

    /// Whether no pack that this catalog ever knew has chunk `id`.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub fn never_knew(&self, id: &ChunkId) -> Result<bool, CatalogError> {
        Ok(self.runs().find(self.state, id, 1)?.is_empty())
    }

    /// Makes chunks that are only in the packs of these rows count as [unknown](Catalog::knows): the vault does not have
    /// those any more.
    pub fn doubt(&mut self, rows: BTreeSet<u32>) {
        self.doubts = rows;
    }

    /// Leaves out what was freed, packs and parts of packs: what is only there is known no more.
    pub fn leave_out_freed(&mut self, released: &Released) {
        let rows = || (0..).zip(&self.packs);
        self.freed = rows().filter(|(_, row)| released.objects.contains(&row.id)).map(|(n, _)| n).collect();
        let stays = rows().filter_map(|(n, row)| Some((n, released.stays.get(&row.id)?.clone())));
        self.thin = stays.collect();
    }

    /// Whether the vault has chunk `id`, for those who can send it again: runs that cannot be read are left out from
    /// here on.
    ///
    /// # Errors
    /// When the catalog cannot be marked.
    pub fn knows(&mut self, id: &ChunkId) -> Result<bool, CatalogError> {
        let state = self.state;
        // One place is enough, unless it may be in doubt.
        let is_all = self.doubts.is_empty() && self.freed.is_empty() && self.thin.is_empty();
        let most = if is_all { 1 } else { usize::MAX };
        loop {
            match self.runs_mut().find(state, id, most) {
                Ok(places) => {
                    let counts = |place: &Place| !self.doubts.contains(&place.pack) && self.stands(place);
                    return Ok(places.iter().any(counts));
                }
                Err(e) => self.leave_out(e.file())?,
            }
        }
    }

    /// Row `pack` of the pack table.
    pub fn pack(&self, pack: u32) -> Option<&PackRow> {
        self.packs.get(usize::try_from(pack).ok()?)
    }

    /// All packs, in the order of their rows.
    pub fn packs(&self) -> &[PackRow] {
        &self.packs
    }

    /// Number of records (a chunk that was stored twice counts twice).
    pub fn chunks(&self) -> u64 {
        self.runs().records()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.chunks() == 0 && self.packs.is_empty()
    }

    /// Adds rows for packs and returns the number of the first.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn add_packs(&mut self, rows: &[PackRow]) -> Result<u32, CatalogError> {
        let first = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let bytes: Vec<u8> = rows.iter().flat_map(PackRow::encode).collect();
        self.state.append(PACKS, &bytes).map_err(StateError::on(PACKS))?;
        self.packs.extend_from_slice(rows);
        Ok(first)
    }

    /// Adds records in any order as a new run, and merges runs of like size. One that is found damaged is left out.
    ///
    /// # Errors
    /// When a run cannot be written; the catalog is as before then.
    pub fn add_records(&mut self, records: Vec<Record>) -> Result<(), CatalogError> {
        let state = self.state;
        self.runs_mut().put(state, records)?;
        while let Err(e) = self.runs_mut().merge(state) {
            // Unless it is the merged run that cannot be written.
            if !self.runs_mut().names().any(|name| name == e.file()) {
                return Err(e);
            }
            self.leave_out(e.file())?;
        }
        Ok(())
    }

    /// Forgets everything, before a rebuild. The catalog is [marked](Catalog::is_marked).
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear(&mut self) -> Result<(), CatalogError> {
        self.mark()?;
        for name in self.state.list(FOLDER).map_err(StateError::on(FOLDER))? {
            self.state.remove(&name).map_err(StateError::on(&name))?;
        }
        self.packs.clear();
        self.doubts.clear();
        self.freed.clear();
        self.thin.clear();
        *self.runs_mut() = Runs::new(1);
        self.anew = OnceLock::new();
        self.hurt = false;
        Ok(())
    }

    /// Whether chunks of its packs may be missing in it, because a rebuild was cut or something damaged was left out. A
    /// backup may use it all the same; a reader must not.
    ///
    /// # Errors
    /// When the state cannot be asked.
    pub fn is_marked(&self) -> Result<bool, StateError> {
        Ok(self.state.len(MARKER).map_err(StateError::on(MARKER))?.is_some())
    }

    /// Whether something damaged was left out since it was opened or cleared.
    pub(crate) fn is_hurt(&self) -> bool {
        self.hurt
    }

    /// Marks it, durably.
    pub(crate) fn mark(&self) -> Result<(), StateError> {
        write_all(self.state, MARKER, &[])
    }

    /// Takes the mark off.
    pub(crate) fn unmark(&self) -> Result<(), StateError> {
        self.state.remove(MARKER).map_err(StateError::on(MARKER))
    }

    /// Puts runs of all that `fill` adds in the place of the runs there are, while others read: once, and what came of it
    /// is told to all who ask for it. The pack table stays.
    pub(crate) fn make_anew(
        &self,
        fill: impl FnOnce(&mut dyn FnMut(Vec<Record>) -> Result<(), CatalogError>) -> Result<(), FetchCause>,
    ) -> Result<(), FetchCause> {
        let make = || {
            let mut new = Runs::new(self.runs().next());
            fill(&mut |records| {
                new.put(self.state, records)?;
                new.merge(self.state)
            })?;
            let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *runs, new);
            for name in old.names() {
                self.state.remove(name).map_err(StateError::on(name)).map_err(CatalogError::from)?;
            }
            Ok(())
        };
        self.anew.get_or_init(make).clone()
    }

    fn runs(&self) -> RwLockReadGuard<'_, Runs> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs_mut(&mut self) -> &mut Runs {
        self.runs.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on without the run in file `name`. The file stays until a rebuild: its good pages may serve the next run.
    fn leave_out(&mut self, name: &str) -> Result<(), StateError> {
        self.mark()?;
        self.hurt = true;
        self.runs_mut().forget(name);
        Ok(())
    }
}

/// The catalog records of a pack's index. `pack` is the pack's row.
pub fn records_of(pack: u32, frames: &[FrameEntry]) -> Vec<Record> {
    let mut out = Vec::with_capacity(frames.iter().map(|f| f.chunks.len()).sum());
    let mut frame_at = 0u32;
    // Positions in a pack fit 32 bits: `base::limits` bounds packs, and the index reader bounds frames by their pack.
    let word = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
    for frame in frames {
        let mut body_at = 0u32;
        for chunk in &frame.chunks {
            let place = Place {
                pack,
                frame_at,
                frame_len: word(frame.stored_len),
                method: frame.method,
                body_at,
                delta: chunk.delta.is_some(),
            };
            out.push(Record { id: chunk.id, place });
            body_at = body_at.saturating_add(word(chunk.body_len));
        }
        frame_at = frame_at.saturating_add(word(frame.stored_len));
    }
    out
}

fn damaged(name: &str) -> impl Fn(Malformed) -> CatalogError {
    let name = name.to_owned();
    move |source| CatalogError::Damaged { name: name.clone(), source }
}

#[cfg(test)]
mod tests;
