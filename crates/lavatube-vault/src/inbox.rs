//! The inbox: objects come in, and leave it durable or not at all.
//!
//! Shards are synced on their drives before the journal says a word, and the journal is synced before a receipt is signed.
//! A crash anywhere between leaves files that no record names; storing the same object again writes the same bytes over
//! them. It must not know what is in a pack; of manifests it knows who signed and which packs must be here. Step 13.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::limits::OBJECT_LEN_MAX;
use lavatube_base::sign::{PairPublic, SignError};
use lavatube_base::{Denial, DepositorId, ObjectId, Refusal, Verified};
use lavatube_format::Malformed;
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::journal::{NO_SLOT, Record};
use lavatube_format::manifest::{Manifest, SignedManifest};
use lavatube_format::receipt::Receipt;
use lavatube_format::shard::{Geometry, ObjectKind, shard_name};

use crate::placement::{Candidate, place};
use crate::stripe::{Stripe, Whose};
use crate::{Depth, DriveError, DriveState, MendError, PutMode, ReleaseError, Vault, sign_receipt};

/// Why an object was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The vault was opened without its signing key.
    #[error("the vault was opened without its key and takes nothing in")]
    ReadOnly,
    /// An object is empty or longer than 64 MiB.
    #[error("object {id} has {len} bytes, 1 to 67108864 are possible")]
    Length {
        /// The object.
        id: ObjectId,
        /// Its length.
        len: u64,
    },
    /// A drive is full and no other can take its place. What had been written was removed.
    #[error("drive {label} is full")]
    Full {
        /// What people call it.
        label: String,
    },
    /// Too few drives are left that can be written to.
    #[error("{need} drives must take the object and {have} can")]
    Shortfall {
        /// Drives needed.
        need: usize,
        /// Drives there.
        have: usize,
    },
    /// A release freed it: it is not taken again.
    #[error("object {0} was released, and is not taken again")]
    Released(ObjectId),
    /// Records of a long journal have rotted on every drive since the vault was opened.
    #[error("{records} records of the journal can be read on no drive any more; open the vault again")]
    Unread {
        /// How many.
        records: u64,
    },
    /// The journal is as long as it may be.
    #[error("the journal is full: some 10^9 packs were stored")]
    JournalFull,
    /// The journal was not written as it should be; the vault must be opened anew.
    #[error("the journal could not be written; open the vault again")]
    Confused,
}

/// Why a manifest or a depositor card was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DepositError {
    /// The bytes are not what they should be.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// No card of this depositor, signed by the vault's authority, is here.
    #[error("depositor {0} is not known to this vault")]
    UnknownDepositor(DepositorId),
    /// A signature is wrong.
    #[error("{0}")]
    Signature(#[from] SignError),
    /// Packs that the manifest lists, or their tags, are not here yet.
    #[error("{} of the manifest's packs are not here, the first is {}", missing.len(), missing[0])]
    MissingPacks {
        /// Their ids, in the manifest's order; never empty.
        missing: Vec<ObjectId>,
    },
    /// A release was followed that the maker of the manifest did not know: its session may lean on what is gone.
    #[error("the manifest was made by someone who knew {knew} of {releases} releases, and may lean on what they freed")]
    Overtaken {
        /// Releases it was made in knowledge of.
        knew: u64,
        /// Releases there are.
        releases: u64,
    },
    /// It is of a kind that vaults make for themselves.
    #[error("what stays of a pack is for the vault to say")]
    OwnMaking,
    /// A release cannot be taken.
    #[error("{0}")]
    Release(#[from] ReleaseError),
    /// It could not be stored.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl StoreError {
    /// What it is to a client.
    pub fn denial(&self) -> Denial {
        match self {
            // The drives are not all there: what comes waits with the client until they are.
            Self::Shortfall { .. } | Self::Unread { .. } | Self::Confused => Denial::Away,
            Self::Full { .. } | Self::JournalFull => Denial::Refused(Refusal::Full),
            Self::Length { .. } | Self::Released(_) => Denial::Refused(Refusal::Object),
            Self::ReadOnly => Denial::Refused(Refusal::Caller),
        }
    }
}

impl DepositError {
    /// What it is to a client.
    pub fn denial(&self) -> Denial {
        match self {
            Self::Store(e) => e.denial(),
            Self::UnknownDepositor(_) | Self::Signature(_) => Denial::Refused(Refusal::Depositor),
            Self::Release(e) => e.denial(),
            Self::Malformed(_) | Self::MissingPacks { .. } | Self::Overtaken { .. } | Self::OwnMaking => {
                Denial::Refused(Refusal::Object)
            }
        }
    }
}

/// One object on its way in.
struct Arrival<'a> {
    kind: ObjectKind,
    object: Verified<'a>,
    geometry: Geometry,
    /// The place in the log that it will have.
    place: Option<u64>,
}

