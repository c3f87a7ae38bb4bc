//! The source in memory: the simulated tree, which changes between the calls of a walk, and a log of what was seen.
//!
//! The log is the ground truth of a snapshot: the names that were listed, how each entry looked when it was last looked
//! at, and the very bytes that were handed out. Entries vanish, grow, become something else or unreadable at any call;
//! reads are short at times. It must not know what a backup makes of it.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lavatube_client::source::{Found, FoundKind, Names, Source, SourceError, Xattrs};
use lavatube_format::tree::Extent;

use super::tree::{Node, ROOT, Tree, What};
use crate::chance::Chance;
use crate::sabotage::Sabotage;
use crate::wires::Wires;

/// Length and BLAKE3 of content.
pub type Content = (u64, [u8; 32]);

/// The content of these bytes.
pub fn content_of(bytes: &[u8]) -> Content {
    (bytes.len() as u64, *blake3::hash(bytes).as_bytes())
}

/// An entry as it was last looked at.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What was said of it.
    pub found: Found,
    /// Its content at that moment, when it is a file.
    pub content: Option<Content>,
    /// Its target, when it is a symbolic link.
    pub target: Vec<u8>,
    /// Its attributes.
    pub xattrs: Xattrs,
}

/// What was read of a file since it was opened the last time.
#[derive(Debug, Clone, Default)]
pub struct ReadLog {
    node: Node,
    bytes: Vec<u8>,
    /// Apparent size, when extents were asked for and given.
    sparse: Option<u64>,
    extents: Vec<Extent>,
}

impl ReadLog {
    /// The content that was handed out.
    pub fn content(&self) -> Content {
        match self.sparse {
            None => content_of(&self.bytes),
            Some(size) => {
                let mut bytes = self.bytes.clone();
                bytes.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
                content_of(&bytes)
            }
        }
    }
}

/// What one walk saw.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Paths that were listed, and the roots.
    pub seen: BTreeSet<Vec<u8>>,
    /// How entries looked.
    pub looked: BTreeMap<Vec<u8>, Looked>,
    /// What was read of files.
    pub read: BTreeMap<Vec<u8>, ReadLog>,
    /// What each inode was, under whatever name, whenever it was looked at or read.
    pub inodes: BTreeMap<Node, Vec<Content>>,
}

impl Log {
    /// The content that a snapshot may have for the file at `path`.
    pub fn may_be(&self, path: &[u8]) -> Vec<Content> {
        if let Some(read) = self.read.get(path) {
            return vec![read.content()];
        }
        let Some(looked) = self.looked.get(path) else { return Vec::new() };
        let others = self.inodes.get(&looked.found.stamp.inode).into_iter().flatten();
        looked.content.into_iter().chain(others.copied()).collect()
    }
}

struct Inner {
    tree: Tree,
    chance: Chance,
    log: Log,
}

/// The source.
pub struct SimSource {
    inner: RefCell<Inner>,
    roots: Vec<Vec<u8>>,
    wires: Arc<Wires>,
    /// Nanoseconds between two ticks of the file system's clock.
    tick: u64,
    /// Changes per thousand calls, while a walk goes on.
    restless: u64,
    sabotage: Option<Sabotage>,
}

/// An open directory.
pub struct SimDir {
    node: Node,
    path: Vec<u8>,
}

/// An open file.
pub struct SimFile {
    node: Node,
    path: Vec<u8>,
}

impl SimSource {
    /// A source with a tree below `roots`.
    pub fn new(
        seed: u64,
        roots: &[Vec<u8>],
        (tick, restless): (u64, u64),
        wires: &Arc<Wires>,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let mut chance = Chance::named(seed, "source", 0);
        let mut marker = b"MARKER:".to_vec();
        marker.extend(chance.bytes(17));
        wires.keep_secret("the content of a file", &marker);
        let tree = Tree::new(roots, &marker, wires.stamp(tick), &mut chance);
        let inner = RefCell::new(Inner { tree, chance, log: Log::default() });
        Self { inner, roots: roots.to_vec(), wires: wires.clone(), tick, restless, sabotage }
    }

    /// Changes the tree `n` times, between two walks.
    pub fn change(&self, n: u64) {
        let inner = &mut *self.inner.borrow_mut();
        for _ in 0..n {
            self.wires.pass(1_000_000);
            inner.tree.change(&self.roots, self.wires.stamp(self.tick), &mut inner.chance);
        }
        if self.sabotage == Some(Sabotage::ChangesLeaveNoStamp) {
            inner.tree.rewrite_unseen(&self.roots, &mut inner.chance);
        }
    }

