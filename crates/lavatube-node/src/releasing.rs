//! Releasing on this machine: what may go is found out, the authority signs for it, and the vault is told.
//!
//! In doubt nothing is signed: an alarm, something that waits, a session that was cut, a manifest that the log has and nobody can
//! read. It must not know how the recovery key came here, nor print anything. Steps 18 and 20 of the walk.

use std::collections::BTreeSet;

use lavatube_base::{DepositorId, ObjectId, Verified};
use lavatube_client::far::{Far, FarError};
use lavatube_client::ledger;
use lavatube_client::meter::Meter;
use lavatube_client::release::{Plan, PlanError};
use lavatube_client::released::Released;
use lavatube_client::session::OPEN_SESSION;
use lavatube_client::state::{State, StateError};
use lavatube_format::receipt::Receipt;
use lavatube_format::release::{Release, ReleaseNote};
use lavatube_format::shard::ObjectKind;
use lavatube_seal::{Root, SealError};
pub use lavatube_vault::Kept;
use lavatube_vault::{LogError, OpenRelease, Standing};

use crate::depositor::{DepositorError, take_up};
use crate::embedded::VaultError;
use crate::entropy::{self, EntropyError};
use crate::holding::Holding;
use crate::keyring::Keyring;
use crate::reader::{Reader, Session, Side};
use crate::vault_log;

/// Why nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum ReleasingError {
    /// Vault or state could not be used.
    #[error(transparent)]
    Depositor(#[from] DepositorError),
    /// Something is not known for certain.
    #[error("nothing is freed while something is in doubt: {0}")]
    Doubt(String),
    /// The recovery key is that of another archive.
    #[error("this recovery key is not that of the vault's archive")]
    OtherArchive,
    /// Signing or sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No entropy.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The vault did not take it.
    #[error(transparent)]
    Far(#[from] FarError),
}

impl From<PlanError> for ReleasingError {
    fn from(e: PlanError) -> Self {
        match e {
            PlanError::Doubt(text) => Self::Doubt(text),
            PlanError::Far(e) => Self::Far(e),
        }
    }
}

/// A release that the vault has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// It.
    pub id: ObjectId,
    /// Its number.
    pub number: u64,
    /// Depositors that it waits for; none when it was followed.
    pub waits: Vec<DepositorId>,
    /// Shards are left on drives that are away.
    pub is_open: bool,
}

/// What the log was when all was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    size: u64,
    root: [u8; 32],
}

/// What a release says beside what it frees.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What the log was when all was looked at.
    pub looked: Looked,
    /// Depositors that have nothing under way.
    pub without: Vec<DepositorId>,
    /// Manifests that are held no more.
    pub lifts: Vec<ObjectId>,
}

/// Sees that nothing stands in the way, before the vault is looked at.
///
/// # Errors
/// [`ReleasingError::Doubt`] says what does.
pub fn begin(reader: &Reader, keys: &Keyring) -> Result<Looked, ReleasingError> {
    let holding = here(reader)?;
    vault_log::meet(holding)?;
    let is_open = || holding.state.len(OPEN_SESSION).map_err(StateError::on(OPEN_SESSION));
    if is_open().map_err(DepositorError::from)?.is_some() && keys.can_deposit() {
        take_up(holding, keys)?;
    }
    let drained = holding.drain()?;
    if !drained.waiting.is_empty() {
        return doubt(format!("{} objects wait on this machine for the vault", drained.waiting.len()));
    }
    if is_open().map_err(DepositorError::from)?.is_some() {
        return doubt("a backup was cut on this machine; the next one takes it up".into());
    }
    match holding.vault.read().look_at_log(0, &[]) {
        Ok(sight) => Ok(Looked { size: sight.checkpoint.size, root: sight.checkpoint.root }),
        Err(e @ (LogError::Shortfall { .. } | LogError::Store(_))) => doubt(e.to_string()),
    }
}

/// Finds out what may go.
///
/// # Errors
/// [`ReleasingError::Doubt`] says what stands in the way.
pub fn plan(reader: &Reader, session: &Session<'_>, lifts: &[ObjectId], meter: &Meter) -> Result<Plan, ReleasingError> {
    let holding = here(reader)?;
    if !session.rebuilt.lost.is_empty() {
        return doubt(format!("the indexes of {} packs cannot be read", session.rebuilt.lost.len()));
    }
    let believed: BTreeSet<ObjectId> = session.manifests().collect();
    for leaf in holding.vault.read().log().iter().filter(|leaf| leaf.kind() == Some(ObjectKind::Manifest)) {
        if !believed.contains(&leaf.id()) {
            return doubt(format!("manifest {} of the log was not looked at", leaf.id().short()));
        }
    }
    let retained = retained(holding, lifts)?;
    Ok(session.plan_release(&retained, &pending(holding)?, meter)?)
}

/// What releases name that are still to be followed.
fn pending(holding: &Holding) -> Result<Released, ReleasingError> {
    let vault = holding.vault.read();
    let mut out = Released::default();
    for open in vault.open_releases() {
        match open.standing {
            Some(Standing::Void) => continue,
            Some(_) => {}
            None => return doubt(format!("release {} cannot be told to be followed or not", open.number)),
        }
        out.add(&vault.release(open.id).ok_or_else(|| ReleasingError::Doubt("a release cannot be read".into()))?);
    }
    Ok(out)
}

