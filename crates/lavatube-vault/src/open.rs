//! Opening: a vault from whatever is left of its drives, in whatever order they are handed in.
//!
//! One readable card gives the layout, any good copy of each journal record its place, and where journals leave doubt the
//! shard headers are asked. Nothing is written. Before steps 13 and 18 to 20 of the walk.

use std::collections::BTreeMap;
use std::sync::Mutex;

use lavatube_base::limits::{CARD_LEN_MAX, JOURNAL_IN_MEMORY_MAX};
use lavatube_base::sign::EdSigner;
use lavatube_base::{DriveId, ObjectId, VaultId};
use lavatube_codes::Code;
use lavatube_format::drive_card::{DriveCard, SlotCard};
use lavatube_format::journal::{NO_SLOT, Record};
use lavatube_format::shard::{ObjectKind, SHARDS};

use crate::drive::read_whole;
use crate::index::Index;
use crate::journal::Journal;
use crate::merge::{Copy, OnDrive, Parted, merge};
use crate::scan::{is_readable, read_header, scan};
use crate::status::Slot;
use crate::{Drive, DriveState, Vault, gather, log, readme};

/// The card's name on a drive.
pub(crate) const CARD: &str = "drive.card";

/// What was found on opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// All drive slots.
    pub drives: Vec<DriveReport>,
    /// Positions of the drives handed in that fit no slot: another vault's, or a second copy of one.
    pub unplaced: Vec<usize>,
    /// Records of the journal.
    pub records: u64,
    /// Records that no copy of the journal had whole and that were mended.
    pub records_mended: u64,
    /// Whether the journals left doubt, so that all shard headers were read.
    pub scanned: bool,
    /// Objects that only the scan knew and that can be read.
    pub adopted: u64,
    /// Objects of which a scan found too few shards: never stored wholly, or lost with their journal record.
    pub incomplete: Vec<ObjectId>,
}

/// How one drive slot was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveReport {
    /// The slot.
    pub slot: usize,
    /// What people call the drive.
    pub label: String,
    /// How it is.
    pub state: DriveState,
    /// Which of the drives handed in it is, counted from 0.
    pub position: Option<usize>,
    /// Whether its card is undamaged.
    pub card_whole: bool,
    /// Whether its journal is undamaged and up to date.
    pub journal_current: bool,
    /// Whether what it says to people is undamaged and up to date.
    pub readme_whole: bool,
}

/// Why a vault could not be opened at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No drive has a card that can be read.
    #[error("none of the {drives} drives has a card that can be read")]
    NoCard {
        /// Drives looked at.
        drives: usize,
    },
    /// Drives of several vaults were handed in, and none has most of them.
    #[error("the drives belong to different vaults: {0} and {1}")]
    SeveralVaults(VaultId, VaultId),
    /// The signing key is not this vault's.
    #[error("the vault key does not belong to vault {0}")]
    WrongKey(VaultId),
}

impl Vault {
    /// Opens the vault of these drives. A drive without a readable card is taken for the slot at its position, if no other
    /// drive is that. Without `signer` objects can be read, not stored.
    ///
    /// # Errors
    /// [`OpenError`] when there is nothing to go by. Damage is not an error: it is in the report.
    pub fn open(
        drives: Vec<Option<Box<dyn Drive>>>,
        signer: Option<EdSigner>,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(drives, signer, JOURNAL_IN_MEMORY_MAX)
    }

