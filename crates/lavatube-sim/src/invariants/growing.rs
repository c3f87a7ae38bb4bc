//! Packs only grow: nothing that serves a receipted object is removed or changed by a run.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_format::shard::parse_shard_name;

use super::Verdict;
use crate::seams::drive::SimDrive;

/// No intact shard of an object that had a receipt before the run was destroyed in it.
///
/// # Errors
/// The first that was.
pub fn nothing_destroyed(drives: &[SimDrive], receipted: &BTreeSet<ObjectId>) -> Verdict {
    for (slot, drive) in drives.iter().enumerate() {
        for name in std::mem::take(&mut drive.platter().destroyed) {
            if parse_shard_name(&name).is_some_and(|(object, _)| receipted.contains(&object)) {
                return Err(format!("drive {slot}: an intact shard of a receipted object was destroyed: {name}"));
            }
        }
    }
    Ok(())
}
