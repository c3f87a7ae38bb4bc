//! The command line: verbs, options, and a help that teaches.
//!
//! The verbs' own options are in their files; this one has what all share, the idea in a few sentences, and the groups in
//! which `lavatube help` lists the verbs. Must not know how anything is done.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, Parser, Subcommand};

use crate::{errors, verbs};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "lavatube", version, about = "Backups that find their own damage and mend it", long_about = IDEA)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What all verbs take.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of all verbs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all verbs")]
pub struct Global {
    /// Configuration file [default: ~/.config/lavatube/lavatube.toml; LAVATUBE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the vault [default: ~/.local/share/lavatube/vault; LAVATUBE_VAULT]
    #[arg(long, global = true, value_name = "DIR")]
    pub vault: Option<PathBuf>,
    /// Folder of catalogs and caches [default: ~/.local/state/lavatube; LAVATUBE_STATE]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Folder of the keys [default: keys beside the configuration file; LAVATUBE_KEYS]
    #[arg(long, global = true, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Read the passphrase of a locked key from the first line of FILE instead of the terminal
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Wait so long for another command to finish
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    pub lock_wait: u64,
    /// Answer with one JSON object on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors, warnings and what was asked for
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// No progress bar, even on a terminal
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// The verbs; each is documented, for the reader and for `help`, at its own struct.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Init(verbs::init::InitArgs),
    Backup(verbs::backup::BackupArgs),
    Snapshots(verbs::snapshots::SnapshotsArgs),
    Ls(verbs::ls::LsArgs),
    Cat(verbs::cat::CatArgs),
    Restore(verbs::restore::RestoreArgs),
    Forget(verbs::forget::ForgetArgs),
    Release(verbs::release::ReleaseArgs),
    Check(verbs::check::CheckArgs),
    Audit(verbs::audit::AuditArgs),
    Prove(verbs::prove::ProveArgs),
    Verify(verbs::verify::VerifyArgs),
    Key(verbs::key::KeyArgs),
    Status(verbs::status::StatusArgs),
    Log(verbs::log::LogArgs),
    Pair(verbs::pair::PairArgs),
    Node(verbs::node::NodeArgs),
    Ping(verbs::ping::PingArgs),
    Seed(verbs::seed::SeedArgs),
    Vault(verbs::vault::VaultArgs),
    Link(verbs::link::LinkArgs),
    Plan(verbs::plan::PlanArgs),
    Rehearse(verbs::rehearse::RehearseArgs),
    Completions(verbs::completions::CompletionsArgs),
    Version(verbs::version::VersionArgs),
    Help(verbs::help::HelpArgs),
}

/// The verbs in groups, as help lists them.
const GROUPS: &[(&str, &[&str])] = &[
    ("Save", &["init", "backup"]),
    ("Look and get back", &["snapshots", "ls", "cat", "restore"]),
    ("Let go", &["forget", "release"]),
    ("Prove to others", &["prove", "verify"]),
    ("Take care", &["check", "audit", "status", "log", "vault", "key", "plan"]),
    ("Over a link", &["pair", "node", "link", "ping", "seed", "rehearse"]),
    ("Else", &["completions", "version", "help"]),
];

/// The command with its grouped help.
pub fn command() -> Command {
    let command = Cli::command();
    let mut groups = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(groups, "\n{group}:");
        for name in *names {
            if let Some(verb) = command.get_subcommands().find(|c| c.get_name() == *name) {
                let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(groups, "  {name:<12} {about}");
            }
        }
    }
    let template = format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{groups}\n{{options}}{{after-help}}"
    );
    let after = format!("Examples:\n{EXAMPLES}\n`lavatube help VERB` tells all about a verb.");
    let long_after = format!("Examples:\n{EXAMPLES}\nExit status:\n{}", errors::statuses_for_help());
    command.help_template(template).after_help(after).after_long_help(long_after)
}

const IDEA: &str = "\
Backups that find their own damage and mend it.

A backup goes as sealed packs into a vault, which spreads each pack over several drives with
parity: with 4 data + 2 parity any two drives may fail and every file still comes back. Only
what is new is stored. The vault cannot read anything: the machine that backs up needs the
deposit key only, and what it holds is opened with the read key, which you may keep elsewhere.
Both can be made again from the recovery key, which belongs on paper.

Every backup says which of three promises holds:
  safe here    it is on this machine, waiting for the vault
  safe there   the vault has it durably on its drives, and signed for it
  still there  the vault has proved so since: `lavatube audit` has it do that";

const EXAMPLES: &str = "  lavatube backup ~/photos                 take a snapshot; the first time makes keys and vault
  lavatube snapshots                       what there is
  lavatube restore latest --target ~/back  bring it all back
  lavatube check --read-data               prove that every file can be restored
  lavatube vault scrub                     read every byte of the drives, and mend what is damaged
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_verb_is_in_a_group() {
        let command = command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&verb.get_name())).count();
            assert_eq!(groups, 1, "{}", verb.get_name());
        }
    }
}
