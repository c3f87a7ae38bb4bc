//! A depositor on this machine: its places, its keys, its vault, and the commands that compose them.
//!
//! Each function here is one command without its terminal: it takes locks, opens rooms in the right order, runs the
//! client's straight lines on threads, and tidies up. It must not know layouts, nor print anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_base::time::WallTime;
use lavatube_base::{ObjectId, VaultId, Verified};
use lavatube_client::backup::{self, BackupError, Report, Request};
use lavatube_client::cache::newest_start;
use lavatube_client::cards::CARDS;
use lavatube_client::catalog::{Catalog, CatalogError};
use lavatube_client::chain::Chain;
use lavatube_client::courier::{Courier, CourierError, Drained, Promise};
use lavatube_client::delivery::Delivery;
use lavatube_client::doubt;
use lavatube_client::far::Far;
use lavatube_client::ledger;
use lavatube_client::log::Verdict;
use lavatube_client::meter::Meter;
use lavatube_client::packer::{PackError, Packer};
use lavatube_client::released::Released;
use lavatube_client::session::{self, OpenSession, Recovered, Said, SessionError};
use lavatube_client::spool::SpoolKind;
use lavatube_client::state::{State, StateError, write_all};
use lavatube_client::vaulted::{self, SessionsError};
use lavatube_format::manifest::Retention;
use lavatube_format::shard::ObjectKind;
use lavatube_seal::{DepositKeys, Reads};
use lavatube_vault::DriveState;

use crate::atomic::{COMMON, make_folders};
use crate::directory_desk::DirectoryDesk;
use crate::directory_source::DirectorySource;
use crate::directory_spool::DirectorySpool;
use crate::directory_state::DirectoryState;
use crate::drive_care;
use crate::embedded::{self, EmbeddedVault, VaultError};
use crate::holding::Holding;
use crate::keyring::{Keyring, KeyringError};
use crate::link_folder::{self, LinkError};
use crate::lock::{Lock, LockError, Mode};
use crate::pipeline::{self, Effort};
use crate::waybill::{self, Priority, Waybill};
use crate::words::plain;
use crate::{entropy, process, vault_log};

/// Where things are on this machine.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folder of the embedded vault.
    pub vault: PathBuf,
    /// Folder of all states, one folder a vault below it.
    pub state: PathBuf,
    /// Folder of the keys.
    pub keys: PathBuf,
}

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum DepositorError {
    /// Someone else uses the vault or the state.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The link to a far vault.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Packing.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Delivering.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The vault's log is not what it was, and nobody has looked yet.
    #[error("nothing was sent, because the vault cannot be believed: {why}")]
    LogAlarm {
        /// Why.
        why: String,
        /// Where the evidence is.
        evidence: PathBuf,
    },
    /// A folder.
    #[error("{}: {}", path.display(), plain(&source.to_string()))]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a vault shall be made.
#[derive(Debug, Clone)]
pub struct VaultPlan {
    /// Data shards.
    pub k: u8,
    /// Parity shards.
    pub m: u8,
    /// Drives.
    pub drives: Vec<embedded::DriveSpec>,
}

/// What [`init`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    /// Keys were made.
    pub keys: bool,
    /// A vault was made.
    pub vault: bool,
}

/// Makes keys and a vault where they are missing.
///
/// # Errors
/// [`DepositorError`]; what exists is never overwritten.
pub fn init(places: &Places, plan: &VaultPlan, wait: Duration) -> Result<Made, DepositorError> {
    let mut made = Made::default();
    if link_folder::is_far(&places.vault) {
        return Err(VaultError::Far(places.vault.clone()).into());
    }
    make_folder(&places.vault)?;
    let _lock = Lock::acquire(&embedded::lock_path(&places.vault), "lavatube init", Mode::Exclusive, wait)?;
    let keyring = Keyring::at(&places.keys);
    let is_vault = embedded::is_vault(&places.vault);
    if !is_vault {
        // Before keys are made: whoever makes them must be told where they are, and what fails tells other things.
        embedded::check_drives(&places.vault, &plan.drives)?;
    } else if !keyring.can_deposit() && keyring.left_recovery()?.is_none() {
        // The vault takes no keys but those it was made for.
        return Err(KeyringError::NoRoot(keyring.deposit_path()).into());
    }
    made.keys = !keyring.can_deposit() && keyring.make(&process::host_name())?;
    if !is_vault {
        let authority = keyring.read(None, &mut |_| None)?.authority_public().clone();
        made.vault = embedded::create(&places.vault, plan.k, plan.m, &plan.drives, authority)?;
    }
    let deposit = keyring.deposit()?;
    EmbeddedVault::open(&places.vault, true)?.admit(&deposit.card().encode())?;
    Ok(made)
}

