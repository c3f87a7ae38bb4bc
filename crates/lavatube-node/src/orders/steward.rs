//! The steward of a vault that nobody visits: looks whether drives came or went, takes in what hands say they brought, and makes anew what a
//! drive that stays away held.
//!
//! It works beside what a daemon does for its depositors, an object at a time, and after that. What somebody says is done it looks at, and says
//! in the book what came of it. Killed anywhere, it begins that again. Must not know who asks, or what an order is worth.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lavatube_base::{Instant, ObjectId};
use lavatube_vault::{Distrust, DriveError, DriveState, Trial};

use super::book::{Book, Entry};
use super::list::{Order, Seen, Task, list, look};
use crate::clock;
use crate::drive_care;
use crate::embedded::{DriveSpec, EmbeddedVault, VaultError};
use crate::places;
use crate::repairing::{Repaired, Which, renew};

/// How a steward works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StewardPlan {
    /// What a drive held is made anew on others when it was away for so long; `None` for never.
    pub repair_after: Option<Duration>,
}

/// What the steward saw last, for those who ask.
#[derive(Debug, Default)]
pub struct Board(Mutex<Option<Seen>>);

impl Board {
    /// The latest; `None` before the first look.
    pub fn seen(&self) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, seen: Seen) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

/// The vault that a steward looks after, open and locked.
pub(crate) trait Home {
    /// It.
    fn vault(&self) -> &EmbeddedVault;
    /// Opens it again, so that drives which came are seen. Whether it could.
    fn open_again(&mut self) -> bool;
    /// Opens it again, if need be, so that what is read comes from the drives and not from memory.
    fn read_past_cache(&mut self);
}

/// A steward.
pub struct Steward {
    folder: PathBuf,
    plan: StewardPlan,
    board: Arc<Board>,
    due: Instant,
    looked: Option<Instant>,
    /// How long a look takes.
    cost: Duration,
    work: Option<Work>,
    /// Slots of drives that are away, for which everything was made anew as far as it could be.
    made_good: BTreeSet<usize>,
    /// When drives in quarantine were last read wholly, by slot.
    tried: BTreeMap<usize, Instant>,
}

/// What is being done.
struct Work {
    /// Orders of which somebody says that they are done.
    told: Vec<Order>,
    /// What went wrong.
    problems: Vec<String>,
    trials: VecDeque<(String, Trial)>,
    ahead: VecDeque<ObjectId>,
}

impl Steward {
    /// Of the vault in `folder`; what it sees it shows on `board`.
    pub fn new(folder: &Path, plan: StewardPlan, board: &Arc<Board>) -> Self {
        let (folder, board, due) = (folder.to_owned(), board.clone(), clock::now());
        let (looked, cost, work) = (None, Duration::ZERO, None);
        Self { folder, plan, board, due, looked, cost, work, made_good: BTreeSet::new(), tried: BTreeMap::new() }
    }

    /// How long until there is something to do.
    pub(crate) fn wait(&self) -> Duration {
        self.due.since(clock::now())
    }

    /// Does a part of what is to be done, or looks whether anything is.
    pub(crate) fn handle_timeout(&mut self, home: &mut dyn Home) {
        if self.wait() > Duration::ZERO {
            return;
        }
        match self.work.take() {
            Some(work) => self.work = self.go_on(home, work),
            None => self.work = self.look(home),
        }
        let wait = if self.work.is_some() { Duration::ZERO } else { LOOK_EVERY };
        self.due = clock::now() + wait;
    }

    /// Looks, and begins what is to be done.
    fn look(&mut self, home: &mut dyn Home) -> Option<Work> {
        let mut book = Book::read(&self.folder);
        let told: Vec<Entry> = book.told().cloned().collect();
        // Counting the objects of a large vault takes a while.
        let is_fresh = self.looked.is_some_and(|at| clock::now().since(at) < SHOW_EVERY.max(self.cost * 100));
        if told.is_empty() && is_fresh {
            return None;
        }
        let from = clock::now();
        let mut seen = look(&self.folder, home.vault()).ok()?;
        (self.looked, self.cost) = (Some(from), clock::now().since(from));
        if came_or_went(&seen) && home.open_again() {
            seen = look(&self.folder, home.vault()).ok()?;
        }
        self.board.show(seen.clone());
        self.note_away(&seen, &mut book);
        if !told.is_empty() {
            return self.begin(home, &seen, &book, &told);
        }
        let is_due = self.is_repair_due(&seen, &book);
        let work = self.work_of(home, Vec::new(), Vec::new(), is_due);
        (is_due || !work.trials.is_empty()).then_some(work)
    }

