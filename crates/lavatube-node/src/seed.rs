//! Seeding: what waits for a far vault travels there on a disk, with the drives before launch or by ship; afterwards only
//! what is new crosses the link.
//!
//! The disk gets copies: the spool lets go of an object when its receipt comes over the link, as ever, so that a disk that
//! never arrives loses nothing. Until then objects on a disk are not sent. On the disk objects lie as in a spool. It
//! must not know what objects hold. Steps 7 and 17 of the walk, the long way round.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_base::limits::{CARD_LEN_MAX, OBJECT_LEN_MAX};
use lavatube_base::{ObjectId, Verified};
use lavatube_client::cards::CARDS;
use lavatube_client::courier::CourierError;
use lavatube_client::meter::Meter;
use lavatube_client::spool::{Spool, SpoolError};
use lavatube_client::state::{State, StateError, read_all, write_all};
use lavatube_format::shard::ObjectKind;
use lavatube_vault::DepositError;

use crate::atomic::{COMMON, make_folders};
use crate::depositor::{DepositorError, Places, open_state, spool_folder, state_folder};
use crate::directory_spool::DirectorySpool;
use crate::embedded::{self, EmbeddedVault};
use crate::link_folder;
use crate::lock::{Lock, Mode};

/// Folder on the disk.
const SEED: &str = "lavatube-seed";
/// Ids of objects that travel, one after the other, in the state.
const TRAVELLING: &str = "travelling";

/// What came of an export or an import.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seeded {
    /// Objects that were copied, or stored.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were on the disk, or in the vault, already.
    pub known: u64,
    /// Objects that did not find room on the disk.
    pub left: u64,
    /// Objects that could not be copied or stored, and why.
    pub failed: Vec<(ObjectId, String)>,
}

/// Objects that travel on a disk.
///
/// # Errors
/// When the state cannot be read.
pub fn travelling(state: &dyn State) -> Result<BTreeSet<ObjectId>, StateError> {
    let bytes = read_all(state, TRAVELLING, u64::MAX)?.unwrap_or_default();
    Ok(bytes.as_chunks::<{ ObjectId::LEN }>().0.iter().map(|id| ObjectId(*id)).collect())
}

fn keep_travelling(state: &dyn State, ids: &BTreeSet<ObjectId>) -> Result<(), StateError> {
    write_all(state, TRAVELLING, &ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>())
}

/// Forgets that objects travel: they are sent over the link. Returns how many did.
///
/// # Errors
/// When the state fails, or another command works with it.
pub fn forget(places: &Places, wait: Duration) -> Result<u64, DepositorError> {
    let folder = state_folder(places, link_folder::vault_id(&places.vault)?);
    let state = open_state(&folder)?;
    // Whoever exports keeps the list as it was when it began.
    let _lock = Lock::acquire(&folder.join("lock"), "lavatube seed forget", Mode::Exclusive, wait)?;
    let ids = travelling(&state)?;
    keep_travelling(&state, &BTreeSet::new())?;
    Ok(ids.len() as u64)
}

/// Copies what waits for the far vault of `places`, and does not travel yet, to a disk at `disk`, as far as there is room.
///
/// # Errors
/// [`DepositorError`] when disk or state fail, or another command works with the state.
pub fn export(places: &Places, disk: &Path, wait: Duration, meter: &Meter) -> Result<Seeded, DepositorError> {
    let vault = link_folder::vault_id(&places.vault)?;
    let folder = state_folder(places, vault);
    let state = open_state(&folder)?;
    let _lock = Lock::acquire(&folder.join("lock"), "lavatube seed export", Mode::Exclusive, wait)?;
    let place = disk.join(SEED).join(vault.to_string());
    let io = |source: io::Error| DepositorError::Io { path: place.clone(), source };
    make_folders(&place.join("cards"), COMMON).map_err(io)?;
    for name in state.list(CARDS).map_err(StateError::on(CARDS))? {
        let card = read_all(&state, &name, CARD_LEN_MAX as u64)?.unwrap_or_default();
        fs::write(place.join("cards").join(Verified::hash(&card).id().to_string()), &card).map_err(io)?;
    }
    let mut out = Seeded::default();
    let Some(spool) = DirectorySpool::beside(&spool_folder(&folder)).map_err(CourierError::from)? else {
        return Ok(out);
    };
    let mut copies = DirectorySpool::open(&place).map_err(CourierError::from)?;
    let mut travels = travelling(&state)?;
    let all = spool.list().map_err(CourierError::from)?;
    meter.files_total.set(all.len() as u64);
    let mut staged = 0;
    for (at, (kind, id)) in all.iter().enumerate() {
        meter.files.add(1);
        if travels.contains(id) {
            out.known += 1;
            continue;
        }
        let bytes = match spool.get(*kind, *id) {
            Ok(bytes) => bytes,
            Err(e) => {
                out.failed.push((*id, e.to_string()));
                continue;
            }
        };
        let Some(object) = Verified::check(&bytes, *id) else {
            out.failed.push((*id, "it is not what it was".into()));
            continue;
        };
        match copies.put(*kind, object) {
            Err(SpoolError::Full) => {
                out.left = (all.len() - at) as u64;
                break;
            }
            other => other.map_err(CourierError::from)?,
        }
        staged += bytes.len();
        out.objects += 1;
        out.bytes += bytes.len() as u64;
        meter.bytes.add(bytes.len() as u64);
        travels.insert(*id);
        if staged >= SYNC_EVERY {
            staged = 0;
            copies.sync().map_err(CourierError::from)?;
            keep_travelling(&state, &travels)?;
        }
    }
    // They travel once they are durable on the disk, not before.
    copies.sync().map_err(CourierError::from)?;
    keep_travelling(&state, &travels)?;
    Ok(out)
}

