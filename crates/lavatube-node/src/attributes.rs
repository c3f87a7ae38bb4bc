//! Extended attributes of entries: ACLs, capabilities, SELinux labels and users' own.
//!
//! The calls take paths or open files but no directory descriptors (before Linux 6.13), so an entry is named through
//! /proc/self/fd: one call tells that it has none. Shared by both ends of the walk (steps 1 and 21); it must not know
//! whether a backup or a restore runs.

use std::os::fd::{AsFd, OwnedFd};

use lavatube_client::source::{FoundKind, Xattrs};
use rustix::fs::{
    Mode, OFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, lgetxattr, llistxattr, lremovexattr, lsetxattr, openat,
};
use rustix::io::{Errno, Result};

use crate::descend::proc_path;
use crate::words::words;

/// The ACL new entries of a directory inherit.
pub(crate) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// The ACL of an entry.
pub(crate) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";

/// Most lists of names are shorter than this.
const LIST_LEN_USUAL: usize = 512;
/// The kernel's limits of a list of names and of a value are both 64 KiB; some file systems allow more.
const LEN_FIRST: usize = 64 << 10;
const LEN_MAX: usize = 1 << 20;

/// Where attributes are read from.
enum Place {
    /// By path, through /proc.
    Path(Vec<u8>),
    /// An open file: where /proc is missing.
    Open(OwnedFd),
}

impl Place {
    fn list(&self, out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Path(path) => llistxattr(path.as_slice(), out),
            Self::Open(fd) => flistxattr(fd, out),
        }
    }

    fn value(&self, name: &[u8], out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Path(path) => lgetxattr(path.as_slice(), name, out),
            Self::Open(fd) => fgetxattr(fd, name, out),
        }
    }
}

/// The attributes of `name` in `dir` that a restore can give back, by ascending name.
///
/// # Errors
/// What the system said, with the attribute's name when it was one of them.
pub(crate) fn read(
    dir: impl AsFd,
    name: &[u8],
    kind: FoundKind,
    has_proc: bool,
) -> std::result::Result<Xattrs, (Errno, Vec<u8>)> {
    let place = if has_proc {
        Place::Path(proc_path(dir.as_fd(), name))
    } else if matches!(kind, FoundKind::File | FoundKind::Directory) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Place::Open(openat(dir, name, flags, Mode::empty()).map_err(|e| (e, Vec::new()))?)
    } else {
        return Ok(Vec::new());
    };
    let mut usual = [0; LIST_LEN_USUAL];
    let list = match place.list(&mut usual) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Ok(n) => usual[..n].to_vec(),
        Err(Errno::RANGE) => grow(|buf| place.list(buf)).map_err(|e| (e, Vec::new()))?,
        Err(e) => return Err((e, Vec::new())),
    };
    let mut out = Vec::new();
    for name in list.split(|b| *b == 0).filter(|n| is_kept(n)) {
        match grow(|buf| place.value(name, buf)) {
            Ok(value) => out.push((name.to_vec(), value)),
            // Removed meanwhile, or of a kind that is listed and cannot be had.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(Errno::PERM | Errno::ACCESS) if name.starts_with(b"trusted.") => {}
            Err(e) => return Err((e, name.to_vec())),
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// Gives the open file or directory `fd` its attributes; what cannot be set becomes a warning.
pub(crate) fn set(fd: impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)], warnings: &mut Vec<String>) {
    for (name, value) in xattrs {
        if let Err(e) = fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()) {
            warnings.push(warning(name, e));
        }
    }
}

/// Takes an ACL off that `at` in `dir` inherited.
pub(crate) fn drop_acl(dir: impl AsFd, at: &[u8]) -> Result<()> {
    match lremovexattr(proc_path(dir.as_fd(), at).as_slice(), ACL_ACCESS) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// As [`set`], for an entry that is not opened: a link, fifo, socket or device.
pub(crate) fn set_by_name(dir: impl AsFd, at: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)], warnings: &mut Vec<String>) {
    if xattrs.is_empty() {
        return;
    }
    let path = proc_path(dir.as_fd(), at);
    for (name, value) in xattrs {
        if let Err(e) = lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty()) {
            warnings.push(warning(name, e));
        }
    }
}

fn warning(name: &[u8], e: Errno) -> String {
    format!("attribute {} could not be set: {}", name.escape_ascii(), words(e))
}

/// Whether an attribute means the same on another file system. The rest (`system.nfs4_acl`, `btrfs.*`, …) belongs to one
/// kind of file system and is not ours to carry.
fn is_kept(name: &[u8]) -> bool {
    let spaces: [&[u8]; 3] = [b"user.", b"security.", b"trusted."];
    name == ACL_ACCESS || name == ACL_DEFAULT || spaces.iter().any(|s| name.starts_with(s))
}

/// Calls `read` with larger and larger buffers until it fits.
fn grow(mut read: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buf = vec![0; LEN_FIRST];
    loop {
        match read(&mut buf) {
            Ok(n) => {
                buf.truncate(n);
                buf.shrink_to_fit();
                return Ok(buf);
            }
            Err(Errno::RANGE | Errno::TOOBIG) if buf.len() < LEN_MAX => buf.resize(buf.len() * 4, 0),
            Err(e) => return Err(e),
        }
    }
}
