//! Mandates at the vault: those that came over the link are taken, noted, followed one after the other, and told about.
//!
//! What was taken is in the file `mandates` of the vault's folder before its number is taken on the drives' cards, so that a kill in between loses no mandate and
//! follows none twice. They are followed beside the deposits of others, an object at a time. Step 18 of the walk. It must not know
//! the link, nor how anything is mended.

mod report;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_base::limits::MANDATES_KEPT_MAX;
use lavatube_format::care::{CareQuestion, SignedReport};
use lavatube_format::mandate::{Mandate, Progress, Stage, Task, decode_book, encode_book};
use lavatube_vault::{DriveState, DriveStatus};

use crate::atomic::{self, IfThere};
use crate::clock;
use crate::drive_care::{self, Names};
use crate::orders::{Home, drive_spec};
pub use report::{Said, one_disk, status_of};
use work::Work;

/// The mandates of a vault in a folder.
pub(crate) struct Mandates {
    folder: PathBuf,
    /// The newest last.
    entries: Vec<(Mandate, Progress)>,
    /// The first that is not over, and what is done for it.
    work: Option<Work>,
    /// What became of the last one that came, for people.
    told: Option<String>,
}

/// The mandates that a vault in a folder remembers, the newest last. A file that is damaged tells nothing.
pub fn remembered(folder: &Path) -> Vec<(Mandate, Progress)> {
    std::fs::read(folder.join(FILE)).ok().and_then(|bytes| decode_book(&bytes).ok()).unwrap_or_default()
}

impl Mandates {
    /// Those of the vault in `folder`, whose cards say that mandates up to number `last` were taken.
    pub fn open(folder: &Path, last: u64) -> Self {
        let mut entries = remembered(folder);
        // Noted, and then the number was not: whoever sent it asks again.
        entries.retain(|(mandate, _)| mandate.number <= last);
        Self { folder: folder.to_owned(), entries, work: None, told: None }
    }

    /// Answers who asks how the vault is, and takes what it is told to do; `None` when nothing can be said now.
    pub fn care(&mut self, home: &mut dyn Home, question: &CareQuestion) -> Option<SignedReport> {
        let refusal = question.mandate.as_ref().and_then(|bytes| self.take(home, bytes).err()).unwrap_or_default();
        if !refusal.is_empty() {
            self.told = Some(format!("a mandate is not taken: {refusal}"));
        }
        let under_way = self.work.as_ref().map(Work::progress);
        report::make(&self.folder, home.vault(), question.nonce, refusal, &self.standing(under_way))
    }

    /// What became of the last mandate that came, once.
    pub fn take_told(&mut self) -> Option<String> {
        self.told.take()
    }

    /// The entries, the one that is followed as it stands now.
    fn standing(&self, under_way: Option<(u64, u64)>) -> Vec<(Mandate, Progress)> {
        let mut all = self.entries.clone();
        if let (Some((_, progress)), Some((done, total))) =
            (all.iter_mut().find(|(_, progress)| !progress.stage.is_over()), under_way)
        {
            (progress.done, progress.total) = (done, total);
        }
        all
    }

    /// Takes a mandate, or says why not. One that was taken before is as good as taken.
    fn take(&mut self, home: &mut dyn Home, bytes: &[u8]) -> Result<(), String> {
        let mandate = home.vault().read().read_mandate(bytes).map_err(|e| e.to_string())?;
        if self.entries.iter().any(|(known, _)| *known == mandate) {
            return Ok(());
        }
        home.vault().read().may_follow(mandate.number).map_err(|e| e.to_string())?;
        let about = about(home, &mandate.task)?;
        if self.entries.iter().filter(|(_, progress)| !progress.stage.is_over()).count() >= MANDATES_KEPT_MAX / 2 {
            return Err("too many mandates wait already".into());
        }
        let before = self.entries.clone();
        while self.entries.len() >= MANDATES_KEPT_MAX {
            let oldest = self.entries.iter().position(|(_, progress)| progress.stage.is_over()).unwrap_or(0);
            self.entries.remove(oldest);
        }
        let number = mandate.number;
        let (stage, since_s) = (Stage::Waits, clock::wall_now().s);
        self.entries.push((mandate, Progress { stage, since_s, done: 0, total: 0, text: about }));
        if let Err(e) = self.keep() {
            self.entries = before;
            return Err(format!("it cannot be noted: {e}"));
        }
        let taken = home.vault().write().take_mandate(number);
        if let Err(e) = taken {
            home.open_again();
            // Some cards may have it; the vault that was opened anew tells whether it counts.
            if home.vault().read().last_mandate() < number {
                self.entries = before;
                return Err(format!("its number cannot be noted on the drives: {e}"));
            }
        }
        self.told = Some(format!("mandate {number} is taken"));
        if self.next().is_some_and(|next| is_short(&next.task)) {
            self.handle_timeout(home);
        }
        Ok(())
    }

