//! `DirectorySource`: the files of this computer as a [`Source`]. Step 1 of the walk.
//!
//! Written for few system calls, because a backup that finds nothing new is made of little else: one `fstatat` per
//! entry, and `open`, `getdents` and `close` per directory. A file that is read costs `llistxattr`, `open`, `fstat`,
//! `pread` and `close` more. It must not know what becomes of the bytes.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lavatube_client::source::{Found, FoundKind, Names, Source, SourceError, Xattrs};
use lavatube_format::tree::Extent;
use rustix::fs::{Advice, Mode, OFlags, RawDir, SeekFrom, fadvise, fstat, openat, readlinkat_raw, seek, statat};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::attributes;
use crate::descend::{LOOK, found, open_parent, proc_path};
use crate::words::{plain, words};

/// The files below a root directory; usually `/`.
#[derive(Debug)]
pub struct DirectorySource {
    root: OwnedFd,
    has_proc: bool,
}

/// An open directory of a [`DirectorySource`].
#[derive(Debug)]
pub struct SourceDir {
    fd: OwnedFd,
    /// Only to be passed through: opened without the right to list it.
    path_only: bool,
    /// Listed before, so that the next listing must start anew.
    listed: AtomicBool,
}

/// An open file of a [`DirectorySource`].
#[derive(Debug)]
pub struct SourceFile(OwnedFd);

impl DirectorySource {
    /// The whole computer: paths are absolute, without the leading slash.
    ///
    /// # Errors
    /// When `/` cannot be opened.
    pub fn new() -> Result<Self, SourceError> {
        Self::below(Path::new("/"))
    }

    /// The files below `root`: paths are relative to it.
    ///
    /// # Errors
    /// When `root` cannot be opened or is no directory.
    pub fn below(root: &Path) -> Result<Self, SourceError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| SourceError::Io(words(e)))?;
        let has_proc = statat(rustix::fs::CWD, proc_path(root.as_fd(), b"").as_slice(), LOOK).is_ok();
        Ok(Self { root, has_proc })
    }
}

/// Makes `path` fit for [`Source::enter`]: absolute, without its leading slash, and with every directory on the way being
/// a real one. The last component stays as it is: asked for a link, a link is what is saved; but with a slash (or `/.`)
/// behind it, it is followed, as everywhere.
///
/// # Errors
/// When a directory on the way does not exist or cannot be entered.
pub fn resolve(path: &Path) -> Result<Vec<u8>, SourceError> {
    let fail = |e: std::io::Error| SourceError::Io(plain(&e.to_string()));
    let bytes = path.as_os_str().as_bytes();
    let follow = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
    let whole = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !follow => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            std::fs::canonicalize(parent).map_err(fail)?.join(name)
        }
        // That, or `/`, `.`, `..` or something that ends in `..`.
        _ => std::fs::canonicalize(path).map_err(fail)?,
    };
    let mut bytes = whole.into_os_string().into_vec();
    bytes.remove(0);
    Ok(bytes)
}

impl Source for DirectorySource {
    type Dir = SourceDir;
    type File = SourceFile;

    fn enter(&self, path: &[u8]) -> Result<(SourceDir, Vec<u8>), SourceError> {
        let (fd, last) = open_parent(&self.root, path).map_err(|(e, reached)| match e {
            Errno::NOTDIR | Errno::LOOP => {
                let at = path[..reached].escape_ascii();
                SourceError::Io(format!("/{at} is not a directory (or a link to one: name the place it leads to)"))
            }
            e => SourceError::Io(format!("/{}: {}", path[..reached].escape_ascii(), words(e))),
        })?;
        Ok((SourceDir { fd, path_only: true, listed: AtomicBool::new(false) }, last))
    }

