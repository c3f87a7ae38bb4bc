//! The `Drive` seam: a folder (or a prefix of a bucket) of named files, and all the vault knows of storage.
//!
//! Real folders live in `lavatube-node`, simulated ones in `lavatube-sim`. The contract is written for crashes: what is
//! put is *staged*, and only [`Drive::sync`] makes it durable under its name. Steps 15 and 16 of the walk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why a drive did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// There is no file of that name.
    #[error("no such file")]
    NotFound,
    /// A different file of that name is there and was not to be replaced.
    #[error("another file of that name is already there")]
    Exists,
    /// No space is left.
    #[error("the drive is full")]
    Full,
    /// The drive itself is not there any more.
    #[error("the drive is gone")]
    Gone,
    /// Anything else, in the words of the system.
    #[error("{0}")]
    Io(String),
}

/// Whether a put may take the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Only a file with the same bytes may already have the name; at a different one the put, or the sync after it, fails
    /// with [`DriveError::Exists`] and leaves that file alone.
    New,
    /// What has the name is replaced, at once or (after a crash) not at all.
    Replace,
}

/// Bytes of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// All it can hold.
    pub total: u64,
    /// What is left.
    pub free: u64,
}

/// How long reads took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadingTime {
    /// All of them together, in nanoseconds.
    pub ns: u64,
    /// How many there were.
    pub reads: u64,
}

/// Adds up how long reads took, for [`Drive::reading_time`].
#[derive(Debug, Default)]
pub struct ReadingMeter {
    ns: AtomicU64,
    reads: AtomicU64,
}

impl ReadingMeter {
    /// A read took so long.
    pub fn note(&self, took: Duration) {
        self.ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// What was added up since this was asked last.
    pub fn take(&self) -> ReadingTime {
        ReadingTime { ns: self.ns.swap(0, Ordering::Relaxed), reads: self.reads.swap(0, Ordering::Relaxed) }
    }
}

/// A place for named files. Names are `/`-separated ASCII paths from `lavatube_format`.
///
/// After a crash each staged effect has happened wholly or not at all, in any combination; except that an unsynced
/// append may have left any prefix of its bytes, or rubbish of that length, at the end of the file.
pub trait Drive: Send + Sync {
    /// Stages a file made of `parts`, one after the other.
    ///
    /// # Errors
    /// [`DriveError`]; then nothing was staged by this call.
    fn put(&self, name: &str, parts: &[&[u8]], mode: PutMode) -> Result<(), DriveError>;

    /// Stages bytes at the end of a file, which need not exist yet. With the next sync all of the file is durable, also what an
    /// earlier process appended and did not sync.
    ///
    /// # Errors
    /// [`DriveError`]; then some of the bytes may be at its end.
    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DriveError>;

    /// Makes everything staged durable under its name: bytes, then name, then folder.
    ///
    /// # Errors
    /// [`DriveError`]; then everything staged since the last sync is abandoned, and the vault writes to this drive no more
    /// until it is opened anew: a failed sync is never taken back as a good one.
    fn sync(&self) -> Result<(), DriveError>;

    /// Forgets what is staged by [`Drive::put`] since the last sync.
    fn abandon(&self);

    /// Reads from `offset` into `buf`; fewer bytes only at the end of the file. Staged files are not seen.
    ///
    /// # Errors
    /// [`DriveError::NotFound`], or what the system said.
    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError>;

    /// Length of a file, `None` when there is none.
    ///
    /// # Errors
    /// What the system said.
    fn len(&self, name: &str) -> Result<Option<u64>, DriveError>;

    /// Calls `each` with the name of every file that begins with `prefix`, in any order.
    ///
    /// # Errors
    /// What the system said; some names may have been given before.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str)) -> Result<(), DriveError>;

    /// Removes a file; one that is not there is fine. Durable at the next sync.
    ///
    /// # Errors
    /// What the system said.
    fn remove(&self, name: &str) -> Result<(), DriveError>;

    /// Size and what is left of it.
    ///
    /// # Errors
    /// What the system said.
    fn space(&self) -> Result<Space, DriveError>;

    /// What is left is shared with the drives that say the same here: folders of one file system. `None` where it is shared with none
    /// that is known.
    fn shares_space_as(&self) -> Option<u64> {
        None
    }

    /// How long reads took since this was asked last, for who compares drives; nothing where nobody measures.
    fn reading_time(&self) -> ReadingTime {
        ReadingTime::default()
    }
}

/// Reads a whole file of at most `max` bytes.
pub(crate) fn read_whole(drive: &dyn Drive, name: &str, max: u64) -> Result<Vec<u8>, DriveError> {
    let len = drive.len(name)?.ok_or(DriveError::NotFound)?.min(max);
    let mut out = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let n = drive.read_at(name, 0, &mut out)?;
    out.truncate(n);
    Ok(out)
}
