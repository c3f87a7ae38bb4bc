//! Tree records: one entry of a snapshot's tree each, prefix-compressed in runs (FORMAT section 4).
//!
//! A tree is a long sorted sequence rather than a tree of objects, so that a walk, a comparison with the last snapshot
//! and a restore are all one merge of sorted streams in bounded memory. This file must not know layers or chunks' places.

use std::cmp::Ordering;

use lavatube_base::ChunkId;
use lavatube_base::limits::{LIST_DEPTH_MAX, PATH_LEN_MAX, RECORD_LEN_MAX, REFS_PER_LIST_MAX};
use lavatube_base::time::WallTime;

use crate::wire::{Malformed, Reader, put_bytes, put_len, put_varint, put_zigzag};

/// A stretch of a file's content stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ref {
    /// A chunk of the stream, or a list chunk that stands for many.
    pub id: ChunkId,
    /// Bytes of the stream it stands for.
    pub len: u64,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub at: u64,
    /// Its length.
    pub len: u64,
}

/// What a regular file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Apparent size, holes included.
    pub size: u64,
    /// 0 when the refs are chunks of the stream, else the levels of list chunks below them.
    pub depth: u64,
    /// The content stream.
    pub refs: Vec<Ref>,
    /// Data extents when the file has holes; `None` when it has none.
    pub extents: Option<Vec<Extent>>,
    /// BLAKE3 of the content stream; present when it is more than one chunk.
    pub digest: Option<[u8; 32]>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Not there any more: hides older layers.
    Gone,
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// A socket's name.
    Socket,
}

/// What a file system says about an entry besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with suid, sgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: WallTime,
    /// Extended attributes, by ascending name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a further name of a hard-linked file: the path of the group's first.
    pub first_link: Option<Vec<u8>>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path without a leading slash; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its metadata; meaningless when it is [`Kind::Gone`].
    pub meta: Meta,
}

/// The order of a tree: by component, bytewise. A directory comes right before what it contains.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    match a.iter().zip(b).find(|(x, y)| x != y) {
        None => a.len().cmp(&b.len()),
        // The separator sorts below every byte of a name; no name contains 0.
        Some((b'/', _)) => Ordering::Less,
        Some((_, b'/')) => Ordering::Greater,
        Some((x, y)) => x.cmp(y),
    }
}

/// Whether `path` is well formed: no empty, `.` or `..` component and no zero byte.
pub fn path_is_sound(path: &[u8]) -> bool {
    //= FORMAT#F11 paths that could climb out of a target are no paths
    path.is_empty()
        || (path.len() <= PATH_LEN_MAX
            && !path.contains(&0)
            && path.split(|b| *b == b'/').all(|c| !c.is_empty() && c != b"." && c != b".."))
}

/// Writes records, each relative to the one before.
#[derive(Debug, Default)]
pub struct RecordWriter {
    previous: Vec<u8>,
    body: Vec<u8>,
}

impl RecordWriter {
    /// Makes the next record independent of those before: the start of a tree chunk.
    pub fn restart(&mut self) {
        self.previous.clear();
    }

    /// Appends the record of `entry` to `out`. Entries come in [`path_order`].
    pub fn put(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        self.body.clear();
        let body = &mut self.body;
        let shared = self.previous.iter().zip(&entry.path).take_while(|(a, b)| a == b).count();
        body.push(kind_code(&entry.kind));
        put_len(body, shared);
        put_bytes(body, &entry.path[shared..]);
        if entry.kind != Kind::Gone {
            put_meta(body, &entry.meta, sparse_flag(&entry.kind));
            put_kind(body, &entry.kind);
        }
        put_bytes(out, body);
        self.previous.truncate(shared);
        self.previous.extend_from_slice(&entry.path[shared..]);
    }
}

const FLAG_XATTRS: u64 = 1;
const FLAG_LINK: u64 = 2;
const FLAG_SPARSE: u64 = 4;

fn kind_code(kind: &Kind) -> u8 {
    match kind {
        Kind::Gone => 0,
        Kind::File(_) => 1,
        Kind::Directory => 2,
        Kind::Symlink(_) => 3,
        Kind::Fifo => 4,
        Kind::CharDevice { .. } => 5,
        Kind::BlockDevice { .. } => 6,
        Kind::Socket => 7,
    }
}

