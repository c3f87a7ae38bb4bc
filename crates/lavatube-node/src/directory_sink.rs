//! `DirectorySink`: a folder of this computer as a [`Sink`]. Step 21 of the walk.
//!
//! A restored file costs `openat`, one `pwrite`, `fchmod`, `utimensat` and `close`; owner, attributes and size only when
//! they differ from what a new file has anyway. Everything happens by name in open directories and never through a
//! symbolic link, so that a hostile tree cannot write outside the target. It must not know where bytes come from.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use lavatube_base::digest::h16;
use lavatube_base::hex;
use lavatube_client::sink::{Sink, SinkError};
use lavatube_client::source::Found;
use lavatube_format::tree::{Kind, Meta};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, chmodat, chownat, fchmod, fchown, fgetxattr, fremovexattr,
    fstat, ftruncate, futimens, linkat, mkdirat, mknodat, openat, readlinkat, renameat_with, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use rustix::process::geteuid;

use crate::attributes::{self, ACL_ACCESS, ACL_DEFAULT};
use crate::descend::{LOOK, PASS, found, open_parent, proc_path};
use crate::words::words;

mod mark;
mod ownership;
pub use mark::Mark;
use ownership::{Owner, grant, modification};

/// A folder to restore into.
#[derive(Debug)]
pub struct DirectorySink {
    root: Arc<SinkDir>,
}

/// An open directory of a [`DirectorySink`].
#[derive(Debug)]
pub struct SinkDir {
    fd: OwnedFd,
    /// Owner and group of what is made in it; `None` when that is not known and they are always set.
    gives: Option<Owner>,
    /// It has a default ACL, which what is made in it inherits and must lose again.
    bequeaths: bool,
}

/// A file being written by a [`DirectorySink`].
#[derive(Debug)]
pub struct SinkFile {
    fd: OwnedFd,
    /// Its name until it is whole.
    part: Option<Vec<u8>>,
    /// End of the last byte written.
    end: u64,
    owner: Option<Owner>,
    inherited: bool,
}

impl DirectorySink {
    /// The folder `target`, which exists; links on the way to it are followed, because a person gave it.
    ///
    /// # Errors
    /// When it cannot be opened or is no directory.
    pub fn open(target: &Path) -> Result<Self, SinkError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(target, flags, Mode::empty()).map_err(blame)?;
        // What a file made here belongs to depends on mount options and the folder's setgid bit: ask a nameless one.
        let probe = openat(&fd, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, PRIVATE);
        let gives = probe.and_then(fstat).ok().map(|st| Owner { uid: st.st_uid, gid: st.st_gid });
        let bequeaths = has_default_acl(&fd);
        Ok(Self { root: Arc::new(SinkDir { fd, gives, bequeaths }) })
    }
}

impl Sink for DirectorySink {
    type Dir = SinkDir;
    type File = SinkFile;

    fn root(&self) -> Arc<SinkDir> {
        Arc::clone(&self.root)
    }

    fn look(&self, dir: &SinkDir, name: &[u8]) -> Result<Option<Found>, SinkError> {
        match statat(&dir.fd, name, LOOK) {
            // What an interrupted restore left is nothing yet.
            Ok(st) if is_unfinished(&st) => Ok(None),
            Ok(st) => found(&st).map(Some).ok_or_else(|| SinkError::Io("something unknown is there".into())),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(blame(e)),
        }
    }

