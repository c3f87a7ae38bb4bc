//! `lavatube vault`: what is done where the drives are: its state, its care, and the far end of a link. Must not know how.

mod drive;
mod orders;
mod repair;
mod scrub;
mod scrubbed;
mod status;
mod years;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lavatube_node::far_end::{self, Run};
use lavatube_node::http::Server;
use lavatube_node::orders::{Board, StewardPlan};
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
    Orders(orders::OrdersArgs),
    /// Take deposits that come over the link into the vault, until interrupted
    ///
    /// Each object is answered by a signed receipt once it is durable on the drives. It holds the vault's lock: end it
    /// before you check or repair the vault. Killed at any moment and started again, it goes on where it was.
    ///
    /// Meanwhile it looks after the drives: with --scrub-every it reads them all and mends what rotted; what a drive held that has been away for --repair-after is made anew on others; a drive that came
    /// back is read wholly before it is trusted. With --orders it tells robots what hands could do, and looks whether it helped (`lavatube vault orders`, docs/OPERATING.md).
    ///
    /// On a terminal it prints a line for each thing that happens; with --json an object a line, with `event` (listening, orders, peer,
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
        /// Make anew on other drives what a drive held that was away for so long, or never
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = repair_after)]
        repair_after: RepairAfter,
        /// Tell robots on this machine over HTTP what hands could do, for who has the token in `orders.token`
        #[arg(long, value_name = "HOST:PORT")]
        orders: Option<String>,
    },
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
        Action::Orders(args) => orders::run(args, settings, screen),
        Action::Serve { listen, scrub_every, scrub_rate, repair_after, orders } => {
            let pace = Pace { bytes_s: Some(*scrub_rate), rest: 0.0 };
            let care = Care {
                scrub: scrub_every.map(|every| ChorePlan { every, pace }),
                steward: StewardPlan { repair_after: repair_after.0 },
                orders: orders.as_deref(),
            };
            serve(listen, &care, settings, screen)
        }
    }
}

/// How a daemon looks after its vault.
struct Care<'a> {
    scrub: Option<ChorePlan>,
    steward: StewardPlan,
    orders: Option<&'a str>,
}

fn serve(listen: &str, care: &Care<'_>, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let stop = daemon::stop_flag()?;
    let (folder, board) = (&settings.places.vault, Arc::<Board>::default());
    let steward = Some((care.steward, board.clone()));
    let run =
        Run { listen: Some(listen), peer: None, wait: settings.lock_wait, stop: &stop, scrub: care.scrub, steward };
    let mut daemon = Daemon::new(settings, screen);
    let server = care.orders.map(|address| Server::open(address, &folder.join(TOKEN_FILE))).transpose()?;
    if let Some(server) = &server {
        daemon.orders_at(server.address());
    }
    let over = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        if let Some(server) = &server {
            let (over, board) = (&over, &board);
            scope.spawn(move || server.serve(over, &|request| orders::answer_to(request, folder, board, AFR)));
        }
        let served = far_end::serve(folder, &run, &mut daemon);
        over.store(true, Ordering::Relaxed);
        served
    });
    served?;
    daemon.failed.map_or(Ok(End::Done), Err)
}

/// What robots must have to ask.
const TOKEN_FILE: &str = "orders.token";
/// Failures a year of a drive, for what an order is worth.
const AFR: f64 = 0.014;
