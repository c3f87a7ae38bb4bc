//! Quarantine: drives that are not trusted are written nothing new to, and read last, until all they hold was read and is right.
//!
//! Which drives these are, and why, is in the journal: whoever writes while one is away, or after one failed, says so in the same
//! append, so that a drive which comes back is known for stale by all but itself. A drive that was put back to an older state, or that
//! went on apart, is found out when the vault is opened. None is held back where the others are too few to write to: then it is used, and
//! that is told. It must not know the clock, or how fast a drive is. Step 18 of the walk.

use std::collections::BTreeMap;

use lavatube_base::ObjectId;
use lavatube_format::drive_card::DriveCard;
use lavatube_format::journal::{Distrust, Record};
use lavatube_format::shard::shard_name;

use crate::index::Index;
use crate::merge::Parted;
use crate::status::Slot;
use crate::{DriveError, DriveState, MendError, ReadError, ShardHealth, StoreError, Vault};

/// A full read of a drive that is in quarantine, an object at a time.
#[derive(Debug, Clone)]
pub struct Trial {
    slot: usize,
    why: Distrust,
    ahead: Vec<ObjectId>,
    /// Objects with shards on it.
    pub objects: u64,
    /// Shards on it that were not as they should be.
    pub found: u64,
    /// Those of them that are still not.
    pub left: u64,
    /// Objects that could not be read, and why.
    pub beyond: Vec<(ObjectId, MendError)>,
}

/// What a full read says of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) found: u64,
    pub(crate) left: u64,
}

impl Sight {
    /// Whether a drive that was held back for `why` is trusted again.
    ///
    /// What a drive has missed is written to it, and then it is as good as the others; one that lost or changed what it had, again and
    /// again, must be read wholly without that once.
    //= FORMAT#F46
    pub(crate) fn is_good(self, why: Distrust) -> bool {
        match why {
            Distrust::Away | Distrust::Failed => self.left == 0,
            Distrust::Slow | Distrust::Wrong => self.found == 0,
        }
    }
}

impl Trial {
    /// Of the drive in `slot`; `None` when it is trusted, or not there.
    pub fn begin(vault: &Vault, slot: usize) -> Option<Self> {
        let why = vault.distrust(slot)?;
        vault.slots.get(slot)?.mender()?;
        let mut ahead = vault.objects_on(slot);
        // From the end, so that what was stored first is read first.
        ahead.sort_by_cached_key(|id| std::cmp::Reverse(vault.entry(*id).map_or(0, |e| e.sequence)));
        Some(Self { slot, why, objects: ahead.len() as u64, ahead, found: 0, left: 0, beyond: Vec::new() })
    }

    /// Objects that it has not looked at.
    pub fn ahead(&self) -> u64 {
        self.ahead.len() as u64
    }

    /// Reads every byte of the next object, mends what is wrong with it, and reads that again. The object's length; `None` at the end.
    pub fn handle_step(&mut self, vault: &mut Vault) -> Option<u64> {
        let object = vault.find(self.ahead.pop()?)?;
        let looked = vault.look_and_mend(object);
        let on_it = |shards: &[ShardHealth]| shards.iter().filter(|s| s.slot == Some(self.slot)).count() as u64;
        let (found, left) = (on_it(&looked.found), on_it(&looked.left));
        (self.found, self.left) = (self.found + found, self.left + left);
        if let Some(why) = looked.refused {
            self.beyond.push((object.id, why));
        } else if !looked.restorable {
            self.beyond.push((object.id, ReadError::Lost { ranges: Vec::new(), damage: looked.left }.into()));
        }
        Some(object.len)
    }

    /// Lets the drive in again when all was looked at and nothing speaks against it. Whether it did.
    ///
    /// # Errors
    /// [`StoreError`] when the journal could not be written.
    pub fn finish(&self, vault: &mut Vault) -> Result<bool, StoreError> {
        let seen = Sight { found: self.found, left: self.left };
        if !self.ahead.is_empty() || !seen.is_good(self.why) {
            return Ok(false);
        }
        vault.admit(self.slot).map(|()| true)
    }
}

