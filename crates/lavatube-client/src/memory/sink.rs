//! A target in memory that remembers in which order things happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lavatube_format::tree::{Kind, Meta};

use crate::sink::{Sink, SinkError};
use crate::source::{Found, FoundKind};

#[derive(Debug, Clone)]
struct Inode {
    kind: FoundKind,
    data: Vec<u8>,
    target: Vec<u8>,
    meta: Option<Meta>,
    names: BTreeMap<Vec<u8>, usize>,
}

impl Inode {
    fn new(kind: FoundKind) -> Self {
        Self { kind, data: Vec::new(), target: Vec::new(), meta: None, names: BTreeMap::new() }
    }
}

#[derive(Default)]
struct Inner {
    inodes: Vec<Inode>,
    room: usize,
    looks: usize,
}

/// The target.
pub(crate) struct MemorySink(Mutex<Inner>);

/// A file being written.
pub(crate) struct MemoryPart {
    inode: usize,
    hidden: Option<Vec<u8>>,
}

impl MemorySink {
    pub(crate) fn new() -> Self {
        let inodes = vec![Inode::new(FoundKind::Directory)];
        Self(Mutex::new(Inner { inodes, room: usize::MAX, looks: 0 }))
    }

    /// Leaves room for so many bytes.
    pub(crate) fn with_room(room: usize) -> Self {
        let sink = Self::new();
        sink.0.lock().unwrap().room = room;
        sink
    }

    /// How often [`Sink::look`] was asked since the last time.
    pub(crate) fn looks(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().looks)
    }

    fn at(inner: &Inner, path: &str) -> Option<usize> {
        let mut inode = 0;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            inode = *inner.inodes[inode].names.get(part.as_bytes())?;
        }
        Some(inode)
    }

    /// The content of a file, `None` when there is none.
    pub(crate) fn content(&self, path: &str) -> Option<Vec<u8>> {
        let inner = self.0.lock().unwrap();
        let inode = &inner.inodes[Self::at(&inner, path)?];
        (inode.kind == FoundKind::File).then(|| inode.data.clone())
    }

    /// The metadata of an entry.
    pub(crate) fn meta(&self, path: &str) -> Option<Meta> {
        let inner = self.0.lock().unwrap();
        inner.inodes[Self::at(&inner, path)?].meta.clone()
    }

    /// Target of a symbolic link.
    pub(crate) fn target(&self, path: &str) -> Option<Vec<u8>> {
        let inner = self.0.lock().unwrap();
        Some(inner.inodes[Self::at(&inner, path)?].target.clone())
    }

    /// A number that two names of one file share.
    pub(crate) fn inode(&self, path: &str) -> Option<usize> {
        Self::at(&self.0.lock().unwrap(), path)
    }

    /// All paths, in order.
    pub(crate) fn paths(&self) -> Vec<String> {
        fn walk(inner: &Inner, inode: usize, prefix: &str, out: &mut Vec<String>) {
            for (name, child) in &inner.inodes[inode].names {
                let path = format!("{prefix}{}", String::from_utf8_lossy(name));
                out.push(path.clone());
                walk(inner, *child, &format!("{path}/"), out);
            }
        }
        let (inner, mut out) = (self.0.lock().unwrap(), Vec::new());
        walk(&inner, 0, "", &mut out);
        out
    }

    /// Puts a file there beforehand.
    pub(crate) fn put(&self, path: &str, content: &[u8], mtime_s: i64) {
        let mut meta = Meta::default();
        meta.mtime.s = mtime_s;
        self.put_inode(path, Inode { data: content.to_vec(), meta: Some(meta), ..Inode::new(FoundKind::File) });
    }

    /// Changes the bytes of a file, and nothing else of it.
    pub(crate) fn tear(&self, path: &str, content: &[u8]) {
        let mut inner = self.0.lock().unwrap();
        let inode = Self::at(&inner, path).unwrap();
        inner.inodes[inode].data = content.to_vec();
    }

    /// Puts a symbolic link there beforehand.
    pub(crate) fn put_symlink(&self, path: &str, target: &str) {
        self.put_inode(path, Inode { target: target.into(), ..Inode::new(FoundKind::Symlink) });
    }

    fn put_inode(&self, path: &str, inode: Inode) {
        let mut inner = self.0.lock().unwrap();
        let mut dir = 0;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|p| !p.is_empty()) {
            dir = match inner.inodes[dir].names.get(part.as_bytes()) {
                Some(found) => *found,
                None => inner.add(dir, part.as_bytes(), Inode::new(FoundKind::Directory)),
            };
        }
        inner.add(dir, name.as_bytes(), inode);
    }
}

impl Inner {
    fn add(&mut self, dir: usize, name: &[u8], inode: Inode) -> usize {
        self.inodes.push(inode);
        let number = self.inodes.len() - 1;
        self.name(dir, name, number);
        number
    }

    /// Adding a name changes a directory's time: whoever set it before must do so again.
    fn name(&mut self, dir: usize, name: &[u8], inode: usize) {
        assert!(!name.contains(&b'/') && name != b".." && name != b"." && !name.is_empty());
        self.inodes[dir].names.insert(name.to_vec(), inode);
        self.inodes[dir].meta = None;
    }
}

fn hidden(name: &[u8]) -> Vec<u8> {
    [b".part-", name].concat()
}

impl Sink for MemorySink {
    type Dir = usize;
    type File = MemoryPart;

    fn root(&self) -> Arc<usize> {
        Arc::new(0)
    }

