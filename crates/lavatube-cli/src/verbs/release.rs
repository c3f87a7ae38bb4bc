//! `lavatube release`: frees what only forgotten snapshots need, in the name of the authority. Must not know what the vault does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lavatube_base::{DepositorId, ObjectId};
use lavatube_client::meter::Meter;
use lavatube_client::release::Plan;
use lavatube_node::keyring::Keyring;
use lavatube_node::reader::{Reader, Session};
use lavatube_node::releasing::{self, Kept, Taken, Terms};
use lavatube_seal::Root;
use serde_json::json;

use crate::archive::{self, ReadArgs};
use crate::errors::{Condition, End, Failure};
use crate::recovery;
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};

/// Free what only forgotten snapshots need. It cannot be taken back.
///
/// All trees of all other snapshots of all machines are walked; what they do not need is named in a statement that the recovery
/// key signs, since no key on a machine that backs up may delete. The vault verifies it, keeps it in its log for ever, and removes
/// whole packs. While something is in doubt (an unreadable manifest, something that waits, an alarm) nothing is freed.
///
/// Other machines may have sessions under way that build on what is freed: the vault waits until each has made one more backup
/// and so knows of the release, and drops the release if one finishes a session without knowing. --without names machines that are
/// gone for good.
///
/// What a backup said shall be kept (`--retain`, `--hold`) stays for so long, and so does all that was stored before it.
///
/// JSON fields: snapshots (ids of those that go), packs, bytes, kept {snapshots, packs, bytes, idle_bytes}, retained {packs, bytes, left_s}, dry_run, release {id, number,
/// followed, waits [{depositor, label}]}, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ReleaseArgs {
    /// Only say what would be freed; needs no recovery key
    #[arg(long)]
    dry_run: bool,
    /// Read the recovery key from FILE, or from standard input where it is - [default: recovery-key.txt, if it still lies beside the keys]
    #[arg(long, value_name = "FILE")]
    recovery_key: Option<PathBuf>,
    /// Do not wait for this machine, by its name or the beginning of its id: it is gone for good. Repeat it for each
    #[arg(long, value_name = "MACHINE")]
    without: Vec<String>,
    /// Hold the session of this snapshot no more (`lavatube backup --hold`). Repeat it for each
    #[arg(long, value_name = "SNAPSHOT")]
    lift: Vec<String>,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube forget --keep-daily 7 --keep-monthly 12
  lavatube release --dry-run
  lavatube release --recovery-key /media/stick/recovery-key.txt
  lavatube release --recovery-key - --without old-laptop
  lavatube release --lift 3f2a9c41";

/// Frees it.
///
/// # Errors
/// When nothing was freed.
pub fn run(args: &ReleaseArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let keyring = Keyring::at(&settings.places.keys);
    // Asked for before anything is read.
    let root = if args.dry_run { None } else { Some(root(args, &keyring, settings)?) };
    let reader = archive::open(settings, &args.read_key, "lavatube release", true)?;
    if let Some(root) = &root {
        releasing::is_of_this_archive(&reader, root)?;
    }
    let looked = releasing::begin(&reader, &keyring)?;
    let session = archive::session(&reader, screen)?;
    let labels: BTreeMap<DepositorId, String> = reader.depositors().into_iter().collect();
    let without = machines(args, &labels)?;
    let lifts = lifts(args, &session)?;
    let meter = Meter::default();
    let plan = archive::reading(&reader, screen, "looking at what is needed", &meter, || {
        releasing::plan(&reader, &session, &lifts, &meter)
    })?;
    let terms = Terms { looked, without, lifts: lifts.clone() };
    let taken = match &root {
        Some(root) if !plan.objects.is_empty() || !lifts.is_empty() => {
            Some(releasing::release(&reader, &session, &keyring, root, &plan, terms)?)
        }
        _ => None,
    };
    let kept = releasing::kept(&reader, &lifts)?.filter(|_| plan.retained_packs > 0);
    show(args, &plan, taken.as_ref(), &labels, screen)?;
    if !lifts.is_empty() && taken.is_some() {
        screen.say(&format!("{} held no more.", things(lifts.len() as u64, "session is", "sessions are")))?;
    }
    if let Some(kept) = kept {
        let packs = things(plan.retained_packs, "pack", "packs");
        let until = kept.left_s.map_or("until the hold of a snapshot is lifted (--lift)".to_owned(), |s| {
            format!("for {} more of the vault's uptime", units::whole_span(s))
        });
        screen.say(&format!("{packs} ({}) that no snapshot needs stay {until}.", units::bytes(plan.retained_bytes)))?;
    }
    let standing = if taken.is_none() { told_of_open(&reader, &labels, screen)? } else { false };
    if plan.objects.is_empty() && plan.snapshots.is_empty() && !standing {
        screen.tell("`lavatube forget` marks snapshots that are not wanted any more.")?;
    }
    screen.answer(&answer(args, &plan, taken.as_ref(), kept, &labels))?;
    Ok(End::Done)
}

fn root(args: &ReleaseArgs, keyring: &Keyring, settings: &Settings) -> Result<Root, Failure> {
    let why = "a release is signed with the recovery key, and that is not here";
    recovery::signing_root(args.recovery_key.as_deref(), keyring, settings, why)
}

