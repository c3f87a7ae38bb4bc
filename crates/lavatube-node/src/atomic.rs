//! Small files that are replaced at once or not at all.
//!
//! Written beside their place, made durable, renamed, and the folder made durable too: after a crash there is the old
//! file or the new one. Key files, the depositor's state and everything of the kind go through here. What is written
//! beside is locked by its writer, so that another one of the same name neither removes nor renames it. It must not know
//! what is in them. No step of the walk of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

/// Ending of files that are being written.
pub(crate) const NEW_SUFFIX: &str = ".lavatube-new";

/// What happens when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfThere {
    /// The older file gives way.
    Replace,
    /// The older file stays and the commit fails with [`io::ErrorKind::AlreadyExists`].
    Refuse,
}

/// A file on its way to its name; dropped without [`Replacement::commit`] it leaves nothing behind.
#[derive(Debug)]
pub struct Replacement {
    file: BufWriter<File>,
    beside: PathBuf,
    path: PathBuf,
    if_there: IfThere,
    done: bool,
}

impl Replacement {
    /// Begins a file that will be `path`, readable by its owner only. What a crashed writer left is removed; a living one
    /// is left alone, and of several the last to commit has its way. Who cannot have that holds a lock.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written.
    pub fn begin(path: &Path, if_there: IfThere) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        for n in 0..NAMES_TRIED_MAX {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            if n > 0 {
                hidden.push(format!(".{n}"));
            }
            hidden.push(NEW_SUFFIX);
            let beside = path.with_file_name(hidden);
            if let Some(file) = create_beside(&beside)? {
                let file = BufWriter::with_capacity(BUFFER_LEN, file);
                return Ok(Self { file, beside, path: path.to_owned(), if_there, done: false });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Makes the file durable and gives it its name, durably.
    ///
    /// # Errors
    /// When that cannot be said. Before the rename the older file is untouched; a failed sync is not tried again.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        match self.if_there {
            IfThere::Replace => std::fs::rename(&self.beside, &self.path)?,
            IfThere::Refuse => rename_new(&self.beside, &self.path)?,
        }
        self.done = true;
        sync_folder_of(&self.path)
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

/// Creates `beside` and locks it, in place of what a crashed writer left there; `None` when a living one has it.
fn create_beside(beside: &Path) -> io::Result<Option<File>> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside);
    let created = match create() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            let Ok(left) = File::options().read(true).custom_flags(flags).open(beside) else { return Ok(None) };
            if !is_ours(&left, beside) {
                return Ok(None);
            }
            std::fs::remove_file(beside)?;
            create()
        }
        other => other,
    };
    match created {
        Ok(file) => Ok(is_ours(&file, beside).then_some(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) => Err(e),
    }
}

/// Locks an open file, and says whether it is ours and still has its name: only who has the lock removes or renames it.
fn is_ours(file: &File, beside: &Path) -> bool {
    if flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return false;
    }
    // Between creating and locking it, another writer may have taken it for what a crash left.
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|own| beside.symlink_metadata().is_ok_and(|named| same(own, named)))
}

/// Writes `bytes` to `path`, durably and at once.
///
/// # Errors
/// As [`Replacement::begin`] and [`Replacement::commit`].
pub fn write(path: &Path, bytes: &[u8], if_there: IfThere) -> io::Result<()> {
    let mut new = Replacement::begin(path, if_there)?;
    new.write_all(bytes)?;
    new.commit()
}

/// The same, for a file that is appended to until it is made anew: what is returned is for appending, and nothing appended is durable.
///
/// # Errors
/// As [`write`].
pub(crate) fn anew(path: &Path, bytes: &[u8]) -> io::Result<File> {
    write(path, bytes, IfThere::Replace)?;
    File::options().append(true).open(path)
}

/// Makes the names in the folder that holds `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(folder) => sync_folder(folder),
        None => sync_folder(Path::new("/")),
    }
}

/// Makes the names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems know no sync of folders.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Makes `folder` and what is missing above it, with `mode` (less the umask), and makes their names durable.
pub(crate) fn make_folders(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    if folder.is_dir() {
        // Who made it may have been killed before its name was durable. Above a folder that is not ours we may not look.
        return match sync_folder_of(folder) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    if let Some(above) = folder.parent() {
        make_folders(above, mode)?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }?;
    sync_folder_of(folder)
}

/// Renames, never over something that is there.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// Mode of a folder that is its owner's only.
pub(crate) const PRIVATE: u32 = 0o700;
/// Mode of a folder that others may look into as far as the umask lets them.
pub(crate) const COMMON: u32 = 0o777;
const BUFFER_LEN: usize = 64 << 10;
/// Names tried beside a file: so many write it at once, or crashed in ways that left something strange there.
const NAMES_TRIED_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"old", IfThere::Refuse).unwrap();
        let mut new = Replacement::begin(&path, IfThere::Replace).unwrap();
        new.write_all(b"new").unwrap();
        new.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        drop(new);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
        write(&path, b"new", IfThere::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_taken_name_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"old", IfThere::Refuse).unwrap();
        let e = write(&path, b"new", IfThere::Refuse).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(format!(".x{NEW_SUFFIX}")), b"torn").unwrap();
        write(&dir.path().join("x"), b"whole", IfThere::Refuse).unwrap();
        assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn writers_at_once_do_not_take_each_others_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut first = Replacement::begin(&path, IfThere::Refuse).unwrap();
        first.write_all(b"first").unwrap();
        let mut second = Replacement::begin(&path, IfThere::Refuse).unwrap();
        second.write_all(b"second").unwrap();
        first.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(second.commit().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn many_writers_at_once_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let done: usize = std::thread::scope(|scope| {
            let writer = |n: u8| {
                let path = &path;
                move || (0..50).filter(|_| write(path, &[n; 4000], IfThere::Replace).is_ok()).count()
            };
            let writers: Vec<_> = (0..6).map(|n| scope.spawn(writer(n))).collect();
            writers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(done, 300);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() == 4000 && bytes.iter().all(|b| *b == bytes[0]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn folders_are_made_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_folders(&deep, PRIVATE).unwrap();
        make_folders(&deep, PRIVATE).unwrap();
        assert_eq!(std::fs::metadata(deep).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
