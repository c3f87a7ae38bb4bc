//! Writing one file: whole when it is one chunk, streamed under a hidden name when it is more.
//!
//! A file of one chunk is verified before anything is written. A longer one is written as its chunks come, each verified,
//! and gets its name only when the digest over all of it fits. Where an older file is to be replaced, chunks that it
//! still has are taken from it rather than fetched: over a long link that is most of the time. Whether a file that looks
//! restored is can be told without fetching, too: its chunks' names are digests. Step 21 of the walk.

use lavatube_format::tree::{Content, Entry, Extent, Kind, Ref};

use super::{DIRECTORY_THERE, Overwrite, Rules, name};
use crate::fault::Fault;
use crate::fetch::{FetchError, Fetcher};
use crate::layers::TreeError;
use crate::layers::refs::LeafRefs;
use crate::meter::Meter;
use crate::sink::{Sink, SinkError};
use crate::source::{Found, FoundKind};

/// Why an entry was not restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Its content was not had.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The target did not take it.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// All chunks are what they should be, and together they are not the file that was read.
    #[error("its content does not have the digest that was recorded; it did not get its name")]
    Digest,
}

impl From<FetchError> for FileError {
    fn from(e: FetchError) -> Self {
        Self::Tree(e.into())
    }
}

impl FileError {
    /// Whose fault it is.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Tree(e) => e.fault(),
            Self::Sink(e) => e.fault(),
            Self::Digest => Fault::Lost,
        }
    }

    /// Whether other files would fail for the same reason.
    pub(super) fn ends_all(&self) -> bool {
        matches!(self.fault(), Fault::Away | Fault::Full)
    }
}

/// How the restoring of an entry ended.
pub(super) enum End {
    /// It is there now, but for these details.
    Written(Vec<String>),
    /// It was there.
    AlreadyThere,
    /// Something else is there, for this reason left alone.
    Kept(&'static str),
}

/// What is at an entry's place now, and how that ends its restoring if it does.
pub(super) fn existing<S: Sink>(
    sink: &S,
    dir: &S::Dir,
    entry: &Entry,
    overwrite: Overwrite,
) -> Result<(Option<Found>, Option<End>), SinkError> {
    let Some(found) = sink.look(dir, name(&entry.path))? else { return Ok((None, None)) };
    let end = if found.kind == FoundKind::Directory {
        Some(End::Kept(DIRECTORY_THERE))
    } else if overwrite != Overwrite::Always && is_same(&found, entry) {
        Some(End::AlreadyThere)
    } else if overwrite == Overwrite::Never {
        Some(End::Kept("something else of that name is there"))
    } else {
        None
    };
    Ok((Some(found), end))
}

fn is_same(found: &Found, entry: &Entry) -> bool {
    let kind = match (&entry.kind, found.kind) {
        (Kind::File(content), FoundKind::File) => content.size == found.size,
        (Kind::CharDevice { major, minor }, FoundKind::CharDevice(a, b))
        | (Kind::BlockDevice { major, minor }, FoundKind::BlockDevice(a, b)) => (*major, *minor) == (a, b),
        (Kind::Symlink(_), FoundKind::Symlink) | (Kind::Fifo, FoundKind::Fifo) | (Kind::Socket, FoundKind::Socket) => {
            true
        }
        _ => false,
    };
    kind && found.mtime == entry.meta.mtime
}

/// Files with more references than this are read ahead in groups of so many.
const GROUP: usize = 64;
const REFS_EXPECTED: usize = 256;

/// Writes files into one directory.
pub(super) struct FileWriter<'w, 'a, S: Sink> {
    /// Where chunks come from.
    pub(super) fetcher: &'w mut Fetcher<'a>,
    /// Where files go.
    pub(super) sink: &'w S,
    /// The directory.
    pub(super) dir: &'w S::Dir,
    /// What may be replaced, and what is believed.
    pub(super) rules: Rules,
    /// Is told of bytes as they are written.
    pub(super) meter: &'w Meter,
    /// How many it was told of.
    pub(super) counted: u64,
}

impl<S: Sink> FileWriter<'_, '_, S> {
    /// Restores file `entry`. In a `fresh` directory nothing is looked for first.
    pub(super) fn restore(&mut self, entry: &Entry, content: &Content, fresh: bool) -> Result<End, FileError> {
        let (old, end) = if fresh { (None, None) } else { existing(self.sink, self.dir, entry, self.rules.overwrite)? };
        match end {
            // A power loss may leave a file of the right size and time that holds nothing: that one is ours to replace.
            Some(End::AlreadyThere) if self.rules.doubts(old.as_ref()) && !self.holds(entry, content)? => {}
            Some(end) => return Ok(end),
            None => {}
        }
        let written = if content.depth == 0 && content.refs.len() <= 1 {
            self.whole(entry, content, old.as_ref())
        } else {
            self.streamed(entry, content, old.as_ref())
        };
        match written {
            // It came to be since we looked.
            Err(FileError::Sink(SinkError::Exists)) => {
                match existing(self.sink, self.dir, entry, self.rules.overwrite)?.1 {
                    Some(end) => Ok(end),
                    None => Err(SinkError::Exists.into()),
                }
            }
            other => other.map(End::Written),
        }
    }