    fn open_dir(&self, dir: &SourceDir, name: &[u8]) -> Result<SourceDir, SourceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = open_unnoticed(&dir.fd, name, flags).map_err(blame)?;
        Ok(SourceDir { fd, path_only: false, listed: AtomicBool::new(false) })
    }

    fn names(&self, dir: &SourceDir) -> Result<Names, SourceError> {
        if dir.path_only {
            return self.names(&self.open_dir(dir, b".")?);
        }
        if dir.listed.swap(true, Ordering::Relaxed) {
            seek(&dir.fd, SeekFrom::Start(0)).map_err(blame)?;
        }
        let mut names = Names::default();
        let mut buf = Vec::with_capacity(GETDENTS_LEN);
        let mut entries = RawDir::new(&dir.fd, buf.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => names.push(name),
                },
                Err(Errno::INTR) => {}
                Err(e) => return Err(blame(e)),
            }
        }
        Ok(names)
    }

    fn look(&self, dir: &SourceDir, name: &[u8]) -> Result<Found, SourceError> {
        sort_out(&statat(&dir.fd, name, LOOK).map_err(blame)?)
    }

    fn target(&self, dir: &SourceDir, name: &[u8]) -> Result<Vec<u8>, SourceError> {
        // A link's target is shorter than PATH_MAX.
        let mut buf = [std::mem::MaybeUninit::<u8>::uninit(); 4096];
        let (target, _) = readlinkat_raw(&dir.fd, name, &mut buf).map_err(|e| match e {
            Errno::INVAL => SourceError::Changed,
            e => blame(e),
        })?;
        Ok(target.to_vec())
    }

    fn xattrs(&self, dir: &SourceDir, name: &[u8], kind: FoundKind) -> Result<Xattrs, SourceError> {
        attributes::read(&dir.fd, name, kind, self.has_proc).map_err(|(e, attribute)| match blame(e) {
            SourceError::Io(text) if attribute.is_empty() => {
                SourceError::Io(format!("its extended attributes cannot be listed: {text}"))
            }
            SourceError::Io(text) => {
                SourceError::Io(format!("its attribute {} cannot be read: {text}", attribute.escape_ascii()))
            }
            other => other,
        })
    }

    fn open(&self, dir: &SourceDir, name: &[u8]) -> Result<(SourceFile, Found), SourceError> {
        // NONBLOCK: a fifo that took the file's place must not hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = open_leased(&dir.fd, name, flags).map_err(|e| match e {
            Errno::NXIO | Errno::NODEV => SourceError::Changed,
            e => blame(e),
        })?;
        let found = sort_out(&fstat(&fd).map_err(blame)?)?;
        if found.kind != FoundKind::File {
            return Err(SourceError::Changed);
        }
        if found.size >= SEQUENTIAL_LEN_MIN {
            // Only a hint: twice the usual read-ahead.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok((SourceFile(fd), found))
    }

    fn look_again(&self, file: &SourceFile) -> Result<Found, SourceError> {
        sort_out(&fstat(&file.0).map_err(blame)?)
    }

    fn extents(&self, file: &SourceFile, size: u64) -> Result<Option<Vec<Extent>>, SourceError> {
        let mut extents = Vec::new();
        let mut end = 0;
        while end < size {
            let at = match seek(&file.0, SeekFrom::Data(end)) {
                Ok(at) => at,
                // No data from here on.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
                Err(e) => return Err(blame(e)),
            };
            if at >= size {
                break;
            }
            end = match seek(&file.0, SeekFrom::Hole(at)) {
                Ok(hole) => hole.min(size),
                // Cut shorter meanwhile.
                Err(Errno::NXIO) => break,
                Err(e) => return Err(blame(e)),
            };
            // A file system that does not move on would keep us here for ever.
            if end <= at {
                return Ok(None);
            }
            extents.push(Extent { at, len: end - at });
        }
        Ok(Some(extents))
    }

    fn read_at(&self, file: &SourceFile, offset: u64, buf: &mut [u8]) -> Result<usize, SourceError> {
        retry_on_intr(|| pread(&file.0, &mut *buf, offset)).map_err(blame)
    }
}

/// Opens without leaving an access time behind, where that is permitted: our own files, or as root.
fn open_unnoticed(dir: impl AsFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// As [`open_unnoticed`]; a file that is leased out (to a Samba client, say) is waited for: the first try has asked its
/// holder to give it back.
fn open_leased(dir: impl AsFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    for _ in 0..LEASE_TRIES {
        match open_unnoticed(&dir, name, flags) {
            Err(Errno::AGAIN) => std::thread::sleep(LEASE_PAUSE),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn sort_out(st: &rustix::fs::Stat) -> Result<Found, SourceError> {
    found(st).ok_or_else(|| SourceError::Io("of a kind that cannot be saved".into()))
}

fn blame(e: Errno) -> SourceError {
    match e {
        Errno::NOENT | Errno::STALE => SourceError::Vanished,
        Errno::LOOP | Errno::NOTDIR => SourceError::Changed,
        e => SourceError::Io(words(e)),
    }
}

/// Buffer of one `getdents` call: some thousand names.
const GETDENTS_LEN: usize = 64 << 10;
/// From this size on it pays to tell the kernel that a file is read from front to back.
const SEQUENTIAL_LEN_MIN: u64 = 4 << 20;
/// How often and how long a leased file is waited for: the kernel takes it from its holder after 45 s.
const LEASE_TRIES: u32 = 500;
const LEASE_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
