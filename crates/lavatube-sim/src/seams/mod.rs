//! The five seams, simulated. Each keeps the contract its trait states and nothing more: whatever the contract leaves
//! open, the seed decides. They must not know rounds, invariants or each other.

pub mod desk;
pub mod drive;
pub mod far;
pub mod outlet;
pub mod sink;
pub mod source;
pub mod spool;
pub mod state;
pub mod tree;
