//! This process as the kernel sees it: what every command sets once at its start, and the host's name.
//!
//! It exists so that no library function changes process-wide state behind a caller's back. It must not know what the
//! command does. No step of the walk.

use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, setrlimit, umask};

/// Readies the process; called once, first thing in `main`, before there are threads.
///
/// - The umask becomes 077: what we create is for its owner only until a mode is set on purpose. Restored files get
///   their own mode by `fchmod`, which no umask touches.
/// - The limit of open files is raised as far as the system allows: a restore keeps one descriptor per open directory, a
///   drive one per staged file.
pub fn prepare_process() {
    umask(Mode::RWXG | Mode::RWXO);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Not being allowed more only means that we get along with less.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// The host's name as it calls itself.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether this process acts as root: it may give files away and make devices.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
