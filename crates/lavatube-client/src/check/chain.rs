//! Depositors' chains of manifests: numbered from 1, each naming the one before. A gap or a fork is how a vault that hides
//! or rolls back sessions is found out (promise P4).

use lavatube_base::{DepositorId, ObjectId};

use crate::vaulted::Vaulted;

/// A break in a depositor's chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// Manifests are missing.
    #[error("depositor {}: manifests {first} to {last} are missing", .depositor.short())]
    Missing {
        /// Whose.
        depositor: DepositorId,
        /// First number that is missing.
        first: u64,
        /// Last number that is missing.
        last: u64,
    },
    /// Two manifests have one number.
    #[error("depositor {}: two manifests have number {sequence}, {} and {}", .depositor.short(), .ids.0.short(), .ids.1.short())]
    Fork {
        /// Whose.
        depositor: DepositorId,
        /// The number.
        sequence: u64,
        /// Both.
        ids: (ObjectId, ObjectId),
    },
    /// A manifest does not name the one before it.
    #[error("depositor {}: manifest {sequence} does not follow the one with number {}", .depositor.short(), .sequence - 1)]
    Unlinked {
        /// Whose.
        depositor: DepositorId,
        /// Number of the later one.
        sequence: u64,
    },
}

/// The faults in the chains of `all`, which are in order of depositor and sequence number. Manifests after the last known
/// one cannot be missed here: the depositor's own state knows the end of its chain.
pub fn chain_faults(all: &[Vaulted]) -> Vec<ChainFault> {
    let mut out = Vec::new();
    let mut before: Option<&Vaulted> = None;
    for vaulted in all {
        let m = &vaulted.manifest;
        let (depositor, sequence) = (m.depositor, m.sequence);
        let last = before.filter(|b| b.manifest.depositor == depositor);
        let number = last.map_or(0, |b| b.manifest.sequence);
        match last {
            Some(b) if number == sequence => {
                out.push(ChainFault::Fork { depositor, sequence, ids: (b.id, vaulted.id) });
            }
            _ if number + 1 < sequence => {
                out.push(ChainFault::Missing { depositor, first: number + 1, last: sequence - 1 });
            }
            Some(b) if m.previous != Some(b.id) => out.push(ChainFault::Unlinked { depositor, sequence }),
            _ => {}
        }
        before = Some(vaulted);
    }
    out
}