    /// Since when drives are away, kept beside the orders so that a daemon that is started anew each day knows.
    fn note_away(&mut self, seen: &Seen, book: &mut Book) {
        let away: BTreeMap<String, usize> =
            seen.status.drives.iter().filter(|d| is_away(&d.state)).map(|d| (d.drive.to_string(), d.slot)).collect();
        self.made_good.retain(|slot| away.values().any(|away| away == slot));
        if away.keys().eq(book.away().keys()) {
            return;
        }
        // Where it cannot be kept the time begins anew with the next life.
        let _ = Book::change(&self.folder, |kept, now| {
            kept.note_away(away.keys(), now);
            *book = kept.clone();
            Ok(())
        });
    }

    fn is_repair_due(&self, seen: &Seen, book: &Book) -> bool {
        let Some(after) = self.plan.repair_after else { return false };
        let now = clock::wall_now().s;
        seen.status.drives.iter().filter(|d| is_away(&d.state) && !self.made_good.contains(&d.slot)).any(|d| {
            let since = book.away().get(&d.drive.to_string()).copied().unwrap_or(now);
            u64::try_from(now.saturating_sub(since)).unwrap_or(0) >= after.as_secs()
        })
    }

    /// Takes in what was brought.
    fn begin(&mut self, home: &mut dyn Home, seen: &Seen, book: &Book, entries: &[Entry]) -> Option<Work> {
        let known = list(seen, book);
        let (mut told, mut problems) = (Vec::new(), Vec::new());
        for entry in entries {
            match known.iter().find(|order| order.id == entry.id) {
                Some(order) => told.push(order.clone()),
                // There is no reason for it any more.
                None => self.settle(&entry.id, true, ""),
            }
            for drive in &entry.drives {
                let added = drive_spec(drive)
                    .and_then(|spec| drive_care::add_to(&self.folder, home.vault(), &spec).map_err(|e| e.to_string()));
                problems.extend(added.err());
            }
        }
        home.open_again();
        // Only who says that an empty drive was put in is believed that an empty folder is one.
        let replaced = told.iter().filter(|order| order.task == Task::Replace);
        let slots: BTreeSet<usize> = replaced.flat_map(|order| order.slots.iter().copied()).collect();
        let mut renewed = Repaired::default();
        if let Err(e) = renew(&self.folder, home.vault(), Which::Told(&slots), &mut renewed) {
            problems.push(e.to_string());
        }
        problems.extend(renewed.not_readopted.into_iter().map(|(label, why)| format!("{label}: {why}")));
        Some(self.work_of(home, told, problems, true))
    }

    fn work_of(&mut self, home: &dyn Home, told: Vec<Order>, problems: Vec<String>, refills: bool) -> Work {
        let vault = home.vault().read();
        let drives = vault.drives();
        let trial = |slot: usize| Some((drives[slot].label.clone(), Trial::begin(&vault, slot)?));
        let is_told = |slot: usize| told.iter().any(|order| order.slots.contains(&slot));
        // Only a scrub measures how slow a drive is, unless somebody saw to it.
        let slow = |slot: usize| vault.distrust(slot) == Some(Distrust::Slow) && !is_told(slot);
        let wrong = |slot: usize| vault.distrust(slot) == Some(Distrust::Wrong) && !is_told(slot);
        let now = clock::now();
        let lately = |slot: usize| self.tried.get(&slot).is_some_and(|at| now.since(*at) < TRY_EVERY) && !is_told(slot);
        let slots: Vec<usize> =
            vault.on_trial().into_iter().filter(|slot| !slow(*slot) && !wrong(*slot) && !lately(*slot)).collect();
        self.tried.extend(slots.iter().map(|slot| (*slot, now)));
        let trials: VecDeque<_> = slots.into_iter().filter_map(trial).collect();
        let ahead = if refills || !trials.is_empty() {
            vault.by_need().into_iter().map(|o| o.id).collect()
        } else {
            VecDeque::new()
        };
        if refills {
            self.made_good.extend(drives.iter().filter(|d| is_away(&d.state)).map(|d| d.slot));
        }
        Work { told, problems, trials, ahead }
    }

    /// Works for a moment; what is left.
    fn go_on(&mut self, home: &mut dyn Home, mut work: Work) -> Option<Work> {
        let until = clock::now() + WORK_SPAN;
        {
            let mut vault = home.vault().write();
            while clock::now() < until {
                if let Some((label, trial)) = work.trials.front_mut() {
                    if trial.handle_step(&mut vault).is_none() {
                        let ended = trial.finish(&mut vault);
                        if let Err(e) = ended {
                            work.problems.push(format!("{label}: {e}"));
                        }
                        work.trials.pop_front();
                    }
                } else if let Some(id) = work.ahead.pop_front() {
                    if let Err(e) = vault.refill(id) {
                        work.problems.push(format!("object {}: {e}", id.short()));
                    }
                } else {
                    break;
                }
            }
        }
        if !work.trials.is_empty() || !work.ahead.is_empty() {
            return Some(work);
        }
        self.judge(home, &work);
        None
    }

