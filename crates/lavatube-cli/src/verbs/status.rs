//! `lavatube status`: how vault, drives and this machine are, without reading any object.
//!
//! Must not know how a vault finds out.

mod far;
pub mod releases;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lavatube_base::time::WallTime;
use lavatube_client::log::{Standing as LogStanding, Verdict as LogVerdict};
use lavatube_format::audit_record::Outcome;
use lavatube_format::check_record::{CheckRecord, Verdict, WHOLE_SHARE};
use lavatube_node::audits::{self, Standing};
use lavatube_node::checks::{self, Remembered};
use lavatube_node::clock;
use lavatube_node::depositor;
use lavatube_node::drive_care;
use lavatube_node::embedded::{self, EmbeddedVault};
use lavatube_node::keyring::Keyring;
use lavatube_node::link_folder;
use lavatube_node::lock::{Lock, Mode};
use lavatube_node::vault_log;
use lavatube_vault::{Distrust, DriveState, DriveStatus, OpenReport, Status};
use serde_json::json;

use crate::archive;
use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::{audit, log};
use crate::{date, units};
use releases::Releases;

/// Show how vault, drives and this machine are.
///
/// Looks at the drives' cards and journals, not at the objects: `lavatube check` does that, and what it found is remembered. Of a vault at
/// the other end of a link it shows what is known here: what waits, what the vault has signed for, and how the link is.
/// The exit status is 14 when the vault's log is not what it was (`lavatube log`); 4 when a drive is not as it should be; 5 when more drives are gone than parity makes up for, or the
/// last check, the last that read data, or an audit since the last that was passed, found data lost.
///
/// JSON fields: vault {path, id, data, parity, objects, bytes}, drives [{label, shelf, maker, model, folder, state, quarantine (away, slow, failed, wrong),
/// worn, free, total}], redundancy [objects that outlive 0, 1, … more lost drives], lost, one_disk, releases {taken, open [{number, standing (waits, followed, void, unknown), waits, objects, thins}], thinned {packs, bytes}}, log {verdict (sound, alarm or unknown), size, root, known, signed, first_sight, reason}, log_alarm {time, kind, reason}, waiting, last, checked and read
/// {time, age, verdict (sound, mended, damaged, lost), snapshots, share, bytes, packs, not_whole, files}, still_there and not_proved
/// {time, age, outcome, manifests, packs, bytes, untagged, bad, received}, keys {path,
/// deposit, read, recovery_file}, state, config, exit. `checked` is the last check from this machine, `read` the
/// last that read data, `still_there` the last audit of everything that was passed, `not_proved` one since that was not, `age` in seconds. Of a vault at the other end of a link: vault {path, id, far, address}, link {line, loss,
/// age_s}, care {came_unix_s, age_s, drives, well, unanswered} (what the vault last said of its drives, and mandates that wait here), release (as `lavatube vault status` has it: what became of the last release that was sent there), waiting, there_unix_s, held, stuck, backups and those of them receipted, last, checked, read,
/// still_there, not_proved, log_alarm, keys, state, config, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lavatube status\n  lavatube status --json | jq .redundancy")]
pub struct StatusArgs {}

/// What was found.
struct Found {
    id: String,
    status: Status,
    /// What is wrong with the small files of drives that are there, by label.
    worn: Vec<(String, &'static str)>,
    folders: Vec<PathBuf>,
    one_disk: bool,
    waiting: usize,
    last: Option<WallTime>,
    checks: Remembered,
    audits: Standing,
    now: WallTime,
    /// How the log is, and an alarm that stands.
    log: (LogVerdict, Option<LogStanding>),
    releases: Releases,
}

impl Found {
    /// Whether the last check, the last that read data, or an audit since the last that was passed, found data lost.
    fn remembers_loss(&self) -> bool {
        remembers_loss(&self.checks, &self.audits)
    }

