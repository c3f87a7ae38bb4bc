//! Writes one layer of a snapshot's tree: records into tree chunks, and their descriptor. Step 2 of the walk, for trees.
//!
//! Tree chunks end where paths say, so that two full layers of nearly the same tree share most chunks. It must not know
//! which entries a layer holds, nor why.

use lavatube_base::ChunkId;
use lavatube_format::layer::{Layer, TreeChunk};
use lavatube_format::tree::{Entry, RecordWriter};

use crate::collect::{CollectError, Collector, Lane};

/// A tree chunk is not cut before this length,
const CHUNK_LEN_MIN: usize = 32 << 10;
/// and always after the record that reaches this.
const CHUNK_LEN: usize = 256 << 10;

/// The writer of one layer.
#[derive(Debug, Default)]
pub struct TreeWriter {
    writer: RecordWriter,
    chunk: Vec<u8>,
    first_path: Vec<u8>,
    layer: Layer,
}

impl TreeWriter {
    /// Adds an entry; entries come in the order of paths.
    ///
    /// # Errors
    /// When a tree chunk cannot be stored.
    pub fn put(&mut self, entry: &Entry, collector: &mut Collector<'_, '_>) -> Result<(), CollectError> {
        if self.chunk.is_empty() {
            self.writer.restart();
            self.first_path.clone_from(&entry.path);
        }
        self.writer.put(&mut self.chunk, entry);
        self.layer.entries += 1;
        let len = self.chunk.len();
        if len >= CHUNK_LEN || len >= CHUNK_LEN_MIN && ends_chunk(&entry.path) { self.close(collector) } else { Ok(()) }
    }

    fn close(&mut self, collector: &mut Collector<'_, '_>) -> Result<(), CollectError> {
        let (id, _) = collector.add(Lane::Tree, &self.chunk)?;
        let first_path = std::mem::take(&mut self.first_path);
        self.layer.chunks.push(TreeChunk { id, len: self.chunk.len(), first_path });
        self.chunk.clear();
        Ok(())
    }

    /// Stores what is left and the descriptor; returns the descriptor's chunk and the number of entries.
    ///
    /// # Errors
    /// When a chunk cannot be stored.
    pub fn finish(mut self, collector: &mut Collector<'_, '_>) -> Result<(ChunkId, u64), CollectError> {
        if !self.chunk.is_empty() {
            self.close(collector)?;
        }
        let (id, _) = collector.add(Lane::Tree, &self.layer.encode())?;
        Ok((id, self.layer.entries))
    }
}

/// Whether a tree chunk may end after `path`: about one in 256.
fn ends_chunk(path: &[u8]) -> bool {
    lavatube_base::digest::h16(&[path])[0] == 0
}
