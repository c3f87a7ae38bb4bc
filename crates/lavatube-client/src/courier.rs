//! The courier: hands objects to the far side, or to the spool when the far side is away. Step 7 of the walk.
//!
//! It knows which of the promises holds: *safe there* when the vault's receipt is in the ledger, *safe here* when the spool
//! has it.
//! Once something of a session had to be spooled, the rest follows, so that packs never arrive after their manifest.
//! It must not know what the objects hold.

use lavatube_base::Verified;

use crate::far::{Far, FarError};
use crate::ledger::{self, LedgerError};
use crate::spool::{Spool, SpoolError, SpoolKind};
use crate::state::State;

/// Why an object is safe nowhere.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The vault refuses for good.
    #[error(transparent)]
    Far(#[from] FarError),
    /// The vault is away and the spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The vault took it and its receipt does not count.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Which promise holds for what was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// In the spool of this machine.
    SafeHere,
    /// Durable in the vault, with its receipt.
    SafeThere,
}

/// The courier of one session.
pub struct Courier<'a> {
    far: Option<&'a dyn Far>,
    spool: &'a mut dyn Spool,
    state: &'a dyn State,
}

impl<'a> Courier<'a> {
    /// A courier between this machine's `spool` and a vault, if one can be reached. Its receipts go to the ledger in `state`.
    pub fn new(far: Option<&'a dyn Far>, spool: &'a mut dyn Spool, state: &'a dyn State) -> Self {
        Self { far, spool, state }
    }

    /// Which promise the session can still keep.
    pub fn promise(&self) -> Promise {
        if self.far.is_some() { Promise::SafeThere } else { Promise::SafeHere }
    }

    /// Delivers a pack.
    ///
    /// # Errors
    /// When neither vault nor spool took it.
    pub fn deliver_pack(&mut self, pack: Verified<'_>) -> Result<(), CourierError> {
        self.deliver(SpoolKind::Pack, pack)
    }

    /// Delivers a manifest, after all its packs.
    ///
    /// # Errors
    /// When neither vault nor spool took it.
    pub fn deliver_manifest(&mut self, manifest: Verified<'_>) -> Result<(), CourierError> {
        self.deliver(SpoolKind::Manifest, manifest)
    }

    fn deliver(&mut self, kind: SpoolKind, object: Verified<'_>) -> Result<(), CourierError> {
        if self.hand_over(kind, object)? {
            return Ok(());
        }
        self.spool.put(kind, object)?;
        Ok(self.spool.sync()?)
    }

    /// Hands an object to the vault and keeps the receipt; false when the vault is away.
    fn hand_over(&mut self, kind: SpoolKind, object: Verified<'_>) -> Result<bool, CourierError> {
        let Some(far) = self.far else { return Ok(false) };
        let answer = match kind {
            SpoolKind::Pack => far.deliver_pack(object),
            SpoolKind::Manifest => far.deliver_manifest(object),
        };
        match answer {
            Ok(receipt) => {
                ledger::note(self.state, &far.signer(), kind, object.id(), &receipt)?;
                Ok(true)
            }
            Err(FarError::Away(_)) => {
                self.far = None;
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Delivers what waits in the spool from earlier sessions and lets go of what was receipted. Returns how many
    /// objects went; stops quietly when the vault is away.
    ///
    /// # Errors
    /// When the vault refuses an object or the spool fails.
    pub fn drain_spool(&mut self) -> Result<usize, CourierError> {
        let mut delivered = 0;
        for (kind, id) in self.spool.list()? {
            if self.far.is_none() {
                break;
            }
            let bytes = self.spool.get(kind, id)?;
            let damaged = || SpoolError::Io(format!("object {id} in the spool is damaged"));
            let object = Verified::check(&bytes, id).ok_or_else(damaged)?;
            if self.hand_over(kind, object)? {
                self.spool.remove(kind, id)?;
                delivered += 1;
            }
        }
        Ok(delivered)
    }
}
