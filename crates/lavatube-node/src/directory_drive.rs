//! `DirectoryDrive`: a folder as a [`Drive`] of the vault. Steps 15 and 16 of the walk.
//!
//! What is put lies under `tmp/` until [`Drive::sync`]: bytes are synced, then renamed, then every folder that got a name
//! is synced once, and so is, the first time, every folder above: who made one may have been killed before that. A sync
//! that fails is not tried again: the kernel may have thrown the bytes away and would call the second try a success. It must not know what a shard or a journal is.

mod direct;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lavatube_vault::drive::{Drive, DriveError, PutMode, ReadingMeter, ReadingTime, Space};
use rustix::fs::{
    Advice, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, fadvise, fdatasync, fstatvfs, fsync, linkat, mkdirat,
    openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::{Errno, pread, retry_on_intr, writev};

use crate::clock;
use crate::descend::LOOK;
use crate::words::words;
use direct::DIRECT_LEN_MIN;

/// A folder that holds what the vault writes.
#[derive(Debug)]
pub struct DirectoryDrive {
    root: OwnedFd,
    writable: bool,
    past_cache: bool,
    reading: ReadingMeter,
    staged: Mutex<Staged>,
}

/// What was asked for since the last sync.
#[derive(Debug, Default)]
struct Staged {
    puts: VecDeque<Put>,
    /// How many of `puts`, from the front, are synced and closed already.
    settled: usize,
    /// Files that were appended to, open until they are synced: an error of a closed file may never be told.
    appended: BTreeMap<String, OwnedFd>,
    /// Folders whose names changed.
    touched: BTreeSet<String>,
    /// Files and folders whose own names are durable, or will be with the next sync.
    firm: BTreeSet<String>,
    /// Counts temporary names.
    next: u64,
    has_tmp: bool,
    /// What broke: nothing is written any more until the drive is opened anew.
    broken: Option<DriveError>,
}

#[derive(Debug)]
struct Put {
    tmp: String,
    name: String,
    mode: PutMode,
    /// Open until it is synced.
    fd: Option<OwnedFd>,
}

impl Staged {
    /// Has the next sync make the name of `path` durable, and those of the folders above, unless that was done: whether
    /// whoever gave them came to it is not known.
    fn make_firm(&mut self, mut path: &str) {
        while !path.is_empty() && self.firm.insert(path.to_owned()) {
            path = folder_of(path);
            self.touched.insert(path.to_owned());
        }
    }
}

impl DirectoryDrive {
    /// Opens the drive in `folder` for reading and writing, and removes what a crash left unfinished. There is one
    /// writer at a time; callers hold a [`crate::lock::Lock`].
    ///
    /// # Errors
    /// [`DriveError::Gone`] when there is no such folder; else what the system said.
    pub fn open(folder: &Path) -> Result<Self, DriveError> {
        let mut drive = Self::open_read_only(folder)?;
        drive.writable = true;
        let mut leftovers = Vec::new();
        match drive.list_dir(TMP, &mut |_, name| leftovers.push(name.to_owned())) {
            Ok(()) => lock(&drive.staged).has_tmp = true,
            Err(DriveError::NotFound) => {}
            Err(e) => return Err(e),
        }
        for name in leftovers {
            unlinkat(&drive.root, name.as_str(), AtFlags::empty()).map_err(blame)?;
        }
        Ok(drive)
    }

    /// Opens the drive in `folder` to take files away from it, beside one who puts: what that one has begun is left alone.
    ///
    /// # Errors
    /// As [`DirectoryDrive::open`].
    pub fn open_beside(folder: &Path) -> Result<Self, DriveError> {
        Ok(Self { writable: true, ..Self::open_read_only(folder)? })
    }

    /// Opens the drive in `folder` without ever changing it, whoever else works on it.
    ///
    /// # Errors
    /// As [`DirectoryDrive::open`].
    pub fn open_read_only(folder: &Path) -> Result<Self, DriveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| match e {
            Errno::NOENT => DriveError::Gone,
            e => blame(e),
        })?;
        Ok(Self {
            root,
            writable: false,
            past_cache: false,
            reading: Default::default(),
            staged: Mutex::new(Staged::default()),
        })
    }

    /// From now on, what is read comes from the disk, as far as the system allows. Who looks for rot must not be shown what was there
    /// before.
    pub fn past_cache(self) -> Self {
        Self { past_cache: true, ..self }
    }

    /// The staged effects, when writing is still allowed.
    fn writing(&self) -> Result<MutexGuard<'_, Staged>, DriveError> {
        if !self.writable {
            return Err(DriveError::Io("the drive was opened for reading only".into()));
        }
        let staged = lock(&self.staged);
        match &staged.broken {
            None => Ok(staged),
            Some(e) => Err(DriveError::Io(format!("the drive failed before and was not opened anew since: {e}"))),
        }
    }

    fn stage(&self, staged: &mut Staged, name: &str, parts: &[&[u8]], mode: PutMode) -> Result<(), DriveError> {
        if !staged.has_tmp {
            match mkdirat(&self.root, TMP, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => staged.has_tmp = true,
                Err(Errno::NOENT) => return Err(DriveError::Gone),
                Err(e) => return Err(blame(e)),
            }
        }
        let tmp = format!("{TMP}/{:08x}", staged.next);
        staged.next += 1;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| openat(&self.root, tmp.as_str(), flags, FILE_MODE)).map_err(|e| match e {
            Errno::NOENT => DriveError::Gone,
            e => blame(e),
        })?;
        let large = parts.iter().map(|p| p.len()).sum::<usize>() >= DIRECT_LEN_MIN;
        let written = if large { direct::write(&fd, parts) } else { Ok(false) };
        let written = written.and_then(|done| if done { Ok(()) } else { write_parts(&fd, parts) });
        if let Err(e) = written {
            let _ = unlinkat(&self.root, tmp.as_str(), AtFlags::empty());
            return Err(blame(e));
        }
        staged.puts.push_back(Put { tmp, name: name.to_owned(), mode, fd: Some(fd) });
        Ok(())
    }

    /// Bytes, then names, then folders.
    fn settle(&self, staged: &mut Staged) -> Result<(), DriveError> {
        settle_bytes(staged)?;
        self.settle_names(staged)?;
        while let Some((name, fd)) = staged.appended.pop_first() {
            fdatasync(&fd).map_err(|e| broken(&name, e))?;
        }
        while let Some(folder) = staged.touched.pop_last() {
            self.sync_folder(&folder)?;
        }
        Ok(())
    }

    fn settle_names(&self, staged: &mut Staged) -> Result<(), DriveError> {
        while let Some(put) = staged.puts.front() {
            self.name_put(put, &mut staged.firm)?;
            let Some(put) = staged.puts.pop_front() else { break };
            staged.settled -= 1;
            let folder = folder_of(&put.name);
            staged.touched.insert(folder.to_owned());
            staged.make_firm(folder);
        }
        Ok(())
    }

    /// Gives a staged file its name.
    fn name_put(&self, put: &Put, firm: &mut BTreeSet<String>) -> Result<(), DriveError> {
        let rename = || match put.mode {
            PutMode::Replace => renameat(&self.root, put.tmp.as_str(), &self.root, put.name.as_str()),
            PutMode::New => self.rename_new(&put.tmp, &put.name),
        };
        let renamed = match rename() {
            Err(Errno::NOENT) => {
                self.make_folders(&put.name, firm)?;
                rename()
            }
            other => other,
        };
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                if !self.same(&put.tmp, &put.name)? {
                    return Err(DriveError::Exists);
                }
                // It may have got there without ever being synced.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(&self.root, put.name.as_str(), flags, Mode::empty()).map_err(blame)?;
                fsync(fd).map_err(|e| broken(&put.name, e))?;
                unlinkat(&self.root, put.tmp.as_str(), AtFlags::empty()).map_err(blame)?;
            }
            Err(e) => return Err(blame(e)),
        }
        Ok(())
    }

    /// Renames, never over a file that is there.
    fn rename_new(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        match renameat_with(&self.root, from, &self.root, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            other => return other,
        }
        linkat(&self.root, from, &self.root, to, AtFlags::empty())?;
        unlinkat(&self.root, from, AtFlags::empty())
    }

    /// Whether two files hold the same bytes.
    fn same(&self, a: &str, b: &str) -> Result<bool, DriveError> {
        let (mut x, mut y) = (vec![0; COMPARE_LEN], vec![0; COMPARE_LEN]);
        let mut at = 0;
        loop {
            let n = self.read_at(a, at, &mut x)?;
            if self.read_at(b, at, &mut y)? != n || x[..n] != y[..n] {
                return Ok(false);
            }
            if n < COMPARE_LEN {
                return Ok(true);
            }
            at += n as u64;
        }
    }

    /// Makes the folders `name` lies in.
    fn make_folders(&self, name: &str, firm: &mut BTreeSet<String>) -> Result<(), DriveError> {
        for (at, _) in name.match_indices('/') {
            match mkdirat(&self.root, &name[..at], Mode::RWXU) {
                Ok(()) => firm.remove(&name[..at]),
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(blame(e)),
            };
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> Result<(), DriveError> {
        let synced = match folder {
            "" => fsync(&self.root),
            folder => open_folder(&self.root, folder).and_then(fsync),
        };
        match synced {
            // Some network file systems know no sync of folders.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(e) => Err(broken(folder, e)),
        }
    }

    /// Calls `each` with kind and name of everything in `folder`, its name included.
    fn list_dir(&self, folder: &str, each: &mut dyn FnMut(FileType, &str)) -> Result<(), DriveError> {
        let fd = open_folder(&self.root, if folder.is_empty() { "." } else { folder }).map_err(blame)?;
        let mut buf = Vec::with_capacity(GETDENTS_LEN);
        let mut entries = RawDir::new(&fd, buf.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(blame)?;
            // A name that is not text is not ours.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => match statat(&self.root, name.as_str(), LOOK) {
                    Ok(st) => FileType::from_raw_mode(st.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(blame(e)),
                },
                kind => kind,
            };
            each(kind, &name);
        }
        Ok(())
    }

    fn read_file(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        let fd = openat(&self.root, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(blame)?;
        if self.past_cache {
            if buf.len() >= DIRECT_READ_LEN_MIN
                && let Some(read) = direct::read(&fd, offset, buf).map_err(blame)?
            {
                return Ok(read);
            }
            // Only advice: where it is not taken, what is read is no worse than without. Once a file, so that what is read ahead is not thrown out.
            if offset == 0 {
                let _ = fadvise(&fd, 0, None, Advice::DontNeed);
            }
        }
        if buf.len() >= BULK_LEN_MIN {
            read_ahead(&fd, offset.saturating_add(buf.len() as u64));
        }
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset.saturating_add(filled as u64);
            match retry_on_intr(|| pread(&fd, &mut buf[filled..], at)).map_err(blame)? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// Removes what is staged. Best effort: what stays is removed when the drive is opened.
    fn drop_staged(&self, staged: &mut Staged) {
        for put in staged.puts.drain(..) {
            let _ = unlinkat(&self.root, put.tmp.as_str(), AtFlags::empty());
        }
        staged.settled = 0;
    }
}

impl Drive for DirectoryDrive {
    fn put(&self, name: &str, parts: &[&[u8]], mode: PutMode) -> Result<(), DriveError> {
        check_name(name)?;
        let mut staged = self.writing()?;
        if staged.puts.len() - staged.settled >= OPEN_MAX {
            let settled = settle_bytes(&mut staged);
            self.end(&mut staged, settled)?;
        }
        self.stage(&mut staged, name, parts, mode)
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DriveError> {
        check_name(name)?;
        let mut staged = self.writing()?;
        let staged = &mut *staged;
        if !staged.appended.contains_key(name) {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || retry_on_intr(|| openat(&self.root, name, flags, FILE_MODE));
            let fd = match open() {
                Err(Errno::NOENT) => {
                    self.make_folders(name, &mut staged.firm)?;
                    open()
                }
                other => other,
            };
            let fd = fd.map_err(blame)?;
            if rustix::fs::fstat(&fd).map_err(blame)?.st_size == 0 {
                staged.firm.remove(name);
            }
            staged.make_firm(name);
            staged.appended.insert(name.to_owned(), fd);
        }
        match staged.appended.get(name) {
            Some(fd) => write_parts(fd, &[bytes]).map_err(blame),
            None => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), DriveError> {
        let mut staged = self.writing()?;
        let settled = self.settle(&mut staged);
        self.end(&mut staged, settled)
    }

    fn abandon(&self) {
        self.drop_staged(&mut lock(&self.staged));
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        let begin = clock::now();
        let read = self.read_file(name, offset, buf)?;
        self.reading.note(clock::now().since(begin));
        Ok(read)
    }

    fn reading_time(&self) -> ReadingTime {
        self.reading.take()
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DriveError> {
        match statat(&self.root, name, LOOK) {
            Ok(st) if FileType::from_raw_mode(st.st_mode) == FileType::RegularFile => {
                Ok(Some(u64::try_from(st.st_size).unwrap_or_default()))
            }
            Ok(_) => Err(DriveError::Io(format!("{name} is not a file"))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(blame(e)),
        }
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str)) -> Result<(), DriveError> {
        let mut folders = vec![folder_of(prefix).to_owned()];
        while let Some(folder) = folders.pop() {
            let listed = self.list_dir(&folder, &mut |kind, name| match kind {
                FileType::RegularFile if name.starts_with(prefix) => each(name),
                // Only folders that can hold such names: those within the prefix, or that it leads to.
                FileType::Directory if name != TMP && (name.starts_with(prefix) || prefix.starts_with(name)) => {
                    folders.push(name.to_owned());
                }
                _ => {}
            });
            match listed {
                Err(DriveError::NotFound) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DriveError> {
        check_name(name)?;
        let mut staged = self.writing()?;
        match unlinkat(&self.root, name, AtFlags::empty()) {
            Ok(()) => staged.touched.insert(folder_of(name).to_owned()),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(blame(e)),
        };
        Ok(())
    }

    fn space(&self) -> Result<Space, DriveError> {
        let st = fstatvfs(&self.root).map_err(blame)?;
        Ok(Space { total: st.f_blocks.saturating_mul(st.f_frsize), free: st.f_bavail.saturating_mul(st.f_frsize) })
    }

    fn shares_space_as(&self) -> Option<u64> {
        rustix::fs::fstat(&self.root).ok().map(|st| st.st_dev)
    }
}

impl DirectoryDrive {
    /// After a failure nothing staged remains, and nothing is written any more.
    fn end(&self, staged: &mut Staged, result: Result<(), DriveError>) -> Result<(), DriveError> {
        if let Err(e) = &result {
            self.drop_staged(staged);
            staged.appended.clear();
            staged.broken = Some(e.clone());
        }
        result
    }
}

/// Makes the bytes of all staged files durable and closes them.
fn settle_bytes(staged: &mut Staged) -> Result<(), DriveError> {
    for put in staged.puts.iter_mut().skip(staged.settled) {
        if let Some(fd) = put.fd.take() {
            fsync(fd).map_err(|e| broken(&put.name, e))?;
        }
        staged.settled += 1;
    }
    Ok(())
}

fn write_parts(fd: impl AsFd, parts: &[&[u8]]) -> rustix::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().filter(|p| !p.is_empty()).map(|p| IoSlice::new(p)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let most = left.len().min(IOV_MAX);
        match retry_on_intr(|| writev(&fd, &left[..most]))? {
            0 => return Err(Errno::IO),
            n => IoSlice::advance_slices(&mut left, n),
        }
    }
    Ok(())
}

/// Asks the system to read on from `offset`: who reads much at once will want what follows. Only a hint, so that it may
/// fail.
fn read_ahead(fd: impl AsFd, offset: u64) {
    let _ = fadvise(fd, offset, NonZeroU64::new(READ_AHEAD), Advice::WillNeed);
}

fn open_folder(root: impl AsFd, folder: &str) -> rustix::io::Result<OwnedFd> {
    openat(root, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The folder a name lies in; empty for the drive itself.
fn folder_of(name: &str) -> &str {
    name.rfind('/').map_or("", |at| &name[..at])
}

/// Refuses names that lead out of the drive or into what is ours alone.
fn check_name(name: &str) -> Result<(), DriveError> {
    let sound = name.split('/').all(|c| !c.is_empty() && c != "." && c != "..") && !name.contains('\0');
    if sound && name.split('/').next() != Some(TMP) {
        return Ok(());
    }
    Err(DriveError::Io(format!("{name:?} is no name for a file of a drive")))
}

/// A failure of a sync, with what was synced.
fn broken(name: &str, e: Errno) -> DriveError {
    match blame(e) {
        DriveError::Io(text) => DriveError::Io(format!("{name:?} could not be made durable: {text}")),
        other => other,
    }
}

fn blame(e: Errno) -> DriveError {
    match e {
        Errno::NOENT => DriveError::NotFound,
        Errno::EXIST => DriveError::Exists,
        Errno::NOSPC | Errno::DQUOT => DriveError::Full,
        Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::NOTCONN | Errno::SHUTDOWN => DriveError::Gone,
        e => DriveError::Io(words(e)),
    }
}

fn lock(staged: &Mutex<Staged>) -> MutexGuard<'_, Staged> {
    staged.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Folder of what is not synced yet.
const TMP: &str = "tmp";
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Most staged files kept open; beyond it their bytes are synced early.
const OPEN_MAX: usize = 128;
/// From this size on a read is one of many.
const BULK_LEN_MIN: usize = 128 << 10;
/// What is shorter is worth no buffer of its own.
const DIRECT_READ_LEN_MIN: usize = 16 << 10;
const READ_AHEAD: u64 = 512 << 10;
const COMPARE_LEN: usize = 64 << 10;
const GETDENTS_LEN: usize = 64 << 10;
/// Most slices of one `writev` (the kernel's UIO_MAXIOV).
const IOV_MAX: usize = 1024;

#[cfg(test)]
mod tests;
