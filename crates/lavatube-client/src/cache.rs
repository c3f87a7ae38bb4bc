//! The tree cache on this machine: the last snapshot's tree, streamed beside the walk to tell what changed.
//!
//! Two files: a body in blocks, written during a backup, and a small head that names the body and replaces the older
//! head only after the snapshot is durable. So a cache always describes a snapshot that really exists. It must not
//! know what is compared with it. Step 1 of the walk.

use std::collections::BTreeSet;
use std::io::Write;

use lavatube_base::ChunkId;
use lavatube_base::limits::TREE_HEAD_LEN_MAX;
use lavatube_base::time::WallTime;
use lavatube_format::Malformed;
use lavatube_format::tree_cache::{BLOCK_HEAD_LEN, BlockReader, BlockWriter, CacheHead, CachedEntry, block_len};

use crate::state::{NewFile, State, StateError, read_all, read_exact};

const TREES: &str = "trees/";

/// Names the cache of one source (a set of roots on one host).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceKey(String);

impl SourceKey {
    /// The key of a host and its roots.
    pub fn of(host: &str, roots: &[Vec<u8>]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(host.as_bytes());
        for root in roots {
            hasher.update(&[0]).update(root);
        }
        Self(hasher.finalize().to_hex()[..16].to_owned())
    }

    fn head(&self) -> String {
        format!("trees/{}.head", self.0)
    }

    fn body(&self, generation: u64) -> String {
        format!("trees/{}.{generation:08}", self.0)
    }
}

/// The head of the cache of `key` when there is a sound one with its body. A missing or damaged cache is no error: the
/// next backup reads everything again.
///
/// # Errors
/// When the files cannot be read.
pub fn load_head(state: &dyn State, key: &SourceKey) -> Result<Option<CacheHead>, StateError> {
    let Some(bytes) = read_all(state, &key.head(), TREE_HEAD_LEN_MAX as u64)? else { return Ok(None) };
    let Ok(head) = CacheHead::decode(&bytes) else { return Ok(None) };
    let name = key.body(head.generation);
    if state.len(&name).map_err(StateError::on(&name))?.is_none() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let (mut buf, mut at) = (vec![0; 1 << 20], 0);
    loop {
        let n = state.read_at(&name, at, &mut buf).map_err(StateError::on(&name))?;
        if n == 0 {
            break;
        }
        hasher.update(&buf[..n]);
        at += n as u64;
    }
    Ok((hasher.finalize().as_bytes() == &head.body).then_some(head))
}

/// When the newest snapshot was taken that any cache here is of, by the clock of then.
///
/// # Errors
/// When the files cannot be read.
pub fn newest_start(state: &dyn State) -> Result<Option<WallTime>, StateError> {
    let mut newest = None;
    for name in state.list(TREES).map_err(StateError::on(TREES))?.iter().filter(|n| n.ends_with(".head")) {
        let bytes = read_all(state, name, TREE_HEAD_LEN_MAX as u64)?.unwrap_or_default();
        let head = CacheHead::decode(&bytes).ok();
        newest = newest.max(head.map(|head| head.started));
    }
    Ok(newest)
}

/// Replaces the head, and forgets the bodies of other generations.
///
/// # Errors
/// When the files cannot be written.
pub fn save_head(state: &dyn State, key: &SourceKey, head: &CacheHead) -> Result<(), StateError> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    crate::state::write_all(state, &key.head(), &bytes)?;
    let (mine, keep) = (format!("trees/{}.", key.0), [key.head(), key.body(head.generation)]);
    for name in state.list(&mine).map_err(StateError::on(&mine))? {
        if !keep.contains(&name) {
            state.remove(&name).map_err(StateError::on(&name))?;
        }
    }
    Ok(())
}

/// Forgets the caches of these snapshots, and those that cannot be read: their sources are read again once.
///
/// # Errors
/// When a file cannot be read or removed.
pub fn forget_those_of(state: &dyn State, snapshots: &BTreeSet<ChunkId>) -> Result<(), StateError> {
    for name in state.list(TREES).map_err(StateError::on(TREES))?.iter().filter(|n| n.ends_with(".head")) {
        let bytes = read_all(state, name, TREE_HEAD_LEN_MAX as u64)?.unwrap_or_default();
        if CacheHead::decode(&bytes).map_or(true, |head| snapshots.contains(&head.snapshot)) {
            state.remove(name).map_err(StateError::on(name))?;
        }
    }
    Ok(())
}

