//! `lavatube vault`: what is done where the drives are: its state, its care, and the far end of a link. Must not know how.

mod drive;
mod repair;
mod scrub;
mod scrubbed;
mod status;
mod years;

use std::time::Duration;

use lavatube_node::far_end::{self, Run};
use lavatube_node::scrubbing::ChorePlan;
use lavatube_vault::scrub::Pace;

use crate::daemon::{self, Daemon};
use crate::errors::{End, Failure};
use crate::screen::Screen;
use crate::settings::Settings;

/// Look after a vault where its drives are, or run it for a machine that is far away
#[derive(Debug, clap::Args)]
pub struct VaultArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Status(status::StatusArgs),
    Scrub(scrub::ScrubArgs),
    Repair(repair::RepairArgs),
    Drive(drive::DriveArgs),
    /// Take deposits that come over the link into the vault, until interrupted
    ///
    /// Each object is answered by a signed receipt once it is durable on the drives. It holds the vault's lock: end it
    /// before you check or repair the vault. Killed at any moment and started again, it goes on where it was.
    ///
    /// On a terminal it prints a line for each thing that happens; with --json an object a line, with `event` (listening, peer,
    /// line, stored, held, not_now, denied, nonsense) and `time`; else only warnings.
    #[command(after_help = EXAMPLES)]
    Serve {
        /// Where to listen
        #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:4556")]
        listen: String,
        /// Scrub the drives meanwhile, so often: every byte is read and what is damaged is mended, while nothing else is to be done
        #[arg(long, value_name = "TIME", value_parser = scrub::every)]
        scrub_every: Option<Duration>,
        /// Bytes that this scrub reads in a second at most
        #[arg(long, value_name = "SIZE", default_value = "50MB", value_parser = scrub::rate)]
        scrub_rate: u64,
    },
}

const EXAMPLES: &str = "Examples:
  lavatube vault serve --vault /srv/vault --scrub-every 30d
  lavatube vault serve --listen [::]:4556 --json >> /var/log/lavatube-vault.jsonl";

/// Does it.
///
/// # Errors
/// When the vault is not there, in use, or its disk fails.
pub fn run(args: &VaultArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    match &args.action {
        Action::Status(args) => status::run(args, settings, screen),
        Action::Scrub(args) => scrub::run(args, settings, screen),
        Action::Repair(args) => repair::run(args, settings, screen),
        Action::Drive(args) => drive::run(args, settings, screen),
        Action::Serve { listen, scrub_every, scrub_rate } => {
            let pace = Pace { bytes_s: Some(*scrub_rate), rest: 0.0 };
            serve(listen, scrub_every.map(|every| ChorePlan { every, pace }), settings, screen)
        }
    }
}

fn serve(listen: &str, scrub: Option<ChorePlan>, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let run = Run { listen: Some(listen), peer: None, wait: settings.lock_wait, stop: &stop, scrub };
    let mut daemon = Daemon::new(settings, screen);
    far_end::serve(&settings.places.vault, &run, &mut daemon)?;
    daemon.failed.map_or(Ok(End::Done), Err)
}
