//! Faults in depositors' chains of manifests. A manifest that a later one follows, or that the vault signed for, and that is
//! not there is how a vault that hides or rolls back sessions is found out (promise P4). A chain with several ends has
//! lost nothing.

use std::collections::BTreeSet;

use lavatube_base::{DepositorId, ObjectId};

use crate::vaulted::Sessions;

/// What is wrong with a depositor's chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A manifest is missing that another one follows.
    #[error("depositor {}: manifest {}, which manifest {sequence} follows, is missing with its snapshots, and perhaps others before it", .depositor.short(), .id.short())]
    Missing {
        /// Whose.
        depositor: DepositorId,
        /// Number of the one that follows it.
        sequence: u64,
        /// The missing one.
        id: ObjectId,
    },
    /// The vault signed for a manifest and does not list it.
    #[error("depositor {}: the vault signed for manifest {sequence} ({}) and does not have it: it was put back to an older state, hides it, or lacks the drives that know of it", .depositor.short(), .id.short())]
    Withdrawn {
        /// Whose.
        depositor: DepositorId,
        /// Its number.
        sequence: u64,
        /// The missing one.
        id: ObjectId,
    },
    /// A manifest is missing that another one follows; this machine signed it, and the vault never took it.
    #[error("depositor {}: manifest {sequence} ({}) never came to the vault: it waited on this machine, and is gone from there with what was in it", .depositor.short(), .id.short())]
    Unsent {
        /// Whose.
        depositor: DepositorId,
        /// Its number.
        sequence: u64,
        /// The missing one.
        id: ObjectId,
    },
    /// The chain has several ends.
    #[error("depositor {}: the chain of manifests has {} ends ({}): two machines or states use one deposit key, an older state was put back, or a backup could not read what came before it. All of them are there; the next backup joins them. If none of that is so, someone else has the key", .depositor.short(), .ends.len(), in_words(.ends))]
    Forked {
        /// Whose.
        depositor: DepositorId,
        /// Number and id of each, ascending.
        ends: Vec<(u64, ObjectId)>,
    },
}

impl ChainFault {
    /// Whether something the vault has had is not there any more. What nobody can tell counts as had: a vault gets
    /// manifests in the order of the chain.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Withdrawn { .. })
    }
}

fn in_words(ends: &[(u64, ObjectId)]) -> String {
    let words: Vec<String> = ends.iter().map(|(sequence, id)| format!("{sequence} {}", id.short())).collect();
    words.join(", ")
}

/// The faults in the chains of all depositors. What is listed and not believed is not missing: it is told elsewhere.
pub fn chain_faults(sessions: &Sessions<'_>) -> Vec<ChainFault> {
    let (all, unlisted) = (sessions.all(), sessions.unlisted());
    let there: BTreeSet<ObjectId> =
        all.iter().map(|v| v.id).chain(sessions.refused().iter().map(|refused| refused.id)).collect();
    let mut out = Vec::new();
    let mut followed = BTreeSet::new();
    for vaulted in all {
        let m = &vaulted.manifest;
        let (depositor, sequence) = (m.depositor, m.sequence);
        for id in m.follows() {
            // Several may follow one.
            if !followed.insert(id) || there.contains(&id) {
                continue;
            }
            match unlisted.get(&id) {
                Some(known) if known.receipted => {}
                Some(known) => out.push(ChainFault::Unsent { depositor, sequence: known.sequence, id }),
                None => out.push(ChainFault::Missing { depositor, sequence, id }),
            }
        }
    }
    out.extend(unlisted.iter().filter(|(_, known)| known.receipted).map(|(id, known)| ChainFault::Withdrawn {
        depositor: known.depositor,
        sequence: known.sequence,
        id: *id,
    }));
    for one in all.chunk_by(|a, b| a.manifest.depositor == b.manifest.depositor) {
        let ends = one.iter().filter(|v| !followed.contains(&v.id));
        let ends: Vec<_> = ends.map(|v| (v.manifest.sequence, v.id)).collect();
        let depositor = one[0].manifest.depositor;
        // Where some are missing, ends say no more than that.
        let whole = !out.iter().any(|f| f.depositor() == depositor) && sessions.refused().is_empty();
        if ends.len() > 1 && whole {
            out.push(ChainFault::Forked { depositor, ends });
        }
    }
    out
}

impl ChainFault {
    fn depositor(&self) -> DepositorId {
        match self {
            Self::Missing { depositor, .. }
            | Self::Withdrawn { depositor, .. }
            | Self::Unsent { depositor, .. }
            | Self::Forked { depositor, .. } => *depositor,
        }
    }
}
