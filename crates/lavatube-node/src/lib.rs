//! Floor 3: files, threads, clocks and entropy of a real computer.
//!
//! The only room that touches them: it implements the seams of the rooms below (`Source`, `Sink`, `Spool`, `State`,
//! `Drive`) on directories and pumps their machines. It must not know any protocol rule or byte layout.

pub mod agent;
pub mod atomic;
pub mod checks;
pub mod clock;
pub mod depositor;
pub mod directory_drive;
pub mod directory_sink;
pub mod directory_source;
pub mod directory_spool;
pub mod directory_state;
pub mod driver;
pub mod embedded;
pub mod entropy;
pub mod far_end;
pub mod holding;
pub mod keyring;
pub mod keys_io;
pub mod link_folder;
pub mod lock;
pub mod near_end;
pub mod pipeline;
pub mod process;
pub mod read_ahead;
pub mod reader;
pub mod signals;
pub mod symbol_files;
pub mod tcpcl_port;
pub mod told;

mod attributes;
mod descend;
mod mounts;
mod outbox;
mod words;

/// How a link is, as its engine says.
pub mod status {
    pub use lavatube_link::{Line, Status};
}
