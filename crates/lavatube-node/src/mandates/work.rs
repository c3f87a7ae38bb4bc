//! What is done for a mandate that takes time: a part at a time, between what others want of the vault. Must not know who asked.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use lavatube_base::ObjectId;
use lavatube_format::mandate::{Stage, Task};
use lavatube_format::scrub_record::ScrubEnd;
use lavatube_vault::scrub::Pace;
use lavatube_vault::{Distrust, MendError, Trial, Vault};

use super::find;
use crate::clock;
use crate::orders::Home;
use crate::repairing::{Repaired, Which, renew};
use crate::scrubbing::Single;

/// What is being done.
pub(super) enum Work {
    Scrub(Box<Single>, u64),
    Repair(Repair),
    Admit(String, Box<Trial>),
    Retire(Retire),
}

/// Redundancy is brought back.
#[derive(Default)]
pub(super) struct Repair {
    trials: VecDeque<Trial>,
    ahead: VecDeque<ObjectId>,
    total: u64,
    written: u64,
    /// Objects that lack shards still, and those that cannot be read.
    short: u64,
    lost: u64,
    problems: Vec<String>,
}

/// A drive is emptied.
pub(super) struct Retire {
    label: String,
    slot: usize,
    ahead: VecDeque<ObjectId>,
    total: u64,
}

/// How it ended, and what came of it.
type Ended = (Stage, String);

impl Work {
    /// Begins what a mandate says; `again` after a kill.
    pub fn begin(folder: &Path, home: &mut dyn Home, task: &Task, again: bool) -> Result<Self, String> {
        match task {
            Task::Scrub { bytes_s, rest_percent, for_s, anew } => {
                home.read_past_cache();
                let pace =
                    Pace { bytes_s: Some(*bytes_s).filter(|most| *most > 0), rest: f64::from(*rest_percent) / 100.0 };
                let time = Some(*for_s).filter(|s| *s > 0).map(Duration::from_secs);
                let objects = home.vault().read().status().objects;
                Ok(Self::Scrub(Box::new(Single::begin(folder, pace, time, *anew && !again)), objects))
            }
            Task::Repair => Repair::begin(folder, home).map(Self::Repair),
            Task::Admit { drive } => {
                let drive = find(home, *drive)?;
                home.read_past_cache();
                let trial = Trial::begin(&home.vault().read(), drive.slot);
                let why_not =
                    if drive.distrust.is_none() { "it is trusted, and was" } else { "it is not there to be read" };
                let trial = trial.ok_or_else(|| format!("{}: {why_not}", drive.label))?;
                Ok(Self::Admit(drive.label, Box::new(trial)))
            }
            Task::Retire { drive } => {
                let drive = find(home, *drive)?;
                let vault = home.vault().read();
                vault.may_retire(drive.slot).map_err(|e| e.to_string())?;
                let ahead: VecDeque<ObjectId> = vault.objects_on(drive.slot).into();
                let total = ahead.len() as u64;
                Ok(Self::Retire(Retire { label: drive.label, slot: drive.slot, ahead, total }))
            }
            Task::Label { .. } | Task::Add { .. } => Err("it takes no time".into()),
        }
    }

    /// How long until there is something to do.
    pub fn wait(&self) -> Duration {
        if let Self::Scrub(scrub, _) = self { scrub.wait() } else { Duration::ZERO }
    }

    /// Objects that were looked at, and all there are to be.
    pub fn progress(&self) -> (u64, u64) {
        match self {
            Self::Scrub(scrub, total) => (scrub.record().objects, (*total).max(scrub.record().objects)),
            Self::Repair(repair) => (repair.total.saturating_sub(repair.ahead.len() as u64), repair.total),
            Self::Admit(_, trial) => (trial.objects.saturating_sub(trial.ahead()), trial.objects),
            Self::Retire(retire) => (retire.total.saturating_sub(retire.ahead.len() as u64), retire.total),
        }
    }

    /// Works for a moment; how it ended, once it has.
    pub fn go_on(&mut self, home: &mut dyn Home) -> Option<Ended> {
        let until = clock::now() + WORK_SPAN;
        let mut vault = home.vault().write();
        match self {
            Self::Scrub(scrub, _) => {
                while clock::now() < until && scrub.wait() == Duration::ZERO {
                    if scrub.handle_timeout(&mut vault) {
                        return Some(scrubbed(scrub));
                    }
                }
                None
            }
            Self::Repair(repair) => {
                while clock::now() < until {
                    if !repair.step(&mut vault) {
                        return Some(repair.ended());
                    }
                }
                None
            }
            Self::Admit(label, trial) => {
                while clock::now() < until {
                    if trial.handle_step(&mut vault).is_none() {
                        return Some(admitted(label, trial, &mut vault));
                    }
                }
                None
            }
            Self::Retire(retire) => {
                while clock::now() < until {
                    match retire.ahead.pop_front() {
                        // What cannot be moved is counted at the end.
                        Some(id) => drop(vault.move_off(id, retire.slot)),
                        None => return Some(retire.ended(&mut vault)),
                    }
                }
                None
            }
        }
    }
}

