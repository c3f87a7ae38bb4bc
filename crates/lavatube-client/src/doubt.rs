//! Doubt: packs that a backup must not build on, because the vault does not have them any more.
//!
//! A backup asks nobody what the vault has: the catalog knows. But a vault may be put back to an older copy, a spool may be
//! lost with what waited in it, and a check may find more damage than parity covers. What was in such packs counts as never
//! sent, and sources are read again once. Readers do not ask for doubts: what is left of a pack may still serve. Step 3 of
//! the walk. It must not know what packs hold.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::{ObjectId, SessionId, Verified};
use lavatube_format::manifest::{Leaf, SignedManifest};

use crate::cache;
use crate::catalog::Catalog;
use crate::courier::{Courier, CourierError, Drained};
use crate::far::{Far, FarError};
use crate::ledger;
use crate::released::Released;
use crate::session::SessionError;
use crate::state::{State, StateError, read_all, write_all};
use crate::vaulted::{OBJECT_MAX, copies};

/// Ids of the doubtful objects, one after the other, in the state.
const DOUBTFUL: &str = "doubtful";

/// Objects that are lost as far as is known.
///
/// # Errors
/// When the state cannot be read.
pub fn doubtful(state: &dyn State) -> Result<BTreeSet<ObjectId>, StateError> {
    let bytes = read_all(state, DOUBTFUL, u64::MAX)?.unwrap_or_default();
    Ok(bytes.as_chunks::<{ ObjectId::LEN }>().0.iter().map(|id| ObjectId(*id)).collect())
}

/// Before a backup: finds out what this machine believes to be in the vault and is neither there nor waiting in the spool
/// that was `drained`, and makes `catalog` doubt it. A manifest that the vault lost and this machine has a copy of is
/// handed over again. Returns how many objects are doubted that were not before.
///
/// # Errors
/// When the vault cannot be asked or the state fails.
pub fn settle(
    state: &dyn State,
    far: &dyn Far,
    drained: &Drained,
    released: &Released,
    courier: &mut Courier<'_>,
    catalog: &mut Catalog<'_>,
) -> Result<usize, SessionError> {
    catalog.leave_out_freed(released);
    let known = doubtful(state)?;
    let mut doubts = known.clone();
    let is_gone = |id: ObjectId| Ok::<_, CourierError>(!drained.waiting.contains(&id) && !far.has(id)?);
    // Without its manifest a pack cannot be opened, and a session that lacks a pack never gets its manifest there.
    let damaged = catalog.packs().iter().filter(|row| drained.damaged.contains(&row.id));
    let mut sessions: BTreeSet<SessionId> = damaged.map(|row| row.session).collect();
    for (id, copied) in copies(state)? {
        if !known.contains(&id) && !is_gone(id)? {
            continue;
        }
        let copy = read_all(state, &copied.name, OBJECT_MAX)?.unwrap_or_default();
        let (Some(object), Ok(signed)) = (Verified::check(&copy, id), SignedManifest::decode(&copy)) else { continue };
        match courier.hand_back(object) {
            Ok(true) => {
                doubts.remove(&id);
            }
            // It is away, and may have it after all.
            Ok(false) => {}
            // It lost packs of that session too.
            Err(CourierError::Far(FarError::Refused { .. } | FarError::Lost { .. })) => {
                doubts.insert(id);
                sessions.insert(signed.manifest.session);
            }
            Err(e) => return Err(e.into()),
        }
    }
    for row in catalog.packs() {
        let may_be_gone = released.objects.contains(&row.id) || doubts.contains(&row.id);
        if !may_be_gone && (sessions.contains(&row.session) || is_gone(row.id)?) {
            doubts.insert(row.id);
        }
    }
    keep(state, &known, &doubts)?;
    doubt_in(catalog, &doubts);
    Ok(doubts.difference(&known).count())
}

