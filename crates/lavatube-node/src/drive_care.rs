//! Drives of an embedded vault are named anew, added and retired.
//!
//! What a drive is called is on the drives' cards; where its folder is stands in `vault.toml`, and both change in an order that can be cut anywhere:
//! a new drive is prepared, then listed, then taken in. Step 18 of the walk. It must not know what is on a card.

use std::path::Path;
use std::time::Duration;

use lavatube_base::{DriveId, ObjectId};
use lavatube_client::meter::Meter;
use lavatube_format::drive_card::SlotCard;
use lavatube_vault::{CardError, Distrust, DriveError, DriveState, DriveStatus, MendError, StoreError, Trial, Vault};

use crate::atomic::{COMMON, make_folders};
use crate::embedded::{self, DriveSpec, EmbeddedVault, VaultError};
use crate::entropy;
use crate::lock::{Lock, LockError, Mode};
use crate::places::{self, Access};

/// Why nothing, or not all, was changed.
#[derive(Debug, thiserror::Error)]
pub enum DriveCareError {
    /// Someone else uses the vault.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The vault could not be opened, or its folder failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No drive, or several, are called that.
    #[error("{found} drives are called {which}")]
    NoSuch {
        /// What was asked for.
        which: String,
        /// How many are.
        found: usize,
    },
    /// The folder is a drive of this vault already.
    #[error("{0} is a drive of this vault already")]
    Listed(String),
    /// The drive's folder failed.
    #[error("{0}: {1}")]
    Folder(String, DriveError),
    /// The card could not be changed.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The journal could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The drive is not there to be read.
    #[error("{0} is not there to be read")]
    Away(String),
}

/// Other names for a drive; what is not given stays.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// What people call it.
    pub label: Option<String>,
    /// Its shelf: what fails together.
    pub shelf: Option<String>,
    /// Its maker.
    pub maker: Option<String>,
    /// Its model.
    pub model: Option<String>,
}

/// What retiring a drive did.
#[derive(Debug, Default)]
pub struct Retired {
    /// Objects that had shards on the drive.
    pub objects: u64,
    /// Those of them whose shards are on other drives now.
    pub moved: u64,
    /// Those that have shards on it still, for want of another drive, or of time.
    pub left: u64,
    /// Objects that could not be read, and why.
    pub beyond: Vec<(ObjectId, MendError)>,
    /// The drive is retired.
    pub done: bool,
}

/// What reading a drive in quarantine wholly has shown.
#[derive(Debug)]
pub struct Tried {
    /// It is trusted again.
    pub admitted: bool,
    /// Why it was in quarantine; `None` when it was not.
    pub why: Option<Distrust>,
    /// Objects with shards on it.
    pub objects: u64,
    /// Those that were not looked at, because it was to end before.
    pub ahead: u64,
    /// Shards on it that were not as they should be.
    pub found: u64,
    /// Those of them that could not be mended.
    pub left: u64,
    /// Objects that could not be read, and why.
    pub beyond: Vec<(ObjectId, MendError)>,
}

/// Why a drive is held back, in words.
pub fn why(why: Distrust) -> &'static str {
    match why {
        Distrust::Away => "it was away, or put back to an older state, while things were written",
        Distrust::Slow => "it is far slower than the others",
        Distrust::Failed => "it failed while it was written to",
        Distrust::Wrong => "what it holds was wrong again and again",
    }
}

/// Reads a drive in quarantine wholly, mends what it has, and lets it in when it is right, while `go_on` says so. Cut anywhere, it is done again.
///
/// # Errors
/// [`DriveCareError`]; that it is not let in is no error.
pub fn admit(
    folder: &Path,
    which: &str,
    meter: &Meter,
    go_on: &dyn Fn() -> bool,
    wait: Duration,
) -> Result<(DriveStatus, Tried), DriveCareError> {
    embedded::vault_id(folder)?;
    let command = "lavatube vault drive admit";
    let _lock = Lock::acquire(&embedded::lock_path(folder), command, Mode::Exclusive, wait)?;
    let vault = EmbeddedVault::open_past_cache(folder)?;
    let drive = find(&vault, which)?;
    let mut inner = vault.write();
    let Some(trial) = Trial::begin(&inner, drive.slot) else {
        if drive.distrust.is_some() {
            return Err(DriveCareError::Away(drive.label));
        }
        let (objects, ahead, found, left) = (inner.objects_on(drive.slot).len() as u64, 0, 0, 0);
        let none = Tried { admitted: true, why: None, objects, ahead, found, left, beyond: Vec::new() };
        return Ok((drive, none));
    };
    meter.files_total.set(trial.objects);
    let tried = try_drive(&mut inner, trial, drive.distrust, meter, go_on)?;
    let after = inner.drives()[drive.slot].clone();
    Ok((after, tried))
}

/// Carries a trial through.
pub(crate) fn try_drive(
    vault: &mut Vault,
    mut trial: Trial,
    why: Option<Distrust>,
    meter: &Meter,
    go_on: &dyn Fn() -> bool,
) -> Result<Tried, StoreError> {
    while go_on()
        && let Some(len) = trial.handle_step(vault)
    {
        meter.files.add(1);
        meter.bytes.add(len);
    }
    let admitted = trial.finish(vault)?;
    let (objects, ahead, found, left) = (trial.objects, trial.ahead(), trial.found, trial.left);
    Ok(Tried { admitted, why, objects, ahead, found, left, beyond: trial.beyond })
}

