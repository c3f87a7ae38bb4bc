//! `lavatube vault scrub`: reads every byte of the vault and mends what is damaged, at the pace it is told. Must not know how.

use std::time::Duration;

use lavatube_client::meter::Meter;
use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord};
use lavatube_node::drive_care;
use lavatube_node::scrubbing::{self, ScrubRun, Scrubbed};
use lavatube_vault::ShardHealth;
use lavatube_vault::scrub::{Looked, Pace};
use serde_json::{Value, json};

use lavatube_format::mandate::Task;

use super::afar::{self, TellArgs};
use super::scrubbed::{read_in, scrub_to_json, verdict};
use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::check::{kind, shard_to_json};
use crate::{daemon, progress, quantities, units};

/// Read every byte of every object, and mend what is damaged
///
/// Each block of each shard is read from its drive and compared with its hash. Damaged and missing shards on drives that are there are written anew
/// from the object's verified bytes, and read again; nothing is replaced that was not verified. Shards of drives that are away are left to `lavatube vault repair`:
/// a drive that is only unplugged must not cause everything to be written again.
///
/// Drives in quarantine are read like the others, and mended; one that was there from the beginning to the end and is right then is trusted again. A drive on which
/// three shards and more were wrong in this and in the scrub before, or that is ten times as slow as the others, is put in quarantine: nothing new is written to it.
///
/// Interrupted, killed or out of time, the next scrub goes on where it was. While it rests, for --rate or --tranquility, other commands may use the vault. When it
/// began and ended and what it found is kept, and shown by `lavatube vault status`.
///
/// A vault at the other end of a link is told to, by a mandate that the recovery key signs: it scrubs for days perhaps, and `lavatube vault status` shows how far it is. There
/// a part of --tranquility is a whole per cent.
///
/// Exit status: 0 nothing is wrong; 4 damage was found, and was mended or can be; 5 objects are lost, and named.
///
/// JSON fields: complete, resumed (objects that earlier runs looked at), ahead {objects, bytes}, scrub {began, until, end (open, whole, dropped), worked_s, objects, bytes, read,
/// not_whole, degraded, mended, left, lost, lost_ids, drives [{label, damaged, missing, away, left, on_trial}]} (all its runs together), renewed and not_renewed (drives whose card or
/// journal was written anew, or could not be), cleared (shards that were moved, removed where they were before), admitted and held (drives that left quarantine, or were put there), not_whole [{object, kind, restorable, lost, found, away, mended and left [shards {shard, drive, state, blocks}], reason}] (of this run, 1000 at
/// most), exit. Of a vault at the other end of a link: mandate {number, task, stage (unanswered, waiting, under-way, done, in-part, failed), since_unix_s, done, total, text}, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ScrubArgs {
    /// Bytes to read from all drives in a second at most
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
    /// The share of the time to rest
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = quantities::share)]
    tranquility: f64,
    /// Stop after this time, wherever it is; the next scrub goes on there
    #[arg(long = "for", value_name = "TIME", value_parser = quantities::seconds)]
    time: Option<f64>,
    /// Begin anew, even if one is under way
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    tell: TellArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube vault scrub
  lavatube vault scrub --rate 50MB --for 2h      each night a part
  lavatube vault scrub --tranquility 80%         beside other work
  lavatube vault scrub --rate 50MB --recovery-key /media/stick/recovery-key.txt   a vault far away
  lavatube vault scrub --json | jq .scrub";

