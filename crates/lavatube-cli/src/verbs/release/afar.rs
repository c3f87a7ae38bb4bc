//! `lavatube release` for a vault at the other end of a link: the release waits here for a contact, and the vault's answer is waited for and shown. Must
//! not know how anything crosses.

use std::collections::BTreeMap;
use std::time::Duration;

use lavatube_base::DepositorId;
use lavatube_client::meter::Meter;
use lavatube_format::release_word::StandingWord;
use lavatube_node::clock;
use lavatube_node::from_afar::Waiting;
use lavatube_node::keyring::Keyring;
use lavatube_node::releasing::afar::{self, Afar, Answered, Left, Outcome};
use serde_json::{Value, json};

use super::{ReleaseArgs, Told, release_to_json, tell_stage};
use crate::archive::{self, ReadArgs};
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};
use crate::{daemon, progress};

/// A release that was left here before.
pub(super) enum Earlier {
    /// The vault has taken it.
    Taken(Left, Box<Outcome>),
    /// It was not taken.
    Refused {
        /// Its number.
        number: u64,
        /// Why.
        why: String,
    },
}

/// Waits for the answer to a release that lies here, if one does.
pub(super) fn earlier(args: &ReleaseArgs, settings: &Settings, screen: &Screen) -> Result<Option<Earlier>, Failure> {
    let desk = Afar::open(&settings.places)?;
    let Some(left) = desk.left()? else { return Ok(None) };
    if args.no_wait {
        let what = format!("release {} is under way already: the vault has not answered it", left.number);
        return Err(Failure::new(Condition::Refused, what)
            .hint("without --no-wait its answer is waited for; `lavatube release --withdraw` takes it back, unless it has left before"));
    }
    screen.tell(&format!("Release {} is under way already; its answer is waited for.", left.number))?;
    let outcome = answer_to(&desk, &left, args, screen)?;
    Ok(Some(match outcome.refusal() {
        None => Earlier::Taken(left, Box::new(outcome)),
        Some(why) => {
            screen.warn(&format!("the vault did not take release {}: {why}", left.number));
            Earlier::Refused { number: left.number, why: why.to_owned() }
        }
    }))
}

/// Goes on with a release that the vault has taken, after whoever sent it waits no more.
pub(super) fn take_up(
    left: &Left,
    outcome: Outcome,
    args: &ReleaseArgs,
    settings: &Settings,
    screen: &Screen,
) -> Result<End, Failure> {
    let read_key = ReadArgs { refresh: true, ..args.read_key.clone() };
    let reader = archive::open(settings, &read_key, "lavatube release", false)?;
    let session = archive::session(&reader, screen)?;
    let labels: BTreeMap<DepositorId, String> = reader.depositors().into_iter().collect();
    let own = afar::who_can_say(&session, &reader, &Keyring::at(&settings.places.keys));
    drop(session);
    drop(reader);
    let outcome = acknowledged(&Afar::open(&settings.places)?, left, outcome, own, args, settings, screen)?;
    let told = told(left, Some(&outcome));
    screen.say(&screen.ink(Ink::Bold, &format!("Release {} is taken by the vault", left.number)))?;
    tell_stage(&told, &labels, screen)?;
    screen.tell("`lavatube release` looks what more can be freed.")?;
    screen.answer(&json!({
        "taken_up": true,
        "dry_run": false,
        "release": release_to_json(&told, &labels),
        "exit": End::Done.status(),
    }))?;
    Ok(End::Done)
}

/// Hands a signed release to the vault, unless nobody waits for that. `own` may say that it knows of it.
pub(super) fn hand_over(
    bytes: Vec<u8>,
    own: Option<DepositorId>,
    args: &ReleaseArgs,
    settings: &Settings,
    screen: &Screen,
) -> Result<Told, Failure> {
    let desk = Afar::open(&settings.places)?;
    let left = desk.leave(bytes)?;
    if args.no_wait {
        return Ok(told(&left, None));
    }
    let outcome = answer_to(&desk, &left, args, screen)?;
    if let Some(why) = outcome.refusal() {
        let what = format!("the vault does not take release {}: {why}", left.number);
        return Err(Failure::new(Condition::Refused, what)
            .hint("nothing was freed; where something came to the vault meanwhile, the command can be run again"));
    }
    let outcome = acknowledged(&desk, &left, outcome, own, args, settings, screen)?;
    Ok(told(&left, Some(&outcome)))
}