/// Stores what a disk at `disk` brought for the vault in `folder`. The disk is left as it is.
///
/// # Errors
/// [`DepositorError`] when the vault is in use or cannot be opened, or the disk has nothing for it.
pub fn import(folder: &Path, disk: &Path, wait: Duration, meter: &Meter) -> Result<Seeded, DepositorError> {
    let id = embedded::vault_id(folder)?;
    let place = disk.join(SEED).join(id.to_string());
    let io = |source: io::Error| DepositorError::Io { path: place.clone(), source };
    let _lock = Lock::acquire(&embedded::lock_path(folder), "lavatube seed import", Mode::Exclusive, wait)?;
    let vault = EmbeddedVault::open(folder, true)?;
    let mut out = Seeded::default();
    let mut take = |kind: ObjectKind, id: ObjectId, bytes: io::Result<Vec<u8>>| {
        meter.files.add(1);
        let stored = bytes.map_err(|e| e.to_string()).and_then(|bytes| {
            let object = Verified::check(&bytes, id).ok_or("its bytes on the disk are not what they were")?;
            store(&vault, kind, object).map_err(|e| e.to_string()).map(|()| bytes.len() as u64)
        });
        match stored {
            Ok(len) => {
                out.objects += 1;
                out.bytes += len;
                meter.bytes.add(len);
            }
            Err(why) => out.failed.push((id, why)),
        }
    };
    for entry in fs::read_dir(place.join("cards")).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) {
            take(ObjectKind::DepositorCard, id, read_bounded(&path, CARD_LEN_MAX));
        }
    }
    let spool = DirectorySpool::beside(&place).map_err(CourierError::from)?;
    let objects = spool.as_ref().map_or(Ok(Vec::new()), Spool::list).map_err(CourierError::from)?;
    meter.files_total.set(objects.len() as u64);
    let mut known = 0;
    // Packs and tags come before manifests: a spool lists them so.
    for (kind, id) in objects {
        if vault.read().contains(id) {
            known += 1;
            meter.files.add(1);
            continue;
        }
        let bytes = spool.as_ref().map(|spool| spool.get(kind, id)).transpose();
        let bytes = bytes.map(Option::unwrap_or_default).map_err(|e| io::Error::other(e.to_string()));
        take(kind.object_kind(), id, bytes);
    }
    out.known = known;
    Ok(out)
}

fn store(vault: &EmbeddedVault, kind: ObjectKind, object: Verified<'_>) -> Result<(), DepositError> {
    let mut vault = vault.write();
    match kind {
        ObjectKind::Pack | ObjectKind::Tags => vault.store(kind, object).map(drop).map_err(DepositError::from),
        ObjectKind::Manifest => vault.deposit_manifest(object.bytes()).map(drop),
        ObjectKind::DepositorCard => vault.deposit_card(object.bytes()).map(drop),
        ObjectKind::Release => vault.deposit_release(object.bytes()).map(drop),
        ObjectKind::Remnant => Err(DepositError::OwnMaking),
    }
}

fn read_bounded(path: &PathBuf, max: usize) -> io::Result<Vec<u8>> {
    if path.metadata()?.len() > max.min(OBJECT_LEN_MAX) as u64 {
        return Err(io::Error::other("it is longer than it may be"));
    }
    fs::read(path)
}

/// Bytes on a disk that are made durable at a time.
const SYNC_EVERY: usize = 256 << 20;
