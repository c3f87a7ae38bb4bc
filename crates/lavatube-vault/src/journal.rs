//! The journal on all drives: how its copies are made one, kept alike, and appended to.
//!
//! A record counts once it is synced on a quorum of drives: more than half of all, so that two halves of a vault never
//! write two futures, and enough that its objects' redundancy is not in vain. It is a cache of what shard headers say,
//! and an order. It must not know what objects contain. Step 16 of the walk.

use lavatube_base::ObjectId;
use lavatube_base::limits::{JOURNAL_IN_MEMORY_MAX, JOURNAL_LEN_MAX};
use lavatube_format::journal::{Check, FIRST_CHECK, Line, Record};

use crate::merge::Merged;
use crate::quarantine::{in_use, journals_needed};
use crate::{Drive, DriveError, DriveState, StoreError, Vault};

/// The journal's name on a drive.
pub(crate) const JOURNAL: &str = "journal";

/// Where the chain stands, and which drives have all of it.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Number of the last record.
    last: u64,
    /// Its check.
    check: Check,
    /// Bytes of the whole chain.
    len: u64,
    /// Highest record known to be synced on a quorum.
    settled: u64,
    /// By slot: the drive's copy is the whole chain and nothing else.
    current: Vec<bool>,
    /// The whole chain, while it is short or no drive has it.
    image: Option<Vec<u8>>,
    /// Longest chain that is short.
    image_max: u64,
    /// An append ended so that chain and drives may differ: nothing more is written before the vault is opened anew.
    confused: bool,
}

impl Journal {
    /// The journal of a vault just created: empty and current everywhere.
    pub(crate) fn empty(slots: usize) -> Self {
        Self {
            last: 0,
            check: FIRST_CHECK,
            len: 0,
            settled: 0,
            current: vec![true; slots],
            image: Some(Vec::new()),
            image_max: JOURNAL_IN_MEMORY_MAX,
            confused: false,
        }
    }

    /// The journal as merged from copies; `current` tells which drives have exactly it.
    pub(crate) fn merged(merged: &mut Merged, current: Vec<bool>, image_max: u64) -> Self {
        let (last, check, len) = (merged.last(), merged.check(), merged.end.place);
        Self { last, check, len, settled: 0, current, image: merged.image.take(), image_max, confused: false }
    }

    /// Number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Whether the record is synced on a quorum; 0 is no record.
    pub(crate) fn is_settled(&self, sequence: u64) -> bool {
        sequence > 0 && sequence <= self.settled
    }

    /// Bytes of the whole chain.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The whole chain, if it is in memory.
    pub(crate) fn image(&self) -> Option<&[u8]> {
        self.image.as_deref()
    }

    /// Whether the drive in `slot` has all of it.
    pub(crate) fn has_all(&self, slot: usize) -> bool {
        self.current.get(slot) == Some(&true)
    }

    /// Whether some drive has all of it.
    pub(crate) fn is_somewhere(&self) -> bool {
        self.current.contains(&true)
    }

    /// Puts records for objects that only a scan knew at the end of the chain, which is `image` so far. No drive has them yet: each gets them
    /// together with what else its copy lacks, at once, so that no copy says that there is no doubt before it has them.
    pub(crate) fn adopt(&mut self, mut image: Vec<u8>, records: Vec<Record>) -> Vec<(u64, Line)> {
        let lines = self.encode(records, 0, &mut image);
        self.len = image.len() as u64;
        self.image = Some(image);
        self.current.fill(false);
        lines
    }

    /// Numbers records, chains them to the last one, and appends their bytes to `out`, which begins at place `begins` of the chain. With
    /// each goes its place.
    fn encode(&mut self, records: Vec<Record>, begins: u64, out: &mut Vec<u8>) -> Vec<(u64, Line)> {
        let number = |record: Record| {
            let (sequence, place) = (self.last + 1, begins + out.len() as u64);
            let check = record.encode(sequence, &self.check, out);
            (self.last, self.check) = (sequence, check);
            (place, Line { sequence, record, check })
        };
        records.into_iter().map(number).collect()
    }

    /// Notes that the chain goes on with these bytes.
    fn goes_on(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if let Some(image) = &mut self.image {
            image.extend_from_slice(bytes);
        }
    }

    /// Lets go of what is in memory, if it is long and on a drive.
    fn let_go(&mut self) {
        if self.len > self.image_max && self.is_somewhere() {
            self.image = None;
        }
    }

    /// Notes a further drive, which has the whole chain.
    pub(crate) fn is_added(&mut self) {
        self.current.push(true);
    }

    /// Nothing more is written before the vault is opened anew.
    pub(crate) fn confuse(&mut self) {
        self.confused = true;
    }

    /// Notes that the drive in `slot` has the whole chain.
    pub(crate) fn is_current(&mut self, slot: usize) {
        self.current[slot] = true;
    }
}

impl Vault {
    /// Drives that must have synced a shard file each, and the journal, before an object is durable: one loss more than
    /// none, and for the journal more than half of all drives.
    pub(crate) fn shards_needed(&self) -> usize {
        usize::from(self.card.k) + usize::from(self.card.m > 0)
    }

