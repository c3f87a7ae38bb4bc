//! `lavatube audit`: has the vault prove that it still has every byte, and remembers what came of it.
//!
//! Step 18 of the walk from the terminal. Must not know how a proof is made or judged.

use lavatube_base::ObjectId;
use lavatube_base::time::WallTime;
use lavatube_client::audit::{Bad, Fault, Report};
use lavatube_client::check::{self, Damage};
use lavatube_client::meter::Meter;
use lavatube_format::audit_record::{AuditRecord, Outcome};
use lavatube_node::audits::{self, Standing};
use lavatube_node::clock;
use lavatube_node::reader::Session;
use serde_json::{Value, json};

use crate::archive::{self, ReadArgs};
use crate::date;
use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};
use crate::verbs::check::report;
use crate::verbs::spot;

/// Have the vault prove that it still has every byte
///
/// The vault reads all that was backed up and answers with 16 KiB, however much it is; this machine's keys tell whether
/// the answer is right, without any of the data. What cannot be read, or is not proved, is named. `lavatube status` says
/// *still there* because of it and nothing else. An audit that was stopped goes on where it was. A vault at the other end of a
/// link proves between other things: this waits for it, hours where there is much to read; stopped and begun again, it
/// waits on.
///
/// It proves the data, not the parity: `lavatube check --read-data` at the vault's machine looks at that. Sessions from before
/// there were tags have none, and no proof covers their packs.
///
/// With --spot the vault shows some slices of 1 KiB that a fresh nonce picks, with the hashes that lead to their packs' ids: a sample, which needs no
/// tags, and which anyone can check who is given the answer. It tells how sure it is, and is no proof that all is there.
///
/// Exit status: 0 all is proved; 4 something cannot be read while drives are away, or the vault lost tags and an audit cannot
/// tell; 5 something is lost, or the proof is wrong.
///
/// JSON fields: outcome (passed, away or failed), manifests, packs, bytes, untagged, untagged_bytes, later,
/// answers, sent, received, bad [{manifest, pack, why}], files, lost and unreadable as `check` has them, exit; with --history: audits
/// [{time, age, outcome, manifests, packs, bytes, untagged, bad, received}], exit; with --spot: slices, packs, bytes, missed [{pack, slice, why}],
/// certainty (of seeing that 1 % is gone), sent, received, saved, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// List the audits that this machine remembers
    #[arg(long)]
    history: bool,
    /// Only a sample: this many slices of 1 KiB that chance picks (up to 1024), or as many as fit an answer of this size (200KB)
    #[arg(long, value_name = "N|SIZE", value_parser = crate::verbs::spot::parse, conflicts_with = "history")]
    spot: Option<usize>,
    /// Keep the answer of --spot in FILE: anyone can check it there with `lavatube verify FILE`
    #[arg(long, value_name = "FILE", requires = "spot")]
    save: Option<std::path::PathBuf>,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube audit                     every byte, proved with 16 KiB
  lavatube audit --history
  lavatube audit --spot 500 --save sample.spot   a sample, for others to check
  lavatube audit --json | jq .outcome";

/// Audits.
///
/// # Errors
/// When the audit could not be done; what it finds is no error.
pub fn run(args: &AuditArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    if args.history {
        return history(settings, screen);
    }
    // What was known before says nothing about what is there now.
    let read_key = ReadArgs { refresh: true, ..args.read_key.clone() };
    let reader = archive::open(settings, &read_key, "lavatube audit", false)?;
    let session = archive::session(&reader, screen)?;
    if let Some(count) = args.spot {
        let save = args.save.as_ref().map(|file| settings.here.join(file));
        return spot::audit(&reader, &session, count, save.as_deref(), screen);
    }
    let meter = Meter::default();
    let audit = || session.audit(&meter).map_err(Failure::from);
    let report = archive::reading(&reader, screen, "the vault proves", &meter, audit)?;
    let damage = touched(&session, &report, screen)?;
    let record = record(&report);
    if report.manifests + report.bad.len() as u64 > 0
        && let Err(e) = audits::keep(reader.side.state(), &record)
    {
        // What was found is told, whatever becomes of the note.
        screen.warn(&format!("that this audit was done could not be noted: {e}"));
    }
    let end = end(&report);
    show(&report, &damage, screen)?;
    screen.answer(&answer(&report, &record, &damage, end))?;
    Ok(end)
}

