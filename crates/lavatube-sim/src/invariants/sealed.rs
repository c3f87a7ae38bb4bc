//! The deposit key and all bytes of the vault open nothing: content, session secrets and read keys are nowhere in clear.
//!
//! What is put on a drive or into the spool is searched as it passes.

use super::Verdict;
use crate::wires::Wires;

/// No secret was seen where it must not be.
///
/// # Errors
/// The first that was.
pub fn nothing_in_clear(wires: &Wires) -> Verdict {
    wires.leaks().into_iter().next().map_or(Ok(()), Err)
}
