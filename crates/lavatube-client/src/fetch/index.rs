//! A pack's index in a form to look chunks up in: sorted once, searched for every chunk of the pack.
//!
//! Restoring a tree asks for nearly every chunk of a pack; asking the catalog on disk for each would cost more than
//! fetching the index. It must not know where the index came from.

use std::collections::BTreeMap;

use lavatube_base::ChunkId;
use lavatube_format::catalog::Place;
use lavatube_format::pack::{Delta, FrameEntry};

use crate::catalog::records_of;

/// What the index says of a chunk.
pub(super) struct Known {
    id: ChunkId,
    /// Where it is.
    pub(super) place: Place,
    /// Length of its body.
    pub(super) body_len: usize,
}

/// The index of one pack.
pub(super) struct Index {
    sorted: Vec<Known>,
    deltas: BTreeMap<ChunkId, Delta>,
}

impl Index {
    /// The index `frames` of pack `number`.
    pub(super) fn new(number: u32, frames: &[FrameEntry]) -> Self {
        let entries = || frames.iter().flat_map(|f| &f.chunks);
        let mut sorted: Vec<Known> = records_of(number, frames)
            .into_iter()
            .zip(entries())
            .map(|(record, entry)| Known { id: record.id, place: record.place, body_len: entry.body_len })
            .collect();
        sorted.sort_unstable_by_key(|k| k.id);
        let deltas = entries().filter_map(|c| c.delta.as_deref().map(|d| (c.id, *d))).collect();
        Self { sorted, deltas }
    }

    /// What it says of chunk `id`.
    pub(super) fn find(&self, id: &ChunkId) -> Option<&Known> {
        self.sorted.binary_search_by_key(id, |k| k.id).ok().map(|i| &self.sorted[i])
    }

    /// How chunk `id` is stored as a difference, if it is.
    pub(super) fn delta(&self, id: &ChunkId) -> Option<Delta> {
        self.deltas.get(id).copied()
    }
}
