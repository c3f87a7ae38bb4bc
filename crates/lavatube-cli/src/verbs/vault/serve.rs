//! `lavatube vault serve`: the far end of a link, and what looks after the vault meanwhile. Must not know how either works.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lavatube_node::awake::Awake;
use lavatube_node::far_end::{self, Run};
use lavatube_node::http::Server;
use lavatube_node::orders::{Board, StewardPlan};
use lavatube_node::scrubbing::ChorePlan;
use lavatube_vault::scrub::Pace;

use super::{orders, scrub};
use crate::daemon::{self, Daemon};
use crate::errors::{End, Failure};
use crate::quantities;
use crate::screen::Screen;
use crate::settings::Settings;

/// Take deposits that come over the link into the vault, until interrupted
///
/// Each object is answered by a signed receipt once it is durable on the drives. It holds the vault's lock: end it
/// before you check or repair the vault. Killed at any moment and started again, it goes on where it was.
///
/// Meanwhile it looks after the drives: with --scrub-every it reads them all and mends what rotted; what a drive held that has been away for --repair-after is made anew on others; a drive that came
/// back is read wholly before it is trusted. With --orders it tells robots what hands could do, and looks whether it helped (`lavatube vault orders`, docs/OPERATING.md).
///
/// On a terminal it prints a line for each thing that happens; with --json an object a line, with `event` (listening, orders, peer,
/// line, stored, held, not_now, denied, mandate, nonsense) and `time`; else only warnings.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:4556")]
    listen: String,
    /// Scrub the drives meanwhile, so often: every byte is read and what is damaged is mended, while nothing else is to be done
    #[arg(long, value_name = "TIME", value_parser = scrub::every)]
    scrub_every: Option<Duration>,
    /// Bytes that this scrub reads in a second at most
    #[arg(long, value_name = "SIZE", default_value = "50MB", value_parser = scrub::rate)]
    scrub_rate: u64,
    /// The share of the time to rest while it scrubs
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = quantities::share)]
    scrub_tranquility: f64,
    /// Scrub and repair only at the times in this file, lines `awake FROM TO [every SECONDS]`: whoever deposits or reads is served at any time
    #[arg(long, value_name = "FILE")]
    awake: Option<PathBuf>,
    /// Make anew on other drives what a drive held that was away for so long, or never
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = repair_after)]
    repair_after: RepairAfter,
    /// Tell robots on this machine over HTTP what hands could do, for who has the token in `orders.token`
    #[arg(long, value_name = "HOST:PORT")]
    orders: Option<String>,
}

/// `None` for never.
#[derive(Debug, Clone, Copy)]
struct RepairAfter(Option<Duration>);

fn repair_after(text: &str) -> Result<RepairAfter, String> {
    if text == "never" { Ok(RepairAfter(None)) } else { scrub::every(text).map(|after| RepairAfter(Some(after))) }
}

const EXAMPLES: &str = "Examples:
  lavatube vault serve --vault /srv/vault --scrub-every 30d
  lavatube vault serve --scrub-every 30d --repair-after 14d --orders 127.0.0.1:8640
  lavatube vault serve --scrub-every 30d --scrub-tranquility 50% --awake lunar-days
  lavatube vault serve --listen [::]:4556 --json >> /var/log/lavatube-vault.jsonl";

/// Serves.
///
/// # Errors
/// When the vault is not there, in use, or its disk fails.
pub(super) fn run(args: &ServeArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let (folder, board) = (&settings.places.vault, Arc::<Board>::default());
    let pace = Pace { bytes_s: Some(args.scrub_rate), rest: args.scrub_tranquility };
    let run = Run {
        listen: Some(&args.listen),
        peer: None,
        wait: settings.lock_wait,
        stop: &stop,
        scrub: args.scrub_every.map(|every| ChorePlan { every, pace }),
        steward: Some((StewardPlan { repair_after: args.repair_after.0 }, board.clone())),
        awake: args.awake.as_deref().map(Awake::read).transpose()?,
    };
    let mut daemon = Daemon::new(settings, screen);
    let server = args.orders.as_ref().map(|address| Server::open(address, &folder.join(TOKEN_FILE))).transpose()?;
    if let Some(server) = &server {
        daemon.orders_at(server.address());
    }
    let over = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        if let Some(server) = &server {
            let (over, board) = (&over, &board);
            scope.spawn(move || server.serve(over, &|request| orders::answer_to(request, folder, board, AFR)));
        }
        let _over = Ends(&over);
        far_end::serve(folder, &run, &mut daemon)
    });
    served?;
    daemon.failed.map_or(Ok(End::Done), Err)
}

/// Ends who answers about orders, however the daemon ended.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What robots must have to ask.
const TOKEN_FILE: &str = "orders.token";
/// Failures a year of a drive, for what an order is worth.
const AFR: f64 = 0.014;
