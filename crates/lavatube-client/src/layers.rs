//! Reading a snapshot's tree: the merge of its layers as one sorted stream of entries. Step 19 of the walk.
//!
//! One cursor per layer, one tree chunk in memory each; for a path the newest layer that has it counts, and *gone* hides
//! older ones. Descriptors say with which path each tree chunk begins, so one directory of a large tree costs one tree
//! chunk a layer. A lost tree chunk is reported once, with the range of paths nobody can vouch for any more; entries of
//! older layers in that range are left out, since they may be out of date. It must not know what entries are read for.

pub mod refs;

use std::cmp::Ordering;
use std::collections::VecDeque;

use lavatube_base::ChunkId;
use lavatube_format::Malformed;
use lavatube_format::layer::Layer;
use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Entry, Kind, RecordReader, path_order};

use crate::fault::Fault;
use crate::fetch::{FetchError, Fetcher};

/// Why a tree, or part of one, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A chunk of it was not had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A chunk is exactly what was stored, and breaks the layout.
    #[error("chunk {}: {source}", .chunk.short())]
    Malformed {
        /// The chunk.
        chunk: ChunkId,
        /// The rule.
        source: Malformed,
    },
}

impl TreeError {
    /// The chunk that could not be read.
    pub fn chunk(&self) -> ChunkId {
        match self {
            Self::Fetch(e) => e.chunk,
            Self::Malformed { chunk, .. } => *chunk,
        }
    }

    /// Whether the vault is away, so that going on is of no use now.
    pub fn is_away(&self) -> bool {
        self.fault() == Fault::Away
    }
}

/// A part of a tree that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// First path of the tree chunk.
    pub from: Vec<u8>,
    /// First path after it; `None` when nothing follows.
    pub until: Option<Vec<u8>>,
    /// Why.
    pub error: TreeError,
}

impl LostRange {
    fn covers(&self, path: &[u8]) -> bool {
        path_order(&self.from, path) != Ordering::Greater
            && self.until.as_ref().is_none_or(|until| path_order(path, until) == Ordering::Less)
    }
}

/// What a tree reader gives.
#[derive(Debug)]
pub enum Step {
    /// The next entry; never of kind *gone*.
    Entry(Entry),
    /// A part that cannot be read. Reading goes on after it.
    Lost(LostRange),
}

/// The record of snapshot `id`.
///
/// # Errors
/// [`TreeError`] when its chunk cannot be had or is no such record.
pub fn read_snapshot(fetcher: &mut Fetcher<'_>, id: &ChunkId) -> Result<Snapshot, TreeError> {
    let opened = fetcher.chunk(id, None)?;
    Snapshot::decode(opened.content()).map_err(|source| TreeError::Malformed { chunk: *id, source })
}

/// A layer's descriptor.
///
/// # Errors
/// [`TreeError`] when its chunk cannot be had or is no descriptor whose first paths ascend.
pub fn read_layer(fetcher: &mut Fetcher<'_>, id: &ChunkId) -> Result<Layer, TreeError> {
    let fail = |source| TreeError::Malformed { chunk: *id, source };
    let opened = fetcher.chunk(id, None)?;
    let layer = Layer::decode(opened.content()).map_err(fail)?;
    let ascends = layer.chunks.is_sorted_by(|a, b| path_order(&a.first_path, &b.first_path) == Ordering::Less);
    if !ascends {
        return Err(fail(Malformed { what: "layer descriptor", at: 0, rule: "first paths do not ascend" }));
    }
    Ok(layer)
}

/// The entries of the `number`-th tree chunk of `layer`, in order.
///
/// # Errors
/// [`TreeError`] when it cannot be had, breaks the layout, or begins or ends elsewhere than the descriptor says.
pub fn read_tree_chunk(fetcher: &mut Fetcher<'_>, layer: &Layer, number: usize) -> Result<VecDeque<Entry>, TreeError> {
    let described = &layer.chunks[number];
    let opened = fetcher.chunk(&described.id, Some(described.len as u64))?;
    let fail = |source| TreeError::Malformed { chunk: described.id, source };
    let rule = |rule| fail(Malformed { what: "tree chunk", at: 0, rule });
    let mut out = VecDeque::new();
    let mut reader = RecordReader::new(opened.content());
    while let Some(entry) = reader.next_entry().map_err(fail)? {
        out.push_back(entry);
    }
    if out.front().is_none_or(|first| first.path != described.first_path) {
        return Err(rule("does not begin with the path its layer says"));
    }
    let next = layer.chunks.get(number + 1);
    if next.zip(out.back()).is_some_and(|(next, last)| path_order(&last.path, &next.first_path) != Ordering::Less) {
        return Err(rule("reaches beyond where the next one begins"));
    }
    Ok(out)
}

struct Cursor {
    layer: Layer,
    next: usize,
    entries: VecDeque<Entry>,
    lost: Vec<LostRange>,
}

/// Reads the tree of a snapshot, or what is at and below one path of it, in order.
pub struct TreeReader {
    cursors: Vec<Cursor>,
    inside: Option<Vec<u8>>,
    pending: VecDeque<LostRange>,
}