/// The files that need what is not proved.
fn touched(session: &Session<'_>, report: &Report, screen: &Screen) -> Result<Damage, Failure> {
    let suspects = report.bad.iter().filter_map(|bad| Some((bad.pack?, bad)));
    let packs = suspects.map(|(pack, bad)| (pack, format!("pack {}: {}", pack.short(), why(bad.why)))).collect();
    let bad = check::Bad { packs, ..check::Bad::default() };
    if bad.packs.is_empty() {
        return Ok(Damage::default());
    }
    let meter = Meter::default();
    let look = || session.damage(&bad).map_err(Failure::from);
    crate::progress::during(screen, "looking for files that are touched", &meter, look)
}

fn record(report: &Report) -> AuditRecord {
    AuditRecord {
        time: clock::wall_now(),
        outcome: match &report.bad[..] {
            [] => Outcome::Passed,
            bad if bad.iter().all(may_be_there) => Outcome::Away,
            _ => Outcome::Failed,
        },
        manifests: report.manifests,
        packs: report.packs,
        bytes: report.bytes,
        untagged: report.untagged,
        bad: report.bad.len() as u64,
        answered: report.received,
    }
}

fn end(report: &Report) -> End {
    match &report.bad[..] {
        [] => End::Done,
        bad if bad.iter().all(may_be_there) => End::Damaged,
        _ => End::Lost,
    }
}

/// Whether drives that come back may bring it, or it is there and cannot be told.
fn may_be_there(bad: &Bad) -> bool {
    matches!(bad.why, Fault::Away | Fault::Tags)
}

fn why(fault: Fault) -> &'static str {
    match fault {
        Fault::Absent => "the vault does not have it",
        Fault::Lost => "the vault cannot read it any more",
        Fault::Away => "the vault cannot read it while drives are away",
        Fault::Tags => "the vault has lost its tags, so that no audit can tell",
        Fault::Wrong => "the vault's proof of it is wrong",
        Fault::Unasked => "not proved: so much is wrong that it was not asked for by name",
    }
}

fn code(fault: Fault) -> &'static str {
    match fault {
        Fault::Absent => "absent",
        Fault::Lost => "lost",
        Fault::Away => "away",
        Fault::Tags => "tags",
        Fault::Wrong => "wrong",
        Fault::Unasked => "unasked",
    }
}

fn show(report: &Report, damage: &Damage, screen: &Screen) -> Result<(), Failure> {
    for bad in report.bad.iter().take(NAMED_MAX) {
        let what = match bad.pack {
            Some(pack) => format!("pack {}", pack.short()),
            None => format!("manifest {}", bad.manifest.short()),
        };
        screen.say(&format!("{what}: {}", why(bad.why)))?;
    }
    if report.bad.len() > NAMED_MAX {
        screen
            .say(&format!("… and {} more (--json names all)", units::count((report.bad.len() - NAMED_MAX) as u64)))?;
    }
    report::touched(damage, screen)?;
    let covers = format!(
        "{} in {} of {}",
        units::bytes(report.bytes),
        things(report.packs, "pack", "packs"),
        things(report.manifests, "session", "sessions"),
    );
    let proof = format!(
        "proved with {} in {}, and a wrong proof passes once in 2^118",
        units::bytes(report.received),
        things(report.answers, "answer", "answers")
    );
    match end(report) {
        End::Done if report.manifests == 0 => screen.tell("Nothing is in the vault yet.")?,
        End::Done => screen.tell(&format!("{}: {covers}; {proof}", screen.ink(Ink::Green, "still there")))?,
        End::Damaged => screen.say(&format!(
            "{} As far as it can be told now, nothing is lost: {covers} are {proof}",
            screen.ink(Ink::Yellow, "Not all is proved.")
        ))?,
        _ => screen.say(&format!("{} The rest, {covers}, is {proof}", screen.ink(Ink::Red, "Not all is there.")))?,
    }
    if report.untagged > 0 {
        screen.tell(&format!(
            "not covered: {} of {} without tags, from before there were any; `lavatube check --read-data` reads them",
            things(report.untagged, "pack", "packs"),
            units::bytes(report.untagged_bytes)
        ))?;
    }
    if report.later > 0 {
        let later = things(report.later, "session that was", "sessions that were");
        screen.tell(&format!("not covered: {later} finished after this audit began; the next one does"))?;
    }
    Ok(())
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Away => "away",
        Outcome::Failed => "failed",
    }
}

