//! The directories of a restore: made when something in them is restored, finished when all in them is done.
//!
//! A directory's metadata must be set after everything below it is there, and threads finish files in any order. So
//! every file under way holds its directory ([`DirNode`]) and every directory its parent; whoever lets go of the last
//! hold sets the metadata and lets go of the parent. No list of directories is kept, and few are open at a time.

use std::sync::Arc;

use lavatube_format::tree::Meta;

use super::{Outcome, Overwrite, name};
use crate::sink::{Sink, SinkError};

/// An open directory of the target that is not finished.
pub(super) struct DirNode<S: Sink> {
    /// The directory.
    pub(super) dir: Arc<S::Dir>,
    /// Set when it did not exist before, so that nothing in it needs to be looked for.
    pub(super) fresh: bool,
    /// Path in the tree of the target, last component of any other: whole paths of deep trees would fill the memory.
    name: Vec<u8>,
    meta: Option<Meta>,
    parent: Option<Arc<DirNode<S>>>,
}

/// Lets go of a directory; the last to do so sets its metadata.
pub(super) fn release<S: Sink>(node: Arc<DirNode<S>>, sink: &S, outcome: &mut Outcome) {
    let mut next = Some(node);
    while let Some(DirNode { dir, name, meta, parent, .. }) = next.and_then(Arc::into_inner) {
        if let Some(meta) = &meta {
            match sink.finish_dir(&dir, meta) {
                Ok(warnings) if warnings.is_empty() => {}
                Ok(warnings) => outcome.warn(&path_of(&name, parent.as_deref()), warnings),
                Err(e) => {
                    let path = path_of(&name, parent.as_deref());
                    outcome.fail(&path, e.fault(), format!("its owner, mode and times were not set: {e}"));
                }
            }
        }
        next = parent;
    }
}

/// The path in the tree of directory `name` in `parent`.
fn path_of<S: Sink>(name: &[u8], parent: Option<&DirNode<S>>) -> Vec<u8> {
    let mut names = vec![name];
    let mut above = parent;
    while let Some(node) = above {
        names.push(&node.name);
        above = node.parent.as_deref();
    }
    names.retain(|n| !n.is_empty());
    names.reverse();
    names.join(&b'/')
}

enum State<S: Sink> {
    Pending,
    Open(Arc<DirNode<S>>),
    Failed,
}

struct Level<S: Sink> {
    /// Length of its path, a prefix of [`Dirs::path`].
    end: usize,
    meta: Option<Meta>,
    state: State<S>,
}

/// The directories from the target down to where the walk of the tree is.
pub(super) struct Dirs<S: Sink> {
    path: Vec<u8>,
    levels: Vec<Level<S>>,
    root_len: usize,
}

/// Deepest nesting that is restored: every level is an open directory.
const DEPTH_MAX: usize = 512;

impl<S: Sink> Dirs<S> {
    /// The target stands for path `root` of the tree.
    pub(super) fn new(root: Vec<u8>) -> Self {
        let levels = vec![Level { end: root.len(), meta: None, state: State::Pending }];
        Self { root_len: root.len(), path: root, levels }
    }

    /// The path of the tree that the target stands for.
    pub(super) fn root(&self) -> &[u8] {
        &self.path[..self.root_len]
    }

    /// The path in the tree of the present directory.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Goes to directory `path`, which has `meta`. It is not made yet.
    pub(super) fn enter(&mut self, path: &[u8], meta: Meta, sink: &S, outcome: &mut Outcome) {
        if path == self.root() {
            // Only the root of everything; nothing was opened before it, as it is the first entry.
            self.levels[0].meta = Some(meta);
            return;
        }
        self.enter_parent(path, sink, outcome);
        self.path.clear();
        self.path.extend_from_slice(path);
        self.levels.push(Level { end: path.len(), meta: Some(meta), state: State::Pending });
    }

    /// Goes to the directory that holds `path`. Directories on the way that the tree does not have get no metadata.
    pub(super) fn enter_parent(&mut self, path: &[u8], sink: &S, outcome: &mut Outcome) {
        let here = &self.path;
        let is_above = |end: usize| path.len() > end && path[..end] == here[..end] && (end == 0 || path[end] == b'/');
        while let Some(top) = self.levels.pop_if(|top| !is_above(top.end)) {
            if let State::Open(node) = top.state {
                release(node, sink, outcome);
            }
        }
        let end = self.levels.last().map_or(0, |top| top.end);
        let from = if end == 0 { 0 } else { end + 1 };
        let slashes = path.iter().enumerate().skip(from).filter(|(_, b)| **b == b'/');
        let missing = slashes.map(|(end, _)| Level { end, meta: None, state: State::Pending });
        self.levels.extend(missing);
        self.path.clear();
        self.path.extend_from_slice(&path[..self.levels.last().map_or(0, |top| top.end)]);
    }

    /// Makes the present directory and those above it unless they are made. `None` when that failed, now (the outcome
    /// says why) or before.
    pub(super) fn open(&mut self, sink: &S, overwrite: Overwrite, outcome: &mut Outcome) -> Option<Arc<DirNode<S>>> {
        let made = self.levels.iter().rposition(|l| !matches!(l.state, State::Pending)).map_or(0, |i| i + 1);
        for i in made..self.levels.len() {
            let above = match i.checked_sub(1).map(|p| &self.levels[p].state) {
                None => None,
                Some(State::Open(node)) => Some(Arc::clone(node)),
                Some(_) => {
                    self.levels[i].state = State::Failed;
                    continue;
                }
            };
            let level = &mut self.levels[i];
            let path = &self.path[..level.end];
            let made = if i > DEPTH_MAX {
                Err(SinkError::Io(format!("directories are nested more than {DEPTH_MAX} levels deep")))
            } else {
                make(sink, overwrite, above, path, level.meta.clone())
            };
            level.state = match made {
                Ok(node) => State::Open(Arc::new(node)),
                Err(e) => {
                    outcome.fail(path, e.fault(), format!("the directory could not be made: {e}"));
                    State::Failed
                }
            };
        }
        match &self.levels.last()?.state {
            State::Open(node) => Some(Arc::clone(node)),
            _ => None,
        }
    }

    /// Paths and metadata of the present directory and of those above it.
    pub(super) fn present(&self) -> impl Iterator<Item = (&[u8], Option<&Meta>)> {
        self.levels.iter().map(|l| (&self.path[..l.end], l.meta.as_ref()))
    }

    /// Lets go of all directories, after the last entry.
    pub(super) fn close_all(&mut self, sink: &S, outcome: &mut Outcome) {
        while let Some(level) = self.levels.pop() {
            if let State::Open(node) = level.state {
                release(node, sink, outcome);
            }
        }
    }
}

fn make<S: Sink>(
    sink: &S,
    overwrite: Overwrite,
    above: Option<Arc<DirNode<S>>>,
    path: &[u8],
    meta: Option<Meta>,
) -> Result<DirNode<S>, SinkError> {
    let Some(above) = above else {
        return Ok(DirNode { dir: sink.root(), fresh: false, name: path.to_vec(), meta, parent: None });
    };
    let name = name(path).to_vec();
    // Asked once for a directory, so that it need not be asked for each file in a new one.
    let fresh = above.fresh || sink.look(&above.dir, &name)?.is_none();
    let dir = match sink.make_dir(&above.dir, &name) {
        Err(SinkError::Exists) if overwrite == Overwrite::Always => {
            sink.remove(&above.dir, &name)?;
            sink.make_dir(&above.dir, &name)?
        }
        made => made?,
    };
    Ok(DirNode { dir, fresh, name, meta, parent: Some(above) })
}