    /// The same, with a journal of up to `journal_max` bytes in memory; a longer one is read from the drives whenever a pack is looked for.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_with(
        drives: Vec<Option<Box<dyn Drive>>>,
        signer: Option<EdSigner>,
        journal_max: u64,
    ) -> Result<(Self, OpenReport), OpenError> {
        let cards: Vec<Option<DriveCard>> = drives.iter().map(|d| read_card(d.as_deref()?)).collect();
        let card = choose_card(&cards)?;
        if signer.as_ref().is_some_and(|s| s.public() != card.vault_key) {
            return Err(OpenError::WrongKey(card.vault));
        }
        let editions: BTreeMap<DriveId, u64> = cards.iter().flatten().map(|c| (c.drive, c.edition)).collect();
        let (slots, positions, unplaced) = fill_slots(&card, drives, cards);
        let is_behind =
            |s: &Slot| s.state == DriveState::Present && editions.get(&s.card.drive).is_some_and(|e| *e < card.edition);
        let behind = (0..slots.len()).filter(|at| is_behind(&slots[*at])).collect();
        let code = Code::new(card.k.into(), card.m.into()).map_err(|_| OpenError::NoCard { drives: slots.len() })?;

        let found: Vec<Option<OnDrive<'_>>> = slots.iter().map(|slot| OnDrive::find(slot.reader()?)).collect();
        let copies: Vec<&dyn Copy> = found.iter().flatten().map(|copy| copy as &dyn Copy).collect();
        let mut index = Index::default();
        let mut strange = false;
        let mut merged = merge(&copies, code.shards(), journal_max, &mut |line, place| {
            strange |= names_strangers(&line.record, slots.len());
            index.apply(line, place);
        });
        let mut all = std::mem::take(&mut merged.parted).into_iter();
        // Of each slot: where its journal and the chain part; of one without a journal nothing.
        let parted: Vec<Option<Option<Parted>>> =
            found.iter().map(|copy| copy.as_ref().and_then(|_| all.next())).collect();
        let current: Vec<bool> = parted.iter().map(|parted| *parted == Some(None)).collect();
        if !current.contains(&true) && merged.image.is_none() {
            // Nothing but all of them together has it.
            merged.image = merge(&copies, code.shards(), u64::MAX, &mut |_, _| {}).image;
        }
        // An empty journal is one of a new vault; none, or one of rubbish, has been lost.
        let journal_lost = merged.last() == 0 && copies.iter().all(|copy| copy.len() > 0);
        let mut report = OpenReport {
            drives: Vec::new(),
            unplaced,
            records: merged.last(),
            records_mended: merged.mended,
            scanned: merged.doubtful || strange || (merged.last() == 0 && slots.iter().any(has_shards)),
            adopted: 0,
            incomplete: Vec::new(),
        };
        drop(found);
        let journal = Journal::merged(&mut merged, current, journal_max);
        let (headers, precious) = (Mutex::new(gather::HeaderCache::default()), Mutex::default());
        let depositors = BTreeMap::new();
        let mut vault = Self { card, slots, code, index, journal, signer, headers, depositors, behind, precious };
        vault.look_what_is_left();
        if report.scanned {
            //= FORMAT#F16 without a journal to be believed, the shard headers say it all
            vault.adopt(journal_lost, &mut report);
        }
        vault.find_stale(&parted);
        vault.hold_back();
        report.drives = (0..).zip(positions).map(|(slot, position)| vault.report(slot, position)).collect();
        if report.scanned {
            vault.find_remnants();
        }
        vault.follow_releases();
        // Of what went, and of packs that a remnant stands for, shards may be left.
        report.incomplete.retain(|id| !vault.index.released.contains_key(id));
        Ok((vault, report))
    }

    /// How a drive was found.
    fn report(&self, slot: usize, position: Option<usize>) -> DriveReport {
        let place = &self.slots[slot];
        let own = DriveCard { drive: place.card.drive, ..self.card.clone() };
        let bytes = place.reader().and_then(|d| read_whole(d, CARD, FILE_LEN_MAX).ok());
        DriveReport {
            slot,
            label: place.card.label.clone(),
            state: place.state.clone(),
            position,
            card_whole: bytes.is_some_and(|b| own.is_whole(&b)),
            journal_current: self.journal.has_all(slot),
            readme_whole: place.reader().is_some_and(|d| {
                let text = readme::text(&own).into_bytes();
                read_whole(d, readme::README, text.len() as u64 + 1).is_ok_and(|found| found == text)
            }),
        }
    }

    /// Takes in what a scan finds and the journal does not say. When the journal is lost, also what is left of objects that
    /// cannot be read: their loss must be told exactly.
    fn adopt(&mut self, journal_lost: bool, report: &mut OpenReport) {
        for (id, entry) in scan(self.card.vault, &self.slots) {
            // What was freed may still lie on a drive that was away.
            if self.has_entry(id) || self.index.released.contains_key(&id) {
                continue;
            }
            if is_readable(&entry) {
                report.adopted += 1;
            } else {
                report.incomplete.push(id);
            }
            if is_readable(&entry) || journal_lost {
                if entry.kind == ObjectKind::Release {
                    self.index.open_releases.insert(id);
                }
                self.index.objects.insert(id, entry);
            }
        }
        let records = log::unwritten(&self.index);
        if !records.is_empty()
            && let Some(image) = self.chain().whole()
        {
            for (place, line) in self.journal.adopt(image, records) {
                self.index.apply(line, place);
            }
        }
    }
}

fn has_shards(slot: &Slot) -> bool {
    let mut any = false;
    // A listing that fails half way has still told something.
    let _ = slot.reader().map(|d| d.list(SHARDS, &mut |_| any = true));
    any
}

/// Whether a record names a slot the card does not have: then card and journal are not of one piece.
fn names_strangers(record: &Record, slots: usize) -> bool {
    let beyond = |slot: &u8| usize::from(*slot) >= slots && *slot != NO_SLOT;
    match record {
        Record::Stored { slots, .. } => slots.iter().any(beyond),
        Record::Moved { slot, .. }
        | Record::Quarantined { slot, .. }
        | Record::Admitted { slot }
        | Record::Cleared { slot, .. } => beyond(slot),
        Record::Released { .. } | Record::Thinned { .. } | Record::Settled { .. } | Record::Aged { .. } => false,
    }
}