    fn end(&self) -> End {
        let drives = self.status.drives.iter().any(|d| !d.is_well()) || !self.worn.is_empty();
        match () {
            () if matches!(self.log, (LogVerdict::Alarm(_), _) | (_, Some(_))) => End::Alarm,
            () if self.status.lost > 0 || self.remembers_loss() => End::Lost,
            () if drives => End::Damaged,
            () => End::Done,
        }
    }

    /// A drive's state in a word, and an explanation.
    fn state(&self, drive: &DriveStatus) -> (&'static str, String) {
        match self.worn.iter().find(|(label, _)| *label == drive.label) {
            Some((_, why)) => ("worn", (*why).to_owned()),
            None => drive_state(drive),
        }
    }
}

/// Shows it.
///
/// # Errors
/// When there is no vault or it cannot be opened.
pub fn run(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    if link_folder::is_far(&settings.places.vault) {
        return far::run(settings, screen);
    }
    let found = look(settings)?;
    let status = &found.status;
    let keyring = Keyring::at(&settings.places.keys);
    let end = found.end();
    screen.say(&format!("{}  {}", screen.ink(Ink::Bold, "vault"), settings.places.vault.display()))?;
    screen.say(&format!("  id          {}", found.id))?;
    screen.say(&format!("  stripes     {} data + {} parity", status.k, status.m))?;
    screen.say(&format!(
        "  objects     {}, {} before parity",
        units::count(status.objects),
        units::bytes(status.bytes)
    ))?;
    screen.say(&format!("  {}", log::in_words(&found.log.0, log::HEAD, screen)))?;
    for line in found.log.1.iter().flat_map(|alarm| log::standing_in_words(alarm, screen)) {
        screen.say(&line)?;
    }
    for line in found.releases.lines(screen) {
        screen.say(&line)?;
    }
    for line in drives(&found, screen) {
        screen.say(&line)?;
    }
    for line in redundancy(status, screen) {
        screen.say(&line)?;
    }
    screen.say(&screen.ink(Ink::Bold, "this machine"))?;
    screen.say(&format!("  keys        {}: {}", settings.places.keys.display(), keys(&keyring)))?;
    screen.say(&format!("  state       {}", settings.places.state.display()))?;
    if let Some(last) = found.last {
        screen.say(&format!("  last        {}", date::rfc3339(last)))?;
    }
    let waiting = match found.waiting {
        0 if end == End::Lost => "nothing".to_owned(),
        0 => "nothing; all that was backed up is safe there".to_owned(),
        n => format!("{}, safe here only", units::things(n as u64, "object", "objects")),
    };
    screen.say(&format!("  waiting     {waiting}"))?;
    let remembered = remember(&found.checks, found.now, false, screen);
    for line in remembered.into_iter().chain(audit::standing(&found.audits, is_loss(&found.checks), found.now, screen))
    {
        screen.say(&line)?;
    }
    warn_of_recovery_key(&keyring, screen);
    screen.answer(&answer(&found, &keyring, settings, end))?;
    Ok(end)
}

fn look(settings: &Settings) -> Result<Found, Failure> {
    let vault = &settings.places.vault;
    let id = embedded::vault_id(vault)?;
    let _lock = Lock::acquire(&embedded::lock_path(vault), "lavatube status", Mode::Shared, settings.lock_wait)?;
    let folders = embedded::drive_folders(vault)?;
    let opened = EmbeddedVault::open(vault, false)?;
    let (status, worn) = (opened.read().status(), worn(opened.report()));
    let disks: Option<Vec<u64>> = folders.iter().map(|f| f.metadata().ok().map(|m| m.dev())).collect();
    let one_disk = disks.is_some_and(|d| d.len() > 1 && d.iter().all(|dev| *dev == d[0]));
    let state = depositor::state_folder(&settings.places, id);
    let waiting = archive::waiting(settings)?;
    let last = last_backup(&state);
    let (checks, now) = (checks::remembered(&settings.places)?, clock::wall_now());
    let log = (vault_log::look(&settings.places, &opened)?, vault_log::standing(&settings.places)?);
    let audits = Standing::of(&audits::history(&settings.places)?);
    let (id, releases) = (id.to_string(), Releases::of(&opened));
    Ok(Found { id, status, worn, folders, one_disk, waiting, last, checks, audits, now, log, releases })
}

/// Whether the last check, the last that read data, or an audit since the last that was passed, found data lost.
fn remembers_loss(checks: &Remembered, audits: &Standing) -> bool {
    audits.failed.is_some_and(|audit| audit.outcome == Outcome::Failed) || is_loss(checks)
}

/// Whether the last check, or the last that read data, found data lost.
pub fn is_loss(checks: &Remembered) -> bool {
    [checks.last, checks.read].into_iter().flatten().any(|c| c.verdict == Verdict::Lost)
}

/// What the last checks saw; of a vault that is `far` no data are read for a check from here.
fn remember(checks: &Remembered, now: WallTime, far: bool, screen: &Screen) -> Vec<String> {
    let never = |what: &str| format!("never looked at from this machine: `{what}` does");
    let read = if far {
        "lavatube check --read-data` at the vault's machine, or `lavatube restore"
    } else {
        "lavatube check --read-data"
    };
    let checked = checks.last.map_or(never("lavatube check"), |c| looked(&c, now));
    let is_lost = checks.read.is_some_and(|c| c.verdict == Verdict::Lost);
    let head = if is_lost { screen.ink(Ink::Red, "not there  ") } else { "read       ".to_owned() };
    let seen = checks.read.map_or(never(read), |c| looked(&c, now));
    let mut lines = vec![format!("  checked     {checked}"), format!("  {head} {seen}")];
    if is_loss(checks) {
        let text = "`lavatube check --read-data` names the files, and takes this back if they can be had again";
        lines.push(format!("              {text}"));
    }
    lines
}

fn warn_of_recovery_key(keyring: &Keyring, screen: &Screen) {
    if keyring.recovery_path().exists() {
        screen.warn(&format!(
            "the recovery key still lies in {}: print it, keep it far away, delete the file",
            keyring.recovery_path().display()
        ));
    }
}

/// When this machine last finished a backup: its newest copy of a manifest. The records in the vault would need the read
/// key.
fn last_backup(state: &Path) -> Option<WallTime> {
    let files = std::fs::read_dir(state.join("manifests")).ok()?;
    let times = files.filter_map(|f| f.ok()?.metadata().ok()).map(|m| WallTime { s: m.mtime(), ns: 0 });
    times.max()
}

/// Drives that are there and whose card or journal is not what it should be: any of the others' will do until then.
pub fn worn(report: &OpenReport) -> Vec<(String, &'static str)> {
    let there = report.drives.iter().filter(|d| d.state == DriveState::Present);
    let worn = there.filter_map(|d| match (d.card_whole, d.journal_current) {
        (true, true) => None,
        (false, true) => Some((d.label.clone(), "its card is damaged")),
        (true, false) => Some((d.label.clone(), "its journal is damaged or behind the others")),
        (false, false) => Some((d.label.clone(), "its card and its journal are damaged")),
    });
    worn.collect()
}

/// One word and an explanation.
pub fn drive_state(drive: &DriveStatus) -> (&'static str, String) {
    match &drive.state {
        DriveState::Present => match drive.distrust {
            None => ("present", String::new()),
            Some(why) => {
                let why = drive_care::why(why);
                ("in doubt", format!("{why}; it is used because the others are too few"))
            }
        },
        DriveState::Quarantined(why) => {
            ("quarantine", format!("{}; read last, until a full read", drive_care::why(*why)))
        }
        DriveState::Retired => ("retired", String::new()),
        DriveState::CardDamaged => ("card-damaged", "read, not written to".into()),
        DriveState::Blank => ("blank", "nothing of this vault on it: emptied, overwritten, or not mounted".into()),
        DriveState::Foreign => ("foreign", "it belongs to another vault and is left alone".into()),
        DriveState::Missing => ("missing", "its folder is not there".into()),
        DriveState::Suspect(e) => ("suspect", e.to_string()),
    }
}

/// Why a drive is in quarantine, in a word.
pub fn quarantine_word(why: Distrust) -> &'static str {
    match why {
        Distrust::Away => "away",
        Distrust::Slow => "slow",
        Distrust::Failed => "failed",
        Distrust::Wrong => "wrong",
    }
}