/// Opens the vault in `folder` to change it.
fn open(folder: &Path, command: &str, wait: Duration) -> Result<(Lock, EmbeddedVault), DriveCareError> {
    embedded::vault_id(folder)?;
    let lock = Lock::acquire(&embedded::lock_path(folder), command, Mode::Exclusive, wait)?;
    Ok((lock, EmbeddedVault::open(folder, true)?))
}

/// The drive in use that is called `which`: by its label, or the beginning of its id.
fn find(vault: &EmbeddedVault, which: &str) -> Result<DriveStatus, DriveCareError> {
    let drives = vault.read().drives();
    let mut fit: Vec<_> = drives.iter().filter(|d| d.label == which && d.state != DriveState::Retired).collect();
    if fit.is_empty() && which.len() >= ID_DIGITS_MIN {
        fit = drives.iter().filter(|d| d.drive.to_string().starts_with(which)).collect();
    }
    match fit[..] {
        [one] => Ok(one.clone()),
        _ => Err(DriveCareError::NoSuch { which: which.to_owned(), found: fit.len() }),
    }
}

/// Names a drive anew, on the cards of all drives. The drive as it is called then.
///
/// # Errors
/// [`DriveCareError`].
pub fn rename(folder: &Path, which: &str, names: &Names, wait: Duration) -> Result<DriveStatus, DriveCareError> {
    let (_lock, vault) = open(folder, "lavatube vault drive label", wait)?;
    let drive = find(&vault, which)?;
    Ok(rename_in(&vault, drive, names)?)
}

/// Names a drive of an open vault anew. The drive as it is called then.
///
/// # Errors
/// [`CardError`].
pub(crate) fn rename_in(vault: &EmbeddedVault, drive: DriveStatus, names: &Names) -> Result<DriveStatus, CardError> {
    let or = |new: &Option<String>, old: String| new.clone().unwrap_or(old);
    let card = SlotCard {
        drive: drive.drive,
        label: or(&names.label, drive.label),
        shelf: or(&names.shelf, drive.shelf),
        maker: or(&names.maker, drive.maker),
        model: or(&names.model, drive.model),
        retired: false,
    };
    vault.write().rename_drive(drive.slot, card)?;
    Ok(vault.read().drives().swap_remove(drive.slot))
}

/// Writes what is on a drive to others, and retires it when nothing is left there, while `go_on` says so. Cut anywhere, it is done again.
///
/// # Errors
/// [`DriveCareError`]; objects that cannot be moved are no error.
pub fn retire(
    folder: &Path,
    which: &str,
    meter: &Meter,
    go_on: &dyn Fn() -> bool,
    wait: Duration,
) -> Result<(DriveStatus, Retired), DriveCareError> {
    let (_lock, vault) = open(folder, "lavatube vault drive retire", wait)?;
    let drive = find(&vault, which)?;
    let slot = drive.slot;
    let mut inner = vault.write();
    inner.may_retire(slot)?;
    let ids = inner.objects_on(slot);
    let lens: Vec<u64> = ids.iter().map(|id| inner.find(*id).map_or(0, |o| o.len)).collect();
    meter.files_total.set(ids.len() as u64);
    meter.bytes_total.set(lens.iter().sum());
    let mut out = Retired { objects: ids.len() as u64, ..Retired::default() };
    for (id, len) in ids.iter().zip(lens) {
        if !go_on() {
            break;
        }
        if let Err(e) = inner.move_off(*id, slot) {
            out.beyond.push((*id, e));
        }
        meter.files.add(1);
        meter.bytes.add(len);
    }
    out.left = inner.objects_on(slot).len() as u64;
    out.moved = out.objects.saturating_sub(out.left);
    if out.left == 0 && go_on() {
        inner.retire(slot)?;
        out.done = true;
    }
    Ok((drive, out))
}

/// Adds a drive. Its status.
///
/// # Errors
/// [`DriveCareError`]; cut or failed anywhere, it is done again with the same folder.
pub fn add(folder: &Path, spec: &DriveSpec, wait: Duration) -> Result<DriveStatus, DriveCareError> {
    let (_lock, vault) = open(folder, "lavatube vault drive add", wait)?;
    add_to(folder, &vault, spec)
}

/// Adds a drive to the open vault in `folder`, which is opened anew afterwards. Its status.
///
/// # Errors
/// As [`add`].
pub(crate) fn add_to(folder: &Path, vault: &EmbeddedVault, spec: &DriveSpec) -> Result<DriveStatus, DriveCareError> {
    let path = places::at(folder, &spec.folder);
    let shown = || path.display().to_string();
    if places::bucket(&path).is_none() {
        make_folders(&path, COMMON).map_err(|e| DriveCareError::Folder(shown(), DriveError::Io(e.to_string())))?;
    }
    let listed = embedded::position_of(folder, &path)?;
    if listed.is_some_and(|at| vault.report().drives.iter().any(|d| d.position == Some(at))) {
        return Err(DriveCareError::Listed(shown()));
    }
    let card = spec.card(DriveId(entropy::bytes().map_err(VaultError::from)?));
    let open_it = places::open(&path, Access::Write);
    let (drive, _) = open_it.map_err(|text| DriveCareError::Folder(shown(), DriveError::Io(text)))?;
    let prepared = vault.write().prepare_drive(&*drive, card)?;
    if listed.is_none() {
        embedded::list_drive(folder, &spec.folder)?;
    }
    let slot = vault.write().add_drive(prepared, drive)?;
    Ok(vault.read().drives().swap_remove(slot))
}

/// So many digits of an id are asked for at least.
const ID_DIGITS_MIN: usize = 4;
