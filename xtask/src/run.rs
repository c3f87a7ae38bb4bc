//! Starting programs, finding the project's root, and one shape for failure.
//!
//! It exists so that every chore says what it starts before it starts it. It must not know what the programs are for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a chore ends with: nothing, or a sentence that says what went wrong and what to do.
pub type Outcome = Result<(), String>;

/// The folder with the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or(here.clone(), Path::to_path_buf)
}

/// The cargo that started us, or the one on the `PATH`.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Prints the command, runs it with our own output, and fails unless it succeeds.
pub fn must(command: &mut Command) -> Outcome {
    println!("$ {}", show(command));
    flush();
    let status = command.status().map_err(|e| format!("cannot start `{}`: {e}", show(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", show(command))) }
}

/// Whether a program can be started and ends well; its output is thrown away.
pub fn works(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let out =
        command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot start `{}`: {e}", show(command)))?;
    if out.status.success() { Ok(out.stdout) } else { Err(format!("`{}` ended with {}", show(command), out.status)) }
}

/// A line nobody overlooks: something was not run, and what to do about it.
pub fn skip(what: &str, why: &str) {
    println!("\n!!!! SKIPPED: {what}\n!!!!          {why}\n");
}

/// A command as one would type it.
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        let plain = !arg.is_empty() && arg.chars().all(|c| c.is_alphanumeric() || "-_=+./,:%@".contains(c));
        text.push(' ');
        text.push_str(&if plain { arg.into_owned() } else { format!("'{arg}'") });
    }
    text
}

/// So that our lines and those of the programs we start come out in order.
pub fn flush() {
    use std::io::Write;
    // Nobody is left to tell when standard output is gone.
    drop(std::io::stdout().flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_quotes_what_a_shell_would_split() {
        assert_eq!(show(Command::new("/usr/bin/ls").args(["-l", "two words", ""])), "ls -l 'two words' ''");
    }

    #[test]
    fn the_root_has_the_workspace() {
        assert!(root().join("Cargo.toml").exists() && root().join("xtask").exists());
    }
}
