//! `lavatube restore`: brings a snapshot, or a part of it, back into a folder. Step 21 of the walk from the terminal.
//!
//! Must not know how anything is fetched or written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lavatube_client::fault::Fault;
use lavatube_client::meter::Meter;
use lavatube_client::restore::{DIRECTORY_THERE, Failed, Outcome, Overwrite, RestoreRequest};
use lavatube_node::clock;
use serde_json::json;

use crate::archive::{self, Named, ReadArgs, lost_in_words};
use crate::blame::condition;
use crate::errors::{Condition, End, Failure};
use crate::patterns::Patterns;
use crate::roots::{self, Ours, listing, with_path};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::ls::lost_to_json;
use crate::{date, units};

/// Bring files back from a snapshot.
///
/// Everything lands below the target folder: a snapshot of /home/ann/photos becomes TARGET/photos. Nothing that is there
/// is overwritten unless you say so, and no link in the target is followed. A directory that stands where something else
/// was saved is never removed, whatever you say: move it away. Cut short, it carries on when run again: what has the
/// right size and time, and then also the right content, counts as done. Every file's content is verified; a file that
/// fails does not get its name. A hidden file .lavatube-restoring-… is in the target while a restore is under way.
/// Of a far vault only what is missing here is asked for, at once; run again after a cut, what came is here.
/// `lavatube help patterns` explains patterns.
///
/// JSON fields: snapshot, time, target, files, directories, others, links, bytes, already_there, kept and
/// failed [{path, fault, reason}], lost [{from, until, reason}], warnings {count, entries [{path, text}]}, hurt_drives,
/// link {requests, bytes_asked}, stopped, seconds, exit. The bytes of a path that is no UTF-8 are in path_hex (from_hex, until_hex). A fault is lost, vault-away, wrong-key, this-machine, full, taken or target.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    /// A snapshot (latest, latest~1, or the first digits of its id), and a path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    spec: PathBuf,
    /// Folder to restore into; made when it is missing
    #[arg(long, short, value_name = "DIR")]
    target: PathBuf,
    /// Only what PATTERN means, and all below it. Repeat it for each
    #[arg(long, short, value_name = "PATTERN")]
    include: Vec<String>,
    /// Not what PATTERN means, nor what is below it. Repeat it for each
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// What to do with files that are there already; directories are never removed
    #[arg(long, value_name = "WHEN", default_value = "never")]
    overwrite: When,
    #[command(flatten)]
    read_key: ReadArgs,
}

/// When to replace what is there.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum When {
    /// Leave it
    Never,
    /// Replace it unless kind, size and time are the same
    Changed,
    /// Replace it
    Always,
}

const EXAMPLES: &str = "Examples:
  lavatube restore latest --target ~/back
  lavatube restore latest:/home/ann/photos --target /home/ann --overwrite changed
  lavatube restore 3f2a9c1e --target ~/back --include '*.jpg' --exclude thumbs/
  lavatube restore latest --target ~/back --read-key /media/stick/read.key";

/// Restores.
///
/// # Errors
/// When it could not begin, or had to stop.
pub fn run(args: &RestoreArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let begin = Instant::now();
    let target = settings.here.join(&args.target);
    let place = roots::path_in_tree(&target).unwrap_or_default();
    if let Some(what) = Ours::new(&settings.places).holder(&place) {
        let what = format!("{} belongs to the {what}: nothing is restored into it", target.display());
        return Err(Failure::new(Condition::Usage, what).hint("name another --target"));
    }
    let (include, exclude) = (Patterns::new(&args.include)?, Patterns::new(&args.exclude)?);
    let reader = archive::open(settings, &args.read_key, "lavatube restore", false)?;
    let session = archive::session(&reader, screen)?;
    let named = archive::named(&session, archive::spec_bytes(&args.spec))?;
    make_target(&target)?;
    let select = |path: &[u8], directory: bool| {
        (include.is_empty() || include.choose_with_parents(path, directory))
            && (exclude.is_empty() || !exclude.choose_with_parents(path, directory))
    };
    let overwrite = match args.overwrite {
        When::Never => Overwrite::Never,
        When::Changed => Overwrite::IfChanged,
        When::Always => Overwrite::Always,
    };
    let inside = named.path.as_deref();
    let request = RestoreRequest {
        snapshot: named.listed.place.id,
        inside,
        select: &select,
        overwrite,
        doubt: false,
        booted: clock::booted(),
    };
    let selection = format!("{:?}", (&args.include, &args.exclude));
    let meter = Meter::default();
    let outcome = archive::reading(&reader, screen, "restoring", &meter, || {
        session.restore(&target, request, selection.as_bytes(), settings.workers(), &meter).map_err(Failure::from)
    })?;
    let hurt = reader.side.hurt();
    if let Some(far) = reader.side.far().filter(|_| outcome.stopped.is_none()) {
        far.forget_pieces();
    }
    let done = Done {
        asked: reader.side.far().map(|far| (far.tally().errands(), far.tally().asked_len())),
        named: &named,
        target: &target,
        outcome: &outcome,
        hurt: &hurt,
        holes: meter.holes.now(),
        took: begin.elapsed(),
    };
    done.show(screen)?;
    done.warn(screen);
    match done.failure() {
        Some(failure) => Err(failure),
        None => {
            screen.answer(&done.answer())?;
            Ok(done.end())
        }
    }
}

