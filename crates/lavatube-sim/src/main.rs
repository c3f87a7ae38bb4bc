//! `lavatube-sim`: lives seeds and tells their stories. The way back to what a test found.
//!
//! It must not know anything but the library's front door.

use std::io::Write;
use std::process::ExitCode;

use lavatube_sim::{Plan, SCENARIOS, Sabotage, Settings, Telling, live_as};

const USAGE: &str = "\
lavatube-sim --seed N [--rounds N] [--count N] [--scenario NAME] [--set NAME=NUMBER]... [--plant BUG] [-v|-vv]
  --scenario  fixes part of the plan: scenarios/NAME.toml
  --set       fixes one line of it
  --plant     plants a bug, by its name in crates/lavatube-sim/src/sabotage.rs
  -v, -vv     tells the story, and every call that is traced";

struct Asked {
    seed: u64,
    count: u64,
    settings: Settings,
    /// What repeats the plan on a command line, and the lines it stands for.
    fixed: (String, String),
}

fn asked() -> Result<Asked, String> {
    let settings = Settings { rounds: 6, sabotage: None, telling: Telling::Nothing };
    let mut asked = Asked { seed: 1, count: 1, settings, fixed: Default::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match &word[..] {
            "-v" => asked.settings.telling = Telling::Story,
            "-vv" => asked.settings.telling = Telling::EveryCall,
            "--seed" | "--rounds" | "--count" | "--scenario" | "--set" | "--plant" => {
                let value = words.next().ok_or_else(|| format!("{word} wants a value\n{USAGE}"))?;
                asked.take(&word, &value)?;
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(asked)
}

impl Asked {
    fn take(&mut self, word: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| format!("{value:?} is no number\n{USAGE}"));
        let line = match word {
            "--seed" => return number().map(|n| self.seed = n),
            "--rounds" => return number().map(|n| self.settings.rounds = n),
            "--count" => return number().map(|n| self.count = n),
            "--set" => value,
            "--plant" => {
                let of_releases = Sabotage::OF_RELEASES.into_iter().map(|(bug, _)| bug);
                let all = Sabotage::ALL.into_iter().chain(Sabotage::OF_LINK).chain(of_releases);
                let found = all.into_iter().find(|s| format!("{s:?}") == value);
                self.settings.sabotage = Some(found.ok_or_else(|| format!("there is no bug {value:?} to plant"))?);
                return Ok(());
            }
            _ => {
                let found = SCENARIOS.iter().find(|s| s.0 == value);
                found.ok_or_else(|| format!("there is no scenario {value:?}\n{USAGE}"))?.1
            }
        };
        self.fixed.0 += &format!(" {word} {value}");
        self.fixed.1 += &format!("{line}\n");
        Ok(())
    }

    /// Lives one seed; says whether it ended well.
    fn live(&self, seed: u64) -> Result<bool, String> {
        let (words, lines) = &self.fixed;
        let ended = live_as(seed, Plan::of_scenario(seed, lines)?, self.settings);
        ended.story.iter().for_each(|line| say(line));
        if let Some(what) = ended.wrong {
            say(&format!("seed {seed} WRONG: {what}"));
            say(&format!("  again: lavatube-sim --seed {seed} --rounds {}{words} -v", self.settings.rounds));
            return Ok(false);
        }
        if self.settings.telling != Telling::Nothing || self.count == 1 {
            let hash: String = ended.trace[..8].iter().map(|b| format!("{b:02x}")).collect();
            say(&format!("seed {seed}: {} calls, {} snapshots, trace {hash}", ended.calls, ended.snapshots));
        }
        Ok(true)
    }
}

/// Prints a line; nobody may be listening any more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run() -> Result<bool, String> {
    let asked = asked()?;
    let mut wrong = 0;
    for n in 0..asked.count {
        wrong += u64::from(!asked.live(asked.seed.wrapping_add(n))?);
    }
    say(&format!("{} seeds, {wrong} wrong", asked.count));
    Ok(wrong == 0)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            say(&text);
            ExitCode::from(2)
        }
    }
}
