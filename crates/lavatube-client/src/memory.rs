//! A vault, a state folder and a target in memory, and a small writer of packs: what the reading side is tested with.
//!
//! The writer shares no code with the real one except the formats and the seal, so that the two check each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lavatube_base::digest::Digests;
use lavatube_base::sign::EdSigner;
use lavatube_base::{ChunkId, ObjectId, SessionId, VaultId, Verified};
use lavatube_format::depositor_card::DepositorCard;
use lavatube_format::key_file::Secret;
use lavatube_format::layer::{Layer, TreeChunk};
use lavatube_format::manifest::{Leaf, Manifest, Note, Retention, root_of};
use lavatube_format::pack::{ChunkEntry, Delta, FOOTER_LEN, Footer, FrameEntry, capacity, class_len, sealed_position};
use lavatube_format::receipt::ReceiptBody;
use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Content, Entry, Kind, Meta, RecordWriter, Ref};
use lavatube_seal::{ChunkIdKey, DepositKeys, ReadKeys, Reads, Root, Session, SessionKeys};

use crate::catalog::Catalog;
use crate::far::{Far, FarError, ReceiptBytes, Refusal, Signer};
use crate::fetch::{Archive, Fetcher};
use crate::frame::{Press, RawFrame};
use crate::meter::Meter;
use crate::rebuild;
use crate::spool::SpoolKind;
use crate::state::{NewFile, State};
use crate::vaulted::Sessions;

mod sink;
pub(crate) use sink::MemorySink;

/// State files in memory.
#[derive(Default)]
pub(crate) struct MemoryState(pub(crate) Mutex<BTreeMap<String, Vec<u8>>>);

struct MemoryFile<'s> {
    state: &'s MemoryState,
    name: String,
    bytes: Vec<u8>,
}

impl Write for MemoryFile<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for MemoryFile<'_> {
    fn commit(self: Box<Self>) -> io::Result<()> {
        self.state.0.lock().unwrap().insert(self.name, self.bytes);
        Ok(())
    }
}

impl State for MemoryState {
    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let files = self.0.lock().unwrap();
        let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rest = file.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.0.lock().unwrap().get(name).map(|f| f.len() as u64))
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile + '_>> {
        Ok(Box::new(MemoryFile { state: self, name: name.to_owned(), bytes: Vec::new() }))
    }
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().entry(name.to_owned()).or_default().extend_from_slice(bytes);
        Ok(())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().filter(|n| n.starts_with(prefix)).cloned().collect())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

/// A vault in memory that can lose things.
#[derive(Default)]
pub(crate) struct MemoryFar {
    pub(crate) packs: Mutex<BTreeMap<ObjectId, Vec<u8>>>,
    pub(crate) manifests: Mutex<BTreeMap<ObjectId, Vec<u8>>>,
    pub(crate) away: Mutex<BTreeSet<ObjectId>>,
    pub(crate) fetches: AtomicU64,
}

impl Far for MemoryFar {
    fn signer(&self) -> Signer {
        Signer { vault: lavatube_base::VaultId([0; 16]), key: [0; 32] }
    }
    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.packs.lock().unwrap().insert(pack.id(), pack.bytes().to_vec());
        Ok(ReceiptBytes(Vec::new()))
    }
    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.packs.lock().unwrap().insert(tags.id(), tags.bytes().to_vec());
        Ok(ReceiptBytes(Vec::new()))
    }
    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.manifests.lock().unwrap().insert(manifest.id(), manifest.bytes().to_vec());
        Ok(ReceiptBytes(Vec::new()))
    }
    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        if self.away.lock().unwrap().contains(&id) {
            return Err(FarError::Away("no contact".into()));
        }
        let (packs, manifests) = (self.packs.lock().unwrap(), self.manifests.lock().unwrap());
        let object = packs.get(&id).or_else(|| manifests.get(&id)).ok_or(FarError::Absent(id))?;
        let bytes = object.get(range.start as usize..range.end as usize);
        let beyond = || FarError::Refused { why: Refusal::Caller, text: "beyond the end".into() };
        out.extend_from_slice(bytes.ok_or_else(beyond)?);
        Ok(())
    }
    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(self.manifests.lock().unwrap().iter().map(|(id, m)| (*id, m.len() as u64)).collect())
    }
    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        Ok(self.packs.lock().unwrap().contains_key(&id))
    }
}