fn make_folder(folder: &Path) -> Result<(), DepositorError> {
    make_folders(folder, COMMON).map_err(|source| DepositorError::Io { path: folder.to_owned(), source })
}

/// The folder of the state of one vault.
pub fn state_folder(places: &Places, vault: VaultId) -> PathBuf {
    places.state.join(vault.to_string())
}

/// Makes the folder of all states, for its owner only, when it is missing.
///
/// # Errors
/// [`DepositorError::Io`].
pub fn make_state_folder(places: &Places) -> Result<(), DepositorError> {
    open_state(&places.state).map(drop)
}

/// The folder of what waits for the vault, in a folder of state.
pub fn spool_folder(state: &Path) -> PathBuf {
    state.join("spool")
}

/// Opens the state in `folder`; made when missing.
pub(crate) fn open_state(folder: &Path) -> Result<DirectoryState, DepositorError> {
    DirectoryState::open(folder).map_err(|source| DepositorError::Io { path: folder.to_owned(), source })
}

/// What came of a backup.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The client's report.
    pub report: Report,
    /// Which promise holds.
    pub promise: Promise,
    /// Bytes of packs that were made.
    pub stored_bytes: u64,
    /// What an earlier, interrupted run had left.
    pub recovered: Recovered,
    /// What became of what waited in the spool from earlier runs.
    pub drained: Drained,
    /// Objects that this machine took to be in the vault and are not: what was in them has been sent again.
    pub doubted: usize,
    /// Drives that are not as they should be, or failed while the backup wrote to them: label and, of the latter, why.
    pub degraded: Vec<(String, Option<String>)>,
    /// The vault is at the other end of a link: what was made waits for it here.
    pub far: bool,
    /// The catalog lacks chunks that the vault has: they may have been sent again, until a reader makes it anew.
    pub catalog_incomplete: bool,
    /// Where the chain of manifests stood before.
    pub chain: Chain,
    /// How the vault's log was found before, and after; of a far vault nothing is asked.
    pub log: Option<(Verdict, Verdict)>,
    /// When the newest snapshot of this machine was taken, where that is later than the clock says it is now.
    pub clock_behind: Option<WallTime>,
}

/// Takes a snapshot into the embedded vault, or into the spool when too few of its drives are there or it is at the other
/// end of a link. Nothing of it may be freed before `retention` has passed. What has a higher `priority` goes first over a link, and keeps its redundancy longest.
///
/// # Errors
/// [`DepositorError`]; what was delivered before the error is kept for the next run.
pub fn backup(
    places: &Places,
    request: &Request<'_>,
    retention: Retention,
    priority: Priority,
    effort: Effort,
    wait: Duration,
    meter: &Meter,
) -> Result<Outcome, DepositorError> {
    let retention = Retention { precious: priority.preciousness(), ..retention };
    if link_folder::is_far(&places.vault) {
        return backup_for_far(places, request, retention, priority, effort, wait, meter);
    }
    let holding = Holding::open(places, "lavatube backup", true, wait)?;
    let Holding { vault, state, .. } = &holding;
    let deposit = Keyring::at(&places.keys).deposit()?;
    // Before anything is handed over.
    let log_before = vault_log::meet(&holding)?;
    vault.admit(&deposit.card().encode())?;
    keep_card(state, &deposit.card().encode())?;
    let mut spool = DirectorySpool::open(&spool_folder(state.folder())).map_err(CourierError::from)?;
    let mut courier = Courier::new(Some(vault as &dyn Far), &mut spool, state);
    let mut catalog = Catalog::open(state)?;

    let released = Released::learn(vault, state, &deposit.release_keys()).map_err(unlearnt)?;
    let drained = courier.drain_spool()?;
    let before = Chain::survey(state, &deposit, vault)?.knowing(released.number);
    let mut chain = before.clone();
    let (recovered, open) = open_session(state, &deposit, &mut catalog, &mut chain, &mut courier)?;
    let doubted = doubt::settle(state, vault, &drained, &released, &mut courier, &mut catalog)?;
    let clock_behind = newest_start(state)?.filter(|newest| *newest > request.now);
    let (report, promise) =
        take(state, request, retention, effort, &deposit, &open, &mut catalog, &mut chain, courier, false, meter)?;
    // Asked at the end: a drive may have failed on the way.
    let degraded = vault.read().drives().into_iter().filter_map(|d| match d.state {
        DriveState::Present | DriveState::Retired => None,
        DriveState::Suspect(e) => Some((d.label, Some(e.to_string()))),
        DriveState::Quarantined(why) => Some((d.label, Some(format!("in quarantine: {}", drive_care::why(why))))),
        _ => Some((d.label, None)),
    });
    let degraded = degraded.collect();
    let (stored_bytes, catalog_incomplete) = (meter.stored_bytes.now(), catalog.is_marked()?);
    let chain = before;
    let log = Some((log_before, holding.meet_log()?));
    Ok(Outcome {
        report,
        promise,
        stored_bytes,
        recovered,
        drained,
        doubted,
        degraded,
        far: false,
        catalog_incomplete,
        chain,
        log,
        clock_behind,
    })
}

