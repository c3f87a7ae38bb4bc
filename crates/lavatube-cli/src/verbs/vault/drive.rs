//! `lavatube vault drive`: drives are named anew, added, let in again and retired. Must not know what that changes.

use std::sync::atomic::Ordering;

use lavatube_client::meter::Meter;
use lavatube_format::care::Report;
use lavatube_format::mandate::Task;
use lavatube_node::drive_care::{self, Names, Retired, Tried};
use lavatube_node::embedded::DriveSpec;
use lavatube_node::places;
use lavatube_vault::DriveStatus;
use serde_json::json;

use super::afar::{self, TellArgs};
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::status::quarantine_word;
use crate::{daemon, progress, units};

/// Name drives anew, add them, let them in again, retire them
///
/// A vault at the other end of a link is told to, by a mandate that the recovery key signs: no machine that backs up can retire drives with what it has. `lavatube vault
/// status` shows what comes of it. JSON fields are then: mandate {number, task, stage (unanswered, waiting, under-way, done, in-part, failed), since_unix_s, done, total, text}, exit.
#[derive(Debug, clap::Args)]
pub(super) struct DriveArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Change what a drive is called: its label, shelf, maker and model
    ///
    /// It stands on the cards of all drives and in their README.txt. New objects are spread over shelves and makers as they are called then.
    ///
    /// JSON fields: drive {slot, id, label, shelf, maker, model}, exit.
    #[command(
        after_help = "Examples:\n  lavatube vault drive label d3 --shelf left\n  lavatube vault drive label d3 --label A3 --maker WD --model 'Red 12TB'"
    )]
    Label {
        /// The drive: its label, or the first digits of its id
        #[arg(value_name = "DRIVE")]
        drive: String,
        /// Its new label
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// Its shelf: what fails together
        #[arg(long, value_name = "TEXT")]
        shelf: Option<String>,
        /// Who made it
        #[arg(long, value_name = "TEXT")]
        maker: Option<String>,
        /// Its model
        #[arg(long, value_name = "TEXT")]
        model: Option<String>,
        #[command(flatten)]
        tell: TellArgs,
    },
    /// Add a drive to the vault
    ///
    /// It gets a card and the journal, and then its share of new objects. `lavatube vault repair` writes shards to it that had no place.
    ///
    /// JSON fields: drive {slot, id, label, shelf, maker, model}, exit.
    #[command(
        after_help = "Examples:\n  lavatube vault drive add /mnt/g/lavatube\n  lavatube vault drive add /mnt/g/lavatube,label=A7,shelf=left,maker=WD"
    )]
    Add {
        /// Its folder or bucket (then also with endpoint=URL, region, profile and size=2TB), and what is known of it
        #[arg(value_name = "DIR|s3://BUCKET/PREFIX[,label=A][,shelf=S][,maker=M][,model=M]")]
        drive: DriveSpec,
        #[command(flatten)]
        tell: TellArgs,
    },
    /// Read a drive in quarantine wholly, mend what it has, and trust it again
    ///
    /// A drive is put in quarantine when it was away or put back to an older state while things were written, failed while it was written to, was wrong in two scrubs
    /// running, or is far slower than the others (`lavatube vault status` says why). It is read last then, and nothing new is written to it. This reads every byte it should have, writes anew what is
    /// missing or damaged, and reads that again. One that was wrong again and again must be right without mending. `lavatube vault scrub` does the same beside its other work.
    ///
    /// Exit status: 0 it is trusted; 4 it is in quarantine still.
    ///
    /// JSON fields: drive {slot, id, label, shelf, maker, model}, tried {drive, admitted, quarantine (away, slow, failed, wrong), objects, ahead, found, left, beyond [{object, reason}]}, exit.
    #[command(
        after_help = "Examples:\n  lavatube vault drive admit d3\n  lavatube vault drive admit d3 --json | jq .tried.left"
    )]
    Admit {
        /// The drive: its label, or the first digits of its id
        #[arg(value_name = "DRIVE")]
        drive: String,
        #[command(flatten)]
        tell: TellArgs,
    },
    /// Write all shards of a drive to others, and retire it
    ///
    /// Each object with a shard on the drive is read, verified, and the shard is written to a drive that has none of that object. When nothing is left, the
    /// drive is marked as retired on all cards: it gets nothing any more, and is not missed when it is taken away. What it has stays on it until you erase it. A dead
    /// drive is retired in the same way. Interrupted or killed, it goes on the next time. It needs drives enough for the shards of an object without it: add one first.
    ///
    /// Exit status: 0 it is retired; 4 some objects have shards on it still.
    ///
    /// JSON fields: drive {slot, id, label, shelf, maker, model}, retired, objects, moved, left, beyond [{object, reason}], exit.
    #[command(
        after_help = "Examples:\n  lavatube vault drive retire d3\n  lavatube vault drive retire d3 --json | jq .left"
    )]
    Retire {
        /// The drive: its label, or the first digits of its id
        #[arg(value_name = "DRIVE")]
        drive: String,
        #[command(flatten)]
        tell: TellArgs,
    },
}

