//! Once nothing strikes any more, everything becomes whole: every shard of every object on its drive, every journal and
//! card as it should be, every manifest in its chain.

use lavatube_base::DepositorId;
use lavatube_client::check::{ChainFault, Structure};
use lavatube_vault::{Depth, DriveState, OpenReport, Vault};

use super::Verdict;
use crate::reader::Repaired;

/// The repair left nothing to be desired.
///
/// # Errors
/// What it left.
pub fn repaired(repaired: &Repaired) -> Verdict {
    if let Some(refused) = repaired.refused.first() {
        return Err(format!("a drive was not taken in again: {refused}"));
    }
    if let Some((id, e)) = repaired.beyond.first() {
        return Err(format!("object {} cannot be mended: {e}", id.short()));
    }
    if repaired.overlooked > 0 {
        return Err(format!("a scrub called {} objects whole that were not", repaired.overlooked));
    }
    if repaired.left > 0 { Err(format!("{} shards were left unmended", repaired.left)) } else { Ok(()) }
}

/// All drives are in order and every shard is good.
///
/// # Errors
/// The first that is not.
pub fn whole(vault: &Vault, report: &OpenReport) -> Verdict {
    for drive in &report.drives {
        if drive.state != DriveState::Present || !drive.card_whole || !drive.journal_current {
            return Err(format!("a drive is not in order: {drive:?}"));
        }
    }
    for object in vault.objects() {
        let health = vault.examine(object.id, Depth::Bytes).map_err(|e| e.to_string())?;
        if let Some(shard) = health.shards.iter().find(|s| s.state != lavatube_vault::ShardState::Good) {
            return Err(format!("{:?} {} is not whole: {shard:?}", object.kind, object.id.short()));
        }
    }
    Ok(())
}

/// Manifests, packs and trees are sound. A backup joined whatever ends the chain of `own` had: of those whose key is gone,
/// nobody can, nor of those that their machine has forgotten.
///
/// # Errors
/// What is not.
pub fn sound(structure: &Structure, own: Option<DepositorId>) -> Verdict {
    let borne = |f: &&ChainFault| matches!(f, ChainFault::Forked { depositor, .. } if Some(*depositor) != own);
    if let Some(fault) = structure.chain.iter().find(|f| !borne(f)) {
        return Err(format!("the chain of manifests is not as it should be: {fault}"));
    }
    if let Some(refused) = structure.refused.first() {
        return Err(format!("manifest {} is not believed: {}", refused.id.short(), refused.reason));
    }
    if let Some((id, e)) = structure.unreadable.first() {
        return Err(format!("snapshot {} cannot be read: {e}", id.short()));
    }
    if structure.bad.is_empty() { Ok(()) } else { Err(format!("chunks or packs are bad: {:?}", structure.bad)) }
}