fn told(left: &Left, outcome: Option<&Outcome>) -> Told {
    let standing = outcome.and_then(|outcome| outcome.open.as_ref()).map(|open| &open.standing);
    Told {
        id: left.id,
        number: left.number,
        is_answered: outcome.is_some(),
        waits: outcome.map(Outcome::waits).unwrap_or_default(),
        is_open: matches!(standing, Some(StandingWord::Followed | StandingWord::Unknown)),
        is_void: matches!(standing, Some(StandingWord::Void)),
    }
}

/// Where the vault waits for nobody but for this machine to know of the release, or for others too: says that this one does.
fn acknowledged(
    desk: &Afar,
    left: &Left,
    outcome: Outcome,
    own: Option<DepositorId>,
    args: &ReleaseArgs,
    settings: &Settings,
    screen: &Screen,
) -> Result<Outcome, Failure> {
    if !own.is_some_and(|own| outcome.waits().contains(&own)) {
        return Ok(outcome);
    }
    let (patience, meter) = (args.read_key.link_wait.map(Duration::from_secs), Meter::default());
    meter.waits.set(1);
    let heard = progress::during(screen, "telling the vault that this machine knows", &meter, || {
        desk.acknowledge(left, patience, settings.lock_wait, &meter)
    });
    match heard {
        Ok(true) => Ok(wait(args.read_key.link_wait, screen, |waiting| Ok(desk.ask(waiting)?))?.unwrap_or(outcome)),
        Ok(false) => Ok(outcome),
        Err(e) => {
            screen.warn(&format!(
                "release {} is taken; that this machine knows of it could not be told: {}",
                left.number,
                Failure::from(e).what
            ));
            Ok(outcome)
        }
    }
}

/// The vault's answer, waited for.
fn answer_to(desk: &Afar, left: &Left, args: &ReleaseArgs, screen: &Screen) -> Result<Outcome, Failure> {
    let waits_here = "it waits here for the next contact: `lavatube release` goes on with it, and `lavatube release --withdraw` takes it back, unless it has left before";
    let answered = wait(args.read_key.link_wait, screen, |waiting| match desk.await_it(left, waiting) {
        Ok(Answered::Said(outcome)) => Ok(Some(*outcome)),
        Ok(Answered::NotYet) => Ok(None),
        Err(e) => {
            let failure = Failure::from(e);
            Err(if failure.condition == Condition::VaultAway { failure.hint(waits_here) } else { failure })
        }
    })?;
    answered.ok_or_else(|| {
        Failure::new(Condition::Interrupted, format!("release {} is not answered yet", left.number)).hint(waits_here)
    })
}

