//! `lavatube seed`: what waits travels to a far vault on a disk. Must not know what objects hold.

use std::path::PathBuf;

use lavatube_client::meter::Meter;
use lavatube_node::seed::{self, Seeded};
use serde_json::json;

use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::things;
use crate::{progress, units};

/// Carry what waits to a far vault on a disk
///
/// A first backup may be terabytes: put it on a disk that travels with the drives before launch, or by ship. Afterwards only
/// what is new crosses the link.
#[derive(Debug, clap::Args)]
pub struct SeedArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Copy what waits on this machine to a disk
    ///
    /// It stays on this machine, safe here, until the vault's receipts come over the link; `lavatube node` asks for them
    /// and does not send it meanwhile. When the disk is full, put in another and run it again.
    ///
    /// JSON fields: objects, bytes, known, left, failed [{object, reason}], exit.
    #[command(after_help = "Examples:\n  lavatube seed export /mnt/disk\n  lavatube seed export /mnt/second-disk")]
    Export {
        /// Where the disk is mounted
        #[arg(value_name = "DIR")]
        disk: PathBuf,
    },
    /// At the vault: store what a disk brought
    ///
    /// The disk is left as it is. What is in the vault already is passed over, so that it can be run again.
    ///
    /// JSON fields: objects, bytes, known, left, failed [{object, reason}], exit.
    #[command(after_help = "Examples:\n  lavatube seed import /mnt/disk --vault /srv/vault")]
    Import {
        /// Where the disk is mounted
        #[arg(value_name = "DIR")]
        disk: PathBuf,
    },
    /// The disk is lost: send over the link what was on it
    ///
    /// JSON fields: objects, exit.
    #[command(after_help = "Examples:\n  lavatube seed forget")]
    Forget,
}

/// Does it.
///
/// # Errors
/// When disk, vault or state fail.
pub fn run(args: &SeedArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let (places, meter) = (&settings.places, Meter::default());
    let wait = settings.lock_wait;
    let (seeded, what) = match &args.action {
        Action::Export { disk } => {
            let disk = settings.here.join(disk);
            let export = || seed::export(places, &disk, wait, &meter);
            (progress::during(screen, "copying", &meter, export)?, "copied to the disk")
        }
        Action::Import { disk } => {
            let disk = settings.here.join(disk);
            let import = || seed::import(&places.vault, &disk, wait, &meter);
            (progress::during(screen, "storing", &meter, import)?, "stored in the vault")
        }
        Action::Forget => {
            let objects = seed::forget(places, wait)?;
            screen.say(&format!("{} will be sent over the link.", things(objects, "object", "objects")))?;
            screen.answer(&json!({ "objects": objects, "exit": 0 }))?;
            return Ok(End::Done);
        }
    };
    let end = if seeded.failed.is_empty() && seeded.left == 0 { End::Done } else { End::Partly };
    show(&seeded, what, screen)?;
    screen.answer(&json!({
        "objects": seeded.objects,
        "bytes": seeded.bytes,
        "known": seeded.known,
        "left": seeded.left,
        "failed": seeded.failed.iter().map(|(id, why)| json!({ "object": id.to_string(), "reason": why })).collect::<Vec<_>>(),
        "exit": end.status(),
    }))?;
    Ok(end)
}

fn show(seeded: &Seeded, what: &str, screen: &Screen) -> Result<(), Failure> {
    let objects = things(seeded.objects, "object", "objects");
    screen.tell(&format!("{}: {objects}, {}", screen.ink(Ink::Green, what), units::bytes(seeded.bytes)))?;
    if seeded.known > 0 {
        screen.tell(&format!("{} had been before", things(seeded.known, "object", "objects")))?;
    }
    if seeded.left > 0 {
        let left = things(seeded.left, "object finds", "objects find");
        screen.warn(&format!("{left} no room on this disk: put in another and run it again"));
    }
    for (id, why) in &seeded.failed {
        screen.warn(&format!("object {}: {why}", id.short()));
    }
    Ok(())
}
