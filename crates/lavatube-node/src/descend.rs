//! Reaching entries by name in open directories, never through a symbolic link.
//!
//! Both ends of the walk (steps 1 and 21) share it: a path is opened component by component, so that it may be longer
//! than PATH_MAX and a directory that is swapped for a link meanwhile leads nowhere. It must not know whether files are
//! read or written.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use lavatube_base::time::WallTime;
use lavatube_client::source::{Found, FoundKind};
use lavatube_format::tree::path_is_sound;
use lavatube_format::tree_cache::Stamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2};
use rustix::io::Errno;

/// Flags to pass through a directory: nothing is read, so search permission is enough.
pub(crate) const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags to look at an entry itself.
pub(crate) const LOOK: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);
/// Below this length (the kernel's limit is 4096) a path is tried in one call.
const ONE_CALL_MAX: usize = 4000;

/// Opens the directory that holds the last component of `path` below `root`, and returns it with that component; for the
/// empty path `root` itself and `.`. On failure also says how many bytes of `path` were reached.
pub(crate) fn open_parent(root: impl AsFd, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), (Errno, usize)> {
    if !path_is_sound(path) {
        return Err((Errno::INVAL, 0));
    }
    let (parents, last) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    let last = if last.is_empty() { b"." } else { last };
    if parents.is_empty() {
        let fd = openat(root, c".", PASS, Mode::empty()).map_err(|e| (e, 0))?;
        return Ok((fd, last.to_vec()));
    }
    if parents.len() < ONE_CALL_MAX {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        if let Ok(fd) = openat2(&root, parents, PASS, Mode::empty(), beneath) {
            return Ok((fd, last.to_vec()));
        }
    }
    // Too long, an old kernel, or an error that wants to know where: step by step.
    let mut at = 0;
    let mut dir: Option<OwnedFd> = None;
    for component in parents.split(|b| *b == b'/') {
        at += component.len();
        let from = dir.as_ref().map_or_else(|| root.as_fd(), AsFd::as_fd);
        dir = Some(openat(from, component, PASS, Mode::empty()).map_err(|e| (e, at))?);
        at += 1;
    }
    dir.map(|d| (d, last.to_vec())).ok_or((Errno::INVAL, 0))
}

/// A path to `name` in `dir` for the calls that know no directory descriptors. It leads through /proc, so `dir` may be of
/// any depth.
pub(crate) fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(32 + name.len());
    path.extend_from_slice(b"/proc/self/fd/");
    path.extend_from_slice(dir.as_raw_fd().to_string().as_bytes());
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// What a `stat` says, or `None` for a kind of entry no tree can hold.
pub(crate) fn found(st: &Stat) -> Option<Found> {
    let device = || (u64::from(rustix::fs::major(st.st_rdev)), u64::from(rustix::fs::minor(st.st_rdev)));
    let kind = match FileType::from_raw_mode(st.st_mode) {
        FileType::RegularFile => FoundKind::File,
        FileType::Directory => FoundKind::Directory,
        FileType::Symlink => FoundKind::Symlink,
        FileType::Fifo => FoundKind::Fifo,
        FileType::Socket => FoundKind::Socket,
        FileType::CharacterDevice => FoundKind::CharDevice(device().0, device().1),
        FileType::BlockDevice => FoundKind::BlockDevice(device().0, device().1),
        FileType::Unknown => return None,
    };
    let wall = |s: i64, ns| WallTime { s, ns: u32::try_from(ns).unwrap_or_default() };
    Some(Found {
        kind,
        size: u64::try_from(st.st_size).unwrap_or_default(),
        allocated: u64::try_from(st.st_blocks).unwrap_or_default().saturating_mul(512),
        mode: st.st_mode & 0o7777,
        uid: st.st_uid,
        gid: st.st_gid,
        mtime: wall(st.st_mtime, st.st_mtime_nsec),
        links: wide(st.st_nlink),
        stamp: Stamp { ctime: wall(st.st_ctime, st.st_ctime_nsec), inode: st.st_ino, device: st.st_dev },
    })
}

/// A number whose width differs between machines.
fn wide(n: impl Into<u64>) -> u64 {
    n.into()
}