/// How an attempt to write shards ended.
enum Attempt {
    /// All are synced: the slot of each shard, for each object.
    Written(Vec<Vec<u8>>),
    /// A drive failed and is suspect now.
    DriveFailed,
    /// A drive is full.
    Full(usize),
}

impl Vault {
    /// Stores an object; when this returns it is durable. For one that is here already, damage is mended from `object`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the object is then visible.
    pub fn store(&mut self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, StoreError> {
        let mut receipts = self.store_batch(&[(kind, object)])?;
        Ok(receipts.remove(0))
    }

    /// Stores several objects with one sync of each drive for all shards and one for the journal. Receipts come in the
    /// order of `objects`.
    ///
    /// # Errors
    /// [`StoreError`]; none of the objects that were not here before is then visible.
    pub fn store_batch(&mut self, objects: &[(ObjectKind, Verified<'_>)]) -> Result<Vec<Receipt>, StoreError> {
        if self.signer.is_none() {
            return Err(StoreError::ReadOnly);
        }
        self.settle_journal()?;
        let mut arrivals: Vec<Arrival<'_>> = Vec::new();
        let (mut seen, mut places) = (BTreeSet::new(), self.index.log.size()..);
        for (kind, object) in objects {
            let len = object.bytes().len() as u64;
            let geometry =
                Geometry::new(len, self.card.k, self.card.m).filter(|_| object.bytes().len() <= OBJECT_LEN_MAX);
            let geometry = geometry.ok_or(StoreError::Length { id: object.id(), len })?;
            if !seen.insert(object.id()) {
                continue;
            }
            if self.index.released.contains_key(&object.id()) {
                return Err(StoreError::Released(object.id()));
            }
            if self.is_journaled(object.id()) {
                self.refresh(*object)?;
            } else {
                let place = if kind.is_logged() { places.next() } else { None };
                arrivals.push(Arrival { kind: *kind, object: *object, geometry, place });
            }
        }
        if !arrivals.is_empty() {
            let slots = self.write_shards(&arrivals)?;
            let records = arrivals.iter().zip(slots).map(|(a, slots)| Record::Stored {
                kind: a.kind,
                object: a.object.id(),
                geometry: a.geometry,
                generation: 1,
                slots,
            });
            self.append(records.collect())?;
            self.check_shards_outlived(&arrivals)?;
        }
        objects.iter().map(|(_, object)| self.receipt_of(object.id())).collect()
    }

    fn receipt_of(&self, id: ObjectId) -> Result<Receipt, StoreError> {
        let durable = self.durable(id).ok_or(StoreError::Confused)?;
        Ok(sign_receipt(&durable, self.signer.as_ref().ok_or(StoreError::ReadOnly)?))
    }

    /// An object that is here already came again: whatever of it is damaged is written anew from the bytes that came.
    fn refresh(&mut self, object: Verified<'_>) -> Result<(), StoreError> {
        let Ok(health) = self.examine(object.id(), Depth::Bytes) else { return Err(StoreError::Confused) };
        if !health.is_whole() {
            self.rewrite(object.id(), object.bytes(), health.shards, None).map_err(|e| match e {
                MendError::Store(e) => e,
                MendError::Read(_) => StoreError::Confused,
            })?;
            let Ok(health) = self.examine(object.id(), Depth::Bytes) else { return Err(StoreError::Confused) };
            let have = health.shards.iter().filter(|s| s.state == crate::ShardState::Good).count();
            let need = self.shards_needed().min(health.shards.len());
            if have < need {
                return Err(StoreError::Shortfall { need, have });
            }
        }
        Ok(())
    }

    /// A drive that failed while the journal was written takes its shards with it: enough must be left on the others.
    fn check_shards_outlived(&mut self, arrivals: &[Arrival<'_>]) -> Result<(), StoreError> {
        let need = self.shards_needed();
        for arrival in arrivals {
            let Some(entry) = self.entry(arrival.object.id()) else { return Err(StoreError::Confused) };
            let slots = (0..entry.geometry.shards()).filter_map(|i| entry.slot(i));
            let have = slots.filter(|&s| self.slots[s].writer().is_some()).count();
            if have < need {
                return Err(StoreError::Shortfall { need, have });
            }
        }
        Ok(())
    }

    /// Writes and syncs the shards of all arrivals; drives that fail or are full are left out and it is tried again.
    fn write_shards(&mut self, arrivals: &[Arrival<'_>]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut full = self.without_reserve(arrivals);
        let mut written: BTreeSet<(usize, String)> = BTreeSet::new();
        let error = loop {
            let (all, need) = (usize::from(self.card.k) + usize::from(self.card.m), self.shards_needed());
            let usable: Vec<usize> = self.writable().into_iter().filter(|s| !full.contains(s)).collect();
            let enough = if full.is_empty() { need } else { all };
            // Better a drive that is not trusted than none.
            if usable.len() < enough && self.call_reserves(enough + full.len()) {
                if let Err(e) = self.settle_journal() {
                    break e;
                }
                continue;
            }
            if usable.len() < all && !full.is_empty() {
                let label = full.first().map(|s| self.slots[*s].card.label.clone()).unwrap_or_default();
                break StoreError::Full { label };
            }
            if usable.len() < need {
                break StoreError::Shortfall { need, have: usable.len() };
            }
            match self.attempt(arrivals, &usable, &mut written) {
                Attempt::Written(slots) => {
                    self.clean_up(&written, arrivals, &slots);
                    return Ok(slots);
                }
                Attempt::DriveFailed => {}
                Attempt::Full(slot) => {
                    // What is only kept to be safe gives way to what is new.
                    match self.make_room(slot) {
                        Ok(true) => {}
                        Ok(false) => drop(full.insert(slot)),
                        Err(e) => break e,
                    }
                }
            }
        };
        self.clean_up(&written, &[], &[]);
        Err(error)
    }

    /// Slots whose drives have no room for packs beside what is kept free, so that sessions can be finished and room be made on a
    /// vault that is full.
    fn without_reserve(&self, arrivals: &[Arrival<'_>]) -> BTreeSet<usize> {
        let bulk = arrivals.iter().filter(|a| a.kind == ObjectKind::Pack);
        let need: usize = bulk.map(|a| 2 * a.geometry.header_len() + a.geometry.shard_len()).sum();
        if need == 0 {
            return BTreeSet::new();
        }
        let writable = self.writable();
        // Where drives lie on one disk, all that are written to take from the same room.
        let mut sharing: BTreeMap<u64, usize> = BTreeMap::new();
        let shared = |slot: usize| self.slots[slot].writer().and_then(|drive| drive.shares_space_as());
        writable.iter().filter_map(|slot| shared(*slot)).for_each(|room| *sharing.entry(room).or_default() += 1);
        let shards = usize::from(self.card.k) + usize::from(self.card.m);
        let lacks = |slot: &usize| {
            let space = self.slots[*slot].writer().and_then(|drive| drive.space().ok());
            let writers = shared(*slot).and_then(|room| sharing.get(&room)).map_or(1, |n| *n.min(&shards));
            let need = need.saturating_mul(writers) as u64;
            space.is_some_and(|space| space.free < need + (space.total / RESERVE_SHARE).min(RESERVE_MAX))
        };
        writable.iter().copied().filter(lacks).collect()
    }

    /// Puts every shard on its drive and syncs all drives. `written` gains every name that was not there before.
    fn attempt(
        &mut self,
        arrivals: &[Arrival<'_>],
        usable: &[usize],
        written: &mut BTreeSet<(usize, String)>,
    ) -> Attempt {
        let mut placed = Vec::with_capacity(arrivals.len());
        let mut touched = BTreeSet::new();
        for arrival in arrivals {
            let id = arrival.object.id();
            let slots = place(id, arrival.geometry.shards(), &self.candidates(usable), &[]);
            let stripe = Stripe::encode(&self.code, arrival.geometry, arrival.object.bytes());
            let (vault, kind, place) = (self.card.vault, arrival.kind, arrival.place);
            let whose = Whose { vault, kind, object: id, generation: 1, place };
            for (index, &slot) in slots.iter().enumerate() {
                let header = stripe.header(index, &whose, self.slots[slot].card.drive);
                let name = shard_name(id, u8::try_from(index).expect("shard indexes are below DRIVES_MAX"));
                let put = self.put_shard(slot, &name, &stripe.parts(index, &header));
                match put {
                    Ok(()) => {
                        written.insert((slot, name));
                        touched.insert(slot);
                    }
                    Err(error) => return self.fail(slot, error),
                }
            }
            let mut codes: Vec<u8> = slots.iter().map(|s| u8::try_from(*s).unwrap_or(NO_SLOT)).collect();
            codes.resize(arrival.geometry.shards(), NO_SLOT);
            placed.push(codes);
        }
        for slot in touched {
            let synced = self.slots[slot].writer().map_or(Err(DriveError::Gone), |d| d.sync());
            if let Err(error) = synced {
                return self.fail(slot, error);
            }
        }
        Attempt::Written(placed)
    }

    /// The object is not journaled, so whatever has a shard's name is a leftover of an attempt that did not end.
    fn put_shard(&self, slot: usize, name: &str, parts: &[&[u8]]) -> Result<(), DriveError> {
        let drive = self.slots[slot].writer().ok_or(DriveError::Gone)?;
        let mode = if drive.len(name)?.is_some() { PutMode::Replace } else { PutMode::New };
        drive.put(name, parts, mode)
    }

    fn fail(&mut self, slot: usize, error: DriveError) -> Attempt {
        self.slots.iter().filter_map(|s| s.writer()).for_each(|d| d.abandon());
        if error == DriveError::Full {
            return Attempt::Full(slot);
        }
        self.slots[slot].state = DriveState::Suspect(error);
        Attempt::DriveFailed
    }

    /// Removes what earlier attempts wrote and the last one did not. Best effort: what stays is harmless.
    fn clean_up(&self, written: &BTreeSet<(usize, String)>, arrivals: &[Arrival<'_>], slots: &[Vec<u8>]) {
        let mut kept = BTreeSet::new();
        for (arrival, slots) in arrivals.iter().zip(slots) {
            let named = (0u8..).zip(slots).filter(|(_, s)| **s != NO_SLOT);
            kept.extend(named.map(|(i, s)| (usize::from(*s), shard_name(arrival.object.id(), i))));
        }
        let mut touched = BTreeSet::new();
        for (slot, name) in written.difference(&kept) {
            if self.slots[*slot].writer().is_some_and(|d| d.remove(name).is_ok()) {
                touched.insert(*slot);
            }
        }
        for slot in touched {
            if let Some(drive) = self.slots[slot].writer() {
                // A failure shows again, and is then acted upon, at the next write.
                let _ = drive.sync();
            }
        }
    }

    /// Slots as placement sees them.
    pub(crate) fn candidates(&self, slots: &[usize]) -> Vec<Candidate<'_>> {
        let of = |&slot: &usize| {
            let place = &self.slots[slot];
            let weight = place.reader().and_then(|d| d.space().ok()).map_or(0, |s| s.total);
            let (shelf, maker) = (&*place.card.shelf, &*place.card.maker);
            Candidate { slot, drive: place.card.drive, shelf, maker, weight }
        };
        slots.iter().map(of).collect()
    }

    /// Takes a depositor card that the vault's authority signed.
    ///
    /// # Errors
    /// [`DepositError`]; nothing was then stored.
    pub fn deposit_card(&mut self, bytes: &[u8]) -> Result<Receipt, DepositError> {
        SignedCard::decode(bytes)?.verify(&self.card.authority)?;
        Ok(self.store(ObjectKind::DepositorCard, Verified::hash(bytes))?)
    }

    /// Takes a manifest whose depositor is certified by a card that is here, and whose packs and tags are all durable here.
    ///
    /// # Errors
    /// [`DepositError`]; nothing was then stored.
    pub fn deposit_manifest(&mut self, bytes: &[u8]) -> Result<Receipt, DepositError> {
        let signed = SignedManifest::decode(bytes)?;
        let depositor = signed.manifest.depositor;
        // First of all: where too few drives are there to write to, cards cannot be read either, and nobody is unknown.
        self.settle_journal()?;
        let public = self.depositor(depositor).ok_or(DepositError::UnknownDepositor(depositor))?;
        signed.verify(&public)?;
        let known = self.is_journaled(Verified::hash(bytes).id());
        //= FORMAT#F38 who did not know of a release that was followed comes too late
        if !known && self.is_overtaken(&signed.manifest) {
            let (knew, releases) = (signed.manifest.releases, self.releases());
            return Err(DepositError::Overtaken { knew, releases });
        }
        let Manifest { leaves, tags, .. } = &signed.manifest;
        let packs = leaves.iter().map(|leaf| (ObjectKind::Pack, leaf.id()));
        let needs = packs.chain(tags.iter().map(|id| (ObjectKind::Tags, *id)));
        let missing: Vec<ObjectId> =
            needs.filter(|(kind, id)| !self.is_durable(*kind, *id)).map(|(_, id)| id).collect();
        // One that is here already may have been freed of some since.
        if missing.iter().any(|id| !known || !self.index.released.contains_key(id)) {
            return Err(DepositError::MissingPacks { missing });
        }
        // Its age counts from what the journal has before it.
        self.note_age(Duration::ZERO)?;
        let receipt = self.store(ObjectKind::Manifest, Verified::hash(bytes))?;
        // It may be the one that a release waited for. What cannot be done now is done when the vault is opened the next time.
        let _ = self.settle_releases();
        Ok(receipt)
    }

    fn is_durable(&self, kind: ObjectKind, id: ObjectId) -> bool {
        self.durable(id).is_some() && self.entry(id).is_some_and(|e| e.kind == kind)
    }

    /// The keys of a depositor, from its card among the objects.
    fn depositor(&mut self, id: DepositorId) -> Option<PairPublic> {
        if !self.depositors.contains_key(&id) {
            self.depositors = self.read_cards();
        }
        self.depositors.get(&id).cloned()
    }

    fn read_cards(&self) -> BTreeMap<DepositorId, PairPublic> {
        let cards = self.objects_of(ObjectKind::DepositorCard);
        let certified = cards.filter_map(|o| {
            let signed = SignedCard::decode(&self.read_small(o.id)?).ok()?;
            signed.verify(&self.card.authority).ok()?;
            Some((signed.card.id(), signed.card.public))
        });
        certified.collect()
    }
}

/// Of each drive this share is kept free of packs,
const RESERVE_SHARE: u64 = 64;
/// or so many bytes: a few releases and all that the journal says of them.
const RESERVE_MAX: u64 = 32 << 20;
