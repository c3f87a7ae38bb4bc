//! The care of a vault at the other end of a link: asking how it is, and telling it what to do in the authority's name. Must not know how a
//! mandate is followed.

use std::path::PathBuf;
use std::time::Duration;

use lavatube_base::DriveId;
use lavatube_client::meter::Meter;
use lavatube_format::care::{CareDrive, DriveWord, Report};
use lavatube_format::mandate::{Mandate, Progress, Stage, Task};
use lavatube_node::clock;
use lavatube_node::from_afar::{Afar, Answered, Left, Said, Waiting};
use lavatube_node::keyring::Keyring;
use lavatube_node::link_folder;
use lavatube_seal::Root;
use serde_json::{Value, json};

use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::{daemon, date, progress, recovery, units};

/// How a vault at the other end of a link is told something.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "For a vault at the other end of a link")]
pub(super) struct TellArgs {
    /// Sign with the recovery key in FILE, or from standard input where it is - [default: recovery-key.txt, if it still lies beside the keys]
    #[arg(long, value_name = "FILE")]
    recovery_key: Option<PathBuf>,
    /// Leave it to go with the next contact, and do not wait for the vault's answer
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting when nothing came over the link for so long [default: wait for the next contact, and the one after it]
    #[arg(long, value_name = "SECONDS")]
    link_wait: Option<u64>,
}

/// Whether the vault is at the other end of a link. What is only for such a one is refused for others.
pub(super) fn is_afar(args: &TellArgs, settings: &Settings) -> Result<bool, Failure> {
    let is_far = link_folder::is_far(&settings.places.vault);
    if !is_far && (args.recovery_key.is_some() || args.no_wait || args.link_wait.is_some()) {
        let what = "the vault is on this machine: nothing is signed for it, nor waited for";
        return Err(Failure::new(Condition::Usage, what)
            .hint("leave --recovery-key, --no-wait and --link-wait away, or name another vault with --vault DIR"));
    }
    Ok(is_far)
}

/// What a far vault said of itself, and what waits here for it.
pub(super) struct Heard {
    /// It.
    pub said: Said,
    /// Mandates that it has not answered.
    pub left: Vec<Left>,
}

/// Asks the vault how it is, or looks what it said `last`.
pub(super) fn hear(last: bool, link_wait: Option<u64>, settings: &Settings, screen: &Screen) -> Result<Heard, Failure> {
    let afar = Afar::open(&settings.places)?;
    let said = if last {
        afar.last().ok_or_else(|| {
            Failure::new(Condition::VaultAway, "the vault has never said how it is to this machine")
                .hint("`lavatube vault status` asks it, and waits for the next contact")
        })?
    } else {
        ask(&afar, link_wait, screen)?
    };
    Ok(Heard { said, left: afar.left()? })
}

fn ask(afar: &Afar, link_wait: Option<u64>, screen: &Screen) -> Result<Said, Failure> {
    let answered = wait(link_wait, screen, |waiting| Ok(afar.ask(waiting)?))?;
    answered.ok_or_else(|| {
        Failure::new(Condition::Interrupted, "the vault has not answered yet")
            .hint("what was asked waits here for the next contact; `lavatube vault status --last` shows the answer once it has come")
    })
}

