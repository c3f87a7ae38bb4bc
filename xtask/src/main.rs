//! The chores of the project: `cargo xtask VERB`.
//!
//! What CI runs, a person runs by the same name. It is plain Rust on the standard library, so that it builds in seconds
//! on a machine that has a toolchain and nothing else. It must not know the rooms: it starts `lavatube` as a program and
//! reads the sources as text.

mod chores;
mod run;
mod tidy;
mod tour;

use std::process::ExitCode;

/// One verb: its name and arguments, one line for the list, and what it runs.
struct Verb {
    name: &'static str,
    args: &'static str,
    line: &'static str,
    run: fn(&[String]) -> run::Outcome,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "try",
        args: "[FOLDER] [--keep] [--lavatube PROGRAM]",
        line: "back FOLDER (or a sample) up, break two drives, restore, compare; explains every step",
        run: tour::run,
    },
    Verb { name: "test", args: "", line: "all tests: cargo test, then the rescue reader's tests", run: chores::test },
    Verb {
        name: "tidy",
        args: "",
        line: "the walls: floors, forbidden dependencies, citations, sizes, links, openings",
        run: tidy::run,
    },
    Verb {
        name: "ci",
        args: "",
        line: "what CI runs: fmt, clippy, tidy, doc, deny, try, test, interop",
        run: chores::ci,
    },
    Verb {
        name: "bench",
        args: "backup | link | vault",
        line: "measure against other tools (tools/bench-*.py)",
        run: chores::bench,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        print!("{}", help());
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        eprintln!("xtask: there is no verb `{name}`.\n\n{}", help());
        return ExitCode::from(2);
    };
    match (verb.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {name}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The list of verbs, and which to start with.
fn help() -> String {
    let mut text = String::from("lavatube's chores.  cargo xtask VERB\n\n");
    for verb in VERBS {
        let head = format!("{} {}", verb.name, verb.args);
        text.push_str(&format!("  {}\n      {}\n", head.trim_end(), verb.line));
    }
    text.push_str(
        "\nNew here?      cargo xtask try      shows what lavatube does, on your own machine, and cleans up after itself.\n\
         Changed code?  cargo xtask test     then `cargo xtask tidy`. `cargo xtask ci` is both and more.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_verb_once() {
        let text = help();
        for verb in VERBS {
            assert_eq!(
                text.matches(&format!("\n  {} ", verb.name)).count()
                    + text.matches(&format!("\n  {}\n", verb.name)).count(),
                1
            );
        }
    }
}
