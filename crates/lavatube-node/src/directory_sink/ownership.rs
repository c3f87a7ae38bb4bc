//! Giving restored entries their owner and times, and what to do when we may not. Part of step 21 of the walk.
//!
//! A restore by an ordinary user cannot give files away; it warns and goes on. It must not know which entry it serves.

use lavatube_client::sink::SinkError;
use lavatube_format::tree::Meta;
use rustix::fs::{Gid, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::blame;
use crate::words::words;

/// Owner and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Gives something to `owner` by means of `chown`, or at least its group. Says whether it is `owner`'s now; when it is
/// not, there is a warning.
pub(super) fn give(
    owner: Owner,
    chown: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    warnings: &mut Vec<String>,
) -> Result<bool, SinkError> {
    // The kernel takes -1 for "leave it".
    if owner.uid == u32::MAX || owner.gid == u32::MAX {
        warnings.push(format!("its owner {}:{} is none", owner.uid, owner.gid));
        return Ok(false);
    }
    let gid = Some(Gid::from_raw(owner.gid));
    match chown(Some(Uid::from_raw(owner.uid)), gid) {
        Ok(()) => Ok(true),
        Err(e) if is_right(e) => {
            let but = if chown(None, gid).is_ok() { " (its group was)" } else { "" };
            warnings.push(format!("its owner {}:{} could not be set{but}: {}", owner.uid, owner.gid, words(e)));
            Ok(false)
        }
        Err(e) => Err(blame(e)),
    }
}

/// Turns a lack of rights into a warning and passes anything else on.
pub(super) fn grant(result: rustix::io::Result<()>, what: &str, warnings: &mut Vec<String>) -> Result<(), SinkError> {
    match result {
        Err(e) if is_right(e) => {
            warnings.push(format!("{what}: {}", words(e)));
            Ok(())
        }
        other => other.map_err(blame),
    }
}

/// The modification time of `meta`; the time of last access stays.
pub(super) fn modification(meta: &Meta) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        // Above this the number would mean "now" or "leave it".
        last_modification: Timespec { tv_sec: meta.mtime.s, tv_nsec: meta.mtime.ns.min(999_999_999).into() },
    }
}

/// Whether an error says that we may not, or that the file system cannot, rather than that the medium failed.
fn is_right(e: Errno) -> bool {
    matches!(e, Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)
}