fn wait<T>(
    link_wait: Option<u64>,
    screen: &Screen,
    work: impl FnOnce(&Waiting<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let stop = daemon::stop_flag()?;
    let meter = Meter::default();
    meter.waits.set(1);
    let waiting = Waiting { patience: link_wait.map(Duration::from_secs), stop: &stop };
    progress::during(screen, "asking the vault", &meter, || work(&waiting))
}

/// Asks how the last release stands that was sent from here, if it was taken and is not known to be done.
pub(crate) fn ask(link_wait: Option<u64>, settings: &Settings, screen: &Screen) -> Result<(), Failure> {
    if !afar::has_any(&settings.places)? {
        return Ok(());
    }
    let Ok(desk) = Afar::open(&settings.places) else { return Ok(()) };
    if desk.last().is_some_and(|last| last.open.is_some()) {
        wait(link_wait, screen, |waiting| Ok(desk.ask(waiting)?))?;
    }
    Ok(())
}

/// Takes a release back.
pub(super) fn withdraw(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let desk = Afar::open(&settings.places)?;
    let Some(left) = desk.left()? else {
        return Err(Failure::new(Condition::Usage, "no release waits on this machine")
            .hint("`lavatube status` shows what became of the last one"));
    };
    desk.withdraw(&left);
    screen.tell(&format!(
        "{}: release {}; if it has left before, the vault may take it all the same",
        screen.ink(Ink::Bold, "withdrawn"),
        left.number
    ))?;
    screen.answer(&json!({ "withdrawn": left.number, "exit": End::Done.status() }))?;
    Ok(End::Done)
}

/// What this machine knows of releases that it sent to a far vault, without asking: lines, and the same as JSON; `None` when there is nothing.
///
/// # Errors
/// When the desk cannot be looked at.
pub(crate) fn known(settings: &Settings, screen: &Screen) -> Result<Option<(Vec<String>, Value)>, Failure> {
    if !afar::has_any(&settings.places)? {
        return Ok(None);
    }
    // Over a link of one way no release goes.
    let Ok(desk) = Afar::open(&settings.places) else { return Ok(None) };
    let (left, last) = (desk.left()?, desk.last());
    let mut lines = Vec::new();
    if let Some(left) = &left {
        let text = format!("release {} waits here for the vault's answer", left.number);
        lines.push(screen.ink(Ink::Yellow, &text));
    }
    if let Some(last) = &last {
        lines.push(in_words(last, screen));
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let value = json!({
        "unanswered": left.map(|left| json!({ "number": left.number, "id": left.id.to_string() })),
        "last": last.map(|last| json!({
            "number": last.about.number,
            "id": last.about.id.to_string(),
            "refusal": last.refusal(),
            "standing": standing_word(&last),
            "waits": last.waits().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "came_unix_s": last.came.s,
        })),
    });
    Ok(Some((lines, value)))
}

/// The lines of [`known`] under one heading.
pub(crate) fn headed(lines: Vec<String>) -> impl Iterator<Item = String> {
    let heads = ["  releases    "].into_iter().chain(std::iter::repeat("              "));
    heads.zip(lines).map(|(head, line)| format!("{head}{line}"))
}

fn in_words(last: &Outcome, screen: &Screen) -> String {
    let (number, ago) = (last.about.number, units::ago(clock::wall_now().s.saturating_sub(last.came.s)));
    if let Some(why) = last.refusal() {
        let text = format!("release {number} was not taken, as the vault said {ago}: {}", units::name(why.as_bytes()));
        return screen.ink(Ink::Red, &text);
    }
    let (ink, stands) = match last.open.as_ref().map(|open| &open.standing) {
        None => (Ink::Green, "is done".to_owned()),
        Some(StandingWord::Waits(waits)) => {
            let ids: Vec<String> = waits.iter().map(|id| id.short()).collect();
            let machines = things(waits.len() as u64, "machine", "machines");
            (Ink::Yellow, format!("waits for one more backup of {machines} ({})", ids.join(", ")))
        }
        Some(StandingWord::Void) => (Ink::Yellow, "is void: a backup was finished without knowing of it".to_owned()),
        Some(StandingWord::Followed) => (Ink::Yellow, "is followed, and something is left to be done there".to_owned()),
        Some(StandingWord::Unknown) => (Ink::Yellow, "cannot be told to be followed or not".to_owned()),
    };
    screen.ink(ink, &format!("release {number} {stands}, as the vault said {ago}"))
}

fn standing_word(last: &Outcome) -> &'static str {
    match last.open.as_ref().map(|open| &open.standing) {
        _ if last.refusal().is_some() => "refused",
        None => "done",
        Some(StandingWord::Waits(_)) => "waits",
        Some(StandingWord::Void) => "void",
        Some(StandingWord::Followed) => "followed",
        Some(StandingWord::Unknown) => "unknown",
    }
}
