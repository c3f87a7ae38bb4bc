//! Floor 1: what a vault of drives that die loses in years, and what is left of it.
//!
//! It exists because a vault that nobody visits is planned once: how many drives, which code, how full, how often scrubbed. What is
//! asked for is the expected share of the data that is lost by some year (normalised magnitude of data loss, Greenan et al. 2010), not a mean time
//! to data loss, which says nothing about how much. Drives, shelves and makers die by chance from a seed ([`outlook`](mod@outlook)); what a stripe loses when
//! some drives are gone and not yet made good is arithmetic ([`stripe`]), so that what happens once in 10^20 years needs no 10^20
//! years of chance. It must not know files, packs, keys or real drives. No step of the walk.

pub mod outlook;
pub mod search;
pub mod stripe;

mod drives;
mod terms;

pub use drives::Ages;
pub use outlook::{Milestone, Outlook, outlook};
pub use search::{Candidate, cheapest};
pub use stripe::Code;
pub use terms::{Batch, Repair, Terms, TermsError};
