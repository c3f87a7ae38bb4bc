//! `lavatube plan`: what to expect of a vault before there is one. Must not know how that is reckoned.

use crate::errors::{End, Failure};
use crate::screen::Screen;

mod durability;

/// What to expect of a vault that is not built yet
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Durability(durability::DurabilityArgs),
}

/// Reckons and shows it.
///
/// # Errors
/// When what is asked makes no sense.
pub fn run(args: &PlanArgs, screen: &Screen) -> Result<End, Failure> {
    let Action::Durability(args) = &args.action;
    durability::run(args, screen)
}
