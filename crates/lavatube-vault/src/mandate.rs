//! Mandates: what the authority tells a vault far away to do is verified here, and its number is taken once.
//!
//! The number of the last one that was taken is on the drives' cards, and so outlives journals and whoever runs the vault. It must not know how a mandate
//! is followed, nor which way it came. Step 18 of the walk.

use lavatube_base::VaultId;
use lavatube_base::limits::MANDATE_LEAP_MAX;
use lavatube_base::sign::SignError;
use lavatube_format::Malformed;
use lavatube_format::care::{Report, SignedReport};
use lavatube_format::mandate::{Mandate, SignedMandate};

use crate::{CardError, StoreError, Vault};

/// Why a mandate is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MandateError {
    /// It is none.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The authority of this vault did not sign it.
    #[error("the authority of this vault did not sign it: {0}")]
    Signature(#[from] SignError),
    /// It is for another vault.
    #[error("it is for vault {0}, and this is another")]
    OtherVault(VaultId),
    /// A mandate with this number or a higher one was taken before.
    #[error("its number is {number}, and mandate {last} was taken before")]
    Overtaken {
        /// Its number.
        number: u64,
        /// That of the last one that was taken.
        last: u64,
    },
    /// Its number leaves too many out.
    #[error("its number is {number}, and the last one that was taken is {last}")]
    Leaps {
        /// Its number.
        number: u64,
        /// That of the last one that was taken.
        last: u64,
    },
}

impl Vault {
    /// Number of the last mandate that was taken; 0 for none.
    pub fn last_mandate(&self) -> u64 {
        self.card.mandates
    }

    /// Reads a mandate that the authority of this vault signed for it. Whether its number is new is for [`Vault::may_follow`] to say.
    ///
    /// # Errors
    /// [`MandateError`].
    pub fn read_mandate(&self, bytes: &[u8]) -> Result<Mandate, MandateError> {
        let signed = SignedMandate::decode(bytes)?;
        //= FORMAT#F58 the authority's, for this vault
        signed.verify(&self.card.authority)?;
        if signed.mandate.vault != self.card.vault {
            return Err(MandateError::OtherVault(signed.mandate.vault));
        }
        Ok(signed.mandate)
    }

    /// Whether a mandate of this number was not taken before, nor one that came after it.
    ///
    /// # Errors
    /// [`MandateError::Overtaken`], [`MandateError::Leaps`].
    pub fn may_follow(&self, number: u64) -> Result<(), MandateError> {
        let last = self.card.mandates;
        //= FORMAT#F59 each number once, and none before an earlier one
        match number.checked_sub(last) {
            None | Some(0) => Err(MandateError::Overtaken { number, last }),
            Some(leap) if leap > MANDATE_LEAP_MAX => Err(MandateError::Leaps { number, last }),
            Some(_) => Ok(()),
        }
    }

    /// Takes the number of a mandate: from now on it is followed or not, and never taken again.
    ///
    /// # Errors
    /// [`CardError`] when too few drives are there to note it; after [`CardError::Store`] the vault must be opened anew.
    pub fn take_mandate(&mut self, number: u64) -> Result<(), CardError> {
        let slots = self.card.slots.clone();
        self.change_card(slots, number.max(self.card.mandates))
    }

    /// Signs a report about this vault.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] when it was opened without its key.
    pub fn sign_report(&self, report: Report) -> Result<SignedReport, StoreError> {
        Ok(report.sign(self.signer.as_ref().ok_or(StoreError::ReadOnly)?))
    }
}
