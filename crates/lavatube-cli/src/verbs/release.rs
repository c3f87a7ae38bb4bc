//! `lavatube release`: frees what only forgotten snapshots need, in the name of the authority. Must not know what the vault does.

pub mod afar;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lavatube_base::{DepositorId, ObjectId};
use lavatube_client::meter::Meter;
use lavatube_client::release::Plan;
use lavatube_node::keyring::Keyring;
use lavatube_node::link_folder;
use lavatube_node::reader::Session;
use lavatube_node::releasing::{self, Kept, Planned, Taken, Terms};
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
/// whole packs; others, of which enough is not needed, it thins: it writes what stays anew, without seeing what it is, and nothing crosses the link for it. While something is in doubt (an unreadable manifest, something that waits, an alarm) nothing is freed.
///
/// Other machines may have sessions under way that build on what is freed: the vault waits until each has made one more backup
/// and so knows of the release, and drops the release if one finishes a session without knowing. --without names machines that are
/// gone for good.
///
/// With a vault at the other end of a link the same is done from here: what a release stands on is asked for over the link and verified, the release
/// waits here for the next contact, and the vault's answer comes home. A backup that crosses in between makes it outdated, and nothing is freed then.
///
/// What a backup said shall be kept (`--retain`, `--hold`) stays for so long, and so does all that was stored before it.
///
/// JSON fields: snapshots (ids of those that go), packs, bytes, thinned_packs, thinned_bytes, kept {snapshots, packs, bytes, idle_bytes}, retained {packs, bytes, left_s}, dry_run, release {id, number,
/// answered (false while it waits here for a far vault's answer), followed, waits [{depositor, label}]}, taken_up (an earlier release was waited for, and nothing else was looked at), earlier {number, refusal} (one that was left here and not taken), withdrawn (number), exit.
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
    /// Leave it to go with the next contact, and do not wait for the vault's answer
    #[arg(long, help_heading = FAR, conflicts_with = "dry_run")]
    no_wait: bool,
    /// Take the release back that waits here; if it has left before, the vault may take it all the same
    #[arg(long, help_heading = FAR, conflicts_with_all = ["dry_run", "no_wait", "recovery_key", "without", "lift"])]
    withdraw: bool,
    #[command(flatten)]
    read_key: ReadArgs,
}

const FAR: &str = "For a vault at the other end of a link";

const EXAMPLES: &str = "Examples:
  lavatube forget --keep-daily 7 --keep-monthly 12
  lavatube release --dry-run
  lavatube release --recovery-key /media/stick/recovery-key.txt
  lavatube release --recovery-key - --without old-laptop
  lavatube release --lift 3f2a9c41
  lavatube release --no-wait                      sign now, and let it go with the next contact
  lavatube release --withdraw                     take it back, if it has not left";

/// What became of a release that was signed.
struct Told {
    id: ObjectId,
    number: u64,
    /// Whether the vault has taken it; else it waits here.
    is_answered: bool,
    waits: Vec<DepositorId>,
    /// It is followed, and something is left to be done.
    is_open: bool,
    /// It frees nothing, ever.
    is_void: bool,
}

impl From<Taken> for Told {
    fn from(taken: Taken) -> Self {
        let Taken { id, number, waits, is_open } = taken;
        Self { id, number, is_answered: true, waits, is_open, is_void: false }
    }
}

