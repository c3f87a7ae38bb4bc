//! A reader on this machine: a vault opened with the read key, and the commands that look into it.
//!
//! Listing, restoring and checking compose the client's straight lines; restoring and reading data run on several
//! threads, each with a fetcher of its own. It must not know layouts, nor print anything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use lavatube_base::limits::CARD_LEN_MAX;
use lavatube_base::sign::PairPublic;
use lavatube_base::{DepositorId, ObjectId, Verified};
use lavatube_client::audit::AuditError;
use lavatube_client::browse::{self, CatError, Listed, Listing, ResolveError};
use lavatube_client::cards::CARDS;
use lavatube_client::catalog::Catalog;
use lavatube_client::check::{self, Bad, CheckError, Damage, Structure, Turn};
use lavatube_client::evidence::FindError;
use lavatube_client::far::Far;
use lavatube_client::fetch::{Archive, CACHE_BYTES, FetchCause, Fetcher};
use lavatube_client::frame::FrameError;
use lavatube_client::layers::{LostRange, TreeError};
use lavatube_client::meter::Meter;
use lavatube_client::rebuild::{self, RebuildError, Rebuilt};
use lavatube_client::release::{self, Plan as ReleasePlan, PlanError};
use lavatube_client::released::Released;
use lavatube_client::restore::{Outcome, Overwrite, Plan, Restore, RestoreError, RestoreRequest, run_job};
use lavatube_client::state::{State, read_all};
use lavatube_client::vaulted::{Sessions, SessionsError, SnapshotPlace};
use lavatube_format::depositor_card::{DepositorCard, SignedCard};
use lavatube_format::manifest::{Manifest, Mark};
use lavatube_format::shard::ObjectKind;
use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Content, Entry, Kind};
use lavatube_seal::{ChunkIdKey, Reads, ReleaseKeys};
use lavatube_vault::{Depth, Health};

use crate::depositor::{DepositorError, Places, keep_card};
use crate::directory_sink::DirectorySink;
use crate::directory_state::DirectoryState;
use crate::embedded::{EmbeddedVault, VaultError};
use crate::far_vault::{Asking, FarVault};
use crate::holding::Holding;
use crate::link_folder;
use crate::read_ahead::with_read_ahead;

mod audit;
mod evidence;

pub use audit::Spotted;
pub use evidence::ProveError;

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
    /// The audit could not be completed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What evidence needs could not be read.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A pack could not be asked for.
    #[error(transparent)]
    Fetch(#[from] FetchCause),
    /// zstd could not be set up.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Where the vault is.
pub enum Side {
    /// On this machine.
    Here(Box<Holding>),
    /// At the other end of a link.
    Far(Box<FarVault>),
}

impl Side {
    /// Opens what is in `places.vault`: a vault, or the way to one; `write` when something may be mended.
    ///
    /// # Errors
    /// [`DepositorError`] when the vault is in use, or cannot be opened.
    pub fn open(
        places: &Places,
        command: &str,
        write: bool,
        asking: Asking,
        wait: Duration,
    ) -> Result<Self, DepositorError> {
        if link_folder::is_far(&places.vault) && !write {
            return Ok(Self::Far(Box::new(FarVault::open(places, command, asking, wait)?)));
        }
        Holding::open(places, command, write, wait).map(|holding| Self::Here(Box::new(holding)))
    }

    /// This machine's state of it.
    pub fn state(&self) -> &DirectoryState {
        match self {
            Self::Here(holding) => &holding.state,
            Self::Far(vault) => vault.state(),
        }
    }

    /// Labels of drives that are known not to be as they should be.
    pub fn hurt(&self) -> BTreeSet<String> {
        match self {
            Self::Here(holding) => holding.vault.hurt(),
            Self::Far(_) => BTreeSet::new(),
        }
    }

    /// The far vault, if it is one.
    pub fn far(&self) -> Option<&FarVault> {
        match self {
            Self::Here(_) => None,
            Self::Far(vault) => Some(vault),
        }
    }
}

/// An opened vault with its lock, state and key.
pub struct Reader {
    /// Vault and state.
    pub side: Side,
    keys: Box<dyn Reads>,
    ids: ChunkIdKey,
    cards: OnceLock<Vec<DepositorCard>>,
}

/// What a reader works with, once manifests and catalog are loaded.
pub struct Session<'r> {
    reader: &'r Reader,
    far: Box<dyn Far + 'r>,
    sessions: Sessions<'r>,
    catalog: Catalog<'r>,
    /// What had to be learnt from the vault because this machine did not know it.
    pub rebuilt: Rebuilt,
}

