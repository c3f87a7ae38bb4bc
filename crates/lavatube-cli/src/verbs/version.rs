//! `lavatube version`: the version and how it was built, for reports. Must not know anything else.

use serde_json::json;

use crate::errors::{End, Failure};
use crate::screen::Screen;

/// Show the version and how it was built.
///
/// JSON fields: program, version, target, profile, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lavatube version\n  lavatube version --json")]
pub struct VersionArgs {}

/// Program and version, as snapshots record it.
pub const PROGRAM: &str = concat!("lavatube ", env!("CARGO_PKG_VERSION"));

/// Prints it.
///
/// # Errors
/// When it cannot be written.
pub fn run(screen: &Screen) -> Result<End, Failure> {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    screen.answer(&json!({
        "program": "lavatube",
        "version": env!("CARGO_PKG_VERSION"),
        "target": target,
        "profile": profile,
        "exit": 0,
    }))?;
    screen.say(&format!("{PROGRAM} ({target}, {profile} build)"))?;
    Ok(End::Done)
}
