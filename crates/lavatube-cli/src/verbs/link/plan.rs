//! `lavatube link plan`: how long something takes to cross, and what it costs. Must not know how a link works.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use lavatube_client::source::Found;
use lavatube_client::survey::{Scope, survey};
use lavatube_node::depositor;
use lavatube_node::directory_source::DirectorySource;
use lavatube_node::directory_spool::DirectorySpool;
use lavatube_node::link_folder::Pairing;
use lavatube_node::{port, queue};
use serde_json::{Value, json};

use super::report::when;
use crate::errors::{Condition, End, Failure};
use crate::patterns::Patterns;
use crate::quantities;
use crate::roots::{self, Excluder, Ours};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units;

/// How long something takes to cross, and what it costs
///
/// Without arguments: what waits on this machine now. With PATH: a backup of it on top of that, if all of it were new and did not
/// compress, so that it can only be better. Rates, windows and budgets are those of the contact plan; loss and light time
/// those that the daemon measured last. What it costs is told where link.toml says `cost_per_minute` (of a contact that is
/// used), `cost_per_gb` (of what leaves) and `currency`.
///
/// JSON fields: bytes, bytes_on_the_wire, loss, light_s, passes [{start_unix_s, end_unix_s, bytes}], starts_unix_s,
/// there_unix_s (null: not within the plan), seconds, contact_seconds, cost {amount, currency}, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PlanArgs {
    /// What would be backed up
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Bytes to send, instead of what waits here: 8TB, 20GB, 500MB
    #[arg(long, value_name = "SIZE", conflicts_with = "paths", value_parser = quantities::size)]
    size: Option<u64>,
}

const EXAMPLES: &str = "Examples:
  lavatube link plan
  lavatube link plan ~/photos
  lavatube link plan --size 8TB --json | jq .cost";

/// Shows it.
///
/// # Errors
/// When there is no link, or the plan cannot be read.
pub(super) fn run(args: &PlanArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let pairing = Pairing::open(&settings.places.vault)?;
    let plan = pairing.plan()?;
    let status = super::read(settings).unwrap_or(Value::Null);
    let loss = status["loss"].as_f64().unwrap_or(LOSS);
    let light_s = status["light_s"].as_f64();
    let bytes = match args.size {
        Some(size) => size,
        None => waiting(settings, &pairing)? + new(args, settings)?,
    };
    let wire = queue::on_the_wire(bytes, loss);
    let now = port::now();
    let passes = plan.passes(now, wire);
    let there = passes.last().filter(|pass| pass.is_last).map(|pass| pass.end);
    let unix_s = |at: lavatube_base::Instant| at.0 / 1_000_000_000;
    let there_s = there.map(|at| unix_s(at) + (2.0 * light_s.unwrap_or_default()).ceil() as u64);
    let contact_s: f64 = passes.iter().map(|pass| pass.end.since(pass.start).as_secs_f64()).sum();
    let file = &pairing.file;
    let per_minute = file.cost_per_minute.map(|cost| cost * contact_s / 60.0);
    let per_gb = file.cost_per_gb.map(|cost| cost * wire as f64 / 1e9);
    let cost = (per_minute.is_some() || per_gb.is_some()).then(|| per_minute.unwrap_or(0.0) + per_gb.unwrap_or(0.0));
    let currency = file.currency.as_deref().unwrap_or_default();

    let row = |name: &str, value: String| screen.say(&format!("{name:<11} {value}"));
    row(
        "to send",
        format!(
            "{}; {} on the wire, with framing and {:.1} % loss",
            units::bytes(bytes),
            units::bytes(wire),
            100.0 * loss
        ),
    )?;
    match there_s {
        _ if bytes == 0 => row("there", "nothing waits".into())?,
        Some(at) => {
            row("there", format!("{} (UTC), in {}", when(at), units::whole_span(at.saturating_sub(unix_s(now)))))?
        }
        None => {
            let sent: u64 = passes.iter().map(|pass| pass.bytes).sum();
            let text = format!("not within the plan: it has room for {} of that", units::bytes(sent));
            row("there", screen.ink(Ink::Yellow, &text))?;
        }
    }
    let windows = units::things(passes.len() as u64, "contact", "contacts");
    row("takes", format!("{} of {windows}", units::whole_span(contact_s.ceil() as u64)))?;
    match cost {
        Some(cost) => row("costs", format!("{cost:.2} {currency}").trim_end().to_owned())?,
        None => row("costs", screen.ink(Ink::Dim, "not known: set cost_per_minute or cost_per_gb in link.toml"))?,
    }
    let passes: Vec<_> = passes
        .iter()
        .take(PASSES_SHOWN_MAX)
        .map(|pass| json!({ "start_unix_s": unix_s(pass.start), "end_unix_s": unix_s(pass.end), "bytes": pass.bytes }))
        .collect();
    screen.answer(&json!({
        "bytes": bytes,
        "bytes_on_the_wire": wire,
        "loss": loss,
        "light_s": light_s,
        "starts_unix_s": passes.first().map(|pass| pass["start_unix_s"].clone()),
        "passes": passes,
        "there_unix_s": there_s,
        "seconds": there_s.map(|at| at.saturating_sub(unix_s(now))),
        "contact_seconds": contact_s,
        "cost": cost.map(|amount| json!({ "amount": amount, "currency": currency })),
        "exit": 0,
    }))?;
    Ok(End::Done)
}

/// Bytes that wait on this machine.
fn waiting(settings: &Settings, pairing: &Pairing) -> Result<u64, Failure> {
    let folder = depositor::spool_folder(&depositor::state_folder(&settings.places, pairing.vault()));
    let io = |e: &dyn std::fmt::Display| Failure::new(Condition::Io, format!("{}: {e}", folder.display()));
    let Some(spool) = DirectorySpool::beside(&folder).map_err(|e| io(&e))? else { return Ok(0) };
    let all = DirectorySpool::peek(&folder).map_err(|e| io(&e))?;
    Ok(all.iter().filter_map(|(_, id)| spool.len(*id).ok().flatten()).sum())
}

/// Bytes of the files that would be backed up.
fn new(args: &PlanArgs, settings: &Settings) -> Result<u64, Failure> {
    if args.paths.is_empty() {
        return Ok(0);
    }
    let ours = Ours::new(&settings.places);
    let roots = roots::resolve(&args.paths, &ours)?;
    let patterns = Patterns::new(&settings.config.exclude)?;
    let excluder = Excluder { patterns, caches: false, if_present: Vec::new(), ours: &ours, own: AtomicU64::new(0) };
    let exclude = |path: &[u8], found: &Found| excluder.would_exclude(path, found);
    let scope = Scope { roots: &roots, exclude: &exclude, one_file_system: settings.config.one_file_system };
    let source = DirectorySource::new().map_err(|e| Failure::new(Condition::Io, e.to_string()))?;
    let sum = survey(&source, &scope, &|| true);
    Ok(sum.map_or(0, |sum| sum.bytes.saturating_sub(sum.holes)))
}

/// What is assumed when nothing was measured.
const LOSS: f64 = 0.01;
const PASSES_SHOWN_MAX: usize = 1000;
