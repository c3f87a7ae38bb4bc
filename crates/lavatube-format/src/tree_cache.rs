//! The tree cache: the last snapshot's merged tree as a depositor keeps it, to tell what changed (FORMAT section 9).
//!
//! Each record of the tree is preceded by what the file system said of the entry (so that an unchanged file is not read)
//! and by the generation in which it last changed (so that a layer of "all that changed since" can be written without
//! reading anything back). It never leaves the machine and must not know how either is used.

use lavatube_base::ChunkId;
use lavatube_base::limits::LAYERS_MAX;
use lavatube_base::time::WallTime;

use crate::tree::{Entry, RecordReader, RecordWriter};
use crate::wire::{Malformed, Reader, put_len, put_varint, put_zigzag};

/// First eight bytes of a tree cache.
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

    /// Reads a head.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
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

/// Appends `cached` to a block of the cache; `writer` is restarted at the start of each block.
pub fn put_cached(out: &mut Vec<u8>, writer: &mut RecordWriter, cached: &CachedEntry) {
    put_zigzag(out, cached.stamp.ctime.s);
    put_varint(out, u64::from(cached.stamp.ctime.ns));
    put_varint(out, cached.stamp.inode);
    put_varint(out, cached.stamp.device);
    put_varint(out, cached.born);
    writer.put(out, &cached.entry);
}

/// Reads the entries of one block.
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

    #[test]
    fn head_and_entries_survive() {
        let layers = vec![CachedLayer { id: ChunkId([1; 24]), since: 4, at: 5, entries: 9 }];
        let started = WallTime { s: -1, ns: 7 };
        let head = CacheHead {
            snapshot: ChunkId([2; 24]),
            started,
            generation: 5,
            layers,
            entries: 9,
            bytes: 8,
            body: [7; 32],
        };
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        let mut r = Reader::new("tree cache", &bytes);
        assert_eq!(CacheHead::decode(&mut r), Ok(head));
        assert_eq!(r.finish(), Ok(()));

        let entry = |p: &[u8]| Entry { path: p.to_vec(), kind: Kind::Fifo, meta: Meta::default() };
        let stamp = Stamp { ctime: WallTime { s: 3, ns: 4 }, inode: u64::MAX, device: 1 };
        let all = [b"a".as_slice(), b"a/b", b"c"].map(|p| CachedEntry { stamp, born: 2, entry: entry(p) });
        let (mut out, mut w) = (Vec::new(), RecordWriter::default());
        all.iter().for_each(|e| put_cached(&mut out, &mut w, e));
        let mut r = BlockReader::new(&out);
        for e in all {
            assert_eq!(r.next_entry(), Ok(Some(e)));
        }
        assert_eq!(r.next_entry(), Ok(None));
    }
}