/// Scrubs.
///
/// # Errors
/// When the vault is not there, in use, or its folder fails. What is found is no error.
pub(super) fn run(args: &ScrubArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    if afar::is_afar(&args.tell, settings)? {
        let task = Task::Scrub {
            bytes_s: args.rate.unwrap_or(0),
            rest_percent: (args.tranquility * 100.0).round().clamp(0.0, 99.0) as u8,
            for_s: args.time.map_or(0, |s| s.ceil() as u64),
            anew: args.anew,
        };
        return afar::tell(|_| Ok(task.clone()), &args.tell, settings, screen);
    }
    let stop = daemon::stop_flag()?;
    let run = ScrubRun {
        pace: Pace { bytes_s: args.rate, rest: args.tranquility },
        time: args.time.map(Duration::from_secs_f64),
        anew: args.anew,
        wait: settings.lock_wait,
        stop: &stop,
    };
    let meter = Meter::default();
    let mut listed = Vec::new();
    let mut each = |looked: &Looked| {
        if listed.len() < LISTED_MAX {
            listed.push(looked.clone());
        }
    };
    let work = || scrubbing::scrub(&settings.places.vault, &run, &meter, &mut each);
    let done = progress::during(screen, "scrubbing", &meter, work)?;
    if let Some(text) = &done.not_kept {
        screen.warn(&format!("where this scrub was could not be noted, and the next one begins anew: {text}"));
    }
    show(&done, &listed, screen)?;
    screen.answer(&answer(&done, &listed))?;
    Ok(end(&done))
}

fn end(done: &Scrubbed) -> End {
    let record = &done.record;
    match () {
        () if record.lost > 0 => End::Lost,
        () if record.unsound + record.degraded > 0 => End::Damaged,
        () if !done.judged.held.is_empty() => End::Damaged,
        () if !done.renewed.readopted.is_empty() || !done.renewed.not_readopted.is_empty() => End::Damaged,
        () => End::Done,
    }
}

fn show(done: &Scrubbed, listed: &[Looked], screen: &Screen) -> Result<(), Failure> {
    // While a drive is away every object lacks it: that is said once.
    let told_of: Vec<_> =
        listed.iter().filter(|l| !l.found.is_empty() || !l.restorable || l.refused.is_some()).collect();
    for looked in told_of.iter().take(SHOWN_MAX) {
        screen.say(&told(looked, screen))?;
    }
    if told_of.len() > SHOWN_MAX {
        screen
            .say(&format!("… and {} more", units::things((told_of.len() - SHOWN_MAX) as u64, "object", "objects")))?;
    }
    for label in &done.renewed.readopted {
        screen.say(&format!("{}: card and journal were written anew", units::name(label.as_bytes())))?;
    }
    for (label, why) in &done.renewed.not_readopted {
        screen.say(&screen.ink(Ink::Yellow, &format!("{}: {why}", units::name(label.as_bytes()))))?;
    }
    for slot in &done.judged.admitted {
        let text = format!("{}: read wholly and right, it is trusted again", done.label(*slot));
        screen.say(&screen.ink(Ink::Green, &text))?;
    }
    if done.judged.cleared > 0 {
        let shards = units::things(done.judged.cleared, "shard", "shards");
        screen.tell(&format!(
            "{shards} that had been moved and proved themselves in two scrubs were removed where they were before"
        ))?;
    }
    for (slot, why) in &done.judged.held {
        let text = format!("{}: in quarantine from now on: {}", done.label(*slot), drive_care::why(*why));
        screen.say(&screen.ink(Ink::Yellow, &text))?;
    }
    let record = &done.record;
    let whole = record.end == ScrubEnd::Whole;
    let head = if whole { "scrubbed" } else { "scrubbed in part" };
    screen.tell(&format!("{}: {}", screen.ink(Ink::Bold, head), read_in(record)))?;
    if done.resumed > 0 {
        screen.tell(&format!(
            "  went on behind {} that were read before",
            units::things(done.resumed, "object", "objects")
        ))?;
    }
    let (ink, text) = verdict(record);
    screen.tell(&format!("  {}", screen.ink(ink, &text)))?;
    if !whole {
        let (objects, bytes) = done.ahead;
        screen.tell(&format!(
            "  {} ahead, {} before parity: the next scrub goes on there",
            units::things(objects, "object", "objects"),
            units::bytes(bytes)
        ))?;
    }
    if let Some(hint) = hint(record) {
        screen.tell(&format!("  {hint}"))?;
    }
    Ok(())
}

