//! The tree cache: the last snapshot's merged tree as a depositor keeps it, to tell what changed (FORMAT section 9).
//!
//! Each record of the tree is preceded by what the file system said of the entry (so that an unchanged file is not read)
//! and by the generation in which it last changed (so that a layer of "all that changed since" can be written without
//! reading anything back). The body is cut into blocks that are read one at a time. It never leaves the machine and must
//! not know how either is used.

use lavatube_base::ChunkId;
use lavatube_base::limits::{LAYERS_MAX, TREE_BLOCK_LEN, TREE_BLOCK_LEN_MAX};
use lavatube_base::time::WallTime;

use crate::tree::{Entry, RecordReader, RecordWriter};
use crate::wire::{Malformed, Reader, put_len, put_varint, put_zigzag};

/// First eight bytes of the head of a tree cache.
pub const MAGIC: &[u8; 8] = b"LVTTREE\x01";

/// What the file system said of an entry when it was read. Equal stamps (and size and mtime) mean: unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Time of the last change of the inode.
    pub ctime: WallTime,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
}

/// One layer as the cache remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedLayer {
    /// Its descriptor.
    pub id: ChunkId,
    /// It holds what changed after this generation (0: everything).
    pub since: u64,
    /// Generation in which it was written.
    pub at: u64,
    /// Number of its records.
    pub entries: u64,
}

/// The head of a tree cache: a small file that is replaced at once when a snapshot has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheHead {
    /// Snapshot the cache is of.
    pub snapshot: ChunkId,
    /// When that snapshot began.
    pub started: WallTime,
    /// Counts snapshots of this source.
    pub generation: u64,
    /// Its layers, newest first.
    pub layers: Vec<CachedLayer>,
    /// Number of entries that are there (not gone).
    pub entries: u64,
    /// Apparent bytes of its files.
    pub bytes: u64,
    /// BLAKE3 of the body file, which is named by the generation.
    pub body: [u8; 32],
}

impl CacheHead {
    /// Appends the head.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.snapshot.0);
        put_zigzag(out, self.started.s);
        put_varint(out, u64::from(self.started.ns));
        put_varint(out, self.generation);
        put_len(out, self.layers.len());
        for layer in &self.layers {
            out.extend_from_slice(&layer.id.0);
            put_varint(out, layer.since);
            put_varint(out, layer.at);
            put_varint(out, layer.entries);
        }
        put_varint(out, self.entries);
        put_varint(out, self.bytes);
        out.extend_from_slice(&self.body);
    }

    /// Reads a head from exactly its bytes.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("tree cache", bytes);
        let out = Self::read(&mut r)?;
        r.finish()?;
        Ok(out)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let magic = r.take(8)?;
        r.ensure(magic == MAGIC, "not a tree cache of version 1")?;
        let snapshot = ChunkId(r.array()?);
        let started = read_time(r)?;
        let generation = r.varint()?;
        let n = r.varint_max(LAYERS_MAX, "too many layers")?;
        let mut layers = Vec::with_capacity(n);
        for _ in 0..n {
            layers.push(CachedLayer {
                id: ChunkId(r.array()?),
                since: r.varint()?,
                at: r.varint()?,
                entries: r.varint()?,
            });
        }
        Ok(Self { snapshot, started, generation, layers, entries: r.varint()?, bytes: r.varint()?, body: r.array()? })
    }
}

/// One entry of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedEntry {
    /// What the file system said.
    pub stamp: Stamp,
    /// Generation in which the record last changed.
    pub born: u64,
    /// The record.
    pub entry: Entry,
}

/// Bytes that go before every block: its length.
pub const BLOCK_HEAD_LEN: usize = 4;

/// Length of the block that follows `head`.
///
/// # Errors
/// [`Malformed`] when it claims to be longer than any block that is written.
pub fn block_len(head: [u8; BLOCK_HEAD_LEN]) -> Result<usize, Malformed> {
    let len = usize::try_from(u32::from_le_bytes(head)).ok().filter(|len| *len <= TREE_BLOCK_LEN_MAX);
    len.ok_or(Malformed { what: "tree cache", at: 0, rule: "block is too long" })
}

/// Writes the entries of a body, block by block.
#[derive(Debug)]
pub struct BlockWriter {
    /// The open block, with room for its length before it.
    bytes: Vec<u8>,
    records: RecordWriter,
}

impl Default for BlockWriter {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(BLOCK_HEAD_LEN + TREE_BLOCK_LEN + 4096);
        bytes.resize(BLOCK_HEAD_LEN, 0);
        Self { bytes, records: RecordWriter::default() }
    }
}

impl BlockWriter {
    /// Adds an entry to the open block; entries come in the order of paths.
    pub fn put(&mut self, cached: &CachedEntry) {
        let out = &mut self.bytes;
        put_zigzag(out, cached.stamp.ctime.s);
        put_varint(out, u64::from(cached.stamp.ctime.ns));
        put_varint(out, cached.stamp.inode);
        put_varint(out, cached.stamp.device);
        put_varint(out, cached.born);
        self.records.put(out, &cached.entry);
    }

    /// Whether the open block has nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == BLOCK_HEAD_LEN
    }

    /// Whether the open block is to be closed.
    pub fn is_full(&self) -> bool {
        self.bytes.len() - BLOCK_HEAD_LEN >= TREE_BLOCK_LEN
    }

    /// Closes the block: hands it to `take`, with its length before it, and opens the next.
    ///
    /// # Panics
    /// When it is longer than 4 GiB: a mistake of our caller, who closes full blocks.
    pub fn close<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> R {
        let len = u32::try_from(self.bytes.len() - BLOCK_HEAD_LEN).expect("blocks are closed when they are full");
        self.bytes[..BLOCK_HEAD_LEN].copy_from_slice(&len.to_le_bytes());
        let out = take(&self.bytes);
        self.bytes.truncate(BLOCK_HEAD_LEN);
        self.records.restart();
        out
    }
}

