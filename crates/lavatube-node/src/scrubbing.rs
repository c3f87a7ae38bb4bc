//! Drives a scrub of an embedded vault: keeps where it is, rests as it is told, and lets others at the vault while it rests.
//!
//! The file `scrubs` in the vault's folder has the place and what was found, so that a scrub that was killed goes on there. What is
//! read comes from the drives and not from memory. Step 18 of the walk. It must not know what damage is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lavatube_base::limits::SCRUBS_KEPT_MAX;
use lavatube_base::{DriveId, Instant};
use lavatube_client::meter::Meter;
use lavatube_format::scrub_record::{ScrubEnd, ScrubRecord, decode_scrubs, encode_scrubs};
use lavatube_vault::scrub::{Judged, Looked, Pace, Scrub, Step};
use lavatube_vault::{Depth, Health, ObjectEntry, ReadError, Vault};

use crate::atomic::{self, IfThere};
use crate::clock;
use crate::depositor::DepositorError;
use crate::embedded::{self, EmbeddedVault};
use crate::lock::{Lock, LockError, Mode};
use crate::repairing::{Repaired, Which, renew};

/// How a scrub is done.
pub struct ScrubRun<'r> {
    /// How fast.
    pub pace: Pace,
    /// It ends after so long, wherever it is.
    pub time: Option<Duration>,
    /// One that is under way is dropped, and another begun.
    pub anew: bool,
    /// How long to wait for others who use the vault, at the beginning.
    pub wait: Duration,
    /// Set when it shall end.
    pub stop: &'r AtomicBool,
}

/// What came of it.
#[derive(Debug)]
pub struct Scrubbed {
    /// The scrub with all its parts; whether it came to its end is in there.
    pub record: ScrubRecord,
    /// Objects that an earlier run had looked at.
    pub resumed: u64,
    /// Objects that are not looked at yet, and their bytes.
    pub ahead: (u64, u64),
    /// Drives whose small files were written anew.
    pub renewed: Repaired,
    /// What people call the drives.
    pub labels: BTreeMap<DriveId, String>,
    /// The drive of each slot.
    pub slots: Vec<DriveId>,
    /// Drives that are trusted from now on, or are not any more.
    pub judged: Judged,
    /// Why the place, or what was made of it, could not be kept, if it could not.
    pub not_kept: Option<String>,
}

impl Scrubbed {
    /// What people call the drive of a slot.
    pub fn label(&self, slot: usize) -> &str {
        self.slots.get(slot).and_then(|drive| self.labels.get(drive)).map_or("", String::as_str)
    }
}

/// The scrubs of the vault in `folder`, oldest first. A file that is damaged tells nothing.
pub fn scrubs(folder: &Path) -> Vec<ScrubRecord> {
    std::fs::read(folder.join(FILE)).ok().and_then(|bytes| decode_scrubs(&bytes).ok()).unwrap_or_default()
}