    pub(crate) fn journals_needed(&self) -> usize {
        journals_needed(&self.card, &self.slots)
    }

    /// Drives that are not retired.
    pub(crate) fn in_use(&self) -> usize {
        in_use(&self.slots)
    }

    /// Drives in use whose journal is the whole chain.
    pub(crate) fn journals_current(&self) -> usize {
        let slots = self.slots.iter().zip(&self.journal.current);
        slots.filter(|(slot, current)| **current && !slot.card.retired && slot.reader().is_some()).count()
    }

    /// Slots that can be written to.
    pub(crate) fn writable(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|&s| self.slots[s].writer().is_some()).collect()
    }

    /// Syncs what was found on the drives, brings every writable drive's journal up to date, and settles all.
    ///
    /// # Errors
    /// [`StoreError::Shortfall`] when too few drives took it; [`StoreError::Confused`] after an append that failed before.
    pub(crate) fn settle_journal(&mut self) -> Result<(), StoreError> {
        if self.journal.confused {
            return Err(StoreError::Confused);
        }
        self.call_reserves(self.journals_needed());
        self.settle_cards();
        if self.journal.settled == 0 && self.journal.last > 0 {
            self.firm_up();
        }
        let behind: Vec<usize> = self.writable().into_iter().filter(|&s| !self.journal.current[s]).collect();
        for slot in behind {
            let Some(drive) = self.slots[slot].mender() else { continue };
            let wrote = self.chain().copy_to(drive).and_then(|is_whole| drive.sync().map(|()| is_whole));
            if wrote == Ok(false) {
                return Err(StoreError::Shortfall { need: 1, have: 0 });
            }
            self.journal.current[slot] = self.is_well_done(slot, wrote.map(drop));
        }
        self.journal.let_go();
        self.count_settled()
    }

    /// Syncs what the copies said when they were opened: whoever appended it may have been killed before that, and what is
    /// seen in a file is not yet on its drive.
    fn firm_up(&mut self) {
        for slot in self.writable() {
            if self.journal.current[slot] {
                self.journal.current[slot] = self.on_drive(slot, |d| {
                    d.append(JOURNAL, &[])?;
                    d.sync()
                });
            }
        }
    }

    /// Appends records on every writable drive, syncs, and takes them into the index. With them goes which drives miss them.
    ///
    /// # Errors
    /// [`StoreError::Shortfall`] when fewer drives than needed have them; they are then not settled, and nothing more is
    /// written before the vault is opened anew.
    pub(crate) fn append(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        let records: Vec<Record> = self.records_of_drives().into_iter().chain(records).collect();
        if records.is_empty() {
            return Ok(());
        }
        if self.journal.len >= JOURNAL_LEN_MAX {
            return Err(StoreError::JournalFull);
        }
        let lines = self.journal.encode(records, self.journal.len, &mut bytes);
        let slots: Vec<usize> = self.writable().into_iter().filter(|&s| self.journal.current[s]).collect();
        let appended: Vec<usize> =
            slots.into_iter().filter(|&s| self.on_drive(s, |d| d.append(JOURNAL, &bytes))).collect();
        let synced: Vec<usize> = appended.into_iter().filter(|&s| self.on_drive(s, |d| d.sync())).collect();
        self.journal.goes_on(&bytes);
        for slot in 0..self.slots.len() {
            self.journal.current[slot] = synced.contains(&slot);
        }
        self.count_settled().inspect_err(|_| self.journal.confused = true)?;
        self.journal.let_go();
        lines.into_iter().for_each(|(place, line)| self.index.apply(line, place));
        self.look_what_is_left();
        Ok(())
    }

    fn count_settled(&mut self) -> Result<(), StoreError> {
        let have = self.journal.current.iter().zip(&self.slots).filter(|(c, s)| **c && s.writer().is_some()).count();
        let need = self.journals_needed();
        if have < need {
            return Err(StoreError::Shortfall { need, have });
        }
        self.journal.settled = self.journal.last;
        Ok(())
    }

    /// Does something on a drive that can be written to, be it to mend it; one that fails is suspect from then on. Whether it went well.
    pub(crate) fn on_drive(&mut self, slot: usize, act: impl FnOnce(&dyn Drive) -> Result<(), DriveError>) -> bool {
        let Some(drive) = self.slots[slot].mender() else { return false };
        let done = act(drive);
        self.is_well_done(slot, done)
    }

    /// Whether something that was done on a drive went well; one that failed is suspect from then on.
    fn is_well_done(&mut self, slot: usize, done: Result<(), DriveError>) -> bool {
        let Err(error) = done else { return true };
        if let Some(drive) = self.slots[slot].mender() {
            drive.abandon();
        }
        self.slots[slot].state = DriveState::Suspect(error);
        false
    }

    /// Whether `id` was stored before and its record is in the chain.
    pub(crate) fn is_journaled(&self, id: ObjectId) -> bool {
        self.entry(id).is_some_and(|e| e.sequence > 0)
    }
}
