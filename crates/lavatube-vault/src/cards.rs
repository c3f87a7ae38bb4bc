//! Changing the card: drives are named anew, emptied and retired, or added.
//!
//! Every drive's card has all slots, and an edition that counts changes: of several the highest is believed. A change counts when more than
//! half of the drives in use have it, of those in use before and of those after, so that no two futures are written; whatever a cut leaves
//! in between is completed by whoever writes next. Nothing is removed: what a retired drive has can still serve. It must not know folders.
//! Step 18 of the walk.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_base::limits::DRIVES_MAX;
use lavatube_format::drive_card::{DriveCard, SlotCard};

use crate::mend::is_well;
use crate::open::{CARD, read_card, told_by_shards};
use crate::status::Slot;
use crate::{Depth, Drive, DriveError, DriveState, MendError, MendReport, PutMode, StoreError, Vault, readme};

/// Why the card was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// There is no such slot, or its drive is retired.
    #[error("there is no drive in use in slot {0}")]
    NoDrive(usize),
    /// Another drive has the label, and people could not tell them apart.
    #[error("another drive is called {0}")]
    SameLabel(String),
    /// The names of all drives are longer than a card.
    #[error("the names of all drives together are too long for a card")]
    TooLong,
    /// There are as many drives as can be.
    #[error("a vault has at most 255 drives, retired ones among them")]
    TooMany,
    /// Too few drives would be left for new objects.
    #[error("{have} drives would be left, and the shards of an object need {need}")]
    TooFew {
        /// Drives left in use.
        have: usize,
        /// Shards of a stripe.
        need: usize,
    },
    /// Objects have shards on the drive.
    #[error("{objects} objects have shards on the drive still")]
    Holds {
        /// How many.
        objects: u64,
    },
    /// The drive belongs to this or another vault.
    #[error("the drive already belongs to a vault")]
    Taken,
    /// Too few drives are there, or they failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The new drive failed.
    #[error("{0}")]
    Drive(#[from] DriveError),
}

/// A drive that has its card and the journal, and is not part of the vault yet.
#[derive(Debug)]
pub struct Prepared(Vec<SlotCard>);

impl Vault {
    /// Gives the drive of a slot other names: label, shelf, maker and model of `card`.
    ///
    /// # Errors
    /// [`CardError`]; after [`CardError::Store`] the vault must be opened anew.
    pub fn rename_drive(&mut self, slot: usize, card: SlotCard) -> Result<(), CardError> {
        let known = self.card.slots.get(slot).ok_or(CardError::NoDrive(slot))?;
        let card = SlotCard { drive: known.drive, retired: known.retired, ..card };
        self.is_new_label(&card, Some(slot))?;
        let mut slots = self.card.slots.clone();
        slots[slot] = card;
        self.change_card(slots, self.card.mandates)
    }

    /// Objects that have shards on the drive of a slot.
    pub fn objects_on(&self, slot: usize) -> Vec<ObjectId> {
        self.known_on(slot).0
    }

    /// The same, and how many records of the journal cannot be read, which may be about more.
    fn known_on(&self, slot: usize) -> (Vec<ObjectId>, u64) {
        let mut on_it = Vec::new();
        let unread = self.each_entry(&mut |id, entry| on_it.extend(Some(id).filter(|_| entry.is_on(slot))));
        on_it.sort_unstable();
        (on_it, unread)
    }

    /// Writes the shards that an object has on the drive of a slot to others, from verified bytes, and mends the rest of it. What the drive has
    /// stays there.
    ///
    /// # Errors
    /// [`MendError`]; then no file was replaced.
    pub fn move_off(&mut self, id: ObjectId, slot: usize) -> Result<MendReport, MendError> {
        self.adopt_strays(id)?;
        // The object is read wholly, and must match its id, before anything is written.
        let health = self.examine(id, Depth::Headers)?;
        let shards = health.shards.into_iter().filter(|s| !is_well(s, Some(slot))).collect();
        self.mend_these(id, shards, Some(slot))
    }

    /// Whether the drive of a slot may be retired, as far as the number of drives goes.
    ///
    /// # Errors
    /// [`CardError::NoDrive`], [`CardError::TooFew`].
    pub fn may_retire(&self, slot: usize) -> Result<(), CardError> {
        let known = self.card.slots.get(slot).filter(|s| !s.retired);
        known.ok_or(CardError::NoDrive(slot))?;
        let need = usize::from(self.card.k) + usize::from(self.card.m);
        let have = self.card.slots.iter().filter(|s| !s.retired).count() - 1;
        if have < need { Err(CardError::TooFew { have, need }) } else { Ok(()) }
    }

    /// Retires the drive of a slot, on which no object has shards: it gets nothing any more, and is not missed.
    ///
    /// # Errors
    /// As [`Vault::rename_drive`].
    pub fn retire(&mut self, slot: usize) -> Result<(), CardError> {
        self.may_retire(slot)?;
        let (on_it, unread) = self.known_on(slot);
        if unread > 0 {
            return Err(StoreError::Unread { records: unread }.into());
        }
        if !on_it.is_empty() {
            return Err(CardError::Holds { objects: on_it.len() as u64 });
        }
        let mut slots = self.card.slots.clone();
        slots[slot].retired = true;
        self.change_card(slots, self.card.mandates)
    }

