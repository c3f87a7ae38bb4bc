//! `lavatube forget`: which snapshots are not wanted any more, by rules or by name. Must not know how marks are kept.

use std::collections::BTreeSet;

use lavatube_client::browse::{self, Listed};
use lavatube_client::courier::Promise;
use lavatube_client::forget::{Candidate, Count, Policy, Span};
use lavatube_node::reader::Session;
use lavatube_node::{clock, forgetting};
use serde_json::json;

use crate::archive::{self, ReadArgs};
use crate::date;
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};
use crate::verbs::backup::promise_word;

/// Mark snapshots as forgotten, by rules or by name; nothing is deleted.
///
/// The rules are restic's: of each hour, day, ISO week, month or year that has snapshots the newest is kept, for so many of
/// them, and rules add up. Times are those of the snapshots, in UTC. Snapshots of one host and the same paths are judged
/// together (--group-by), and of none all are forgotten.
///
/// A forgotten snapshot is not listed any more and is never `latest`; by its id it can still be restored, and --undo takes the
/// mark back. Its space is freed by `lavatube release`, with the recovery key, and until then nothing is lost. To say what is
/// forgotten one must be able to read (read key) and to add (deposit key): whoever steals only the latter can hide nothing.
///
/// JSON fields: snapshots [{snapshot, short, time, host, keep, reasons, forgotten}], marked, dry_run, promise (safe-here or
/// safe-there), exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ForgetArgs {
    /// Forget these, whatever the rules say
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    rules: Rules,
    /// Judge together what has these in common: host, paths, tags, or nothing at all
    #[arg(
        long,
        value_name = "host,paths",
        default_value = "host,paths",
        hide_default_value = true,
        value_delimiter = ','
    )]
    group_by: Vec<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only snapshots with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Take the marks of these back
    #[arg(long, conflicts_with_all = ["Rules", "group_by", "host", "tag"], requires = "snapshots")]
    undo: bool,
    /// Only say what would be kept, and why
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    read_key: ReadArgs,
}

#[derive(Debug, clap::Args)]
#[group(multiple = true)]
struct Rules {
    /// Keep the last N (a number, or all)
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    keep_last: Option<Count>,
    /// Keep the newest of each of the last N hours that have any
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    keep_hourly: Option<Count>,
    /// The same of days
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    keep_daily: Option<Count>,
    /// The same of weeks
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    keep_weekly: Option<Count>,
    /// The same of months
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    keep_monthly: Option<Count>,
    /// The same of years
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    keep_yearly: Option<Count>,
    /// Keep all from so shortly before the newest: 30d, 2y6m, 1y5m7d2h
    #[arg(long, value_name = "TIME", conflicts_with = "snapshots")]
    keep_within: Option<Span>,
    /// Keep those that have this tag, or all of TAG,TAG. Repeat it for each
    #[arg(long, value_name = "TAG", conflicts_with = "snapshots")]
    keep_tag: Vec<String>,
}

impl Rules {
    fn policy(&self) -> Policy {
        let tags = self.keep_tag.iter().map(|list| list.split(',').map(str::to_owned).collect());
        Policy {
            last: self.keep_last.unwrap_or_default(),
            hourly: self.keep_hourly.unwrap_or_default(),
            daily: self.keep_daily.unwrap_or_default(),
            weekly: self.keep_weekly.unwrap_or_default(),
            monthly: self.keep_monthly.unwrap_or_default(),
            yearly: self.keep_yearly.unwrap_or_default(),
            within: self.keep_within,
            tags: tags.collect(),
        }
    }
}

const EXAMPLES: &str = "Examples:
  lavatube forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  lavatube forget --keep-last 3 --keep-within 30d --keep-tag yearly
  lavatube forget 3f2a9c41                        this one
  lavatube forget --undo 3f2a9c41                 and back
  lavatube release                                then free what only forgotten ones need";

/// One snapshot and what is to become of it.
struct Judged {
    listed: Listed,
    /// Why it is kept; nothing when it is to be forgotten.
    reasons: Vec<String>,
}

/// Marks them.
///
/// # Errors
/// When the vault cannot be read, or the marks cannot be deposited.
pub fn run(args: &ForgetArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let policy = args.rules.policy();
    if args.snapshots.is_empty() && policy.is_empty() {
        let what = "neither rules nor snapshots were given, so nothing is forgotten";
        return Err(Failure::new(Condition::Usage, what)
            .hint("name snapshots, or say what to keep: lavatube forget --keep-daily 7 --keep-monthly 12 --dry-run"));
    }
    let reader = archive::open(settings, &args.read_key, "lavatube forget", false)?;
    archive::warn_of_the_log(&reader, settings, screen)?;
    let session = archive::session(&reader, screen)?;
    let listing = session.snapshots()?;
    for (place, e) in &listing.unreadable {
        screen.warn(&format!("snapshot {} cannot be read, and stays as it is: {e}", place.id.short()));
    }
    for refused in &listing.refused {
        screen.warn(&format!("manifest {} is not believed: {}", refused.id.short(), refused.reason));
    }
    let end = if listing.unreadable.is_empty() && listing.refused.is_empty() { End::Done } else { End::Damaged };
    let judged = if args.snapshots.is_empty() {
        by_rules(args, &policy, listing.snapshots)?
    } else {
        by_name(args, &listing.snapshots)?
    };
    let mut marks = Vec::new();
    for Judged { listed, reasons } in &judged {
        let forgotten = reasons.is_empty();
        if listed.place.is_forgotten() != forgotten && (forgotten || args.undo) {
            marks.push(mark(&session, listed, forgotten)?);
        }
    }
    show(&judged, screen)?;
    drop(session);
    drop(reader);
    let mut promise = None;
    if !args.dry_run && !marks.is_empty() {
        promise = Some(forgetting::mark(&settings.places, &marks, settings.lock_wait)?);
    }
    screen.tell(&outcome(args, marks.len() as u64, promise))?;
    screen.answer(&json!({
        "snapshots": judged.iter().map(to_json).collect::<Vec<_>>(),
        "marked": if args.dry_run { 0 } else { marks.len() },
        "dry_run": args.dry_run,
        "promise": promise.map(promise_word),
        "exit": end.status(),
    }))?;
    Ok(end)
}