fn make_target(target: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(target)
        .map_err(|e| Failure::new(Condition::Io, format!("the target {} cannot be made: {e}", target.display())))
}

struct Done<'a> {
    /// Requests that went over a link, and the bytes that they asked for.
    asked: Option<(u64, u64)>,
    named: &'a Named,
    target: &'a Path,
    outcome: &'a Outcome,
    /// Drives with missing or damaged shards.
    hurt: &'a BTreeSet<String>,
    /// Bytes of holes, which took no time.
    holes: u64,
    took: Duration,
}

impl Done<'_> {
    /// Ways to end that leave the job undone.
    fn failure(&self) -> Option<Failure> {
        let outcome = self.outcome;
        if let Some(why) = &outcome.stopped {
            let what = format!("the restore stopped early: {}", why.reason);
            let hint = "put that right and run it again: it carries on where it stopped";
            return Some(Failure::new(condition(why.fault), what).hint(hint));
        }
        let nothing = outcome.files + outcome.others + outcome.links + outcome.already_there == 0;
        if nothing && !outcome.kept.is_empty() && outcome.failed.is_empty() && outcome.lost.is_empty() {
            let what = format!("all of it is in {} already, and differs", self.target.display());
            let hint = match (self.in_the_way(), outcome.kept.len()) {
                (0, _) => "--overwrite changed replaces what differs; or name another --target",
                (dirs, all) if dirs == all => "move the directories that are in the way; or name another --target",
                _ => {
                    "--overwrite changed replaces what differs, but no directory: move those away; or name another --target"
                }
            };
            return Some(Failure::new(Condition::Exists, what).hint(hint));
        }
        None
    }

    /// How many entries are not restored because a directory is in their place.
    fn in_the_way(&self) -> usize {
        self.outcome.kept.iter().filter(|f| f.reason == DIRECTORY_THERE).count()
    }

    fn end(&self) -> End {
        let outcome = self.outcome;
        // The vault's fault is lost data; the target's (names, rights) is something to mend there.
        if !outcome.lost.is_empty() || outcome.failed.iter().any(|f| f.fault == Fault::Lost) {
            End::Lost
        } else if !outcome.is_whole() {
            End::Partly
        } else {
            End::Done
        }
    }

    fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let (outcome, listed) = (self.outcome, &self.named.listed);
        let head = format!("restored {}", listed.place.id.short());
        let time = date::rfc3339(listed.snapshot.time);
        screen.tell(&format!("{}  {time}  into {}", screen.ink(Ink::Bold, &head), self.target.display()))?;
        let rate = (outcome.bytes.saturating_sub(self.holes) as f64 / self.took.as_secs_f64().max(0.001)) as u64;
        let took = match outcome.bytes {
            0 => units::span(self.took),
            _ => format!("{} at {}/s", units::span(self.took), units::bytes(rate)),
        };
        let verified = if outcome.files > 0 { "every one verified" } else { "" };
        let rows = [
            ("files", units::count(outcome.files), verified, true),
            ("hard links", units::count(outcome.links), "further names of files", outcome.links > 0),
            ("directories", units::count(outcome.directories), "", true),
            ("others", units::count(outcome.others), "links, pipes, devices, sockets", outcome.others > 0),
            (
                "there",
                units::count(outcome.already_there),
                "same kind, size and time already",
                outcome.already_there > 0,
            ),
            ("size", units::bytes(outcome.bytes), &took, true),
        ];
        for (name, value, note, _) in rows.into_iter().filter(|r| r.3) {
            let line = format!("  {name:<11} {value:>10}  {}", screen.ink(Ink::Dim, note));
            screen.tell(line.trim_end())?;
        }
        if let Some((requests, len)) = self.asked {
            let what = format!("asked for in {}", units::things(requests, "request", "requests"));
            screen.tell(&format!("  {:<11} {:>10}  {}", "link", units::bytes(len), screen.ink(Ink::Dim, &what)))?;
        }
        if outcome.is_whole() {
            let all = screen.ink(Ink::Green, "whole");
            screen.tell(&format!("{all}: everything that was asked for is there."))?;
        }
        Ok(())
    }

    fn warn(&self, screen: &Screen) {
        let outcome = self.outcome;
        let list = |what: &str, items: &[Failed], max: usize| {
            if !items.is_empty() {
                screen.warn(what);
                let lines = items.iter().map(|f| (&f.path[..], &f.reason[..]));
                listing(lines, items.len() as u64, max).iter().for_each(|line| screen.note(line));
            }
        };
        if !self.hurt.is_empty() {
            let drives = self.hurt.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            screen.warn(&format!("shards on {drives} are missing or damaged (`lavatube check --read-data` says more)"));
        }
        let n = |items: &[Failed]| units::things(items.len() as u64, "entry", "entries");
        // What is lost is named to the last file.
        list(&format!("{} could not be restored:", n(&outcome.failed)), &outcome.failed, usize::MAX);
        let advice = match (self.in_the_way(), outcome.kept.len()) {
            (0, _) => " (--overwrite changed replaces it)",
            (dirs, all) if dirs == all => "",
            _ => " (--overwrite changed replaces it, unless it is a directory)",
        };
        let kept = format!("{} not restored, because something else is there{advice}:", n(&outcome.kept));
        list(&kept, &outcome.kept, SHOWN_MAX);
        for lost in &outcome.lost {
            screen.warn(&format!("a part of the snapshot cannot be read: {}", lost_in_words(lost)));
        }
        if outcome.warnings_total > 0 {
            let details = units::things(outcome.warnings_total, "detail", "details");
            screen.warn(&format!("{details} could not be set:"));
            let lines = outcome.warnings.iter().map(|w| (&w.path[..], &w.text[..]));
            listing(lines, outcome.warnings_total, SHOWN_MAX).iter().for_each(|line| screen.note(line));
        }
    }

    fn answer(&self) -> serde_json::Value {
        let outcome = self.outcome;
        let entries = |items: &[Failed]| {
            let entry = |f: &Failed| with_path(&f.path, json!({ "fault": word(f.fault), "reason": f.reason }));
            items.iter().map(entry).collect::<Vec<_>>()
        };
        let warnings = outcome.warnings.iter().map(|w| with_path(&w.path, json!({ "text": w.text })));
        json!({
            "snapshot": self.named.listed.place.id.to_string(),
            "time": date::rfc3339(self.named.listed.snapshot.time),
            "target": self.target.to_string_lossy(),
            "files": outcome.files,
            "directories": outcome.directories,
            "others": outcome.others,
            "links": outcome.links,
            "bytes": outcome.bytes,
            "already_there": outcome.already_there,
            "kept": entries(&outcome.kept),
            "failed": entries(&outcome.failed),
            "lost": outcome.lost.iter().map(lost_to_json).collect::<Vec<_>>(),
            "warnings": { "count": outcome.warnings_total, "entries": warnings.collect::<Vec<_>>() },
            "hurt_drives": self.hurt,
            "link": self.asked.map(|(requests, len)| json!({ "requests": requests, "bytes_asked": len })),
            "stopped": outcome.stopped.as_ref().map(|why| &why.reason),
            "seconds": self.took.as_secs_f64(),
            "exit": self.end().status(),
        })
    }
}

/// A fault as a word that programs may rely on.
fn word(fault: Fault) -> &'static str {
    match fault {
        Fault::Lost => "lost",
        Fault::Away => "vault-away",
        Fault::Key => "wrong-key",
        Fault::Here => "this-machine",
        Fault::Full => "full",
        Fault::Taken => "taken",
        Fault::Target => "target",
    }
}

const SHOWN_MAX: usize = 10;
