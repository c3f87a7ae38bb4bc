//! `lavatube vault repair`: brings redundancy back to what it should be, as far as there are drives. Must not know how.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use lavatube_client::meter::Meter;
use lavatube_node::embedded::{self, EmbeddedVault};
use lavatube_node::lock::{Lock, Mode};
use lavatube_node::repairing::{self, Repaired};
use lavatube_vault::{Depth, DriveState, MendError, ShardHealth, Status};
use serde_json::{Value, json};

use lavatube_format::mandate::Task;

use super::afar::{self, TellArgs};
use super::drive::{tried_to_json, tried_words};
use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::check::shard_to_json;
use crate::verbs::status::drive_state;
use crate::{daemon, progress, units};

/// Bring redundancy back: mend, and write shards of dead drives to others
///
/// Empty drives and those with a damaged card or journal are taken in again. Drives in quarantine, but those that are slow, are read wholly, mended, and trusted again if they are right. Then every object that is not whole, by the heads of its shards, is mended:
/// in place, and where a drive is gone, on another that has no shard of that object. Where there are fewer drives than shards, it says how many objects
/// stay degraded, and why. Damage inside of shards is found by `lavatube vault scrub`. Interrupted or killed, it does the rest the next time.
///
/// A vault at the other end of a link is told to, by a mandate that the recovery key signs; `lavatube vault status` shows what comes of it.
///
/// Exit status: 0 all objects are whole; 4 some are degraded still, or a drive is not as it should be; 5 objects are lost.
///
/// JSON fields: readopted, tried [{drive, admitted, quarantine, objects, ahead, found, left, beyond [{object, reason}]}], not_readopted [{drive, reason}], objects, mended (objects), shards_written, shards_left, degraded {objects, why [{reason, shards}]}, beyond
/// [{object, reason}], ahead (objects not looked at, because it was interrupted), redundancy_before, redundancy, lost, left [{object, shards [{shard, drive, state, blocks}]}] (1000 at most), exit. Of a vault at the other end of a link: mandate {number, task, stage, since_unix_s, done, total, text}, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    tell: TellArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube vault repair
  lavatube vault repair --vault /srv/vault --json | jq .degraded";

/// What was found and done.
struct Done {
    before: Status,
    after: Status,
    repaired: Repaired,
}

/// Repairs.
///
/// # Errors
/// When the vault is not there, in use, or its folder fails.
pub(super) fn run(args: &RepairArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    if afar::is_afar(&args.tell, settings)? {
        return afar::tell(|_| Ok(Task::Repair), &args.tell, settings, screen);
    }
    let stop = daemon::stop_flag()?;
    let folder = &settings.places.vault;
    embedded::vault_id(folder)?;
    let _lock =
        Lock::acquire(&embedded::lock_path(folder), "lavatube vault repair", Mode::Exclusive, settings.lock_wait)?;
    let vault = EmbeddedVault::open(folder, true)?;
    let before = vault.read().status();
    let meter = Meter::default();
    meter.bytes_total.set(before.bytes);
    let go_on = || !stop.load(Ordering::Relaxed);
    let work = || repairing::repair(folder, &vault, Depth::Headers, &meter, &go_on);
    let repaired = progress::during(screen, "repairing", &meter, work)?;
    let after = vault.read().status();
    let done = Done { before, after, repaired };
    done.show(screen)?;
    screen.answer(&done.answer())?;
    Ok(done.end())
}

impl Done {
    fn end(&self) -> End {
        let repaired = &self.repaired;
        let lost = repaired.beyond.iter().any(|(_, e)| matches!(e, MendError::Read(_)));
        let drives = self.after.drives.iter().any(|d| !d.is_well());
        match () {
            () if lost || self.after.lost > 0 => End::Lost,
            () if drives || self.degraded() > 0 || !repaired.beyond.is_empty() || repaired.ahead > 0 => End::Damaged,
            () => End::Done,
        }
    }

    /// Objects that are not whole still.
    fn degraded(&self) -> u64 {
        let (m, after) = (usize::from(self.after.m), &self.after.redundancy);
        let fewer: u64 = after.iter().take(m).sum();
        fewer.max(self.repaired.mended.iter().filter(|(_, report)| !report.left.is_empty()).count() as u64)
    }

