//! Drives of an embedded vault are named anew, added and retired.
//!
//! What a drive is called is on the drives' cards; where its folder is stands in `vault.toml`, and both change in an order that can be cut anywhere:
//! a new drive is prepared, then listed, then taken in. Step 18 of the walk. It must not know what is on a card.

use std::path::Path;
use std::time::Duration;

use lavatube_base::{DriveId, ObjectId};
use lavatube_client::meter::Meter;
use lavatube_format::drive_card::SlotCard;
use lavatube_vault::{CardError, DriveError, DriveState, DriveStatus, MendError};

use crate::atomic::{COMMON, make_folders};
use crate::directory_drive::DirectoryDrive;
use crate::embedded::{self, DriveSpec, EmbeddedVault, VaultError};
use crate::entropy;
use crate::lock::{Lock, LockError, Mode};

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

/// Opens the vault in `folder` to change it.
fn open(folder: &Path, command: &str, wait: Duration) -> Result<(Lock, EmbeddedVault), DriveCareError> {
    embedded::vault_id(folder)?;
    let lock = Lock::acquire(&embedded::lock_path(folder), command, Mode::Exclusive, wait)?;
    Ok((lock, EmbeddedVault::open(folder, true)?))
}

/// The drive in use that is called `which`: by its label, or the beginning of its id.
fn find(vault: &EmbeddedVault, which: &str) -> Result<DriveStatus, DriveCareError> {
    let drives = vault.read().status().drives;
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
    let status = vault.read().status();
    Ok(status.drives[drive.slot].clone())
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
    let path = folder.join(&spec.folder);
    let shown = || path.display().to_string();
    make_folders(&path, COMMON).map_err(|e| DriveCareError::Folder(shown(), DriveError::Io(e.to_string())))?;
    let listed = embedded::position_of(folder, &path)?;
    if listed.is_some_and(|at| vault.report().drives.iter().any(|d| d.position == Some(at))) {
        return Err(DriveCareError::Listed(shown()));
    }
    let open_it = || DirectoryDrive::open(&path).map_err(|e| DriveCareError::Folder(shown(), e));
    let card = spec.card(DriveId(entropy::bytes().map_err(VaultError::from)?));
    let drive = open_it()?;
    let prepared = vault.write().prepare_drive(&drive, card)?;
    if listed.is_none() {
        embedded::list_drive(folder, &spec.folder)?;
    }
    let slot = vault.write().add_drive(prepared, Box::new(drive))?;
    let status = vault.read().status();
    Ok(status.drives[slot].clone())
}

/// So many digits of an id are asked for at least.
const ID_DIGITS_MIN: usize = 4;
