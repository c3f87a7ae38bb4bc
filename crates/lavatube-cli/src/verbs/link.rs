//! `lavatube link`: how the link is, as its running daemon says, and what the contact plan makes of what waits. Must not
//! know how a link works.

mod plan;
mod report;

use std::io::{IsTerminal, stdout};
use std::sync::atomic::Ordering;
use std::time::Duration;

use lavatube_node::link_folder;
use serde_json::Value;

use crate::daemon;
use crate::errors::{Condition, End, Failure};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::units;

/// Look at the link to a far vault.
#[derive(Debug, clap::Args)]
pub struct LinkArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// How the link is: contact, rates, loss and light time as measured, what waits and when it will be there
    ///
    /// The daemon (`lavatube node`, `lavatube vault serve`) says so each second; without one, it is what the last one said.
    /// When a snapshot will be there is what the contact plan, the loss and all before it in the queue come to.
    ///
    /// JSON fields: age_s, line (open, silent or shut), carrier (native, tcpcl or ltp), contact and next_contact {rate_up_bit_s, rate_down_bit_s,
    /// start_unix_s, end_unix_s, budget_bytes}, contact_bytes_sent, measured {up_bit_s, down_bit_s}, loss, light_s, queue
    /// [{manifest, snapshot, taken_unix_s, priority, objects, bytes, there_unix_s}], outgoing {blocks, bytes_missing, first
    /// [{bytes, priority, symbols, missing, sent, held}]}, held [{object, reason}], stuck [{object, reason}], incoming {blocks}, log {verdict (sound or alarm), size, reason}, datagrams {sent, received, refused}, symbols {sent,
    /// resent, received}, exit.
    #[command(
        after_help = "Examples:\n  lavatube link status\n  lavatube link status --vault /srv/vault --json | jq .loss"
    )]
    Status,
    /// The same, again each second until interrupted
    ///
    /// With --json an object a line.
    #[command(after_help = "Examples:\n  lavatube link watch\n  lavatube link watch --json | jq -c .measured")]
    Watch,
    Plan(plan::PlanArgs),
}

/// Shows it.
///
/// # Errors
/// When there is no link, or nobody ever used it.
pub fn run(args: &LinkArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    match &args.action {
        Action::Status => status(settings, screen),
        Action::Watch => watch(settings, screen),
        Action::Plan(args) => plan::run(args, settings, screen),
    }
}

fn status(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let mut status = read(settings)?;
    status["exit"] = 0.into();
    show(&status, screen)?;
    screen.answer(&status)?;
    Ok(End::Done)
}

fn watch(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let alive = stdout().is_terminal();
    while !stop.load(Ordering::Relaxed) {
        let status = read(settings)?;
        if alive && !screen.json {
            // From the top, over what was there.
            screen.say("\u{1b}[H\u{1b}[2J")?;
        }
        show(&status, screen)?;
        screen.answer(&status)?;
        std::thread::sleep(WATCH_EVERY);
    }
    Ok(End::Done)
}

/// What the daemon last said.
fn read(settings: &Settings) -> Result<Value, Failure> {
    let folder = &settings.places.vault;
    link_folder::vault_id(folder)?;
    let none = || {
        Failure::new(Condition::VaultAway, "no daemon of this link has run yet")
            .hint("`lavatube node` is that of a depositing machine, `lavatube vault serve` that of a vault")
    };
    let (text, age) = link_folder::read_status(folder)?.ok_or_else(none)?;
    let mut status: Value = serde_json::from_str(&text).map_err(|_| none())?;
    status["age_s"] = age.as_secs().into();
    Ok(status)
}

fn show(status: &Value, screen: &Screen) -> Result<(), Failure> {
    let age = status["age_s"].as_u64().unwrap_or_default();
    if age > STALE_S {
        screen.say(&format!("no daemon runs now; {} ago one said:", units::whole_span(age)))?;
    }
    report::lines(status, screen).iter().try_for_each(|line| screen.say(line))
}

/// A status older than this is not that of a running daemon.
const STALE_S: u64 = 5;
const WATCH_EVERY: Duration = Duration::from_secs(1);