impl Vault {
    /// Why the drive of a slot is not trusted, if it is not.
    pub fn distrust(&self, slot: usize) -> Option<Distrust> {
        let retired = self.slots.get(slot).is_none_or(|s| s.card.retired);
        self.index.quarantine.get(&slot).max(self.index.untold.get(&slot)).copied().filter(|_| !retired)
    }

    /// Slots of drives that are not trusted and are there.
    pub fn on_trial(&self) -> Vec<usize> {
        let there = |slot: &usize| self.slots[*slot].mender().is_some() && self.distrust(*slot).is_some();
        (0..self.slots.len()).filter(there).collect()
    }

    /// Finds drives whose own journal tells that they were away: put back to an older state, when they lack shards which the records that they
    /// lack too say they have; or gone on apart, when a record of theirs is another one. `parted` tells of each slot where its journal and the
    /// chain part.
    pub(crate) fn find_stale(&mut self, parted: &[Option<Option<Parted>>]) {
        let stale: Vec<usize> = (0..self.slots.len())
            .filter(|slot| !self.index.quarantine.contains_key(slot) && self.slots[*slot].writer().is_some())
            .filter(|slot| matches!(&parted[*slot], Some(Some(parted)) if self.is_stale(*slot, parted)))
            .collect();
        self.index.untold = stale.into_iter().map(|slot| (slot, Distrust::Away)).collect();
    }

    fn is_stale(&self, slot: usize, parted: &Parted) -> bool {
        if parted.goes_on {
            return true;
        }
        let (mut looked, mut lacks_any) = (0, false);
        self.chain().walk(parted.at, &mut |_, line, _| {
            let Record::Stored { object, .. } = line.record else { return true };
            if let Some(lacks) = self.lacks(slot, object) {
                (lacks_any, looked) = (lacks, looked + 1);
            }
            !lacks_any && looked < SHARDS_LOOKED_FOR_MAX
        });
        lacks_any
    }

    /// Whether a drive lacks the shard that it should have of an object, if it should.
    fn lacks(&self, slot: usize, object: ObjectId) -> Option<bool> {
        let entry = self.entry(object)?;
        let shard = (0u8..).zip(&*entry.slots).find(|(_, s)| usize::from(**s) == slot)?.0;
        Some(self.slots[slot].reader()?.len(&shard_name(object, shard)) == Ok(None))
    }

    /// Holds the drive of a slot back from now on, and says so in the journal.
    ///
    /// # Errors
    /// [`StoreError`] when the journal could not be written.
    pub fn quarantine(&mut self, slot: usize, why: Distrust) -> Result<(), StoreError> {
        if self.distrust(slot).is_some_and(|known| known >= why) || self.slots.get(slot).is_none_or(|s| s.card.retired)
        {
            return Ok(());
        }
        self.settle_journal()?;
        self.index.untold.insert(slot, why);
        self.append(Vec::new())?;
        self.hold_back();
        Ok(())
    }

    /// Trusts the drive of a slot again: it gets card and journal, and the journal says so.
    ///
    /// # Errors
    /// [`StoreError`]; it is then in quarantine still.
    pub(crate) fn admit(&mut self, slot: usize) -> Result<(), StoreError> {
        let Some(why) = self.distrust(slot) else { return Ok(()) };
        self.index.untold.remove(&slot);
        self.index.quarantine.remove(&slot);
        let was = std::mem::replace(&mut self.slots[slot].state, DriveState::Present);
        self.index.admitted.insert(slot);
        let settled = self.settle_journal().and_then(|()| {
            let is_in = self.slots[slot].writer().is_some();
            if is_in { self.append(Vec::new()) } else { Err(StoreError::Shortfall { need: 1, have: 0 }) }
        });
        if settled.is_err() {
            self.index.admitted.remove(&slot);
            self.index.quarantine.insert(slot, why);
            if self.slots[slot].state == DriveState::Present {
                self.slots[slot].state = was;
            }
        }
        settled
    }

