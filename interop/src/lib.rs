//! Other people's implementations, made usable for tests: a node of Hardy in this process, programs on this machine, and
//! tshark as a reader of what crossed.
//!
//! It must not know what is tested. What is not installed is said aloud by [`skip`], and never passes for tested.

use std::io::Write;

pub mod dtnd;
pub mod hardy;
pub mod ours;
pub mod wire;

/// A line nobody overlooks: something was not tested, and what to do about it.
pub fn skip(what: &str, why: &str) {
    // Not `eprintln!`: that one is caught by the test that calls, and shown only when it fails.
    let _ = writeln!(std::io::stderr(), "\n!!!! SKIPPED: {what}\n!!!!          {why}\n");
}