/// Why releases could not be learnt of.
pub(crate) fn unlearnt(e: SessionsError) -> DepositorError {
    match e {
        SessionsError::Far(e) => CourierError::from(e).into(),
        SessionsError::State(e) => e.into(),
    }
}

/// Ends the session that an interrupted run has left: its packs get a manifest.
pub(crate) fn take_up(holding: &Holding, keys: &Keyring) -> Result<(), DepositorError> {
    let Holding { vault, state, .. } = holding;
    let deposit = keys.deposit()?;
    vault.admit(&deposit.card().encode())?;
    let mut spool = DirectorySpool::open(&spool_folder(state.folder())).map_err(CourierError::from)?;
    let mut courier = Courier::new(Some(vault as &dyn Far), &mut spool, state);
    let mut catalog = Catalog::open(state)?;
    let released = Released::learn(vault, state, &deposit.release_keys()).map_err(unlearnt)?;
    courier.drain_spool()?;
    let mut chain = Chain::survey(state, &deposit, vault)?.knowing(released.number);
    entropy::bytes::<32>().map_err(KeyringError::from)?;
    // Only a session that another key began is wrapped anew, and that is begun and ended with what entropy gives here.
    let mut no_entropy = None;
    let mut dice = |out: &mut [u8]| no_entropy = entropy::fill(out).err().or(no_entropy.take());
    session::recover(state, &deposit, &mut catalog, &mut chain, &mut courier, &mut dice)?;
    no_entropy.map_or(Ok(()), |e| Err(KeyringError::from(e).into()))
}

/// Takes up what an interrupted run has left, and begins a session of this run's own.
pub(crate) fn open_session(
    state: &DirectoryState,
    deposit: &DepositKeys,
    catalog: &mut Catalog<'_>,
    chain: &mut Chain,
    courier: &mut Courier<'_>,
) -> Result<(Recovered, OpenSession), DepositorError> {
    // What gives once gives always: a wrap made of anything else must not leave.
    entropy::bytes::<32>().map_err(KeyringError::from)?;
    let mut no_entropy = None;
    let mut dice = |out: &mut [u8]| {
        if let Err(e) = entropy::fill(out) {
            no_entropy = Some(e);
        }
    };
    let recovered = session::recover(state, deposit, catalog, chain, courier, &mut dice)?;
    let open = session::begin(state, deposit, &mut dice)?;
    no_entropy.map_or(Ok((recovered, open)), |e| Err(KeyringError::from(e).into()))
}

/// Takes a snapshot for a vault at the other end of a link: all of it goes to the spool. The vault is not asked anything:
/// what it has receipted counts as there, and what it has lost since is not noticed here.
fn backup_for_far(
    places: &Places,
    request: &Request<'_>,
    retention: Retention,
    priority: Priority,
    effort: Effort,
    wait: Duration,
    meter: &Meter,
) -> Result<Outcome, DepositorError> {
    let folder = state_folder(places, link_folder::vault_id(&places.vault)?);
    let state = open_state(&folder)?;
    let _lock = Lock::acquire(&folder.join("lock"), "lavatube backup", Mode::Exclusive, wait)?;
    vault_log::stop_at_alarm(&state)?;
    let deposit = Keyring::at(&places.keys).deposit()?;
    keep_card(&state, &deposit.card().encode())?;
    let mut spool = DirectorySpool::open(&spool_folder(&folder)).map_err(CourierError::from)?;
    let mut courier = Courier::new(None, &mut spool, &state);
    let mut catalog = Catalog::open(&state)?;
    let waited: BTreeSet<ObjectId> = spooled(&folder)?.into_iter().map(|(_, id)| id).collect();
    // What the daemon asked the vault for lies on the desk.
    let released = match DirectoryDesk::open(&folder) {
        Ok(desk) => Released::take_from(&desk, &state, &deposit.release_keys())?,
        Err(_) => Released::known(&state, &deposit.release_keys())?,
    };
    let before = Chain::known(&state, &deposit)?.knowing(released.number);
    let mut chain = before.clone();
    let (recovered, open) = open_session(&state, &deposit, &mut catalog, &mut chain, &mut courier)?;
    let waiting = spooled(&folder)?.into_iter().map(|(_, id)| id).collect();
    let listed = DirectoryDesk::open(&folder).ok().and_then(|desk| desk.list_at(ObjectKind::Manifest));
    let listed = listed.into_iter().flat_map(|(objects, _)| objects).map(|(id, _)| id).collect();
    let doubted = doubt::account(&state, &waiting, &listed, &released, &mut courier, &mut catalog)?;
    let clock_behind = newest_start(&state)?.filter(|newest| *newest > request.now);
    let (report, promise) =
        take(&state, request, retention, effort, &deposit, &open, &mut catalog, &mut chain, courier, true, meter)?;
    // The last manifest is that of this very snapshot, unless it is there already.
    let mut manifests =
        spooled(&folder)?.into_iter().filter(|(kind, id)| *kind == SpoolKind::Manifest && !waited.contains(id));
    if let (Some((_, manifest)), Some(snapshot)) = (manifests.next_back(), report.snapshot) {
        let waybill = Waybill { snapshot: snapshot.to_string(), taken_unix_s: request.now.s, priority };
        waybill::keep(&folder, manifest, &waybill)
            .map_err(|source| DepositorError::Io { path: folder.clone(), source })?;
    }
    let (stored_bytes, catalog_incomplete) = (meter.stored_bytes.now(), catalog.is_marked()?);
    Ok(Outcome {
        report,
        promise,
        stored_bytes,
        recovered,
        drained: Drained::default(),
        doubted,
        degraded: Vec::new(),
        far: true,
        catalog_incomplete,
        chain: before,
        log: None,
        clock_behind,
    })
}