impl TreeReader {
    /// A reader of all entries of `snapshot`, or of those at and below path `inside` of its tree.
    ///
    /// # Errors
    /// [`TreeError`] when a layer's descriptor cannot be read: without it nothing can be said about any path.
    pub fn open(fetcher: &mut Fetcher<'_>, snapshot: &Snapshot, inside: Option<&[u8]>) -> Result<Self, TreeError> {
        let mut cursors = Vec::with_capacity(snapshot.layers.len());
        fetcher.want(&snapshot.layers)?;
        for id in &snapshot.layers {
            let layer = read_layer(fetcher, id)?;
            let start = inside.unwrap_or_default();
            // The last tree chunk that begins at or before the path is the first that can have it.
            let after = layer.chunks.partition_point(|c| path_order(&c.first_path, start) != Ordering::Greater);
            cursors.push(Cursor { layer, next: after.saturating_sub(1), entries: VecDeque::new(), lost: Vec::new() });
        }
        let chunks: Vec<ChunkId> = cursors
            .iter()
            .flat_map(|cursor| {
                let rest = &cursor.layer.chunks[cursor.next..];
                rest.iter().take_while(|c| relation(&c.first_path, inside) != Relation::After).map(|c| c.id)
            })
            .collect();
        fetcher.want(&chunks)?;
        Ok(Self { cursors, inside: inside.map(<[u8]>::to_vec), pending: VecDeque::new() })
    }

    /// The next entry or loss, or `None` at the end.
    ///
    /// # Errors
    /// [`TreeError`] only when the vault is away ([`TreeError::is_away`]); damage is a [`Step::Lost`].
    pub fn next(&mut self, fetcher: &mut Fetcher<'_>) -> Result<Option<Step>, TreeError> {
        loop {
            for i in 0..self.cursors.len() {
                self.fill(fetcher, i)?;
            }
            if let Some(lost) = self.pending.pop_front() {
                return Ok(Some(Step::Lost(lost)));
            }
            let Some((winner, entry)) = self.pop_first() else { return Ok(None) };
            if matches!(entry.kind, Kind::Gone) {
                continue;
            }
            if self.cursors[..winner].iter().any(|newer| newer.lost.iter().any(|l| l.covers(&entry.path))) {
                continue;
            }
            return Ok(Some(Step::Entry(entry)));
        }
    }

    /// Takes the entry with the smallest path, of the newest layer that has it, and drops the others of that path.
    fn pop_first(&mut self) -> Option<(usize, Entry)> {
        let mut best: Option<usize> = None;
        for i in 0..self.cursors.len() {
            let Some(here) = self.cursors[i].entries.front() else { continue };
            let order = best.and_then(|b| self.cursors[b].entries.front()).map(|b| path_order(&here.path, &b.path));
            match order {
                Some(Ordering::Greater) => {}
                // Newer layers come first, so the one already found stands.
                Some(Ordering::Equal) => {
                    self.cursors[i].entries.pop_front();
                }
                None | Some(Ordering::Less) => best = Some(i),
            }
        }
        let best = best?;
        let entry = self.cursors[best].entries.pop_front()?;
        // A tie that was seen before the smallest was known is dropped here.
        for older in &mut self.cursors[best + 1..] {
            if older.entries.front().is_some_and(|e| e.path == entry.path) {
                older.entries.pop_front();
            }
        }
        Some((best, entry))
    }

    /// Makes the cursor's front an entry that counts, unless its layer is at its end.
    fn fill(&mut self, fetcher: &mut Fetcher<'_>, i: usize) -> Result<(), TreeError> {
        let cursor = &mut self.cursors[i];
        loop {
            while let Some(first) = cursor.entries.front() {
                match relation(&first.path, self.inside.as_deref()) {
                    Relation::Inside => return Ok(()),
                    Relation::Before => {
                        cursor.entries.pop_front();
                    }
                    Relation::After => {
                        cursor.entries.clear();
                        cursor.next = cursor.layer.chunks.len();
                    }
                }
            }
            let Some(described) = cursor.layer.chunks.get(cursor.next) else { return Ok(()) };
            if relation(&described.first_path, self.inside.as_deref()) == Relation::After {
                cursor.next = cursor.layer.chunks.len();
                return Ok(());
            }
            match read_tree_chunk(fetcher, &cursor.layer, cursor.next) {
                Ok(entries) => cursor.entries = entries,
                Err(e) if e.is_away() => return Err(e),
                Err(error) => {
                    let until = cursor.layer.chunks.get(cursor.next + 1).map(|c| c.first_path.clone());
                    let lost = LostRange { from: described.first_path.clone(), until, error };
                    cursor.lost.push(lost.clone());
                    self.pending.push_back(lost);
                }
            }
            cursor.next += 1;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Relation {
    Before,
    Inside,
    After,
}

/// How a path lies to what is at and below `inside`.
fn relation(path: &[u8], inside: Option<&[u8]>) -> Relation {
    let Some(inside) = inside else { return Relation::Inside };
    if is_within(path, inside) {
        Relation::Inside
    } else if path_order(path, inside) == Ordering::Less {
        Relation::Before
    } else {
        Relation::After
    }
}

/// Whether `path` is `root` or below it. Everything is below the empty path.
pub fn is_within(path: &[u8], root: &[u8]) -> bool {
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
}

#[cfg(test)]
mod tests;