    /// Records for what was seen and the journal does not say: drives that miss what is written now, drives that were found out, and empty
    /// ones that were taken in.
    pub(crate) fn records_of_drives(&self) -> Vec<Record> {
        let narrow = |slot: usize| u8::try_from(slot).expect("slots are below DRIVES_MAX");
        let mut held: BTreeMap<usize, Distrust> = self.index.untold.clone();
        for (slot, place) in self.slots.iter().enumerate().filter(|(_, s)| !s.card.retired) {
            let why = match &place.state {
                // What a full drive lacks it gets when there is room.
                DriveState::Present | DriveState::Retired | DriveState::Quarantined(_) => continue,
                DriveState::Suspect(DriveError::Full) => continue,
                DriveState::Suspect(_) => Distrust::Failed,
                DriveState::CardDamaged | DriveState::Blank | DriveState::Foreign | DriveState::Missing => {
                    Distrust::Away
                }
            };
            held.entry(slot).and_modify(|known| *known = why.max(*known)).or_insert(why);
        }
        // One that failed while it was let in is not.
        held.retain(|slot, why| self.index.quarantine.get(slot).is_none_or(|known| known < why));
        let admitted = self.index.admitted.iter().filter(|slot| !held.contains_key(slot));
        let admitted = admitted.map(|slot| Record::Admitted { slot: narrow(*slot) });
        admitted.chain(held.iter().map(|(slot, why)| Record::Quarantined { slot: narrow(*slot), why: *why })).collect()
    }

    /// Takes drives that are not trusted out of use, as far as the others are enough.
    pub(crate) fn hold_back(&mut self) {
        let need = self.journals_needed();
        hold_back(&mut self.slots, &self.index, need);
    }

    /// Takes drives out of quarantine until `need` can be written to: better those than none. Whether any was taken.
    pub(crate) fn call_reserves(&mut self, need: usize) -> bool {
        let mut any = false;
        while self.writable().len() < need {
            let held = (0..self.slots.len()).filter_map(|slot| match self.slots[slot].state {
                DriveState::Quarantined(why) => Some((why, slot)),
                _ => None,
            });
            let Some((_, slot)) = held.min() else { break };
            self.slots[slot].state = DriveState::Present;
            any = true;
        }
        any
    }
}

/// Sets the worst drives of those that are not trusted aside while `need` are left to write to.
//= FORMAT#F47
pub(crate) fn hold_back(slots: &mut [Slot], index: &Index, need: usize) {
    let mut doubted: Vec<(Distrust, usize)> =
        index.quarantine.iter().chain(&index.untold).map(|(slot, why)| (*why, *slot)).collect();
    doubted.sort_unstable_by(|a, b| b.cmp(a));
    for (why, slot) in doubted {
        let writable = slots.iter().filter(|s| s.writer().is_some()).count();
        if writable > need && slots.get(slot).is_some_and(|s| s.writer().is_some()) {
            slots[slot].state = DriveState::Quarantined(why);
        }
    }
}

/// Drives that have to be there for the journal: more than half of those in use, and enough for a stripe.
pub(crate) fn journals_needed(card: &DriveCard, slots: &[Slot]) -> usize {
    (usize::from(card.k) + usize::from(card.m > 0)).max(in_use(slots) / 2 + 1)
}

/// Drives that are not retired.
pub(crate) fn in_use(slots: &[Slot]) -> usize {
    slots.iter().filter(|s| !s.card.retired).count()
}

/// Shards that are looked for on a drive whose journal is behind: one that was put back lacks the first.
const SHARDS_LOOKED_FOR_MAX: usize = 16;
