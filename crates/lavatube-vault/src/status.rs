//! Drive slots, how they are, and how the vault is as a whole.
//!
//! A slot is a place of the vault's card; a drive may or may not fill it. Drives that come back empty are taken in again
//! here, only when the operator says so: an unmounted folder looks just like an emptied one. Step 18 of the walk.

use lavatube_base::DriveId;
use lavatube_format::drive_card::{DriveCard, SlotCard};

use crate::open::{CARD, read_card, told_by_shards};
use crate::precious::worth;
use crate::{Distrust, Drive, DriveError, ObjectEntry, PutMode, Space, Vault, readme};

/// How a drive slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveState {
    /// It carries its card and is written to.
    Present,
    /// It is a drive of this vault by its shards, but its card is damaged: read, not written to until readopted.
    CardDamaged,
    /// There is nothing of this vault on it that can be read: emptied, overwritten, or not mounted.
    Blank,
    /// It belongs to another vault and is left alone.
    Foreign,
    /// No drive was given for this slot.
    Missing,
    /// It was retired: what it has is read if it is there, and nobody misses it if not.
    Retired,
    /// It failed while it was written to; read, not written to until the vault is opened anew.
    Suspect(DriveError),
    /// It is there and not trusted: read last, and written nothing new to, until all it holds was read.
    Quarantined(Distrust),
}

/// A slot with its drive.
pub(crate) struct Slot {
    pub(crate) card: SlotCard,
    pub(crate) drive: Option<Box<dyn Drive>>,
    pub(crate) state: DriveState,
}

impl Slot {
    /// The drive to read from.
    pub(crate) fn reader(&self) -> Option<&dyn Drive> {
        self.drive.as_deref().filter(|_| self.state != DriveState::Foreign)
    }

    /// The drive to write to.
    pub(crate) fn writer(&self) -> Option<&dyn Drive> {
        self.drive.as_deref().filter(|_| self.state == DriveState::Present)
    }

    /// The drive to mend what it has, which may be in quarantine.
    pub(crate) fn mender(&self) -> Option<&dyn Drive> {
        self.drive.as_deref().filter(|_| matches!(self.state, DriveState::Present | DriveState::Quarantined(_)))
    }

    /// Whether it is read only where the others are not enough.
    pub(crate) fn is_last_resort(&self) -> bool {
        matches!(self.state, DriveState::Quarantined(_))
    }
}

/// One drive of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveStatus {
    /// Its slot.
    pub slot: usize,
    /// Its id.
    pub drive: DriveId,
    /// What people call it.
    pub label: String,
    /// Its failure domain.
    pub shelf: String,
    /// Who made it.
    pub maker: String,
    /// Its model.
    pub model: String,
    /// How it is.
    pub state: DriveState,
    /// It is not trusted. When it is present nevertheless, it is used because the others are too few.
    pub distrust: Option<Distrust>,
    /// Its size, when it answers.
    pub space: Option<Space>,
}

/// How the vault is, as far as it is known without reading objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Data shards of a new stripe.
    pub k: u8,
    /// Parity shards of a new stripe.
    pub m: u8,
    /// All drive slots.
    pub drives: Vec<DriveStatus>,
    /// Number of objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// `redundancy[n]`: objects that outlive any `n` more lost drives, by the journal and the drives that are there.
    pub redundancy: Vec<u64>,
    /// Objects that have too few drives left to be read wholly.
    pub lost: u64,
    /// Shards where they were before they were moved, kept until the new ones have proved themselves.
    pub left_over: u64,
}

/// Why a drive was not taken in again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadoptError {
    /// There is no such slot, or no drive in it and none was given.
    #[error("there is no drive in slot {0}")]
    NoDrive(usize),
    /// The drive carries the card or the shards of another vault, or of another drive.
    #[error("the drive belongs to another vault or to another slot")]
    Foreign,
    /// No drive is left to copy the journal from.
    #[error("no drive is left to copy the journal from")]
    NoJournal,
    /// The drive failed.
    #[error("{0}")]
    Drive(#[from] DriveError),
}

impl DriveStatus {
    /// Whether it is as it should be: there and trusted, or retired.
    pub fn is_well(&self) -> bool {
        matches!(self.state, DriveState::Present | DriveState::Retired) && self.distrust.is_none()
    }
}

impl Vault {
    /// Whether some drive was not there when the vault was opened: it may be by now.
    pub fn lacks_drives(&self) -> bool {
        self.slots.iter().any(|slot| slot.drive.is_none() && slot.state != DriveState::Retired)
    }