fn sparse_flag(kind: &Kind) -> u64 {
    match kind {
        Kind::File(c) if c.extents.is_some() => FLAG_SPARSE,
        _ => 0,
    }
}

fn put_meta(out: &mut Vec<u8>, meta: &Meta, sparse: u64) {
    put_varint(out, u64::from(meta.mode));
    put_varint(out, u64::from(meta.uid));
    put_varint(out, u64::from(meta.gid));
    put_zigzag(out, meta.mtime.s);
    put_varint(out, u64::from(meta.mtime.ns));
    let mut flags = sparse;
    if !meta.xattrs.is_empty() {
        flags |= FLAG_XATTRS;
    }
    if meta.first_link.is_some() {
        flags |= FLAG_LINK;
    }
    put_varint(out, flags);
    if !meta.xattrs.is_empty() {
        put_len(out, meta.xattrs.len());
        for (name, value) in &meta.xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
    if let Some(path) = &meta.first_link {
        put_bytes(out, path);
    }
}

fn put_kind(out: &mut Vec<u8>, kind: &Kind) {
    match kind {
        Kind::Symlink(target) => put_bytes(out, target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put_varint(out, *major);
            put_varint(out, *minor);
        }
        Kind::File(content) => {
            put_varint(out, content.size);
            put_varint(out, content.depth);
            put_len(out, content.refs.len());
            put_refs(out, &content.refs);
            if let Some(extents) = &content.extents {
                put_extents(out, extents);
            }
            if let Some(digest) = &content.digest {
                out.extend_from_slice(digest);
            }
        }
        Kind::Gone | Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
}

/// Appends refs: the content of a list chunk, or part of a file's record.
pub fn put_refs(out: &mut Vec<u8>, refs: &[Ref]) {
    for r in refs {
        out.extend_from_slice(&r.id.0);
        put_varint(out, r.len);
    }
}

/// Reads the content of a list chunk.
///
/// # Errors
/// [`Malformed`] when it is not a sequence of refs or exceeds its limit.
pub fn decode_list(bytes: &[u8]) -> Result<Vec<Ref>, Malformed> {
    let mut r = Reader::new("list chunk", bytes);
    let mut refs = Vec::with_capacity((bytes.len() / (ChunkId::LEN + 1)).min(REFS_PER_LIST_MAX));
    while r.left() > 0 {
        r.ensure(refs.len() < REFS_PER_LIST_MAX, "too many references")?;
        refs.push(Ref { id: ChunkId(r.array()?), len: r.varint()? });
    }
    Ok(refs)
}

/// Reads the records of one tree chunk, in order.
#[derive(Debug)]
pub struct RecordReader<'a> {
    r: Reader<'a>,
    previous: Vec<u8>,
    started: bool,
}

impl<'a> RecordReader<'a> {
    /// A reader at the start of a tree chunk's content.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { r: Reader::new("tree chunk", bytes), previous: Vec::new(), started: false }
    }

    /// The cursor, for what a tree cache writes between records.
    pub(crate) fn cursor(&mut self) -> &mut Reader<'a> {
        &mut self.r
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`] when the record breaks its layout or the order of paths.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Malformed> {
        if self.r.left() == 0 {
            return Ok(None);
        }
        let body = self.r.bytes(RECORD_LEN_MAX)?;
        let mut b = Reader::new("tree record", body);
        let code = b.u8()?;
        let shared = b.varint_max(self.previous.len(), "shares more than the previous path has")?;
        let suffix = b.bytes(PATH_LEN_MAX)?;
        let mut path = Vec::with_capacity(shared + suffix.len());
        path.extend_from_slice(&self.previous[..shared]);
        path.extend_from_slice(suffix);
        b.ensure(path_is_sound(&path), "path with an empty, dot or zero component")?;
        let ascends = !self.started || path_order(&self.previous, &path) == Ordering::Less;
        b.ensure(ascends, "paths do not ascend")?;
        let (meta, kind) = if code == 0 { (Meta::default(), Kind::Gone) } else { read_rest(&mut b, code, &path)? };
        b.finish()?;
        self.started = true;
        self.previous.clone_from(&path);
        Ok(Some(Entry { path, kind, meta }))
    }
}

fn read_rest(b: &mut Reader<'_>, code: u8, path: &[u8]) -> Result<(Meta, Kind), Malformed> {
    let (mut meta, flags) = read_meta(b)?;
    if flags & FLAG_LINK != 0 {
        let first = b.bytes(PATH_LEN_MAX)?;
        let sound = !first.is_empty() && path_is_sound(first) && path_order(first, path) == Ordering::Less;
        b.ensure(sound, "first name of a hard link does not come before")?;
        meta.first_link = Some(first.to_vec());
    }
    b.ensure(flags & FLAG_SPARSE == 0 || code == 1, "only files are sparse")?;
    let kind = match code {
        1 => Kind::File(read_content(b, flags & FLAG_SPARSE != 0)?),
        2 => Kind::Directory,
        3 => Kind::Symlink(b.bytes(PATH_LEN_MAX)?.to_vec()),
        4 => Kind::Fifo,
        5 => Kind::CharDevice { major: b.varint()?, minor: b.varint()? },
        6 => Kind::BlockDevice { major: b.varint()?, minor: b.varint()? },
        7 => Kind::Socket,
        _ => return Err(b.fail("unknown kind of entry")),
    };
    Ok((meta, kind))
}

fn read_meta(b: &mut Reader<'_>) -> Result<(Meta, u64), Malformed> {
    let word = |b: &mut Reader<'_>, max: u64, rule| {
        let v = b.varint()?;
        b.ensure(v <= max, rule)?;
        u32::try_from(v).map_err(|_| b.fail(rule))
    };
    let mode = word(b, 0o7777, "mode has more than 12 bits")?;
    let uid = word(b, u64::from(u32::MAX), "owner exceeds 32 bits")?;
    let gid = word(b, u64::from(u32::MAX), "group exceeds 32 bits")?;
    let s = b.zigzag()?;
    let ns = word(b, 999_999_999, "nanoseconds exceed a second")?;
    let flags = b.varint()?;
    b.ensure(flags <= 7, "unknown flags")?;
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if flags & FLAG_XATTRS != 0 {
        let n = b.varint_max(b.left() / 2, "more attributes than bytes")?;
        b.ensure(n > 0, "attributes are announced but missing")?;
        for _ in 0..n {
            let name = b.bytes(RECORD_LEN_MAX)?.to_vec();
            let value = b.bytes(RECORD_LEN_MAX)?.to_vec();
            b.ensure(xattrs.last().is_none_or(|(last, _)| *last < name), "attribute names do not ascend")?;
            xattrs.push((name, value));
        }
    }
    Ok((Meta { mode, uid, gid, mtime: WallTime { s, ns }, xattrs, first_link: None }, flags))
}

fn read_content(b: &mut Reader<'_>, sparse: bool) -> Result<Content, Malformed> {
    let size = b.varint()?;
    let depth = b.varint()?;
    b.ensure(depth <= LIST_DEPTH_MAX, "lists are nested too deep")?;
    let n = b.varint_max(b.left() / (ChunkId::LEN + 1), "more references than bytes")?;
    let mut refs = Vec::with_capacity(n);
    let mut stream = 0u64;
    for _ in 0..n {
        let r = Ref { id: ChunkId(b.array()?), len: b.varint()? };
        stream = stream.checked_add(r.len).ok_or_else(|| b.fail("content exceeds 64 bits"))?;
        refs.push(r);
    }
    let extents = if sparse { Some(read_extents(b, size, stream)?) } else { None };
    //= FORMAT#F13 references add up to the content
    b.ensure(sparse || stream == size, "references do not add up to the size")?;
    let digest = if n > 1 || depth > 0 { Some(b.array()?) } else { None };
    Ok(Content { size, depth, refs, extents, digest })
}

/// Appends the data extents of a file with holes.
///
/// # Panics
/// When they do not ascend: a mistake of our caller.
pub(crate) fn put_extents(out: &mut Vec<u8>, extents: &[Extent]) {
    put_len(out, extents.len());
    let mut end = 0;
    for extent in extents {
        assert!(extent.at >= end, "extents ascend");
        put_varint(out, extent.at - end);
        put_varint(out, extent.len);
        end = extent.at + extent.len;
    }
}

/// Data extents of a file of `size` bytes, and how many bytes they are.
pub(crate) fn extents(b: &mut Reader<'_>, size: u64) -> Result<(Vec<Extent>, u64), Malformed> {
    let n = b.varint_max(b.left() / 2, "more extents than bytes")?;
    let mut out = Vec::with_capacity(n);
    let (mut end, mut sum) = (0u64, 0u64);
    for _ in 0..n {
        let (gap, len) = (b.varint()?, b.varint()?);
        let at = end.checked_add(gap).ok_or_else(|| b.fail("extent exceeds 64 bits"))?;
        end = at.checked_add(len).ok_or_else(|| b.fail("extent exceeds 64 bits"))?;
        sum += len;
        b.ensure(end <= size, "extent reaches beyond the file")?;
        out.push(Extent { at, len });
    }
    Ok((out, sum))
}

fn read_extents(b: &mut Reader<'_>, size: u64, stream: u64) -> Result<Vec<Extent>, Malformed> {
    let (out, sum) = extents(b, size)?;
    b.ensure(sum == stream, "references do not add up to the extents")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &[u8], refs: &[(u8, u64)]) -> Entry {
        let refs: Vec<Ref> = refs.iter().map(|(b, len)| Ref { id: ChunkId([*b; 24]), len: *len }).collect();
        let digest = (refs.len() > 1).then_some([9; 32]);
        let size = refs.iter().map(|r| r.len).sum();
        let content = Content { size, depth: 0, refs, extents: None, digest };
        Entry { path: path.to_vec(), kind: Kind::File(content), meta: Meta { mode: 0o644, ..Meta::default() } }
    }

    fn write(entries: &[Entry]) -> Vec<u8> {
        let (mut w, mut out) = (RecordWriter::default(), Vec::new());
        entries.iter().for_each(|e| w.put(&mut out, e));
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
        let (mut r, mut out) = (RecordReader::new(bytes), Vec::new());
        while let Some(e) = r.next_entry()? {
            out.push(e);
        }
        Ok(out)
    }

    fn entry(path: &[u8], kind: Kind) -> Entry {
        Entry { path: path.to_vec(), kind, meta: Meta::default() }
    }

    #[test]
    fn every_kind_survives() {
        let mut sparse = file(b"a/s", &[(3, 4096)]);
        if let Kind::File(c) = &mut sparse.kind {
            c.size = 1 << 40;
            c.extents = Some(vec![Extent { at: 1 << 20, len: 4000 }, Extent { at: 1 << 30, len: 96 }]);
        }
        let mut link = file(b"a/t", &[(3, 4096)]);
        link.meta.first_link = Some(b"a/s".to_vec());
        link.meta.xattrs = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![0, 255])];
        let mut old = entry(b"z\xff", Kind::Symlink(b"../x".to_vec()));
        old.meta.mtime = WallTime { s: -5_000_000_000, ns: 999_999_999 };
        let all = vec![
            entry(b"", Kind::Directory),
            entry(b"a", Kind::Directory),
            file(b"a/b", &[(1, 10), (2, 20)]),
            sparse,
            link,
            entry(b"a.txt", Kind::Gone),
            entry(b"c", Kind::CharDevice { major: 1, minor: 3 }),
            entry(b"d", Kind::BlockDevice { major: 8, minor: 1 << 40 }),
            entry(b"e", Kind::Fifo),
            entry(b"f", Kind::Socket),
            old,
        ];
        assert_eq!(read(&write(&all)), Ok(all));
    }

    #[test]
    fn a_directory_comes_right_before_its_content() {
        let mut paths: Vec<&[u8]> = vec![b"a.b", b"a/z", b"a", b"a-", b"", b"a/z/y", b"b"];
        paths.sort_by(|a, b| path_order(a, b));
        let want: Vec<&[u8]> = vec![b"", b"a", b"a/z", b"a/z/y", b"a-", b"a.b", b"b"];
        assert_eq!(paths, want);
    }

    #[test]
    fn paths_that_climb_or_go_back_are_refused() {
        for path in [&b"../x"[..], b"a/../b", b"/a", b"a//b", b"a/", b"./a", b"a\0b"] {
            assert!(!path_is_sound(path), "{path:?}");
            assert!(read(&write(&[entry(path, Kind::Fifo)])).is_err());
        }
        assert!(read(&write(&[entry(b"b", Kind::Fifo), entry(b"a", Kind::Fifo)])).is_err());
        assert!(read(&write(&[entry(b"a", Kind::Fifo), entry(b"a", Kind::Fifo)])).is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = decode_list(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..1000, value: u8) {
            let mut bytes = write(&[file(b"a/b", &[(1, 10), (2, 20)]), file(b"a/c", &[(3, 300)])]);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }
}
