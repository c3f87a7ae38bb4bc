//! Takes a snapshot: from a walk over the sources to a signed manifest. Steps 1 to 7 of the walk, from top to bottom.
//!
//! Everything that was seen is either in the snapshot or listed as skipped, with the reason. It must not know drives,
//! threads or the terminal: frames go to an [`Outlet`], counters to a [`Meter`].

use std::collections::BTreeMap;

use lavatube_base::limits::{CHUNK_LEN_MAX, SKIPPED_LISTED_MAX};
use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, SessionId};
use lavatube_format::roll::Committed;
use lavatube_format::snapshot::{Skipped, Snapshot, Totals};
use lavatube_format::tree::{Content, Entry, Kind, Meta};
use lavatube_format::tree_cache::{CacheHead, CachedEntry, CachedLayer, Stamp};
use lavatube_seal::DepositKeys;

use crate::cache::{SourceKey, load_head, save_head};
use crate::catalog::Catalog;
use crate::chunker::ChunkSizes;
use crate::collect::{CollectError, Collector, FRAME_LEN, Lane, Outlet};
use crate::comparison::{Comparison, LayerError};
use crate::meter::Meter;
use crate::roll::{RollError, RollWriter};
use crate::scan::{ScanError, Scanner};
use crate::source::{Found, FoundKind, Source, SourceError, Xattrs};
use crate::state::{State, StateError};
use crate::survey::{Choice, Level, Scope};

/// What to take a snapshot of, and how.
pub struct Request<'r> {
    /// Absolute paths without the leading slash; none below another.
    pub roots: Vec<Vec<u8>>,
    /// Whether to leave out what was found at a path (absolute, without leading slash).
    pub exclude: &'r dyn Fn(&[u8], &Found) -> bool,
    /// Stay on the file system of each root: of others, directories are saved without what is in them.
    pub one_file_system: bool,
    /// Read every file, whatever the cache says.
    pub read_all: bool,
    /// Accept a source without a single file.
    pub allow_empty: bool,
    /// Accept a source that lost more than half of its entries since the last snapshot.
    pub accept_shrink: bool,
    /// Host name.
    pub host: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Free text.
    pub description: Option<String>,
    /// Program and version.
    pub program: String,
    /// What the wall clock says.
    pub now: WallTime,
    /// How content is cut and framed.
    pub sizes: Sizes,
}

/// How content is cut and framed, by lengths of at most [`CHUNK_LEN_MAX`]. Any make a readable snapshot, but only
/// snapshots of the same share chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Chunks of files.
    pub chunks: ChunkSizes,
    /// Chunks of files that do not compress.
    pub loose_chunks: ChunkSizes,
    /// Raw bytes of a frame; a longer chunk has one of its own.
    pub frame: usize,
}

impl Sizes {
    /// What every archive uses unless told otherwise; measured in `docs/decisions/0002-chunk-and-frame-sizes.md`.
    pub const DEFAULT: Self =
        Self { chunks: ChunkSizes::DEFAULT, loose_chunks: ChunkSizes::INCOMPRESSIBLE, frame: FRAME_LEN };

    /// The longest of all lengths.
    fn longest(&self) -> usize {
        self.chunks.max.max(self.loose_chunks.max).max(self.frame)
    }
}

