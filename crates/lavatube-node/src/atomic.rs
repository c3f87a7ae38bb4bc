//! Small files that are replaced at once or not at all.
//!
//! Written beside their place, made durable, renamed, and the folder made durable too: after a crash there is the old
//! file or the new one. Key files, the depositor's state and everything of the kind go through here. It must not know
//! what is in them. No step of the walk of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
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
    /// Begins a file that will be `path`, readable by its owner only. There is one writer of a path at a time; callers
    /// hold a lock. What a crashed one left is replaced.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written.
    pub fn begin(path: &Path, if_there: IfThere) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(NEW_SUFFIX);
        let beside = path.with_file_name(hidden);
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = match open() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&beside)?;
                open()
            }
            other => other,
        }?;
        let file = BufWriter::with_capacity(BUFFER_LEN, file);
        Ok(Self { file, beside, path: path.to_owned(), if_there, done: false })
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

/// Writes `bytes` to `path`, durably and at once.
///
/// # Errors
/// As [`Replacement::begin`] and [`Replacement::commit`].
pub fn write(path: &Path, bytes: &[u8], if_there: IfThere) -> io::Result<()> {
    let mut new = Replacement::begin(path, if_there)?;
    new.write_all(bytes)?;
    new.commit()
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

/// Makes `folder` and what is missing above it, for its owner only, and makes their names durable.
pub(crate) fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
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

const BUFFER_LEN: usize = 64 << 10;

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
    fn folders_are_made_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_folders(&deep).unwrap();
        make_folders(&deep).unwrap();
        assert_eq!(std::fs::metadata(deep).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