/// A drive's card, if it has one that can be read.
pub(crate) fn read_card(drive: &dyn Drive) -> Option<DriveCard> {
    DriveCard::decode(&read_whole(drive, CARD, FILE_LEN_MAX).ok()?).ok()
}

/// The card that counts: of the vault with most drives, the highest edition; of several of that, the one on most drives.
fn choose_card(cards: &[Option<DriveCard>]) -> Result<DriveCard, OpenError> {
    let mut votes: BTreeMap<VaultId, usize> = BTreeMap::new();
    for card in cards.iter().flatten() {
        *votes.entry(card.vault).or_default() += 1;
    }
    let mut ranked: Vec<(usize, VaultId)> = votes.into_iter().map(|(vault, n)| (n, vault)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let vault = match ranked[..] {
        [] => return Err(OpenError::NoCard { drives: cards.len() }),
        [(a, first), (b, second), ..] if a == b => return Err(OpenError::SeveralVaults(first, second)),
        [(_, first), ..] => first,
    };
    let mut kinds: Vec<(&DriveCard, usize)> = Vec::new();
    for card in cards.iter().flatten().filter(|c| c.vault == vault) {
        let alike =
            |(known, _): &&mut (&DriveCard, usize)| (known.edition, &known.slots) == (card.edition, &card.slots);
        match kinds.iter_mut().find(alike) {
            Some((_, count)) => *count += 1,
            None => kinds.push((card, 1)),
        }
    }
    let best = kinds.into_iter().max_by_key(|(card, count)| (card.edition, *count, card.slots.len()));
    best.map(|(card, _)| card.clone()).ok_or(OpenError::NoCard { drives: cards.len() })
}

/// Puts each drive in its slot: by its card, else by what its shards say, else by its position. Gives the slots, the
/// position of the drive in each, and the positions of drives that fit none.
fn fill_slots(
    card: &DriveCard,
    drives: Vec<Option<Box<dyn Drive>>>,
    cards: Vec<Option<DriveCard>>,
) -> (Vec<Slot>, Vec<Option<usize>>, Vec<usize>) {
    let empty = |c: &SlotCard| Slot { card: c.clone(), drive: None, state: DriveState::Missing };
    let mut slots: Vec<Slot> = card.slots.iter().map(empty).collect();
    let mut positions = vec![None; slots.len()];
    let mut homeless: Vec<(usize, Box<dyn Drive>, DriveState)> = Vec::new();
    let mut unplaced = Vec::new();
    for (position, (drive, own)) in drives.into_iter().zip(cards).enumerate() {
        let Some(drive) = drive else { continue };
        let (known, state) = match own {
            Some(own) if own.vault == card.vault => (Some(own.drive), DriveState::Present),
            Some(_) => (None, DriveState::Foreign),
            None => match told_by_shards(&*drive, card.vault) {
                Some((vault, id)) if vault == card.vault => (Some(id), DriveState::CardDamaged),
                _ => (None, DriveState::Blank),
            },
        };
        let Some(id) = known else {
            homeless.push((position, drive, state));
            continue;
        };
        match slots.iter_mut().zip(&mut positions).find(|(s, _)| s.card.drive == id && s.drive.is_none()) {
            Some((slot, at)) => (slot.drive, slot.state, *at) = (Some(drive), state, Some(position)),
            None => unplaced.push(position),
        }
    }
    for (position, drive, state) in homeless {
        match slots.get_mut(position).filter(|s| s.drive.is_none()) {
            Some(slot) => (slot.drive, slot.state, positions[position]) = (Some(drive), state, Some(position)),
            None => unplaced.push(position),
        }
    }
    for slot in slots.iter_mut().filter(|s| s.card.retired) {
        if !matches!(slot.state, DriveState::Present | DriveState::CardDamaged) {
            slot.drive = None;
        }
        slot.state = DriveState::Retired;
    }
    unplaced.sort_unstable();
    (slots, positions, unplaced)
}

/// Which drive of which vault the shards on it say it is; of several vaults, it is `vault`'s.
pub(crate) fn told_by_shards(drive: &dyn Drive, vault: VaultId) -> Option<(VaultId, DriveId)> {
    let mut names = Vec::new();
    // A listing that fails half way has still told something.
    let _ = drive.list(SHARDS, &mut |name| {
        if names.len() < NAMES_TRIED_MAX {
            names.push(name.to_owned());
        }
    });
    let header = |name: &String| read_header(drive, name).ok().flatten();
    let mut told: Vec<_> = names.iter().filter_map(header).map(|h| (h.vault, h.drive)).collect();
    told.sort_by_key(|(v, _)| *v != vault);
    told.first().copied()
}

/// Shard files looked at to tell which drive this is.
const NAMES_TRIED_MAX: usize = 16;
/// Longest `drive.card`: the card twice.
const FILE_LEN_MAX: u64 = 2 * (CARD_LEN_MAX as u64 + 44);
