//! Releases: the authority's word that packs may go is verified, logged, waited with, and followed.
//!
//! A release is an object like others and a leaf of the log. It is followed when no depositor can have anything under way that
//! leans on what it frees: each has deposited a manifest since that knows of it, and none that does not. All of that is told by
//! the log, so that a vault which is opened anew, by its shards if need be, comes to the same end. Then the journal says of each
//! object that it is not kept any more, and only then are shards removed. It must not know what packs hold, nor what the note of a
//! release says. Step 18 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::{Denial, DepositorId, ObjectId, Refusal, VaultId, Verified};
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::journal::Record;
use lavatube_format::manifest::{Manifest, SignedManifest};
use lavatube_format::receipt::Receipt;
use lavatube_format::release::{Release, SignedRelease};
use lavatube_format::shard::{ObjectKind, SHARDS, parse_shard_name};

use crate::remnant::Thinning;
use crate::{DepositError, Drive, DriveError, StoreError, Vault};

/// Why a release was not taken. Nothing of it counts then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It was made for another vault.
    #[error("the release is for vault {0}, and this is another")]
    OtherVault(VaultId),
    /// The log is not what was looked at: something came since, or it is another log.
    #[error("the release was made for a log of {looked} entries, and this one is another, with {has}")]
    Outdated {
        /// Entries that were looked at.
        looked: u64,
        /// Entries there are.
        has: u64,
    },
    /// It has the number of another.
    #[error("it is release {number}, and {expected} is the next")]
    Number {
        /// Its number.
        number: u64,
        /// That of the next release.
        expected: u64,
    },
    /// It names what is not here, or is neither a pack nor tags.
    #[error("object {0} is not here, or is neither a pack nor tags")]
    Unknown(ObjectId),
    /// It names what no manifest names: that may be of a session that is not finished.
    #[error("no manifest names object {0}")]
    Unnamed(ObjectId),
    /// Something in it is kept still: by its own retention, or because a later session that is kept may lean on it.
    #[error("object {object} is kept{}: manifest {} says so", .left_s.map_or(String::new(), |s| format!(" for {} more hours of the vault's uptime", s.div_ceil(3600))), manifest.short())]
    Kept {
        /// The first such object.
        object: ObjectId,
        /// The manifest that keeps it.
        manifest: ObjectId,
        /// Seconds of uptime left; `None` until a hold is lifted.
        left_s: Option<u64>,
    },
    /// A manifest or a card cannot be read: it may need what would be freed.
    #[error("object {0} cannot be read now, and may need what the release frees")]
    Unread(ObjectId),
}

impl ReleaseError {
    /// What it is to a client.
    pub fn denial(&self) -> Denial {
        match self {
            Self::Unread(_) => Denial::Away,
            _ => Denial::Refused(Refusal::Object),
        }
    }
}

/// A release that was not followed to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRelease {
    /// The release.
    pub id: ObjectId,
    /// Its number.
    pub number: u64,
    /// Objects that it frees,
    pub objects: u64,
    /// and packs of which it frees some.
    pub thins: u64,
    /// How it stands; `None` when what tells that cannot be read.
    pub standing: Option<Standing>,
}

/// How a release stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// These depositors have not said yet that they know of it.
    Waits(Vec<DepositorId>),
    /// Someone finished a session that may lean on what it frees: it is not followed.
    Void,
    /// It is followed: what it frees is gone, but for shards on drives that are away.
    Followed,
}

/// What all depositors have said since a release.
#[derive(Default)]
struct Said {
    /// They know of it.
    know: BTreeSet<DepositorId>,
    /// A manifest of theirs is missing: it may be under way still.
    broken: BTreeSet<DepositorId>,
    /// One of them finished a session without knowing.
    is_void: bool,
}

impl Vault {
    /// Takes a release that the vault's authority signed. It is followed at once when nobody has to be waited for.
    ///
    /// # Errors
    /// [`DepositError`]; nothing was stored then.
    pub fn deposit_release(&mut self, bytes: &[u8]) -> Result<Receipt, DepositError> {
        let signed = SignedRelease::decode(bytes)?;
        self.settle_journal()?;
        //= FORMAT#F37 the authority's, for this vault, for this very log
        signed.verify(&self.card.authority)?;
        let object = Verified::hash(bytes);
        if !self.is_journaled(object.id()) {
            self.may_take(&signed.release)?;
        }
        self.note_age(Duration::ZERO)?;
        let receipt = self.store(ObjectKind::Release, object)?;
        // It is in the log. What cannot be done now is done when the vault is opened the next time.
        let _ = self.settle_releases();
        Ok(receipt)
    }

