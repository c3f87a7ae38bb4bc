//! The `Source` seam: what a snapshot is taken of. Step 1 of the walk.
//!
//! Shaped after directory descriptors: every entry is reached by its name in an open directory, so paths of any length
//! work and a directory that is swapped for a symbolic link meanwhile cannot lead the walk elsewhere. The real one is
//! in `lavatube-node`, the simulated one mutates while it is read. It must not know what becomes of the bytes.

use lavatube_base::time::WallTime;
use lavatube_format::tree::Extent;
use lavatube_format::tree_cache::Stamp;

/// Why a source could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The entry is gone since its directory was listed.
    #[error("vanished while the backup ran")]
    Vanished,
    /// The entry became something else (a file became a directory, say) since it was looked at.
    #[error("became something else while the backup ran")]
    Changed,
    /// Anything else, in the system's words.
    #[error("{0}")]
    Io(String),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Character device with major and minor number.
    CharDevice(u64, u64),
    /// Block device with major and minor number.
    BlockDevice(u64, u64),
    /// Socket.
    Socket,
}

/// What `lstat` says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Apparent size in bytes (files).
    pub size: u64,
    /// Bytes allocated on disk; less than `size` hints at holes.
    pub allocated: u64,
    /// Low 12 bits of the mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: WallTime,
    /// Number of names of the inode.
    pub links: u64,
    /// Change time, inode and device.
    pub stamp: Stamp,
}

/// The names in one directory: one allocation for all of them, because a directory may hold millions.
#[derive(Debug, Default)]
pub struct Names {
    arena: Vec<u8>,
    spans: Vec<(usize, usize)>,
}

impl Names {
    /// Adds a name.
    pub fn push(&mut self, name: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.spans.push((start, self.arena.len()));
    }

    /// Sorts the names bytewise.
    pub fn sort(&mut self) {
        let arena = &self.arena;
        self.spans.sort_unstable_by(|a, b| arena[a.0..a.1].cmp(&arena[b.0..b.1]));
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The `i`-th name.
    pub fn name(&self, i: usize) -> &[u8] {
        let (start, end) = self.spans[i];
        &self.arena[start..end]
    }
}

/// Extended attributes: name and value, by ascending name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A tree of files to take a snapshot of.
pub trait Source {
    /// An open directory.
    type Dir;
    /// An open file, read from its start.
    type File;

    /// Opens the directory that holds the last component of `path`, an absolute path without its leading slash, and
    /// returns it with that component. For the empty path (the root of everything) the component is `.`.
    ///
    /// # Errors
    /// When a directory on the way cannot be opened.
    fn enter(&self, path: &[u8]) -> Result<(Self::Dir, Vec<u8>), SourceError>;

    /// Opens directory `name` in `dir`, never following a symbolic link.
    ///
    /// # Errors
    /// When it cannot be opened or is no directory any more.
    fn open_dir(&self, dir: &Self::Dir, name: &[u8]) -> Result<Self::Dir, SourceError>;

    /// The names in `dir` without `.` and `..`, in any order.
    ///
    /// # Errors
    /// When the directory cannot be read to its end: a partial list is never returned.
    fn names(&self, dir: &Self::Dir) -> Result<Names, SourceError>;

    /// Looks at `name` in `dir` without following a symbolic link.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn look(&self, dir: &Self::Dir, name: &[u8]) -> Result<Found, SourceError>;

    /// The target of symbolic link `name`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn target(&self, dir: &Self::Dir, name: &[u8]) -> Result<Vec<u8>, SourceError>;

    /// Extended attributes of `name` itself (not of what a link points to), ACLs among them, sorted by name.
    ///
    /// # Errors
    /// When they exist and cannot be read. A file system without attributes gives none.
    fn xattrs(&self, dir: &Self::Dir, name: &[u8], kind: FoundKind) -> Result<Xattrs, SourceError>;

    /// Opens file `name` in `dir` for reading and looks at what was opened.
    ///
    /// # Errors
    /// When it cannot be opened or is no regular file any more.
    fn open(&self, dir: &Self::Dir, name: &[u8]) -> Result<(Self::File, Found), SourceError>;

    /// Looks at an open file again.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn look_again(&self, file: &Self::File) -> Result<Found, SourceError>;

    /// The data extents of an open file of `size` bytes, ascending and apart, or `None` when the file system cannot tell.
    ///
    /// # Errors
    /// When asking fails.
    fn extents(&self, file: &Self::File, size: u64) -> Result<Option<Vec<Extent>>, SourceError>;

    /// Reads at `offset` into `buf`; returns 0 only at the end of the file.
    ///
    /// # Errors
    /// When the medium fails.
    fn read_at(&self, file: &Self::File, offset: u64, buf: &mut [u8]) -> Result<usize, SourceError>;
}
