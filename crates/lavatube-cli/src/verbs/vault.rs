//! `lavatube vault`: its state and its care, where the drives are or over a link, and the far end of that. Must not know how.

pub(crate) mod afar;
mod buckets;
mod drive;
mod orders;
mod repair;
mod scrub;
mod scrubbed;
mod serve;
mod status;
mod years;

use crate::errors::{End, Failure};
use crate::screen::Screen;
use crate::settings::Settings;

/// Look after a vault where its drives are or over a link, or run it for a machine that is far away
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
    Withdraw(afar::WithdrawArgs),
    Orders(orders::OrdersArgs),
    Serve(serve::ServeArgs),
}

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
        Action::Withdraw(args) => afar::withdraw(args, settings, screen),
        Action::Orders(args) => orders::run(args, settings, screen),
        Action::Serve(args) => serve::run(args, settings, screen),
    }
}
