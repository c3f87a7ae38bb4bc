//! The courier: hands objects to the far side, or to the spool when the far side is away. Step 7 of the walk.
//!
//! It knows which of the promises holds: *safe there* when the vault's receipt is in the ledger, *safe here* when the spool
//! has it.
//! Once something of a session had to be spooled, the rest follows, so that packs never arrive after their manifest.
//! It must not know what the objects hold.

use std::collections::BTreeSet;

use lavatube_base::{ObjectId, Verified};
use lavatube_format::manifest::SignedManifest;

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

/// What came of draining the spool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drained {
    /// Objects that went to the vault.
    pub delivered: usize,
    /// Objects that wait on.
    pub waiting: BTreeSet<ObjectId>,
    /// Objects whose bytes are not what they were: nobody can use them any more.
    pub damaged: BTreeSet<ObjectId>,
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

    /// Delivers tags of packs.
    ///
    /// # Errors
    /// When neither vault nor spool took them.
    pub fn deliver_tags(&mut self, tags: Verified<'_>) -> Result<(), CourierError> {
        self.deliver(SpoolKind::Tags, tags)
    }

    /// Delivers a manifest, after all its packs and their tags.
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
            SpoolKind::Tags => far.deliver_tags(object),
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

    /// Hands a manifest over that the vault had once; false when the vault is away. It does not wait in the spool then: the
    /// caller has it anyway.
    ///
    /// # Errors
    /// When the vault refuses it.
    pub fn hand_back(&mut self, manifest: Verified<'_>) -> Result<bool, CourierError> {
        self.hand_over(SpoolKind::Manifest, manifest)
    }

    /// Delivers what waits in the spool from earlier sessions and lets go of what was receipted; stops quietly when the
    /// vault is away. What is damaged stays, and so do the manifests that name it: all others go.
    ///
    /// # Errors
    /// When the vault refuses a pack or the spool fails.
    pub fn drain_spool(&mut self) -> Result<Drained, CourierError> {
        let mut out = Drained::default();
        for (kind, id) in self.spool.list()? {
            let bytes = self.spool.get(kind, id)?;
            let Some(object) = Verified::check(&bytes, id) else {
                out.damaged.insert(id);
                continue;
            };
            let needs_damaged = kind == SpoolKind::Manifest && names_any(object, &out.damaged);
            if needs_damaged || !self.hand_over(kind, object)? {
                out.waiting.insert(id);
                continue;
            }
            self.spool.remove(kind, id)?;
            out.delivered += 1;
        }
        Ok(out)
    }
}

/// Whether a manifest names any of these objects.
fn names_any(manifest: Verified<'_>, objects: &BTreeSet<ObjectId>) -> bool {
    !objects.is_empty()
        && SignedManifest::decode(manifest.bytes())
            .is_ok_and(|signed| signed.manifest.needs().any(|id| objects.contains(&id)))
}