    fn whole(&mut self, entry: &Entry, content: &Content, old: Option<&Found>) -> Result<Vec<String>, FileError> {
        let name = name(&entry.path);
        let mut reused = Vec::new();
        let len = content.refs.first().map_or(0, |r| r.len);
        let bytes = match content.refs.first() {
            None => &[],
            Some(r) if self.reuse(name, content, old, 0, r, &mut reused) => &reused[..],
            Some(r) => self.fetcher.chunk(&r.id, Some(r.len))?.content(),
        };
        let mut file = create(self.sink, self.dir, name, old.is_none())?;
        let mut place = Placer::new(content);
        if let Err(e) = place.put(bytes, |at, part| self.sink.write_at(&mut file, at, part)) {
            self.sink.give_up(self.dir, name, file);
            return Err(e.into());
        }
        self.count(len);
        self.finish(entry, content, file, old)
    }

    fn streamed(&mut self, entry: &Entry, content: &Content, old: Option<&Found>) -> Result<Vec<String>, FileError> {
        let name = name(&entry.path);
        let sink = self.sink;
        let mut file = match old {
            Some(_) => create(sink, self.dir, name, false)?,
            None => sink.create(self.dir, name, false)?,
        };
        if let Err(e) = self.stream(name, content, old, &mut file) {
            sink.give_up(self.dir, name, file);
            return Err(e);
        }
        self.finish(entry, content, file, old)
    }

    /// Writes a file's content group by group, and compares its digest.
    fn stream(
        &mut self,
        name: &[u8],
        content: &Content,
        old: Option<&Found>,
        file: &mut S::File,
    ) -> Result<(), FileError> {
        let mut place = Placer::new(content);
        let mut hasher = blake3::Hasher::new();
        let mut leaves = LeafRefs::new(content);
        let long = content.depth > 0 || content.refs.len() > REFS_EXPECTED;
        let (mut group, mut reused, mut at) = (Vec::with_capacity(GROUP), Vec::new(), 0);
        loop {
            group.clear();
            while group.len() < GROUP
                && let Some(leaf) = leaves.next(self.fetcher)?
            {
                group.push(leaf);
            }
            if group.is_empty() {
                break;
            }
            if long && old.is_none() {
                let places: Vec<_> = group.iter().filter_map(|r| self.fetcher.place(&r.id).ok()).collect();
                self.fetcher.expect(places);
            }
            for leaf in &group {
                let bytes = if self.reuse(name, content, old, at, leaf, &mut reused) {
                    &reused[..]
                } else {
                    self.fetcher.chunk(&leaf.id, Some(leaf.len))?.content()
                };
                hasher.update(bytes);
                place.put(bytes, |offset, part| self.sink.write_at(file, offset, part))?;
                at += leaf.len;
                self.count(leaf.len);
            }
        }
        if content.digest.is_some_and(|digest| digest != *hasher.finalize().as_bytes()) {
            return Err(FileError::Digest);
        }
        Ok(())
    }

    fn count(&mut self, len: u64) {
        self.meter.bytes.add(len);
        self.counted += len;
    }

    fn finish(
        &self,
        entry: &Entry,
        content: &Content,
        file: S::File,
        old: Option<&Found>,
    ) -> Result<Vec<String>, FileError> {
        let name = name(&entry.path);
        if old.is_some() {
            self.sink.remove(self.dir, name)?;
        }
        Ok(self.sink.finish_file(self.dir, name, file, content.size, &entry.meta)?)
    }

