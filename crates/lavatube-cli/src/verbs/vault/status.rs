//! `lavatube vault status`: drives by shelf and maker, what every object can still outlive, scrubs, and what years will take.
//!
//! Reads cards and journals and no object, and waits for nobody: while others use the vault, it is shown as it is being changed. Must
//! not know how a vault finds out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lavatube_base::time::WallTime;
use lavatube_format::mandate::Progress;
use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord};
use lavatube_node::audits::{self, Standing};
use lavatube_node::embedded::{self, EmbeddedVault};
use lavatube_node::lock::{Holder, Lock, LockError, Mode};
use lavatube_node::places::{self, Seen};
use lavatube_node::{clock, link_folder, mandates, scrubbing};
use lavatube_vault::{DriveState, DriveStatus, Status};
use serde_json::{Value, json};

use super::afar::{self, Heard};
use super::buckets;
use super::scrubbed::{on_drive, read_in, scrub_to_json, verdict};
use super::years::{Assumed, HORIZON, LOSS, Years, spare, years};
use crate::errors::{End, Failure};
use crate::quantities;
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::audit;
use crate::verbs::release;
use crate::verbs::status::releases::Releases;
use crate::verbs::status::{drive_state, quarantine_word, worn};
use crate::{date, units};

/// How the vault is: drives, what objects can still outlive, scrubs, years to loss
///
/// Looks at the drives' cards and journals, not at the objects: `lavatube vault scrub` does that, and what it found is shown here.
/// Years to loss are reckoned as in `lavatube plan durability`, for this vault's own drives, code and room as they are today, with drives that
/// fail as --afr says and nobody who replaces them unless --replace says so; what it says is the share of objects that must be expected lost.
///
/// A vault at the other end of a link is asked, with whatever key: its answer is signed by it, has some hundred bytes for each ten drives, and is kept here. --last shows it without asking, and says how old it is.
///
/// Exit status: 0 all is well; 4 a drive is not as it should be, or the last scrub left damage; 5 objects cannot be read.
///
/// JSON fields: vault {path, id, data, parity, objects, bytes}, used_by (the command that uses it now), drives [{slot, label, shelf, maker, model, folder,
/// state, quarantine (away, slow, failed, wrong), worn, free, total, damaged, missing (shards, in the last scrub)}], buckets [{place, trouble (why it cannot be reached), endpoint {conditional_put, checksum, ranges, lists_at_once, object_lock (false, or {days})}}], redundancy [objects that outlive 0, 1, … more lost drives], lost, left_over (shards where they were before they were moved), releases {taken, open [{number, standing (waits, followed, void, unknown), waits, objects, thins}], thinned {packs, bytes}}, one_disk, spare {drives (that may die before an object is short of shards, or of room), years (until that is to be expected)}, scrubs [{began, until,
/// end (open, whole, dropped), worked_s, objects, bytes, read, not_whole, degraded, mended, left, lost, lost_ids, drives [{label, damaged, missing, away, left, on_trial}]}, the newest last],
/// years {afr, replace_days, scrub_days, loss, years_to_loss, expected [{years, lost_share}], why, lost_yearly}, still_there and not_proved (the last audit from this machine that was passed, and one since that was not), mandates [{number, task (scrub, repair, label, add, admit, retire), stage (waiting, under-way, done, in-part,
/// failed), since_unix_s, done, total, text}], exit. Of a vault at the other end of a link also: told {came_unix_s, age_s, bytes, vault_unix_s, refusal}, unanswered [{number, task, stage, drive}] (mandates that wait on this machine), release {unanswered {number, id}, last {number, id, refusal, standing (waits, followed, void, done, refused, unknown), waits, came_unix_s}} (the last one that this machine sent there, and one that waits here).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// A drive's failures a year, when it is neither new nor old
    #[arg(long, value_name = "SHARE", default_value = "1.4%", value_parser = quantities::share)]
    afr: f64,
    /// A dead drive is replaced after this time, or never
    #[arg(long, value_name = "TIME", default_value = "never", value_parser = replace)]
    replace: Replace,
    /// Show what a vault at the other end of a link said last, and do not ask it
    #[arg(long)]
    last: bool,
    /// Give up waiting when nothing came over the link for so long [default: wait for the next contact, and the one after it]
    #[arg(long, value_name = "SECONDS")]
    link_wait: Option<u64>,
}