/// Reads the entries of one block, without its length.
#[derive(Debug)]
pub struct BlockReader<'a> {
    records: RecordReader<'a>,
}

impl<'a> BlockReader<'a> {
    /// A reader at the start of a block.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { records: RecordReader::new(bytes) }
    }

    /// The next entry, or `None` at the end of the block.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn next_entry(&mut self) -> Result<Option<CachedEntry>, Malformed> {
        let r = self.records.cursor();
        if r.left() == 0 {
            return Ok(None);
        }
        let ctime = read_time(r)?;
        let stamp = Stamp { ctime, inode: r.varint()?, device: r.varint()? };
        let born = r.varint()?;
        let fail = r.fail("a stamp without a record");
        let entry = self.records.next_entry()?.ok_or(fail)?;
        Ok(Some(CachedEntry { stamp, born, entry }))
    }
}

fn read_time(r: &mut Reader<'_>) -> Result<WallTime, Malformed> {
    let s = r.zigzag()?;
    let ns = u32::try_from(r.varint()?).ok().filter(|ns| *ns < 1_000_000_000);
    Ok(WallTime { s, ns: ns.ok_or_else(|| r.fail("nanoseconds exceed a second"))? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Meta};
    use proptest::prelude::*;

    fn head(layers: u8) -> CacheHead {
        let layer = |n: u8| CachedLayer { id: ChunkId([n; 24]), since: n.into(), at: 5, entries: 9 };
        CacheHead {
            snapshot: ChunkId([2; 24]),
            started: WallTime { s: -1, ns: 7 },
            generation: 5,
            layers: (0..layers).map(layer).collect(),
            entries: 9,
            bytes: 8,
            body: [7; 32],
        }
    }

    fn entries(paths: &[&str]) -> Vec<CachedEntry> {
        let entry = |p: &str| Entry { path: p.into(), kind: Kind::Fifo, meta: Meta::default() };
        let stamp = Stamp { ctime: WallTime { s: 3, ns: 4 }, inode: u64::MAX, device: 1 };
        paths.iter().map(|p| CachedEntry { stamp, born: 2, entry: entry(p) }).collect()
    }

    fn body(blocks: &[Vec<CachedEntry>]) -> Vec<u8> {
        let (mut writer, mut out) = (BlockWriter::default(), Vec::new());
        for block in blocks {
            block.iter().for_each(|e| writer.put(e));
            writer.close(|bytes| out.extend_from_slice(bytes));
        }
        out
    }

    fn read_block(bytes: &[u8]) -> Result<Vec<CachedEntry>, Malformed> {
        let (mut reader, mut out) = (BlockReader::new(bytes), Vec::new());
        while let Some(entry) = reader.next_entry()? {
            out.push(entry);
        }
        Ok(out)
    }

    #[test]
    fn heads_survive_and_cuts_are_refused() {
        let mut bytes = Vec::new();
        head(3).encode(&mut bytes);
        assert_eq!(CacheHead::decode(&bytes), Ok(head(3)));
        assert!((0..bytes.len()).all(|n| CacheHead::decode(&bytes[..n]).is_err()));
        bytes.push(0);
        assert!(CacheHead::decode(&bytes).is_err());
    }

    #[test]
    fn each_block_is_read_without_the_one_before() {
        let blocks = [entries(&["a", "a/b", "c"]), entries(&["c/d", "c/e"])];
        let bytes = body(&blocks);
        let (mut rest, mut again) = (&bytes[..], Vec::new());
        while let Some((head, tail)) = rest.split_first_chunk() {
            let (block, tail) = tail.split_at(block_len(*head).unwrap());
            again.push(read_block(block).unwrap());
            rest = tail;
        }
        assert_eq!(again, blocks);
    }

    #[test]
    fn a_block_is_full_at_its_length_and_empty_after_it_was_closed() {
        let (mut writer, mut len) = (BlockWriter::default(), BLOCK_HEAD_LEN);
        for n in 0..1_000_000 {
            assert_eq!(writer.is_empty(), n == 0);
            if writer.is_full() {
                break;
            }
            assert!(len - BLOCK_HEAD_LEN < TREE_BLOCK_LEN);
            writer.put(&entries(&[&format!("{n:09}")])[0]);
            len = writer.bytes.len();
        }
        let closed = writer.close(<[u8]>::len);
        assert!((TREE_BLOCK_LEN..TREE_BLOCK_LEN + 100).contains(&(closed - BLOCK_HEAD_LEN)), "{closed}");
        assert!(writer.is_empty() && !writer.is_full());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic: bool) {
            let _ = read_block(&bytes);
            let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            if let Ok(head) = CacheHead::decode(&bytes) {
                let mut again = Vec::new();
                head.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..1000, value: u8) {
            let mut bytes = Vec::new();
            head(3).encode(&mut bytes);
            let place = at % bytes.len();
            bytes[place] = value;
            let _ = CacheHead::decode(&bytes);
            let mut bytes = body(&[entries(&["a", "a/b", "c"])]);
            let place = at % bytes.len();
            bytes[place] = value;
            let _ = read_block(&bytes[BLOCK_HEAD_LEN..]);
        }
    }
}
