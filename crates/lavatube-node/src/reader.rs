//! A reader on this machine: a vault opened with the read key, and the commands that look into it.
//!
//! Listing, restoring and checking compose the client's straight lines; restoring and reading data run on several
//! threads, each with a fetcher of its own. It must not know layouts, nor print anything.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lavatube_base::limits::CARD_LEN_MAX;
use lavatube_base::{ObjectId, Verified};
use lavatube_client::browse::{self, CatError, Listed, Listing, ResolveError};
use lavatube_client::catalog::Catalog;
use lavatube_client::check::{self, Bad, CheckError, Damage, Structure, Turn};
use lavatube_client::far::Far;
use lavatube_client::fetch::{Archive, CACHE_BYTES, FetchCause, Fetcher};
use lavatube_client::frame::FrameError;
use lavatube_client::layers::{LostRange, TreeError};
use lavatube_client::meter::Meter;
use lavatube_client::rebuild::{self, RebuildError, Rebuilt};
use lavatube_client::restore::{Outcome, Restore, RestoreError, RestoreRequest, run_job};
use lavatube_client::state::{State, read_all};
use lavatube_client::vaulted::{Sessions, SessionsError, SnapshotPlace};
use lavatube_format::depositor_card::{DepositorCard, SignedCard};
use lavatube_format::shard::ObjectKind;
use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::Entry;
use lavatube_seal::{ChunkIdKey, Reads};
use lavatube_vault::{Depth, Health, MendError, MendReport};

use crate::atomic::{COMMON, make_folders};
use crate::depositor::{CARDS, DepositorError, Places, keep_card};
use crate::directory_sink::DirectorySink;
use crate::embedded::{self, EmbeddedVault};
use crate::holding::{Holding, Near};
use crate::read_ahead::with_read_ahead;

/// Bytes of opened frames each of several threads keeps.
const THREAD_CACHE_BYTES: usize = CACHE_BYTES / 2;