fn scrubbed(scrub: &Single) -> Ended {
    let record = scrub.record();
    if record.end != ScrubEnd::Whole {
        return (
            Stage::InPart,
            format!("{} objects read; its time was up, and the next scrub goes on there", record.objects),
        );
    }
    let stage = if record.left + record.lost > 0 { Stage::InPart } else { Stage::Done };
    let found = match (record.mended, record.left, record.lost) {
        (0, 0, 0) => "nothing was wrong".to_owned(),
        (mended, left, lost) => format!("{mended} shards mended, {left} not mended, {lost} objects lost"),
    };
    (stage, format!("{} objects read: {found}", record.objects))
}

fn admitted(label: &str, trial: &mut Trial, vault: &mut Vault) -> Ended {
    match trial.finish(vault) {
        Ok(true) => (Stage::Done, format!("{label} is trusted again: {} shards on it were wrong", trial.found)),
        Ok(false) => {
            (Stage::InPart, format!("{label} stays in quarantine: {} shards on it are wrong still", trial.left))
        }
        Err(e) => (Stage::Failed, format!("{label}: {e}")),
    }
}

impl Repair {
    fn begin(folder: &Path, home: &mut dyn Home) -> Result<Self, String> {
        home.open_again();
        let mut renewed = Repaired::default();
        renew(folder, home.vault(), Which::All, &mut renewed).map_err(|e| e.to_string())?;
        let problems = renewed.not_readopted.into_iter().map(|(label, why)| format!("{label}: {why}")).collect();
        let vault = home.vault().read();
        // Slow ones are measured by scrubs alone.
        let slots = vault.on_trial().into_iter().filter(|slot| vault.distrust(*slot) != Some(Distrust::Slow));
        let trials = slots.filter_map(|slot| Trial::begin(&vault, slot)).collect();
        let ahead: VecDeque<ObjectId> = vault.by_need().into_iter().map(|object| object.id).collect();
        Ok(Self { trials, total: ahead.len() as u64, ahead, problems, ..Self::default() })
    }

    /// Does a step; whether there was one to do.
    fn step(&mut self, vault: &mut Vault) -> bool {
        if let Some(trial) = self.trials.front_mut() {
            if trial.handle_step(vault).is_none() {
                let ended = trial.finish(vault);
                self.problems.extend(ended.err().map(|e| e.to_string()));
                self.trials.pop_front();
            }
            return true;
        }
        let Some(id) = self.ahead.pop_front() else { return false };
        match vault.refill(id) {
            Ok(report) => {
                self.written += report.mended.len() as u64;
                self.short += u64::from(!report.left.is_empty());
            }
            Err(MendError::Read(_)) => self.lost += 1,
            Err(MendError::Store(e)) => {
                self.short += 1;
                self.problems.push(e.to_string());
            }
        }
        true
    }

    fn ended(&self) -> Ended {
        let mut text = format!("{} shards written", self.written);
        for (n, what) in [(self.short, "objects are short of shards still"), (self.lost, "objects cannot be read")] {
            if n > 0 {
                text.push_str(&format!(", {n} {what}"));
            }
        }
        self.problems.first().iter().for_each(|why| text.push_str(&format!("; {why}")));
        let whole = self.short + self.lost == 0 && self.problems.is_empty();
        (if whole { Stage::Done } else { Stage::InPart }, text)
    }
}

impl Retire {
    fn ended(&self, vault: &mut Vault) -> Ended {
        let left = vault.objects_on(self.slot).len();
        if left > 0 {
            let text =
                format!("{}: {left} objects have shards on it still, and no other drive could take them", self.label);
            return (Stage::InPart, text);
        }
        match vault.retire(self.slot) {
            Ok(()) => (Stage::Done, format!("{}: shards of {} objects are on other drives", self.label, self.total)),
            Err(e) => (Stage::Failed, format!("{}: {e}", self.label)),
        }
    }
}

/// How long others who want the vault may have to wait.
const WORK_SPAN: Duration = Duration::from_millis(200);
