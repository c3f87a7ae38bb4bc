//! A file system in memory that changes under the hands of whoever reads it.
//!
//! Inodes with names, links, holes, odd names and odd kinds; every change stamps change and modification times with a
//! clock that ticks coarsely, as kernels do. Each file begins with a marker that must never be seen in clear outside. It
//! must not know who reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lavatube_base::time::WallTime;
use lavatube_client::source::{Found, FoundKind, Xattrs};
use lavatube_format::tree::Extent;
use lavatube_format::tree_cache::Stamp;

use crate::chance::Chance;

/// Number of an inode.
pub type Node = u64;

/// Content of a file.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// All its bytes, holes as zeros.
    pub bytes: Arc<Vec<u8>>,
    /// Where data is, when there are holes.
    pub data: Option<Vec<Extent>>,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub enum What {
    /// A file.
    File(Body),
    /// A directory.
    Directory(BTreeMap<Vec<u8>, Node>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Something else without content.
    Other(FoundKind),
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    /// What it is.
    pub what: What,
    /// Attributes.
    pub xattrs: Xattrs,
    /// Whether reading it fails.
    pub unreadable: bool,
    mode: u32,
    mtime: WallTime,
    ctime: WallTime,
    links: u64,
}

/// The file system.
pub struct Tree {
    nodes: BTreeMap<Node, Inode>,
    next: Node,
    marker: Vec<u8>,
    /// Content that several files share parts of.
    pool: Vec<Vec<u8>>,
    /// Number of files at which no more are made.
    crowd: usize,
}

/// The root directory.
pub const ROOT: Node = 1;

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c.txt",
    b"README",
    b"-rf",
    b".hidden",
    b"a b",
    b"\xff\xfe",
    b"new\nline",
    b"a-",
    b"a.b",
    b"z",
    b"manifest",
    b"0",
    "mänty".as_bytes(),
    b"x~",
    b"core",
    b"tmp",
    b"log.1",
    b"data",
];

impl Tree {
    /// A tree with a few files below `roots`; `marker` is in every file that has room for it.
    pub fn new(roots: &[Vec<u8>], marker: &[u8], now: WallTime, chance: &mut Chance) -> Self {
        let pool = (0..4)
            .map(|_| {
                let n = 20_000 + chance.index(120_000);
                chance.bytes(n)
            })
            .collect();
        let crowd = 4 + chance.index(40);
        let mut tree = Self { nodes: BTreeMap::new(), next: ROOT, marker: marker.to_vec(), pool, crowd };
        tree.add(What::Directory(BTreeMap::new()), now, chance);
        for root in roots {
            let mut dir = ROOT;
            for name in root.split(|b| *b == b'/') {
                dir = match tree.child(dir, name) {
                    Some(found) => found,
                    None => {
                        let node = tree.add(What::Directory(BTreeMap::new()), now, chance);
                        tree.link(dir, name, node, now);
                        node
                    }
                };
            }
            tree.make_file(dir, b"first", now, chance);
        }
        for _ in 0..chance.below(40) {
            tree.change(roots, now, chance);
        }
        tree
    }

    /// An inode.
    pub fn node(&self, node: Node) -> Option<&Inode> {
        self.nodes.get(&node)
    }