/// Frees it.
///
/// # Errors
/// When nothing was freed.
pub fn run(args: &ReleaseArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let is_far = link_folder::is_far(&settings.places.vault);
    if !is_far && (args.no_wait || args.withdraw) {
        let what = "the vault is on this machine: no release waits for it";
        return Err(Failure::new(Condition::Usage, what).hint("leave --no-wait and --withdraw away"));
    }
    if args.withdraw {
        return afar::withdraw(settings, screen);
    }
    let keyring = Keyring::at(&settings.places.keys);
    // Asked for before anything is read.
    let root = if args.dry_run { None } else { Some(root(args, &keyring, settings)?) };
    let earlier = if is_far && !args.dry_run { afar::earlier(args, settings, screen)? } else { None };
    if let Some(afar::Earlier::Taken(left, outcome)) = earlier {
        return afar::take_up(&left, *outcome, args, settings, screen);
    }
    // Others may have added something.
    let refresh = args.read_key.refresh || is_far;
    let read_key = ReadArgs { refresh, ..args.read_key.clone() };
    let reader = archive::open(settings, &read_key, "lavatube release", !is_far)?;
    if let Some(root) = &root {
        releasing::is_of_this_archive(&reader, root)?;
    }
    let looked = archive::reading(&reader, screen, "asking the vault", &Meter::default(), || {
        releasing::begin(&reader, &keyring)
    })?;
    let session = archive::session(&reader, screen)?;
    let labels: BTreeMap<DepositorId, String> = reader.depositors().into_iter().collect();
    let without = machines(args, &labels)?;
    let lifts = lifts(args, &session)?;
    let meter = Meter::default();
    let Planned { plan, kept } = archive::reading(&reader, screen, "looking at what is needed", &meter, || {
        releasing::plan(&reader, &session, &looked, &lifts, &meter)
    })?;
    let open = releasing::open_releases(&reader, &looked);
    let terms = Terms { looked, without, lifts: lifts.clone() };
    let told = match &root {
        Some(_) if plan.is_empty() && lifts.is_empty() => None,
        Some(root) if is_far => {
            let bytes = releasing::afar::sign(&reader, root, &plan, terms)?;
            let own = releasing::afar::who_can_say(&session, &reader, &keyring);
            // Others may work with this machine's state while the release is under way.
            drop(session);
            drop(reader);
            Some(afar::hand_over(bytes, own, args, settings, screen)?)
        }
        Some(root) => Some(releasing::release(&reader, &session, &keyring, root, &plan, terms)?.into()),
        None => None,
    };
    let kept = kept.filter(|_| plan.retained_packs > 0);
    show(args, &plan, told.as_ref(), &labels, screen)?;
    if !lifts.is_empty() && told.as_ref().is_some_and(|told| told.is_answered) {
        screen.say(&format!("{} held no more.", things(lifts.len() as u64, "session is", "sessions are")))?;
    }
    tell_what_is_kept(&plan, kept, screen)?;
    let standing = told.is_none() && told_of_open(&open, &labels, screen);
    if plan.is_empty() && plan.snapshots.is_empty() && !standing {
        screen.tell("`lavatube forget` marks snapshots that are not wanted any more.")?;
    }
    let mut answer = answer(args, &plan, told.as_ref(), kept, &labels);
    if let Some(afar::Earlier::Refused { number, why }) = &earlier {
        answer["earlier"] = json!({ "number": number, "refusal": why });
    }
    screen.answer(&answer)?;
    Ok(End::Done)
}

