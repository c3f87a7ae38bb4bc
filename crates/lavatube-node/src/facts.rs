//! What is in a file on this machine, as evidence says it: length, both digests, and where it has holes.
//!
//! Reads it once, in pieces. It must not know what the facts are compared with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lavatube_base::digest::Digester;
use lavatube_base::limits::CHUNK_LEN_MAX;
use lavatube_client::source::Source;
use lavatube_format::roll::FileFacts;
use lavatube_format::tree::Extent;

/// A file that was looked at.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The facts.
    pub facts: FileFacts,
    /// Its content stream, where that is no longer than a chunk.
    pub stream: Option<Vec<u8>>,
}

/// Digests of a stream, and the stream as long as it is short.
struct Stream {
    digester: Digester,
    kept: Option<Vec<u8>>,
}

impl Stream {
    fn new() -> Self {
        Self { digester: Digester::default(), kept: Some(Vec::new()) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
        self.kept.take_if(|kept| kept.len() + bytes.len() > CHUNK_LEN_MAX);
        self.kept.iter_mut().for_each(|kept| kept.extend_from_slice(bytes));
    }

    fn finish(self, len: u64, extents: Option<Vec<Extent>>) -> Looked {
        Looked { facts: FileFacts { len, digests: self.digester.finish(), extents }, stream: self.kept }
    }
}

/// The whole of a file.
///
/// # Errors
/// What the system says.
pub fn of_file(path: &Path) -> io::Result<Looked> {
    let file = open(path)?;
    let (mut stream, mut at, mut buffer) = (Stream::new(), 0, vec![0; BUFFER_LEN]);
    loop {
        let n = file.read_at(&mut buffer, at)?;
        if n == 0 {
            return Ok(stream.finish(at, None));
        }
        stream.update(&buffer[..n]);
        at += n as u64;
    }
}

/// A file as one with data in these `extents` alone. Where there is data outside of them, none come back.
///
/// # Errors
/// What the system says.
pub fn of_extents(path: &Path, extents: &[Extent]) -> io::Result<Looked> {
    let file = open(path)?;
    let (mut stream, mut buffer) = (Stream::new(), vec![0; BUFFER_LEN]);
    let (mut rest, mut at, mut is_hole) = (extents.iter().copied().peekable(), 0u64, true);
    loop {
        while rest.peek().is_some_and(|e| e.at + e.len <= at) {
            rest.next();
        }
        let (inside, until) = match rest.peek() {
            Some(e) if at >= e.at => (true, e.at + e.len),
            Some(e) => (false, e.at),
            None => (false, u64::MAX),
        };
        let want = usize::try_from(until - at).unwrap_or(usize::MAX).min(buffer.len());
        let n = file.read_at(&mut buffer[..want], at)?;
        if n == 0 {
            break;
        }
        if inside {
            stream.update(&buffer[..n]);
        } else {
            is_hole &= buffer[..n].iter().all(|byte| *byte == 0);
        }
        at += n as u64;
    }
    Ok(stream.finish(at, is_hole.then(|| extents.to_vec())))
}

/// Where the file system says a file has data, if it has holes.
pub fn extents(path: &Path) -> Option<Vec<Extent>> {
    use std::os::unix::ffi::OsStrExt;
    let source = crate::directory_source::DirectorySource::new().ok()?;
    let whole = path.canonicalize().ok()?;
    let below = whole.as_os_str().as_bytes().strip_prefix(b"/")?;
    let (dir, name) = source.enter(below).ok()?;
    let (file, found) = source.open(&dir, &name).ok()?;
    let extents = if found.allocated < found.size { source.extents(&file, found.size).ok()?? } else { return None };
    let is_whole = extents[..] == [Extent { at: 0, len: found.size }];
    (!is_whole).then_some(extents)
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

const BUFFER_LEN: usize = 1 << 20;