    /// What `name` in a directory is.
    pub fn child(&self, dir: Node, name: &[u8]) -> Option<Node> {
        match &self.nodes.get(&dir)?.what {
            What::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// Whether any file is below `roots`.
    pub fn has_files(&self, roots: &[Vec<u8>]) -> bool {
        self.places(roots).iter().any(|(_, _, n)| matches!(self.nodes[n].what, What::File(_)))
    }

    /// What `lstat` says.
    pub fn found(&self, node: Node) -> Option<Found> {
        let inode = self.nodes.get(&node)?;
        let (kind, size, allocated) = match &inode.what {
            What::File(body) => {
                let size = body.bytes.len() as u64;
                (FoundKind::File, size, body.data.as_ref().map_or(size, |d| d.iter().map(|e| e.len).sum()))
            }
            What::Directory(_) => (FoundKind::Directory, 4096, 4096),
            What::Symlink(target) => (FoundKind::Symlink, target.len() as u64, 0),
            What::Other(kind) => (*kind, 0, 0),
        };
        Some(Found {
            kind,
            size,
            allocated,
            mode: inode.mode,
            uid: 1000,
            gid: 100,
            mtime: inode.mtime,
            links: inode.links,
            stamp: Stamp { ctime: inode.ctime, inode: node, device: 7 },
        })
    }

    fn add(&mut self, what: What, now: WallTime, chance: &mut Chance) -> Node {
        let node = self.next;
        self.next += 1;
        let mode = *chance.pick(&[0o644, 0o600, 0o755, 0o4755, 0]);
        let xattrs = if chance.per_mille(100) { vec![(b"user.note".to_vec(), chance.bytes(9))] } else { Vec::new() };
        let inode = Inode { what, xattrs, unreadable: false, mode, mtime: now, ctime: now, links: 0 };
        self.nodes.insert(node, inode);
        node
    }

    fn link(&mut self, dir: Node, name: &[u8], node: Node, now: WallTime) {
        if let Some(Inode { what: What::Directory(names), mtime, ctime, .. }) = self.nodes.get_mut(&dir) {
            names.insert(name.to_vec(), node);
            (*mtime, *ctime) = (now, now);
        }
        if let Some(inode) = self.nodes.get_mut(&node) {
            inode.links += 1;
            inode.ctime = now;
        }
    }

    fn unlink(&mut self, dir: Node, name: &[u8], now: WallTime) -> Option<Node> {
        let Some(Inode { what: What::Directory(names), mtime, ctime, .. }) = self.nodes.get_mut(&dir) else {
            return None;
        };
        let node = names.remove(name)?;
        (*mtime, *ctime) = (now, now);
        // The inode stays: somebody may have it open.
        let inode = self.nodes.get_mut(&node)?;
        inode.links -= 1;
        inode.ctime = now;
        Some(node)
    }

    fn content(&self, chance: &mut Chance) -> Body {
        let len = match chance.below(100) {
            0..8 => 0,
            8..40 => chance.index(300),
            40..75 => chance.index(20_000),
            75..95 => chance.index(60_000),
            95..99 => chance.index(300_000),
            _ => chance.index(1_500_000),
        };
        let mut bytes = match chance.below(5) {
            0 => chance.bytes(len),
            1 => self.marker.iter().chain(b" the quick brown rover ").copied().cycle().take(len).collect(),
            2 => vec![0; len],
            3 => chance.pick(&self.pool).iter().copied().cycle().take(len).collect(),
            _ => {
                let shared = chance.pick(&self.pool);
                let from = chance.index(shared.len());
                let mut bytes = chance.bytes(len.min(5000));
                bytes.extend(shared[from..].iter().chain(shared).copied().cycle().take(len.saturating_sub(5000)));
                bytes
            }
        };
        if bytes.len() >= self.marker.len() {
            bytes[..self.marker.len()].copy_from_slice(&self.marker);
        }
        let data = (len > 8192 && chance.per_mille(120)).then(|| holes(&mut bytes, chance));
        Body { bytes: Arc::new(bytes), data }
    }

    fn make_file(&mut self, dir: Node, name: &[u8], now: WallTime, chance: &mut Chance) {
        let body = self.content(chance);
        let node = self.add(What::File(body), now, chance);
        self.link(dir, name, node, now);
    }

    /// All places below `roots`: directory, name, inode.
    fn places(&self, roots: &[Vec<u8>]) -> Vec<(Node, Vec<u8>, Node)> {
        let mut dirs = Vec::new();
        for root in roots {
            let found = root.split(|b| *b == b'/').try_fold(ROOT, |dir, name| self.child(dir, name));
            dirs.extend(found);
        }
        let mut out = Vec::new();
        while let Some(dir) = dirs.pop() {
            let Some(Inode { what: What::Directory(names), .. }) = self.nodes.get(&dir) else { continue };
            for (name, node) in names {
                out.push((dir, name.clone(), *node));
                dirs.push(*node);
            }
        }
        out
    }

    /// Changes something below `roots`, as `chance` has it.
    pub fn change(&mut self, roots: &[Vec<u8>], now: WallTime, chance: &mut Chance) {
        let places = self.places(roots);
        let dirs: Vec<Node> = roots
            .iter()
            .filter_map(|r| r.split(|b| *b == b'/').try_fold(ROOT, |dir, name| self.child(dir, name)))
            .chain(places.iter().map(|p| p.2).filter(|n| matches!(self.nodes[n].what, What::Directory(_))))
            .collect();
        let dir = *chance.pick(&dirs);
        let name = chance.pick(NAMES).to_vec();
        let free = self.child(dir, &name).is_none();
        match chance.below(100) {
            0..26 if free && places.len() < self.crowd => self.make_file(dir, &name, now, chance),
            26..33 if free && places.len() < self.crowd => {
                let node = self.add(What::Directory(BTreeMap::new()), now, chance);
                self.link(dir, &name, node, now);
            }
            33..40 if free => {
                let kinds = [FoundKind::Fifo, FoundKind::Socket, FoundKind::CharDevice(1, 3), FoundKind::Symlink];
                let what = match chance.pick(&kinds) {
                    FoundKind::Symlink => What::Symlink(chance.pick(NAMES).to_vec()),
                    kind => What::Other(*kind),
                };
                let node = self.add(what, now, chance);
                self.link(dir, &name, node, now);
            }
            _ if places.is_empty() => {}
            40..48 => {
                let (_, _, node) = chance.pick(&places);
                if free && matches!(self.nodes[node].what, What::File(_)) {
                    self.link(dir, &name, *node, now);
                }
            }
            48..58 => {
                let (dir, name, node) = chance.pick(&places).clone();
                if name != b"first" && !matches!(&self.nodes[&node].what, What::Directory(d) if d.len() > 3) {
                    self.unlink(dir, &name, now);
                }
            }
            58..63 => {
                let (from, old, node) = chance.pick(&places).clone();
                if free && !matches!(self.nodes[&node].what, What::Directory(_)) {
                    self.unlink(from, &old, now);
                    self.link(dir, &name, node, now);
                }
            }
            63..70 => {
                let (_, _, node) = chance.pick(&places);
                if let Some(inode) = self.nodes.get_mut(node) {
                    match chance.below(3) {
                        0 => inode.mode = *chance.pick(&[0o400, 0o777, 0o2711]),
                        1 => inode.xattrs = vec![(b"user.note".to_vec(), chance.bytes(5))],
                        _ => inode.unreadable = !inode.unreadable,
                    }
                    inode.ctime = now;
                }
            }
            _ => {
                let (_, _, node) = chance.pick(&places);
                self.rewrite(*node, now, chance);
            }
        }
    }

    /// Changes the content of a file, and nothing else.
    pub fn rewrite(&mut self, node: Node, now: WallTime, chance: &mut Chance) {
        let fresh = self.content(chance);
        let Some(Inode { what: What::File(body), mtime, ctime, .. }) = self.nodes.get_mut(&node) else { return };
        let bytes = Arc::make_mut(&mut body.bytes);
        match chance.below(5) {
            0 => *body = fresh,
            1 => {
                bytes.truncate(chance.index(bytes.len() + 1));
                body.data = None;
            }
            2 => {
                bytes.extend_from_slice(&fresh.bytes[..fresh.bytes.len().min(30_000)]);
                body.data = None;
            }
            _ if bytes.is_empty() => bytes.push(1),
            _ => {
                let at = chance.index(bytes.len());
                let n = chance.index(200).min(bytes.len() - at).max(1);
                let noise = chance.bytes(n);
                bytes[at..at + n].copy_from_slice(&noise);
                body.data = None;
            }
        }
        (*mtime, *ctime) = (now, now);
    }

    /// Changes bytes of a file without a stamp, as no file system may.
    pub fn rewrite_unseen(&mut self, roots: &[Vec<u8>], chance: &mut Chance) {
        let places = self.places(roots);
        if let Some((_, _, node)) = (!places.is_empty()).then(|| chance.pick(&places))
            && let Some(Inode { what: What::File(body), .. }) = self.nodes.get_mut(node)
            && let Some(last) = Arc::make_mut(&mut body.bytes).last_mut()
        {
            *last = last.wrapping_add(1);
            body.data = None;
        }
    }
}

/// Makes holes; gives where data remains.
fn holes(bytes: &mut [u8], chance: &mut Chance) -> Vec<Extent> {
    let (mut at, mut out) = (0, Vec::new());
    while at < bytes.len() {
        let data = (4096 * chance.index(4)).min(bytes.len() - at);
        if data > 0 {
            out.push(Extent { at: at as u64, len: data as u64 });
        }
        let hole = (4096 * (1 + chance.index(8))).min(bytes.len() - at - data);
        bytes[at + data..at + data + hole].fill(0);
        at += data + hole;
    }
    out
}
