//! The link between the machine and its vault, where the vault is far: both ends on the real engine, in virtual time.
//!
//! In such a world (`link = 1` in its plan) backups go to the spool, and between them the spool crosses. Either end may die
//! at any change of anything on its disks, or at any moment between. Steps 7 to 13 and 17 of the walk.
//!
//! Now and then somebody reads over it, and some links have no way back at all, or lose it for long.
//!
//! What is due at one time is done in the order of ids, and those of manifests are random: two lives of a seed are alike, but
//! not to the letter.
//!
//! | file | is |
//! |---|---|
//! | `weather`, `blows` | what the link is like, and what strikes: from the seed |
//! | `sky` | true time, the ends' clocks, channels, addresses |
//! | `disk` | counters, stored blocks, symbols: what outlives an end, and what does not |
//! | `driver`, `near`, `far` | the ends, composed as `lavatube-node` composes them |
//! | `reading` | whoever reads over the link |
//! | `crossing`, `errands` | the loop; what of it is reading, and links without a way back |

mod blows;
pub mod crossing;
mod disk;
mod driver;
mod errands;
mod far;
mod near;
mod reading;
mod sky;
mod weather;

pub use far::Opener;
pub use reading::{Reading, Side};
