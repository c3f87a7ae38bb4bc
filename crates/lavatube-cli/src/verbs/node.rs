//! `lavatube node`: takes what waits on this machine to a far vault. Must not know how a link works.

use lavatube_node::far_end::Run;
use lavatube_node::near_end;

use crate::daemon::{self, Daemon};
use crate::errors::{End, Failure};
use crate::screen::Screen;
use crate::settings::Settings;

/// Take what waits on this machine over the link to the far vault, until interrupted.
///
/// Backups may run meanwhile. What was sent stays on this machine until the vault's signed receipt for it is home.
/// Killed at any moment and started again, it goes on where it was.
///
/// On a terminal it prints a line for each thing that happens; with --json an object a line, with `event` (listening, peer,
/// line, waiting, receipted, not_now, denied, damaged, unreadable, not_noted, not_put, nonsense) and `time`; else only warnings.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct NodeArgs {
    /// Where the vault listens [default: as `lavatube pair` was told]
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Where to send from and listen [default: any address, any port]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// End as soon as nothing waits any more
    #[arg(long)]
    once: bool,
}

const EXAMPLES: &str = "Examples:
  lavatube node
  lavatube node --once --peer moon.example:4556
  lavatube node --json >> /var/log/lavatube-node.jsonl";

/// Runs until it is interrupted or done.
///
/// # Errors
/// When this machine is not paired, or its disk fails.
pub fn run(args: &NodeArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let (listen, peer) = (args.listen.as_deref(), args.peer.as_deref());
    let run = Run { listen, peer, wait: settings.lock_wait, stop: &stop, scrub: None, steward: None, awake: None };
    let mut daemon = Daemon::new(settings, screen);
    near_end::drain(&settings.places, &run, args.once, &mut daemon)?;
    daemon.failed.map_or(Ok(End::Done), Err)
}