/// A depositor, a reader and the vault between them.
pub(crate) struct World {
    pub(crate) state: MemoryState,
    pub(crate) far: MemoryFar,
    pub(crate) read: ReadKeys,
    pub(crate) deposit: DepositKeys,
    pub(crate) ids: ChunkIdKey,
    pub(crate) last: Option<(u64, ObjectId)>,
    /// How far the depositor's clock is ahead, in seconds.
    pub(crate) clock: i64,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = Root::new(Secret::new([7; 32]));
        let deposit = DepositKeys::new(&root, "default", "rover", Secret::new([1; 32]), Secret::new([2; 32])).unwrap();
        let read = root.read_keys("default").unwrap();
        let ids = read.chunk_id_key();
        Self { state: MemoryState::default(), far: MemoryFar::default(), read, deposit, ids, last: None, clock: 0 }
    }

    pub(crate) fn card(&self) -> DepositorCard {
        self.deposit.card().card.clone()
    }

    /// Begins a session to write chunks in.
    pub(crate) fn session(&mut self) -> Writer<'_> {
        let number = self.last.map_or(0, |l| l.0) as u8 + 1;
        let session = SessionId([number; 16]);
        let mut entropy = |out: &mut [u8]| out.fill(number ^ 0x5a);
        let secret = Secret::new([number; 32]);
        let (keys, wrap) = Session::begin(&self.deposit, session, &secret, &mut entropy).unwrap();
        let (packs, frames) = (Vec::new(), Vec::new());
        Writer { world: self, keys, wrap, packs, frames, frame: RawFrame::default(), snapshots: Vec::new() }
    }

    /// Reads the vault with a fresh fetcher, after the catalog has caught up.
    pub(crate) fn reading<T>(&self, f: impl FnOnce(&mut Fetcher<'_>) -> T) -> T {
        let card = self.card();
        let cards = |id: &_| Some(card.clone()).filter(|c| c.id() == *id);
        let sessions = Sessions::load(&self.far, &self.state, &cards, &self.read).unwrap();
        let mut catalog = Catalog::open(&self.state).unwrap();
        let meter = Meter::default();
        rebuild::catch_up(&self.state, &mut catalog, &sessions, &self.far, &self.ids, &meter).unwrap();
        let archive = Archive { catalog: &catalog, sessions: &sessions, far: &self.far, chunk_ids: &self.ids };
        f(&mut Fetcher::new(archive, 4 << 20).unwrap())
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.far.fetches.swap(0, Ordering::Relaxed)
    }
}

/// Writes one session.
pub(crate) struct Writer<'w> {
    world: &'w mut World,
    keys: SessionKeys,
    wrap: lavatube_format::manifest::Wrap,
    packs: Vec<Leaf>,
    frames: Vec<(FrameEntry, Vec<u8>)>,
    frame: RawFrame,
    snapshots: Vec<(ChunkId, u32)>,
}