impl Request<'_> {
    fn scope(&self) -> Scope<'_> {
        Scope { roots: &self.roots, exclude: self.exclude, one_file_system: self.one_file_system }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The snapshot's record; its id is the chunk id.
    pub snapshot: Option<ChunkId>,
    /// Totals, as in the record.
    pub totals: Totals,
    /// Files that were new or changed.
    pub files_read: u64,
    /// All skipped entries' paths and reasons, up to the limit.
    pub skipped: Vec<Skipped>,
    /// Files that changed while they were read: what was stored may be a mixture.
    pub changed: Vec<Vec<u8>>,
    /// Number of all such files.
    pub changed_count: u64,
    /// Entries left out because the caller said so.
    pub excluded: u64,
    /// The snapshot this one was compared with.
    pub parent: Option<ChunkId>,
}

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A root cannot be read at all.
    #[error("cannot read {}: {source}", String::from_utf8_lossy(path))]
    Root {
        /// The root.
        path: Vec<u8>,
        /// Why.
        source: SourceError,
    },
    /// No file could be read, and something was in the way.
    #[error("nothing could be read; {}: {reason}", String::from_utf8_lossy(path))]
    Unreadable {
        /// The first entry that could not be read.
        path: Vec<u8>,
        /// Why.
        reason: String,
    },
    /// Nothing to keep.
    #[error("the source holds no files")]
    Empty,
    /// Much less than last time.
    #[error("the source shrank from {before} entries to {now} since the last snapshot")]
    Shrunk {
        /// Entries of the last snapshot.
        before: u64,
        /// Entries now.
        now: u64,
    },
    /// The state folder failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Storing failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

impl From<RollError> for BackupError {
    fn from(e: RollError) -> Self {
        match e {
            RollError::State(e) => Self::State(e),
            RollError::Collect(e) => Self::Collect(e),
        }
    }
}

impl From<LayerError> for BackupError {
    fn from(e: LayerError) -> Self {
        match e {
            LayerError::State(e) => Self::State(e),
            LayerError::Collect(e) => Self::Collect(e),
        }
    }
}

/// A snapshot whose frames are all with the outlet: it exists once the session is finished; then call
/// [`Prepared::complete`].
pub struct Prepared<'c, 's> {
    /// What came of it.
    pub report: Report,
    /// What its manifest is to commit to.
    pub committed: Committed,
    collector: Collector<'c, 's>,
    state: &'s dyn State,
    cache: (SourceKey, CacheHead),
}

impl Prepared<'_, '_> {
    /// After the session is finished: puts packs into the catalog and the new tree cache in force.
    ///
    /// # Errors
    /// When the state cannot be written. The snapshot exists all the same.
    pub fn complete(self) -> Result<Report, BackupError> {
        self.collector.finish()?;
        save_head(self.state, &self.cache.0, &self.cache.1)?;
        Ok(self.report)
    }
}

/// Walks the sources and hands everything new to `outlet`, the snapshot record last.
///
/// # Errors
/// [`BackupError`]; nothing that was handed over is lost, but there is no snapshot.
///
/// # Panics
/// If a length of the request's sizes is beyond [`CHUNK_LEN_MAX`], or chunk sizes are out of order.
#[expect(clippy::too_many_arguments, reason = "what a backup consists of")]
pub fn prepare<'c, 's, S: Source>(
    source: &S,
    request: &Request<'_>,
    deposit: &DepositKeys,
    session: SessionId,
    state: &'s dyn State,
    catalog: &'c mut Catalog<'s>,
    outlet: &'c mut dyn Outlet,
    meter: &Meter,
) -> Result<Prepared<'c, 's>, BackupError> {
    let key = SourceKey::of(&request.host, &request.roots);
    let sizes = &request.sizes;
    assert!(sizes.longest() <= CHUNK_LEN_MAX, "{sizes:?} too long");
    let head = load_head(state, &key)?;
    if let Some(head) = &head {
        meter.bytes_total.set(head.bytes);
        meter.files_total.set(head.entries);
    }
    let mut walk = Walk {
        source,
        request,
        meter,
        scanner: Scanner::new(deposit, sizes.chunks, sizes.loose_chunks)?,
        collector: Collector::new(deposit.chunk_id_key(), catalog, outlet, sizes.frame),
        trusted_before: head.as_ref().filter(|_| !request.read_all).map(|h| earlier(h.started)),
        comparison: Comparison::begin(state, key, head.clone())?,
        roll: RollWriter::begin(state, deposit.roll_key(), session, request.now.s)?,
        links: BTreeMap::new(),
        report: Report { parent: head.as_ref().map(|h| h.snapshot), ..Report::default() },
    };
    for root in &request.roots {
        walk.root(root)?;
    }
    let Walk { mut collector, comparison, roll, mut report, .. } = walk;
    if report.totals.files == 0 && !request.allow_empty {
        // Not to be read is not to be empty.
        return Err(report.skipped.into_iter().next().map_or(BackupError::Empty, |first| BackupError::Unreadable {
            path: [b"/", &first.path[..]].concat(),
            reason: first.reason,
        }));
    }
    let compared = comparison.finish()?;
    if let Some(before) = head.as_ref().map(|h| h.entries)
        && compared.entries < before / 2
        && before > 20
        && !request.accept_shrink
    {
        return Err(BackupError::Shrunk { before, now: compared.entries });
    }
    let layers = compared.write_layers(&mut collector)?;
    let (roll, committed) = roll.finish(&mut collector)?;
    let record = Snapshot { roll, ..record(request, &report, &layers) };
    let (snapshot, _) = collector.add(Lane::Tree, &record.encode())?;
    collector.flush_last()?;
    report.snapshot = Some(snapshot);
    let totals = &report.totals;
    let cache = compared.head(CacheHead {
        snapshot,
        started: request.now,
        generation: 0,
        layers,
        entries: 0,
        bytes: totals.bytes,
        body: [0; 32],
    });
    Ok(Prepared { report, committed, collector, state, cache })
}

