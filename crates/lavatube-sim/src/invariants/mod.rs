//! What must hold, one checker a file. Each says in a sentence what is wrong, and none mends anything.
//!
//! | file | holds |
//! |---|---|
//! | `exact` | what a restore wrote is what was read, entry by entry; whatever is not there was said to be missing |
//! | `seen` | every name that was listed is stored or told to be skipped, and nothing else is stored |
//! | `visible` | a snapshot that was reported is there; one that is there is whole |
//! | `receipted` | an object with a receipt is in the vault and reads back, and the receipt verifies |
//! | `growing` | no run of a depositor or a repair removes or changes an intact shard of a receipted object |
//! | `sealed` | no secret and no content is in clear on a drive or in the spool |
//! | `numbered` | no pack number has two contents, no session two notes |
//! | `carried` | no counter twice, no block but as it was sent, nothing acknowledged that is not stored, no forgery believed |
//! | (in `link/errands`) | what is read over a link is exact or told not to be there, and comes home once nothing strikes; what was sent one way with a margin is there, and nothing of it leaves the spool |
//! | `released` | what was let go of stays gone, and in the end nothing of it is left on any drive |
//! | `proved` | a vault that can be read passes its audit, and a wrong bit in an answer does not |
//! | `calm` | once nothing strikes any more, a backup succeeds and everything becomes whole |

pub mod calm;
pub mod carried;
pub mod exact;
pub mod growing;
pub mod numbered;
pub mod proved;
pub mod receipted;
pub mod released;
pub mod sealed;
pub mod seen;
pub mod visible;

/// All is well, or what is not.
pub type Verdict = Result<(), String>;

/// A path for people.
fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}