    /// Writes card, README and journal to a drive that is to be added, as they will be. Whoever knows where drives are then notes this one, and
    /// hands it to [`Vault::add_drive`]. Cut before that, it is done again with the same drive.
    ///
    /// # Errors
    /// [`CardError`]; the vault is as it was.
    pub fn prepare_drive(&mut self, drive: &dyn Drive, card: SlotCard) -> Result<Prepared, CardError> {
        self.settle_journal()?;
        if self.card.slots.len() >= DRIVES_MAX {
            return Err(CardError::TooMany);
        }
        self.is_new_label(&card, None)?;
        let is_ours = |own: &DriveCard| {
            own.vault == self.card.vault && !self.card.slots.iter().any(|known| known.drive == own.drive)
        };
        let is_free = match read_card(drive) {
            // It was prepared, and that was cut.
            Some(own) => is_ours(&own),
            None => drive.len(CARD)?.is_none() && told_by_shards(drive, self.card.vault).is_none(),
        };
        if !is_free {
            return Err(CardError::Taken);
        }
        let slots: Vec<SlotCard> = self.card.slots.iter().cloned().chain([card]).collect();
        let card = self.next_card(slots.clone())?;
        let own = DriveCard { drive: slots[slots.len() - 1].drive, ..card };
        if !self.chain().copy_to(drive)? {
            return Err(StoreError::Shortfall { need: 1, have: 0 }.into());
        }
        write_card(drive, &own)?;
        Ok(Prepared(slots))
    }

    /// Adds a drive that was prepared, and was noted where drives are. Its slot.
    ///
    /// # Errors
    /// As [`Vault::rename_drive`].
    ///
    /// # Panics
    /// When the vault's drives are others than when it was prepared: a mistake of our caller.
    pub fn add_drive(&mut self, prepared: Prepared, drive: Box<dyn Drive>) -> Result<usize, CardError> {
        let Prepared(slots) = prepared;
        assert_eq!(slots[..slots.len() - 1], self.card.slots[..], "nothing changed since it was prepared");
        let slot = self.slots.len();
        self.slots.push(Slot { card: slots[slot].clone(), drive: Some(drive), state: DriveState::Present });
        self.journal.is_added();
        self.change_card(slots, self.card.mandates)?;
        Ok(slot)
    }

    fn is_new_label(&self, card: &SlotCard, own: Option<usize>) -> Result<(), CardError> {
        let mut others = self.card.slots.iter().enumerate().filter(|(slot, s)| Some(*slot) != own && !s.retired);
        let same = others.any(|(_, s)| !s.label.is_empty() && s.label == card.label);
        if same { Err(CardError::SameLabel(card.label.clone())) } else { Ok(()) }
    }

    fn next_card(&self, slots: Vec<SlotCard>) -> Result<DriveCard, CardError> {
        let card = DriveCard { edition: self.card.edition.saturating_add(1), slots, ..self.card.clone() };
        if card.fits() { Ok(card) } else { Err(CardError::TooLong) }
    }

    /// Writes a new card to every drive that is there; `mandates` is the number of the last mandate that was taken.
    pub(crate) fn change_card(&mut self, slots: Vec<SlotCard>, mandates: u64) -> Result<(), CardError> {
        if self.signer.is_none() {
            return Err(StoreError::ReadOnly.into());
        }
        self.settle_journal()?;
        let card = DriveCard { mandates, ..self.next_card(slots)? };
        let in_use = |slots: &[SlotCard]| -> BTreeSet<usize> {
            slots.iter().enumerate().filter(|(_, s)| !s.retired).map(|(slot, _)| slot).collect()
        };
        let (before, after) = (in_use(&self.card.slots), in_use(&card.slots));
        let shortfall = |have: &BTreeSet<usize>| {
            let short = |all: &BTreeSet<usize>| {
                let (have, need) = (all.intersection(have).count(), all.len() / 2 + 1);
                (have < need).then_some(StoreError::Shortfall { need, have })
            };
            short(&before).or_else(|| short(&after))
        };
        if let Some(short) = shortfall(&self.writable().into_iter().collect()) {
            return Err(short.into());
        }
        let mut have = BTreeSet::new();
        for slot in self.writable() {
            let own = DriveCard { drive: card.slots[slot].drive, ..card.clone() };
            if self.on_drive(slot, |d| write_card(d, &own)) {
                have.insert(slot);
            }
        }
        if let Some(short) = shortfall(&have) {
            // Some have it: which card counts is seen when all are looked at again.
            self.journal.confuse();
            return Err(short.into());
        }
        // Those that are held back get it when they are let in.
        let missed = (0..self.slots.len()).filter(|slot| self.slots[*slot].is_last_resort());
        let missed: Vec<usize> = missed.filter(|slot| !self.behind.contains(slot)).collect();
        self.behind.extend(missed);
        for (slot, card) in self.slots.iter_mut().zip(&card.slots) {
            slot.card = card.clone();
            if card.retired {
                slot.state = DriveState::Retired;
            }
        }
        self.card = DriveCard { drive: self.card.drive, ..card };
        Ok(())
    }

    /// Writes the card to drives that have an older edition: a change of it was cut.
    pub(crate) fn settle_cards(&mut self) {
        let (now, later): (Vec<usize>, Vec<usize>) =
            std::mem::take(&mut self.behind).into_iter().partition(|slot| self.slots[*slot].writer().is_some());
        self.behind = later;
        for slot in now {
            let own = DriveCard { drive: self.slots[slot].card.drive, ..self.card.clone() };
            self.on_drive(slot, |d| write_card(d, &own));
        }
    }
}

fn write_card(drive: &dyn Drive, own: &DriveCard) -> Result<(), DriveError> {
    drive.put(readme::README, &[readme::text(own).as_bytes()], PutMode::Replace)?;
    drive.put(CARD, &[&own.encode()], PutMode::Replace)?;
    drive.sync()
}
