//! One file per verb: its options, what it calls, what it prints. None of them knows another but `init`, which `backup`
//! uses on a fresh machine.

pub mod audit;
pub mod backup;
pub mod cat;
pub mod check;
pub mod completions;
pub mod forget;
pub mod help;
pub mod init;
pub mod key;
pub mod link;
pub mod log;
pub mod ls;
pub mod node;
pub mod pair;
pub mod ping;
pub mod plan;
pub mod prove;
pub mod rehearse;
pub mod release;
pub mod restore;
pub mod seed;
pub mod snapshots;
mod spot;
pub mod status;
pub mod vault;
pub mod verify;
pub mod version;
mod witness;
