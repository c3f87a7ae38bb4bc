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

/// The facts about the whole of a file, and its bytes where it is no longer than a chunk.
///
/// # Errors
/// What the system says.
pub fn of_file(path: &Path) -> io::Result<(FileFacts, Option<Vec<u8>>)> {
    let file = open(path)?;
    let mut kept = Some(Vec::new());
    let (mut digester, mut at, mut buffer) = (Digester::default(), 0, vec![0; BUFFER_LEN]);
    loop {
        let n = file.read_at(&mut buffer, at)?;
        if n == 0 {
            return Ok((FileFacts { len: at, digests: digester.finish(), extents: None }, kept));
        }
        digester.update(&buffer[..n]);
        at += n as u64;
        kept = kept.filter(|bytes| bytes.len() + n <= CHUNK_LEN_MAX);
        if let Some(bytes) = &mut kept {
            bytes.extend_from_slice(&buffer[..n]);
        }
    }
}

/// The facts about a file as one with data in these `extents` alone has them. Where there is data outside of them, the
/// extents that come back are others.
///
/// # Errors
/// What the system says.
pub fn of_extents(path: &Path, extents: &[Extent]) -> io::Result<FileFacts> {
    let file = open(path)?;
    let (mut digester, mut buffer) = (Digester::default(), vec![0; BUFFER_LEN]);
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
            digester.update(&buffer[..n]);
        } else {
            is_hole &= buffer[..n].iter().all(|byte| *byte == 0);
        }
        at += n as u64;
    }
    let extents = is_hole.then(|| extents.to_vec());
    Ok(FileFacts { len: at, digests: digester.finish(), extents })
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