/// Scrubs the vault in `folder`, or goes on with that; `each` is told of objects that are not whole.
///
/// # Errors
/// When the vault is in use, or cannot be opened. What it finds is no error.
pub fn scrub(
    folder: &Path,
    run: &ScrubRun<'_>,
    meter: &Meter,
    each: &mut dyn FnMut(&Looked),
) -> Result<Scrubbed, DepositorError> {
    // While it rests the vault is anybody's, but for another scrub.
    embedded::vault_id(folder)?;
    let _alone = Lock::acquire(&folder.join(LOCK_FILE), COMMAND, Mode::Exclusive, run.wait)?;
    let mut hold = Hold::take(folder, run.wait)?;
    let begin = clock::now();
    let is_over = || {
        let time_is_up = run.time.is_some_and(|time| clock::now().since(begin) >= time);
        run.stop.load(Ordering::Relaxed) || time_is_up
    };
    let mut book = Book::open(folder);
    let mut scrub = book.take_up(run.anew);
    let (resumed, mut renewed) = (scrub.record().objects, Repaired::default());
    renew(folder, &hold.vault, Which::Readable, &mut renewed)?;
    let (objects, bytes) = scrub.ahead(&hold.vault.read());
    meter.files_total.set(objects);
    meter.bytes_total.set(bytes);
    let drives = hold.vault.read().drives();
    let slots = drives.iter().map(|d| d.drive).collect();
    let labels = drives.into_iter().map(|d| (d.drive, d.label)).collect();
    let (mut judged, mut not_judged) = (Judged::default(), None);
    let mut part = Part::default();
    let mut passed = Passed(scrub.record().objects, scrub.record().bytes);
    // Who is to go slowly does so in small steps.
    let is_paced = run.pace.bytes_s.is_some() || run.pace.rest > 0.0;
    let most = if is_paced { 1 } else { AT_ONCE };
    while !is_over() {
        let from = clock::now();
        let next = scrub.next(&hold.vault.read(), most, clock::wall_now());
        if next.is_empty() {
            passed.note(scrub.record(), meter);
            match scrub.finish(&mut hold.vault.write(), book.last_whole()) {
                Ok(done) => judged = done,
                Err(e) => not_judged = Some(e.to_string()),
            }
            break;
        }
        let (mut read, mut found) = (0, false);
        let healths = examine(&hold.vault.read(), &next, &is_over);
        for (object, health) in next.iter().zip(healths) {
            let looked = scrub.handle_examined(&mut hold.vault.write(), *object, health, clock::wall_now());
            // What is looked at out of turn counts when its turn comes.
            passed.note(scrub.record(), meter);
            if !looked.is_whole() {
                each(&looked);
            }
            (read, found) = (read + looked.read, found || !looked.found.is_empty());
        }
        let worked = clock::now().since(from);
        scrub.handle_worked(worked);
        // What was found must not be forgotten by a kill; the place may be, for a moment.
        book.keep(&scrub, found);
        let pause = part.pause(&run.pace, read, worked);
        if pause >= hold.patience() {
            book.keep(&scrub, true);
            part = Part::default();
            // Others may use the vault meanwhile.
            drop(hold);
            match Hold::take_after(folder, pause, &is_over)? {
                Some(again) => hold = again,
                None => break,
            }
        }
    }
    book.keep(&scrub, true);
    let left = |total: u64, done: u64| total.saturating_sub(done);
    Ok(Scrubbed {
        record: scrub.record().clone(),
        resumed,
        ahead: (left(objects, meter.files.now()), left(bytes, meter.bytes.now())),
        renewed,
        labels,
        slots,
        judged,
        not_kept: book.failed.or(not_judged),
    })
}

/// A scrub beside other work with the vault, which goes before: a step at a time, and again every so often.
pub struct Chore {
    folder: PathBuf,
    plan: ChorePlan,
    under_way: Option<(Book, Scrub)>,
    due: Instant,
}

/// How a scrub is done beside other work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChorePlan {
    /// From the beginning of one to that of the next.
    pub every: Duration,
    /// How fast.
    pub pace: Pace,
}

impl Chore {
    /// One of the vault in `folder`. What is under way goes on at once.
    pub fn new(folder: &Path, plan: ChorePlan) -> Self {
        let last = scrubs(folder).pop().filter(|last| last.end != ScrubEnd::Open);
        let since = |last: ScrubRecord| u64::try_from(clock::wall_now().s.saturating_sub(last.began.s)).unwrap_or(0);
        let wait = last.map_or(Duration::ZERO, |last| plan.every.saturating_sub(Duration::from_secs(since(last))));
        Self { folder: folder.to_owned(), plan, under_way: None, due: clock::now() + wait }
    }

    /// How long until there is something to do.
    pub fn wait(&self) -> Duration {
        self.due.since(clock::now())
    }

    /// Looks at an object, if it is time for it.
    pub fn handle_timeout(&mut self, vault: &mut Vault) {
        if self.wait() > Duration::ZERO {
            return;
        }
        let begin = || {
            let mut book = Book::open(&self.folder);
            let scrub = book.take_up(false);
            (book, scrub)
        };
        let (book, scrub) = self.under_way.get_or_insert_with(begin);
        match step(book, scrub, &self.plan.pace, vault) {
            (true, _) => self.look_again(),
            (false, pause) => self.due = clock::now() + pause,
        }
    }

