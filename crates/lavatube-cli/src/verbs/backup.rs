//! `lavatube backup`: takes a snapshot, after making keys and vault on a fresh machine.
//!
//! Steps 1 to 7 of the walk seen from the terminal. Must not know how anything is stored.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lavatube_client::backup::{Request, Sizes};
use lavatube_client::courier::Promise;
use lavatube_client::forget::Span;
use lavatube_client::log::Verdict as LogVerdict;
use lavatube_client::meter::Meter;
use lavatube_client::source::Found;
use lavatube_client::survey::{Scope, survey};
use lavatube_format::manifest::Retention;
use lavatube_node::audits::{self, Standing};
use lavatube_node::checks;
use lavatube_node::depositor::{self, Made, Outcome};
use lavatube_node::directory_source::DirectorySource;
use lavatube_node::keyring::Keyring;
use lavatube_node::own_link;
use lavatube_node::pipeline::Effort;
use lavatube_node::waybill::Priority;
use lavatube_node::{clock, embedded, link_folder, process};
use serde_json::json;

use crate::drives::{self, ShapeArgs};
use crate::errors::{Condition, End, Failure};
use crate::patterns::Patterns;
use crate::roots::{self, Excluder, Ours, listing, put_paths, with_path};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::things;
use crate::verbs::{audit, init, log, status, version};
use crate::{date, progress, units};

