//! The comparison of a walk with the last snapshot: what is new, what is as it was, what is gone.
//!
//! Two sorted streams meet: the walk, and the tree cache. The merged result becomes the next cache, and says for each
//! entry in which generation it last changed, from which any layer can be written. It must not know how entries are
//! found or read. Step 1 of the walk.

use std::cmp::Ordering;

use lavatube_base::limits::LAYERS_MAX;
use lavatube_format::tree::{Entry, Kind, Meta, path_order};
use lavatube_format::tree_cache::{CacheHead, CachedEntry, CachedLayer, Stamp};

use crate::cache::{BodyReader, BodyWriter, SourceKey};
use crate::collect::{CollectError, Collector};
use crate::state::{State, StateError};
use crate::tree_writer::TreeWriter;

/// Why a layer was not written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The cache failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Storing failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// The running comparison.
pub struct Comparison<'s> {
    state: &'s dyn State,
    key: SourceKey,
    head: Option<CacheHead>,
    old: BodyReader<'s>,
    new: BodyWriter<'s>,
    generation: u64,
    /// Entries whose record changed in this generation, gone ones among them.
    changed: u64,
    /// Entries that are there.
    entries: u64,
}

/// The new cache, complete but not yet in force.
pub struct Compared<'s> {
    state: &'s dyn State,
    key: SourceKey,
    head: Option<CacheHead>,
    generation: u64,
    changed: u64,
    /// Entries that are there.
    pub entries: u64,
    body: [u8; 32],
}

impl<'s> Comparison<'s> {
    /// Begins a comparison with the cache that `head` describes, or with nothing.
    ///
    /// # Errors
    /// When the new cache cannot be begun.
    pub fn begin(state: &'s dyn State, key: SourceKey, head: Option<CacheHead>) -> Result<Self, StateError> {
        let generation = head.as_ref().map_or(1, |h| h.generation + 1);
        let old = match &head {
            Some(h) => BodyReader::open(state, &key, h.generation),
            None => BodyReader::empty(state),
        };
        let new = BodyWriter::create(state, &key, generation)?;
        Ok(Self { state, key, head, old, new, generation, changed: 0, entries: 0 })
    }

