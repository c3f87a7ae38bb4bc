//! A vault is born: every drive gets its card, its README and an empty journal.
//!
//! Ids and keys are handed in; nothing is drawn here. Before step 13 of the walk.

use std::sync::Mutex;

use lavatube_base::limits::DRIVES_MAX;
use lavatube_base::sign::{EdSigner, PairPublic};
use lavatube_base::{DriveId, VaultId};
use lavatube_codes::Code;
use lavatube_format::drive_card::{DriveCard, SlotCard};

use crate::index::Index;
use crate::journal::{JOURNAL, Journal};
use crate::open::CARD;
use crate::status::Slot;
use crate::{Drive, DriveError, DriveState, PutMode, Vault, gather, readme};

/// What a new vault shall be.
pub struct NewVault {
    /// Its id, random.
    pub vault: VaultId,
    /// Data shards of a stripe, at least 1.
    pub k: u8,
    /// Parity shards of a stripe.
    pub m: u8,
    /// The authority whose depositors it takes manifests from.
    pub authority: PairPublic,
    /// The vault's own key: it signs receipts.
    pub signer: EdSigner,
    /// Its drives, at least k + m.
    pub drives: Vec<NewDrive>,
}

/// A drive of a new vault.
pub struct NewDrive {
    /// Where it is.
    pub drive: Box<dyn Drive>,
    /// Its id, random, what people call it, its shelf, maker and model.
    pub card: SlotCard,
}

/// Why no vault was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// `k ≥ 1`, `k + m` ≤ number of drives ≤ 255 is not kept.
    #[error("{k} data and {m} parity shards need that many drives, up to 255, and {drives} were given")]
    Shape {
        /// Data shards asked for.
        k: u8,
        /// Parity shards asked for.
        m: u8,
        /// Drives given.
        drives: usize,
    },
    /// Two drives have the same id.
    #[error("two drives have the id {0}")]
    SameDrive(DriveId),
    /// A drive carries a card already: it belongs to a vault.
    #[error("{label} already belongs to a vault")]
    Taken {
        /// What the drive was to be called.
        label: String,
    },
    /// A drive failed.
    #[error("{label}: {error}")]
    Drive {
        /// What the drive was to be called.
        label: String,
        /// What happened.
        error: DriveError,
    },
}

impl Vault {
    /// Makes a vault on drives that belong to none.
    ///
    /// # Errors
    /// [`CreateError`]. When a drive failed after others were written, [`Vault::open`] finds those and the rest blank;
    /// [`Vault::readopt`] then completes the vault.
    pub fn create(new: NewVault) -> Result<Self, CreateError> {
        let shape = CreateError::Shape { k: new.k, m: new.m, drives: new.drives.len() };
        let code = Code::new(new.k.into(), new.m.into()).map_err(|_| shape.clone())?;
        if new.drives.len() < code.shards() || new.drives.len() > DRIVES_MAX {
            return Err(shape);
        }
        let cards: Vec<SlotCard> = new.drives.iter().map(|d| d.card.clone()).collect();
        if let Some(twice) = (1..cards.len()).find(|&i| cards[..i].iter().any(|c| c.drive == cards[i].drive)) {
            return Err(CreateError::SameDrive(cards[twice].drive));
        }
        let card = DriveCard {
            vault: new.vault,
            drive: cards[0].drive,
            k: new.k,
            m: new.m,
            vault_key: new.signer.public(),
            authority: new.authority,
            slots: cards,
            edition: 0,
            mandates: 0,
        };
        for d in &new.drives {
            let failed = |error| CreateError::Drive { label: d.card.label.clone(), error };
            if d.drive.len(CARD).map_err(failed)?.is_some() {
                return Err(CreateError::Taken { label: d.card.label.clone() });
            }
        }
        for d in &new.drives {
            let own = DriveCard { drive: d.card.drive, ..card.clone() };
            write(&*d.drive, &own).map_err(|error| CreateError::Drive { label: d.card.label.clone(), error })?;
        }
        let slots =
            new.drives.into_iter().map(|d| Slot { card: d.card, drive: Some(d.drive), state: DriveState::Present });
        let slots: Vec<Slot> = slots.collect();
        Ok(Self {
            journal: Journal::empty(slots.len()),
            card,
            slots,
            code,
            index: Index::default(),
            signer: Some(new.signer),
            headers: Mutex::new(gather::HeaderCache::default()),
            depositors: Default::default(),
            behind: Vec::new(),
        })
    }
}

fn write(drive: &dyn Drive, card: &DriveCard) -> Result<(), DriveError> {
    drive.put(readme::README, &[readme::text(card).as_bytes()], PutMode::Replace)?;
    drive.put(JOURNAL, &[], PutMode::Replace)?;
    drive.put(CARD, &[&card.encode()], PutMode::New)?;
    drive.sync()
}