    /// Whether the file that is to be replaced has chunk `leaf` at the same place; then it is in `out`.
    fn reuse(
        &self,
        name: &[u8],
        content: &Content,
        old: Option<&Found>,
        at: u64,
        leaf: &Ref,
        out: &mut Vec<u8>,
    ) -> bool {
        let fits = old.is_some_and(|old| old.kind == FoundKind::File && at.saturating_add(leaf.len) <= old.size);
        let Some(len) = usize::try_from(leaf.len).ok().filter(|len| *len <= lavatube_base::limits::CHUNK_LEN_MAX)
        else {
            return false;
        };
        if !fits || content.extents.is_some() {
            return false;
        }
        out.resize(len, 0);
        self.read_there(name, at, out) && self.fetcher.archive().chunk_ids.open(out, leaf.id).is_some()
    }

    /// Whether the file that is there has the content that it should have.
    fn holds(&mut self, entry: &Entry, content: &Content) -> Result<bool, TreeError> {
        let name = name(&entry.path);
        let (mut leaves, mut place, mut bytes) = (LeafRefs::new(content), Placer::new(content), Vec::new());
        while let Some(leaf) = leaves.next(self.fetcher)? {
            let len = usize::try_from(leaf.len).unwrap_or(usize::MAX);
            if len > lavatube_base::limits::CHUNK_LEN_MAX {
                return Ok(false);
            }
            bytes.resize(len, 0);
            let mut done = 0;
            while done < len {
                let Some((at, n)) = place.stretch(len - done) else { return Ok(false) };
                if !self.read_there(name, at, &mut bytes[done..done + n]) {
                    return Ok(false);
                }
                done += n;
            }
            if self.fetcher.archive().chunk_ids.open(&bytes, leaf.id).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills `out` from the file that is there; false when that cannot be done.
    fn read_there(&self, name: &[u8], at: u64, out: &mut [u8]) -> bool {
        let mut done = 0;
        while done < out.len() {
            match self.sink.read_existing(self.dir, name, at.saturating_add(done as u64), &mut out[done..]) {
                Ok(n) if n > 0 => done += n,
                _ => return false,
            }
        }
        true
    }
}

/// Creates a file. One that is to be replaced (`new` is false) stays until the new one is whole, if the sink can do that.
fn create<S: Sink>(sink: &S, dir: &S::Dir, name: &[u8], new: bool) -> Result<S::File, SinkError> {
    match sink.create(dir, name, new) {
        Err(SinkError::Exists) if !new => {
            sink.remove(dir, name)?;
            sink.create(dir, name, false)
        }
        other => other,
    }
}

/// Lays a content stream out over the data extents of a file.
struct Placer<'c> {
    whole: [Extent; 1],
    extents: Option<&'c [Extent]>,
    number: usize,
    used: u64,
}

impl<'c> Placer<'c> {
    fn new(content: &'c Content) -> Self {
        let whole = [Extent { at: 0, len: content.size }];
        Self { whole, extents: content.extents.as_deref(), number: 0, used: 0 }
    }

    /// Writes the next bytes of the stream where they belong.
    fn put(
        &mut self,
        mut bytes: &[u8],
        mut write: impl FnMut(u64, &[u8]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        while !bytes.is_empty() {
            // The format's reader has checked that extents and stream are of one length.
            let Some((at, len)) = self.stretch(bytes.len()) else { return Ok(()) };
            let (now, later) = bytes.split_at(len);
            write(at, now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Where the next bytes of the stream lie in the file, and how many lie there together, up to `most`; `None` behind
    /// the last.
    fn stretch(&mut self, most: usize) -> Option<(u64, usize)> {
        let extents = self.extents.unwrap_or(&self.whole);
        loop {
            let extent = extents.get(self.number)?;
            let room = usize::try_from(extent.len - self.used).unwrap_or(usize::MAX);
            if room > 0 {
                let (at, len) = (extent.at + self.used, room.min(most));
                self.used += len as u64;
                return Some((at, len));
            }
            (self.number, self.used) = (self.number + 1, 0);
        }
    }
}