    /// Says of each order whether there still is a reason for it.
    fn judge(&mut self, home: &dyn Home, work: &Work) {
        let Ok(seen) = look(&self.folder, home.vault()) else { return };
        self.board.show(seen.clone());
        let left = list(&seen, &Book::read(&self.folder));
        for order in &work.told {
            let same = |other: &&Order| match order.task {
                Task::Add => false,
                _ => other.slots.iter().any(|slot| order.slots.contains(slot)),
            };
            match left.iter().find(same) {
                Some(still) => {
                    let why = work.problems.first().unwrap_or(&still.why);
                    self.settle(&order.id, false, why);
                }
                // Of drives that were put in what counts is that they were taken.
                None if order.task == Task::Add && !work.problems.is_empty() => {
                    self.settle(&order.id, false, &work.problems.join("; "));
                }
                None => self.settle(&order.id, true, work.problems.first().map_or("", String::as_str)),
            }
        }
    }

    fn settle(&self, id: &str, helped: bool, found: &str) {
        // What cannot be noted is looked at again.
        let _ = Book::change(&self.folder, |book, now| {
            book.settle(id, helped, found, now);
            Ok(())
        });
    }
}

/// Looks now whether what is told in the book is done, where no daemon does. The caller holds the vault's lock.
///
/// # Errors
/// [`VaultError`] when it cannot be opened.
pub fn check_now(folder: &Path, go_on: &dyn Fn() -> bool) -> Result<Seen, VaultError> {
    struct Alone(PathBuf, EmbeddedVault);
    impl Home for Alone {
        fn vault(&self) -> &EmbeddedVault {
            &self.1
        }
        fn open_again(&mut self) -> bool {
            EmbeddedVault::open_past_cache(&self.0).map(|vault| self.1 = vault).is_ok()
        }
        fn read_past_cache(&mut self) {}
    }
    let mut home = Alone(folder.to_owned(), EmbeddedVault::open_past_cache(folder)?);
    let mut steward = Steward::new(folder, StewardPlan::default(), &Arc::default());
    let mut tries = 0;
    while go_on() && tries < TRIES_MAX && (steward.work.is_some() || Book::read(folder).told().count() > 0) {
        tries += usize::from(steward.work.is_none());
        steward.due = clock::now();
        steward.handle_timeout(&mut home);
    }
    look(folder, &home.1)
}

/// Whether a drive that was not there may be by now, or one that was may have been taken away: whoever has it open would not notice.
fn came_or_went(seen: &Seen) -> bool {
    seen.status.drives.iter().any(|d| {
        let is_mounted = seen.unmounted.get(d.slot).is_some_and(Option::is_none);
        let Some(folder) = seen.folders.get(d.slot).cloned().flatten() else { return false };
        // An endpoint is not asked every few seconds: a request that needs the drive, or an order that is told, does.
        if places::bucket(&folder).is_some() {
            return false;
        }
        let has_card = is_mounted && folder.join(CARD_FILE).exists();
        match d.state {
            DriveState::Missing => has_card,
            DriveState::Present | DriveState::Quarantined(_) => !has_card,
            // What failed once may be well by now; if it failed while it was written to, it is in quarantine then.
            DriveState::Suspect(DriveError::Full) => false,
            DriveState::Suspect(_) => has_card,
            _ => false,
        }
    })
}

fn is_away(state: &DriveState) -> bool {
    matches!(state, DriveState::Missing | DriveState::Blank | DriveState::Foreign)
}

/// Reads what a drive is that was put in: there is no folder here that its own could be below.
pub(crate) fn drive_spec(text: &str) -> Result<DriveSpec, String> {
    let spec: DriveSpec = text.parse()?;
    match spec.folder.is_absolute() || places::bucket(&spec.folder).is_some() {
        true => Ok(spec),
        false => Err(format!("{text}: a drive begins with its folder, from the root on")),
    }
}

const CARD_FILE: &str = "drive.card";
/// How often the book is looked at,
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// and the drives.
const SHOW_EVERY: Duration = Duration::from_secs(5);
/// A drive that did not pass is read again after this time.
const TRY_EVERY: Duration = Duration::from_secs(86_400);
/// How long others who want the vault may have to wait.
const WORK_SPAN: Duration = Duration::from_millis(200);
/// Looks before what is told is left to the next one who looks.
const TRIES_MAX: usize = 8;
