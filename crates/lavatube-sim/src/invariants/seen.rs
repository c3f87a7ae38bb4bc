//! Files seen = stored + listed as skipped.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_client::restore::Outcome;
use lavatube_format::snapshot::Snapshot;

use super::{Verdict, show};
use crate::seams::sink::Restored;
use crate::seams::source::Log;

/// Every name that was listed is restored, or was told to be skipped, or is said to be lost.
///
/// # Errors
/// The first name of which nothing is known.
pub fn accounted(
    all: &BTreeMap<Vec<u8>, Restored>,
    log: &Log,
    stripped: &[u8],
    snapshot: &Snapshot,
    outcome: &Outcome,
) -> Verdict {
    if snapshot.totals.skipped != snapshot.skipped.len() as u64 {
        return Err(format!("{} entries were skipped, {} are listed", snapshot.totals.skipped, snapshot.skipped.len()));
    }
    let told = outcome.failed.iter().chain(&outcome.kept).map(|f| &f.path[..]);
    let told: BTreeSet<&[u8]> = told.chain(snapshot.skipped.iter().map(|s| &s.path[..])).collect();
    // What is in a stretch of the tree that cannot be read, nobody can tell.
    if !outcome.lost.is_empty() || outcome.stopped.is_some() {
        return Ok(());
    }
    for path in &log.seen {
        let inside = path.strip_prefix(stripped).unwrap_or_default();
        if !all.contains_key(inside) && !told.contains(&path[..]) {
            let looked = log.looked.get(path).map(|l| l.found);
            return Err(format!("{} was seen, and is neither stored nor listed as skipped: {looked:?}", show(path)));
        }
    }
    let totals = &snapshot.totals;
    let count = totals.files + totals.directories + totals.others;
    if outcome.is_whole() && count != all.len() as u64 {
        return Err(format!("the snapshot counts {count} entries and has {}", all.len()));
    }
    Ok(())
}