fn answer(report: &Report, record: &AuditRecord, damage: &Damage, end: End) -> Value {
    let id = |id: &ObjectId| id.to_string();
    let bad = report
        .bad
        .iter()
        .map(|bad| json!({ "manifest": id(&bad.manifest), "pack": bad.pack.as_ref().map(id), "why": code(bad.why) }));
    let [files, lost, unreadable] = report::touched_to_json(damage);
    json!({
        "outcome": outcome(record.outcome),
        "manifests": report.manifests,
        "packs": report.packs,
        "bytes": report.bytes,
        "untagged": report.untagged,
        "untagged_bytes": report.untagged_bytes,
        "later": report.later,
        "answers": report.answers,
        "sent": report.sent,
        "received": report.received,
        "bad": bad.collect::<Vec<_>>(),
        "files": files,
        "lost": lost,
        "unreadable": unreadable,
        "exit": end.status(),
    })
}

/// The audits that are remembered.
fn history(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let (all, now) = (audits::history(&settings.places)?, clock::wall_now());
    if all.is_empty() {
        screen.say("No audit was done from this machine yet: `lavatube audit` does.")?;
    }
    for audit in all.iter().rev() {
        screen.say(&format!("{}  {}", date::rfc3339(audit.time), in_words(audit, screen)))?;
    }
    let audits: Vec<_> = all.iter().map(|audit| to_json(audit, now)).collect();
    screen.answer(&json!({ "audits": audits, "exit": 0 }))?;
    Ok(End::Done)
}

/// What an audit found, in a line.
fn in_words(audit: &AuditRecord, screen: &Screen) -> String {
    let covers = format!("{} in {}", units::bytes(audit.bytes), things(audit.packs, "pack", "packs"));
    let bad = || things(audit.bad, "object", "objects");
    let found = match audit.outcome {
        Outcome::Passed => screen.ink(Ink::Green, "all of it there"),
        Outcome::Away => screen.ink(Ink::Yellow, &format!("{} could not be told", bad())),
        Outcome::Failed => screen.ink(Ink::Red, &format!("{} not proved or lost", bad())),
    };
    let beside = match audit.untagged {
        0 => String::new(),
        n => format!("; {} without tags not covered", things(n, "pack", "packs")),
    };
    format!("{covers}, proved with {}: {found}{beside}", units::bytes(audit.answered))
}

/// What `status` says of it: that all is *still there*, and since when that was proved. Not so when an audit since then, or a
/// check, found something lost (`doubt`).
pub fn standing(standing: &Standing, doubt: bool, now: WallTime, screen: &Screen) -> Vec<String> {
    let ago = |audit: &AuditRecord| units::ago(now.s.saturating_sub(audit.time.s));
    let mut lines = Vec::new();
    if let Some(failed) = &standing.failed {
        let head = match failed.outcome {
            Outcome::Failed => screen.ink(Ink::Red, "not there  "),
            _ => screen.ink(Ink::Yellow, "not proved "),
        };
        lines.push(format!("  {head} {}: {}", ago(failed), in_words(failed, screen)));
    }
    let is_doubted = doubt || standing.failed.is_some();
    lines.push(match &standing.passed {
        Some(passed) => {
            let head = if is_doubted { "was there  " } else { "still there" };
            format!("  {head} {}: {}", ago(passed), in_words(passed, screen))
        }
        None => "  proved      never to this machine: `lavatube audit` asks for it".into(),
    });
    lines
}

/// What a backup says of it at its end, where nothing since then speaks against it.
pub fn proved(standing: &Standing, now: WallTime, screen: &Screen) -> Option<String> {
    let passed = standing.passed.filter(|_| standing.failed.is_none())?;
    let ago = units::ago(now.s.saturating_sub(passed.time.s));
    let (bytes, packs) = (units::bytes(passed.bytes), things(passed.packs, "pack", "packs"));
    Some(format!("{}: {bytes} in {packs}, as the vault proved {ago}", screen.ink(Ink::Green, "still there")))
}

/// An audit as JSON.
pub fn to_json(audit: &AuditRecord, now: WallTime) -> Value {
    json!({
        "time": date::rfc3339(audit.time),
        "age": now.s.saturating_sub(audit.time.s),
        "outcome": outcome(audit.outcome),
        "manifests": audit.manifests,
        "packs": audit.packs,
        "bytes": audit.bytes,
        "untagged": audit.untagged,
        "bad": audit.bad,
        "received": audit.answered,
    })
}

/// What is not proved is named, as far as a screen has room.
const NAMED_MAX: usize = 20;
