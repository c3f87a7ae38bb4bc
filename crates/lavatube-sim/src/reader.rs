//! Runs with the read key on simulated seams: list, restore, check and repair, composed as `lavatube_node::reader` does.
//!
//! It must not know crashes, nor what the truth is.

use std::collections::BTreeSet;

use lavatube_base::limits::CARD_LEN_MAX;
use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, ObjectId, Verified};
use lavatube_client::browse::{self, Listing};
use lavatube_client::cards::CARDS;
use lavatube_client::catalog::{Catalog, CatalogError};
use lavatube_client::check::{self, CheckError, Structure};
use lavatube_client::distant::{Distant, Here};
use lavatube_client::far::Far;
use lavatube_client::fetch::{Archive, Fetcher};
use lavatube_client::frame::FrameError;
use lavatube_client::layers::TreeError;
use lavatube_client::meter::Meter;
use lavatube_client::rebuild::{self, RebuildError};
use lavatube_client::released::Released;
use lavatube_client::restore::{self, Outcome, Overwrite, RestoreError, RestoreRequest};
use lavatube_client::state::{State, StateError, read_all};
use lavatube_client::vaulted::{Sessions, SessionsError};
use lavatube_format::depositor_card::{DepositorCard, SignedCard};
use lavatube_format::shard::ObjectKind;
use lavatube_seal::{ReadKeys, Reads};
use lavatube_vault::scrub::{Scrub, Step};
use lavatube_vault::{Drive, DriveState, MendError, MendReport, OpenReport, Trial, Vault};

use crate::book::Book;
use crate::link::Side;
use crate::seams::far::SimFar;
use crate::seams::sink::SimSink;

