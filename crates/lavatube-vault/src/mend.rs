//! Mending: an object's damaged or missing shards are written anew.
//!
//! Only what was verified is written: the whole object is read and must match its id before any file is replaced. A shard
//! whose drive is gone goes to another drive if one is free. Step 18 of the walk.

use lavatube_base::ObjectId;
use lavatube_format::journal::Record;
use lavatube_format::shard::shard_name;

use crate::placement::place;
use crate::stripe::{Stripe, Whose};
use crate::{Depth, DriveError, DriveState, PutMode, ReadError, ShardHealth, ShardState, StoreError, Vault};

/// What mending did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MendReport {
    /// Shards that were damaged or missing and are whole again.
    pub mended: Vec<ShardHealth>,
    /// Shards that still are not, for want of a drive to write them to.
    pub left: Vec<ShardHealth>,
}

/// Why nothing was mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MendError {
    /// The object cannot be read wholly, so there is nothing right to write.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The journal could not be written.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Vault {
    /// Makes an object whole again as far as there are drives for it.
    ///
    /// # Errors
    /// [`MendError`]; then no file was replaced.
    pub fn mend(&mut self, id: ObjectId) -> Result<MendReport, MendError> {
        self.mend_seen(id, Depth::Bytes)
    }

    /// As [`Vault::mend`], for shards that are gone or whose headers tell that something is wrong: reads as many good shards as
    /// it takes to know the object, and no more. Of the damage inside of the others only what is met on the way is mended.
    ///
    /// # Errors
    /// [`MendError`]; then no file was replaced.
    pub fn refill(&mut self, id: ObjectId) -> Result<MendReport, MendError> {
        self.mend_seen(id, Depth::Headers)
    }

    fn mend_seen(&mut self, id: ObjectId, depth: Depth) -> Result<MendReport, MendError> {
        self.adopt_strays(id)?;
        let health = self.examine(id, depth)?;
        self.mend_these(id, health.shards, None)
    }

    /// Notes where shards lie that the journal says were not stored, and that were found. Whether there are such.
    pub(crate) fn adopt_strays(&mut self, id: ObjectId) -> Result<bool, StoreError> {
        let found = self.entry(id).map(|entry| (self.unplaced(id, &entry), entry.kind, entry.generation));
        if let Some((places, kind, generation)) = found.filter(|(places, ..)| !places.is_empty()) {
            let moved = |(index, slot)| Record::Moved { kind, object: id, generation, index, slot };
            self.settle_journal()?;
            self.append(places.into_iter().map(moved).collect())?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Writes those of an object's `shards` anew that are not good, and those on the drive of the slot `off` to other drives.
    pub(crate) fn mend_these(
        &mut self,
        id: ObjectId,
        mut shards: Vec<ShardHealth>,
        off: Option<usize>,
    ) -> Result<MendReport, MendError> {
        if shards.iter().all(|s| is_well(s, off)) {
            return Ok(MendReport::default());
        }
        let len = self.find(id).map_or(0, |o| o.len);
        let mut object = Vec::new();
        let met = self.read(id, 0..len, &mut object)?.damage;
        // What was thought to be good and reading has shown not to be.
        for damaged in met {
            if let Some(known) = shards.iter_mut().find(|s| s.shard == damaged.shard && s.state == ShardState::Good) {
                *known = damaged;
            }
        }
        self.rewrite(id, &object, shards, off)
    }

    /// Writes the shards that are not good, or lie on the drive of the slot `off`, from the object's verified bytes.
    pub(crate) fn rewrite(
        &mut self,
        id: ObjectId,
        object: &[u8],
        shards: Vec<ShardHealth>,
        off: Option<usize>,
    ) -> Result<MendReport, MendError> {
        let entry = self.entry(id).ok_or(ReadError::NotHere(id))?.into_owned();
        self.settle_journal()?;
        let stripe = Stripe::encode(&self.code_of(&entry), entry.geometry, object);
        let whose = Whose {
            vault: self.card.vault,
            kind: entry.kind,
            object: id,
            generation: entry.generation,
            place: entry.place,
        };
        let mut report = MendReport::default();
        let mut moved = Vec::new();
        let mut taken: Vec<usize> = (0..entry.geometry.shards()).filter_map(|i| entry.slot(i)).collect();
        for shard in shards.into_iter().filter(|s| !is_well(s, off)) {
            let index = usize::from(shard.shard);
            let is_writable = |s: usize| self.slots.get(s).is_some_and(|s| s.mender().is_some());
            let own = entry.slot(index).filter(|&s| Some(s) != off && is_writable(s));
            //= FORMAT#F72 what is damaged stays until two scrubs have found the new one right
            let stays = own.is_some() && matches!(shard.state, ShardState::Damaged { .. } | ShardState::Unreadable(_));
            let free = if stays || own.is_none() { self.free_slot(id, &taken) } else { None };
            let spare = self.spare_of(&entry) + 1;
            let mut written = None;
            for slot in free.filter(|_| stays).into_iter().chain(own.or(free)) {
                let header = stripe.header(index, &whose, self.slots[slot].card.drive);
                let (parts, name) = (stripe.parts(index, &header), shard_name(id, shard.shard));
                // Nothing goes for what can be written in its own place.
                let spare = Some(spare).filter(|_| own.is_none_or(|own| own == slot));
                if self.write_shard(slot, id, &name, &parts, spare)? {
                    written = Some(slot);
                    break;
                }
            }
            let Some(slot) = written else {
                report.left.push(shard);
                continue;
            };
            if Some(slot) != own {
                taken.push(slot);
                moved.push(Record::Moved {
                    kind: entry.kind,
                    object: id,
                    generation: entry.generation,
                    index: shard.shard,
                    slot: u8::try_from(slot).expect("slots are below DRIVES_MAX"),
                });
            }
            report.mended.push(shard);
        }
        self.forget_headers(id);
        if !moved.is_empty() {
            self.append(moved)?;
        }
        Ok(report)
    }

    /// Writes a shard; where the drive is full, what is left over there goes for it, and shards of objects that could lose more than this one, which
    /// outlives `spare` losses with it. Without `spare` nothing goes.
    fn write_shard(
        &mut self,
        slot: usize,
        id: ObjectId,
        name: &str,
        parts: &[&[u8]],
        spare: Option<usize>,
    ) -> Result<bool, StoreError> {
        loop {
            let Some(drive) = self.slots[slot].mender() else { return Ok(false) };
            match drive.put(name, parts, PutMode::Replace).and_then(|()| drive.sync()) {
                Ok(()) => return Ok(true),
                Err(DriveError::Full) => {
                    drive.abandon();
                    let Some(spare) = spare.filter(|_| self.slots[slot].writer().is_some()) else { return Ok(false) };
                    if !(self.make_room(slot)? || self.thin(slot, spare, id)?) {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    drive.abandon();
                    self.slots[slot].state = DriveState::Suspect(error);
                    return Ok(false);
                }
            }
        }
    }

    /// Removes a shard from a drive. Whether it is gone.
    pub(crate) fn remove_shard(&mut self, slot: usize, id: ObjectId, index: u8) -> bool {
        let name = shard_name(id, index);
        self.on_drive(slot, |d| {
            d.remove(&name)?;
            d.sync()
        })
    }

    /// Forgets what is remembered of an object's shards: some are not what they were.
    pub(crate) fn forget_headers(&mut self, id: ObjectId) {
        if let Ok(mut cache) = self.headers.lock() {
            cache.forget(id);
        }
    }

    /// Whether some writable drive has no shard of an object.
    pub(crate) fn has_free_drive(&self, id: ObjectId) -> bool {
        let entry = self.entry(id);
        let taken: Vec<usize> =
            entry.map(|e| (0..e.geometry.shards()).filter_map(|i| e.slot(i)).collect()).unwrap_or_default();
        self.writable().iter().any(|slot| !taken.contains(slot))
    }

    /// A writable drive without a shard of this stripe: best the one farthest from the others.
    fn free_slot(&self, id: ObjectId, taken: &[usize]) -> Option<usize> {
        let of = |slots: Vec<usize>| self.candidates(&slots);
        let free = self.writable().into_iter().filter(|s| !taken.contains(s)).collect();
        place(id, 1, &of(free), &of(taken.to_vec())).first().copied()
    }
}

/// Whether a shard stays as it is: good, and not on the drive that is to be emptied.
pub(crate) fn is_well(shard: &ShardHealth, off: Option<usize>) -> bool {
    shard.state == ShardState::Good && (off.is_none() || shard.slot != off)
}