fn mark(session: &Session<'_>, listed: &Listed, forgotten: bool) -> Result<lavatube_format::manifest::Mark, Failure> {
    let unopened =
        || Failure::new(Condition::Lost, format!("the session of snapshot {} does not open", listed.place.id.short()));
    session.mark(&listed.place, forgotten).ok_or_else(unopened)
}

/// The snapshots that are named: all of them are to be forgotten, or none.
fn by_name(args: &ForgetArgs, all: &[Listed]) -> Result<Vec<Judged>, Failure> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for words in &args.snapshots {
        let listed = browse::resolve(all, words)?.clone();
        if seen.insert(listed.place.id) {
            out.push(Judged { listed, reasons: if args.undo { vec!["asked for".into()] } else { Vec::new() } });
        }
    }
    Ok(out)
}

fn by_rules(args: &ForgetArgs, policy: &Policy, mut all: Vec<Listed>) -> Result<Vec<Judged>, Failure> {
    if let Some(word) = args.group_by.iter().find(|word| !["host", "paths", "tags", ""].contains(&word.as_str())) {
        return Err(Failure::new(Condition::Usage, format!("--group-by takes host, paths and tags, not {word:?}")));
    }
    // What is forgotten already is judged no more: it would use up what others are kept for.
    all.retain(|l| {
        !l.place.is_forgotten()
            && args.host.as_ref().is_none_or(|host| *host == l.snapshot.host)
            && args.tag.as_ref().is_none_or(|tag| l.snapshot.tags.contains(tag))
    });
    let by = |word: &str| args.group_by.iter().any(|by| by == word);
    let candidate = |l: &Listed| {
        let s = &l.snapshot;
        let mut group = vec![if by("host") { s.host.as_bytes().to_vec() } else { Vec::new() }];
        let mut paths = if by("paths") { s.paths.clone() } else { Vec::new() };
        let mut tags: Vec<Vec<u8>> =
            if by("tags") { s.tags.iter().map(|t| t.as_bytes().to_vec()).collect() } else { Vec::new() };
        paths.sort();
        tags.sort();
        group.extend(paths);
        // No path has such a byte.
        group.push(vec![0]);
        group.extend(tags);
        Candidate { time: s.time, tags: s.tags.clone(), group }
    };
    let reasons = policy.judge(&all.iter().map(candidate).collect::<Vec<_>>(), clock::wall_now());
    Ok(all.into_iter().zip(reasons).map(|(listed, reasons)| Judged { listed, reasons }).collect())
}

fn show(judged: &[Judged], screen: &Screen) -> Result<(), Failure> {
    if judged.is_empty() {
        return screen.say("There are no snapshots that this is about.");
    }
    let width = judged.iter().map(|j| j.listed.snapshot.host.chars().count()).max().unwrap_or(0).clamp(4, 24);
    let head = format!("{:<6}  {:<8}  {:<19}  {:<width$}  paths", "", "id", "time (UTC)", "host");
    screen.say(&screen.ink(Ink::Bold, &head))?;
    for Judged { listed, reasons } in judged {
        let s = &listed.snapshot;
        let paths: Vec<_> = s.paths.iter().map(|p| units::name(p)).collect();
        let line = format!(
            "{:<8}  {:<19}  {:<width$}  {}",
            listed.place.id.short(),
            date::table(s.time),
            units::name(s.host.as_bytes()),
            paths.join(" ")
        );
        let (word, why) = match reasons.is_empty() {
            true => (screen.ink(Ink::Yellow, "forget"), String::new()),
            false => ("keep  ".to_owned(), screen.ink(Ink::Dim, &format!("  {}", reasons.join(", ")))),
        };
        screen.say(&format!("{word}  {line}{why}"))?;
    }
    Ok(())
}

fn outcome(args: &ForgetArgs, marked: u64, promise: Option<Promise>) -> String {
    let what = things(marked, "snapshot", "snapshots");
    let is = if marked == 1 { "is" } else { "are" };
    let mut out = match (marked, args.dry_run, args.undo) {
        (0, _, true) => "None of them was forgotten.".to_owned(),
        (0, ..) => "Nothing is forgotten that was not before.".to_owned(),
        (_, true, true) => format!("{what} would be remembered again."),
        (_, true, false) => format!("{what} would be forgotten; nothing was done."),
        (_, false, true) => format!("{what} {is} remembered again."),
        (_, false, false) => format!("{what} {is} marked as forgotten. `lavatube release` frees what only they need."),
    };
    if promise == Some(Promise::SafeHere) {
        out.push_str(" The marks wait on this machine for the vault.");
    }
    out
}

fn to_json(judged: &Judged) -> serde_json::Value {
    let Judged { listed, reasons } = judged;
    json!({
        "snapshot": listed.place.id.to_string(),
        "short": listed.place.id.short(),
        "time": date::rfc3339(listed.snapshot.time),
        "host": listed.snapshot.host,
        "keep": !reasons.is_empty(),
        "reasons": reasons,
        "forgotten": listed.place.is_forgotten(),
    })
}