    /// Begins a walk with an empty log.
    pub fn begin(&self) {
        let mut log = Log::default();
        log.seen.extend(self.roots.iter().cloned());
        self.inner.borrow_mut().log = log;
    }

    /// What the walk saw.
    pub fn log(&self) -> Log {
        self.inner.borrow().log.clone()
    }

    /// Whether there is any file at all.
    pub fn has_files(&self) -> bool {
        self.inner.borrow().tree.has_files(&self.roots)
    }

    /// Every call goes through here: it is traced, and the tree may change before it is answered.
    fn call(&self, what: &str, path: &[u8]) -> Result<RefMut<'_, Inner>, SourceError> {
        let dead = |_| SourceError::Io("the process is dead".into());
        self.wires.look(what, &String::from_utf8_lossy(path)).map_err(dead)?;
        let mut inner = self.inner.borrow_mut();
        let Inner { tree, chance, .. } = &mut *inner;
        if chance.per_mille(self.restless) {
            tree.change(&self.roots, self.wires.stamp(self.tick), chance);
        }
        Ok(inner)
    }

    /// As [`Self::call`], about a file that is open: what changes then is mostly that very file.
    fn call_open(&self, what: &str, file: &SimFile) -> Result<RefMut<'_, Inner>, SourceError> {
        let mut inner = self.call(what, &file.path)?;
        let Inner { tree, chance, .. } = &mut *inner;
        if chance.per_mille(self.restless) {
            tree.rewrite(file.node, self.wires.stamp(self.tick), chance);
        }
        Ok(inner)
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn child(inner: &Inner, dir: &SimDir, name: &[u8]) -> Result<Node, SourceError> {
    inner.tree.child(dir.node, name).ok_or(SourceError::Vanished)
}

fn unreadable() -> SourceError {
    SourceError::Io("input/output error".into())
}

impl Source for SimSource {
    type Dir = SimDir;
    type File = SimFile;

    fn enter(&self, path: &[u8]) -> Result<(SimDir, Vec<u8>), SourceError> {
        let inner = self.call("enter", path)?;
        let (above, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let mut node = ROOT;
        for part in above.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            node = inner.tree.child(node, part).ok_or(SourceError::Vanished)?;
        }
        Ok((SimDir { node, path: above.to_vec() }, name.to_vec()))
    }

    fn open_dir(&self, dir: &SimDir, name: &[u8]) -> Result<SimDir, SourceError> {
        let path = join(&dir.path, name);
        let inner = self.call("open dir", &path)?;
        let node = child(&inner, dir, name)?;
        match inner.tree.node(node) {
            Some(inode) if !matches!(inode.what, What::Directory(_)) => Err(SourceError::Changed),
            Some(inode) if inode.unreadable => Err(unreadable()),
            _ => Ok(SimDir { node, path }),
        }
    }

    fn names(&self, dir: &SimDir) -> Result<Names, SourceError> {
        let mut inner = self.call("names", &dir.path)?;
        let Inner { tree, chance, log } = &mut *inner;
        let Some(What::Directory(names)) = tree.node(dir.node).map(|n| &n.what) else {
            return Err(SourceError::Changed);
        };
        let mut out = Names::default();
        // In no order at all.
        let mut all: Vec<&Vec<u8>> = names.keys().collect();
        while !all.is_empty() {
            let name = all.swap_remove(chance.index(all.len()));
            log.seen.insert(join(&dir.path, name));
            out.push(name);
        }
        Ok(out)
    }

    fn look(&self, dir: &SimDir, name: &[u8]) -> Result<Found, SourceError> {
        let path = join(&dir.path, name);
        let mut inner = self.call("look", &path)?;
        let node = child(&inner, dir, name)?;
        let found = inner.tree.found(node).ok_or(SourceError::Vanished)?;
        let Some(inode) = inner.tree.node(node) else { return Err(SourceError::Vanished) };
        let (content, target) = match &inode.what {
            What::File(body) => (Some(content_of(&body.bytes)), Vec::new()),
            What::Symlink(target) => (None, target.clone()),
            _ => (None, Vec::new()),
        };
        let looked = Looked { found, content, target, xattrs: inode.xattrs.clone() };
        // A further name may stand for what the file was when it was met first.
        inner.log.inodes.entry(node).or_default().extend(content);
        inner.log.looked.insert(path, looked);
        Ok(found)
    }

