//! Signals that ask a daemon to end: noticed, and left to the daemon's loop.
//!
//! It exists so that a daemon ends between two steps, with its locks wiped and its last words said. A second signal, or any
//! that is not asked for here, ends the process at once, which costs nothing but those. No step of the walk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// From now on SIGINT and SIGTERM set what is returned; the second one ends the process.
///
/// # Errors
/// What the system says.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order counts: the first signal finds the flag not set yet.
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