const EXAMPLES: &str = "Examples:
  lavatube vault status
  lavatube vault status --vault /srv/vault --afr 3% --replace 30d
  lavatube vault status --last                   what a vault far away said last, and when
  lavatube vault status --json | jq .years.years_to_loss";

/// Days after which a drive is replaced; `None` for never.
#[derive(Debug, Clone, Copy)]
struct Replace(Option<f64>);

fn replace(text: &str) -> Result<Replace, String> {
    if text == "never" {
        return Ok(Replace(None));
    }
    let seconds = quantities::seconds(text)?;
    if seconds > 0.0 { Ok(Replace(Some(seconds / DAY))) } else { Err("a time of more than nothing, or never".into()) }
}

/// What was found, and what that means.
struct Found {
    path: PathBuf,
    looked: Looked,
    assumed: Assumed,
    years: Years,
    audits: Standing,
}

/// What a vault says of itself, here or from afar.
struct Looked {
    id: String,
    status: Status,
    one_disk: bool,
    scrubs: Vec<ScrubRecord>,
    /// Now by the vault's clock, as far as that is known.
    now: WallTime,
    /// Number, code of the task, how far it is.
    mandates: Vec<(u64, u8, Progress)>,
    /// Of a vault that is here.
    beside: Beside,
    /// Of a vault at the other end of a link,
    heard: Option<Heard>,
    /// and what became of releases that were sent there.
    sent: Option<(Vec<String>, serde_json::Value)>,
}