/// Take a snapshot of files and folders.
///
/// The first time, it makes keys and a vault and says where they are. Later it reads only what changed (size, times and
/// inode tell) and stores only what is new. Vault, state and keys are always left out. What could not be read is listed,
/// and the exit status is then 3: nothing is left out silently. `lavatube help patterns` explains patterns.
///
/// With --retain or --hold the vault frees nothing of the snapshot, nor of anything that was stored before it (which it may build on),
/// before the time has passed. That is counted by how long the vault's machine was up since, so that no clock that is set makes it
/// shorter.
///
/// JSON fields: snapshot, short, time, host, paths, tags, description, parent, files, directories, others, bytes,
/// new_bytes, stored_bytes, files_read, excluded, own_folders_excluded, skipped {count, entries [{path, reason}]}, changed
/// {count, paths}, promise (safe-here or safe-there), vault {path, id, made}, keys_made, degraded_drives,
/// catalog_incomplete, recovered {packs, bytes}, drained, damaged_waiting, doubted, chain {withdrawn, strange, unread},
/// log as of `lavatube status`, clock_behind, seconds, exit. The bytes of a path that is no UTF-8 are in path_hex; of a list of paths with one such, in
/// paths_hex, with null for the others.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BackupArgs {
    /// Files and folders to keep; a symbolic link is followed when a slash is behind it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Leave out what PATTERN means: *.tmp, cache/, /home/*/.cache. Repeat it for each
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out folders marked as caches by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out folders that hold an entry NAME, such as .nobackup
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<OsString>,
    /// Do not cross into other file systems; the folders they are mounted at are kept, empty
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Tag the snapshot. Repeat it for each
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Say what the snapshot is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Host name in the snapshot [default: the system's]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// zstd level, 1 (fast) to 22 (small) [default: 3]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=22))]
    compression: Option<i32>,
    /// Read every file, even if it seems unchanged
    #[arg(long)]
    read_all: bool,
    /// Take a snapshot even if there are no files
    #[arg(long)]
    allow_empty: bool,
    /// Take a snapshot even if more than half of the entries are gone since the last one
    #[arg(long)]
    accept_shrink: bool,
    /// Have the vault keep it, and what it builds on, for TIME (10y, 30d, 1y6m), whoever asks
    #[arg(long, value_name = "TIME")]
    retain: Option<Span>,
    /// Have the vault keep it until the recovery key lifts that (`lavatube release --lift`)
    #[arg(long)]
    hold: bool,
    /// For a far vault: end when the snapshot is safe here, or only once the vault has signed for it
    #[arg(long, value_enum, value_name = "here|there", default_value_t = Wait::Here, hide_default_value = true, hide_possible_values = true)]
    wait: Wait,
    /// With --wait there: give up when nothing was receipted for so long [default: never]
    #[arg(long, value_name = "SECONDS")]
    link_wait: Option<u64>,
    /// How precious it is: what is high leaves for a far vault before all that is not, and keeps its parity longest where drives die and room ends; what is low the other way round. It is about what this backup adds [default: normal]
    #[arg(long, value_enum, value_name = "high|normal|low", default_value_t = Urgency::Normal, hide_default_value = true, hide_possible_values = true)]
    priority: Urgency,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// What a backup for a far vault waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wait {
    Here,
    There,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Urgency {
    High,
    Normal,
    Low,
}

const EXAMPLES: &str = "Examples:
  lavatube backup ~
  lavatube backup ~/keys --priority high --wait there
  lavatube backup ~/photos ~/letters --exclude '*.tmp' --exclude cache/ --tag weekly
  lavatube backup / --one-file-system --exclude-caches
  lavatube backup ~/books --retain 10y
  lavatube backup ~/photos --vault /mnt/usb/vault --json";

/// Takes the snapshot.
///
/// # Errors
/// When there is none afterwards.
pub fn run(args: &BackupArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let begin = Instant::now();
    // A typing mistake must not cost a fresh machine its first vault.
    roots::resolve(&args.paths, &Ours::new(&settings.places))?;
    roots::links(&args.paths).iter().for_each(|text| screen.warn(text));
    let patterns = Patterns::new(&[&args.exclude[..], &settings.config.exclude].concat())?;
    let made = prepare(args, settings, screen)?;
    // What this very run makes is left out as well: so it is made first.
    depositor::make_state_folder(&settings.places)?;
    let ours = Ours::new(&settings.places);
    let roots = roots::resolve(&args.paths, &ours)?;
    let excluder = Excluder {
        patterns,
        caches: args.exclude_caches,
        if_present: args.exclude_if_present.clone(),
        ours: &ours,
        own: AtomicU64::new(0),
    };
    let exclude = |path: &[u8], found: &Found| excluder.exclude(path, found);
    let host = args.host.clone().or_else(|| settings.config.host.clone()).unwrap_or_else(process::host_name);
    let request = Request {
        roots,
        exclude: &exclude,
        one_file_system: args.one_file_system || settings.config.one_file_system,
        read_all: args.read_all,
        allow_empty: args.allow_empty,
        accept_shrink: args.accept_shrink,
        host,
        tags: args.tag.clone(),
        description: args.description.clone(),
        program: version::PROGRAM.to_owned(),
        now: clock::wall_now(),
        sizes: Sizes::DEFAULT,
    };
    let level = args.compression.or(settings.config.compression).unwrap_or(3);
    let effort = Effort { level, workers: settings.workers() };
    let meter = Meter::default();
    let (sources, one_file_system) = (request.roots.clone(), request.one_file_system);
    let count = |over: &AtomicBool| {
        let exclude = |path: &[u8], found: &Found| excluder.would_exclude(path, found);
        count_sources(&Scope { roots: &sources, exclude: &exclude, one_file_system }, &meter, over);
    };
    let retention = Retention { s: args.retain.map_or(0, Span::seconds), hold: args.hold, ..Retention::default() };
    let priority = match args.priority {
        Urgency::High => Priority::High,
        Urgency::Normal => Priority::Normal,
        Urgency::Low => Priority::Low,
    };
    let mut outcome = progress::during_with(screen, "backing up", &meter, count, || {
        depositor::backup(&settings.places, &request, retention, priority, effort, settings.lock_wait, &meter)
    })?;
    let took = begin.elapsed();
    if args.wait == Wait::There && outcome.far {
        send(args, &mut outcome, settings, screen)?;
    }
    let own = excluder.own.load(Ordering::Relaxed);
    let done = Done { request: &request, outcome: &outcome, made, own, bytes: meter.bytes.now(), took };
    // What earlier audits found is no reason for a backup to fail.
    let audits = Standing::of(&audits::history(&settings.places).unwrap_or_default());
    done.show(screen)?;
    let lost = checks::remembered(&settings.places).is_ok_and(|checks| status::is_loss(&checks));
    if let Some(line) = audit::proved(&audits, clock::wall_now(), screen).filter(|_| !lost) {
        screen.tell(&line)?;
    }
    done.warn(screen);
    screen.answer(&done.answer(settings)?)?;
    Ok(done.end())
}

/// Waits until the far vault has receipted all that waits now.
fn send(args: &BackupArgs, outcome: &mut Outcome, settings: &Settings, screen: &Screen) -> Result<(), Failure> {
    let places = &settings.places;
    let folder = depositor::state_folder(places, link_folder::vault_id(&places.vault)?);
    let objects = depositor::spooled(&folder)?.into_iter().map(|(_, id)| id).collect();
    let meter = Meter::default();
    let patience = args.link_wait.map(Duration::from_secs);
    let there = progress::during(screen, "sending", &meter, || own_link::deliver(places, &objects, patience, &meter))?;
    if there {
        outcome.promise = Promise::SafeThere;
    } else {
        screen.warn(&format!("nothing was receipted for {} s", args.link_wait.unwrap_or_default()));
    }
    Ok(())
}

/// Counts what a backup comes to, for its bar, where no earlier one tells.
fn count_sources(scope: &Scope<'_>, meter: &Meter, over: &AtomicBool) {
    let goes_on = || !over.load(Ordering::Relaxed);
    // Once it is under way it has said what it knows.
    while meter.files.now() + meter.others.now() + meter.bytes.now() == 0 {
        if !goes_on() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if meter.bytes_total.now() > 0 {
        return;
    }
    let sum = DirectorySource::new().ok().and_then(|source| survey(&source, scope, &goes_on));
    if let Some(sum) = sum {
        meter.files_total.set(sum.files);
        meter.holes_total.set(sum.holes);
        meter.bytes_total.set(sum.bytes);
    }
}

/// Makes keys and vault where this machine has never had any; says what is wrong where it has.
fn prepare(args: &BackupArgs, settings: &Settings, screen: &Screen) -> Result<Made, Failure> {
    let places = &settings.places;
    let keyring = Keyring::at(&places.keys);
    if link_folder::is_far(&places.vault) {
        if !keyring.can_deposit() {
            let what = format!("there is no deposit key in {}", places.keys.display());
            return Err(Failure::new(Condition::NoKey, what)
                .hint("name the keys with --keys DIR, or make them again with `lavatube key import-recovery`"));
        }
        return Ok(Made::default());
    }
    if embedded::is_vault(&places.vault) {
        if !keyring.can_deposit() {
            let what = format!(
                "there is a vault in {}, but no deposit key in {}",
                places.vault.display(),
                places.keys.display()
            );
            return Err(Failure::new(Condition::NoKey, what)
                .hint("name the keys with --keys DIR, or make them again with `lavatube key import-recovery`"));
        }
        if args.shape.is_given() {
            screen.warn("--drives, --data and --parity count only when a vault is made; this one stays as it is");
        }
        return Ok(Made::default());
    }
    // Keys and state, but no vault: more likely an unmounted disk than a wish for a second vault.
    let known = std::fs::read_dir(&places.state).is_ok_and(|mut d| d.next().is_some());
    if keyring.can_deposit() && known {
        let what = format!("there is no vault in {}, but this machine has backed up before", places.vault.display());
        return Err(Failure::new(Condition::NoVault, what)
            .hint("mount its disk, or name it with --vault DIR; `lavatube init` makes a new, empty one"));
    }
    let plan = drives::plan(&[], &args.shape, &settings.config, &settings.here)?;
    let made = init::make(&plan, settings, screen)?;
    init::introduce(&plan, made, settings, screen)?;
    screen.tell("")?;
    Ok(made)
}

/// A backup that is done, to be told.
struct Done<'a> {
    request: &'a Request<'a>,
    outcome: &'a Outcome,
    made: Made,
    own: u64,
    /// Bytes of all files without their holes.
    bytes: u64,
    took: Duration,
}

impl Done<'_> {
    fn end(&self) -> End {
        let report = &self.outcome.report;
        if let Some((_, LogVerdict::Alarm(_))) = self.outcome.log {
            return End::Alarm;
        }
        if report.totals.skipped > 0 || report.changed_count > 0 { End::Partly } else { End::Done }
    }

    fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let (report, totals) = (&self.outcome.report, &self.outcome.report.totals);
        let id = report.snapshot.map(|s| s.short()).unwrap_or_default();
        let head = format!("snapshot {id}");
        screen.tell(&format!(
            "{}  {}  {}",
            screen.ink(Ink::Bold, &head),
            date::rfc3339(self.request.now),
            units::name(self.request.host.as_bytes())
        ))?;
        let mut rows = Vec::new();
        let read = match report.parent {
            Some(_) => format!("{} of them read", units::count(report.files_read)),
            None => String::new(),
        };
        rows.push(("files", units::count(totals.files), read));
        rows.push(("directories", units::count(totals.directories), String::new()));
        if totals.others > 0 {
            rows.push(("others", units::count(totals.others), "links, pipes, devices, sockets".into()));
        }
        if report.excluded > 0 {
            let own = match self.own {
                0 => String::new(),
                n => format!("{} of them vault, state or keys", units::count(n)),
            };
            rows.push(("left out", units::count(report.excluded), own));
        }
        let rate = (self.bytes as f64 / self.took.as_secs_f64().max(0.001)) as u64;
        rows.push((
            "size",
            units::bytes(totals.bytes),
            format!("{} at {}/s", units::span(self.took), units::bytes(rate)),
        ));
        rows.push(("new", units::bytes(totals.new_bytes), "content the vault did not have".into()));
        rows.push(("stored", units::bytes(self.outcome.stored_bytes), self.ratio()));
        for (name, value, note) in rows {
            let line = format!("  {name:<11} {value:>10}  {}", screen.ink(Ink::Dim, &note));
            screen.tell(line.trim_end())?;
        }
        screen.tell(&self.promise(screen))?;
        if let Some(id) = report.snapshot {
            screen.tell(&screen.ink(Ink::Dim, &format!("id {id}")))?;
        }
        Ok(())
    }

    fn ratio(&self) -> String {
        let (new, stored) = (self.outcome.report.totals.new_bytes, self.outcome.stored_bytes);
        if stored == 0 {
            return "nothing had to be sent".into();
        }
        if new < stored {
            return "names, times and the index; sealed, before parity".into();
        }
        format!("{:.2} to 1; sealed, before parity", new as f64 / stored as f64)
    }

    fn promise(&self, screen: &Screen) -> String {
        match self.outcome.promise {
            Promise::SafeThere if self.outcome.degraded.is_empty() => {
                format!("{}: durable in the vault, which signed for it.", screen.ink(Ink::Green, "safe there"))
            }
            Promise::SafeThere => {
                format!(
                    "{}: durable in the vault, with less parity than it should have.",
                    screen.ink(Ink::Yellow, "safe there")
                )
            }
            Promise::SafeHere if self.outcome.far => format!(
                "{}: it waits on this machine, and `lavatube node` takes it to the far vault.",
                screen.ink(Ink::Green, "safe here")
            ),
            Promise::SafeHere => format!(
                "{}: too few drives of the vault are there. It waits on this machine and goes there with the next backup.",
                screen.ink(Ink::Yellow, "safe here")
            ),
        }
    }

    fn warn(&self, screen: &Screen) {
        let (outcome, report) = (self.outcome, &self.outcome.report);
        if outcome.recovered.packs > 0 {
            screen.note(&format!(
                "note: {} ({}) of an interrupted run were kept and used.",
                units::things(outcome.recovered.packs, "pack", "packs"),
                units::bytes(outcome.recovered.bytes)
            ));
        }
        let drained = &outcome.drained;
        if !drained.damaged.is_empty() {
            screen.warn(&format!(
                "{} waiting on this machine {} damaged: snapshots that need what was in there may lack files (`lavatube check \
                 --read-data` names them); this one does not build on it",
                units::things(drained.damaged.len() as u64, "object", "objects"),
                if drained.damaged.len() == 1 { "is" } else { "are" }
            ));
        }
        if outcome.doubted > 0 {
            screen.warn(&format!(
                "the vault does not have {} that were stored there or waited for it: all files were read again, and what was \
                 missing was sent again (`lavatube check --read-data` says what that means for older snapshots)",
                units::things(outcome.doubted as u64, "object", "objects")
            ));
        }
        if drained.delivered > 0 {
            let what = units::things(drained.delivered as u64, "object", "objects");
            screen.note(&format!("note: {what} of earlier runs waited here and are in the vault now."));
        }
        if !outcome.degraded.is_empty() {
            let named = outcome.degraded.iter().map(|(label, failed)| match failed {
                Some(why) => format!("{label} (failed: {why})"),
                None => label.clone(),
            });
            let named = named.collect::<Vec<_>>().join(", ");
            screen.warn(&format!("drives that are not as they should be: {named} (`lavatube status` says how)"));
        }
        if outcome.catalog_incomplete {
            screen.warn(
                "this machine's catalog was damaged: some of what the vault has may have been sent again (`lavatube \
                 snapshots`, which needs the read key, makes it whole)",
            );
        }
        self.warn_of_the_chain(screen);
        self.warn_of_the_log(screen);
        if let Some(newest) = outcome.clock_behind {
            screen.warn(&format!(
                "the clock of this machine is behind: the newest snapshot it took says {}. `latest` is right all the same \
                 among its own snapshots, but not among those of several machines",
                date::rfc3339(newest)
            ));
        }
        if report.totals.skipped > 0 {
            let n = report.totals.skipped;
            screen.warn(&format!(
                "{} could not be read and {} not in the snapshot:",
                units::things(n, "entry", "entries"),
                if n == 1 { "is" } else { "are" }
            ));
            let items = report.skipped.iter().map(|s| (&s.path[..], &s.reason[..]));
            listing(items, n, SHOWN_MAX).iter().for_each(|line| screen.note(line));
        }
        if report.changed_count > 0 {
            let n = report.changed_count;
            screen.warn(&format!(
                "{} changed while being read, so what was stored may be a mixture:",
                units::things(n, "file", "files")
            ));
            let items = report.changed.iter().map(|p| (&p[..], ""));
            listing(items, n, SHOWN_MAX).iter().for_each(|line| screen.note(line));
        }
    }

    /// How the vault's log is not what it was, or was not known before.
    fn warn_of_the_log(&self, screen: &Screen) {
        match &self.outcome.log {
            Some((_, LogVerdict::Alarm(alarm))) => screen.warn(&format!(
                "ALARM: the vault took this snapshot, and cannot be believed: {alarm}. Nothing more is sent to it until a \
                 person has looked: `lavatube log`"
            )),
            Some((LogVerdict::Sound(before), _)) if before.known.is_none() && self.outcome.report.parent.is_some() => {
                screen.note(
                    "note: the vault's log was seen for the first time, and is trusted as it is; from now on it is noticed \
                     when it is not what it was (`lavatube log`).",
                );
            }
            _ => {}
        }
    }

    /// What was unexpected about this machine's manifests.
    fn warn_of_the_chain(&self, screen: &Screen) {
        let chain = &self.outcome.chain;
        let manifests = |n| things(n, "manifest", "manifests");
        if chain.withdrawn > 0 {
            screen.warn(&format!(
                "the vault signed for {} of this machine that it does not have any more: it was put back to an older \
                 state, hides them, or lacks the drives that know of them (`lavatube check` says which)",
                manifests(chain.withdrawn)
            ));
        }
        if chain.strange > 0 {
            screen.warn(&format!(
                "the vault has {} of this machine's deposit key that its state did not know: an older state was put \
                 back, or two machines use one key. If neither is so, someone else has the key: make a new one",
                manifests(chain.strange)
            ));
        }
        if chain.unread > 0 {
            screen.warn(&format!(
                "{} in the vault cannot be read now. This snapshot does not follow them yet; a later backup makes up for \
                 that",
                manifests(chain.unread)
            ));
        }
    }

    fn answer(&self, settings: &Settings) -> Result<serde_json::Value, Failure> {
        let (request, outcome, report) = (self.request, self.outcome, &self.outcome.report);
        let totals = &report.totals;
        let skipped = report.skipped.iter().map(|s| with_path(&s.path, json!({ "reason": s.reason })));
        let promise = promise_word(outcome.promise);
        let mut changed = json!({ "count": report.changed_count });
        put_paths(&mut changed, "paths", &report.changed);
        let mut value = json!({
            "snapshot": report.snapshot.map(|s| s.to_string()),
            "short": report.snapshot.map(|s| s.short()),
            "time": date::rfc3339(request.now),
            "host": request.host,
            "tags": request.tags,
            "description": request.description,
            "parent": report.parent.map(|s| s.to_string()),
            "files": totals.files,
            "directories": totals.directories,
            "others": totals.others,
            "bytes": totals.bytes,
            "new_bytes": totals.new_bytes,
            "stored_bytes": outcome.stored_bytes,
            "files_read": report.files_read,
            "excluded": report.excluded,
            "own_folders_excluded": self.own,
            "skipped": { "count": totals.skipped, "entries": skipped.collect::<Vec<_>>() },
            "changed": changed,
            "promise": promise,
            "vault": {
                "path": settings.places.vault.to_string_lossy(),
                "id": link_folder::vault_id(&settings.places.vault)?.to_string(),
                "made": self.made.vault,
            },
            "keys_made": self.made.keys,
            "degraded_drives": outcome.degraded.iter().map(|(label, _)| label).collect::<Vec<_>>(),
            "catalog_incomplete": outcome.catalog_incomplete,
            "recovered": { "packs": outcome.recovered.packs, "bytes": outcome.recovered.bytes },
            "drained": outcome.drained.delivered,
            "damaged_waiting": outcome.drained.damaged.len(),
            "doubted": outcome.doubted,
            "chain": {
                "withdrawn": outcome.chain.withdrawn,
                "strange": outcome.chain.strange,
                "unread": outcome.chain.unread,
            },
            "log": outcome.log.as_ref().map(|(_, after)| log::to_json(after)),
            "clock_behind": outcome.clock_behind.map(date::rfc3339),
            "seconds": self.took.as_secs_f64(),
            "exit": self.end().status(),
        });
        put_paths(&mut value, "paths", &request.roots);
        Ok(value)
    }
}

/// Entries listed on the screen; JSON and the snapshot's record have more.
const SHOWN_MAX: usize = 10;

/// A promise, for programs.
pub fn promise_word(promise: Promise) -> &'static str {
    match promise {
        Promise::SafeHere => "safe-here",
        Promise::SafeThere => "safe-there",
    }
}
