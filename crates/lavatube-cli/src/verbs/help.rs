//! `lavatube help`: the idea, a verb, the exit statuses, the patterns. Must not know what verbs do.

use crate::errors::{self, Condition, End, Failure};
use crate::screen::Screen;
use crate::{args, config};

/// Explain lavatube, a verb, exit statuses, patterns or the configuration file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lavatube help backup\n  lavatube help statuses\n  lavatube help patterns\n  lavatube help config"
)]
pub struct HelpArgs {
    /// A verb, `statuses`, `patterns` or `config`
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

/// Prints it.
///
/// # Errors
/// A usage failure when there is no such topic.
pub fn run(args: &HelpArgs, screen: &Screen) -> Result<End, Failure> {
    let mut command = args::command();
    command.build();
    for topic in &args.topic {
        match topic.as_str() {
            "statuses" => {
                let table = errors::TABLE.iter().map(|r| {
                    format!("  {:>3}  {:<12} {}\n       {:<12} hint: {}\n", r.status, r.code, r.meaning, "", r.hint)
                });
                let table: String = table.collect();
                screen.say(&format!("Exit statuses:\n{}\nErrors by code:\n{table}", errors::statuses_for_help()))?;
                return Ok(End::Done);
            }
            "patterns" => {
                screen.say(PATTERNS)?;
                return Ok(End::Done);
            }
            "config" => {
                screen.say(config::document().trim_end())?;
                return Ok(End::Done);
            }
            _ => {}
        }
        let Some(verb) = command.find_subcommand(topic).cloned() else {
            let what = format!("there is no help on {topic:?}");
            return Err(Failure::new(Condition::Usage, what).hint("`lavatube help` lists the verbs"));
        };
        command = verb;
    }
    screen.say(command.render_long_help().to_string().trim_end())?;
    Ok(End::Done)
}

const PATTERNS: &str = "\
Patterns of --exclude, --include and the configuration's `exclude`:

  *.tmp             no slash: the name of any file or folder, anywhere
  /home/*/.cache    leading slash: the whole absolute path
  target/debug      a slash inside: the end of the path
  cache/            slash at the end: folders only

`*` and `?` stop at slashes, `**` does not; `{a,b}` and `[a-z]` work, `\\` takes the meaning
away from the next character. A folder that is left out is left out with all it holds.";