/// Does it.
///
/// # Errors
/// When the vault is not there or in use, there is no such drive, or the cards cannot be changed.
pub(super) fn run(args: &DriveArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let (folder, wait) = (&settings.places.vault, settings.lock_wait);
    if afar::is_afar(args.action.tell(), settings)? {
        return afar::tell(|report| args.action.task(report), args.action.tell(), settings, screen);
    }
    match &args.action {
        Action::Label { drive, .. } => {
            let drive = drive_care::rename(folder, drive, &args.action.names()?, wait)?;
            screen.tell(&format!("{}: {}", screen.ink(Ink::Bold, "named"), shown(&drive)))?;
            screen.answer(&json!({ "drive": to_json(&drive), "exit": End::Done.status() }))?;
            Ok(End::Done)
        }
        Action::Add { drive, .. } => {
            let here = std::env::current_dir().unwrap_or_default();
            let here = places::given(&here, &drive.folder).map_err(|e| Failure::new(Condition::Usage, e))?;
            let drive = drive_care::add(folder, &DriveSpec { folder: here, ..drive.clone() }, wait)?;
            screen.tell(&format!("{}: {}", screen.ink(Ink::Bold, "added"), shown(&drive)))?;
            screen.answer(&json!({ "drive": to_json(&drive), "exit": End::Done.status() }))?;
            Ok(End::Done)
        }
        Action::Admit { drive, .. } => admit(drive, settings, screen),
        Action::Retire { drive, .. } => retire(drive, settings, screen),
    }
}

impl Action {
    fn tell(&self) -> &TellArgs {
        let (Self::Label { tell, .. } | Self::Add { tell, .. } | Self::Admit { tell, .. } | Self::Retire { tell, .. }) =
            self;
        tell
    }

    /// The new names of a drive.
    fn names(&self) -> Result<Names, Failure> {
        let Self::Label { label, shelf, maker, model, .. } = self else { return Ok(Names::default()) };
        let [label, shelf, maker, model] = [label, shelf, maker, model].map(Clone::clone);
        let names = Names { label, shelf, maker, model };
        if [&names.label, &names.shelf, &names.maker, &names.model].iter().all(|name| name.is_none()) {
            let what = "nothing is to be changed: give --label, --shelf, --maker or --model";
            return Err(Failure::new(Condition::Usage, what));
        }
        Ok(names)
    }

    /// What a vault far away is told.
    fn task(&self, report: &Report) -> Result<Task, Failure> {
        Ok(match self {
            Self::Label { drive, .. } => {
                let Names { label, shelf, maker, model } = self.names()?;
                Task::Label { drive: afar::drive(report, drive)?, names: [label, shelf, maker, model] }
            }
            Self::Add { drive, .. } if (drive.folder.is_absolute() || places::bucket(&drive.folder).is_some()) => {
                Task::Add { drive: drive.to_string() }
            }
            Self::Add { drive, .. } => {
                let what =
                    format!("{} is a folder of the vault's machine: give it from the root on", drive.folder.display());
                return Err(Failure::new(Condition::Usage, what));
            }
            Self::Admit { drive, .. } => Task::Admit { drive: afar::drive(report, drive)? },
            Self::Retire { drive, .. } => Task::Retire { drive: afar::drive(report, drive)? },
        })
    }
}

fn admit(which: &str, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let meter = Meter::default();
    let go_on = || !stop.load(Ordering::Relaxed);
    let work = || drive_care::admit(&settings.places.vault, which, &meter, &go_on, settings.lock_wait);
    let (drive, tried) = progress::during(screen, "reading the drive", &meter, work)?;
    screen.tell(&tried_words(&drive.label, &tried, screen))?;
    for (id, e) in tried.beyond.iter().take(SHOWN_MAX) {
        screen.say(&screen.ink(Ink::Red, &format!("  object {}: {e}", id.short())))?;
    }
    if tried.admitted && tried.why.is_some() {
        screen.tell("  `lavatube vault repair` writes to it what had no place meanwhile")?;
    }
    let end = if tried.admitted { End::Done } else { End::Damaged };
    let label = drive.label.clone();
    screen
        .answer(&json!({ "drive": to_json(&drive), "tried": tried_to_json(&label, &tried), "exit": end.status() }))?;
    Ok(end)
}

