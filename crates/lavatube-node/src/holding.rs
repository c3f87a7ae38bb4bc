//! A vault and this machine's state of it, both locked: what every command that looks into a vault holds.
//!
//! Needs no key. What waits in the spool belongs to the archive like what is in the vault: [`Near`] shows both as one far
//! side, and [`Holding::drain`] hands over what waits once the drives are back. Steps 6, 7 and 20 of the walk. It must
//! not know what objects hold.

use std::ops::Range;
use std::time::Duration;

use lavatube_base::{ObjectId, Verified};
use lavatube_client::check::{Candidate, Turn};
use lavatube_client::courier::{Courier, CourierError, Drained};
use lavatube_client::doubt;
use lavatube_client::far::{Far, FarError, LogWord, ReceiptBytes, Signer};
use lavatube_client::log::{self, Verdict};
use lavatube_client::spool::SpoolKind;
use lavatube_format::check_record::CheckRecord;
use lavatube_format::log::Question;
use lavatube_vault::{Depth, ObjectEntry, ObjectKind};

use crate::depositor::{DepositorError, Places, open_state, spool_folder, state_folder};
use crate::directory_spool::DirectorySpool;
use crate::directory_state::DirectoryState;
use crate::embedded::{self, EmbeddedVault, VaultError};
use crate::lock::{Lock, Mode};
use crate::vault_log;
use crate::{checks, clock, entropy};

/// A vault and this machine's state of it.
pub struct Holding {
    /// The vault.
    pub vault: EmbeddedVault,
    pub(crate) state: DirectoryState,
    _locks: [Lock; 2],
}

impl Holding {
    /// Locks and opens; `write` when the vault may change.
    ///
    /// # Errors
    /// [`DepositorError`] when the vault is in use, or cannot be opened.
    pub fn open(places: &Places, command: &str, write: bool, wait: Duration) -> Result<Self, DepositorError> {
        let folder = state_folder(places, embedded::vault_id(&places.vault)?);
        let state = open_state(&folder)?;
        // What is learnt about the vault is written to the state, so that is ours alone; the vault may have other readers.
        let state_lock = Lock::acquire(&folder.join("lock"), command, Mode::Exclusive, wait)?;
        let mode = if write { Mode::Exclusive } else { Mode::Shared };
        let vault_lock = Lock::acquire(&embedded::lock_path(&places.vault), command, mode, wait)?;
        let vault = EmbeddedVault::open(&places.vault, write)?;
        Ok(Self { vault, state, _locks: [state_lock, vault_lock] })
    }

    /// Hands what waits in the spool to the vault, as far as its drives are there.
    ///
    /// # Errors
    /// When the vault refuses one of them, or spool or state fail.
    pub fn drain(&self) -> Result<Drained, DepositorError> {
        let Some(mut spool) = self.spool()? else { return Ok(Drained::default()) };
        vault_log::stop_at_alarm(&self.state)?;
        Ok(Courier::new(Some(&self.vault), &mut spool, &self.state).drain_spool()?)
    }

    /// Asks whether the vault's log goes on from what this machine has seen of it, and keeps what comes of it.
    ///
    /// # Errors
    /// When there is no entropy, or the state's files fail.
    pub fn meet_log(&self) -> Result<Verdict, DepositorError> {
        let nonce = entropy::bytes().map_err(VaultError::from)?;
        Ok(log::contact(&self.vault, &self.state, nonce, clock::wall_now())?)
    }

    /// The same, for who only looks: nothing is kept.
    ///
    /// # Errors
    /// As [`Holding::meet_log`].
    pub fn look_at_log(&self) -> Result<Verdict, DepositorError> {
        let nonce = entropy::bytes().map_err(VaultError::from)?;
        Ok(log::look(&self.vault, &self.state, nonce)?)
    }

    /// Remembers what a check found.
    ///
    /// # Errors
    /// When the state's files fail.
    pub fn keep_check(&self, record: &CheckRecord, turn: Option<Turn>) -> Result<(), DepositorError> {
        turn.map_or(Ok(()), |turn| checks::keep_turn(&self.state, turn))?;
        Ok(checks::keep(&self.state, record)?)
    }

    /// Remembers what a check found to be lost, so that backups do not build on it; what was lost and can be read again is
    /// trusted again.
    ///
    /// # Errors
    /// When the state's files fail.
    pub fn keep_losses(&self, lost: impl IntoIterator<Item = ObjectId>) -> Result<(), DepositorError> {
        let vault = self.vault.read();
        let is_there = |id| vault.examine(id, Depth::Bytes).is_ok_and(|health| health.restorable);
        let lost = lost.into_iter().map(|id| vault.pack_of(id));
        Ok(doubt::revise(&self.state, lost, is_there)?)
    }

    /// The next turn of about `share` (0 to 1) of what the vault holds, and its true share.
    pub fn next_turn(&self, share: f64) -> (Turn, f64) {
        let vault = self.vault.read();
        let candidate = |o: ObjectEntry| Candidate {
            id: o.id,
            len: o.len,
            is_pack: matches!(o.kind, ObjectKind::Pack | ObjectKind::Remnant),
        };
        Turn::next(checks::last_turn(&self.state), share, &vault.objects().map(candidate).collect::<Vec<_>>())
    }

    /// The vault together with what waits for it.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn near(&self) -> Result<Near<'_>, DepositorError> {
        Ok(Near { vault: &self.vault, spool: self.spool()? })
    }

    fn spool(&self) -> Result<Option<DirectorySpool>, DepositorError> {
        let folder = spool_folder(self.state.folder());
        let spool = folder.exists().then(|| DirectorySpool::open(&folder)).transpose();
        Ok(spool.map_err(CourierError::from)?)
    }
}

/// All that was backed up from this machine, delivered or not, as one far side.
pub struct Near<'h> {
    vault: &'h EmbeddedVault,
    /// `None` when nothing ever waited.
    spool: Option<DirectorySpool>,
}

impl Far for Near<'_> {
    fn signer(&self) -> Signer {
        self.vault.signer()
    }

    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.vault.deliver_pack(pack)
    }

    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.vault.deliver_tags(tags)
    }

    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.vault.deliver_manifest(manifest)
    }

    fn deliver_release(&self, release: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.vault.deliver_release(release)
    }

    fn releases(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        self.vault.releases()
    }

    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        let waiting = self.spool.as_ref().map_or(Ok(false), |spool| spool.read(id, range.clone(), out));
        match waiting {
            Ok(true) => Ok(()),
            Ok(false) => self.vault.fetch(id, range, out),
            // The vault may have it too, when a delivery was cut before the spool let go.
            Err(e) => match self.vault.fetch(id, range, out) {
                Err(FarError::Absent(_)) => Err(FarError::Lost { id, text: e.to_string() }),
                other => other,
            },
        }
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        let mut all = self.vault.manifests()?;
        let Some(spool) = &self.spool else { return Ok(all) };
        for id in spool.waiting(SpoolKind::Manifest) {
            // One whose file fails is asked for, and then named, like one that the vault has lost.
            let len = spool.len(id).ok().flatten().unwrap_or(0);
            if !self.vault.has(id)? {
                all.push((id, len));
            }
        }
        Ok(all)
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        Ok(self.spool.as_ref().is_some_and(|spool| spool.has(id)) || self.vault.has(id)?)
    }

    fn kept_len(&self, pack: ObjectId) -> Result<Option<u64>, FarError> {
        self.vault.kept_len(pack)
    }

    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        self.vault.log(question)
    }
}