    fn may_take(&self, release: &Release) -> Result<(), ReleaseError> {
        if release.vault != self.card.vault {
            return Err(ReleaseError::OtherVault(release.vault));
        }
        let log = &self.index.log;
        if (release.size, release.root) != (log.size(), log.root()) {
            return Err(ReleaseError::Outdated { looked: release.size, has: log.size() });
        }
        let expected = self.releases() + 1;
        if release.number != expected {
            return Err(ReleaseError::Number { number: release.number, expected });
        }
        let is_freed = |kind: ObjectKind| matches!(kind, ObjectKind::Pack | ObjectKind::Tags);
        let known = |id: &&ObjectId| !self.find(**id).is_some_and(|object| is_freed(object.kind));
        if let Some(strange) = release.objects.iter().find(known) {
            return Err(ReleaseError::Unknown(*strange));
        }
        //= FORMAT#F51 which blocks are a pack's is told by its length
        if let Some((strange, _)) =
            release.thins.iter().find(|(id, stays)| self.len_of_pack(*id) != Some(stays.len_before()))
        {
            return Err(ReleaseError::Unknown(*strange));
        }
        let kept = self.kept_but_for(&release.lifts)?;
        let thinned = release.thins.iter().map(|(id, _)| id);
        let freed: BTreeSet<ObjectId> = release.objects.iter().chain(thinned).copied().collect();
        let (mut named, mut held) = (BTreeSet::new(), None);
        self.each_manifest(|place, _, manifest| {
            for id in manifest.needs().filter(|id| freed.contains(id)) {
                named.insert(id);
                //= FORMAT#F48 what a session that is kept may lean on is all that is before it
                held = held.or(kept.filter(|kept| place <= kept.place).map(|kept| (id, kept)));
            }
        })?;
        if let Some((object, kept)) = held {
            return Err(ReleaseError::Kept { object, manifest: kept.manifest, left_s: kept.left_s });
        }
        freed.difference(&named).next().map_or(Ok(()), |id| Err(ReleaseError::Unnamed(*id)))
    }

    /// Bytes that a pack has, or had before it was thinned.
    fn len_of_pack(&self, id: ObjectId) -> Option<usize> {
        match self.index.thin.get(&id) {
            Some(remnant) => Some(self.head_of(*remnant).ok()?.stays.len_before()),
            None => {
                let entry = self.entry(id).filter(|entry| entry.kind == ObjectKind::Pack)?;
                Some(entry.geometry.object_len())
            }
        }
    }

    /// Gives each manifest to `each`, with its place in the log.
    pub(crate) fn each_manifest(&self, mut each: impl FnMut(u64, ObjectId, Manifest)) -> Result<(), ReleaseError> {
        for object in self.objects_of(ObjectKind::Manifest) {
            let signed = self.read_small(object.id).and_then(|bytes| SignedManifest::decode(&bytes).ok());
            let signed = signed.ok_or(ReleaseError::Unread(object.id))?;
            each(self.place_of(object.id), object.id, signed.manifest);
        }
        Ok(())
    }

    /// Where it is in the log; what is not known to be there yet comes last.
    fn place_of(&self, id: ObjectId) -> u64 {
        self.entry(id).and_then(|entry| entry.place).unwrap_or(u64::MAX)
    }