/// What a full read of a drive has shown.
pub(super) fn tried_words(label: &str, tried: &Tried, screen: &Screen) -> String {
    let (name, shards) = (units::name(label.as_bytes()), |n: u64| units::things(n, "shard", "shards"));
    let Some(why) = tried.why else { return format!("{name}: it is trusted, and was") };
    let read = units::things(tried.objects.saturating_sub(tried.ahead), "object", "objects");
    let found = match (tried.found, tried.left) {
        (0, _) => "nothing on it was wrong".to_owned(),
        (found, 0) => format!("{} on it were wrong and are mended", shards(found)),
        (found, left) => format!("{} on it were wrong, {} are still", shards(found), shards(left)),
    };
    if tried.admitted {
        let text = format!("{name}: {read} read, {found}: it is trusted again");
        return screen.ink(Ink::Green, &text);
    }
    let still = if tried.ahead > 0 {
        format!("interrupted before {} more", units::things(tried.ahead, "object", "objects"))
    } else {
        drive_care::why(why).to_owned()
    };
    screen.ink(Ink::Yellow, &format!("{name}: {read} read, {found}: it stays in quarantine ({still})"))
}

/// The same as JSON.
pub(super) fn tried_to_json(label: &str, tried: &Tried) -> serde_json::Value {
    let beyond = tried.beyond.iter().map(|(id, e)| json!({ "object": id.to_string(), "reason": e.to_string() }));
    json!({
        "drive": label,
        "admitted": tried.admitted,
        "quarantine": tried.why.map(quarantine_word),
        "objects": tried.objects,
        "ahead": tried.ahead,
        "found": tried.found,
        "left": tried.left,
        "beyond": beyond.collect::<Vec<_>>(),
    })
}

fn retire(which: &str, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let meter = Meter::default();
    let go_on = || !stop.load(Ordering::Relaxed);
    let work = || drive_care::retire(&settings.places.vault, which, &meter, &go_on, settings.lock_wait);
    let (drive, done) = progress::during(screen, "moving shards", &meter, work)?;
    let objects = |n: u64| units::things(n, "object", "objects");
    let head = if done.done { "retired" } else { "not retired yet" };
    screen.tell(&format!("{}: {}", screen.ink(Ink::Bold, head), shown(&drive)))?;
    if done.moved > 0 {
        screen.tell(&format!("  shards of {} are on other drives now", objects(done.moved)))?;
    }
    for (id, e) in done.beyond.iter().take(SHOWN_MAX) {
        screen.say(&screen.ink(Ink::Red, &format!("  object {}: {e}", id.short())))?;
    }
    if done.left > 0 {
        let text = format!(
            "  {} have shards on it still: no other drive could take them, or it was interrupted",
            objects(done.left)
        );
        screen.say(&screen.ink(Ink::Yellow, &text))?;
    } else if done.done {
        screen.tell("  it may be taken away; what is on it stays until you erase it")?;
    }
    let end = if done.done { End::Done } else { End::Damaged };
    screen.answer(&answer(&drive, &done, end))?;
    Ok(end)
}

fn answer(drive: &DriveStatus, done: &Retired, end: End) -> serde_json::Value {
    let beyond = done.beyond.iter().map(|(id, e)| json!({ "object": id.to_string(), "reason": e.to_string() }));
    json!({
        "drive": to_json(drive),
        "retired": done.done,
        "objects": done.objects,
        "moved": done.moved,
        "left": done.left,
        "beyond": beyond.collect::<Vec<_>>(),
        "exit": end.status(),
    })
}

fn shown(drive: &DriveStatus) -> String {
    let name = |text: &str| units::name(text.as_bytes());
    let mut text = name(&drive.label);
    let product = format!("{} {}", name(&drive.maker), name(&drive.model));
    let shelf = if drive.shelf.is_empty() { String::new() } else { format!("shelf {}", name(&drive.shelf)) };
    for part in [product.trim(), &shelf].into_iter().filter(|part| !part.is_empty()) {
        text.push_str(", ");
        text.push_str(part);
    }
    text
}

fn to_json(drive: &DriveStatus) -> serde_json::Value {
    json!({
        "slot": drive.slot,
        "id": drive.drive.to_string(),
        "label": drive.label,
        "shelf": drive.shelf,
        "maker": drive.maker,
        "model": drive.model,
    })
}

/// Objects that are listed on the screen.
const SHOWN_MAX: usize = 20;
