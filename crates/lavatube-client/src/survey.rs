//! Counting what a backup will come to while it runs: a first one knows no other total, and a bar without one is no bar.
//!
//! The same entries as the walk takes, by looking at them only: nothing is sorted, no file is opened but for large holes in it,
//! and what cannot be read is not counted. No step of the walk. It must not know who is shown the sum.

use crate::source::{Found, FoundKind, Names, Source};

/// What a backup is of.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// Absolute paths without the leading slash; none below another.
    pub roots: &'s [Vec<u8>],
    /// Whether to leave out what was found at a path.
    pub exclude: &'s dyn Fn(&[u8], &Found) -> bool,
    /// Stay on the file system of each root.
    pub one_file_system: bool,
}

/// What is done with an entry below a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Saved, with all that is in it.
    Keep,
    /// A directory of another file system: saved for the restored tree to have the place, and nothing in it.
    MountPoint,
    /// Not saved.
    LeaveOut,
}

impl Scope<'_> {
    /// The choice for what was found at `path` in a directory on `device`.
    pub(crate) fn choose(&self, path: &[u8], found: &Found, device: u64) -> Choice {
        let elsewhere = self.one_file_system && found.stamp.device != device;
        match (elsewhere, found.kind == FoundKind::Directory) {
            (true, false) => Choice::LeaveOut,
            _ if (self.exclude)(path, found) => Choice::LeaveOut,
            (true, true) => Choice::MountPoint,
            (false, _) => Choice::Keep,
        }
    }
}

/// What a backup will come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Names of files.
    pub files: u64,
    /// Their apparent bytes.
    pub bytes: u64,
    /// How many of those are large holes.
    pub holes: u64,
}

/// Less is no matter to a bar, and not worth opening a file for.
const HOLES_MIN: u64 = 16 << 20;

/// Counts the files of `scope` as long as `goes_on` says so; `None` when it did not come to the end.
pub fn survey<S: Source>(source: &S, scope: &Scope<'_>, goes_on: &dyn Fn() -> bool) -> Option<Sum> {
    let mut sum = Sum::default();
    for root in scope.roots {
        let Ok((dir, name)) = source.enter(root) else { continue };
        let Ok(found) = source.look(&dir, &name) else { continue };
        let mut path = root.clone();
        let mut levels: Vec<Level<S::Dir>> = sum.take(source, &dir, &name, &path, &found).into_iter().collect();
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_len);
            if level.next == level.names.len() {
                levels.pop();
                continue;
            }
            if !goes_on() {
                return None;
            }
            let name = level.names.name(level.next);
            level.next += 1;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let Ok(found) = source.look(&level.dir, name) else { continue };
            if scope.choose(&path, &found, level.device) == Choice::Keep
                && let Some(below) = sum.take(source, &level.dir, name, &path, &found)
            {
                levels.push(below);
            }
        }
    }
    Some(sum)
}

/// A directory on the way down, of the walk and of whoever counts ahead of it.
pub(crate) struct Level<D> {
    pub(crate) dir: D,
    pub(crate) names: Names,
    pub(crate) next: usize,
    pub(crate) path_len: usize,
    pub(crate) device: u64,
}

impl Sum {
    /// Counts one entry; for a directory, returns its level.
    fn take<S: Source>(
        &mut self,
        source: &S,
        dir: &S::Dir,
        name: &[u8],
        path: &[u8],
        found: &Found,
    ) -> Option<Level<S::Dir>> {
        match found.kind {
            FoundKind::Directory => {
                let dir = source.open_dir(dir, name).ok()?;
                let names = source.names(&dir).ok()?;
                Some(Level { dir, names, next: 0, path_len: path.len(), device: found.stamp.device })
            }
            FoundKind::File => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(found.size);
                // Fewer blocks may be holes, or compressed: the extents tell.
                if found.size.saturating_sub(found.allocated) >= HOLES_MIN {
                    let extents = source.open(dir, name).and_then(|(file, found)| source.extents(&file, found.size));
                    let data: Option<u64> = extents.ok().flatten().map(|e| e.iter().map(|e| e.len).sum());
                    self.holes += data.map_or(0, |data| found.size.saturating_sub(data));
                }
                None
            }
            _ => None,
        }
    }
}
