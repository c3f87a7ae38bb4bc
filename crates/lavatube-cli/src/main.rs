//! Floor 4: the `lavatube` command.
//!
//! The only room with a terminal: arguments, hints, exit statuses, colours, progress bars. One file per verb in `verbs`;
//! what a verb does is in `lavatube-node` and below. Must not know layouts, codes or protocol.

use std::process::ExitCode;

use clap::FromArgMatches;

mod archive;
mod args;
mod blame;
mod compare;
mod config;
mod daemon;
mod date;
#[cfg(test)]
mod documents;
mod drives;
mod errors;
mod passphrase;
mod patterns;
mod progress;
mod quantities;
mod recovery;
mod roots;
mod screen;
mod settings;
mod units;
mod verbs;

use args::{Cli, Verb};
use errors::{End, Failure};
use screen::Screen;
use settings::Settings;

fn main() -> ExitCode {
    lavatube_node::process::prepare_process();
    let cli = match args::command().try_get_matches().and_then(|m| Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(e) => {
            // Help asked for is status 0, wrong usage 2; a closed pipe is no matter.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let screen = Screen::new(cli.global.json, cli.global.quiet, cli.global.no_progress);
    match run(&cli, &screen) {
        Ok(end) => ExitCode::from(end.status()),
        Err(failure) => {
            screen.fail(&failure);
            ExitCode::from(failure.row().status)
        }
    }
}

fn run(cli: &Cli, screen: &Screen) -> Result<End, Failure> {
    match &cli.verb {
        Verb::Help(args) => return verbs::help::run(args, screen),
        Verb::Version(_) => return verbs::version::run(screen),
        Verb::Completions(args) => return verbs::completions::run(args, screen),
        // Of a vault that is not there yet: no folders are asked for.
        Verb::Plan(args) => return verbs::plan::run(args, screen),
        // Whoever verifies needs nothing of ours.
        Verb::Verify(args) => return verbs::verify::run(args, screen),
        _ => {}
    }
    let settings = Settings::load(&cli.global)?;
    match &cli.verb {
        Verb::Init(args) => verbs::init::run(args, &settings, screen),
        Verb::Backup(args) => verbs::backup::run(args, &settings, screen),
        Verb::Snapshots(args) => verbs::snapshots::run(args, &settings, screen),
        Verb::Ls(args) => verbs::ls::run(args, &settings, screen),
        Verb::Cat(args) => verbs::cat::run(args, &settings, screen),
        Verb::Restore(args) => verbs::restore::run(args, &settings, screen),
        Verb::Forget(args) => verbs::forget::run(args, &settings, screen),
        Verb::Release(args) => verbs::release::run(args, &settings, screen),
        Verb::Check(args) => verbs::check::run(args, &settings, screen),
        Verb::Audit(args) => verbs::audit::run(args, &settings, screen),
        Verb::Key(args) => verbs::key::run(args, &settings, screen),
        Verb::Pair(args) => verbs::pair::run(args, &settings, screen),
        Verb::Node(args) => verbs::node::run(args, &settings, screen),
        Verb::Ping(args) => verbs::ping::run(args, &settings, screen),
        Verb::Seed(args) => verbs::seed::run(args, &settings, screen),
        Verb::Vault(args) => verbs::vault::run(args, &settings, screen),
        Verb::Rehearse(args) => verbs::rehearse::run(args, &settings, screen),
        Verb::Link(args) => verbs::link::run(args, &settings, screen),
        Verb::Log(args) => verbs::log::run(args, &settings, screen),
        Verb::Status(_) => verbs::status::run(&settings, screen),
        Verb::Prove(args) => verbs::prove::run(args, &settings, screen),
        Verb::Version(_) | Verb::Help(_) | Verb::Completions(_) | Verb::Plan(_) | Verb::Verify(_) => Ok(End::Done),
    }
}
