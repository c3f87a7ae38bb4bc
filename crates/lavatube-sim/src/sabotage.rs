//! Planted bugs: ways in which a simulated seam breaks its contract.
//!
//! They exist to show that the simulator sees: each must be found within a few hundred seeds, or the invariants are
//! blind. No code outside the simulator knows of them. They must not be drawn by a seed: only a test plants one.

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Drives say that they have synced, and have not.
    DrivesForgetSyncs,
    /// Drives answer reads of some files with what the file was before.
    DrivesReadStale,
    /// The spool says that it has synced, and has not.
    SpoolForgets,
    /// The state says that a file is committed, and it is not.
    StateForgetsCommits,
    /// The file system does not stamp some changes.
    ChangesLeaveNoStamp,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DrivesForgetSyncs,
        Self::DrivesReadStale,
        Self::SpoolForgets,
        Self::StateForgetsCommits,
        Self::ChangesLeaveNoStamp,
    ];
}
