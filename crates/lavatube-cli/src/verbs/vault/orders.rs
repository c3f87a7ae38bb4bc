//! `lavatube vault orders`: what hands could do for the vault, in order of worth, and who does it. Must not know how it is found out.

mod api;

use std::sync::atomic::Ordering;
use std::time::Duration;

use lavatube_node::clock;
use lavatube_node::embedded::{self, EmbeddedVault};
use lavatube_node::lock::{Lock, LockError, Mode};
use lavatube_node::orders::{self, Book, BookError, Entry, Order, Seen, Stage, Task};
use lavatube_vault::{DriveState, Space, Status};
use serde_json::{Value, json};

use super::years::{Assumed, lost_share};
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::{daemon, quantities, units};

pub(super) use api::answer_to;

/// List what hands could do for the vault, claim it, and have the vault look whether it helped
///
/// A vault mends itself as far as its drives go. What it cannot do is put a cable right, or a new drive in: that it asks for. First comes what is worth most: what lowers the expected loss
/// of the next ten years most, reckoned as in `lavatube plan durability` with drives that fail as --afr says.
///
/// Whoever takes an order claims it, and no other may for that time; `progress` holds the claim. `done` is not believed: the vault looks, takes an empty drive in, writes to it what it should have, and the
/// order is over when there is no reason for it any more. The same over HTTP, for robots: `lavatube vault serve --orders 127.0.0.1:8640` (docs/OPERATING.md).
///
/// Exit status: 0 done; 4 there are orders, or what was told did not help; 13 somebody else has the order.
///
/// JSON fields: orders [{id, task (shelf, reseat, replace, add), state (open, claimed, told, vain), drives (how many it takes), about [{slot, label, shelf, folder}], why, what, worth {years,
/// lost_share, lost_share_after, degraded (objects short of shards)}, claim {by, since_unix_s, until_unix_s, percent, note}}], ended [{id, by, helped, at_unix_s, note}], exit. Of claim, progress, done and release: order {id, state, claim}, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct OrdersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// A drive's failures a year, when it is neither new nor old
    #[arg(long, value_name = "SHARE", default_value = "1.4%", value_parser = quantities::share)]
    afr: f64,
}

