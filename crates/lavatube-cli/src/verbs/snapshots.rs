//! `lavatube snapshots`: what there is. Must not know how records are found.

use lavatube_client::browse::{Listed, Listing};
use lavatube_node::reader::Session;
use serde_json::json;

use crate::archive::{self, ReadArgs};
use crate::errors::{End, Failure};
use crate::roots::put_paths;
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::{date, units};

/// List the snapshots in the vault, and those that wait on this machine for it.
///
/// Oldest first. Times are UTC, sizes before compression. NEW is content the vault did not have before that snapshot.
/// One marked `safe here` was taken while the vault's drives were away, or for a far vault: the next backup, or `lavatube check
/// --repair`, or `lavatube node`, brings it there. Of a far vault they are those that this machine took or has asked for.
///
/// Those that `lavatube forget` has marked are listed with --all.
///
/// JSON fields: snapshots [{snapshot, short, time, host, paths, tags, description, program, parent, files, directories,
/// others, bytes, new_bytes, skipped, forgotten, promise (safe-here or safe-there)}], forgotten (how many are not listed), unreadable [{snapshot, reason}], refused [{manifest, reason}], waiting, exit.
/// The bytes of paths that are no UTF-8 are in paths_hex.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotsArgs {
    /// Only those of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Those that are forgotten, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube snapshots
  lavatube snapshots --host laptop --tag weekly
  lavatube snapshots --json | jq -r '.snapshots[-1].snapshot'";

/// Lists them.
///
/// # Errors
/// When the vault cannot be read.
pub fn run(args: &SnapshotsArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let reader = archive::open(settings, &args.read_key, "lavatube snapshots", false)?;
    archive::warn_of_the_log(&reader, settings, screen)?;
    let session = archive::session(&reader, screen)?;
    let mut listing = session.snapshots()?;
    listing.snapshots.retain(|l| {
        args.host.as_ref().is_none_or(|h| *h == l.snapshot.host)
            && args.tag.as_ref().is_none_or(|t| l.snapshot.tags.contains(t))
    });
    let before = listing.snapshots.len();
    listing.snapshots.retain(|l| args.all || !l.place.is_forgotten());
    let forgotten = before - listing.snapshots.len();
    let end = match () {
        () if !listing.unreadable.is_empty() => End::Lost,
        () if !listing.refused.is_empty() => End::Damaged,
        () => End::Done,
    };
    for line in table(&listing, &session, screen) {
        screen.say(&line)?;
    }
    if listing.snapshots.is_empty() {
        screen.say(match end {
            End::Done if args.host.is_some() || args.tag.is_some() || forgotten > 0 => "No snapshot fits.",
            End::Done => "There are no snapshots yet. `lavatube backup PATH` takes one.",
            _ => "No snapshot can be read. `lavatube status` lists the drives; bring missing ones back.",
        })?;
    }
    if forgotten > 0 {
        let marked = units::things(forgotten as u64, "further snapshot is", "further snapshots are");
        screen.tell(&screen.ink(Ink::Dim, &format!("{marked} marked as forgotten; --all lists them.")))?;
    }
    if reader.side.far().is_some() && !args.read_key.refresh {
        screen.tell(&screen.ink(Ink::Dim, "As this machine knows it; --refresh asks the vault."))?;
    }
    let waiting = archive::waiting(settings)?;
    if waiting > 0 {
        let objects = units::things(waiting as u64, "object", "objects");
        let how = match reader.side.far() {
            Some(_) => "`lavatube node` takes them there",
            None => "the next backup, or `lavatube check --repair`, brings them there",
        };
        screen.warn(&format!("{objects} wait on this machine for the vault; {how}"));
    }
    for (place, e) in &listing.unreadable {
        screen.warn(&format!("snapshot {} cannot be read: {e}", place.id.short()));
    }
    for refused in &listing.refused {
        screen.warn(&format!(
            "manifest {} is not believed, so its snapshots are not listed: {}",
            refused.id.short(),
            refused.reason
        ));
    }
    screen.answer(&json!({
        "snapshots": listing.snapshots.iter().map(|l| to_json(l, session.is_waiting(&l.place))).collect::<Vec<_>>(),
        "unreadable": listing.unreadable.iter().map(|(p, e)| json!({ "snapshot": p.id.to_string(), "reason": e.to_string() })).collect::<Vec<_>>(),
        "refused": listing.refused.iter().map(|r| json!({ "manifest": r.id.to_string(), "reason": r.reason })).collect::<Vec<_>>(),
        "forgotten": forgotten,
        "waiting": waiting,
        "exit": end.status(),
    }))?;
    Ok(end)
}

fn table(listing: &Listing, session: &Session<'_>, screen: &Screen) -> Vec<String> {
    let Some(host_width) = listing.snapshots.iter().map(|l| l.snapshot.host.chars().count()).max() else {
        return Vec::new();
    };
    let width = host_width.clamp(4, 24);
    let head = format!(
        "{:<8}  {:<19}  {:<width$}  {:>9}  {:>8}  {:>8}  paths",
        "id", "time (UTC)", "host", "files", "size", "new"
    );
    let mut lines = vec![screen.ink(Ink::Bold, &head)];
    for listed in &listing.snapshots {
        let s = &listed.snapshot;
        let paths: Vec<_> = s.paths.iter().map(|p| units::name(p)).collect();
        let mut line = format!(
            "{:<8}  {:<19}  {:<width$}  {:>9}  {:>8}  {:>8}  {}",
            listed.place.id.short(),
            date::table(s.time),
            units::name(s.host.as_bytes()),
            units::count(s.totals.files),
            units::bytes(s.totals.bytes),
            units::bytes(s.totals.new_bytes),
            paths.join(" ")
        );
        if session.is_waiting(&listed.place) {
            line.push_str(&screen.ink(Ink::Yellow, "  safe here"));
        }
        if listed.place.is_forgotten() {
            line.push_str(&screen.ink(Ink::Yellow, "  forgotten"));
        }
        if !s.tags.is_empty() {
            let tags: Vec<_> = s.tags.iter().map(|t| units::name(t.as_bytes())).collect();
            line.push_str(&screen.ink(Ink::Green, &format!("  [{}]", tags.join(", "))));
        }
        if let Some(description) = &s.description {
            line.push_str(&screen.ink(Ink::Dim, &format!("  {}", units::name(description.as_bytes()))));
        }
        if s.totals.skipped > 0 {
            line.push_str(&screen.ink(Ink::Yellow, &format!("  {} skipped", units::count(s.totals.skipped))));
        }
        lines.push(line);
    }
    lines
}

fn to_json(listed: &Listed, waiting: bool) -> serde_json::Value {
    let s = &listed.snapshot;
    let mut value = json!({
        "snapshot": listed.place.id.to_string(),
        "short": listed.place.id.short(),
        "time": date::rfc3339(s.time),
        "host": s.host,
        "tags": s.tags,
        "description": s.description,
        "program": s.program,
        "parent": s.parent.map(|p| p.to_string()),
        "files": s.totals.files,
        "directories": s.totals.directories,
        "others": s.totals.others,
        "bytes": s.totals.bytes,
        "new_bytes": s.totals.new_bytes,
        "skipped": s.totals.skipped,
        "forgotten": listed.place.is_forgotten(),
        "promise": if waiting { "safe-here" } else { "safe-there" },
    });
    let paths: Vec<_> = s.paths.iter().map(|p| p.strip_prefix(b"/").unwrap_or(p).to_vec()).collect();
    put_paths(&mut value, "paths", &paths);
    value
}