impl Reader {
    /// Opens the vault with `keys`; `write` when something may be mended.
    ///
    /// # Errors
    /// [`DepositorError`] when the vault is in use, or cannot be opened, or `keys` are of another archive.
    pub fn open(
        places: &Places,
        keys: Box<dyn Reads>,
        command: &str,
        write: bool,
        asking: Asking,
        wait: Duration,
    ) -> Result<Self, DepositorError> {
        let side = Side::open(places, command, write, asking, wait)?;
        // Else all that is in there would look damaged.
        if let Side::Here(holding) = &side
            && holding.vault.read().authority() != keys.authority_public()
        {
            return Err(VaultError::OtherArchive(places.vault.clone()).into());
        }
        let ids = keys.chunk_id_key();
        Ok(Self { side, keys, ids, cards: OnceLock::new() })
    }

    /// Loads manifests, and completes the catalog with packs this machine does not know.
    ///
    /// # Errors
    /// [`ReaderError`] when vault or state fail.
    pub fn session(&self, meter: &Meter) -> Result<Session<'_>, ReaderError> {
        let state = self.side.state();
        let (far, cards): (Box<dyn Far>, _) = match &self.side {
            Side::Here(holding) => (Box::new(holding.near()?), cards_here(&holding.vault)),
            Side::Far(vault) => (Box::new(&***vault), vault.cards().map_err(SessionsError::from)?),
        };
        let certified = self.cards.get_or_init(|| certified_cards(&cards, state, self.keys.as_ref()));
        let cards = |id: &lavatube_base::DepositorId| certified.iter().find(|c| c.id() == *id).cloned();
        let far_side = &*far;
        let keys = self.keys.as_ref();
        let released = Released::load(far_side, state, keys.authority_public(), &keys.release_keys())?;
        let sessions = Sessions::load(far_side, state, &cards, keys)?.without(released);
        let mut catalog = Catalog::open(state).map_err(DepositorError::from)?;
        let rebuilt = rebuild::catch_up(state, &mut catalog, &sessions, far_side, &self.ids, meter)?;
        catalog.leave_out_freed(sessions.released());
        Ok(Session { reader: self, far, sessions, catalog, rebuilt })
    }

    /// The keys of the notes of releases.
    pub fn release_keys(&self) -> ReleaseKeys {
        self.keys.release_keys()
    }

    /// The authority's public keys.
    pub fn authority(&self) -> &PairPublic {
        self.keys.authority_public()
    }

    /// The depositors that the authority certified, with their labels; none before a session was opened.
    pub fn depositors(&self) -> Vec<(DepositorId, String)> {
        self.cards.get().into_iter().flatten().map(|card| (card.id(), card.label.clone())).collect()
    }
}

/// The cards in the vault that are what they were.
fn cards_here(vault: &EmbeddedVault) -> Vec<Vec<u8>> {
    let vault = vault.read();
    let cards = vault.objects_of(ObjectKind::DepositorCard).filter_map(|object| {
        let mut bytes = Vec::new();
        vault.read(object.id, 0..object.len, &mut bytes).ok()?;
        Verified::check(&bytes, object.id).is_some().then_some(bytes)
    });
    cards.collect()
}