    /// What the cache says of `path`, which comes after all paths asked or put before. Entries between are gone.
    ///
    /// # Errors
    /// When a cache cannot be read or written.
    pub fn known(&mut self, path: &[u8]) -> Result<Option<&CachedEntry>, StateError> {
        while let Some(cached) = self.old.peek()? {
            match path_order(&cached.entry.path, path) {
                Ordering::Less => self.pass_over()?,
                Ordering::Equal => return Ok(self.old.peek()?.filter(|c| c.entry.kind != Kind::Gone)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Puts the entry that the walk found.
    ///
    /// # Errors
    /// When a cache cannot be read or written.
    pub fn put(&mut self, entry: Entry, stamp: Stamp) -> Result<(), StateError> {
        self.known(&entry.path)?;
        let same_path = self.old.peek()?.is_some_and(|c| c.entry.path == entry.path);
        let cached = if same_path { self.old.take()? } else { None };
        let born = match cached {
            Some(c) if c.entry == entry => c.born,
            _ => self.generation,
        };
        self.count(born);
        self.entries += 1;
        self.new.put(&CachedEntry { stamp, born, entry })
    }

    fn count(&mut self, born: u64) {
        self.changed += u64::from(born == self.generation);
    }

    /// Deals with a cached entry that the walk did not meet.
    fn pass_over(&mut self) -> Result<(), StateError> {
        let Some(cached) = self.old.take()? else { return Ok(()) };
        let base_at = self.head.as_ref().and_then(|h| h.layers.last()).map_or(0, |l| l.at);
        let gone_before = cached.entry.kind == Kind::Gone;
        if gone_before && cached.born <= base_at {
            return Ok(());
        }
        let born = if gone_before { cached.born } else { self.generation };
        self.count(born);
        let entry = Entry { path: cached.entry.path, kind: Kind::Gone, meta: Meta::default() };
        self.new.put(&CachedEntry { stamp: Stamp::default(), born, entry })
    }

    /// Ends the comparison: all that the walk did not meet is gone.
    ///
    /// # Errors
    /// When a cache cannot be read or written.
    pub fn finish(mut self) -> Result<Compared<'s>, StateError> {
        while self.old.peek()?.is_some() {
            self.pass_over()?;
        }
        let body = self.new.finish()?;
        let Self { state, key, head, generation, changed, entries, .. } = self;
        Ok(Compared { state, key, head, generation, changed, entries, body })
    }
}

impl Compared<'_> {
    /// Writes the layer that this snapshot needs (none when nothing changed) and returns all its layers, newest first.
    ///
    /// # Errors
    /// When storing fails.
    pub fn write_layers(&self, collector: &mut Collector<'_, '_>) -> Result<Vec<CachedLayer>, LayerError> {
        let old = self.head.as_ref().map_or(&[][..], |h| &h.layers);
        if self.changed == 0 && !old.is_empty() {
            return Ok(old.to_vec());
        }
        let (since, keep) = choose(old, self.generation, self.changed, self.entries);
        let mut writer = TreeWriter::default();
        let mut body = BodyReader::open(self.state, &self.key, self.generation);
        while let Some(cached) = body.take()? {
            let wanted = cached.born > since && (since > 0 || cached.entry.kind != Kind::Gone);
            if wanted {
                writer.put(&cached.entry, collector)?;
            }
        }
        let (id, entries) = writer.finish(collector)?;
        let mut layers = vec![CachedLayer { id, since, at: self.generation, entries }];
        layers.extend_from_slice(keep);
        Ok(layers)
    }

    /// The head that puts this cache in force, once the snapshot exists.
    pub fn head(&self, mut head: CacheHead) -> (SourceKey, CacheHead) {
        head.generation = self.generation;
        head.entries = self.entries;
        head.body = self.body;
        (self.key.clone(), head)
    }
}

/// Which generation the new layer must go back to, and which old layers stay below it.
///
/// Layers are merged while the next is not much larger than what is merged already, so that sizes grow geometrically
/// and every entry is rewritten a logarithmic number of times. When all of it comes near the size of the tree, one full
/// layer replaces them.
fn choose(old: &[CachedLayer], generation: u64, changed: u64, entries: u64) -> (u64, &[CachedLayer]) {
    let Some((_base, recent)) = old.split_last() else { return (0, &[]) };
    let (mut since, mut sum, mut merged) = (generation - 1, changed, 0);
    for layer in recent {
        if layer.entries > 2 * sum && old.len() - merged < LAYERS_MAX {
            break;
        }
        sum += layer.entries;
        since = layer.since;
        merged += 1;
    }
    if sum > entries / 2 { (0, &[]) } else { (since, &old[merged..]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::ChunkId;

    fn layer(since: u64, at: u64, entries: u64) -> CachedLayer {
        CachedLayer { id: ChunkId([0; 24]), since, at, entries }
    }

    #[test]
    fn layers_grow_geometrically_and_stay_few() {
        let mut layers: Vec<CachedLayer> = Vec::new();
        let mut written = 0;
        for generation in 1..=2000 {
            let changed = if generation == 1 { 100_000 } else { 10 };
            let (since, keep) = choose(&layers, generation, changed, 100_000);
            let entries = if since == 0 { 100_000 } else { (generation - since) * 10 };
            written += entries;
            let mut next = vec![layer(since, generation, entries)];
            next.extend_from_slice(keep);
            layers = next;
            assert!(layers.len() <= LAYERS_MAX, "{} layers", layers.len());
            assert!(layers.windows(2).all(|w| w[0].since == w[1].at), "layers join without gaps");
        }
        assert!(written < 100_000 + 2000 * 10 * 12, "each entry is rewritten a logarithmic number of times: {written}");
    }

    #[test]
    fn a_large_change_makes_a_full_layer() {
        let old = [layer(0, 1, 100)];
        assert_eq!(choose(&old, 2, 60, 100), (0, &[][..]));
        assert_eq!(choose(&old, 2, 10, 100).0, 1);
    }
}
