//! Floor 1: one direction of a link that does not exist: rate and queue, light time, contacts, and everything that may befall a
//! packet on its way; and links that people know, as presets.
//!
//! It exists because rehearsals, the emulator, the simulator and the link's own tests shall suffer the same weather. All is
//! drawn from one seed, and time is handed in. It must not know what is in a packet, nor who sends it. No step of the walk.

mod channel;
mod passes;
mod preset;
mod way;

pub use channel::{Channel, Tally};
pub use lavatube_base::Chance;
pub use passes::Passes;
pub use preset::{PRESETS, Preset, preset};
pub use way::{Swing, Way};
