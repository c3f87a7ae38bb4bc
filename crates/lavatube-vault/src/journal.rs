//! The journal on all drives: how its copies are made one, kept alike, and appended to.
//!
//! A record counts once it is synced on a quorum of drives: more than half of all, so that two halves of a vault never
//! write two futures, and enough that its objects' redundancy is not in vain. It is a cache of what shard headers say,
//! and an order. It must not know what objects contain. Step 16 of the walk.

use lavatube_base::ObjectId;
use lavatube_format::journal::{Check, FIRST_CHECK, Line, Record};

use crate::drive::read_whole;
use crate::quarantine::{in_use, journals_needed};
use crate::{Drive, DriveState, PutMode, StoreError, Vault};

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
    /// The whole chain, while a drive that could have it has not.
    image: Option<Vec<u8>>,
    /// An append ended so that chain and drives may differ: nothing more is written before the vault is opened anew.
    confused: bool,
}

/// What several copies of a journal say together.
#[derive(Default)]
pub(crate) struct Merged {
    /// The chain.
    pub(crate) bytes: Vec<u8>,
    /// Number of its last record.
    pub(crate) last: u64,
    /// Check of its last record.
    check: Check,
    /// Records that no copy had whole and that were mended.
    pub(crate) mended: u64,
    /// Some copy goes on in a way that could not be read, or says otherwise: records may be missing.
    pub(crate) doubtful: bool,
}

/// Makes one chain of all copies and gives each record to `each`: the one that most copies have, else one mended from any.
pub(crate) fn merge(copies: &[&[u8]], shards: usize, each: &mut dyn FnMut(Line)) -> Merged {
    let mut merged = Merged { check: FIRST_CHECK, ..Merged::default() };
    // Copies are mostly alike: each kind is read once and counts as many times as there are of it.
    let mut following: Vec<(&[u8], usize)> = Vec::new();
    for copy in copies {
        match following.iter_mut().find(|(same, _)| same == copy) {
            Some((_, count)) => *count += 1,
            None => following.push((copy, 1)),
        }
    }
    loop {
        let (at, sequence, before) = (merged.bytes.len(), merged.last + 1, merged.check);
        let mut votes: Vec<Vote<'_>> = Vec::new();
        for (copy, count) in &following {
            let rest = copy.get(at..).unwrap_or_default();
            let Ok((line, len)) = Line::decode(rest, sequence, &before) else { continue };
            match votes.iter_mut().find(|v| v.line.check == line.check) {
                Some(vote) => (vote.count, vote.longest) = (vote.count + count, vote.longest.max(copy.len())),
                None => votes.push(Vote { count: *count, longest: copy.len(), bytes: &rest[..len], line }),
            }
        }
        merged.doubtful |= votes.len() > 1;
        let line = if let Some(vote) = votes.into_iter().max_by_key(|v| (v.count, v.longest)) {
            merged.bytes.extend_from_slice(vote.bytes);
            vote.line
        } else {
            let rests = following.iter().filter_map(|(copy, _)| copy.get(at..)).filter(|rest| !rest.is_empty());
            let Some((line, _)) = rests.clone().find_map(|r| Line::decode_mended(r, sequence, &before, shards)) else {
                merged.doubtful |= rests.count() > 0;
                return merged;
            };
            line.record.encode(sequence, &before, &mut merged.bytes);
            merged.mended += 1;
            line
        };
        // A copy with another valid record here follows another chain from now on.
        let kept = &merged.bytes[at..];
        following.retain(|(copy, _)| {
            let rest = copy.get(at..).unwrap_or_default();
            rest.starts_with(kept) || Line::decode(rest, sequence, &before).is_err()
        });
        (merged.last, merged.check) = (line.sequence, line.check);
        each(line);
    }
}