    /// Why shards were left, and how many.
    fn why(&self) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        let left = self.repaired.mended.iter().flat_map(|(_, report)| &report.left);
        for shard in left {
            *out.entry(self.why_left(shard)).or_default() += 1;
        }
        out
    }

    fn why_left(&self, shard: &ShardHealth) -> String {
        let (k, m) = (u64::from(self.after.k), u64::from(self.after.m));
        let present = self.after.drives.iter().filter(|d| d.state == DriveState::Present).count() as u64;
        let drive = shard.slot.and_then(|slot| self.after.drives.get(slot));
        match drive {
            Some(d) if d.state == DriveState::Present => format!("{} took no more", units::name(d.label.as_bytes())),
            _ if present < k + m => {
                let state = drive.map_or("no drive".to_owned(), |d| {
                    format!("{} is {}", units::name(d.label.as_bytes()), drive_state(d).0)
                });
                format!(
                    "{state}, and {} are there for {} shards of an object",
                    units::things(present, "drive", "drives"),
                    k + m
                )
            }
            _ => "no drive without a shard of the same object could take it".into(),
        }
    }

    fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let repaired = &self.repaired;
        for label in &repaired.readopted {
            screen.say(&format!("{} is taken in again", units::name(label.as_bytes())))?;
        }
        for (label, tried) in &repaired.tried {
            screen.say(&tried_words(label, tried, screen))?;
        }
        for (label, why) in &repaired.not_readopted {
            let text = format!("{} could not be taken in: {why}", units::name(label.as_bytes()));
            screen.say(&screen.ink(Ink::Yellow, &text))?;
        }
        let shards: u64 = repaired.mended.iter().map(|(_, report)| report.mended.len() as u64).sum();
        let objects = repaired.mended.iter().filter(|(_, report)| !report.mended.is_empty()).count() as u64;
        let text = match shards {
            0 => "nothing was to be written".to_owned(),
            n => format!(
                "{} of {} written anew",
                units::things(n, "shard", "shards"),
                units::things(objects, "object", "objects")
            ),
        };
        screen.tell(&format!("{}: {text}", screen.ink(Ink::Bold, "repaired")))?;
        if repaired.ahead > 0 {
            screen.tell(&format!(
                "  interrupted: {} not looked at",
                units::things(repaired.ahead, "object", "objects")
            ))?;
        }
        for (id, e) in repaired.beyond.iter().take(SHOWN_MAX) {
            screen.say(&screen.ink(Ink::Red, &format!("  object {}: {e}", id.short())))?;
        }
        if repaired.beyond.len() > SHOWN_MAX {
            screen.say(&format!("  … and {} more", repaired.beyond.len() - SHOWN_MAX))?;
        }
        let degraded = self.degraded();
        let (ink, text) = match degraded {
            0 if repaired.beyond.is_empty() && repaired.ahead == 0 => (
                Ink::Green,
                format!(
                    "every object outlives the loss of any {}",
                    units::things(self.after.m.into(), "drive", "drives")
                ),
            ),
            0 => (Ink::Yellow, "all other objects are whole".into()),
            n => (
                Ink::Yellow,
                format!(
                    "{} of {} degraded still",
                    units::things(n, "object", "objects"),
                    units::count(self.after.objects)
                ),
            ),
        };
        screen.tell(&format!("  {}", screen.ink(ink, &text)))?;
        for (why, shards) in self.why() {
            screen.tell(&format!("  {}: {why}", units::things(shards, "shard", "shards")))?;
        }
        Ok(())
    }

    fn answer(&self) -> Value {
        let repaired = &self.repaired;
        let left = repaired.mended.iter().filter(|(_, report)| !report.left.is_empty());
        let left = left.take(LISTED_MAX).map(|(id, report)| {
            json!({ "object": id.to_string(), "shards": report.left.iter().map(shard_to_json).collect::<Vec<_>>() })
        });
        let reasons = |list: &[(String, String)]| -> Value {
            list.iter().map(|(label, why)| json!({ "drive": label, "reason": why })).collect()
        };
        let of = |count: fn(&lavatube_vault::MendReport) -> usize| -> u64 {
            repaired.mended.iter().map(|(_, report)| count(report) as u64).sum()
        };
        json!({
            "readopted": repaired.readopted,
            "tried": repaired.tried.iter().map(|(label, tried)| tried_to_json(label, tried)).collect::<Vec<_>>(),
            "not_readopted": reasons(&repaired.not_readopted),
            "objects": self.after.objects,
            "mended": repaired.mended.iter().filter(|(_, report)| !report.mended.is_empty()).count(),
            "shards_written": of(|report| report.mended.len()),
            "shards_left": of(|report| report.left.len()),
            "degraded": {
                "objects": self.degraded(),
                "why": self.why().iter().map(|(why, n)| json!({ "reason": why, "shards": n })).collect::<Vec<_>>(),
            },
            "beyond": repaired.beyond.iter().map(|(id, e)| json!({ "object": id.to_string(), "reason": e.to_string() })).collect::<Vec<_>>(),
            "ahead": repaired.ahead,
            "redundancy_before": self.before.redundancy,
            "redundancy": self.after.redundancy,
            "lost": self.after.lost,
            "left": left.collect::<Vec<_>>(),
            "exit": self.end().status(),
        })
    }
}

/// Objects that are listed on the screen, and in JSON.
const SHOWN_MAX: usize = 20;
const LISTED_MAX: usize = 1000;