/// What only who is beside the drives sees.
#[derive(Default)]
struct Beside {
    /// What is wrong with the small files of drives that are there, by label.
    worn: Vec<(String, &'static str)>,
    folders: Vec<PathBuf>,
    /// Drives in buckets, and what was seen of their endpoints.
    buckets: Vec<(PathBuf, Seen)>,
    used_by: Option<Holder>,
    releases: Option<Releases>,
}

/// Shows it.
///
/// # Errors
/// When there is no vault here or it cannot be opened.
pub(super) fn run(args: &StatusArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let is_far = link_folder::is_far(&settings.places.vault);
    let looked = if is_far { look_afar(args, settings, screen)? } else { look(settings)? };
    let assumed = assumed(args, &looked.scrubs, looked.now, looked.one_disk);
    let years = years(&looked.status, &assumed);
    let audits = Standing::of(&audits::history(&settings.places)?);
    let found = Found { path: settings.places.vault.clone(), looked, assumed, years, audits };
    let mut lines = found.head(screen);
    lines.extend(found.drives(screen));
    lines.extend(buckets::lines(&found.looked.beside.buckets, screen));
    lines.extend(found.redundancy(screen));
    lines.extend(found.scrub_lines(screen));
    lines.extend(found.audit_lines(screen));
    lines.extend(found.year_lines(screen));
    let left = found.looked.heard.as_ref().map_or(&[][..], |heard| &heard.left);
    lines.extend(afar::mandate_lines(&found.looked.mandates, left, found.looked.now.s, screen));
    for line in lines {
        screen.say(line.trim_end())?;
    }
    screen.answer(&found.answer())?;
    Ok(found.end())
}

fn look(settings: &Settings) -> Result<Looked, Failure> {
    let path = &settings.places.vault;
    let id = embedded::vault_id(path)?.to_string();
    let lock = Lock::acquire(&embedded::lock_path(path), "lavatube vault status", Mode::Shared, settings.lock_wait);
    let (_lock, used_by) = match lock {
        Ok(lock) => (Some(lock), None),
        // A daemon holds it for ever, and nothing is changed here.
        Err(LockError::Held { by, .. }) => (None, Some(by)),
        Err(e) => return Err(e.into()),
    };
    let folders = embedded::drive_folders(path)?;
    let opened = EmbeddedVault::open(path, false)?;
    let status = opened.read().status();
    let buckets = opened.places().iter().filter(|(place, _)| places::bucket(place).is_some()).cloned().collect();
    // Beside one who writes, copies of the journal are not alike for a moment.
    let worn = if used_by.is_some() { Vec::new() } else { worn(opened.report()) };
    let one_disk = mandates::one_disk(path);
    let (scrubs, now) = (scrubbing::scrubs(path), clock::wall_now());
    let used_by = used_by.map(|by| by.unwrap_or_else(someone));
    let told = mandates::remembered(path).into_iter();
    let mandates = told.map(|(mandate, progress)| (mandate.number, mandate.task.code(), progress)).collect();
    let beside = Beside { worn, folders, buckets, used_by, releases: Some(Releases::of(&opened)) };
    Ok(Looked { id, status, one_disk, scrubs, now, mandates, beside, heard: None, sent: None })
}

/// A vault at the other end of a link, as it says it is.
fn look_afar(args: &StatusArgs, settings: &Settings, screen: &Screen) -> Result<Looked, Failure> {
    let heard = afar::hear(args.last, args.link_wait, settings, screen)?;
    let report = &heard.said.report;
    let (status, scrubs) = mandates::status_of(report);
    // Its clock has gone on since it said so.
    let age = clock::wall_now().s.saturating_sub(heard.said.came.s).max(0);
    let now = WallTime { s: report.time_s.saturating_add(age), ns: 0 };
    if !args.last {
        release::afar::ask(args.link_wait, settings, screen)?;
    }
    let sent = release::afar::known(settings, screen)?;
    let (id, one_disk, mandates) = (report.vault.to_string(), report.one_disk, report.mandates.clone());
    let beside = Beside::default();
    Ok(Looked { id, status, one_disk, scrubs, now, mandates, beside, heard: Some(heard), sent })
}

fn assumed(args: &StatusArgs, scrubs: &[ScrubRecord], now: WallTime, one_disk: bool) -> Assumed {
    let whole = scrubs.iter().rev().find(|s| s.end == ScrubEnd::Whole);
    let since = whole.map(|s| now.s.saturating_sub(s.began.s).max(0) as f64 / DAY);
    let scrub_days = since.map_or(NEVER_SCRUBBED_DAYS, |days| days.max(SCRUB_DAYS));
    Assumed { afr: args.afr, replace_days: args.replace.0, scrub_days, one_disk }
}

fn someone() -> Holder {
    Holder { command: "another command".into(), pid: 0, host: String::new(), age_s: 0 }
}

impl Found {
    fn end(&self) -> End {
        let drives = self.looked.status.drives.iter().any(|d| !d.is_well()) || !self.looked.beside.worn.is_empty();
        let last = self.last();
        match () {
            () if self.looked.status.lost > 0 || last.is_some_and(|s| s.lost > 0) => End::Lost,
            () if drives || last.is_some_and(|s| s.left > 0) => End::Damaged,
            () => End::Done,
        }
    }

    /// The last scrub that tells something of all objects.
    fn last(&self) -> Option<&ScrubRecord> {
        self.looked.scrubs.iter().rev().find(|s| s.end == ScrubEnd::Whole)
    }

    /// What scrubs found on a drive lately: in the one that is under way, else in the last.
    fn found_on(&self, drive: &DriveStatus) -> Option<ScrubDrive> {
        let latest = [self.looked.scrubs.last().filter(|s| s.end == ScrubEnd::Open), self.last()];
        let of = |s: &ScrubRecord| {
            let found = s.drives.iter().find(|found| found.drive == drive.drive).copied();
            found.filter(|found| found.damaged + found.missing > 0)
        };
        latest.into_iter().flatten().find_map(of)
    }