fn record(request: &Request<'_>, report: &Report, layers: &[CachedLayer]) -> Snapshot {
    Snapshot {
        time: request.now,
        host: request.host.clone(),
        paths: request.roots.iter().map(|r| [b"/", &r[..]].concat()).collect(),
        tags: request.tags.clone(),
        program: request.program.clone(),
        layers: layers.iter().map(|l| l.id).collect(),
        totals: report.totals,
        skipped: report.skipped.clone(),
        parent: report.parent,
        description: request.description.clone(),
        roll: Vec::new(),
    }
}

/// A change time is trusted when it lies clearly before the last snapshot began: a file may change again within one
/// tick of the file system's clock.
fn earlier(t: WallTime) -> WallTime {
    const TICK_NS: u32 = 20_000_000;
    match t.ns.checked_sub(TICK_NS) {
        Some(ns) => WallTime { s: t.s, ns },
        None => WallTime { s: t.s.saturating_sub(1), ns: t.ns + 1_000_000_000 - TICK_NS },
    }
}

/// The first name of a file, link or device with several.
struct FirstName {
    path: Vec<u8>,
    kind: Kind,
    /// What the file system said when it was read.
    stamp: Stamp,
    /// Names not met yet.
    left: u64,
}

struct Walk<'w, 'c, 's, S: Source> {
    source: &'w S,
    request: &'w Request<'w>,
    meter: &'w Meter,
    scanner: Scanner,
    collector: Collector<'c, 's>,
    trusted_before: Option<WallTime>,
    comparison: Comparison<'s>,
    roll: RollWriter<'s>,
    links: BTreeMap<(u64, u64), FirstName>,
    report: Report,
}

