//! Floor 3: files, threads, clocks and entropy of a real computer.
//!
//! The only room that touches them: it implements the seams of the rooms below (`Source`, `Sink`, `Spool`, `State`,
//! `Drive`) on directories and pumps their machines. It must not know any protocol rule or byte layout.

pub mod atomic;
pub mod clock;
pub mod directory_drive;
pub mod directory_sink;
pub mod directory_source;
pub mod entropy;
pub mod keys_io;
pub mod lock;
pub mod process;

mod attributes;
mod descend;
mod words;
