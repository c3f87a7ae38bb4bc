//! Floor 2: carries opaque blocks between two nodes over a link that is slow, lossy, far and often down.
//!
//! It must not know what is in a block, nor sockets, files, clocks, entropy. Steps 8 to 12 of the walk.

pub mod code;
mod contact;
pub mod guard;
pub mod pacer;

pub use contact::{Contact, ContactPlan, PlanError};
pub use guard::Key;