fn drives(found: &Found, screen: &Screen) -> Vec<String> {
    let width = |f: fn(&DriveStatus) -> &str, head: &str| {
        let longest = found.status.drives.iter().map(|d| f(d).chars().count()).max().unwrap_or(0);
        longest.max(head.len())
    };
    let (wl, ws, wm) = (width(|d| &d.label, "drive"), width(|d| &d.shelf, "shelf"), width(|d| &d.maker, "maker"));
    let head = format!("{:<wl$}  {:<12}  {:>8}  {:<ws$}  {:<wm$}  model", "drive", "state", "free", "shelf", "maker");
    let mut lines = vec![screen.ink(Ink::Bold, &head)];
    for drive in &found.status.drives {
        let (word, why) = found.state(drive);
        let padded = format!("{word:<12}");
        let ink = match word {
            "present" => Ink::Green,
            "retired" => Ink::Dim,
            "worn" | "quarantine" | "in doubt" => Ink::Yellow,
            _ => Ink::Red,
        };
        let word = screen.ink(ink, &padded);
        let free = drive.space.map_or("-".to_owned(), |s| units::bytes(s.free));
        let [label, shelf, maker, model] =
            [&drive.label, &drive.shelf, &drive.maker, &drive.model].map(|s| units::name(s.as_bytes()));
        let dash = |s: String| if s.is_empty() { "-".to_owned() } else { s };
        let line =
            format!("{label:<wl$}  {word}  {free:>8}  {:<ws$}  {:<wm$}  {}", dash(shelf), dash(maker), dash(model));
        lines.push(line.trim_end().to_owned());
        if !why.is_empty() {
            lines.push(format!("{:<wl$}  {why}", ""));
        }
    }
    if found.one_disk {
        lines.push("All drives are folders of one file system: parity mends rot and lost files there, not the loss of the disk.".into());
    }
    lines
}