/// A record as some copies have it.
struct Vote<'a> {
    count: usize,
    /// Length of the longest copy that has it.
    longest: usize,
    bytes: &'a [u8],
    line: Line,
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
            image: None,
            confused: false,
        }
    }

    /// The journal as merged from copies; `current` tells which drives have exactly it.
    pub(crate) fn merged(merged: &Merged, current: Vec<bool>) -> Self {
        let (last, check) = (merged.last, merged.check);
        let image = current.contains(&false).then(|| merged.bytes.clone());
        let len = merged.bytes.len() as u64;
        Self { last, check, len, settled: 0, current, image, confused: false }
    }

    /// Number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Whether the record is synced on a quorum; 0 is no record.
    pub(crate) fn is_settled(&self, sequence: u64) -> bool {
        sequence > 0 && sequence <= self.settled
    }

    /// Puts records for objects that only a scan knew at the end of the chain. No drive has them yet: each gets them
    /// together with what else its copy lacks, at once, so that no copy says that there is no doubt before it has them.
    pub(crate) fn adopt(&mut self, merged: &Merged, records: Vec<Record>) -> Vec<Line> {
        let mut image = merged.bytes.clone();
        let lines = self.encode(records, &mut image);
        self.len = image.len() as u64;
        self.image = Some(image);
        self.current.fill(false);
        lines
    }

    /// Numbers records, chains them to the last one, and appends their bytes to `out`.
    fn encode(&mut self, records: Vec<Record>, out: &mut Vec<u8>) -> Vec<Line> {
        let number = |record: Record| {
            let sequence = self.last + 1;
            let check = record.encode(sequence, &self.check, out);
            (self.last, self.check) = (sequence, check);
            Line { sequence, record, check }
        };
        records.into_iter().map(number).collect()
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

    /// The whole chain, from memory or from a drive that has it.
    pub(crate) fn journal_image(&self) -> Option<Vec<u8>> {
        if let Some(image) = &self.journal.image {
            return Some(image.clone());
        }
        let readers = self.slots.iter().zip(&self.journal.current).filter(|(_, current)| **current);
        let mut copies = readers.filter_map(|(slot, _)| read_whole(slot.reader()?, JOURNAL, self.journal.len).ok());
        copies.find(|copy| self.is_chain(copy))
    }

    fn is_chain(&self, bytes: &[u8]) -> bool {
        let merged = merge(&[bytes], 0, &mut |_| {});
        merged.bytes == bytes && merged.check == self.journal.check
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
        if !behind.is_empty() {
            let Some(image) = self.journal_image() else {
                return Err(StoreError::Shortfall { need: 1, have: 0 });
            };
            for slot in behind {
                let wrote = self.on_drive(slot, |d| {
                    d.put(JOURNAL, &[&image], PutMode::Replace)?;
                    d.sync()
                });
                self.journal.current[slot] = wrote;
            }
        }
        self.journal.image = None;
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
        let lines = self.journal.encode(records, &mut bytes);
        let slots: Vec<usize> = self.writable().into_iter().filter(|&s| self.journal.current[s]).collect();
        let appended: Vec<usize> =
            slots.into_iter().filter(|&s| self.on_drive(s, |d| d.append(JOURNAL, &bytes))).collect();
        let synced: Vec<usize> = appended.into_iter().filter(|&s| self.on_drive(s, |d| d.sync())).collect();
        self.journal.len += bytes.len() as u64;
        for slot in 0..self.slots.len() {
            self.journal.current[slot] = synced.contains(&slot);
        }
        self.count_settled().inspect_err(|_| self.journal.confused = true)?;
        lines.into_iter().for_each(|line| self.index.apply(line));
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
    pub(crate) fn on_drive(
        &mut self,
        slot: usize,
        act: impl FnOnce(&dyn Drive) -> Result<(), crate::DriveError>,
    ) -> bool {
        let Some(drive) = self.slots[slot].mender() else { return false };
        match act(drive) {
            Ok(()) => true,
            Err(error) => {
                drive.abandon();
                self.slots[slot].state = DriveState::Suspect(error);
                false
            }
        }
    }

    /// Whether `id` was stored before and its record is in the chain.
    pub(crate) fn is_journaled(&self, id: ObjectId) -> bool {
        self.index.objects.get(&id).is_some_and(|e| e.sequence > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_format::shard::{Geometry, ObjectKind};

    fn chain(ids: &[u8]) -> Vec<u8> {
        let (mut out, mut check) = (Vec::new(), FIRST_CHECK);
        for (n, id) in ids.iter().enumerate() {
            let record = Record::Stored {
                kind: ObjectKind::Pack,
                object: ObjectId([*id; 32]),
                geometry: Geometry::new(4096, 4, 2).unwrap(),
                generation: 1,
                slots: vec![0, 1, 2, 3, 4, 5],
            };
            check = record.encode(n as u64 + 1, &check, &mut out);
        }
        out
    }

    #[test]
    fn copies_damaged_in_different_records_are_whole_together() {
        let whole = chain(&[1, 2, 3, 4]);
        let (mut a, mut b) = (whole.clone(), whole.clone());
        a[20] ^= 1;
        b[200] ^= 1;
        let merged = merge(&[&a, &b], 6, &mut |_| {});
        assert_eq!((merged.bytes, merged.mended, merged.doubtful), (whole, 0, false));
    }

    #[test]
    fn one_wrong_byte_in_the_same_record_of_every_copy_is_mended() {
        let whole = chain(&[1, 2, 3, 4]);
        for at in 0..whole.len() {
            let mut copy = whole.clone();
            copy[at] ^= 0x55;
            let merged = merge(&[&copy, &copy], 6, &mut |_| {});
            assert_eq!((merged.bytes, merged.mended, merged.doubtful), (whole.clone(), 1, false), "byte {at}");
        }
    }

    #[test]
    fn a_torn_tail_is_left_out_and_said() {
        let whole = chain(&[1, 2, 3]);
        let two = chain(&[1, 2]).len();
        let merged = merge(&[&whole[..two + 30]], 6, &mut |_| {});
        assert_eq!((merged.last, merged.doubtful), (2, true));
        let merged = merge(&[&whole[..two + 30], &whole], 6, &mut |_| {});
        assert_eq!((merged.last, merged.doubtful), (3, false));
    }

    #[test]
    fn the_future_that_most_drives_share_is_the_one_that_counts() {
        let (lone, shared) = (chain(&[1, 2, 9, 5, 6]), chain(&[1, 2, 3]));
        let merged = merge(&[&lone, &shared, &shared], 6, &mut |_| {});
        assert_eq!((merged.bytes, merged.doubtful), (shared, true));
    }
}