    /// Begins with what the file says: somebody else has scrubbed, or this one is over.
    pub(crate) fn look_again(&mut self) {
        *self = Self::new(&self.folder, self.plan);
    }
}

/// A scrub that was asked for from afar, beside other work and in its place: a step at a time, once.
pub(crate) struct Single {
    book: Book,
    scrub: Scrub,
    pace: Pace,
    due: Instant,
    until: Option<Instant>,
}

impl Single {
    /// Goes on with the scrub of the vault in `folder` that is under way, or begins one.
    pub fn begin(folder: &Path, pace: Pace, time: Option<Duration>, anew: bool) -> Self {
        let mut book = Book::open(folder);
        let scrub = book.take_up(anew);
        book.keep(&scrub, true);
        let now = clock::now();
        Self { book, scrub, pace, due: now, until: time.map(|time| now + time) }
    }

    /// How it stands.
    pub fn record(&self) -> &ScrubRecord {
        self.scrub.record()
    }

    /// How long until there is something to do.
    pub fn wait(&self) -> Duration {
        self.until.map_or(self.due, |until| until.min(self.due)).since(clock::now())
    }

    /// Looks at an object; whether it is over.
    pub fn handle_timeout(&mut self, vault: &mut Vault) -> bool {
        if self.until.is_some_and(|until| clock::now() >= until) {
            self.book.keep(&self.scrub, true);
            return true;
        }
        let (over, pause) = step(&mut self.book, &mut self.scrub, &self.pace, vault);
        self.due = clock::now() + pause;
        over
    }
}

/// Looks at an object: whether none is left, and how long to rest.
fn step(book: &mut Book, scrub: &mut Scrub, pace: &Pace, vault: &mut Vault) -> (bool, Duration) {
    let from = clock::now();
    let step = scrub.handle_step(vault, clock::wall_now());
    let worked = clock::now().since(from);
    scrub.handle_worked(worked);
    match step {
        Step::Looked(looked) => {
            book.keep(scrub, !looked.found.is_empty());
            (false, pace.pause(looked.read, worked))
        }
        Step::Over => {
            // What cannot be noted now the next one finds again.
            let _ = scrub.finish(vault, book.last_whole());
            book.keep(scrub, true);
            (true, Duration::ZERO)
        }
    }
}

/// Examines objects side by side: while one waits for its drives, another is hashed. As many of them, from the first on, as are begun in a moment.
fn examine(
    vault: &Vault,
    objects: &[ObjectEntry],
    is_over: &(dyn Fn() -> bool + Sync),
) -> Vec<Result<Health, ReadError>> {
    let threads = THREADS.min(objects.len());
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let begin = clock::now();
    // At its end most threads wait for the last one: seldom, where it goes fast, and soon, where it goes slowly.
    let is_late = || is_over() || clock::now().since(begin) >= MOMENT;
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(object) = objects.get(at).filter(|_| at < AT_ONCE_MIN || !is_late())
        {
            let health = vault.examine(object.id, Depth::Bytes);
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, health);
        }
    };
    thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // One may have been too late by a hair, and the one behind it not: that one's turn comes again.
    (0..).map_while(|at| done.remove(&at)).collect()
}

/// The vault, locked.
struct Hold {
    vault: EmbeddedVault,
    _lock: Lock,
    /// How long opening took.
    opening: Duration,
}

impl Hold {
    fn take(folder: &Path, wait: Duration) -> Result<Self, DepositorError> {
        let lock = Lock::acquire(&embedded::lock_path(folder), COMMAND, Mode::Exclusive, wait)?;
        let from = clock::now();
        let vault = EmbeddedVault::open_past_cache(folder)?;
        Ok(Self { vault, _lock: lock, opening: clock::now().since(from) })
    }

