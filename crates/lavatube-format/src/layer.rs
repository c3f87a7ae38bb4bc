//! Layer descriptors: where the tree chunks of one layer are, and with which path each begins (FORMAT section 4).
//!
//! First paths let a reader who wants one file fetch one tree chunk a layer. It must not know how layers are merged.

use lavatube_base::ChunkId;
use lavatube_base::limits::{CHUNK_LEN_MAX, PATH_LEN_MAX};

use crate::wire::{Malformed, Reader, put_bytes, put_len, put_varint};

/// One tree chunk of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChunk {
    /// Id of the chunk.
    pub id: ChunkId,
    /// Length of its content.
    pub len: usize,
    /// Path of its first record.
    pub first_path: Vec<u8>,
}

/// One layer of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// Number of records.
    pub entries: u64,
    /// Its tree chunks in order.
    pub chunks: Vec<TreeChunk>,
}

impl Layer {
    /// The descriptor's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        put_varint(&mut out, self.entries);
        put_len(&mut out, self.chunks.len());
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id.0);
            put_len(&mut out, chunk.len);
            put_bytes(&mut out, &chunk.first_path);
        }
        out
    }

    /// Reads a descriptor.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("layer descriptor", bytes);
        let version = r.u8()?;
        r.ensure(version == 1, "unknown version")?;
        let entries = r.varint()?;
        let n = r.varint_max(r.left() / (ChunkId::LEN + 2), "more chunks than bytes")?;
        let mut chunks = Vec::with_capacity(n);
        for _ in 0..n {
            let id = ChunkId(r.array()?);
            let len = r.varint_max(CHUNK_LEN_MAX, "tree chunk is too long")?;
            chunks.push(TreeChunk { id, len, first_path: r.bytes(PATH_LEN_MAX)?.to_vec() });
        }
        r.finish()?;
        Ok(Self { entries, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_descriptor_survives(entries: u64, raw in proptest::collection::vec((any::<[u8; 24]>(), 0usize..1000, ".{0,9}"), 0..9)) {
            let chunks = raw.into_iter().map(|(id, len, p)| TreeChunk { id: ChunkId(id), len, first_path: p.into_bytes() });
            let layer = Layer { entries, chunks: chunks.collect() };
            prop_assert_eq!(Layer::decode(&layer.encode()), Ok(layer));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(layer) = Layer::decode(&bytes) {
                prop_assert_eq!(layer.encode(), bytes);
            }
        }
    }
}