    fn look(&self, dir: &usize, name: &[u8]) -> Result<Option<Found>, SinkError> {
        let mut inner = self.0.lock().unwrap();
        inner.looks += 1;
        let Some(number) = inner.inodes[*dir].names.get(name) else { return Ok(None) };
        let inode = &inner.inodes[*number];
        let meta = inode.meta.clone().unwrap_or_default();
        Ok(Some(Found {
            kind: inode.kind,
            size: inode.data.len() as u64,
            allocated: inode.data.len() as u64,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            links: 1,
            stamp: lavatube_format::tree_cache::Stamp { inode: *number as u64, ..Default::default() },
        }))
    }

    fn make_dir(&self, dir: &usize, name: &[u8]) -> Result<Arc<usize>, SinkError> {
        let mut inner = self.0.lock().unwrap();
        match inner.inodes[*dir].names.get(name).copied() {
            Some(found) if inner.inodes[found].kind == FoundKind::Directory => Ok(Arc::new(found)),
            Some(_) => Err(SinkError::Exists),
            None => Ok(Arc::new(inner.add(*dir, name, Inode::new(FoundKind::Directory)))),
        }
    }

    fn create(&self, dir: &usize, name: &[u8], whole: bool) -> Result<MemoryPart, SinkError> {
        let mut inner = self.0.lock().unwrap();
        let under = if whole { name.to_vec() } else { hidden(name) };
        if whole && inner.inodes[*dir].names.contains_key(&under) {
            return Err(SinkError::Exists);
        }
        let inode = inner.add(*dir, &under, Inode::new(FoundKind::File));
        Ok(MemoryPart { inode, hidden: (!whole).then_some(under) })
    }

    fn write_at(&self, file: &mut MemoryPart, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let mut inner = self.0.lock().unwrap();
        inner.room = inner.room.checked_sub(bytes.len()).ok_or(SinkError::Full)?;
        let (data, end) = (&mut inner.inodes[file.inode].data, offset as usize + bytes.len());
        data.resize(data.len().max(end), 0);
        data[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn finish_file(
        &self,
        dir: &usize,
        name: &[u8],
        file: MemoryPart,
        size: u64,
        meta: &Meta,
    ) -> Result<Vec<String>, SinkError> {
        let mut inner = self.0.lock().unwrap();
        inner.inodes[file.inode].data.resize(size as usize, 0);
        inner.inodes[file.inode].meta = Some(meta.clone());
        if let Some(hidden) = file.hidden {
            if inner.inodes[*dir].names.contains_key(name) {
                return Err(SinkError::Exists);
            }
            inner.inodes[*dir].names.remove(&hidden);
            inner.name(*dir, name, file.inode);
        }
        Ok(Vec::new())
    }

    fn give_up(&self, dir: &usize, name: &[u8], file: MemoryPart) {
        self.0.lock().unwrap().inodes[*dir].names.remove(file.hidden.as_deref().unwrap_or(name));
    }

    fn make_special(&self, dir: &usize, name: &[u8], kind: &Kind, meta: &Meta) -> Result<Vec<String>, SinkError> {
        let mut inner = self.0.lock().unwrap();
        if inner.inodes[*dir].names.contains_key(name) {
            return Err(SinkError::Exists);
        }
        let mut inode = match kind {
            Kind::Symlink(target) => Inode { target: target.clone(), ..Inode::new(FoundKind::Symlink) },
            Kind::Fifo => Inode::new(FoundKind::Fifo),
            Kind::Socket => Inode::new(FoundKind::Socket),
            Kind::CharDevice { major, minor } => Inode::new(FoundKind::CharDevice(*major, *minor)),
            Kind::BlockDevice { major, minor } => Inode::new(FoundKind::BlockDevice(*major, *minor)),
            other => return Err(SinkError::Io(format!("{other:?} is not special"))),
        };
        inode.meta = Some(meta.clone());
        inner.add(*dir, name, inode);
        Ok(vec!["owner not set".into()])
    }

    fn hard_link(&self, first: &[u8], dir: &usize, name: &[u8]) -> Result<(), SinkError> {
        let mut inner = self.0.lock().unwrap();
        let first = std::str::from_utf8(first).unwrap();
        let inode = Self::at(&inner, first).ok_or_else(|| SinkError::Io("no such file".into()))?;
        if inner.inodes[*dir].names.contains_key(name) {
            return Err(SinkError::Exists);
        }
        inner.name(*dir, name, inode);
        Ok(())
    }

    fn finish_dir(&self, dir: &usize, meta: &Meta) -> Result<Vec<String>, SinkError> {
        self.0.lock().unwrap().inodes[*dir].meta = Some(meta.clone());
        Ok(Vec::new())
    }

    fn remove(&self, dir: &usize, name: &[u8]) -> Result<(), SinkError> {
        let mut inner = self.0.lock().unwrap();
        let found = inner.inodes[*dir].names.get(name).copied();
        assert!(found.is_none_or(|i| inner.inodes[i].kind != FoundKind::Directory), "directories are never removed");
        inner.inodes[*dir].names.remove(name);
        Ok(())
    }

    fn read_existing(&self, dir: &usize, name: &[u8], offset: u64, buf: &mut [u8]) -> Result<usize, SinkError> {
        let inner = self.0.lock().unwrap();
        let inode = inner.inodes[*dir].names.get(name).ok_or_else(|| SinkError::Io("no such file".into()))?;
        let rest = inner.inodes[*inode].data.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}
