//! What was let go of stays gone; and once nothing strikes, nothing of it is left. That nothing else is gone, the restores tell.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_format::shard::{SHARDS, parse_shard_name};
use lavatube_vault::{Drive, Standing, Vault};

use super::Verdict;
use crate::book::Book;
use crate::seams::drive::SimDrive;

/// No object that the vault had let go of is there again.
///
/// # Errors
/// The first that is.
pub fn stays_gone(vault: &Vault, book: &Book) -> Verdict {
    for id in book.freed().into_iter().filter(|id| vault.is_released(*id)) {
        book.is_gone(id);
    }
    match book.gone().into_iter().find(|id| vault.contains(*id)) {
        Some(id) => Err(format!("object {} was let go of, and is there again", id.short())),
        None => Ok(()),
    }
}

/// No release is under way any more, and no shard is left of what was let go of.
///
/// # Errors
/// What is.
pub fn settled(vault: &Vault, drives: &[SimDrive]) -> Verdict {
    let mut freed: BTreeSet<ObjectId> = BTreeSet::new();
    for open in vault.open_releases() {
        match open.standing {
            Some(Standing::Void) => {}
            other => return Err(format!("release {} is not done: {other:?}", open.number)),
        }
    }
    for (slot, drive) in drives.iter().enumerate() {
        let mut names = |name: &str| freed.extend(parse_shard_name(name).map(|(id, _)| id));
        drive.quietly().list(SHARDS, &mut names).map_err(|e| e.to_string())?;
        if let Some(id) = freed.iter().find(|id| vault.is_released(**id)) {
            return Err(format!("drive {slot} has a shard of object {}, which was let go of", id.short()));
        }
    }
    Ok(())
}