/// Why a look into the vault failed.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The manifests.
    #[error("sessions: {0}")]
    Sessions(#[from] SessionsError),
    /// The catalog could not be completed.
    #[error("rebuild: {0}")]
    Rebuild(#[from] RebuildError),
    /// The catalog could not be opened.
    #[error("catalog: {0}")]
    Catalog(#[from] CatalogError),
    /// The state.
    #[error("state: {0}")]
    State(#[from] StateError),
    /// A tree.
    #[error("tree: {0}")]
    Tree(#[from] TreeError),
    /// The restore.
    #[error("restore: {0}")]
    Restore(#[from] RestoreError),
    /// The check.
    #[error("check: {0}")]
    Check(#[from] CheckError),
    /// zstd.
    #[error("zstd: {0}")]
    Frame(#[from] FrameError),
}

/// The cards of all depositors that the read key's authority certified.
fn certified_cards(far: &SimFar, keys: &ReadKeys) -> Vec<DepositorCard> {
    let vault = far.vault();
    let card = |id: ObjectId, len: u64| {
        let mut bytes = Vec::new();
        vault.read(id, 0..len, &mut bytes).ok()?;
        Verified::check(&bytes, id)?;
        let signed = SignedCard::decode(&bytes).ok()?;
        keys.verify_card(&signed).ok()?;
        Some(signed.card)
    };
    vault.objects_of(ObjectKind::DepositorCard).filter_map(|o| card(o.id, o.len)).collect()
}

/// Those of `cards` that the read key's authority certified, and of the copies in the state.
fn certified(cards: &[Vec<u8>], state: &dyn State, keys: &ReadKeys) -> Vec<DepositorCard> {
    let certified = |bytes: &[u8]| {
        let signed = SignedCard::decode(bytes).ok()?;
        keys.verify_card(&signed).ok()?;
        Some(signed.card)
    };
    let names = state.list(CARDS).unwrap_or_default();
    let copies = names.iter().filter_map(|name| read_all(state, name, CARD_LEN_MAX as u64).ok().flatten());
    cards.iter().cloned().chain(copies).filter_map(|bytes| certified(&bytes)).collect()
}

/// Learns what the vault holds into `state`, then looks with `f`.
///
/// # Errors
/// [`LookError`] when vault or state fail.
pub fn look<T>(
    far: &SimFar,
    state: &dyn State,
    keys: &ReadKeys,
    f: impl FnOnce(&mut Fetcher<'_>) -> Result<T, LookError>,
) -> Result<T, LookError> {
    look_with(far, &certified_cards(far, keys), state, keys, f)
}

/// The same with a vault that is distant.
///
/// # Errors
/// [`LookError`] when vault or state fail.
pub fn look_far<T>(
    far: &Distant<Side>,
    keys: &ReadKeys,
    f: impl FnOnce(&mut Fetcher<'_>) -> Result<T, LookError>,
) -> Result<T, LookError> {
    let state = far.here().state();
    let cards = certified(&far.cards().map_err(SessionsError::from)?, state, keys);
    look_with(far, &cards, state, keys, f)
}

fn look_with<T>(
    far: &dyn Far,
    cards: &[DepositorCard],
    state: &dyn State,
    keys: &ReadKeys,
    f: impl FnOnce(&mut Fetcher<'_>) -> Result<T, LookError>,
) -> Result<T, LookError> {
    let card = |id: &lavatube_base::DepositorId| cards.iter().find(|c| c.id() == *id).cloned();
    let released = Released::load(far, state, keys.authority_public(), &keys.release_keys())?;
    let sessions = Sessions::load(far, state, &card, keys)?.without(released);
    let mut catalog = Catalog::open(state)?;
    let (meter, ids) = (Meter::default(), keys.chunk_id_key());
    rebuild::catch_up(state, &mut catalog, &sessions, far, &ids, &meter)?;
    catalog.leave_out_freed(sessions.released());
    let archive = Archive { catalog: &catalog, sessions: &sessions, far, chunk_ids: &ids };
    f(&mut Fetcher::new(archive, 4 << 20)?)
}

/// All snapshots.
///
/// # Errors
/// [`LookError`].
pub fn list(fetcher: &mut Fetcher<'_>) -> Result<Listing, LookError> {
    Ok(browse::snapshots(fetcher)?)
}

/// Restores a whole snapshot into memory.
///
/// # Errors
/// [`LookError`] when it could not begin; single failures are in the outcome.
pub fn restore(fetcher: &mut Fetcher<'_>, snapshot: ChunkId) -> Result<(SimSink, Outcome), LookError> {
    let sink = SimSink::default();
    let request = RestoreRequest {
        snapshot,
        inside: None,
        select: &|_, _| true,
        overwrite: Overwrite::Never,
        doubt: false,
        booted: WallTime::default(),
    };
    if fetcher.archive().far.is_distant() {
        let plan = restore::Plan::of_restore(fetcher, &request, &|_, _, _| false).map_err(RestoreError::from)?;
        // What cannot be asked for now is not there now.
        let _ = fetcher.archive().far.want(&plan.parts(fetcher));
    }
    let outcome = restore::restore(fetcher, &sink, request, &Meter::default())?;
    Ok((sink, outcome))
}

/// Checks manifests, packs and trees.
///
/// # Errors
/// [`LookError`].
pub fn check(fetcher: &mut Fetcher<'_>) -> Result<Structure, LookError> {
    Ok(check::structure(fetcher, &Meter::default())?)
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Drives that were taken in again.
    pub readopted: usize,
    /// Drives that were read wholly and are trusted again.
    pub admitted: usize,
    /// Objects that were mended.
    pub mended: usize,
    /// Shards that could not be written.
    pub left: usize,
    /// Objects that cannot be mended.
    pub beyond: Vec<(ObjectId, MendError)>,
    /// Drives that could not be taken in again.
    pub refused: Vec<String>,
    /// Objects that a scrub called whole, and that were not.
    pub overlooked: usize,
}

/// Makes the vault whole again as far as its drives allow, after a scrub if `scrubs`; `spare` gives the drive of a slot that has none.
/// A scrub goes by ids, which hang on random signatures: where it may be cut, a run would not repeat to the letter.
pub fn repair(
    vault: &mut Vault,
    report: &OpenReport,
    book: &Book,
    spare: &dyn Fn(usize) -> Option<Box<dyn Drive>>,
    scrubs: bool,
) -> Repaired {
    let mut out = Repaired::default();
    for drive in &report.drives {
        let new = match drive.state {
            DriveState::Present if drive.card_whole && drive.journal_current => continue,
            // Readable, but one of its copies is not what it should be.
            DriveState::Present | DriveState::CardDamaged => None,
            DriveState::Foreign | DriveState::Retired | DriveState::Suspect(_) | DriveState::Quarantined(_) => continue,
            DriveState::Blank | DriveState::Missing => spare(drive.slot),
        };
        match vault.readopt(drive.slot, new) {
            Ok(()) => out.readopted += 1,
            Err(e) => out.refused.push(format!("{}: {e}", drive.label)),
        }
    }
    let mut whole = BTreeSet::new();
    let mut scrub = Scrub::begin(WallTime::default());
    while scrubs && let Step::Looked(looked) = scrub.handle_step(vault, WallTime::default()) {
        out.mended += usize::from(!looked.mended.is_empty());
        if looked.left.is_empty() && looked.away.is_empty() && looked.refused.is_none() {
            whole.insert(looked.id);
        }
    }
    let judged = scrubs.then(|| scrub.finish(vault, None));
    for slot in vault.on_trial() {
        let tried = Trial::begin(vault, slot).map(|mut trial| {
            while trial.handle_step(vault).is_some() {}
            trial.finish(vault).map(|is_in| (is_in, trial))
        });
        match tried {
            Some(Ok((false, trial))) => out.refused.push(format!("slot {slot} stays in quarantine: {trial:?}")),
            Some(Err(e)) => out.refused.push(format!("slot {slot} stays in quarantine: {e}")),
            Some(Ok((true, _))) | None => out.admitted += 1,
        }
    }
    if let Some(Err(e)) = judged {
        out.refused.push(format!("a scrub could not say what it found: {e}"));
    }
    let mut objects: Vec<ObjectId> = vault.objects().map(|o| o.id).collect();
    objects.sort_by_key(|id| book.place(*id));
    for id in objects {
        match vault.mend(id) {
            Ok(report) => {
                out.mended += usize::from(!report.mended.is_empty());
                out.left += report.left.len();
                out.overlooked += usize::from(report != MendReport::default() && whole.contains(&id));
            }
            Err(e) => out.beyond.push((id, e)),
        }
    }
    out
}
