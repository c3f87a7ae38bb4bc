//! `lavatube completions`: scripts by which shells complete verbs and options. Made from the command line itself, so that
//! they cannot differ from it. Must not know what verbs do.

use clap_complete::{Shell, generate};
use serde_json::json;

use crate::args;
use crate::errors::{End, Failure};
use crate::screen::Screen;

/// Print a script that teaches your shell to complete lavatube's verbs and options.
///
/// JSON fields: shell, script, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  lavatube completions bash > ~/.local/share/bash-completion/completions/lavatube
  lavatube completions zsh > ~/.zfunc/_lavatube        with ~/.zfunc in fpath
  lavatube completions fish > ~/.config/fish/completions/lavatube.fish";

/// Prints it.
///
/// # Errors
/// When it cannot be written.
pub fn run(args: &CompletionsArgs, screen: &Screen) -> Result<End, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut args::command(), "lavatube", &mut script);
    let script = String::from_utf8_lossy(&script);
    screen.answer(&json!({ "shell": args.shell.to_string(), "script": script, "exit": 0 }))?;
    screen.say(script.trim_end())?;
    Ok(End::Done)
}