/// What to do about it.
fn hint(record: &ScrubRecord) -> Option<&'static str> {
    match () {
        () if record.lost > 0 => {
            Some("`lavatube check --read-data` names the files that are touched; keep every drive, even broken ones")
        }
        () if record.degraded > 0 => {
            Some("bring the drives back, or `lavatube vault repair` writes their shards to others")
        }
        () if record.left > 0 => Some("`lavatube vault repair` writes them to other drives if it can"),
        () => None,
    }
}

/// An object in a line.
fn told(looked: &Looked, screen: &Screen) -> String {
    let labels = |shards: &[ShardHealth]| {
        let mut all: Vec<String> = shards.iter().map(|s| units::name(s.label.as_bytes())).collect();
        all.sort();
        all.dedup();
        all.retain(|label| !label.is_empty());
        all.join(", ")
    };
    let mut parts = Vec::new();
    if !looked.mended.is_empty() {
        parts.push(format!("mended on {}", labels(&looked.mended)));
    }
    if !looked.left.is_empty() {
        parts.push(format!("not mended on {}", labels(&looked.left)));
    }
    if !looked.away.is_empty() {
        let on = labels(&looked.away);
        parts.push(if on.is_empty() { "has too few drives".into() } else { format!("lacks {on}") });
    }
    if let Some(why) = &looked.refused {
        parts.push(why.to_string());
    }
    let (ink, word) = match () {
        () if looked.lost => (Ink::Red, "lost"),
        () if !looked.restorable => (Ink::Red, "not readable now"),
        () if looked.left.is_empty() && looked.away.is_empty() => (Ink::Green, "mended"),
        () => (Ink::Yellow, "degraded"),
    };
    format!("{}  {} {}: {}", screen.ink(ink, word), kind(looked.kind), looked.id.short(), parts.join("; "))
}

fn answer(done: &Scrubbed, listed: &[Looked]) -> Value {
    let labels = |found: &ScrubDrive| done.labels.get(&found.drive).cloned();
    let shards = |shards: &[ShardHealth]| shards.iter().map(shard_to_json).collect::<Vec<_>>();
    let object = |l: &Looked| {
        json!({
            "object": l.id.to_string(),
            "kind": kind(l.kind),
            "restorable": l.restorable,
            "lost": l.lost,
            "found": shards(&l.found),
            "away": shards(&l.away),
            "mended": shards(&l.mended),
            "left": shards(&l.left),
            "reason": l.refused.as_ref().map(ToString::to_string),
        })
    };
    let not_renewed = done.renewed.not_readopted.iter().map(|(label, why)| json!({ "drive": label, "reason": why }));
    json!({
        "complete": done.record.end == ScrubEnd::Whole,
        "resumed": done.resumed,
        "ahead": { "objects": done.ahead.0, "bytes": done.ahead.1 },
        "scrub": scrub_to_json(&done.record, &labels),
        "renewed": done.renewed.readopted,
        "cleared": done.judged.cleared,
        "admitted": done.judged.admitted.iter().map(|slot| done.label(*slot)).collect::<Vec<_>>(),
        "held": done.judged.held.iter().map(|(slot, _)| done.label(*slot)).collect::<Vec<_>>(),
        "not_renewed": not_renewed.collect::<Vec<_>>(),
        "not_whole": listed.iter().map(object).collect::<Vec<_>>(),
        "exit": end(done).status(),
    })
}

/// Reads `30d`: more than nothing.
pub(super) fn every(text: &str) -> Result<Duration, String> {
    let seconds = quantities::seconds(text)?;
    if seconds >= 1.0 {
        Ok(Duration::from_secs_f64(seconds.min(CENTURY_S)))
    } else {
        Err("a second at least: 30d".into())
    }
}

/// Reads `50MB`: more than nothing.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let size = quantities::size(text.strip_suffix("/s").unwrap_or(text))?;
    if size > 0 { Ok(size) } else { Err("a rate is more than nothing: 50MB".into()) }
}

const CENTURY_S: f64 = 3.2e9;
/// Objects that are listed on the screen, and in JSON.
const SHOWN_MAX: usize = 20;
const LISTED_MAX: usize = 1000;