/// The depositors that `--without` names.
fn machines(args: &ReleaseArgs, labels: &BTreeMap<DepositorId, String>) -> Result<Vec<DepositorId>, Failure> {
    let mut out = Vec::new();
    for words in &args.without {
        let fits = |(id, label): &(&DepositorId, &String)| {
            *label == words || (words.len() >= 4 && id.to_string().starts_with(&words.to_ascii_lowercase()))
        };
        let found: Vec<DepositorId> = labels.iter().filter(fits).map(|(id, _)| *id).collect();
        match found[..] {
            [one] => out.push(one),
            _ => {
                let known: Vec<String> = labels.iter().map(|(id, label)| format!("{label} ({})", id.short())).collect();
                let what = format!("{} machines are called {words:?}", found.len());
                return Err(Failure::new(Condition::Usage, what).hint(format!("there are: {}", known.join(", "))));
            }
        }
    }
    Ok(out)
}

/// The manifests that `--lift` names by their snapshots.
fn lifts(args: &ReleaseArgs, session: &Session<'_>) -> Result<Vec<ObjectId>, Failure> {
    let mut out = Vec::new();
    for words in &args.lift {
        let listed = session.resolve(words)?;
        match session.hold_of(&listed.place) {
            Some((manifest, true)) => out.push(manifest),
            _ => {
                let what = format!("snapshot {} is not held", listed.place.id.short());
                return Err(Failure::new(Condition::Usage, what));
            }
        }
    }
    Ok(out)
}

fn show(
    args: &ReleaseArgs,
    plan: &Plan,
    taken: Option<&Taken>,
    labels: &BTreeMap<DepositorId, String>,
    screen: &Screen,
) -> Result<(), Failure> {
    let row = |name: &str, value: String, note: String| {
        screen.say(format!("  {name:<10} {value:>10}  {}", screen.ink(Ink::Dim, &note)).trim_end())
    };
    let packs = |n: u64| things(n, "pack", "packs");
    let kept = things(plan.kept, "snapshot", "snapshots");
    if plan.objects.is_empty() {
        let all = things(plan.kept_packs, "pack is", "packs are all");
        screen.say(&format!("Nothing can be freed: {all} needed for {kept}."))?;
        return Ok(());
    }
    let head = match (args.dry_run, taken) {
        (true, _) | (_, None) => "A release would free".to_owned(),
        (_, Some(taken)) if taken.waits.is_empty() => format!("Release {} freed", taken.number),
        (_, Some(taken)) => format!("Release {} waits, and will free", taken.number),
    };
    screen.say(&screen.ink(Ink::Bold, &head))?;
    row("gone", units::bytes(plan.bytes), packs(plan.packs))?;
    row("stays", units::bytes(plan.kept_bytes), format!("{}, for {kept}", packs(plan.kept_packs)))?;
    row("idle", units::bytes(plan.idle_bytes), "of what stays, in parts of packs: only whole packs go".into())?;
    for id in &plan.snapshots {
        screen.say(&format!(
            "  snapshot {} {}",
            id.short(),
            if taken.is_some() { "is gone" } else { "goes for good" }
        ))?;
    }
    let Some(taken) = taken else { return Ok(()) };
    screen.say(&screen.ink(Ink::Dim, &format!("in the log for ever as {}", taken.id)))?;
    if !taken.waits.is_empty() {
        let names = names(&taken.waits, labels);
        screen.warn(&format!(
            "nothing is freed before these machines have made one more backup: {names} (--without MACHINE for one that is gone)"
        ));
    } else if taken.is_open {
        screen.warn("some drives are away: what is on them is freed when they are back");
    }
    Ok(())
}

fn names(ids: &[DepositorId], labels: &BTreeMap<DepositorId, String>) -> String {
    let name = |id: &DepositorId| match labels.get(id) {
        Some(label) => format!("{} ({})", units::name(label.as_bytes()), id.short()),
        None => id.short(),
    };
    ids.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Says which earlier releases are not done. Whether there are any.
fn told_of_open(reader: &Reader, labels: &BTreeMap<DepositorId, String>, screen: &Screen) -> Result<bool, Failure> {
    let open = releasing::open_releases(reader)?;
    for (release, waits) in &open {
        let why = match waits.is_empty() {
            true => "drives that are away are back".to_owned(),
            false => format!("these machines have made one more backup: {}", names(waits, labels)),
        };
        screen.warn(&format!("release {} is not done before {why}", release.number));
    }
    Ok(!open.is_empty())
}

fn answer(
    args: &ReleaseArgs,
    plan: &Plan,
    taken: Option<&Taken>,
    kept: Option<Kept>,
    labels: &BTreeMap<DepositorId, String>,
) -> serde_json::Value {
    let waits = |taken: &Taken| {
        let one = |id: &DepositorId| json!({ "depositor": id.to_string(), "label": labels.get(id) });
        taken.waits.iter().map(one).collect::<Vec<_>>()
    };
    json!({
        "snapshots": plan.snapshots.iter().map(|id| id.to_string()).collect::<Vec<_>>(),
        "packs": plan.packs,
        "bytes": plan.bytes,
        "kept": {
            "snapshots": plan.kept,
            "packs": plan.kept_packs,
            "bytes": plan.kept_bytes,
            "idle_bytes": plan.idle_bytes,
        },
        "retained": {
            "packs": plan.retained_packs,
            "bytes": plan.retained_bytes,
            "left_s": kept.and_then(|kept| kept.left_s),
        },
        "dry_run": args.dry_run,
        "release": taken.map(|taken| json!({
            "id": taken.id.to_string(),
            "number": taken.number,
            "followed": taken.waits.is_empty(),
            "waits": waits(taken),
        })),
        "exit": 0,
    })
}