    fn target(&self, dir: &SimDir, name: &[u8]) -> Result<Vec<u8>, SourceError> {
        let path = join(&dir.path, name);
        let mut inner = self.call("target", &path)?;
        let node = child(&inner, dir, name)?;
        let Some(What::Symlink(target)) = inner.tree.node(node).map(|n| n.what.clone()) else {
            return Err(SourceError::Changed);
        };
        if let Some(looked) = inner.log.looked.get_mut(&path) {
            looked.target.clone_from(&target);
        }
        Ok(target)
    }

    fn xattrs(&self, dir: &SimDir, name: &[u8], _: FoundKind) -> Result<Xattrs, SourceError> {
        let path = join(&dir.path, name);
        let mut inner = self.call("xattrs", &path)?;
        let node = child(&inner, dir, name)?;
        let xattrs = inner.tree.node(node).map(|n| n.xattrs.clone()).unwrap_or_default();
        if let Some(looked) = inner.log.looked.get_mut(&path) {
            looked.xattrs.clone_from(&xattrs);
        }
        Ok(xattrs)
    }

    fn open(&self, dir: &SimDir, name: &[u8]) -> Result<(SimFile, Found), SourceError> {
        let path = join(&dir.path, name);
        let mut inner = self.call("open", &path)?;
        let node = child(&inner, dir, name)?;
        match inner.tree.node(node) {
            Some(inode) if !matches!(inode.what, What::File(_)) => return Err(SourceError::Changed),
            Some(inode) if inode.unreadable => return Err(SourceError::Io("permission denied".into())),
            _ => {}
        }
        let found = inner.tree.found(node).ok_or(SourceError::Vanished)?;
        inner.log.read.insert(path.clone(), ReadLog { node, ..ReadLog::default() });
        Ok((SimFile { node, path }, found))
    }

    fn look_again(&self, file: &SimFile) -> Result<Found, SourceError> {
        let mut inner = self.call_open("look again", file)?;
        let found = inner.tree.found(file.node).ok_or(SourceError::Vanished)?;
        if let Some(looked) = inner.log.looked.get_mut(&file.path) {
            looked.found = found;
        }
        // The file was read to its end: other names of it may stand for what was read.
        if let Some(content) = inner.log.read.get(&file.path).map(ReadLog::content) {
            inner.log.inodes.entry(file.node).or_default().push(content);
        }
        Ok(found)
    }

    fn extents(&self, file: &SimFile, size: u64) -> Result<Option<Vec<Extent>>, SourceError> {
        let mut inner = self.call_open("extents", file)?;
        let Some(What::File(body)) = inner.tree.node(file.node).map(|n| &n.what) else {
            return Err(SourceError::Changed);
        };
        let Some(data) = body.data.clone() else { return Ok(None) };
        let mut data: Vec<Extent> = data.into_iter().filter(|e| e.at < size).collect();
        data.iter_mut().for_each(|e| e.len = e.len.min(size - e.at));
        if let Some(read) = inner.log.read.get_mut(&file.path) {
            read.sparse = Some(size);
            read.extents.clone_from(&data);
        }
        Ok(Some(data))
    }

    fn read_at(&self, file: &SimFile, offset: u64, buf: &mut [u8]) -> Result<usize, SourceError> {
        let mut inner = self.call_open("read", file)?;
        let Inner { tree, chance, log } = &mut *inner;
        let Some(inode) = tree.node(file.node) else { return Err(SourceError::Vanished) };
        let What::File(body) = &inode.what else { return Err(SourceError::Changed) };
        if inode.unreadable && chance.per_mille(300) {
            return Err(unreadable());
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(body.bytes.len());
        let mut n = buf.len().min(body.bytes.len() - from);
        if n > 1 && chance.per_mille(100) {
            n = 1 + chance.index(n);
        }
        buf[..n].copy_from_slice(&body.bytes[from..from + n]);
        if let Some(read) = log.read.get_mut(&file.path)
            && read.node == file.node
        {
            read.bytes.resize(read.bytes.len().max(from + n), 0);
            read.bytes[from..from + n].copy_from_slice(&buf[..n]);
        }
        Ok(n)
    }
}
