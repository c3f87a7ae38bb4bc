//! Repair of an embedded vault: drives that were emptied or whose small files are damaged are taken in again, and objects
//! that are not whole are mended on whatever drives there are.
//!
//! Repair only adds: nothing is removed that could still serve, and a mount point without its disk is not written to. Step 18 of the walk.
//! It must not know how an object is mended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lavatube_base::ObjectId;
use lavatube_client::meter::Meter;
use lavatube_vault::{Depth, Distrust, DriveState, MendError, MendReport, Trial};

use crate::atomic::{COMMON, make_folders};
use crate::drive_care::{Tried, try_drive};
use crate::embedded::{self, EmbeddedVault, VaultError};
use crate::places::{self, Access};

/// What repairing did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Labels of drives that were empty or damaged and were taken in again.
    pub readopted: Vec<String>,
    /// Drives that could not be taken in again, and why.
    pub not_readopted: Vec<(String, String)>,
    /// Drives in quarantine that were read wholly, and what that has shown; not those that are slow.
    pub tried: Vec<(String, Tried)>,
    /// Objects that were mended, and how.
    pub mended: Vec<(ObjectId, MendReport)>,
    /// Objects that cannot be mended, and why.
    pub beyond: Vec<(ObjectId, MendError)>,
    /// Entries of the log whose shards did not tell their place, and do now.
    pub placed: usize,
    /// Objects that were not looked at, because it was to end before.
    pub ahead: u64,
}

/// Makes the vault in `folder` whole again as far as its drives allow, while `go_on` says so. Drives that came back are read wholly before they are
/// written to again. With [`Depth::Headers`] damage inside of shards whose
/// headers are right is not noticed.
///
/// # Errors
/// [`VaultError`] when the folder's files fail.
pub fn repair(
    folder: &Path,
    vault: &EmbeddedVault,
    depth: Depth,
    meter: &Meter,
    go_on: &dyn Fn() -> bool,
) -> Result<Repaired, VaultError> {
    let mut out = Repaired::default();
    renew(folder, vault, Which::All, &mut out)?;
    let mut inner = vault.write();
    let on_trial = inner.on_trial();
    for drive in inner.drives().into_iter().filter(|drive| on_trial.contains(&drive.slot)) {
        let why = drive.distrust.filter(|why| *why != Distrust::Slow);
        let Some(trial) = why.and_then(|_| Trial::begin(&inner, drive.slot)).filter(|_| go_on()) else { continue };
        match try_drive(&mut inner, trial, why, &Meter::default(), go_on) {
            Ok(tried) => out.tried.push((drive.label, tried)),
            Err(e) => out.not_readopted.push((drive.label, e.to_string())),
        }
    }
    let objects = inner.by_need();
    meter.files_total.set(objects.len() as u64);
    for (at, object) in objects.iter().enumerate() {
        if !go_on() {
            out.ahead = (objects.len() - at) as u64;
            break;
        }
        let report = if depth == Depth::Bytes { inner.mend(object.id) } else { inner.refill(object.id) };
        match report {
            Ok(report) if report == MendReport::default() => {}
            Ok(report) => out.mended.push((object.id, report)),
            Err(e) => out.beyond.push((object.id, e)),
        }
        // What cannot be read was told just now.
        out.placed += usize::from(inner.mark_place(object.id).is_ok_and(|shards| shards > 0));
        meter.files.add(1);
        meter.bytes.add(object.len);
    }
    Ok(out)
}

/// Which drives are taken in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which<'s> {
    /// Those on which something of this vault can be read.
    Readable,
    /// Empty ones, too, and those whose folder is gone.
    All,
    /// Those on which something can be read, and of the others those in these slots, if there is a folder.
    Told(&'s BTreeSet<usize>),
}

/// Takes drives in again: their cards, READMEs and journals are written anew.
///
/// # Errors
/// As [`repair`].
pub(crate) fn renew(
    folder: &Path,
    vault: &EmbeddedVault,
    which: Which<'_>,
    out: &mut Repaired,
) -> Result<(), VaultError> {
    let (folders, unmounted) = (embedded::drive_folders(folder)?, embedded::unmounted(folder)?);
    let mut inner = vault.write();
    // A drive's card says which slot is its own: the folders may be listed in another order.
    let mut positions: Vec<Option<usize>> = vault.report().drives.iter().map(|d| d.position).collect();
    let is_wanted = |slot: usize| match which {
        Which::Readable => false,
        Which::All => true,
        Which::Told(slots) => slots.contains(&slot),
    };
    for drive in vault.report().drives.iter().cloned() {
        let slot = drive.slot;
        let new = match drive.state {
            DriveState::Present if drive.card_whole && drive.journal_current && drive.readme_whole => continue,
            // Readable, but one of its copies is not what it should be.
            DriveState::Present | DriveState::CardDamaged => Ok(None),
            DriveState::Blank | DriveState::Missing if is_wanted(slot) => {
                let free = |at: &usize| !positions.contains(&Some(*at));
                let at = positions[slot].or_else(|| Some(slot).filter(free)).or_else(|| (0..folders.len()).find(free));
                positions[slot] = at;
                let at = at.unwrap_or(folders.len());
                let makes = which == Which::All;
                open_slot(folders.get(at), unmounted.get(at).and_then(Option::as_deref), makes).map(Some)
            }
            _ => continue,
        };
        match new.and_then(|new| inner.readopt(slot, new).map_err(|e| e.to_string())) {
            Ok(()) if drive.state == DriveState::Present => {}
            Ok(()) => out.readopted.push(drive.label),
            Err(text) => out.not_readopted.push((drive.label, text)),
        }
    }
    let drives = inner.drives();
    let present = |at| drives.iter().any(|d| d.state == DriveState::Present && positions[d.slot] == Some(at));
    embedded::note_mounts(folder, present)
}

/// The drive at a slot's folder, which may be empty or gone. A mount point that is not mounted must not be written to: the
/// disk may hold all of its shards, and what is written in its place would hide and fill another disk.
fn open_slot(
    folder: Option<&PathBuf>,
    unmounted: Option<&Path>,
    makes: bool,
) -> Result<Box<dyn lavatube_vault::Drive>, String> {
    let folder = folder.ok_or("the vault file names no folder for it, or another drive is in it")?;
    if let Some(mount) = unmounted {
        return Err(format!(
            "no disk is mounted at {}: mount the drive's own or an empty one and repair again (to do without a disk \
             there from now on, first remove the drive's line under [mounts] in vault.toml)",
            mount.display()
        ));
    }
    if !folder.exists() && makes && places::bucket(folder).is_none() {
        make_folders(folder, COMMON).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    places::open(folder, Access::Write).map(|(drive, _)| drive)
}
