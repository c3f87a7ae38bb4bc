//! A folder to restore into, in memory, whose content can be compared with what was read. Step 21 of the walk.
//!
//! It must not know snapshots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_client::sink::{Sink, SinkError};
use lavatube_client::source::{Found, FoundKind};
use lavatube_format::tree::{Kind, Meta};
use lavatube_format::tree_cache::Stamp;

/// Something in the folder.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What it is.
    pub kind: FoundKind,
    /// Content of a file.
    pub bytes: Vec<u8>,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Its metadata, once set.
    pub meta: Option<Meta>,
    names: BTreeMap<Vec<u8>, usize>,
    links: u64,
}

/// The folder.
pub struct SimSink(Mutex<Vec<Restored>>);

/// A file being written.
pub struct Part {
    node: usize,
    hidden: Option<Vec<u8>>,
}

impl Default for SimSink {
    fn default() -> Self {
        Self(Mutex::new(vec![Restored::new(FoundKind::Directory)]))
    }
}

impl Restored {
    fn new(kind: FoundKind) -> Self {
        let (bytes, target, names) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { kind, bytes, target, meta: None, names, links: 0 }
    }

    /// Number of names it has.
    pub fn links(&self) -> u64 {
        self.links
    }
}

impl SimSink {
    fn nodes(&self) -> MutexGuard<'_, Vec<Restored>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything in the folder by its path, but what was begun and has no name yet.
    pub fn all(&self) -> BTreeMap<Vec<u8>, Restored> {
        let (nodes, mut out) = (self.nodes(), BTreeMap::new());
        let mut ways: Vec<(Vec<u8>, usize)> = vec![(Vec::new(), 0)];
        while let Some((path, node)) = ways.pop() {
            for (name, below) in nodes[node].names.iter().filter(|(name, _)| !name.starts_with(UNFINISHED)) {
                let path = if path.is_empty() { name.clone() } else { [&path, &b"/"[..], name].concat() };
                out.insert(path.clone(), nodes[*below].clone());
                ways.push((path, *below));
            }
        }
        out
    }
}

fn add(nodes: &mut Vec<Restored>, dir: usize, name: &[u8], mut node: Restored) -> usize {
    node.links = 1;
    nodes.push(node);
    let number = nodes.len() - 1;
    nodes[dir].names.insert(name.to_vec(), number);
    number
}

fn hidden(name: &[u8]) -> Vec<u8> {
    [UNFINISHED, name].concat()
}

/// Begins the hidden name of a file that is not whole. No file of the source is called so.
const UNFINISHED: &[u8] = b".part of ";

impl Sink for SimSink {
    type Dir = usize;
    type File = Part;

    fn root(&self) -> Arc<usize> {
        Arc::new(0)
    }

    fn look(&self, dir: &usize, name: &[u8]) -> Result<Option<Found>, SinkError> {
        let nodes = self.nodes();
        let Some(number) = nodes[*dir].names.get(name) else { return Ok(None) };
        let node = &nodes[*number];
        let meta = node.meta.clone().unwrap_or_default();
        Ok(Some(Found {
            kind: node.kind,
            size: node.bytes.len() as u64,
            allocated: node.bytes.len() as u64,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            links: node.links,
            stamp: Stamp { inode: *number as u64, ..Stamp::default() },
        }))
    }

    fn make_dir(&self, dir: &usize, name: &[u8]) -> Result<Arc<usize>, SinkError> {
        let mut nodes = self.nodes();
        match nodes[*dir].names.get(name).copied() {
            Some(found) if nodes[found].kind == FoundKind::Directory => Ok(Arc::new(found)),
            Some(_) => Err(SinkError::Exists),
            None => Ok(Arc::new(add(&mut nodes, *dir, name, Restored::new(FoundKind::Directory)))),
        }
    }

