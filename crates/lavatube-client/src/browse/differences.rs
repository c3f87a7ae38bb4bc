//! What changed between two snapshots: one merge of their two trees.
//!
//! Content is compared by its references, so nothing but trees is fetched. It must not know how changes are shown.

use std::cmp::Ordering;

use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Entry, Kind, path_order};

use crate::fetch::Fetcher;
use crate::layers::{LostRange, Step, TreeError, TreeReader};
use crate::restore::trim;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the newer tree has it.
    Added(Entry),
    /// Only the older tree has it.
    Removed(Entry),
    /// Its content, link target, device or kind differs.
    Content(Entry, Entry),
    /// Only its metadata differs.
    Meta(Entry, Entry),
}

struct Side {
    reader: TreeReader,
    entry: Option<Entry>,
}

impl Side {
    fn advance(&mut self, fetcher: &mut Fetcher<'_>, lost: &mut Vec<LostRange>) -> Result<(), TreeError> {
        loop {
            match self.reader.next(fetcher)? {
                Some(Step::Lost(range)) => lost.push(range),
                Some(Step::Entry(entry)) => {
                    self.entry = Some(entry);
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }
}

/// Tells `each` of every difference from `older` to `newer` at and below `path`, in tree order. Gives the parts of either
/// tree that cannot be read; within them differences may be missing or too many.
///
/// # Errors
/// [`TreeError`] when a layer cannot be read or the vault is away.
pub fn differences(
    fetcher: &mut Fetcher<'_>,
    older: &Snapshot,
    newer: &Snapshot,
    path: &[u8],
    mut each: impl FnMut(Change),
) -> Result<Vec<LostRange>, TreeError> {
    let inside = Some(trim(path)).filter(|p| !p.is_empty());
    let mut lost = Vec::new();
    let mut old = Side { reader: TreeReader::open(fetcher, older, inside)?, entry: None };
    let mut new = Side { reader: TreeReader::open(fetcher, newer, inside)?, entry: None };
    old.advance(fetcher, &mut lost)?;
    new.advance(fetcher, &mut lost)?;
    loop {
        let order = match (&old.entry, &new.entry) {
            (None, None) => return Ok(lost),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => path_order(&a.path, &b.path),
        };
        let (was, is) = match order {
            Ordering::Less => (old.entry.take(), None),
            Ordering::Greater => (None, new.entry.take()),
            Ordering::Equal => (old.entry.take(), new.entry.take()),
        };
        if was.is_some() {
            old.advance(fetcher, &mut lost)?;
        }
        if is.is_some() {
            new.advance(fetcher, &mut lost)?;
        }
        match (was, is) {
            (Some(was), None) => each(Change::Removed(was)),
            (None, Some(is)) => each(Change::Added(is)),
            (Some(was), Some(is)) if !same_content(&was.kind, &is.kind) => each(Change::Content(was, is)),
            (Some(was), Some(is)) if was.meta != is.meta => each(Change::Meta(was, is)),
            _ => {}
        }
    }
}

fn same_content(was: &Kind, is: &Kind) -> bool {
    match (was, is) {
        // The same bytes may lie in other extents, or be cut elsewhere after a change of the chunker.
        (Kind::File(a), Kind::File(b)) if a.digest.is_some() && a.digest == b.digest => {
            a.size == b.size && a.extents == b.extents
        }
        _ => was == is,
    }
}