    /// All of an object that is not long.
    pub(crate) fn read_small(&self, id: ObjectId) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(id, 0..self.find(id)?.len, &mut bytes).ok()?;
        Some(bytes)
    }

    /// A release that is here and that the authority signed.
    pub fn release(&self, id: ObjectId) -> Option<Release> {
        let signed = SignedRelease::decode(&self.read_small(id)?).ok()?;
        signed.verify(&self.card.authority).ok()?;
        Some(signed.release)
    }

    /// How a release stands, as the log tells.
    fn standing(&self, id: ObjectId, release: &Release) -> Result<Standing, ReleaseError> {
        let place = self.place_of(id);
        let mut said = Said::default();
        self.each_manifest(|at, _, manifest| {
            let (depositor, knows) = (manifest.depositor, manifest.releases >= release.number);
            if at > place {
                //= FORMAT#F38 who did not know may lean on any of it
                said.is_void |= !knows;
                said.know.extend(Some(depositor).filter(|_| knows));
            }
            if manifest.follows().any(|before| !self.contains(before)) {
                said.broken.insert(depositor);
            }
        })?;
        if said.is_void {
            return Ok(Standing::Void);
        }
        let mut waits = BTreeSet::new();
        for card in self.objects_of(ObjectKind::DepositorCard) {
            if self.place_of(card.id) < place {
                let signed = self.read_small(card.id).and_then(|bytes| SignedCard::decode(&bytes).ok());
                waits.insert(signed.ok_or(ReleaseError::Unread(card.id))?.card.id());
            }
        }
        waits.retain(|id| !release.settled.contains(id) && (!said.know.contains(id) || said.broken.contains(id)));
        Ok(if waits.is_empty() { Standing::Followed } else { Standing::Waits(waits.into_iter().collect()) })
    }

    /// Releases that were not followed to their end.
    pub fn open_releases(&self) -> Vec<OpenRelease> {
        let open = self.index.open_releases.iter().filter_map(|id| {
            let release = self.release(*id)?;
            let standing = self.standing(*id, &release).ok();
            let (objects, thins) = (release.objects.len() as u64, release.thins.len() as u64);
            Some(OpenRelease { id: *id, number: release.number, objects, thins, standing })
        });
        open.collect()
    }

    /// Whether a release freed all of the object.
    pub fn is_released(&self, id: ObjectId) -> bool {
        self.index.released.contains_key(&id) && !self.is_thinned(id)
    }

    /// Number of the latest release that is in the log.
    pub fn releases(&self) -> u64 {
        self.index.log.leaves().iter().filter(|leaf| leaf.kind() == Some(ObjectKind::Release)).count() as u64
    }

    /// Takes what is freed out of the index, on opening: nothing is written.
    pub(crate) fn follow_releases(&mut self) {
        for id in self.index.open_releases.clone() {
            let Some(release) = self.release(id) else { continue };
            if self.standing(id, &release) == Ok(Standing::Followed) {
                self.index.followed = self.index.followed.max(release.number);
                for object in &release.objects {
                    self.index.release(*object, release.number);
                }
            }
        }
    }

    /// Whether a manifest comes too late: a release was followed, or need not wait for this depositor, that its maker did not know.
    pub(crate) fn is_overtaken(&self, manifest: &Manifest) -> bool {
        let need_not_wait = |id: &ObjectId| {
            self.release(*id).is_some_and(|r| r.number > manifest.releases && r.settled.contains(&manifest.depositor))
        };
        manifest.releases < self.index.followed || self.index.open_releases.iter().any(need_not_wait)
    }

    /// Follows the releases that are due, and removes what is left of those that were followed while drives were away. Packs of which
    /// some stays are rewritten, some at a time: whether there are more of those, so that it is to be asked again.
    ///
    /// # Errors
    /// [`StoreError`] when the journal cannot be written; the rest is done the next time.
    pub fn settle_releases(&mut self) -> Result<bool, StoreError> {
        if self.index.open_releases.is_empty() || self.signer.is_none() {
            return Ok(false);
        }
        if !std::mem::take(&mut self.index.is_thinning) {
            // Drives may have come back, or damage have been mended.
            self.index.stuck.clear();
        }
        self.settle_journal()?;
        let mut more = false;
        for id in self.index.open_releases.clone() {
            let Some(release) = self.release(id) else { continue };
            match self.standing(id, &release) {
                Ok(Standing::Followed) => more |= self.follow(id, &release)?,
                Ok(Standing::Void) => self.append(vec![Record::Settled { release: id }])?,
                Ok(Standing::Waits(_)) | Err(_) => {}
            }
        }
        if self.index.open_releases.is_empty() {
            self.sweep_remnants()?;
        }
        self.index.is_thinning = more;
        Ok(more)
    }

    /// Does what a release says; whether there is more to do.
    fn follow(&mut self, id: ObjectId, release: &Release) -> Result<bool, StoreError> {
        self.index.followed = self.index.followed.max(release.number);
        for object in &release.objects {
            self.index.release(*object, release.number);
        }
        let unwritten = release.objects.iter().filter_map(|object| {
            let freed = self.index.released.get(object).filter(|freed| !freed.is_journaled)?;
            Some(Record::Released { kind: freed.kind, object: *object, number: release.number })
        });
        let unwritten: Vec<Record> = unwritten.collect();
        for records in unwritten.chunks(RECORDS_AT_ONCE) {
            self.append(records.to_vec())?;
        }
        //= FORMAT#F39 only when the journal has it
        let mut freed: BTreeSet<ObjectId> = release.objects.iter().copied().collect();
        freed.extend(self.outlived(release));
        let mut done = self.remove_all(&freed);
        if !release.thins.is_empty() {
            // Now there is room to write what stays.
            match self.thin_packs(release)? {
                Thinning::More => return Ok(true),
                Thinning::Stuck => return Ok(false),
                Thinning::Done => {}
            }
            freed.extend(self.outlived(release));
            done = self.remove_all(&freed);
        }
        if done >= self.in_use() {
            self.append(vec![Record::Settled { release: id }])?;
        }
        Ok(false)
    }

    /// Removes all shards of these objects, also from drives in quarantine. From how many drives it did.
    pub(crate) fn remove_all(&mut self, freed: &BTreeSet<ObjectId>) -> usize {
        (0..self.slots.len()).filter(|slot| self.on_drive(*slot, |drive| remove_shards(drive, freed))).count()
    }
}

/// Removes all shards of these objects from a drive.
fn remove_shards(drive: &dyn Drive, freed: &BTreeSet<ObjectId>) -> Result<(), DriveError> {
    let mut names = Vec::new();
    drive.list(SHARDS, &mut |name| {
        if parse_shard_name(name).is_some_and(|(object, _)| freed.contains(&object)) {
            names.push(name.to_owned());
        }
    })?;
    names.iter().try_for_each(|name| drive.remove(name))?;
    drive.sync()
}

/// What was freed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freed {
    pub(crate) kind: ObjectKind,
    /// Whether the journal says so.
    pub(crate) is_journaled: bool,
}

/// What was freed, by object.
pub(crate) type FreedObjects = BTreeMap<ObjectId, Freed>;

/// Records written with one sync.
const RECORDS_AT_ONCE: usize = 4096;
