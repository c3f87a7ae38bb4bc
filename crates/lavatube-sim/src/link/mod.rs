//! The link between the machine and its vault, where the vault is far: both ends on the real engine, in virtual time.
//!
//! In such a world (`link = 1` in its plan) backups go to the spool, and between them the spool crosses. Either end may die
//! at any change of anything on its disks, or at any moment between. Steps 7 to 13 and 17 of the walk.
//!
//! What is due at one time is done in the order of ids, and those of manifests are random: two lives of a seed are alike, but
//! not to the letter. There is no diode here, nor anybody who reads over the link: the link's own tests have the one.
//!
//! | file | is |
//! |---|---|
//! | `weather`, `blows` | what the link is like, and what strikes: from the seed |
//! | `sky` | true time, the ends' clocks, channels, addresses |
//! | `disk` | counters, stored blocks, symbols: what outlives an end, and what does not |
//! | `driver`, `near`, `far` | the ends, composed as `lavatube-node` composes them |
//! | `crossing` | the loop |

mod blows;
pub mod crossing;
mod disk;
mod driver;
mod far;
mod near;
mod sky;
mod weather;

pub use far::Opener;
