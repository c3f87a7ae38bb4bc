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
    /// An end of the link says that counters are reserved on its disk, and they are not yet.
    CountersAreReservedLate,
    /// An end of the link does not remember over a restart which datagrams came in.
    ReplaysCount,
    /// The far end accepts a block before what is in it is stored.
    FarEndAcceptsEarly,
    /// The near end's spool lets go when the link has delivered, without the vault's receipt.
    SpoolLetsGoUnreceipted,
    /// Symbols that came in are in memory only.
    SymbolsAreNotWritten,
    /// The desk believes pieces that were written before the power failed.
    OldPiecesAreBelieved,
    /// The desk does not show some errands to whoever turns the link.
    ErrandsAreForgotten,
    /// A release is signed although something waits on this machine, and says that nothing does.
    ReleasesAreSignedInDoubt,
    /// A release that crosses a link says that nothing is under way on the machine that signed it.
    ReleasesVouchFromAfar,
    /// Where no word comes back, an object is noted as sent when it is begun.
    SentIsNotedEarly,
    /// Where no word comes back, the spool lets go of what was sent.
    SpoolLetsGoWhenSent,
}

impl Sabotage {
    /// Those of the seams that every world has.
    pub const ALL: [Self; 5] = [
        Self::DrivesForgetSyncs,
        Self::DrivesReadStale,
        Self::SpoolForgets,
        Self::StateForgetsCommits,
        Self::ChangesLeaveNoStamp,
    ];

    /// Those of releases: each with the scenario that shows it.
    pub const OF_RELEASES: [(Self, &'static str); 2] =
        [(Self::ReleasesAreSignedInDoubt, "releases"), (Self::ReleasesVouchFromAfar, "releases_far")];

    /// Those of a link: for worlds that have one.
    pub const OF_LINK: [Self; 9] = [
        Self::CountersAreReservedLate,
        Self::ReplaysCount,
        Self::FarEndAcceptsEarly,
        Self::SpoolLetsGoUnreceipted,
        Self::SymbolsAreNotWritten,
        Self::OldPiecesAreBelieved,
        Self::ErrandsAreForgotten,
        Self::SentIsNotedEarly,
        Self::SpoolLetsGoWhenSent,
    ];
}