/// Waits for an answer; `None` when it was stopped before.
fn wait(
    link_wait: Option<u64>,
    screen: &Screen,
    work: impl FnOnce(&Waiting<'_>) -> Result<Answered, Failure>,
) -> Result<Option<Said>, Failure> {
    let stop = daemon::stop_flag()?;
    let meter = Meter::default();
    meter.waits.set(1);
    let waiting = Waiting { patience: link_wait.map(Duration::from_secs), stop: &stop };
    match progress::during(screen, "asking the vault", &meter, || work(&waiting))? {
        Answered::Said(said) => Ok(Some(*said)),
        Answered::NotYet => Ok(None),
    }
}

/// Tells the vault what to do, signed by the authority. `task` finds out what, by what the vault last said of itself.
pub(super) fn tell(
    task: impl Fn(&Report) -> Result<Task, Failure>,
    args: &TellArgs,
    settings: &Settings,
    screen: &Screen,
) -> Result<End, Failure> {
    let afar = Afar::open(&settings.places)?;
    let root = root(args, settings)?;
    let mut said = match afar.last() {
        Some(said) => said,
        None if args.no_wait => {
            let what =
                "the vault has never said how it is to this machine, and a mandate has a number that follows from that";
            return Err(Failure::new(Condition::VaultAway, what)
                .hint("leave --no-wait away, or ask first: `lavatube vault status`"));
        }
        None => ask(&afar, args.link_wait, screen)?,
    };
    for _ in 0..TRIES {
        let number = afar.next_number()?.unwrap_or(1);
        let mandate = Mandate { vault: afar.signer().vault, number, task: task(&said.report)? };
        let signed = root.sign_mandate(mandate.clone()).map_err(not_signed)?;
        let errand = afar.tell(&signed)?;
        if args.no_wait {
            screen.tell(&format!(
                "{}: {}",
                screen.ink(Ink::Bold, &format!("mandate {number}")),
                words(&mandate.task)
            ))?;
            screen.tell("  it waits here for the next contact; `lavatube vault status` shows what comes of it")?;
            screen.answer(&json!({ "mandate": unanswered(&mandate), "exit": End::Done.status() }))?;
            return Ok(End::Done);
        }
        let Some(answer) = wait(args.link_wait, screen, |waiting| Ok(afar.await_it(errand, waiting)?))? else {
            return Err(Failure::new(Condition::Interrupted, format!("mandate {number} is not answered yet")).hint(format!(
                "it waits here for the next contact; `lavatube vault withdraw {number}` takes it back, unless it has left before"
            )));
        };
        said = answer;
        if said.report.refusal.is_empty() {
            return taken(&mandate, &said, screen);
        }
        // Somebody else's was faster: with a number behind that it is as good.
        if said.report.last_mandate < number {
            break;
        }
    }
    let what = format!("the vault does not take it: {}", said.report.refusal);
    Err(Failure::new(Condition::Refused, what).hint("`lavatube vault status` shows how the vault is"))
}

fn taken(mandate: &Mandate, said: &Said, screen: &Screen) -> Result<End, Failure> {
    let progress = said.report.mandates.iter().find(|(number, ..)| *number == mandate.number).map(|(.., p)| p);
    let head = screen.ink(Ink::Bold, &format!("mandate {}", mandate.number));
    screen.tell(&format!("{head}: {}, taken by the vault", words(&mandate.task)))?;
    let stage = progress.map_or(Stage::Waits, |progress| progress.stage);
    if let Some(progress) = progress {
        screen.tell(&format!("  {}", stands(progress, screen)))?;
    }
    if !stage.is_over() {
        screen.tell("  `lavatube vault status` shows how far it is")?;
    }
    let end = match stage {
        Stage::Failed | Stage::InPart => End::Damaged,
        Stage::Waits | Stage::UnderWay | Stage::Done => End::Done,
    };
    let mut value = unanswered(mandate);
    if let Some(progress) = progress {
        value = to_json(mandate.number, task_word(mandate.task.code()), progress);
    }
    screen.answer(&json!({ "mandate": value, "exit": end.status() }))?;
    Ok(end)
}

fn root(args: &TellArgs, settings: &Settings) -> Result<Root, Failure> {
    let keyring = Keyring::at(&settings.places.keys);
    let why = "what a vault far away is to do is signed with the recovery key, and that is not here";
    let root = recovery::signing_root(args.recovery_key.as_deref(), &keyring, settings, why)?;
    let authority = root.authority_public().map_err(not_signed)?;
    if keyring.deposit().is_ok_and(|keys| keys.card().verify(&authority).is_err()) {
        return Err(Failure::new(Condition::WrongKey, "this recovery key is not that of this machine's archive"));
    }
    Ok(root)
}

fn not_signed(e: lavatube_seal::SealError) -> Failure {
    Failure::new(Condition::Failed, format!("nothing could be signed: {e}"))
}

/// The drive in use that is called `which`, by what the vault last said: by its label, or the first digits of its id.
pub(super) fn drive(report: &Report, which: &str) -> Result<DriveId, Failure> {
    let in_use = |d: &&CareDrive| d.word != DriveWord::Retired;
    let mut fit: Vec<_> = report.drives.iter().filter(in_use).filter(|d| d.names[0] == which).collect();
    if fit.is_empty() && which.len() >= ID_DIGITS_MIN {
        fit = report.drives.iter().filter(in_use).filter(|d| d.drive.to_string().starts_with(which)).collect();
    }
    match fit[..] {
        [one] => Ok(one.drive),
        _ => {
            let known: Vec<String> =
                report.drives.iter().filter(in_use).map(|d| units::name(d.names[0].as_bytes())).collect();
            let what = format!("{} drives are called {which}, by what the vault last said", fit.len());
            Err(Failure::new(Condition::Usage, what).hint(format!("it has {}", known.join(", "))))
        }
    }
}

/// What a mandate wants, in words.
fn words(task: &Task) -> String {
    let word = task_word(task.code());
    match (task, task.drive()) {
        (Task::Add { drive }, _) => format!("{word} {drive}"),
        (_, Some(drive)) => format!("{word} drive {}", &drive.to_string()[..8]),
        _ => word.to_owned(),
    }
}

pub(super) fn task_word(code: u8) -> &'static str {
    match code {
        1 => "scrub",
        2 => "repair",
        3 => "label",
        4 => "add",
        5 => "admit",
        6 => "retire",
        _ => "unknown",
    }
}

fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Waits => "waiting",
        Stage::UnderWay => "under-way",
        Stage::Done => "done",
        Stage::InPart => "in-part",
        Stage::Failed => "failed",
    }
}