/// What waits for the vault of a folder of state.
///
/// # Errors
/// When the spool cannot be read.
pub fn spooled(state: &Path) -> Result<Vec<(SpoolKind, ObjectId)>, DepositorError> {
    Ok(DirectorySpool::peek(&spool_folder(state)).map_err(CourierError::from)?)
}

/// This machine's state of the vault of `places`, for who only reads it; `None` when there is none.
pub(crate) fn state_to_read(places: &Places) -> Result<Option<DirectoryState>, DepositorError> {
    let folder = state_folder(places, link_folder::vault_id(&places.vault)?);
    Ok(folder.exists().then(|| DirectoryState::of_reader(&folder)))
}

/// How many backups of this machine went out to the vault of a folder of state, and how many of them it has signed for.
///
/// # Errors
/// When the state cannot be read.
pub fn crossed(state: &Path) -> Result<(usize, usize), DepositorError> {
    if !state.exists() {
        return Ok((0, 0));
    }
    let state = open_state(state)?;
    let sent = vaulted::sent(&state)?;
    Ok((sent.len(), ledger::receipted(&state, &sent)?.len()))
}

/// Keeps a copy of a depositor card.
pub(crate) fn keep_card(state: &dyn State, card: &[u8]) -> Result<(), StateError> {
    let name = format!("{CARDS}{}", Verified::hash(card).id());
    match state.len(&name).map_err(StateError::on(&name))? {
        Some(_) => Ok(()),
        None => write_all(state, &name, card),
    }
}

#[expect(clippy::too_many_arguments, reason = "what a backup consists of")]
fn take<'a>(
    state: &'a DirectoryState,
    request: &Request<'_>,
    retention: Retention,
    effort: Effort,
    deposit: &DepositKeys,
    open: &OpenSession,
    catalog: &mut Catalog<'a>,
    chain: &mut Chain,
    courier: Courier<'a>,
    far: bool,
    meter: &'a Meter,
) -> Result<(Report, Promise), DepositorError> {
    let source = DirectorySource::new().map_err(|source| BackupError::Root { path: b"/".to_vec(), source })?;
    let packer = Packer::new(open.keys.clone());
    let delivery = Delivery::new(open.keys.session(), deposit.audit_keys(), state, courier, meter).keeping_heads(far);
    pipeline::run(packer, delivery, effort, |outlet, finish| {
        let prepared =
            match backup::prepare(&source, request, deposit, open.keys.session(), state, catalog, outlet, meter) {
                Ok(prepared) => prepared,
                // The pipeline knows why it ended.
                Err(BackupError::Collect(e)) => {
                    finish(&[])?;
                    return Err(BackupError::Collect(e).into());
                }
                Err(e) => return Err(e.into()),
            };
        let ask: Vec<_> = prepared.report.snapshot.into_iter().collect();
        let (packed, mut courier) = finish(&ask)?;
        session::finish(
            state,
            deposit,
            open,
            &packed.packs,
            Said { snapshots: packed.found, retention, ..Said::default() },
            &prepared.committed,
            chain,
            &mut courier,
        )?;
        let report = prepared.complete()?;
        session::close(state)?;
        Ok((report, courier.promise()))
    })
}
