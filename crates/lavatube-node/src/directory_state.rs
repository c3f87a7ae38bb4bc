//! The depositor's state as a folder: the `State` seam on real files.
//!
//! Files that are read again and again (catalog runs) stay open. What the files mean is the client's business.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_client::state::{NewFile, State};

use crate::atomic::{IfThere, NEW_SUFFIX, PRIVATE, Replacement, make_folders};

/// Most files kept open.
const OPEN_MAX: usize = 64;

/// A folder of state files.
#[derive(Debug)]
pub struct DirectoryState {
    folder: PathBuf,
    open: Mutex<BTreeMap<String, Arc<File>>>,
}

impl DirectoryState {
    /// Opens the state in `folder`, which is made (for its owner only) when it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        make_folders(folder, PRIVATE)?;
        Ok(Self { folder: folder.to_owned(), open: Mutex::default() })
    }

    /// The state in `folder` as it is, for whoever only reads: nothing is made, nor made durable.
    pub fn of_reader(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: Mutex::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        if let Some(file) = self.files().get(name) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.folder.join(name))?);
        let mut files = self.files();
        if files.len() >= OPEN_MAX {
            files.clear();
        }
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// The path of a file, in a folder that is there.
    fn place(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            make_folders(parent, PRIVATE)?;
        }
        Ok(path)
    }
}

struct Beginning<'s> {
    state: &'s DirectoryState,
    name: String,
    file: Replacement,
}

impl Write for Beginning<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for Beginning<'_> {
    fn commit(self: Box<Self>) -> io::Result<()> {
        self.file.commit()?;
        self.state.files().remove(&self.name);
        Ok(())
    }
}

impl State for DirectoryState {
    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file(name)?.read_at(buf, offset)
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.folder.join(name)) {
            Ok(m) => Ok(Some(m.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile + '_>> {
        let file = Replacement::begin(&self.place(name)?, IfThere::Replace)?;
        Ok(Box::new(Beginning { state: self, name: name.to_owned(), file }))
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.place(name)?;
        let new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        if new { sync_folder_of(&path) } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to_path = self.place(to)?;
        fs::rename(self.folder.join(from), &to_path)?;
        let mut files = self.files();
        files.remove(from);
        files.remove(to);
        sync_folder_of(&to_path)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        // A prefix is a folder, or a folder and the beginning of a name.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let entries = match fs::read_dir(self.folder.join(folder)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if name.starts_with(prefix) && !name.ends_with(NEW_SUFFIX) && entry.file_type()?.is_file() {
                out.push(name);
            }
        }
        out.sort();
        Ok(out)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        match fs::remove_file(self.folder.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_client::state::{read_all, write_all};

    #[test]
    fn files_are_replaced_at_once_and_listed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let state = DirectoryState::open(&folder.path().join("s")).unwrap();
        write_all(&state, "a/2", b"two").unwrap();
        write_all(&state, "a/1", b"one").unwrap();
        write_all(&state, "b", b"old").unwrap();
        assert_eq!(read_all(&state, "b", 9).unwrap().as_deref(), Some(&b"old"[..]));
        write_all(&state, "b", b"newer").unwrap();
        assert_eq!(read_all(&state, "b", 9).unwrap().as_deref(), Some(&b"newer"[..]));
        assert!(read_all(&state, "b", 4).is_err());
        assert_eq!(state.list("a/").unwrap(), ["a/1", "a/2"]);
        assert_eq!(state.list("").unwrap(), ["b"]);
        let unfinished = state.create("c").unwrap();
        assert_eq!(state.len("c").unwrap(), None);
        drop(unfinished);
        state.append("log", b"x").unwrap();
        state.append("log", b"y").unwrap();
        assert_eq!(read_all(&state, "log", 9).unwrap().as_deref(), Some(&b"xy"[..]));
        state.rename("log", "a/1").unwrap();
        assert_eq!(read_all(&state, "a/1", 9).unwrap().as_deref(), Some(&b"xy"[..]));
        state.remove("a/1").unwrap();
        state.remove("a/1").unwrap();
        assert_eq!(state.len("a/1").unwrap(), None);
    }
}