impl<S: Source> Walk<'_, '_, '_, S> {
    fn root(&mut self, root: &[u8]) -> Result<(), BackupError> {
        let fail = |source| BackupError::Root { path: [b"/", root].concat(), source };
        let (dir, name) = self.source.enter(root).map_err(fail)?;
        let found = self.source.look(&dir, &name).map_err(fail)?;
        let mut path = root.to_vec();
        let mut levels: Vec<Level<S::Dir>> = Vec::new();
        if let Some(level) = self.visit(&dir, &name, &path, found, true)? {
            levels.push(level);
        }
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_len);
            if level.next == level.names.len() {
                levels.pop();
                continue;
            }
            let name = level.names.name(level.next);
            level.next += 1;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match self.source.look(&level.dir, name) {
                Ok(found) => {
                    let (dir, name) = (&level.dir, name.to_vec());
                    let inside = match self.choose(&path, &found, level.device) {
                        Choice::LeaveOut => continue,
                        Choice::MountPoint => false,
                        Choice::Keep => true,
                    };
                    if let Some(below) = self.visit(dir, &name, &path, found, inside)? {
                        levels.push(below);
                    }
                }
                Err(e) => self.skip(&path, e.to_string()),
            }
        }
        Ok(())
    }

    fn choose(&mut self, path: &[u8], found: &Found, device: u64) -> Choice {
        let choice = self.request.scope().choose(path, found, device);
        self.report.excluded += u64::from(choice != Choice::Keep);
        choice
    }

    fn skip(&mut self, path: &[u8], reason: String) {
        self.report.totals.skipped += 1;
        self.meter.errors.add(1);
        if self.report.skipped.len() < SKIPPED_LISTED_MAX {
            self.report.skipped.push(Skipped { path: path.to_vec(), reason });
        }
    }

    /// Stores one entry; for a directory, returns its level unless nothing `inside` is wanted.
    fn visit(
        &mut self,
        dir: &S::Dir,
        name: &[u8],
        path: &[u8],
        found: Found,
        inside: bool,
    ) -> Result<Option<Level<S::Dir>>, BackupError> {
        let cached = self.comparison.known(path)?.cloned();
        let same = cached.filter(|c| self.unchanged(c, &found));
        if found.kind == FoundKind::File {
            self.file(dir, name, path, found, same)?;
            return Ok(None);
        }
        let mut entry = match same {
            Some(c) => Entry { path: path.to_vec(), kind: c.entry.kind, meta: self.meta(&found, c.entry.meta.xattrs) },
            None => match self.other(dir, name, path, &found) {
                Ok(entry) => entry,
                Err(e) => {
                    self.skip(path, e.to_string());
                    return Ok(None);
                }
            },
        };
        if found.kind != FoundKind::Directory {
            entry.meta.first_link = self.first_name(&found).filter(|f| f.kind == entry.kind).map(|f| f.path.clone());
            self.note_link(&found, path, &entry.kind);
        }
        self.comparison.put(entry, found.stamp)?;
        self.meter.others.add(1);
        if found.kind != FoundKind::Directory {
            self.report.totals.others += 1;
            return Ok(None);
        }
        self.report.totals.directories += 1;
        if !inside {
            return Ok(None);
        }
        let list = || {
            let dir = self.source.open_dir(dir, name)?;
            let mut names = self.source.names(&dir)?;
            names.sort();
            Ok::<_, SourceError>((dir, names))
        };
        match list() {
            Ok((dir, names)) => {
                let device = found.stamp.device;
                Ok(Some(Level { dir, names, next: 0, path_len: path.len(), device }))
            }
            Err(e) => {
                self.skip(path, format!("its contents: {e}"));
                Ok(None)
            }
        }
    }

    /// Whether the cache may be believed: the very same inode, not touched since, and not touched at the very end.
    fn unchanged(&self, cached: &CachedEntry, found: &Found) -> bool {
        let meta = &cached.entry.meta;
        let same_kind = match &cached.entry.kind {
            Kind::File(c) => found.kind == FoundKind::File && c.size == found.size,
            Kind::Directory => found.kind == FoundKind::Directory,
            Kind::Symlink(_) => found.kind == FoundKind::Symlink,
            _ => false,
        };
        same_kind
            && cached.stamp == found.stamp
            && meta.mtime == found.mtime
            && self.trusted_before.is_some_and(|t| found.stamp.ctime < t)
    }

    fn meta(&self, found: &Found, xattrs: Xattrs) -> Meta {
        Meta { mode: found.mode, uid: found.uid, gid: found.gid, mtime: found.mtime, xattrs, first_link: None }
    }

    /// An entry that is no file.
    fn other(&mut self, dir: &S::Dir, name: &[u8], path: &[u8], found: &Found) -> Result<Entry, SourceError> {
        let kind = match found.kind {
            FoundKind::Directory => Kind::Directory,
            FoundKind::Symlink => Kind::Symlink(self.source.target(dir, name)?),
            FoundKind::Fifo => Kind::Fifo,
            FoundKind::CharDevice(major, minor) => Kind::CharDevice { major, minor },
            FoundKind::BlockDevice(major, minor) => Kind::BlockDevice { major, minor },
            FoundKind::Socket => Kind::Socket,
            FoundKind::File => return Err(SourceError::Changed),
        };
        let xattrs = self.source.xattrs(dir, name, found.kind)?;
        Ok(Entry { path: path.to_vec(), kind, meta: self.meta(found, xattrs) })
    }

    fn file(
        &mut self,
        dir: &S::Dir,
        name: &[u8],
        path: &[u8],
        found: Found,
        same: Option<CachedEntry>,
    ) -> Result<(), BackupError> {
        let first = self.first_name(&found).and_then(|f| match &f.kind {
            Kind::File(content) => Some((f.path.clone(), content.clone())),
            _ => None,
        });
        // Of what is read the meter was told on the way.
        let mut counted = 0;
        let (content, xattrs, found, first_link) = match (same, first) {
            (Some(CachedEntry { entry: Entry { kind: Kind::File(content), meta, .. }, .. }), first) => {
                (content, meta.xattrs, found, first.map(|(path, _)| path))
            }
            (_, Some((first, content))) if content.size == found.size => {
                match self.source.xattrs(dir, name, FoundKind::File) {
                    Ok(xattrs) => (content, xattrs, found, Some(first)),
                    Err(e) => {
                        self.skip(path, e.to_string());
                        return Ok(());
                    }
                }
            }
            _ => match self.read(dir, name, path)? {
                Some((content, xattrs, found)) => {
                    counted = content.size;
                    (content, xattrs, found, None)
                }
                None => return Ok(()),
            },
        };
        let totals = &mut self.report.totals;
        totals.files += 1;
        totals.bytes += content.size;
        self.meter.finish_file(&content, counted);
        let meta = Meta { first_link, ..self.meta(&found, xattrs) };
        let entry = Entry { path: path.to_vec(), kind: Kind::File(content), meta };
        self.note_link(&found, path, &entry.kind);
        Ok(self.comparison.put(entry, found.stamp)?)
    }

    /// Reads a new or changed file; `None` when it had to be skipped.
    fn read(
        &mut self,
        dir: &S::Dir,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<(Content, Xattrs, Found)>, BackupError> {
        let scanned = match self.scanner.scan(self.source, dir, name, &mut self.collector, self.meter) {
            Ok(scanned) => scanned,
            Err(ScanError::Collect(e)) => return Err(e.into()),
            Err(ScanError::Source(e)) => {
                self.skip(path, e.to_string());
                return Ok(None);
            }
        };
        let xattrs = match self.source.xattrs(dir, name, FoundKind::File) {
            Ok(xattrs) => xattrs,
            Err(e) => {
                self.skip(path, format!("its attributes: {e}"));
                return Ok(None);
            }
        };
        self.roll.add(self.report.totals.files, &scanned.facts())?;
        self.report.files_read += 1;
        self.report.totals.new_bytes += scanned.new_bytes;
        if scanned.changed {
            self.report.changed_count += 1;
            if self.report.changed.len() < SKIPPED_LISTED_MAX {
                self.report.changed.push(path.to_vec());
            }
        }
        Ok(Some((scanned.content, xattrs, scanned.found)))
    }

    /// The name under which an entry was met before. What changed since then is read again, and is no link to what it was.
    fn first_name(&self, found: &Found) -> Option<&FirstName> {
        let inode = (found.stamp.device, found.stamp.inode);
        self.links.get(&inode).filter(|first| found.links > 1 && first.stamp == found.stamp)
    }

    /// Remembers the first name of what has several until all were met.
    fn note_link(&mut self, found: &Found, path: &[u8], kind: &Kind) {
        if found.links < 2 {
            return;
        }
        let inode = (found.stamp.device, found.stamp.inode);
        let first = || FirstName { path: path.to_vec(), kind: kind.clone(), stamp: found.stamp, left: found.links };
        let name = self.links.entry(inode).or_insert_with(first);
        name.left -= 1;
        if name.left == 0 {
            self.links.remove(&inode);
        }
    }
}