/// How a mandate stands, in words.
fn stands(progress: &Progress, screen: &Screen) -> String {
    let (ink, word) = match progress.stage {
        Stage::Waits => (Ink::Yellow, "its turn comes".to_owned()),
        Stage::UnderWay if progress.total > 0 => {
            let share = 100.0 * progress.done as f64 / progress.total as f64;
            (Ink::Yellow, format!("under way, {share:.0} % of {} objects", units::count(progress.total)))
        }
        Stage::UnderWay => (Ink::Yellow, "under way".to_owned()),
        Stage::Done => (Ink::Green, "done".to_owned()),
        Stage::InPart => (Ink::Yellow, "done in part".to_owned()),
        Stage::Failed => (Ink::Red, "failed".to_owned()),
    };
    let text =
        if progress.text.is_empty() { String::new() } else { format!(": {}", units::name(progress.text.as_bytes())) };
    format!("{}{text}", screen.ink(ink, &word))
}

/// The mandates that a vault tells of, and those that wait here. `now_s` is now by the vault's clock.
pub(super) fn mandate_lines(told: &[(u64, u8, Progress)], left: &[Left], now_s: i64, screen: &Screen) -> Vec<String> {
    if told.is_empty() && left.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new(), screen.ink(Ink::Bold, "mandates")];
    for (number, task, progress) in told.iter().rev() {
        let ago = units::ago(now_s.saturating_sub(progress.since_s));
        lines.push(format!("  {number:>4}  {:<7} {ago}: {}", task_word(*task), stands(progress, screen)));
    }
    for left in left {
        let (number, words) = (left.mandate.number, words(&left.mandate.task));
        lines.push(screen.ink(Ink::Yellow, &format!("  {number:>4}  {words}: here still, not answered by the vault")));
    }
    lines
}

/// A mandate as JSON.
pub(super) fn to_json(number: u64, task: &str, progress: &Progress) -> Value {
    json!({
        "number": number,
        "task": task,
        "stage": stage_word(progress.stage),
        "since_unix_s": progress.since_s,
        "done": progress.done,
        "total": progress.total,
        "text": progress.text,
    })
}

/// One that the vault has not answered, as JSON.
pub(super) fn unanswered(mandate: &Mandate) -> Value {
    let task = task_word(mandate.task.code());
    json!({ "number": mandate.number, "task": task, "stage": "unanswered", "drive": mandate.task.drive().map(|d| d.to_string()) })
}

/// How old a report is.
pub(super) fn told_words(heard: &Heard, screen: &Screen) -> Vec<String> {
    let said = &heard.said;
    let age = clock::wall_now().s.saturating_sub(said.came.s);
    let ink = if age > OLD_S { Ink::Yellow } else { Ink::Dim };
    let text = format!(
        "{}, in {}; signed by it at {} by its own clock",
        units::ago(age),
        units::bytes(said.len as u64),
        date::table(lavatube_base::time::WallTime { s: said.report.time_s, ns: 0 })
    );
    let mut lines = vec![format!("  told        {}", screen.ink(ink, &text))];
    if !said.report.refusal.is_empty() {
        let text = format!("  refused     the mandate that came with the question: {}", said.report.refusal);
        lines.push(screen.ink(Ink::Red, &text));
    }
    lines
}

/// Take a mandate back that waits on this machine
///
/// What is told to a vault at the other end of a link waits here until the vault has answered. This takes it back; if it has left before, the vault may
/// follow it all the same.
///
/// JSON fields: withdrawn {number, task, stage, drive}, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lavatube vault status --last\n  lavatube vault withdraw 3")]
pub(super) struct WithdrawArgs {
    /// Its number
    #[arg(value_name = "NUMBER")]
    number: u64,
}

/// Takes it back.
///
/// # Errors
/// When none of that number waits.
pub(super) fn withdraw(args: &WithdrawArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let afar = Afar::open(&settings.places)?;
    let all = afar.left()?;
    let Some(left) = all.iter().find(|left| left.mandate.number == args.number) else {
        let what = format!("no mandate {} waits on this machine", args.number);
        let hint = match &all[..] {
            [] => "none waits; `lavatube vault status --last` shows those that the vault has taken".to_owned(),
            all => {
                let numbers: Vec<String> = all.iter().map(|left| left.mandate.number.to_string()).collect();
                format!("there wait {}", numbers.join(", "))
            }
        };
        return Err(Failure::new(Condition::Usage, what).hint(hint));
    };
    afar.withdraw(left);
    let head = screen.ink(Ink::Bold, "withdrawn");
    screen.tell(&format!("{head}: mandate {}, {}", args.number, words(&left.mandate.task)))?;
    screen.answer(&json!({ "withdrawn": unanswered(&left.mandate), "exit": End::Done.status() }))?;
    Ok(End::Done)
}

/// So many digits of an id are asked for at least.
const ID_DIGITS_MIN: usize = 4;
/// Numbers that are tried when others tell the vault things at the same time.
const TRIES: usize = 3;
/// From so old on a report is shown as old.
const OLD_S: i64 = 86_400;