fn redundancy(status: &Status, screen: &Screen) -> Vec<String> {
    let mut lines = vec![screen.ink(Ink::Bold, "redundancy")];
    let most = status.redundancy.iter().copied().max().unwrap_or(0).max(1);
    for (spare, n) in status.redundancy.iter().enumerate().rev().filter(|(_, n)| **n > 0) {
        let bar = "▪".repeat(usize::try_from(n * 24 / most).unwrap_or(0).max(1));
        let ink = if spare >= usize::from(status.m) { Ink::Green } else { Ink::Yellow };
        let what = format!("outlive the loss of {spare} more {}", if spare == 1 { "drive" } else { "drives" });
        lines.push(format!("  {:>10}  {what:<36} {}", units::count(*n), screen.ink(ink, &bar)));
    }
    if status.lost > 0 {
        let text =
            format!("  {:>10}  cannot be read wholly: too few of their drives are there", units::count(status.lost));
        lines.push(screen.ink(Ink::Red, &text));
    }
    if status.objects == 0 {
        lines.push("  nothing is stored yet".into());
    }
    lines
}

fn keys(keyring: &Keyring) -> String {
    let read = keyring.read_path().exists();
    match (keyring.can_deposit(), read) {
        (true, true) => "deposit and read".into(),
        (true, false) => "deposit only: this machine can add and cannot read".into(),
        (false, true) => "read only: this machine can restore and cannot add".into(),
        (false, false) => "none".into(),
    }
}