    /// A drive's state in a word, and an explanation.
    fn state(&self, drive: &DriveStatus) -> (&'static str, String) {
        match self.looked.beside.worn.iter().find(|(label, _)| *label == drive.label) {
            Some((_, why)) => ("worn", (*why).to_owned()),
            None => drive_state(drive),
        }
    }

    fn head(&self, screen: &Screen) -> Vec<String> {
        let status = &self.looked.status;
        let present = status.drives.iter().filter(|d| d.state == DriveState::Present).count() as u64;
        let all = status.drives.iter().filter(|d| d.state != DriveState::Retired).count() as u64;
        let drives = if present == all {
            units::things(all, "drive", "drives")
        } else {
            screen.ink(Ink::Red, &format!("{present} of {} present", units::things(all, "drive", "drives")))
        };
        let groups = |of: fn(&DriveStatus) -> &str, one: &str, many: &str| {
            let all: BTreeSet<&str> = status.drives.iter().map(of).filter(|name| !name.is_empty()).collect();
            if all.is_empty() { String::new() } else { format!(", {}", units::things(all.len() as u64, one, many)) }
        };
        let drives =
            format!("{drives}{}{}", groups(|d| &d.shelf, "shelf", "shelves"), groups(|d| &d.maker, "maker", "makers"));
        let mut lines = vec![
            format!(
                "{}  {}{}",
                screen.ink(Ink::Bold, "vault"),
                self.path.display(),
                if self.looked.heard.is_some() { ", at the other end of a link" } else { "" }
            ),
            format!("  id          {}", self.looked.id),
            format!("  stripes     {} data + {} parity, on {drives}", status.k, status.m),
            format!("  objects     {}, {} before parity", units::count(status.objects), units::bytes(status.bytes)),
            self.spare_words(screen),
        ];
        lines.extend(self.looked.heard.iter().flat_map(|heard| afar::told_words(heard, screen)));
        if status.left_over > 0 {
            let shards = units::things(status.left_over, "shard", "shards");
            lines.push(format!("  left over   {shards} where they were before they were moved, until two scrubs found the new ones right"));
        }
        lines.extend(self.looked.beside.releases.iter().flat_map(|releases| releases.lines(screen)));
        lines.extend(self.looked.sent.iter().flat_map(|(lines, _)| release::afar::headed(lines.clone())));
        if let Some(by) = &self.looked.beside.used_by {
            lines.push(format!("  in use      by {}: what is being written may not be counted yet", by.command));
        }
        lines
    }

    /// How long drives and room last.
    fn spare_words(&self, screen: &Screen) -> String {
        let (drives, years) = spare(&self.looked.status, self.assumed.afr);
        let text = match drives {
            0 => format!("no drive: the next one that dies leaves objects short of shards, in some {years:.0} years"),
            n => {
                format!("{}: by what dies that lasts some {years:.0} years", units::things(n.into(), "drive", "drives"))
            }
        };
        let ink = if drives == 0 { Ink::Yellow } else { Ink::Green };
        format!("  spare       {}", screen.ink(ink, &text))
    }