    fn make_dir(&self, dir: &SinkDir, name: &[u8]) -> Result<Arc<SinkDir>, SinkError> {
        match retry_on_intr(|| mkdirat(&dir.fd, name, Mode::RWXU)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return open_existing(dir, name).map(Arc::new);
            }
            Err(e) => return Err(blame(e)),
        }
        let fd = open_dir(dir, name).map_err(blame)?;
        if dir.bequeaths {
            // Before anything is made in it, so that nothing below inherits.
            disinherit(&fd, true)?;
        }
        Ok(Arc::new(SinkDir { fd, gives: dir.gives, bequeaths: false }))
    }

    fn create(&self, dir: &SinkDir, name: &[u8], whole: bool) -> Result<SinkFile, SinkError> {
        let (fd, part) = if whole {
            let fd = match create_new(dir, name) {
                Err(Errno::EXIST) if remove_unfinished(dir, name)? => create_new(dir, name),
                other => other,
            };
            (fd.map_err(blame)?, None)
        } else {
            // What has the name now stays until the new file is complete and verified: the client removes it right before
            // `finish_file`, which refuses a name that is taken.
            let (fd, part) = create_part(dir, name)?;
            (fd, Some(part))
        };
        Ok(SinkFile { fd, part, end: 0, owner: dir.gives, inherited: dir.bequeaths })
    }

    fn write_at(&self, file: &mut SinkFile, mut offset: u64, mut bytes: &[u8]) -> Result<(), SinkError> {
        while !bytes.is_empty() {
            match retry_on_intr(|| pwrite(&file.fd, bytes, offset)).map_err(blame)? {
                0 => return Err(SinkError::Io("the system writes nothing".into())),
                n => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
            }
        }
        file.end = file.end.max(offset);
        Ok(())
    }

    fn finish_file(
        &self,
        dir: &SinkDir,
        name: &[u8],
        file: SinkFile,
        size: u64,
        meta: &Meta,
    ) -> Result<Vec<String>, SinkError> {
        let mut warnings = Vec::new();
        if file.end != size {
            retry_on_intr(|| ftruncate(&file.fd, size)).map_err(blame)?;
        }
        if file.inherited {
            disinherit(&file.fd, false)?;
        }
        if let Some(part) = &file.part {
            // While it bears the mark: a cut after the mark is gone would leave a hidden file that nobody knows as ours.
            name_for_good(dir, part, name)?;
        }
        finish_open(&file.fd, file.owner, Some(UNFINISHED), meta, &mut warnings)?;
        Ok(warnings)
    }

    fn give_up(&self, dir: &SinkDir, name: &[u8], file: SinkFile) {
        // What stays is known by its mode, and taken away by the next restore.
        let _ = unlinkat(&dir.fd, file.part.as_deref().unwrap_or(name), AtFlags::empty());
    }

    fn make_special(&self, dir: &SinkDir, name: &[u8], kind: &Kind, meta: &Meta) -> Result<Vec<String>, SinkError> {
        let (what, device) = match kind {
            Kind::Symlink(target) => return make_link(dir, name, target, meta),
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::Socket => (FileType::Socket, 0),
            Kind::CharDevice { major, minor } => (FileType::CharacterDevice, device(*major, *minor)?),
            Kind::BlockDevice { major, minor } => (FileType::BlockDevice, device(*major, *minor)?),
            Kind::File(_) | Kind::Directory | Kind::Gone => {
                return Err(SinkError::Io("asked to make something special of what is not".into()));
            }
        };
        let make = || retry_on_intr(|| mknodat(&dir.fd, name, what, UNFINISHED, device));
        let made = match make() {
            Err(Errno::EXIST) if remove_unfinished(dir, name)? => make(),
            other => other,
        };
        match made {
            Err(Errno::PERM) => return Err(SinkError::Io("only root may make it".into())),
            other => other.map_err(blame)?,
        }
        let mut warnings = Vec::new();
        let kept = chown_by_name(dir, name, meta, &mut warnings)?;
        if dir.bequeaths {
            attributes::drop_acl(&dir.fd, name).map_err(blame)?;
        }
        attributes::set_by_name(&dir.fd, name, &meta.xattrs, &mut warnings);
        set_times_by_name(dir, name, meta, &mut warnings)?;
        // Last, because until then it marks what is unfinished. No call changes the mode by name without following a link
        // that may have taken the place meanwhile.
        let pin = openat(&dir.fd, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let mode = permitted(meta.mode, kept, &mut warnings);
        let set = pin.and_then(|fd| chmodat(CWD, proc_path(fd.as_fd(), b"").as_slice(), mode, AtFlags::empty()));
        grant(set, "its mode could not be set", &mut warnings)?;
        Ok(warnings)
    }

    fn hard_link(&self, first: &[u8], dir: &SinkDir, name: &[u8]) -> Result<(), SinkError> {
        let (parent, last) = open_parent(&self.root.fd, first).map_err(|(e, _)| blame(e))?;
        linkat(parent, last, &dir.fd, name, AtFlags::empty()).map_err(blame)
    }

    fn finish_dir(&self, dir: &SinkDir, meta: &Meta) -> Result<Vec<String>, SinkError> {
        let mut warnings = Vec::new();
        // A directory made in a setgid one is setgid itself, so its mode is not known.
        finish_open(&dir.fd, dir.gives, None, meta, &mut warnings)?;
        Ok(warnings)
    }

    fn remove(&self, dir: &SinkDir, name: &[u8]) -> Result<(), SinkError> {
        match unlinkat(&dir.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(blame(e)),
        }
    }

    fn read_existing(&self, dir: &SinkDir, name: &[u8], offset: u64, buf: &mut [u8]) -> Result<usize, SinkError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat(&dir.fd, name, flags, Mode::empty()).map_err(blame)?;
        retry_on_intr(|| pread(&fd, &mut *buf, offset)).map_err(blame)
    }
}

