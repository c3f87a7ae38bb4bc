//! Releasing on this machine: what may go is found out, the authority signs for it, and the vault is told.
//!
//! In doubt nothing is signed: an alarm, something that waits, a session that was cut, a manifest that the log has and nobody can
//! read. It must not know how the recovery key came here, nor print anything. Steps 18 and 20 of the walk.

pub mod afar;

use std::collections::BTreeSet;

use lavatube_base::{DepositorId, ObjectId, VaultId, Verified};
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
use lavatube_vault::{Leaf, LogError, OpenRelease, Standing};

use crate::depositor::{DepositorError, take_up};
use crate::directory_state::DirectoryState;
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
    /// The vault's program knows nothing of releases that come over a link.
    #[error("the vault's program is older than this one, and takes no release over the link")]
    OlderVault,
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
#[derive(Debug, Clone)]
pub struct Looked {
    size: u64,
    root: [u8; 32],
    /// What a vault at the other end of a link told beside.
    afar: Option<afar::Ground>,
}

/// What may go, and what keeps something from going.
#[derive(Debug)]
pub struct Planned {
    /// What may go.
    pub plan: Plan,
    /// What keeps something, if anything does.
    pub kept: Option<Kept>,
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
    let holding = match &reader.side {
        Side::Here(holding) => holding,
        Side::Far(vault) => return afar::begin(vault),
    };
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
        Ok(sight) => Ok(Looked { size: sight.checkpoint.size, root: sight.checkpoint.root, afar: None }),
        Err(e @ (LogError::Shortfall { .. } | LogError::Store(_))) => doubt(e.to_string()),
    }
}

/// Finds out what may go.
///
/// # Errors
/// [`ReleasingError::Doubt`] says what stands in the way.
pub fn plan(
    reader: &Reader,
    session: &Session<'_>,
    looked: &Looked,
    lifts: &[ObjectId],
    meter: &Meter,
) -> Result<Planned, ReleasingError> {
    if !session.rebuilt.lost.is_empty() {
        return doubt(format!("the indexes of {} packs cannot be read", session.rebuilt.lost.len()));
    }
    let (kept, leaves, pending) = match &reader.side {
        Side::Here(holding) => {
            let kept = holding.vault.read().kept_but_for(lifts).map_err(|e| ReleasingError::Doubt(e.to_string()))?;
            (kept, holding.vault.read().log().to_vec(), pending(holding)?)
        }
        Side::Far(vault) => {
            let ground = afar::ground_but_for(vault, looked, lifts)?;
            let releases = ground.releases(reader)?;
            (ground.kept(session, &releases, lifts)?, ground.leaves().to_vec(), ground.pending(session, &releases))
        }
    };
    let believed: BTreeSet<ObjectId> = session.manifests().collect();
    let manifests = |leaves: &[Leaf]| -> BTreeSet<ObjectId> {
        leaves.iter().filter(|leaf| leaf.kind() == Some(ObjectKind::Manifest)).map(Leaf::id).collect()
    };
    if let Some(id) = manifests(&leaves).difference(&believed).next() {
        return doubt(format!("manifest {} of the log was not looked at", id.short()));
    }
    // Of those that are kept, and of all that were there before them, nothing may be freed yet.
    let before = kept.map_or(0, |kept| usize::try_from(kept.place + 1).unwrap_or(usize::MAX));
    let retained = manifests(&leaves[..before.min(leaves.len())]);
    Ok(Planned { plan: session.plan_release(&retained, &pending, meter)?, kept })
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
    let holding = here(reader)?;
    let (vault, number) = {
        let vault = holding.vault.read();
        (vault.id(), vault.releases() + 1)
    };
    // Nothing waits here, and whatever this machine sends from now on knows of it.
    let own = keys.deposit().ok().map(|deposit| deposit.depositor());
    let own = own.filter(|own| vouches(&holding.state, session, *own));
    let bytes = signed(reader, root, plan, terms, (vault, number), own)?;
    let object = Verified::hash(&bytes);
    let receipt = holding.vault.deliver_release(object)?;
    let signer = holding.vault.signer();
    let is_good =
        Receipt::decode(&receipt.0).is_ok_and(|r| r.body.object == object.id() && r.verify(&signer.key).is_ok());
    if !is_good {
        return doubt("the vault's receipt for the release is not good".into());
    }
    // The next backup may find the drives away that know of it, and must not build on what it frees.
    Released::take_in(&holding.state, &reader.release_keys(), &bytes).map_err(DepositorError::from)?;
    // Packs of which some stays are rewritten, some at a time. What cannot be done now is done when the vault is opened the next time.
    while holding.vault.write().settle_releases().is_ok_and(|more| more) {}
    let open = holding.vault.read().open_releases().into_iter().find(|open| open.id == object.id());
    let waits = open.as_ref().map(waits_for).unwrap_or_default();
    holding.meet_log()?;
    Ok(Taken { id: object.id(), number, waits, is_open: open.is_some() })
}

/// A release of what was found, signed: the bytes of the object. `own` need not be waited for either.
fn signed(
    reader: &Reader,
    root: &Root,
    plan: &Plan,
    terms: Terms,
    (vault, number): (VaultId, u64),
    own: Option<DepositorId>,
) -> Result<Vec<u8>, ReleasingError> {
    let Terms { looked: Looked { size, root: log_root, .. }, without, lifts } = terms;
    is_of_this_archive(reader, root)?;
    let settled: BTreeSet<DepositorId> = without.into_iter().chain(own).collect();
    let nonce = entropy::bytes()?;
    let note = ReleaseNote { tenant: crate::keyring::DEFAULT_TENANT.to_owned(), snapshots: plan.snapshots.clone() };
    let note = reader.release_keys().seal(vault, &nonce, &note)?;
    let objects = plan.objects.iter().copied().collect();
    let settled = settled.into_iter().collect();
    let lifts = lifts.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let thins = plan.thins.clone();
    let release = Release { vault, nonce, size, root: log_root, number, objects, settled, note, lifts, thins };
    Ok(root.sign_release(release)?.encode())
}

/// Whether this state can say that a depositor has nothing under way: it has handed over all that the vault has of it. Else another
/// state has the same deposit key, or this one was lost meanwhile.
fn vouches(state: &DirectoryState, session: &Session<'_>, depositor: DepositorId) -> bool {
    let own: BTreeSet<ObjectId> = session.manifests_of(depositor).collect();
    ledger::receipted(state, &own).is_ok_and(|receipted| receipted == own)
}

/// Whether the recovery key is that of the vault.
///
/// # Errors
/// [`ReleasingError::OtherArchive`].
pub fn is_of_this_archive(reader: &Reader, root: &Root) -> Result<(), ReleasingError> {
    if *reader.authority() == root.authority_public()? { Ok(()) } else { Err(ReleasingError::OtherArchive) }
}

/// Releases that were not followed to their end, by number, and whom each waits for.
pub fn open_releases(reader: &Reader, looked: &Looked) -> Vec<(u64, Vec<DepositorId>)> {
    match (&reader.side, &looked.afar) {
        (Side::Here(holding), _) => {
            holding.vault.read().open_releases().iter().map(|open| (open.number, waits_for(open))).collect()
        }
        (Side::Far(_), ground) => ground.iter().flat_map(afar::Ground::open).collect(),
    }
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
