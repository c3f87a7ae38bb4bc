//! `lavatube ping`: asks a far vault for an echo. Must not know how a link works.

use std::time::Duration;

use lavatube_node::far_vault::{Asking, FarVault};
use serde_json::json;

use crate::errors::{Condition, End, Failure};
use crate::screen::Screen;
use crate::settings::Settings;

/// Ask a far vault for an echo, over the link.
///
/// It answers two questions: whether somebody with the right key is there, and how long light takes. Outside of a contact
/// an echo waits for the next one.
///
/// JSON fields: echoes [{seconds}], sent, received, min_s, mean_s, max_s, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PingArgs {
    /// How many echoes, one after the other
    #[arg(long, short, value_name = "N", default_value_t = 3)]
    count: u32,
    /// Give up when nothing came for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    link_wait: u64,
}

const EXAMPLES: &str = "Examples:
  lavatube ping
  lavatube ping --count 10 --link-wait 3600
  lavatube ping --json | jq .mean_s";

/// Pings.
///
/// # Errors
/// When no echo comes back.
pub fn run(args: &PingArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let asking = Asking { refresh: false, patience: Some(Duration::from_secs(args.link_wait)) };
    let vault = FarVault::open(&settings.places, "lavatube ping", asking, settings.lock_wait)?;
    let mut took = Vec::new();
    for number in 1..=args.count {
        let echo = vault.ping().map_err(|e| Failure::new(Condition::VaultAway, e.to_string()))?;
        screen.say(&format!("echo {number} after {:.3} s", echo.as_secs_f64()))?;
        took.push(echo.as_secs_f64());
    }
    let (min, max) = (took.iter().copied().fold(f64::INFINITY, f64::min), took.iter().copied().fold(0.0, f64::max));
    let mean = took.iter().sum::<f64>() / took.len().max(1) as f64;
    if took.len() > 1 {
        screen.say(&format!("{min:.3} to {max:.3} s, {mean:.3} s on the average"))?;
    }
    screen.answer(&json!({
        "echoes": took.iter().map(|s| json!({ "seconds": s })).collect::<Vec<_>>(),
        "sent": args.count,
        "received": took.len(),
        "min_s": min,
        "mean_s": mean,
        "max_s": max,
        "exit": 0,
    }))?;
    Ok(End::Done)
}