/// Owner, attributes, times and mode of something open, in the order in which none undoes another: giving a file away
/// clears its suid bit and its capabilities, an ACL changes its mode. The mode is last, because until then it marks what
/// is unfinished.
fn finish_open(
    fd: &OwnedFd,
    owner: Option<Owner>,
    mode: Option<Mode>,
    meta: &Meta,
    warnings: &mut Vec<String>,
) -> Result<(), SinkError> {
    let wanted = Owner { uid: meta.uid, gid: meta.gid };
    let kept = owner == Some(wanted) || ownership::give(wanted, |u, g| fchown(fd, u, g), warnings)?;
    attributes::set(fd, &meta.xattrs, warnings);
    grant(futimens(fd, &modification(meta)), "its time could not be set", warnings)?;
    let wanted = permitted(meta.mode, kept, warnings);
    if mode != Some(wanted) {
        grant(fchmod(fd, wanted), "its mode could not be set", warnings)?;
        if wanted.intersects(SPECIAL) && !geteuid().is_root() {
            // The kernel drops a setgid bit we may not set without a word.
            let st = fstat(fd).map_err(blame)?;
            if st.st_mode & 0o7777 != wanted.bits() {
                warnings.push("the system did not grant all of its suid, sgid and sticky bits".into());
            }
        }
    }
    Ok(())
}

/// The mode to set: without suid and sgid when the owner is not the one who granted them.
fn permitted(mode: u32, owner_kept: bool, warnings: &mut Vec<String>) -> Mode {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let risky = Mode::SUID | Mode::SGID;
    if owner_kept || !mode.intersects(risky) {
        return mode;
    }
    warnings.push("suid and sgid were left out, because it belongs to someone else now".into());
    mode - risky
}

/// A link has no mode to mark it as unfinished, and one without its time would be taken for somebody else's by the next
/// run: it gets its name last.
fn make_link(dir: &SinkDir, name: &[u8], target: &[u8], meta: &Meta) -> Result<Vec<String>, SinkError> {
    let part = &create_link_part(dir, name, target)?;
    let mut warnings = Vec::new();
    chown_by_name(dir, part, meta, &mut warnings)?;
    attributes::set_by_name(&dir.fd, part, &meta.xattrs, &mut warnings);
    set_times_by_name(dir, part, meta, &mut warnings)?;
    name_for_good(dir, part, name)?;
    Ok(warnings)
}

/// Creates the hidden link that becomes `name`, or takes the one that an interrupted restore left behind.
fn create_link_part(dir: &SinkDir, name: &[u8], target: &[u8]) -> Result<Cow<'static, [u8]>, SinkError> {
    for n in 0..PART_NAMES {
        let part = part_name(name, n);
        match retry_on_intr(|| symlinkat(target, &dir.fd, part.as_ref())) {
            Ok(()) => return Ok(part),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(blame(e)),
        }
        if readlinkat(&dir.fd, part.as_ref(), Vec::new()).is_ok_and(|there| there.as_bytes() == target) {
            return Ok(part);
        }
    }
    Err(SinkError::Io("no free name for an unfinished link".into()))
}

fn chown_by_name(dir: &SinkDir, name: &[u8], meta: &Meta, warnings: &mut Vec<String>) -> Result<bool, SinkError> {
    let wanted = Owner { uid: meta.uid, gid: meta.gid };
    if dir.gives == Some(wanted) {
        return Ok(true);
    }
    ownership::give(wanted, |u, g| chownat(&dir.fd, name, u, g, AtFlags::SYMLINK_NOFOLLOW), warnings)
}

fn set_times_by_name(dir: &SinkDir, name: &[u8], meta: &Meta, warnings: &mut Vec<String>) -> Result<(), SinkError> {
    let set = utimensat(&dir.fd, name, &modification(meta), AtFlags::SYMLINK_NOFOLLOW);
    grant(set, "its time could not be set", warnings)
}

fn device(major: u64, minor: u64) -> Result<u64, SinkError> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(rustix::fs::makedev(major, minor)),
        _ => Err(SinkError::Io(format!("this system has no device numbers like {major}:{minor}"))),
    }
}

fn open_dir(dir: &SinkDir, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&dir.fd, name, flags, Mode::empty())
}

/// Opens a directory that is there already, made writable when it is ours.
fn open_existing(dir: &SinkDir, name: &[u8]) -> Result<SinkDir, SinkError> {
    let not_one = |e| match e {
        Errno::LOOP | Errno::NOTDIR => SinkError::Exists,
        e => blame(e),
    };
    let euid = geteuid();
    if !euid.is_root() {
        let pin = openat(&dir.fd, name, PASS, Mode::empty()).map_err(not_one)?;
        let st: Stat = fstat(&pin).map_err(blame)?;
        if st.st_uid == euid.as_raw() && st.st_mode & 0o700 != 0o700 {
            let mode = Mode::from_raw_mode(st.st_mode & 0o7777) | Mode::RWXU;
            chmodat(CWD, proc_path(pin.as_fd(), b"").as_slice(), mode, AtFlags::empty()).map_err(blame)?;
        }
    }
    let fd = open_dir(dir, name).map_err(not_one)?;
    let bequeaths = has_default_acl(&fd);
    Ok(SinkDir { fd, gives: None, bequeaths })
}