/// The manifests of which nothing may be freed yet: those that are kept, and all that were there before them.
fn retained(holding: &Holding, lifts: &[ObjectId]) -> Result<BTreeSet<ObjectId>, ReleasingError> {
    let vault = holding.vault.read();
    let kept = vault.kept_but_for(lifts).map_err(|e| ReleasingError::Doubt(e.to_string()))?;
    let before = kept.map_or(0, |kept| kept.place + 1);
    let leaves = vault.log().iter().take(usize::try_from(before).unwrap_or(usize::MAX));
    Ok(leaves.filter(|leaf| leaf.kind() == Some(ObjectKind::Manifest)).map(|leaf| leaf.id()).collect())
}

/// What keeps something from being freed, if anything does.
///
/// # Errors
/// [`ReleasingError::Doubt`] when a manifest cannot be read.
pub fn kept(reader: &Reader, lifts: &[ObjectId]) -> Result<Option<Kept>, ReleasingError> {
    here(reader)?.vault.read().kept_but_for(lifts).map_err(|e| ReleasingError::Doubt(e.to_string()))
}

/// Signs a release of what was found, and hands it to the vault.
///
/// # Errors
/// [`ReleasingError`]; nothing is freed then.
pub fn release(
    reader: &Reader,
    session: &Session<'_>,
    keys: &Keyring,
    root: &Root,
    plan: &Plan,
    terms: Terms,
) -> Result<Taken, ReleasingError> {
    let Terms { looked, without, lifts } = terms;
    let holding = here(reader)?;
    is_of_this_archive(reader, root)?;
    let (vault, number) = {
        let vault = holding.vault.read();
        (vault.id(), vault.releases() + 1)
    };
    let mut settled: BTreeSet<DepositorId> = without.into_iter().collect();
    // Nothing waits here, and whatever this machine sends from now on knows of it.
    settled
        .extend(keys.deposit().ok().map(|deposit| deposit.depositor()).filter(|own| vouches(holding, session, *own)));
    let nonce = entropy::bytes()?;
    let note = ReleaseNote { tenant: crate::keyring::DEFAULT_TENANT.to_owned(), snapshots: plan.snapshots.clone() };
    let note = reader.release_keys().seal(vault, &nonce, &note)?;
    let objects = plan.objects.iter().copied().collect();
    let settled = settled.into_iter().collect();
    let Looked { size, root: log_root } = looked;
    let lifts = lifts.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let thins = plan.thins.clone();
    let release = Release { vault, nonce, size, root: log_root, number, objects, settled, note, lifts, thins };
    let bytes = root.sign_release(release)?.encode();
    let object = Verified::hash(&bytes);
    let receipt = holding.vault.deliver_release(object)?;
    let signer = holding.vault.signer();
    let is_good =
        Receipt::decode(&receipt.0).is_ok_and(|r| r.body.object == object.id() && r.verify(&signer.key).is_ok());
    if !is_good {
        return doubt("the vault's receipt for the release is not good".into());
    }
    // Packs of which some stays are rewritten, some at a time. What cannot be done now is done when the vault is opened the next time.
    while holding.vault.write().settle_releases().is_ok_and(|more| more) {}
    let open = holding.vault.read().open_releases().into_iter().find(|open| open.id == object.id());
    let waits = open.as_ref().map(waits_for).unwrap_or_default();
    holding.meet_log()?;
    Ok(Taken { id: object.id(), number, waits, is_open: open.is_some() })
}

/// Whether this state can say that a depositor has nothing under way: it has handed over all that the vault has of it. Else another
/// state has the same deposit key, or this one was lost meanwhile.
fn vouches(holding: &Holding, session: &Session<'_>, depositor: DepositorId) -> bool {
    let own: BTreeSet<ObjectId> = session.manifests_of(depositor).collect();
    ledger::receipted(&holding.state, &own).is_ok_and(|receipted| receipted == own)
}

/// Whether the recovery key is that of the vault.
///
/// # Errors
/// [`ReleasingError::OtherArchive`].
pub fn is_of_this_archive(reader: &Reader, root: &Root) -> Result<(), ReleasingError> {
    let authority = root.authority_public()?;
    if *here(reader)?.vault.read().authority() == authority { Ok(()) } else { Err(ReleasingError::OtherArchive) }
}

/// Releases that were not followed to their end, and whom each waits for.
///
/// # Errors
/// When the vault is at the other end of a link.
pub fn open_releases(reader: &Reader) -> Result<Vec<(OpenRelease, Vec<DepositorId>)>, ReleasingError> {
    let all = here(reader)?.vault.read().open_releases();
    Ok(all.into_iter().map(|open| (open.clone(), waits_for(&open))).collect())
}

fn waits_for(open: &OpenRelease) -> Vec<DepositorId> {
    match &open.standing {
        Some(Standing::Waits(waits)) => waits.clone(),
        _ => Vec::new(),
    }
}

fn here(reader: &Reader) -> Result<&Holding, ReleasingError> {
    match &reader.side {
        Side::Here(holding) => Ok(holding),
        Side::Far(_) => doubt("the vault is at the other end of a link".into()),
    }
}

fn doubt<T>(text: String) -> Result<T, ReleasingError> {
    Err(ReleasingError::Doubt(text))
}

impl From<VaultError> for ReleasingError {
    fn from(e: VaultError) -> Self {
        Self::Depositor(e.into())
    }
}