/// Forgets the caches of all sources: each is read again once.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget(state: &dyn State) -> Result<(), StateError> {
    for name in state.list(TREES).map_err(StateError::on(TREES))? {
        state.remove(&name).map_err(StateError::on(&name))?;
    }
    Ok(())
}

/// Writes the body of a new generation.
pub struct BodyWriter<'s> {
    name: String,
    file: Box<dyn NewFile + 's>,
    blocks: BlockWriter,
    hasher: blake3::Hasher,
}

impl<'s> BodyWriter<'s> {
    /// Begins the body of `generation`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(state: &'s dyn State, key: &SourceKey, generation: u64) -> Result<Self, StateError> {
        let name = key.body(generation);
        let file = state.create(&name).map_err(StateError::on(&name))?;
        Ok(Self { name, file, blocks: BlockWriter::default(), hasher: blake3::Hasher::new() })
    }

    /// Adds an entry; entries come in the order of paths.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&mut self, entry: &CachedEntry) -> Result<(), StateError> {
        self.blocks.put(entry);
        if self.blocks.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let (file, hasher) = (&mut self.file, &mut self.hasher);
        let write = |block: &[u8]| {
            hasher.update(block);
            file.write_all(block)
        };
        self.blocks.close(write).map_err(StateError::on(&self.name))
    }

    /// Makes the body durable and returns its BLAKE3.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn finish(mut self) -> Result<[u8; 32], StateError> {
        if !self.blocks.is_empty() {
            self.flush()?;
        }
        self.file.commit().map_err(StateError::on(&self.name))?;
        Ok(*self.hasher.finalize().as_bytes())
    }
}

/// Streams a body in order.
pub struct BodyReader<'s> {
    state: &'s dyn State,
    name: String,
    at: u64,
    /// Entries of the present block, last first.
    entries: Vec<CachedEntry>,
}

impl<'s> BodyReader<'s> {
    /// A reader at the start of the body of `generation`.
    pub fn open(state: &'s dyn State, key: &SourceKey, generation: u64) -> Self {
        Self { state, name: key.body(generation), at: 0, entries: Vec::new() }
    }

    /// A reader of nothing, for a first backup.
    pub fn empty(state: &'s dyn State) -> Self {
        Self { state, name: String::new(), at: 0, entries: Vec::new() }
    }

    /// The next entry without taking it.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed (its digest was checked by [`load_head`]).
    pub fn peek(&mut self) -> Result<Option<&CachedEntry>, StateError> {
        if self.entries.is_empty() && !self.name.is_empty() {
            self.load_block()?;
        }
        Ok(self.entries.last())
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// As [`BodyReader::peek`].
    pub fn take(&mut self) -> Result<Option<CachedEntry>, StateError> {
        self.peek()?;
        Ok(self.entries.pop())
    }

    fn load_block(&mut self) -> Result<(), StateError> {
        let mut head = [0; BLOCK_HEAD_LEN];
        let got = self.state.read_at(&self.name, self.at, &mut head).map_err(StateError::on(&self.name))?;
        if got == 0 {
            return Ok(());
        }
        read_exact(self.state, &self.name, self.at, &mut head)?;
        let mut block = vec![0; block_len(head).map_err(|e| self.damaged(e))?];
        read_exact(self.state, &self.name, self.at + BLOCK_HEAD_LEN as u64, &mut block)?;
        self.at += (BLOCK_HEAD_LEN + block.len()) as u64;
        let mut r = BlockReader::new(&block);
        while let Some(entry) = r.next_entry().map_err(|e| self.damaged(e))? {
            self.entries.push(entry);
        }
        self.entries.reverse();
        Ok(())
    }

    fn damaged(&self, e: Malformed) -> StateError {
        StateError::on(&self.name)(std::io::Error::new(std::io::ErrorKind::InvalidData, e.to_string()))
    }
}