    fn drives(&self, screen: &Screen) -> Vec<String> {
        let mut shelves: BTreeMap<&str, Vec<&DriveStatus>> = BTreeMap::new();
        for drive in &self.looked.status.drives {
            shelves.entry(&drive.shelf).or_default().push(drive);
        }
        let name = |d: &DriveStatus| units::name(d.label.as_bytes());
        let product = |d: &DriveStatus| units::name(format!("{} {}", d.maker, d.model).trim().as_bytes());
        let width = |of: &dyn Fn(&DriveStatus) -> String, least: usize| {
            self.looked
                .status
                .drives
                .iter()
                .map(|d| of(d).chars().count())
                .max()
                .unwrap_or(0)
                .max(least)
                .min(COLUMN_MAX)
        };
        let (wide, product_wide) = (width(&name, 5), width(&product, 0));
        let head = format!(
            "{:<w$}  {:<13} {:>8} {:>8}   used",
            "drives",
            "",
            "size",
            "free",
            w = wide + product_wide + 4 - usize::from(product_wide == 0) * 2
        );
        let mut lines = vec![String::new(), screen.ink(Ink::Bold, &head)];
        for (shelf, mut drives) in shelves {
            if !shelf.is_empty() {
                lines.push(screen.ink(Ink::Dim, &format!("  shelf {}", units::name(shelf.as_bytes()))));
            }
            drives.sort_by_key(|d| (&d.maker, d.slot));
            for drive in drives {
                let (word, why) = self.state(drive);
                let product =
                    if product_wide > 0 { format!("{:<product_wide$}  ", product(drive)) } else { String::new() };
                let word = screen.ink(ink_of(word), &format!("{word:<13}"));
                lines.push(format!("  {:<wide$}  {product}{word} {}", name(drive), room(drive, screen)));
                let found = self.found_on(drive).map(on_drive);
                for text in Some(why).filter(|why| !why.is_empty()).into_iter().chain(found) {
                    lines.push(screen.ink(Ink::Yellow, &format!("  {:<wide$}  {text}", "")));
                }
            }
        }
        if self.looked.one_disk {
            lines.push(screen.ink(
                Ink::Dim,
                "  All are folders of one file system: parity mends rot there, not the loss of the disk.",
            ));
        }
        lines
    }

    fn redundancy(&self, screen: &Screen) -> Vec<String> {
        let status = &self.looked.status;
        let head = screen.ink(Ink::Bold, "redundancy");
        let mut lines = vec![String::new(), format!("{head}  how many more drives may die, whichever they are")];
        let bar = |n: u64| {
            let cells = u128::from(n) * BAR as u128 / u128::from(status.objects.max(1));
            "━".repeat(usize::try_from(cells).unwrap_or(BAR).max(1))
        };
        let mut row = |what: &str, n: u64, ink: Ink| {
            let share = 100.0 * n as f64 / status.objects.max(1) as f64;
            let objects = units::things(n, "object ", "objects");
            lines.push(format!("  {what:<8} {objects:>20}  {share:>5.1} %  {}", screen.ink(ink, &bar(n))));
        };
        for (spare, n) in status.redundancy.iter().enumerate().rev().filter(|(_, n)| **n > 0) {
            let ink = match spare {
                0 => Ink::Red,
                spare if spare < status.m.into() => Ink::Yellow,
                _ => Ink::Green,
            };
            let what = if spare == 0 { "none".into() } else { format!("any {spare}") };
            row(&what, *n, ink);
        }
        if status.lost > 0 {
            row("too few", status.lost, Ink::Red);
            lines.push("           of their drives are there: they cannot be read until some come back".into());
        }
        if status.objects == 0 {
            lines.push("  nothing is stored yet".into());
        }
        lines
    }

    fn scrub_lines(&self, screen: &Screen) -> Vec<String> {
        let mut lines = vec![String::new(), screen.ink(Ink::Bold, "scrub")];
        match self.last() {
            None => {
                lines.push(
                    "  last        never came to its end: `lavatube vault scrub` reads every byte and mends".into(),
                );
            }
            Some(last) => {
                let ago = units::ago(self.looked.now.s.saturating_sub(last.until.s));
                lines.push(format!("  last        {ago}: {}", read_in(last)));
                let (ink, text) = verdict(last);
                lines.push(format!("              {}", screen.ink(ink, &text)));
            }
        }
        if let Some(open) = self.looked.scrubs.last().filter(|s| s.end == ScrubEnd::Open) {
            let share = 100.0 * open.objects as f64 / self.looked.status.objects.max(open.objects).max(1) as f64;
            let began = units::ago(self.looked.now.s.saturating_sub(open.began.s));
            let noted = units::ago(self.looked.now.s.saturating_sub(open.until.s));
            lines.push(format!("  under way   {share:.0} % of the objects; began {began}, was here {noted}"));
            let (ink, text) = verdict(open);
            lines.push(format!("              so far {}", screen.ink(ink, &text)));
        }
        let whole: Vec<_> = self.looked.scrubs.iter().filter(|s| s.end == ScrubEnd::Whole).collect();
        for before in whole.iter().rev().skip(1).take(BEFORE_SHOWN) {
            let day = date::table(before.until);
            let day = day.split(' ').next().unwrap_or_default();
            lines.push(screen.ink(Ink::Dim, &format!("  {day}  {}", verdict(before).1)));
        }
        lines
    }