    /// How the vault is, without reading objects.
    pub fn status(&self) -> Status {
        let mut status = Status {
            k: self.card.k,
            m: self.card.m,
            drives: self.drives(),
            objects: 0,
            bytes: 0,
            redundancy: Vec::new(),
            lost: 0,
            left_over: self.left_over(),
        };
        let unread = self.each_entry(&mut |_, entry| {
            status.objects += 1;
            status.bytes += entry.geometry.object_len() as u64;
            let there = (0..entry.geometry.shards()).filter(|&i| self.is_shard_expected(entry.slot(i))).count();
            match there.checked_sub(entry.geometry.k()) {
                None => status.lost += 1,
                Some(spare) => {
                    status.redundancy.resize(status.redundancy.len().max(spare + 1), 0);
                    status.redundancy[spare] += 1;
                }
            }
        });
        // Nobody can say where they lie: lost until the vault is opened anew, and all copies of the journal are asked.
        (status.objects, status.lost) = (status.objects + unread, status.lost + unread);
        status
    }

    /// How its drives are.
    pub fn drives(&self) -> Vec<DriveStatus> {
        let drives = self.slots.iter().enumerate().map(|(slot, s)| DriveStatus {
            slot,
            drive: s.card.drive,
            label: s.card.label.clone(),
            shelf: s.card.shelf.clone(),
            maker: s.card.maker.clone(),
            model: s.card.model.clone(),
            state: s.state.clone(),
            distrust: self.distrust(slot),
            space: s.reader().and_then(|d| d.space().ok()),
        });
        drives.collect()
    }

    /// All objects in the order in which repair serves them: first those that outlive fewest further losses, and of equals those that more hangs on. Where
    /// room, drives or time end before all are whole, they end for what is worth least.
    //= FORMAT#F49
    pub fn by_need(&self) -> Vec<ObjectEntry> {
        let precious = self.precious();
        let mut all = Vec::new();
        self.each_entry(&mut |id, entry| {
            all.push((precious.standing(id, self.spare_of(entry)), worth(entry.kind), ObjectEntry::of(id, entry)));
        });
        all.sort_unstable_by_key(|(spare, worth, object)| (*spare, *worth, object.id));
        all.into_iter().map(|(.., object)| object).collect()
    }

    /// Takes the drive of `slot` (or `drive`, put there now) into the vault again: its card, README and journal are
    /// written. Its shards come back with [`Vault::mend`]. What else is on the drive is left alone.
    ///
    /// # Errors
    /// [`ReadoptError`]; the slot keeps the drive it had. [`ReadoptError::Foreign`] before anything is written.
    pub fn readopt(&mut self, slot: usize, drive: Option<Box<dyn Drive>>) -> Result<(), ReadoptError> {
        let place = self.slots.get(slot).ok_or(ReadoptError::NoDrive(slot))?;
        let given = drive;
        let drive = given.as_deref().or(place.drive.as_deref()).ok_or(ReadoptError::NoDrive(slot))?;
        let card = DriveCard { drive: place.card.drive, ..self.card.clone() };
        // Without a card its shards say whose it is: under another drive's card they would be lost.
        let found = read_card(drive).map(|c| (c.vault, c.drive)).or_else(|| told_by_shards(drive, card.vault));
        if found.is_some_and(|own| own != (card.vault, card.drive)) {
            return Err(ReadoptError::Foreign);
        }
        drive.put(readme::README, &[readme::text(&card).as_bytes()], PutMode::Replace)?;
        if !self.chain().copy_to(drive)? {
            return Err(ReadoptError::NoJournal);
        }
        drive.put(CARD, &[&card.encode()], PutMode::Replace)?;
        drive.sync()?;
        let place = &mut self.slots[slot];
        if let Some(drive) = given {
            place.drive = Some(drive);
        }
        place.state = DriveState::Present;
        self.journal.is_current(slot);
        if found.is_none() && self.index.quarantine.remove(&slot).is_some() {
            // It is empty: nothing on it is stale.
            self.index.admitted.insert(slot);
            // Where that cannot be noted now it is with whatever is written next.
            let _ = self.settle_journal().and_then(|()| self.append(Vec::new()));
        }
        self.hold_back();
        Ok(())
    }

    /// Whether a shard in this slot should be readable, as far as the drive's state tells.
    pub(crate) fn is_shard_expected(&self, slot: Option<usize>) -> bool {
        let Some(place) = slot.and_then(|s| self.slots.get(s)) else { return false };
        match place.state {
            DriveState::Present | DriveState::CardDamaged | DriveState::Suspect(_) | DriveState::Quarantined(_) => true,
            DriveState::Retired => place.drive.is_some(),
            DriveState::Blank | DriveState::Foreign | DriveState::Missing => false,
        }
    }
}
