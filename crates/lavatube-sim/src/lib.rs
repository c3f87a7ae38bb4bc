//! Floor 4: the real client and vault in one thread, one seed and virtual time.
mod book;
pub mod chance;
mod depositor;
mod reader;
mod sabotage;
mod seams;
mod wires;
pub use sabotage::Sabotage;