    /// The first mandate that is not over.
    fn next(&self) -> Option<&Mandate> {
        self.entries.iter().find(|(_, progress)| !progress.stage.is_over()).map(|(mandate, _)| mandate)
    }

    /// How long until there is something to do; `None` when there is nothing.
    pub fn wait(&self) -> Option<Duration> {
        self.next()?;
        Some(self.work.as_ref().map_or(Duration::ZERO, Work::wait))
    }

    /// Whether a scrub is under way, in whose place no other may be.
    pub fn is_scrubbing(&self) -> bool {
        matches!(self.work, Some(Work::Scrub(..)))
    }

    /// Follows the first mandate for a moment.
    pub fn handle_timeout(&mut self, home: &mut dyn Home) {
        let Some(mandate) = self.next().cloned() else { return };
        if self.work.as_ref().is_some_and(|work| work.wait() > Duration::ZERO) {
            return;
        }
        let ended = match self.work.take() {
            Some(mut work) => match work.go_on(home) {
                Some(ended) => {
                    self.note_progress(work.progress());
                    ended
                }
                None => return self.work = Some(work),
            },
            None if is_short(&mandate.task) => at_once(&self.folder, home, &mandate.task),
            None => match self.begin(home, &mandate) {
                Ok(work) => return self.work = Some(work),
                Err(why) => (Stage::Failed, why),
            },
        };
        self.note(ended.0, Some(ended.1));
    }

    /// Begins what is to be done, or begins it anew after a kill.
    fn begin(&mut self, home: &mut dyn Home, mandate: &Mandate) -> Result<Work, String> {
        let again = self.entries.iter().any(|(known, p)| known == mandate && p.stage == Stage::UnderWay);
        let work = Work::begin(&self.folder, home, &mandate.task, again)?;
        self.note(Stage::UnderWay, None);
        Ok(work)
    }

    /// Notes how the first mandate that is not over stands now.
    fn note(&mut self, stage: Stage, text: Option<String>) {
        if let Some((_, progress)) = self.entries.iter_mut().find(|(_, progress)| !progress.stage.is_over()) {
            (progress.stage, progress.since_s) = (stage, clock::wall_now().s);
            progress.text = text.unwrap_or(std::mem::take(&mut progress.text));
        }
        // What cannot be noted is done again after a kill.
        let _ = self.keep();
    }

    fn note_progress(&mut self, (done, total): (u64, u64)) {
        if let Some((_, progress)) = self.entries.iter_mut().find(|(_, progress)| !progress.stage.is_over()) {
            (progress.done, progress.total) = (done, total);
        }
    }

    fn keep(&self) -> std::io::Result<()> {
        atomic::write(&self.folder.join(FILE), &encode_book(&self.entries), IfThere::Replace)
    }
}

/// What is done as soon as it is taken.
fn is_short(task: &Task) -> bool {
    matches!(task, Task::Label { .. } | Task::Add { .. })
}

/// What a mandate is about, in a word; why not, where it makes no sense here.
fn about(home: &dyn Home, task: &Task) -> Result<String, String> {
    match (task, task.drive()) {
        (Task::Add { drive }, _) => drive_spec(drive).map(|spec| spec.folder.display().to_string()),
        (Task::Retire { .. }, Some(drive)) => {
            let drive = find(home, drive)?;
            home.vault().read().may_retire(drive.slot).map_err(|e| e.to_string())?;
            Ok(drive.label)
        }
        (_, Some(drive)) => Ok(find(home, drive)?.label),
        _ => Ok(String::new()),
    }
}

/// The drive in use of this id.
fn find(home: &dyn Home, drive: lavatube_base::DriveId) -> Result<DriveStatus, String> {
    let drives = home.vault().read().drives();
    let found = drives.into_iter().find(|d| d.drive == drive && d.state != DriveState::Retired);
    found.ok_or_else(|| format!("there is no drive {drive} in use"))
}

/// Does what takes no time.
fn at_once(folder: &Path, home: &mut dyn Home, task: &Task) -> (Stage, String) {
    let done = match task {
        Task::Label { drive, names } => find(home, *drive).and_then(|drive| {
            let [label, shelf, maker, model] = names.clone();
            let names = Names { label, shelf, maker, model };
            let was = drive.label.clone();
            let renamed = drive_care::rename_in(home.vault(), drive, &names).map_err(|e| e.to_string())?;
            Ok(if was == renamed.label { was } else { format!("{was} is {}", renamed.label) })
        }),
        Task::Add { drive } => drive_spec(drive).and_then(|spec| {
            let added = drive_care::add_to(folder, home.vault(), &spec).map_err(|e| e.to_string())?;
            Ok(added.label)
        }),
        _ => Err("it takes time".into()),
    };
    match done {
        Ok(text) => (Stage::Done, text),
        Err(why) => {
            // A card that some drives did not take makes what is open unfit to be written to.
            home.open_again();
            (Stage::Failed, why)
        }
    }
}

const FILE: &str = "mandates";

#[cfg(test)]
mod tests;