fn create_new(dir: &SinkDir, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| openat(&dir.fd, name, flags, UNFINISHED))
}

/// Creates the hidden file that becomes `name`, in place of one that an interrupted restore left behind.
fn create_part(dir: &SinkDir, name: &[u8]) -> Result<(OwnedFd, Vec<u8>), SinkError> {
    for n in 0..PART_NAMES {
        let part = part_name(name, n);
        match create_new(dir, &part) {
            Ok(fd) => return Ok((fd, part.into_owned())),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(blame(e)),
        }
        // Only what looks exactly like ours is removed: a saved tree may hold such a name itself.
        let st = statat(&dir.fd, part.as_ref(), LOOK).map_err(blame)?;
        if is_unfinished(&st) {
            unlinkat(&dir.fd, part.as_ref(), AtFlags::empty()).map_err(blame)?;
            return Ok((create_new(dir, &part).map_err(blame)?, part.into_owned()));
        }
    }
    Err(SinkError::Io("no free name for an unfinished file".into()))
}

/// Whether this is a file, pipe, device or socket that was begun and never finished.
fn is_unfinished(st: &Stat) -> bool {
    let kind = FileType::from_raw_mode(st.st_mode);
    kind != FileType::Directory && kind != FileType::Symlink && st.st_mode & 0o7777 == UNFINISHED.bits()
}

/// Makes room where an interrupted restore left one of that very name unfinished; says whether it did.
fn remove_unfinished(dir: &SinkDir, name: &[u8]) -> Result<bool, SinkError> {
    let unfinished = is_unfinished(&statat(&dir.fd, name, LOOK).map_err(blame)?);
    if unfinished {
        unlinkat(&dir.fd, name, AtFlags::empty()).map_err(blame)?;
    }
    Ok(unfinished)
}

fn part_name(name: &[u8], n: u32) -> Cow<'static, [u8]> {
    let suffix = if n == 0 { ".lavatube-part".into() } else { format!(".lavatube-part{n}") };
    let mut part = vec![b'.'];
    if 1 + name.len() + suffix.len() <= NAME_LEN_MAX {
        part.extend_from_slice(name);
    } else {
        part.extend_from_slice(hex(&h16(&[name])).as_bytes());
    }
    part.extend_from_slice(suffix.as_bytes());
    part.into()
}

/// Gives a finished file its name, unless something took it meanwhile.
fn name_for_good(dir: &SinkDir, part: &[u8], name: &[u8]) -> Result<(), SinkError> {
    let rename = || renameat_with(&dir.fd, part, &dir.fd, name, RenameFlags::NOREPLACE);
    let named = match rename() {
        Err(Errno::EXIST) if remove_unfinished(dir, name)? => rename(),
        // A file system that cannot: a second name refuses to replace as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => linkat(&dir.fd, part, &dir.fd, name, AtFlags::empty())
            .and_then(|()| unlinkat(&dir.fd, part, AtFlags::empty())),
        other => other,
    };
    named.map_err(|e| {
        let _ = unlinkat(&dir.fd, part, AtFlags::empty());
        blame(e)
    })
}

fn has_default_acl(fd: impl AsFd) -> bool {
    let mut buf = [0u8; 64];
    !matches!(fgetxattr(fd, ACL_DEFAULT, &mut buf), Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Takes off the ACLs that the folder above has passed on.
fn disinherit(fd: &OwnedFd, is_dir: bool) -> Result<(), SinkError> {
    let names: &[&[u8]] = if is_dir { &[ACL_DEFAULT, ACL_ACCESS] } else { &[ACL_ACCESS] };
    for name in names {
        match fremovexattr(fd, *name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(blame(e)),
        }
    }
    Ok(())
}

pub(crate) fn blame(e: Errno) -> SinkError {
    match e {
        Errno::EXIST => SinkError::Exists,
        Errno::NOSPC | Errno::DQUOT => SinkError::Full,
        e => SinkError::Io(words(e)),
    }
}

/// Mode of a new file until it has its own.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Mode of what is not finished yet, under a hidden name or its own: so strange that nobody gives it to anything, it marks
/// what is ours to remove.
const UNFINISHED: Mode = Mode::WUSR.union(Mode::SVTX);
const SPECIAL: Mode = Mode::SUID.union(Mode::SGID).union(Mode::SVTX);
const NAME_LEN_MAX: usize = 255;
/// Names tried for an unfinished file.
const PART_NAMES: u32 = 16;

#[cfg(test)]
mod tests;
