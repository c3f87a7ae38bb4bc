//! The `Sink` seam: where a restore writes to. Step 21 of the walk.
//!
//! Like [`crate::source::Source`] it works by names in open directories, so that a hostile tree cannot climb out of the
//! target. Several threads may use one sink. It must not know where bytes come from.

use std::sync::Arc;

use lavatube_format::tree::{Kind, Meta};

use crate::source::{Found, SourceError};

/// Why a sink could not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Something of that name is there already.
    #[error("something of that name is already there")]
    Exists,
    /// The target's file system is full.
    #[error("the target has no space left")]
    Full,
    /// Anything else, in the system's words.
    #[error("{0}")]
    Io(String),
}

impl From<SourceError> for SinkError {
    fn from(e: SourceError) -> Self {
        Self::Io(e.to_string())
    }
}

/// A folder to restore into.
pub trait Sink: Send + Sync {
    /// An open directory; shared between threads.
    type Dir: Send + Sync;
    /// A file being written.
    type File: Send;

    /// The target directory.
    fn root(&self) -> Arc<Self::Dir>;

    /// What `name` in `dir` is now; `None` when there is nothing.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn look(&self, dir: &Self::Dir, name: &[u8]) -> Result<Option<Found>, SinkError>;

    /// Makes (or, when it is already a directory, opens) directory `name`, writable by us whatever its final mode. A
    /// symbolic link of that name is never followed: it counts as [`SinkError::Exists`].
    ///
    /// # Errors
    /// When it cannot be made or opened.
    fn make_dir(&self, dir: &Self::Dir, name: &[u8]) -> Result<Arc<Self::Dir>, SinkError>;

    /// Creates file `name`. With `whole` it must not exist; else a hidden temporary name is used, so that a cut never
    /// leaves a partial file under its real name, and [`Sink::finish_file`] gives it its name, which must be free then.
    ///
    /// # Errors
    /// When it exists or cannot be created.
    fn create(&self, dir: &Self::Dir, name: &[u8], whole: bool) -> Result<Self::File, SinkError>;

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// When the medium fails or is full.
    fn write_at(&self, file: &mut Self::File, offset: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// Sets size (a hole up to it), owner, attributes, mode and times, in that order, and the file's real name.
    ///
    /// Attributes or owners that we lack the right to set are returned as warnings, not errors.
    ///
    /// # Errors
    /// When the file cannot be completed.
    fn finish_file(
        &self,
        dir: &Self::Dir,
        name: &[u8],
        file: Self::File,
        size: u64,
        meta: &Meta,
    ) -> Result<Vec<String>, SinkError>;

    /// Lets go of a file that cannot be completed, and takes away what there is of it, as well as that can be done.
    fn give_up(&self, dir: &Self::Dir, name: &[u8], file: Self::File);

    /// Makes a symbolic link, fifo, device or socket with its metadata.
    ///
    /// # Errors
    /// When it exists, cannot be made, or `kind` is a file or directory.
    fn make_special(&self, dir: &Self::Dir, name: &[u8], kind: &Kind, meta: &Meta) -> Result<Vec<String>, SinkError>;

    /// Gives the file at `first` (a path below the target, reached without following links) a further name.
    ///
    /// # Errors
    /// When either does not allow it.
    fn hard_link(&self, first: &[u8], dir: &Self::Dir, name: &[u8]) -> Result<(), SinkError>;

    /// Sets owner, attributes, mode and times of a directory, after all below it is there.
    ///
    /// # Errors
    /// When they cannot be set.
    fn finish_dir(&self, dir: &Self::Dir, meta: &Meta) -> Result<Vec<String>, SinkError>;

    /// Removes what is at `name` unless it is a directory.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, dir: &Self::Dir, name: &[u8]) -> Result<(), SinkError>;

    /// Reads an existing file at `offset`, to compare it before writing again; 0 at its end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_existing(&self, dir: &Self::Dir, name: &[u8], offset: u64, buf: &mut [u8]) -> Result<usize, SinkError>;
}