/// What a check saw, and how long ago.
fn looked(check: &CheckRecord, now: WallTime) -> String {
    let age = units::ago(now.s.saturating_sub(check.time.s));
    let saw = match check.snapshots {
        Some(n) => units::things(n, "snapshot", "snapshots"),
        None => "drives only, without the read key".to_owned(),
    };
    let read = match check.share {
        0 => String::new(),
        WHOLE_SHARE => format!(", every byte read ({})", units::bytes(check.bytes)),
        share => format!(", {:.1} % read ({})", f64::from(share) / 10_000.0, units::bytes(check.bytes)),
    };
    let objects = || units::things(check.unsound, "object", "objects");
    let verdict = match check.verdict {
        Verdict::Sound => "nothing was wrong".to_owned(),
        Verdict::Mended => format!("damage in {}, all of it mended", objects()),
        Verdict::Damaged => format!("damage in {}, no file lost", objects()),
        Verdict::Lost if check.files == 0 => "data were lost".to_owned(),
        Verdict::Lost => format!("{} lost", units::things(check.files, "file", "files")),
    };
    format!("{age}: {saw}{read}; {verdict}")
}

fn check_to_json(check: &CheckRecord, now: WallTime) -> serde_json::Value {
    let verdict = match check.verdict {
        Verdict::Sound => "sound",
        Verdict::Mended => "mended",
        Verdict::Damaged => "damaged",
        Verdict::Lost => "lost",
    };
    json!({
        "time": date::rfc3339(check.time),
        "age": now.s.saturating_sub(check.time.s),
        "verdict": verdict,
        "snapshots": check.snapshots,
        "share": f64::from(check.share) / f64::from(WHOLE_SHARE),
        "bytes": check.bytes,
        "packs": check.packs,
        "not_whole": check.unsound,
        "files": check.files,
    })
}

fn keys_in_json(keyring: &Keyring) -> serde_json::Value {
    json!({
        "path": keyring.folder().to_string_lossy(),
        "deposit": keyring.can_deposit(),
        "read": keyring.read_path().exists(),
        "recovery_file": keyring.recovery_path().exists().then(|| keyring.recovery_path().to_string_lossy().into_owned()),
    })
}

fn answer(found: &Found, keyring: &Keyring, settings: &Settings, end: End) -> serde_json::Value {
    let status = &found.status;
    let drive = |d: &DriveStatus| {
        json!({
            "label": d.label,
            "shelf": d.shelf,
            "maker": d.maker,
            "model": d.model,
            "folder": found.folders.get(d.slot).map(|f| f.to_string_lossy()),
            "state": drive_state(d).0,
            "quarantine": d.distrust.map(quarantine_word),
            "worn": found.worn.iter().find(|(label, _)| *label == d.label).map(|(_, why)| *why),
            "free": d.space.map(|s| s.free),
            "total": d.space.map(|s| s.total),
        })
    };
    json!({
        "vault": {
            "path": settings.places.vault.to_string_lossy(),
            "id": found.id,
            "data": status.k,
            "parity": status.m,
            "objects": status.objects,
            "bytes": status.bytes,
        },
        "drives": status.drives.iter().map(drive).collect::<Vec<_>>(),
        "redundancy": status.redundancy,
        "lost": status.lost,
        "one_disk": found.one_disk,
        "releases": found.releases.answer(),
        "log": log::to_json(&found.log.0),
        "log_alarm": found.log.1.as_ref().map(log::standing_to_json),
        "waiting": found.waiting,
        "last": found.last.map(date::rfc3339),
        "checked": found.checks.last.map(|c| check_to_json(&c, found.now)),
        "read": found.checks.read.map(|c| check_to_json(&c, found.now)),
        "still_there": found.audits.passed.map(|a| audit::to_json(&a, found.now)),
        "not_proved": found.audits.failed.map(|a| audit::to_json(&a, found.now)),
        "keys": keys_in_json(keyring),
        "state": settings.places.state.to_string_lossy(),
        "config": settings.config_file.as_ref().map(|c| c.to_string_lossy()),
        "exit": end.status(),
    })
}
