//! Floor 2: trees to packs, and packs to trees.
//!
//! Straight lines: a snapshot and a restore run from top to bottom in plain synchronous code over the seams `Source`,
//! `Sink`, `Spool`, `State` and `Far`; `lavatube-node` gives them files and threads, `lavatube-sim` gives them virtual
//! ones. This room must not know drives, shards, segments or the terminal.

pub mod audit;
pub mod backup;
pub mod browse;
pub mod cache;
pub mod cards;
pub mod catalog;
pub mod chain;
pub mod check;
pub mod chunker;
pub mod clerk;
pub mod collect;
pub mod comparison;
pub mod courier;
pub mod delivery;
pub mod desk;
pub mod distant;
pub mod doubt;
pub mod evidence;
pub mod far;
pub mod fault;
pub mod fetch;
pub mod forget;
pub mod frame;
pub mod heads;
pub mod layers;
pub mod ledger;
pub mod log;
#[cfg(test)]
mod memory;
pub mod meter;
pub mod order;
pub mod packer;
pub mod rebuild;
pub mod receipts;
pub mod refs;
pub mod release;
pub mod released;
pub mod restore;
pub mod roll;
pub mod scan;
pub mod sent;
pub mod session;
pub mod sink;
pub mod source;
pub mod spool;
pub mod spot;
pub mod state;
pub mod survey;
pub mod tags;
pub mod tree_writer;
pub mod vaulted;
pub mod witness;