    fn audit_lines(&self, screen: &Screen) -> Vec<String> {
        let head = [String::new(), screen.ink(Ink::Bold, "audit")].into_iter();
        // By this machine's clock, as audits are.
        head.chain(audit::standing(&self.audits, false, clock::wall_now(), screen)).collect()
    }

    fn year_lines(&self, screen: &Screen) -> Vec<String> {
        let replaced = self
            .assumed
            .replace_days
            .map_or("nobody replaces any".to_owned(), |days| format!("replaced after {days:.0} days"));
        let head = screen.ink(Ink::Bold, "years to loss");
        let assumed = format!(
            "if {} % of drives fail a year, more when old; {replaced}",
            trim(format!("{:.2}", self.assumed.afr * 100.0))
        );
        let mut lines = vec![String::new(), format!("{head}  {assumed}")];
        match &self.years {
            Years::None(why) => lines.push(format!("  {why}")),
            Years::NextDrive(yearly) => {
                let why = if self.looked.one_disk {
                    "all of it is on one disk"
                } else {
                    "there are objects without any parity left"
                };
                lines.push(screen.ink(Ink::Red, &format!("  {why}: lost with {} a year", share(*yearly))));
            }
            Years::Outlook { lost, to_loss } => {
                let one_in = units::count((1.0 / LOSS) as u64);
                let (ink, text) = match to_loss {
                    Some(1) => (Ink::Red, format!("within a year one object in {one_in} must be expected lost")),
                    Some(years) => (
                        ink_of_years(*years),
                        format!("after {years} years one object in {one_in} must be expected lost"),
                    ),
                    None => {
                        (Ink::Green, format!("more than {HORIZON} until one object in {one_in} must be expected lost"))
                    }
                };
                lines.push(format!("  {}", screen.ink(ink, &text)));
                let cells = lost.iter().map(|(years, lost)| {
                    format!("{years:.0} {}: {}", if *years == 1.0 { "year" } else { "years" }, share(*lost))
                });
                lines.push(format!("  expected loss in {}", cells.collect::<Vec<_>>().join(",  ")));
            }
        }
        lines
    }