impl Writer<'_> {
    /// Adds a chunk to the open frame.
    pub(crate) fn chunk(&mut self, content: &[u8]) -> Ref {
        let id = self.world.ids.id(content);
        self.chunk_as(id, content)
    }

    /// Adds a chunk under an id that need not be its own.
    pub(crate) fn chunk_as(&mut self, id: ChunkId, content: &[u8]) -> Ref {
        self.frame.bytes.extend_from_slice(content);
        self.frame.chunks.push(ChunkEntry { id, body_len: content.len(), delta: None });
        Ref { id, len: content.len() as u64 }
    }

    /// Adds a chunk as a difference from `base`.
    pub(crate) fn delta(&mut self, content: &[u8], base_id: ChunkId, base: &[u8]) -> Ref {
        let mut body = Vec::with_capacity(content.len() + 1000);
        let mut zstd = zstd::zstd_safe::CCtx::create();
        zstd.ref_prefix(base).unwrap();
        zstd.compress2(&mut body, content).unwrap();
        let id = self.world.ids.id(content);
        let delta = Some(Box::new(Delta { base: base_id, content_len: content.len() }));
        self.frame.bytes.extend_from_slice(&body);
        self.frame.chunks.push(ChunkEntry { id, body_len: body.len(), delta });
        Ref { id, len: content.len() as u64 }
    }

    /// Ends the open frame.
    pub(crate) fn cut_frame(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        if !frame.chunks.is_empty() {
            let (pressed, _) = Press::new(1).unwrap().press(frame).unwrap();
            self.frames.push((pressed.entry, pressed.stored));
        }
    }

    /// Ends the open pack, of the smallest class that holds it; gives its id.
    pub(crate) fn cut_pack(&mut self) -> ObjectId {
        self.cut_frame();
        let mut index = Vec::new();
        self.frames.iter().for_each(|(entry, _)| entry.encode(&mut index));
        let body: Vec<u8> = self.frames.iter().flat_map(|(_, stored)| stored).copied().collect();
        let class = (0..8).find(|c| body.len() + index.len() + FOOTER_LEN <= capacity(*c)).unwrap();
        let footer = Footer { index_len: index.len(), frames_len: body.len(), frames: self.frames.len() };
        let mut plain = body;
        plain.resize(capacity(class) - FOOTER_LEN - index.len(), 0);
        plain.extend_from_slice(&index);
        plain.extend_from_slice(&footer.encode());
        let mut pack = vec![0; class_len(class)];
        for (at, byte) in plain.iter().enumerate() {
            pack[sealed_position(at)] = *byte;
        }
        self.keys.pack(self.packs.len() as u32, class).seal_in_place(&mut pack).unwrap();
        let leaf = Leaf { class, digests: Digests::of(&pack) };
        self.world.far.packs.lock().unwrap().insert(leaf.id(), pack);
        self.packs.push(leaf);
        self.frames.clear();
        leaf.id()
    }

    /// A file of these chunks.
    pub(crate) fn file(&mut self, path: &str, chunks: &[&[u8]]) -> Entry {
        let refs: Vec<Ref> = chunks.iter().map(|c| self.chunk(c)).collect();
        file_of(path, refs, &chunks.concat())
    }

    /// Stores a layer with `per_chunk` entries a tree chunk.
    pub(crate) fn layer(&mut self, entries: &[Entry], per_chunk: usize) -> ChunkId {
        let mut layer = Layer { entries: entries.len() as u64, chunks: Vec::new() };
        for part in entries.chunks(per_chunk) {
            let (mut writer, mut bytes) = (RecordWriter::default(), Vec::new());
            part.iter().for_each(|e| writer.put(&mut bytes, e));
            let r = self.chunk(&bytes);
            layer.chunks.push(TreeChunk { id: r.id, len: bytes.len(), first_path: part[0].path.clone() });
        }
        self.chunk(&layer.encode()).id
    }

    /// Stores a snapshot record.
    pub(crate) fn snapshot(&mut self, paths: &[&str], layers: Vec<ChunkId>) -> ChunkId {
        let mut snapshot = Snapshot { layers, host: "rover".into(), ..Snapshot::default() };
        snapshot.time.s = self.world.last.map_or(0, |l| l.0 as i64) + self.world.clock;
        snapshot.paths = paths.iter().map(|p| p.as_bytes().to_vec()).collect();
        let id = self.chunk(&snapshot.encode()).id;
        self.snapshots.push((id, self.packs.len() as u32));
        id
    }

    /// Stores a snapshot of one layer: the usual case.
    pub(crate) fn tree(&mut self, paths: &[&str], entries: &[Entry]) -> ChunkId {
        self.cut_pack();
        let layer = self.layer(entries, 3);
        self.snapshot(paths, vec![layer])
    }

    /// Ends the session with its manifest.
    pub(crate) fn finish(mut self) {
        if !self.frame.chunks.is_empty() || !self.frames.is_empty() {
            self.cut_pack();
        }
        let note = Note { tenant: "default".into(), snapshots: std::mem::take(&mut self.snapshots), marks: Vec::new() };
        let manifest = Manifest {
            session: self.keys.session(),
            depositor: self.world.deposit.depositor(),
            sequence: self.world.last.map_or(1, |l| l.0 + 1),
            previous: self.world.last.map(|l| l.1),
            joins: Vec::new(),
            root: root_of(&self.packs),
            leaves: self.packs,
            wraps: vec![self.wrap],
            note: self.keys.seal_note(&note).unwrap(),
            tags: Vec::new(),
            retention: Retention::default(),
            releases: 0,
            files: None,
        };
        let sequence = manifest.sequence;
        let bytes = self.world.deposit.sign_manifest(manifest).unwrap().encode();
        let id = Verified::hash(&bytes).id();
        self.world.far.manifests.lock().unwrap().insert(id, bytes);
        self.world.last = Some((sequence, id));
    }
}

/// A vault's receipt for an object, and whose it is.
pub(crate) fn receipt_for(kind: SpoolKind, object: ObjectId) -> (Signer, ReceiptBytes) {
    let (vault, key) = (VaultId([1; 16]), EdSigner::from_seed(&[4; 32]).unwrap());
    let body = ReceiptBody { vault, sequence: 7, kind: kind.object_kind(), object, check: [3; 16] };
    (Signer { vault, key: key.public() }, ReceiptBytes(body.sign(&key).encode()))
}

/// The entry of a file with this content.
pub(crate) fn file_of(path: &str, refs: Vec<Ref>, content: &[u8]) -> Entry {
    let digest = (refs.len() > 1).then(|| *blake3::hash(content).as_bytes());
    let content = Content { size: content.len() as u64, depth: 0, refs, extents: None, digest };
    entry(path, Kind::File(content))
}

/// An entry with metadata that differs from path to path.
pub(crate) fn entry(path: &str, kind: Kind) -> Entry {
    let mut meta = Meta { mode: 0o640, uid: 3, gid: 4, ..Meta::default() };
    meta.mtime.s = 1000 + path.len() as i64;
    Entry { path: path.as_bytes().to_vec(), kind, meta }
}

/// A directory.
pub(crate) fn dir(path: &str) -> Entry {
    entry(path, Kind::Directory)
}

/// `len` bytes that do not compress and depend on `seed`.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}
