//! A reported snapshot is there and whole after any crash; and there is no snapshot that is only partly there.

use lavatube_client::browse::Listing;
use lavatube_client::restore::Outcome;

use super::Verdict;
use crate::world::Reported;

/// Every reported snapshot that has not been lost with its machine is listed, and nothing stands in the way of listing.
///
/// # Errors
/// Which is not.
pub fn listed(listing: &Listing, reported: &[Reported]) -> Verdict {
    if let Some((place, e)) = listing.unreadable.first() {
        return Err(format!("snapshot {} is listed and its record cannot be read: {e}", place.id.short()));
    }
    if let Some(refused) = listing.refused.first() {
        return Err(format!("manifest {} is not believed: {}", refused.id.short(), refused.reason));
    }
    for r in reported.iter().filter(|r| r.is_due) {
        if !listing.snapshots.iter().any(|l| l.place.id == r.id) {
            return Err(format!("snapshot {} was reported ({:?}) and is not there", r.id.short(), r.promise));
        }
    }
    Ok(())
}

/// A restore gave everything.
///
/// # Errors
/// The first thing it did not give.
pub fn whole(outcome: &Outcome) -> Verdict {
    if let Some(failed) = outcome.failed.iter().chain(&outcome.kept).next() {
        return Err(format!("{:?} was not restored: {}", String::from_utf8_lossy(&failed.path), failed.reason));
    }
    if let Some(lost) = outcome.lost.first() {
        return Err(format!("a part of the tree was not restored: {lost:?}"));
    }
    match &outcome.stopped {
        Some(why) => Err(format!("the restore stopped: {}", why.reason)),
        None => Ok(()),
    }
}