/// The cards of all depositors that the read key's authority certified: `cards` of the vault, and copies in the state.
fn certified_cards(cards: &[Vec<u8>], state: &dyn State, keys: &dyn Reads) -> Vec<DepositorCard> {
    let certified = |bytes: &[u8]| {
        let signed = SignedCard::decode(bytes).ok()?;
        keys.verify_card(&signed).ok()?;
        Some(signed.card)
    };
    let mut out = Vec::new();
    for bytes in cards {
        if let Some(card) = certified(bytes) {
            // A copy is only for worse days; without it nothing is wrong.
            let _ = keep_card(state, bytes);
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
        Archive { catalog, sessions, far: &**far, chunk_ids: &reader.ids }
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
        match &self.reader.side {
            Side::Here(holding) => !holding.vault.read().contains(place.manifest),
            Side::Far(vault) => vault.is_waiting(place.manifest),
        }
    }

    /// The manifests that are believed.
    pub fn manifests(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.sessions.all().iter().map(|vaulted| vaulted.id)
    }

    /// The same with what they say.
    pub(crate) fn all_manifests(&self) -> impl Iterator<Item = (ObjectId, &Manifest)> {
        self.sessions.all().iter().map(|vaulted| (vaulted.id, &vaulted.manifest))
    }

    /// Those of one depositor.
    pub fn manifests_of(&self, depositor: DepositorId) -> impl Iterator<Item = ObjectId> + '_ {
        self.sessions.all().iter().filter(move |v| v.manifest.depositor == depositor).map(|vaulted| vaulted.id)
    }

    /// The manifest of a session in which a snapshot is, and whether it says that it is held.
    pub fn hold_of(&self, place: &SnapshotPlace) -> Option<(ObjectId, bool)> {
        let vaulted = &self.sessions.all()[self.sessions.position(place.manifest)?];
        Some((vaulted.id, vaulted.manifest.retention.hold))
    }

    /// What a release may free, of sessions whose manifests are not among `retained`.
    ///
    /// # Errors
    /// [`PlanError::Doubt`] says why nothing.
    pub fn plan_release(
        &self,
        retained: &BTreeSet<ObjectId>,
        pending: &Released,
        meter: &Meter,
    ) -> Result<ReleasePlan, PlanError> {
        let fetcher = self.fetcher().map_err(|e| PlanError::Doubt(e.to_string()));
        release::plan(&mut fetcher?, retained, pending, meter)
    }

    /// A mark of a snapshot, that it is forgotten or is not: `None` when its session does not open.
    pub fn mark(&self, place: &SnapshotPlace, forgotten: bool) -> Option<Mark> {
        self.sessions.mark(place, forgotten)
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
        let mut fetcher = self.fetcher()?;
        if self.far.is_distant()
            && let Some(Entry { kind: Kind::File(content), .. }) = browse::find(&mut fetcher, snapshot, path)?
        {
            let mut plan = Plan::default();
            plan.add_file(&mut fetcher, &content)?;
            self.far.want(&plan.parts(&fetcher)).map_err(|e| ReaderError::Fetch(e.into()))?;
        }
        Ok(browse::cat(&mut fetcher, snapshot, path, out)?)
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
        self.want_all(target, &request)?;
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

    /// Asks a far vault for all that a restore will fetch, at once.
    fn want_all(&self, target: &Path, request: &RestoreRequest<'_>) -> Result<(), ReaderError> {
        if !self.far.is_distant() {
            return Ok(());
        }
        let is_there = |below: &[u8], entry: &Entry, content: &Content| {
            let Ok(found) = target.join(OsStr::from_bytes(below)).symlink_metadata() else { return false };
            let looks = found.is_file()
                && found.len() == content.size
                && (found.mtime(), u32::try_from(found.mtime_nsec()).ok())
                    == (entry.meta.mtime.s, Some(entry.meta.mtime.ns))
                && found.ctime() > request.booted.s;
            match request.overwrite {
                _ if request.doubt => false,
                Overwrite::Never | Overwrite::IfChanged if looks => true,
                // Something else is there, and stays.
                Overwrite::Never => !found.is_file(),
                _ => false,
            }
        };
        let mut fetcher = self.fetcher()?;
        let plan = Plan::of_restore(&mut fetcher, request, &is_there).map_err(RestoreError::from)?;
        self.far.want(&plan.parts(&fetcher)).map_err(|e| ReaderError::Fetch(e.into()))
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

/// Bytes of all packs, as they crossed or will cross the link.
pub fn stored_bytes(vault: &EmbeddedVault) -> u64 {
    let vault = vault.read();
    vault.objects().filter(|o| matches!(o.kind, ObjectKind::Pack | ObjectKind::Remnant)).map(|o| o.len).sum()
}
