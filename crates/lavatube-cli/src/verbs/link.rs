//! `lavatube link`: how the link is, as its running daemon says. Must not know how a link works.

use lavatube_node::link_folder;
use serde_json::Value;

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
    /// How the link is: contact, loss and light time as measured, what is on its way
    ///
    /// The daemon (`lavatube node`, `lavatube vault serve`) says so each second; without one, it is what the last one said.
    ///
    /// JSON fields: age_s, line (open, silent or shut), contact {rate_up_bit_s, rate_down_bit_s}, loss, light_s,
    /// outgoing {blocks, bytes_missing, first [{bytes, symbols, missing, sent}]}, incoming {blocks}, datagrams {sent,
    /// received, refused}, symbols {sent, resent, received}, exit.
    #[command(
        after_help = "Examples:\n  lavatube link status\n  lavatube link status --vault /srv/vault --json | jq .loss"
    )]
    Status,
}

/// Shows it.
///
/// # Errors
/// When there is no link, or nobody ever used it.
pub fn run(args: &LinkArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let Action::Status = args.action;
    let folder = &settings.places.vault;
    link_folder::vault_id(folder)?;
    let none = || {
        Failure::new(Condition::VaultAway, "no daemon of this link has run yet")
            .hint("`lavatube node` is that of a depositing machine, `lavatube vault serve` that of a vault")
    };
    let (text, age) = link_folder::read_status(folder)?.ok_or_else(none)?;
    let mut status: Value = serde_json::from_str(&text).map_err(|_| none())?;
    status["age_s"] = age.as_secs().into();
    status["exit"] = 0.into();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    if age.as_secs() > STALE_S {
        screen.say(&format!("no daemon runs now; {} ago one said:", units::span(age)))?;
    }
    let mut rows = vec![("line", status["line"].as_str().unwrap_or("?").to_owned())];
    if let Some(contact) = status["contact"].as_object() {
        let rate = |name: &str| contact.get(name).map_or(0, number);
        rows.push((
            "rate",
            format!(
                "{} bit/s up, {} bit/s down",
                units::count(rate("rate_up_bit_s")),
                units::count(rate("rate_down_bit_s"))
            ),
        ));
    }
    rows.push(("loss", format!("{:.2} %, measured or assumed", 100.0 * status["loss"].as_f64().unwrap_or_default())));
    let light = status["light_s"].as_f64().map_or("not measured yet".into(), |s| format!("{s:.3} s one way"));
    rows.push(("light time", light));
    let out = &status["outgoing"];
    let on_its_way = units::things(number(&out["blocks"]), "block", "blocks");
    rows.push(("on its way", format!("{on_its_way}, {} missing there", units::bytes(number(&out["bytes_missing"])))));
    rows.push(("coming in", units::things(number(&status["incoming"]["blocks"]), "block", "blocks")));
    let datagrams = &status["datagrams"];
    rows.push((
        "datagrams",
        format!(
            "{} sent, {} received, {} of strangers or double",
            units::count(number(&datagrams["sent"])),
            units::count(number(&datagrams["received"])),
            units::count(number(&datagrams["refused"]))
        ),
    ));
    for (name, value) in rows {
        screen.say(&format!("{name:<11} {value}"))?;
    }
    screen.answer(&status)?;
    Ok(End::Done)
}

/// A status older than this is not that of a running daemon.
const STALE_S: u64 = 5;