const EXAMPLES: &str = "Examples:
  lavatube vault orders
  lavatube vault orders claim replace-3f09a1c2 --by Ana --for 2h
  lavatube vault orders progress replace-3f09a1c2 --by Ana --percent 50 --note 'the tray is out'
  lavatube vault orders done replace-3f09a1c2 --by Ana
  lavatube vault orders done add-drives --by Ana --drive /mnt/g/lavatube,label=A7,shelf=left
  lavatube vault orders --json | jq '.orders[0]'";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Take an order: nobody else may for that time
    Claim {
        #[command(flatten)]
        who: Who,
        /// For how long
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = quantities::seconds)]
        time: f64,
    },
    /// Tell how far it is; the claim holds as long again
    Progress {
        #[command(flatten)]
        who: Who,
        /// How far, 0 to 100
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        /// What there is to say
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Say that it is done: the vault looks, and says whether it helped
    Done {
        #[command(flatten)]
        who: Who,
        /// A further drive that was put in, for `add-drives`: its folder from the root on, and what is known of it
        #[arg(long = "drive", value_name = "DIR[,label=A][,shelf=S][,maker=M][,model=M]")]
        drives: Vec<String>,
        /// What there is to say
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Give an order back
    Release {
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Debug, clap::Args)]
struct Who {
    /// The order
    #[arg(value_name = "ORDER")]
    id: String,
    /// Who does it
    #[arg(long, value_name = "NAME", default_value = "somebody")]
    by: String,
}

/// Lists orders, or changes one.
///
/// # Errors
/// When there is no vault here, no such order, or it is another's.
pub(super) fn run(args: &OrdersArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let folder = &settings.places.vault;
    embedded::vault_id(folder)?;
    let change = |act: &dyn Fn(&mut Book, i64) -> Result<Entry, BookError>| Book::change(folder, act);
    let entry = match &args.action {
        None => return show(args.afr, settings, screen),
        Some(Action::Claim { who, time }) => {
            let known = orders::list(&look(settings)?, &Book::read(folder));
            if !known.iter().any(|order| order.id == who.id) {
                return Err(BookError::NoSuch(who.id.clone()).into());
            }
            change(&|book, now| book.claim(&who.id, &who.by, *time as i64, now))?
        }
        Some(Action::Progress { who, percent, note }) => {
            change(&|book, now| book.progress(&who.id, &who.by, *percent, note, now))?
        }
        Some(Action::Done { who, drives, note }) => {
            change(&|book, now| book.done(&who.id, &who.by, note, drives, now))?;
            return look_whether(&who.id, settings, screen);
        }
        Some(Action::Release { who }) => {
            Book::change(folder, |book, now| book.release(&who.id, &who.by, now))?;
            screen.tell(&format!("{}: anybody may take it", who.id))?;
            screen.answer(&json!({ "order": { "id": who.id, "state": "open" }, "exit": End::Done.status() }))?;
            return Ok(End::Done);
        }
    };
    screen.tell(&format!("{}: {}", entry.id, claim_words(&entry, clock::wall_now().s)))?;
    screen.answer(&json!({ "order": entry_to_json(&entry), "exit": End::Done.status() }))?;
    Ok(End::Done)
}

/// Has the vault look whether an order is done, unless a daemon has it: then that looks.
fn look_whether(id: &str, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let folder = &settings.places.vault;
    let stop = daemon::stop_flag()?;
    let lock =
        Lock::acquire(&embedded::lock_path(folder), "lavatube vault orders", Mode::Exclusive, settings.lock_wait);
    match lock {
        Ok(_lock) => drop(orders::check_now(folder, &|| !stop.load(Ordering::Relaxed))?),
        Err(LockError::Held { by, .. }) => {
            let by = by.map_or_else(|| "another command".to_owned(), |by| by.command);
            screen.tell(&format!(
                "{id}: {by} has the vault and looks whether it helped: `lavatube vault orders` tells"
            ))?;
        }
        Err(e) => return Err(e.into()),
    }
    let now = clock::wall_now().s;
    let entry = Book::read(folder).entry(id, now).cloned();
    let end = match entry.as_ref().map(|e| e.stage) {
        Some(Stage::Vain) => End::Damaged,
        _ => End::Done,
    };
    if let Some(entry) = &entry {
        let text = match entry.stage {
            Stage::Done => screen.ink(Ink::Green, "the vault has looked: that is done"),
            Stage::Vain => screen.ink(Ink::Yellow, &format!("the vault has looked: it did not help: {}", entry.note)),
            Stage::Told | Stage::Claimed => "the vault will look".to_owned(),
        };
        screen.say(&format!("{id}: {text}"))?;
    }
    screen.answer(&json!({ "order": entry.as_ref().map(entry_to_json), "exit": end.status() }))?;
    Ok(end)
}

/// How the vault is, beside whoever uses it.
fn look(settings: &Settings) -> Result<Seen, Failure> {
    let folder = &settings.places.vault;
    let lock = Lock::acquire(&embedded::lock_path(folder), "lavatube vault orders", Mode::Shared, settings.lock_wait);
    let _lock = match lock {
        Ok(lock) => Some(lock),
        // A daemon holds it for ever, and nothing is changed here.
        Err(LockError::Held { .. }) => None,
        Err(e) => return Err(e.into()),
    };
    Ok(orders::look(folder, &EmbeddedVault::open(folder, false)?)?)
}

/// An order with what it is worth.
struct Listed {
    order: Order,
    /// The share of the objects that is expected to be lost in [`YEARS`] years, as it is and when this is done.
    lost: f64,
    lost_after: f64,
}

/// All orders, the one that is worth most first.
fn listed(seen: &Seen, book: &Book, afr: f64) -> Vec<Listed> {
    // As if each drive were a disk of its own, also where all are folders of one.
    let assumed = Assumed { afr, replace_days: None, scrub_days: SCRUB_DAYS, one_disk: false };
    let lost = lost_share(&seen.status, &assumed, YEARS);
    let with = |order: Order| {
        let lost_after = lost_share(&when_done(&seen.status, &order), &assumed, YEARS).min(lost);
        Listed { order, lost, lost_after }
    };
    let mut all: Vec<Listed> = orders::list(seen, book).into_iter().map(with).collect();
    all.sort_by(|a, b| a.lost_after.total_cmp(&b.lost_after).then(a.order.task.cmp(&b.order.task)));
    all
}

/// How the vault would be.
fn when_done(status: &Status, order: &Order) -> Status {
    let mut after = status.clone();
    let spaces: Vec<Space> = status.drives.iter().filter_map(|d| d.space).collect();
    let count = spaces.len().max(1) as u64;
    let mean = |of: fn(&Space) -> u64| spaces.iter().map(|s| of(s) / count).sum();
    let space = Some(Space { total: mean(|s| s.total), free: mean(|s| s.total) });
    for slot in &order.slots {
        let drive = &mut after.drives[*slot];
        (drive.state, drive.distrust, drive.space) = (DriveState::Present, None, drive.space.or(space));
    }
    for slot in 0..if order.task == Task::Add { order.drives } else { 0 } {
        let Some(like) = status.drives.iter().find(|d| d.state != DriveState::Retired) else { break };
        let mut new = like.clone();
        (new.slot, new.state, new.distrust, new.space) = (after.drives.len(), DriveState::Present, None, space);
        new.label = format!("new {slot}");
        after.drives.push(new);
    }
    // What is short of shards gets them, as far as there are drives.
    let there = after.drives.iter().filter(|d| d.state == DriveState::Present).count();
    let spare = there.saturating_sub(status.k.into()).min(status.m.into());
    let objects = status.objects.saturating_sub(status.lost);
    let rest: u64 = status.redundancy.iter().skip(spare).sum();
    after.redundancy = vec![0; spare + 1];
    after.redundancy[spare] = objects.max(rest);
    after.lost = if there >= status.k.into() { 0 } else { status.lost };
    after
}

fn show(afr: f64, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let folder = &settings.places.vault;
    let (seen, book, now) = (look(settings)?, Book::read(folder), clock::wall_now().s);
    let all = listed(&seen, &book, afr);
    if all.is_empty() {
        screen.tell("no hands are wanted: the vault looks after itself, and has a drive to spare")?;
    }
    for listed in &all {
        let order = &listed.order;
        let entry = book.entry(&order.id, now);
        screen.say(&format!("{}  {}", screen.ink(Ink::Bold, &order.id), state_words(entry, now, screen)))?;
        let about = about(&seen, order);
        let about = if about.is_empty() { String::new() } else { format!("{}: ", about.join(", ")) };
        screen.say(&format!("  {about}{}", order.why))?;
        screen.say(&format!("  {}", order.what))?;
        screen.say(&screen.ink(Ink::Dim, &format!("  {}", worth_words(listed))))?;
    }
    let ended: Vec<&Entry> = book.ended().collect();
    for entry in ended.iter().rev().take(ENDED_SHOWN) {
        let word = if entry.stage == Stage::Done { "it helped" } else { "it did not help" };
        let ago = units::ago(now.saturating_sub(entry.until_s));
        screen.tell(
            &screen.ink(Ink::Dim, &format!("{}  {ago}, by {}: {word}", entry.id, units::name(entry.by.as_bytes()))),
        )?;
    }
    let mut answer = answer(&seen, &all, &book, now);
    let end = if all.is_empty() { End::Done } else { End::Damaged };
    answer["exit"] = end.status().into();
    screen.answer(&answer)?;
    Ok(end)
}

fn about(seen: &Seen, order: &Order) -> Vec<String> {
    let drives = order.slots.iter().filter_map(|slot| seen.status.drives.get(*slot));
    drives.map(|d| units::name(d.label.as_bytes())).collect()
}

fn state_words(entry: Option<&Entry>, now: i64, screen: &Screen) -> String {
    let Some(entry) = entry else { return "open".into() };
    let by = units::name(entry.by.as_bytes());
    match entry.stage {
        Stage::Claimed => screen.ink(Ink::Green, &claim_words(entry, now)),
        Stage::Told => screen.ink(Ink::Green, &format!("{by} says that it is done, and the vault is to look")),
        Stage::Vain => screen.ink(Ink::Yellow, &format!("open again: what {by} did, did not help: {}", entry.note)),
        Stage::Done => "open".into(),
    }
}

/// Whose an order is, for how long still, and how far.
fn claim_words(entry: &Entry, now: i64) -> String {
    let left = units::span(Duration::from_secs(entry.until_s.saturating_sub(now).max(0).unsigned_abs()));
    format!("{}'s for {left}, {} % done", units::name(entry.by.as_bytes()), entry.percent)
}

fn worth_words(listed: &Listed) -> String {
    let share = |share: f64| if share < 1e-60 { "nothing".to_owned() } else { format!("{share:.0e} of all") };
    if listed.lost_after < listed.lost {
        format!("worth: expected loss in {YEARS} years {} instead of {}", share(listed.lost_after), share(listed.lost))
    } else {
        format!("worth: no less is expected lost in {YEARS} years ({})", share(listed.lost))
    }
}

fn answer(seen: &Seen, all: &[Listed], book: &Book, now: i64) -> Value {
    let ended = book.ended().map(|entry| {
        json!({ "id": entry.id, "by": entry.by, "helped": entry.stage == Stage::Done, "at_unix_s": entry.until_s, "note": entry.note })
    });
    json!({
        "orders": all.iter().map(|listed| to_json(seen, listed, book, now)).collect::<Vec<_>>(),
        "ended": ended.collect::<Vec<_>>(),
    })
}

fn to_json(seen: &Seen, listed: &Listed, book: &Book, now: i64) -> Value {
    let order = &listed.order;
    let about = order.slots.iter().filter_map(|slot| seen.status.drives.get(*slot)).map(|d| {
        let folder = seen.folders.get(d.slot).cloned().flatten().map(|f| f.to_string_lossy().into_owned());
        json!({ "slot": d.slot, "label": d.label, "shelf": d.shelf, "folder": folder })
    });
    let m = usize::from(seen.status.m);
    let mut value = entry_state(book.entry(&order.id, now));
    value["id"] = order.id.clone().into();
    value["task"] = order.task.word().into();
    value["drives"] = order.drives.into();
    value["about"] = about.collect();
    value["why"] = order.why.clone().into();
    value["what"] = order.what.clone().into();
    value["worth"] = json!({
        "years": YEARS,
        "lost_share": listed.lost,
        "lost_share_after": listed.lost_after,
        "degraded": seen.status.redundancy.iter().take(m).sum::<u64>() + seen.status.lost,
    });
    value
}

/// State and claim.
fn entry_state(entry: Option<&Entry>) -> Value {
    let state = match entry.map(|e| e.stage) {
        None | Some(Stage::Done) => "open",
        Some(Stage::Claimed) => "claimed",
        Some(Stage::Told) => "told",
        Some(Stage::Vain) => "vain",
    };
    let claim = entry.filter(|e| e.stage != Stage::Done).map(|e| {
        json!({ "by": e.by, "since_unix_s": e.since_s, "until_unix_s": e.until_s, "percent": e.percent, "note": e.note })
    });
    json!({ "state": state, "claim": claim })
}

/// An order that was changed.
fn entry_to_json(entry: &Entry) -> Value {
    let mut value = entry_state(Some(entry));
    value["id"] = entry.id.clone().into();
    if entry.stage == Stage::Done {
        value["state"] = "done".into();
    }
    value
}

impl From<BookError> for Failure {
    fn from(e: BookError) -> Self {
        let text = e.to_string();
        match e {
            BookError::NoSuch(_) => Self::new(Condition::Usage, text).hint("`lavatube vault orders` lists them"),
            BookError::Taken { .. } | BookError::Told(_) => Self::new(Condition::Refused, text),
            BookError::NotYours { .. } => Self::new(Condition::Refused, text)
                .hint("claim it first: `lavatube vault orders claim ORDER --by NAME`"),
            BookError::Text(_) => Self::new(Condition::Usage, text),
            BookError::Lock(e) => e.into(),
            BookError::Io(_) => Self::new(Condition::Io, text),
        }
    }
}

/// Years over which an order's worth is reckoned.
const YEARS: u32 = 10;
/// Scrubs are reckoned with at this distance.
const SCRUB_DAYS: f64 = 30.0;
/// Orders that ended and are shown.
const ENDED_SHOWN: usize = 5;