/// Before a backup for a vault that cannot be asked: finds out which sessions of this machine neither wait in the spool
/// (`waiting`) nor are receipted or `listed` by the vault, because a spool was lost, and makes `catalog` doubt their packs.
/// A manifest whose packs were all receipted waits again. Returns how many objects are doubted that were not before.
///
/// # Errors
/// When the state fails, or the spool does not take a manifest.
pub fn account(
    state: &dyn State,
    waiting: &BTreeSet<ObjectId>,
    listed: &BTreeSet<ObjectId>,
    released: &Released,
    courier: &mut Courier<'_>,
    catalog: &mut Catalog<'_>,
) -> Result<usize, SessionError> {
    catalog.leave_out_freed(released);
    let known = doubtful(state)?;
    let mut doubts = known.clone();
    let sent: BTreeMap<_, _> = copies(state)?.into_iter().filter(|(_, copied)| copied.is_own()).collect();
    let receipts = ledger::receipted(state, &sent.keys().copied().collect())?;
    let mut open = Vec::new();
    for (id, copied) in sent {
        // The vault takes a manifest when it has all of its packs.
        if receipts.contains(&id) || listed.contains(&id) {
            continue;
        }
        let copy = read_all(state, &copied.name, OBJECT_MAX)?.unwrap_or_default();
        let signed = Verified::check(&copy, id).and_then(|_| SignedManifest::decode(&copy).ok());
        open.extend(signed.map(|signed| (id, copy, signed.manifest)));
    }
    let needs = open.iter().flat_map(|(.., manifest)| manifest.needs());
    let receipts = ledger::receipted(state, &needs.collect())?;
    for (id, copy, manifest) in open {
        let is_gone = |id: ObjectId| !waiting.contains(&id) && !receipts.contains(&id);
        if manifest.needs().any(is_gone) {
            doubts.insert(id);
            doubts.extend(manifest.leaves.iter().map(Leaf::id));
        } else if !waiting.contains(&id) {
            courier.deliver_manifest(Verified::hash(&copy))?;
        }
    }
    keep(state, &known, &doubts)?;
    doubt_in(catalog, &doubts);
    Ok(doubts.difference(&known).count())
}

fn doubt_in(catalog: &mut Catalog<'_>, doubts: &BTreeSet<ObjectId>) {
    let rows = (0..).zip(catalog.packs()).filter(|(_, row)| doubts.contains(&row.id)).map(|(n, _)| n).collect();
    catalog.doubt(rows);
}

/// After a check: `lost` objects are doubted from now on, and those that `is_there` again no more.
///
/// # Errors
/// When the state fails.
pub fn revise(
    state: &dyn State,
    lost: impl IntoIterator<Item = ObjectId>,
    is_there: impl Fn(ObjectId) -> bool,
) -> Result<(), StateError> {
    let known = doubtful(state)?;
    let mut doubts: BTreeSet<ObjectId> = known.iter().copied().filter(|id| !is_there(*id)).collect();
    doubts.extend(lost);
    keep(state, &known, &doubts)
}

fn keep(state: &dyn State, known: &BTreeSet<ObjectId>, doubts: &BTreeSet<ObjectId>) -> Result<(), StateError> {
    if doubts == known {
        return Ok(());
    }
    // First of all: trees and files that the caches call unchanged may lie in what is doubted now.
    if !doubts.is_subset(known) {
        cache::forget(state)?;
    }
    write_all(state, DOUBTFUL, &doubts.iter().flat_map(|id| id.0).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryState;

    #[test]
    fn doubts_come_and_go_and_take_the_tree_caches_with_them() {
        let state = MemoryState::default();
        let id = |n: u8| ObjectId([n; 32]);
        let cached = |is: bool| {
            let head = "trees/0123456789abcdef.head";
            assert_eq!(state.len(head).unwrap().is_some(), is);
            write_all(&state, head, b"x").unwrap();
        };
        cached(false);
        revise(&state, [id(1), id(2)], |_| false).unwrap();
        cached(false);
        revise(&state, [id(2)], |_| false).unwrap();
        cached(true);
        revise(&state, [], |there| there == id(1)).unwrap();
        cached(true);
        assert_eq!(doubtful(&state).unwrap(), BTreeSet::from([id(2)]));
    }
}
