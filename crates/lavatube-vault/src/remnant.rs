//! Remnants: what stays of packs that a release thinned takes their place.
//!
//! Nothing is changed in place. What stays becomes an object of its own, which hashes to the pack's id with the hashes of what went; it
//! is stored like any other, read back from the drives, and only when the journal says that it stands for the pack are the pack's
//! shards removed. So a vault that is cut at any moment has the pack whole or its remnant whole. Whoever asks for bytes of the pack
//! is given them by where they were in it. It must not know why blocks stay. Steps 18 and 20 of the walk.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::PoisonError;

use lavatube_base::limits::THIN_AT_A_TIME;
use lavatube_base::{ObjectId, Stays, Thinned, Verified};
use lavatube_format::journal::Record;
use lavatube_format::release::Release;
use lavatube_format::remnant::{self, HEAD_LEN_MAX, Head};
use lavatube_format::shard::shard_name;

use crate::release::Freed;
use crate::scan::is_readable;
use crate::{ObjectKind, ReadError, ReadReport, StoreError, Vault};

/// How far the thinning of a release has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thinning {
    /// All packs are as it says.
    Done,
    /// There is more to do.
    More,
    /// Some packs cannot be thinned now: they cannot be read wholly, or there is no room, or too few drives are there.
    Stuck,
}

/// A pack that is being thinned.
struct Change {
    pack: ObjectId,
    remnant: Vec<u8>,
}

impl Vault {
    /// Whether packs are to be thinned still, and can be: by [`Vault::settle_releases`].
    pub fn is_thinning(&self) -> bool {
        self.index.is_thinning
    }

    /// Whether only some of a pack is kept.
    pub fn is_thinned(&self, id: ObjectId) -> bool {
        self.index.thin.contains_key(&id)
    }

    /// The pack whose remnant this is; of anything else it itself.
    pub fn pack_of(&self, object: ObjectId) -> ObjectId {
        self.index.thin.iter().find(|(_, remnant)| **remnant == object).map_or(object, |(pack, _)| *pack)
    }