    fn create(&self, dir: &usize, name: &[u8], whole: bool) -> Result<Part, SinkError> {
        let mut nodes = self.nodes();
        let under = if whole { name.to_vec() } else { hidden(name) };
        if whole && nodes[*dir].names.contains_key(&under) {
            return Err(SinkError::Exists);
        }
        let node = add(&mut nodes, *dir, &under, Restored::new(FoundKind::File));
        Ok(Part { node, hidden: (!whole).then_some(under) })
    }

    fn write_at(&self, file: &mut Part, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let mut nodes = self.nodes();
        let data = &mut nodes[file.node].bytes;
        let from = usize::try_from(offset).map_err(|_| SinkError::Full)?;
        let end = from + bytes.len();
        data.resize(data.len().max(end), 0);
        data[from..end].copy_from_slice(bytes);
        Ok(())
    }

    fn finish_file(
        &self,
        dir: &usize,
        name: &[u8],
        file: Part,
        size: u64,
        meta: &Meta,
    ) -> Result<Vec<String>, SinkError> {
        let mut nodes = self.nodes();
        nodes[file.node].bytes.resize(usize::try_from(size).map_err(|_| SinkError::Full)?, 0);
        nodes[file.node].meta = Some(meta.clone());
        if let Some(hidden) = file.hidden {
            if nodes[*dir].names.contains_key(name) {
                return Err(SinkError::Exists);
            }
            nodes[*dir].names.remove(&hidden);
            nodes[*dir].names.insert(name.to_vec(), file.node);
        }
        Ok(Vec::new())
    }

    fn give_up(&self, dir: &usize, name: &[u8], file: Part) {
        self.nodes()[*dir].names.remove(file.hidden.as_deref().unwrap_or(name));
    }

    fn make_special(&self, dir: &usize, name: &[u8], kind: &Kind, meta: &Meta) -> Result<Vec<String>, SinkError> {
        let mut nodes = self.nodes();
        if nodes[*dir].names.contains_key(name) {
            return Err(SinkError::Exists);
        }
        let found = match kind {
            Kind::Symlink(_) => FoundKind::Symlink,
            Kind::Fifo => FoundKind::Fifo,
            Kind::Socket => FoundKind::Socket,
            Kind::CharDevice { major, minor } => FoundKind::CharDevice(*major, *minor),
            Kind::BlockDevice { major, minor } => FoundKind::BlockDevice(*major, *minor),
            Kind::Gone | Kind::File(_) | Kind::Directory => return Err(SinkError::Io("nothing special".into())),
        };
        let mut node = Restored { meta: Some(meta.clone()), ..Restored::new(found) };
        if let Kind::Symlink(target) = kind {
            node.target.clone_from(target);
        }
        add(&mut nodes, *dir, name, node);
        Ok(Vec::new())
    }

    fn hard_link(&self, first: &[u8], dir: &usize, name: &[u8]) -> Result<(), SinkError> {
        let mut nodes = self.nodes();
        let mut node = 0;
        for part in first.split(|b| *b == b'/') {
            let below = nodes[node].names.get(part).copied();
            node = below.ok_or_else(|| SinkError::Io("no such file".into()))?;
        }
        if nodes[*dir].names.contains_key(name) {
            return Err(SinkError::Exists);
        }
        nodes[*dir].names.insert(name.to_vec(), node);
        nodes[node].links += 1;
        Ok(())
    }

    fn finish_dir(&self, dir: &usize, meta: &Meta) -> Result<Vec<String>, SinkError> {
        self.nodes()[*dir].meta = Some(meta.clone());
        Ok(Vec::new())
    }

    fn remove(&self, dir: &usize, name: &[u8]) -> Result<(), SinkError> {
        self.nodes()[*dir].names.remove(name);
        Ok(())
    }

    fn read_existing(&self, dir: &usize, name: &[u8], offset: u64, buf: &mut [u8]) -> Result<usize, SinkError> {
        let nodes = self.nodes();
        let node = nodes[*dir].names.get(name).ok_or_else(|| SinkError::Io("no such file".into()))?;
        let rest = usize::try_from(offset).ok().and_then(|at| nodes[*node].bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}
