//! The `State` seam: the small files a depositor keeps about one vault (catalog, tree caches, ledger, open session).
//!
//! FORMAT section 9 lists it, and what losing it costs. No snapshot is in it: those that wait are behind the `Spool` seam.
//! A seam of its own, because what a crash leaves of these files decides whether a backup carries on, and the simulator
//! must be able to crash it. It must not know what the files mean.

use std::io;

/// A failure of the folder that holds the state.
#[derive(Debug, thiserror::Error)]
#[error("the state file {name} failed: {source}")]
pub struct StateError {
    /// The file.
    pub name: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl StateError {
    /// A closure that blames file `name`.
    pub fn on(name: &str) -> impl FnOnce(io::Error) -> Self {
        let name = name.to_owned();
        |source| Self { name, source }
    }
}

/// A new file being written.
pub trait NewFile: io::Write + Send {
    /// Makes the file durable and puts it in the place of any older one, at once.
    ///
    /// # Errors
    /// When that cannot be said; the older file is still there then.
    fn commit(self: Box<Self>) -> io::Result<()>;
}

/// Named files of one depositor for one vault. Names may contain `/`.
pub trait State: Send + Sync {
    /// Reads at `offset` into `buf`; 0 at the end of the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such file; else what the system says.
    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Length of a file, or `None` when there is none.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self, name: &str) -> io::Result<Option<u64>>;

    /// Begins a new file; nothing of it is seen under its name before [`NewFile::commit`].
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile + '_>>;

    /// Appends to a file (made when missing) and makes that durable. A crash may leave a part of it.
    ///
    /// # Errors
    /// What the system says; the tail of the file is undefined then.
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file a new name, in place of any older one, at once and durably.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Names of all files that begin with `prefix`, in order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;

    /// Removes a file; none is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Fills `buf` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
///
/// # Errors
/// As [`State::read_at`].
pub fn read_exact(state: &dyn State, name: &str, mut offset: u64, mut buf: &mut [u8]) -> Result<(), StateError> {
    while !buf.is_empty() {
        match state.read_at(name, offset, buf).map_err(StateError::on(name))? {
            0 => return Err(StateError::on(name)(io::ErrorKind::UnexpectedEof.into())),
            n => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// A whole file, or `None` when there is none.
///
/// # Errors
/// As [`State::read_at`]; [`io::ErrorKind::InvalidData`] when it is longer than `max`.
pub fn read_all(state: &dyn State, name: &str, max: u64) -> Result<Option<Vec<u8>>, StateError> {
    let Some(len) = state.len(name).map_err(StateError::on(name))? else { return Ok(None) };
    if len > max {
        return Err(StateError::on(name)(io::Error::new(io::ErrorKind::InvalidData, "longer than its limit")));
    }
    let mut out = vec![0; usize::try_from(len).unwrap_or(0)];
    read_exact(state, name, 0, &mut out)?;
    Ok(Some(out))
}

/// Writes a whole small file at once.
///
/// # Errors
/// What the system says.
pub fn write_all(state: &dyn State, name: &str, bytes: &[u8]) -> Result<(), StateError> {
    let write = || {
        let mut file = state.create(name)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(StateError::on(name))
}