    /// Packs of which only some is kept, with the lengths of their remnants.
    pub fn thinned(&self) -> impl Iterator<Item = (ObjectId, u64)> + '_ {
        let len = |remnant: &ObjectId| self.entry(*remnant).map_or(0, |entry| entry.geometry.object_len());
        self.index.thin.iter().map(move |(pack, remnant)| (*pack, len(remnant) as u64))
    }

    /// What a remnant says of itself.
    pub(crate) fn head_of(&self, remnant: ObjectId) -> Result<Head, ReadError> {
        let heads = || self.index.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = heads().get(&remnant) {
            return Ok(head.clone());
        }
        let entry = self.entry(remnant).ok_or(ReadError::NotHere(remnant))?;
        let len = entry.geometry.object_len() as u64;
        let mut head = Err(ReadError::Contradiction(remnant));
        // Nearly all are short.
        for most in [HEAD_LEN_USUAL, HEAD_LEN_MAX] {
            let mut bytes = Vec::new();
            self.read(remnant, 0..len.min(most as u64), &mut bytes)?;
            head = Head::decode(&bytes).map_err(|_| ReadError::Contradiction(remnant));
            if head.is_ok() {
                break;
            }
        }
        let head = head?;
        let mut heads = heads();
        if heads.len() >= HEADS_KEPT {
            heads.clear();
        }
        heads.insert(remnant, head.clone());
        Ok(head)
    }

    /// Bytes of a pack of which only some is kept, from its remnant.
    pub(crate) fn read_remnant(
        &self,
        remnant: ObjectId,
        range: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<ReadReport, ReadError> {
        let head = self.head_of(remnant)?;
        if range.end > head.stays.len_before() {
            return Err(ReadError::OutOfRange { len: head.stays.len_before() as u64 });
        }
        let Some(place) = head.place(&range).filter(|_| !range.is_empty()) else {
            return match range.is_empty() {
                true => Ok(ReadReport::default()),
                //= FORMAT#F52 what went is refused, and never passed off as lost, or as zeros
                false => Err(ReadError::Freed { pack: head.pack }),
            };
        };
        self.read(remnant, place.start as u64..place.end as u64, out).map_err(|e| match e {
            ReadError::Lost { ranges, damage } => {
                let back = |at: u64| at - place.start as u64 + range.start as u64;
                let ranges = ranges.into_iter().map(|lost| back(lost.start)..back(lost.end)).collect();
                ReadError::Lost { ranges, damage }
            }
            other => other,
        })
    }

    /// All that is kept of a pack of which some went; `None` of any other.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read wholly.
    pub(crate) fn read_thinned(&self, pack: ObjectId) -> Option<Result<Thinned, ReadError>> {
        let remnant = *self.index.thin.get(&pack)?;
        Some(self.read_whole_remnant(pack, remnant))
    }

    fn read_whole_remnant(&self, pack: ObjectId, remnant: ObjectId) -> Result<Thinned, ReadError> {
        let entry = self.entry(remnant).ok_or(ReadError::NotHere(remnant))?;
        let mut bytes = Vec::new();
        self.read(remnant, 0..entry.geometry.object_len() as u64, &mut bytes)?;
        match remnant::decode(&bytes) {
            Ok((id, thinned)) if id == pack => Ok(thinned),
            _ => Err(ReadError::Contradiction(remnant)),
        }
    }

    /// Takes remnants that a scan found for the packs of which nothing else is left that can be read.
    pub(crate) fn find_remnants(&mut self) {
        for (pack, remnant) in self.loose_remnants() {
            if self.index.thin.contains_key(&pack) || self.entry(pack).is_some_and(|entry| is_readable(&entry)) {
                continue;
            }
            self.index.release(pack, 0);
            self.index.released.insert(pack, Freed { kind: ObjectKind::Pack, is_journaled: false });
            self.index.thin.insert(pack, remnant);
        }
    }

    /// Remnants that stand for no pack: what a crash has left, or a scan has found. The shortest of a pack, which is the latest, first.
    fn loose_remnants(&self) -> Vec<(ObjectId, ObjectId)> {
        let used: BTreeSet<&ObjectId> = self.index.thin.values().collect();
        let loose = self.index.objects.iter().filter(|(id, e)| e.kind == ObjectKind::Remnant && !used.contains(id));
        let loose = loose.filter_map(|(id, e)| Some((self.head_of(*id).ok()?.pack, e.geometry.object_len(), *id)));
        let mut loose: Vec<_> = loose.collect();
        loose.sort();
        loose.into_iter().map(|(pack, _, id)| (pack, id)).collect()
    }

    /// Thins packs as a release says, some at a time.
    ///
    /// # Errors
    /// [`StoreError`] when the journal cannot be written.
    pub(crate) fn thin_packs(&mut self, release: &Release) -> Result<Thinning, StoreError> {
        let (mut all, mut stuck) = (0, false);
        let mut changes: Vec<Change> = Vec::new();
        for (pack, stays) in &release.thins {
            self.note_thinned(*pack, release.number)?;
            if self.index.stuck.contains(pack) || self.is_as_thin_as(*pack, stays) {
                stuck |= self.index.stuck.contains(pack);
                continue;
            }
            match self.make_remnant(*pack, stays) {
                Some(remnant) => changes.push(Change { pack: *pack, remnant }),
                None => drop(self.index.stuck.insert(*pack)),
            }
            let waiting: usize = changes.iter().map(|change| change.remnant.len()).sum();
            if waiting >= WRITTEN_AT_ONCE {
                all += waiting;
                self.exchange(std::mem::take(&mut changes), release.number)?;
            }
            if all >= THIN_AT_A_TIME {
                return Ok(Thinning::More);
            }
            stuck |= self.index.stuck.contains(pack);
        }
        self.exchange(changes, release.number)?;
        stuck |= release.thins.iter().any(|(pack, _)| self.index.stuck.contains(pack));
        if !stuck {
            self.let_go_of_loose(release.number)?;
        }
        Ok(if stuck { Thinning::Stuck } else { Thinning::Done })
    }

    /// Has the journal say what only a scan knew.
    fn note_thinned(&mut self, pack: ObjectId, number: u64) -> Result<(), StoreError> {
        let is_noted = self.index.released.get(&pack).is_none_or(|freed| freed.is_journaled);
        match self.index.thin.get(&pack).copied().filter(|_| !is_noted) {
            Some(remnant) => self.append(vec![Record::Thinned { pack, remnant, number }]),
            None => Ok(()),
        }
    }

    /// Whether of a pack nothing is kept that a release does not keep.
    fn is_as_thin_as(&self, pack: ObjectId, stays: &Stays) -> bool {
        match self.index.thin.get(&pack) {
            Some(remnant) => {
                self.head_of(*remnant).is_ok_and(|head| head.stays.and(stays).is_some_and(|both| both == head.stays))
            }
            // A later release has freed it wholly. One of which nothing is found is lost.
            None => self.index.released.contains_key(&pack),
        }
    }

    /// The remnant of a pack; `None` when that cannot be read wholly, or would outlive fewer losses than it does now.
    fn make_remnant(&self, pack: ObjectId, stays: &Stays) -> Option<Vec<u8>> {
        let kept = self.index.thin.get(&pack).copied().unwrap_or(pack);
        let entry = self.entry(kept)?;
        let expected = (0..entry.geometry.shards()).filter(|&i| self.is_shard_expected(entry.slot(i))).count();
        if self.writable().len() < expected.min(usize::from(self.card.k) + usize::from(self.card.m)) {
            return None;
        }
        let whole = match self.read_thinned(pack) {
            Some(thinned) => thinned.ok()?,
            None => Thinned::whole(self.read_small(pack)?)?,
        };
        let thinned = whole.thin(stays)?;
        // Nothing is put in the place of anything that was not verified with the id that all know.
        thinned.is_of(pack).then(|| remnant::encode(pack, &thinned))
    }

    /// Stores remnants and lets go of what they stand for.
    fn exchange(&mut self, changes: Vec<Change>, number: u64) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let objects: Vec<_> = changes.iter().map(|c| (ObjectKind::Remnant, Verified::hash(&c.remnant))).collect();
        match self.store_batch(&objects) {
            Ok(_) => {}
            Err(StoreError::Full { .. } | StoreError::Shortfall { .. }) => {
                self.index.stuck.extend(changes.iter().map(|change| change.pack));
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        let (mut records, mut old) = (Vec::new(), Vec::new());
        for (change, (_, object)) in changes.iter().zip(&objects) {
            // As the drives give it back, and not as it was in memory.
            if self.read_small(object.id()).as_ref() != Some(&change.remnant) {
                self.index.stuck.insert(change.pack);
                continue;
            }
            let kept = self.index.thin.get(&change.pack).copied().unwrap_or(change.pack);
            old.extend(self.entry(kept).map(|entry| (kept, entry.slots.clone())));
            records.push(Record::Thinned { pack: change.pack, remnant: object.id(), number });
        }
        //= FORMAT#F51 only when the journal has it
        self.append(records)?;
        for slot in 0..self.slots.len() {
            let at = |(id, slots): &(ObjectId, Box<[u8]>)| {
                let index = (0u8..).zip(&**slots).find(|(_, s)| usize::from(**s) == slot)?.0;
                Some(shard_name(*id, index))
            };
            let names: Vec<String> = old.iter().filter_map(at).collect();
            if !names.is_empty() {
                self.on_drive(slot, |drive| {
                    names.iter().try_for_each(|name| drive.remove(name))?;
                    drive.sync()
                });
            }
        }
        old.iter().for_each(|(id, _)| self.forget_headers(*id));
        Ok(())
    }

    /// Lets go of remnants in whose place shorter ones are, or nothing. What is shorter is for a release that is still to be followed.
    fn let_go_of_loose(&mut self, number: u64) -> Result<(), StoreError> {
        let len = |id: &ObjectId| self.entry(*id).map_or(0, |entry| entry.geometry.object_len());
        let is_outlived = |(pack, loose): &(ObjectId, ObjectId)| match self.index.thin.get(pack) {
            Some(remnant) => len(remnant) < len(loose),
            None => !self.has_entry(*pack),
        };
        let loose = self.loose_remnants().into_iter().filter(is_outlived);
        let records = loose.map(|(_, object)| Record::Released { kind: ObjectKind::Remnant, object, number });
        self.append(records.collect())
    }

    /// Lets go of what is left of remnants when every pack has its own: nothing is known of the head of what cannot be read.
    ///
    /// # Errors
    /// [`StoreError`] when the journal cannot be written.
    pub(crate) fn sweep_remnants(&mut self) -> Result<(), StoreError> {
        let used: BTreeSet<&ObjectId> = self.index.thin.values().collect();
        let loose = self.index.objects.iter().filter(|(id, e)| e.kind == ObjectKind::Remnant && !used.contains(id));
        let loose: BTreeSet<ObjectId> = loose.map(|(id, _)| *id).collect();
        let (kind, number) = (ObjectKind::Remnant, self.index.followed);
        self.append(loose.iter().map(|object| Record::Released { kind, object: *object, number }).collect())?;
        if !loose.is_empty() {
            self.remove_all(&loose);
        }
        Ok(())
    }

    /// Objects whose shards are of no use any more, of those that a release thins.
    pub(crate) fn outlived(&self, release: &Release) -> BTreeSet<ObjectId> {
        let packs = release.thins.iter().map(|(pack, _)| *pack).filter(|pack| !self.has_entry(*pack));
        let remnants = self.index.released.iter().filter(|(_, freed)| freed.kind == ObjectKind::Remnant);
        packs.chain(remnants.map(|(id, _)| *id)).collect()
    }
}

/// Bytes of remnants written with one sync of each drive.
const WRITTEN_AT_ONCE: usize = 32 << 20;
/// Enough for the head of a remnant with some hundred runs.
const HEAD_LEN_USUAL: usize = 16 << 10;
/// Heads of remnants remembered.
const HEADS_KEPT: usize = 4096;