fn tell_what_is_kept(plan: &Plan, kept: Option<Kept>, screen: &Screen) -> Result<(), Failure> {
    let Some(kept) = kept else { return Ok(()) };
    let packs = things(plan.retained_packs, "pack", "packs");
    let until = kept.left_s.map_or("until the hold of a snapshot is lifted (--lift)".to_owned(), |s| {
        format!("for {} more of the vault's uptime", units::whole_span(s))
    });
    screen.say(&format!("{packs} ({}) that no snapshot needs stay {until}.", units::bytes(plan.retained_bytes)))
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
    told: Option<&Told>,
    labels: &BTreeMap<DepositorId, String>,
    screen: &Screen,
) -> Result<(), Failure> {
    let row = |name: &str, value: String, note: String| {
        screen.say(format!("  {name:<10} {value:>10}  {}", screen.ink(Ink::Dim, &note)).trim_end())
    };
    let packs = |n: u64| things(n, "pack", "packs");
    let kept = things(plan.kept, "snapshot", "snapshots");
    if plan.is_empty() {
        if let Some(told) = told.filter(|told| !told.is_answered) {
            return tell_stage(told, labels, screen);
        }
        let all = things(plan.kept_packs, "pack is", "packs are all");
        screen.say(&format!("Nothing can be freed: {all} needed for {kept}."))?;
        return Ok(());
    }
    let head = match (args.dry_run, told) {
        (true, _) | (_, None) => "A release would free".to_owned(),
        (_, Some(told)) if !told.is_answered => format!("Release {} is signed, and will free", told.number),
        (_, Some(told)) if told.waits.is_empty() => format!("Release {} freed", told.number),
        (_, Some(told)) => format!("Release {} waits, and will free", told.number),
    };
    screen.say(&screen.ink(Ink::Bold, &head))?;
    row("gone", units::bytes(plan.bytes), packs(plan.packs))?;
    if !plan.thins.is_empty() {
        let of = format!("of {} that stay in part", packs(plan.thins.len() as u64));
        row("thinned", units::bytes(plan.thinned_bytes), of)?;
    }
    row("stays", units::bytes(plan.kept_bytes), format!("{}, for {kept}", packs(plan.kept_packs)))?;
    row("idle", units::bytes(plan.idle_bytes), "of what stays, where it lies too close to what is needed".into())?;
    for id in &plan.snapshots {
        screen.say(&format!(
            "  snapshot {} {}",
            id.short(),
            if told.is_some_and(|told| told.is_answered) { "is gone" } else { "goes for good" }
        ))?;
    }
    told.map_or(Ok(()), |told| tell_stage(told, labels, screen))
}

/// How a release stands.
fn tell_stage(told: &Told, labels: &BTreeMap<DepositorId, String>, screen: &Screen) -> Result<(), Failure> {
    if !told.is_answered {
        let number = told.number;
        return screen.say(&format!(
            "Release {number} waits here for the next contact; `lavatube release` waits for the vault's answer, and `lavatube status` shows it."
        ));
    }
    screen.say(&screen.ink(Ink::Dim, &format!("in the log for ever as {}", told.id)))?;
    if told.is_void {
        screen.warn("it is void: a backup was finished without knowing of it, and nothing is freed by it");
    } else if !told.waits.is_empty() {
        let names = names(&told.waits, labels);
        screen.warn(&format!(
            "nothing is freed before these machines have made one more backup: {names} (--without MACHINE for one that is gone)"
        ));
    } else if told.is_open {
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
fn told_of_open(open: &[(u64, Vec<DepositorId>)], labels: &BTreeMap<DepositorId, String>, screen: &Screen) -> bool {
    for (number, waits) in open {
        let why = match waits.is_empty() {
            true => "drives that are away are back".to_owned(),
            false => format!("these machines have made one more backup: {}", names(waits, labels)),
        };
        screen.warn(&format!("release {number} is not done before {why}"));
    }
    !open.is_empty()
}

fn answer(
    args: &ReleaseArgs,
    plan: &Plan,
    told: Option<&Told>,
    kept: Option<Kept>,
    labels: &BTreeMap<DepositorId, String>,
) -> serde_json::Value {
    json!({
        "snapshots": plan.snapshots.iter().map(|id| id.to_string()).collect::<Vec<_>>(),
        "packs": plan.packs,
        "bytes": plan.bytes,
        "thinned_packs": plan.thins.len(),
        "thinned_bytes": plan.thinned_bytes,
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
        "release": told.map(|told| release_to_json(told, labels)),
        "exit": 0,
    })
}

fn release_to_json(told: &Told, labels: &BTreeMap<DepositorId, String>) -> serde_json::Value {
    let one = |id: &DepositorId| json!({ "depositor": id.to_string(), "label": labels.get(id) });
    json!({
        "id": told.id.to_string(),
        "number": told.number,
        "answered": told.is_answered,
        "followed": told.is_answered && told.waits.is_empty() && !told.is_void,
        "waits": told.waits.iter().map(one).collect::<Vec<_>>(),
    })
}
