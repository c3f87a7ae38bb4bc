//! Floor 3: files, threads, clocks and entropy of a real computer.
//!
//! The only room that touches them: it implements the seams of the rooms below (`Source`, `Sink`, `Spool`, `State`,
//! `Drive`) on directories and pumps their machines. It must not know any protocol rule or byte layout.

pub mod agent;
pub mod atomic;
pub mod audits;
pub mod awake;
pub mod carrier;
pub mod checks;
pub mod clock;
pub mod depositor;
pub mod directory_desk;
pub mod directory_drive;
pub mod directory_sink;
pub mod directory_source;
pub mod directory_spool;
pub mod directory_state;
pub mod drive_care;
mod drive_spec;
pub mod driver;
pub mod dtn_link;
pub mod embedded;
pub mod entropy;
pub mod facts;
pub mod far_end;
pub mod far_vault;
pub mod forgetting;
pub mod from_afar;
pub mod holding;
pub mod http;
pub mod keyring;
pub mod keys_io;
pub mod link_folder;
pub mod lock;
pub mod ltp_port;
pub mod mandates;
pub mod near_end;
pub mod orders;
pub mod own_link;
pub mod pace;
pub mod pipeline;
pub mod places;
pub mod port;
pub mod process;
pub mod queue;
pub mod read_ahead;
pub mod reader;
pub mod rehearsal;
pub mod releasing;
pub mod repairing;
pub mod scrubbing;
pub mod seed;
pub mod signals;
pub mod stage;
pub mod symbol_files;
pub mod tcpcl_port;
pub mod told;
pub mod vault_log;
pub mod waybill;

mod attributes;
mod begun;
mod copies;
mod descend;
mod mounts;
mod sent;
mod wire;
pub mod witnesses;
mod words;
mod workshop;

/// How a link is, as its engine says.
pub mod status {
    pub use lavatube_link::{Contact, Line, Stage, Status};
}