    /// Takes it again after a while, and after whoever has it then; `None` when it is to end before.
    fn take_after(folder: &Path, pause: Duration, is_over: &dyn Fn() -> bool) -> Result<Option<Self>, DepositorError> {
        let until = clock::now() + pause;
        loop {
            if is_over() {
                return Ok(None);
            }
            if clock::now() < until {
                thread::sleep(NAP.min(until.since(clock::now())));
                continue;
            }
            match Self::take(folder, NAP) {
                Err(DepositorError::Lock(LockError::Held { .. })) => {}
                other => return other.map(Some),
            }
        }
    }

    /// A pause that is worth letting go of the vault: opening it again must not take more than a small part of it.
    fn patience(&self) -> Duration {
        PAUSE_MIN.max(self.opening * 20)
    }
}

/// Objects whose turn came and went, and their bytes, when that was last noted.
struct Passed(u64, u64);

impl Passed {
    fn note(&mut self, record: &ScrubRecord, meter: &Meter) {
        meter.files.add(record.objects.saturating_sub(self.0));
        meter.bytes.add(record.bytes.saturating_sub(self.1));
        *self = Self(record.objects, record.bytes);
    }
}

/// What was done since the last rest.
#[derive(Default)]
struct Part {
    read: u64,
    worked: Duration,
}

impl Part {
    /// How long to rest by now.
    fn pause(&mut self, pace: &Pace, read: u64, worked: Duration) -> Duration {
        self.read += read;
        self.worked += worked;
        pace.pause(self.read, self.worked)
    }
}

/// The scrubs that are remembered, in their file.
struct Book {
    path: PathBuf,
    /// All but the one that is under way.
    ended: Vec<ScrubRecord>,
    kept: Option<Instant>,
    /// Why it could not be kept, the last time.
    failed: Option<String>,
}

impl Book {
    fn open(folder: &Path) -> Self {
        Self { path: folder.join(FILE), ended: scrubs(folder), kept: None, failed: None }
    }

    /// The last one that came to its end.
    fn last_whole(&self) -> Option<&ScrubRecord> {
        self.ended.iter().rev().find(|record| record.end == ScrubEnd::Whole)
    }

    /// The scrub to go on with, or a new one.
    fn take_up(&mut self, anew: bool) -> Scrub {
        let open = self.ended.pop_if(|last| last.end == ScrubEnd::Open);
        match open {
            Some(record) if anew => self.ended.push(ScrubRecord { end: ScrubEnd::Dropped, ..record }),
            Some(record) => return Scrub::resume(&record).unwrap_or_else(|| Scrub::begin(clock::wall_now())),
            None => {}
        }
        Scrub::begin(clock::wall_now())
    }

    /// Keeps where the scrub is, `now` or when it is time for it. That this fails is no reason not to scrub.
    fn keep(&mut self, scrub: &Scrub, now: bool) {
        if !now && self.kept.is_some_and(|kept| clock::now().since(kept) < KEEP_EVERY) {
            return;
        }
        let oldest = (self.ended.len() + 1).saturating_sub(SCRUBS_KEPT_MAX);
        let mut all = self.ended[oldest..].to_vec();
        all.push(scrub.record().clone());
        let written = atomic::write(&self.path, &encode_scrubs(&all), IfThere::Replace);
        self.failed = written.err().map(|e| format!("{}: {e}", self.path.display()));
        self.kept = Some(clock::now());
    }
}

const FILE: &str = "scrubs";
const LOCK_FILE: &str = "scrubs.lock";
const COMMAND: &str = "lavatube vault scrub";
/// Objects that are examined one after the other by all threads, before any is mended: so many at least,
const AT_ONCE_MIN: usize = 32;
/// at most,
const AT_ONCE: usize = 1024;
/// and none is begun after so long.
const MOMENT: Duration = Duration::from_secs(2);
/// Threads that do it: as many as keep disks and processors busy.
const THREADS: usize = 8;
/// How often the place is kept.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Shorter rests are added up.
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// How long a sleep is until the next look whether it is to end.
const NAP: Duration = Duration::from_millis(200);