    fn answer(&self) -> Value {
        let status = &self.looked.status;
        let drive = |d: &DriveStatus| {
            let found = self.found_on(d);
            json!({
                "slot": d.slot,
                "label": d.label,
                "shelf": d.shelf,
                "maker": d.maker,
                "model": d.model,
                "folder": self.looked.beside.folders.get(d.slot).map(|f| f.to_string_lossy()),
                "state": drive_state(d).0,
                "quarantine": d.distrust.map(quarantine_word),
                "worn": self.looked.beside.worn.iter().find(|(label, _)| *label == d.label).map(|(_, why)| *why),
                "free": d.space.map(|s| s.free),
                "total": d.space.map(|s| s.total),
                "damaged": found.map_or(0, |f| f.damaged),
                "missing": found.map_or(0, |f| f.missing),
            })
        };
        let label = |found: &ScrubDrive| status.drives.iter().find(|d| d.drive == found.drive).map(|d| d.label.clone());
        let audit = |audit: Option<_>| audit.map(|audit| audit::to_json(&audit, clock::wall_now()));
        let mandate =
            |(number, task, progress): &(u64, u8, Progress)| afar::to_json(*number, afar::task_word(*task), progress);
        let mut value = json!({
            "vault": {
                "path": self.path.to_string_lossy(),
                "id": self.looked.id,
                "data": status.k,
                "parity": status.m,
                "objects": status.objects,
                "bytes": status.bytes,
            },
            "used_by": self.looked.beside.used_by.as_ref().map(|by| by.command.clone()),
            "drives": status.drives.iter().map(drive).collect::<Vec<_>>(),
            "buckets": self.looked.beside.buckets.iter().map(buckets::to_json).collect::<Vec<_>>(),
            "redundancy": status.redundancy,
            "lost": status.lost,
            "left_over": self.looked.status.left_over,
            "releases": self.looked.beside.releases.as_ref().map(Releases::answer),
            "one_disk": self.looked.one_disk,
            "spare": { "drives": spare(&self.looked.status, self.assumed.afr).0, "years": spare(&self.looked.status, self.assumed.afr).1 },
            "scrubs": self.looked.scrubs.iter().map(|s| scrub_to_json(s, &label)).collect::<Vec<_>>(),
            "years": self.years.answer(&self.assumed),
            "still_there": audit(self.audits.passed),
            "not_proved": audit(self.audits.failed),
            "mandates": self.looked.mandates.iter().map(mandate).collect::<Vec<_>>(),
            "exit": self.end().status(),
        });
        if let Some(Heard { said, left }) = &self.looked.heard {
            value["told"] = json!({
                "came_unix_s": said.came.s,
                "age_s": clock::wall_now().s.saturating_sub(said.came.s),
                "bytes": said.len,
                "vault_unix_s": said.report.time_s,
                "refusal": said.report.refusal,
            });
            value["release"] = self.looked.sent.as_ref().map_or(serde_json::Value::Null, |(_, value)| value.clone());
            value["unanswered"] = left.iter().map(|left| afar::unanswered(&left.mandate)).collect();
        }
        value
    }
}

fn ink_of(word: &str) -> Ink {
    match word {
        "present" => Ink::Green,
        "retired" => Ink::Dim,
        "worn" | "quarantine" | "in doubt" => Ink::Yellow,
        _ => Ink::Red,
    }
}

fn ink_of_years(years: u32) -> Ink {
    match years {
        0..=5 => Ink::Red,
        6..=15 => Ink::Yellow,
        _ => Ink::Green,
    }
}

/// Size, free space, and a bar of what is used.
fn room(drive: &DriveStatus, screen: &Screen) -> String {
    let Some(space) = drive.space.filter(|s| s.total > 0) else { return format!("{:>8} {:>8}", "-", "-") };
    let used = 1.0 - (space.free as f64 / space.total as f64).min(1.0);
    let cells = ((used * ROOM_BAR as f64).round() as usize).min(ROOM_BAR);
    let ink = if used > FULL {
        Ink::Red
    } else if used > RATHER_FULL {
        Ink::Yellow
    } else {
        Ink::Green
    };
    let bar = format!("{}{}", screen.ink(ink, &"━".repeat(cells)), screen.ink(Ink::Dim, &"─".repeat(ROOM_BAR - cells)));
    format!("{:>8} {:>8}   {bar} {:>3.0} %", units::bytes(space.total), units::bytes(space.free), used * 100.0)
}

/// A share as people read it: `12 %`, `0.4 %`, `3.1e-9`.
fn share(share: f64) -> String {
    match share {
        share if share < 1e-60 => "0".into(),
        share if share < 0.001 => format!("{share:.0e}"),
        share if share < 0.1 => format!("{} %", trim(format!("{:.1}", share * 100.0))),
        share => format!("{:.0} %", share * 100.0),
    }
}

fn trim(number: String) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
}

const DAY: f64 = 86_400.0;
/// A vault that was scrubbed lately is scrubbed as often as this, one that never was as this: so it is reckoned.
const SCRUB_DAYS: f64 = 30.0;
const NEVER_SCRUBBED_DAYS: f64 = 365.0;
/// Widest names of drives and of their makers and models for which columns are kept.
const COLUMN_MAX: usize = 24;
const BAR: usize = 36;
const ROOM_BAR: usize = 12;
/// From so much on a drive is rather full, and full.
const RATHER_FULL: f64 = 0.8;
const FULL: f64 = 0.95;
/// Scrubs before the last that are shown.
const BEFORE_SHOWN: usize = 3;