/// Why a look into the vault failed.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// Vault, keys or state could not be opened.
    #[error(transparent)]
    Open(#[from] DepositorError),
    /// The manifests could not be read.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// The catalog could not be completed.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// A tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Words name no snapshot.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A file could not be written out.
    #[error(transparent)]
    Cat(#[from] CatError),
    /// The restore could not begin or go on.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The target folder.
    #[error("{0}")]
    Target(lavatube_client::sink::SinkError),
    /// The check could not be completed.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A pack could not be asked for.
    #[error(transparent)]
    Fetch(#[from] FetchCause),
    /// zstd could not be set up.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// An opened vault with its lock, state and key.
pub struct Reader {
    /// Vault and state.
    pub holding: Holding,
    keys: Box<dyn Reads>,
    ids: ChunkIdKey,
    cards: Vec<DepositorCard>,
}

/// What a reader works with, once manifests and catalog are loaded.
pub struct Session<'r> {
    reader: &'r Reader,
    far: Near<'r>,
    sessions: Sessions<'r>,
    catalog: Catalog<'r>,
    /// What had to be learnt from the vault because this machine did not know it.
    pub rebuilt: Rebuilt,
}

impl Reader {
    /// Opens the vault with `keys`; `write` when something may be mended.
    ///
    /// # Errors
    /// [`DepositorError`] when the vault is in use, or cannot be opened.
    pub fn open(
        places: &Places,
        keys: Box<dyn Reads>,
        command: &str,
        write: bool,
        wait: Duration,
    ) -> Result<Self, DepositorError> {
        let holding = Holding::open(places, command, write, wait)?;
        let cards = certified_cards(&holding.vault, &holding.state, keys.as_ref());
        let ids = keys.chunk_id_key();
        Ok(Self { holding, keys, ids, cards })
    }

    /// Loads manifests, and completes the catalog with packs this machine does not know.
    ///
    /// # Errors
    /// [`ReaderError`] when vault or state fail.
    pub fn session(&self, meter: &Meter) -> Result<Session<'_>, ReaderError> {
        let cards = |id: &lavatube_base::DepositorId| self.cards.iter().find(|c| c.id() == *id).cloned();
        let (far, state) = (self.holding.near()?, &self.holding.state);
        let sessions = Sessions::load(&far, state, &cards, self.keys.as_ref())?;
        let mut catalog = Catalog::open(state).map_err(DepositorError::from)?;
        let rebuilt = rebuild::catch_up(state, &mut catalog, &sessions, &far, &self.ids, meter)?;
        Ok(Session { reader: self, far, sessions, catalog, rebuilt })
    }
}

/// The cards of all depositors that the read key's authority certified: those in the vault, and copies in the state.
fn certified_cards(vault: &EmbeddedVault, state: &dyn State, keys: &dyn Reads) -> Vec<DepositorCard> {
    let vault = vault.read();
    let certified = |bytes: &[u8]| {
        let signed = SignedCard::decode(bytes).ok()?;
        keys.verify_card(&signed).ok()?;
        Some(signed.card)
    };
    let mut out = Vec::new();
    for object in vault.objects().filter(|o| o.kind == ObjectKind::DepositorCard) {
        let mut bytes = Vec::new();
        if vault.read(object.id, 0..object.len, &mut bytes).is_ok()
            && Verified::check(&bytes, object.id).is_some()
            && let Some(card) = certified(&bytes)
        {
            // A copy is only for worse days; without it nothing is wrong.
            let _ = keep_card(state, &bytes);
            out.push(card);
        }
    }
    for name in state.list(CARDS).unwrap_or_default() {
        let copy = read_all(state, &name, CARD_LEN_MAX as u64).ok().flatten();
        out.extend(copy.and_then(|bytes| certified(&bytes)));
    }
    out
}

/// How the data of a vault was found.
#[derive(Debug, Default)]
pub struct DataRead {
    /// Packs that were opened.
    pub packs: u64,
    /// Chunks in them that are exact.
    pub chunks: u64,
    /// Packs that are not exact through and through.
    pub damaged: u64,
    /// What is bad.
    pub bad: Bad,
}

impl Session<'_> {
    /// What all fetchers share.
    fn archive(&self) -> Archive<'_> {
        let Self { reader, far, sessions, catalog, .. } = self;
        Archive { catalog, sessions, far, chunk_ids: &reader.ids }
    }

    fn fetcher(&self) -> Result<Fetcher<'_>, FrameError> {
        Fetcher::new(self.archive(), THREAD_CACHE_BYTES)
    }

    /// All snapshots, oldest first, and what could not be read.
    ///
    /// # Errors
    /// When the vault goes away.
    pub fn snapshots(&self) -> Result<Listing, ReaderError> {
        Ok(browse::snapshots(&mut self.fetcher()?)?)
    }

    /// Whether a snapshot waits on this machine: the vault has not taken its manifest yet.
    pub fn is_waiting(&self, place: &SnapshotPlace) -> bool {
        !self.reader.holding.vault.read().contains(place.manifest)
    }

    /// Whether who took snapshot `later` knew of `earlier`, whatever their clocks said.
    pub fn follows(&self, later: &SnapshotPlace, earlier: &SnapshotPlace) -> bool {
        self.sessions.follows(later.manifest, earlier.manifest)
    }

    /// The snapshot that `words` name: `latest`, `latest~1`, or the beginning of an id.
    ///
    /// # Errors
    /// [`ReaderError::Resolve`] when none or several fit.
    pub fn resolve(&self, words: &str) -> Result<Listed, ReaderError> {
        let listing = self.snapshots()?;
        Ok(browse::resolve(&listing.snapshots, words)?.clone())
    }

    /// Lists what is at and below `path`, in the order of the tree.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn list(
        &self,
        snapshot: &Snapshot,
        path: &[u8],
        deep: bool,
        each: impl FnMut(Entry),
    ) -> Result<Vec<LostRange>, ReaderError> {
        Ok(browse::list(&mut self.fetcher()?, snapshot, path, deep, each)?)
    }

    /// Writes out one file.
    ///
    /// # Errors
    /// [`ReaderError::Cat`].
    pub fn cat(&self, snapshot: &Snapshot, path: &[u8], out: &mut dyn Write) -> Result<u64, ReaderError> {
        Ok(browse::cat(&mut self.fetcher()?, snapshot, path, out)?)
    }

    /// Restores into folder `target` with `workers` threads. `selection` stands for what `request.select` selects: other
    /// bytes for other entries. Until the end there is a mark in the target, and a restore that finds one believes no
    /// file's looks.
    ///
    /// # Errors
    /// [`ReaderError`] when the restore could not begin; single failures are in the outcome.
    pub fn restore(
        &self,
        target: &Path,
        request: RestoreRequest<'_>,
        selection: &[u8],
        workers: usize,
        meter: &Meter,
    ) -> Result<Outcome, ReaderError> {
        let sink = DirectorySink::open(target).map_err(ReaderError::Target)?;
        let inside = request.inside.unwrap_or_default();
        let length = (inside.len() as u64).to_le_bytes();
        let mark = sink.begin(&[&request.snapshot.0[..], &length, inside, selection].concat());
        let request = RestoreRequest { doubt: request.doubt || mark.doubt(), ..request };
        let outcome = match self.restore_all(&sink, request, workers, meter) {
            Err(e @ ReaderError::Restore(RestoreError::Nothing)) => {
                mark.undo(&sink);
                return Err(e);
            }
            other => other?,
        };
        if outcome.stopped.is_none() {
            mark.end(&sink);
        }
        Ok(outcome)
    }

    fn restore_all(
        &self,
        sink: &DirectorySink,
        request: RestoreRequest<'_>,
        workers: usize,
        meter: &Meter,
    ) -> Result<Outcome, ReaderError> {
        let mut fetcher = self.fetcher()?;
        let mut restore = Restore::begin(&mut fetcher, sink, request, meter)?;
        let (jobs_in, jobs_out) = sync_channel(2);
        let jobs_out = Mutex::new(jobs_out);
        let planned = thread::scope(|scope| {
            let work = |far: &dyn Far| -> Result<Outcome, ReaderError> {
                let archive = Archive { far, ..self.archive() };
                let mut fetcher = Fetcher::new(archive, THREAD_CACHE_BYTES)?.counting(meter);
                let mut sum = Outcome::default();
                loop {
                    let job = jobs_out.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return Ok(sum) };
                    sum.absorb(run_job(job, &mut fetcher, sink, meter));
                }
            };
            let threads: Vec<_> =
                (0..workers.max(1)).map(|_| scope.spawn(move || with_read_ahead(self.archive().far, work))).collect();
            let planned = loop {
                match restore.next_job(&mut fetcher) {
                    Ok(Some(job)) => {
                        if jobs_in.send(job).is_err() {
                            break Ok(());
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(e),
                }
            };
            drop(jobs_in);
            for thread in threads {
                match thread.join() {
                    Ok(report) => restore.absorb(report?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            planned.map_err(ReaderError::from)
        });
        planned?;
        Ok(restore.finish(&mut fetcher)?)
    }

    /// Checks manifests, packs and trees.
    ///
    /// # Errors
    /// When the vault goes away.
    pub fn check_structure(&self, meter: &Meter) -> Result<Structure, ReaderError> {
        Ok(check::structure(&mut self.fetcher()?, meter)?)
    }

    /// Opens all packs of `turn` with `workers` threads and verifies every chunk in them.
    ///
    /// # Errors
    /// When the vault goes away.
    pub fn check_data(&self, turn: Turn, workers: usize, meter: &Meter) -> Result<DataRead, ReaderError> {
        let rows = check::packs_to_read(&self.sessions, turn);
        meter.files_total.set(rows.len() as u64);
        let next = Mutex::new(rows.into_iter());
        let archive = self.archive();
        let work = || -> Result<DataRead, FetchCause> {
            let mut out = DataRead::default();
            loop {
                let row = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(row) = row else { return Ok(out) };
                let read = check::read_pack(&archive, row, meter)?;
                out.packs += 1;
                out.chunks += read.good;
                out.damaged += u64::from(!read.is_sound());
                out.bad.absorb(read);
            }
        };
        let mut sum = DataRead::default();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                match thread.join() {
                    Ok(part) => {
                        let part = part?;
                        sum.packs += part.packs;
                        sum.chunks += part.chunks;
                        sum.damaged += part.damaged;
                        sum.bad.chunks.extend(part.bad.chunks);
                        sum.bad.packs.extend(part.bad.packs);
                    }
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(sum)
        })
    }

    /// Which files of which snapshots `bad` touches.
    ///
    /// # Errors
    /// When the vault goes away.
    pub fn damage(&self, bad: &Bad) -> Result<Damage, ReaderError> {
        Ok(check::damage(&mut self.fetcher()?, bad)?)
    }
}

/// Looks at every object's shards, on the drives; `each` is told of those that are not whole. Needs no key.
pub fn examine(vault: &EmbeddedVault, depth: Depth, meter: &Meter, mut each: impl FnMut(ObjectId, ObjectKind, Health)) {
    let vault = vault.read();
    let objects: Vec<_> = vault.objects().collect();
    meter.files_total.set(objects.len() as u64);
    meter.bytes_total.set(objects.iter().map(|o| o.len).sum());
    for object in objects {
        if let Ok(health) = vault.examine(object.id, depth)
            && !health.is_whole()
        {
            each(object.id, object.kind, health);
        }
        meter.files.add(1);
        meter.bytes.add(object.len);
    }
}

/// What repairing did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Labels of drives that were empty or damaged and were taken in again.
    pub readopted: Vec<String>,
    /// Drives that could not be taken in again, and why.
    pub not_readopted: Vec<(String, String)>,
    /// Objects that were mended, and how.
    pub mended: Vec<(ObjectId, MendReport)>,
    /// Objects that cannot be mended, and why.
    pub beyond: Vec<(ObjectId, MendError)>,
}

/// Makes the vault whole again as far as its drives allow. Repair only adds: nothing is removed that could still serve.
///
/// # Errors
/// [`DepositorError`] when a drive folder cannot be made.
pub fn repair(places: &Places, vault: &EmbeddedVault, meter: &Meter) -> Result<Repaired, DepositorError> {
    use lavatube_vault::DriveState;
    let mut out = Repaired::default();
    let (folders, unmounted) = (embedded::drive_folders(&places.vault)?, embedded::unmounted(&places.vault)?);
    let mut inner = vault.write();
    // A drive's card says which slot is its own: the folders may be listed in another order.
    let mut positions: Vec<Option<usize>> = vault.report().drives.iter().map(|d| d.position).collect();
    for drive in vault.report().drives.iter().cloned() {
        let slot = drive.slot;
        let new = match drive.state {
            DriveState::Present if drive.card_whole && drive.journal_current => continue,
            // Readable, but one of its copies is not what it should be.
            DriveState::Present | DriveState::CardDamaged => Ok(None),
            DriveState::Blank | DriveState::Missing => {
                let free = |at: &usize| !positions.contains(&Some(*at));
                let at = positions[slot].or_else(|| Some(slot).filter(free)).or_else(|| (0..folders.len()).find(free));
                positions[slot] = at;
                let at = at.unwrap_or(folders.len());
                open_slot(folders.get(at), unmounted.get(at).and_then(Option::as_deref)).map(Some)
            }
            _ => continue,
        };
        match new.and_then(|new| inner.readopt(slot, new).map_err(|e| e.to_string())) {
            Ok(()) if drive.state == DriveState::Present => {}
            Ok(()) => out.readopted.push(drive.label),
            Err(text) => out.not_readopted.push((drive.label, text)),
        }
    }
    let drives = inner.status().drives;
    let present = |at| drives.iter().any(|d| d.state == DriveState::Present && positions[d.slot] == Some(at));
    embedded::note_mounts(&places.vault, present).map_err(DepositorError::from)?;
    let objects: Vec<_> = inner.objects().collect();
    meter.files_total.set(objects.len() as u64);
    for object in objects {
        match inner.mend(object.id) {
            Ok(report) if report == MendReport::default() => {}
            Ok(report) => out.mended.push((object.id, report)),
            Err(e) => out.beyond.push((object.id, e)),
        }
        meter.files.add(1);
        meter.bytes.add(object.len);
    }
    Ok(out)
}

/// The drive at a slot's folder, which may be empty or gone. A mount point that is not mounted must not be written to: the
/// disk may hold all of its shards, and what is written in its place would hide and fill another disk.
fn open_slot(folder: Option<&PathBuf>, unmounted: Option<&Path>) -> Result<Box<dyn lavatube_vault::Drive>, String> {
    let folder = folder.ok_or("the vault file names no folder for it, or another drive is in it")?;
    if let Some(mount) = unmounted {
        return Err(format!(
            "no disk is mounted at {}: mount the drive's own or an empty one and repair again (to do without a disk \
             there from now on, first remove the drive's line under [mounts] in vault.toml)",
            mount.display()
        ));
    }
    if !folder.exists() {
        make_folders(folder, COMMON).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let drive = crate::directory_drive::DirectoryDrive::open(folder).map_err(|e| e.to_string())?;
    Ok(Box::new(drive))
}

/// Bytes of all packs, as they crossed or will cross the link.
pub fn stored_bytes(vault: &EmbeddedVault) -> u64 {
    let vault = vault.read();
    vault.objects().filter(|o| o.kind == ObjectKind::Pack).map(|o| o.len).sum()
}
