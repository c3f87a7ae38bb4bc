//! `lavatube-sim`: lives seeds and tells their stories. The way back to what a test found.
//!
//! `lavatube-sim --seed N [--rounds N] [--count N] [--scenario NAME] [-v|-vv]`. It must not know anything but the library's front door.

use std::process::ExitCode;

use lavatube_sim::{Plan, SCENARIOS, Settings, Telling, live_as};

const USAGE: &str = "lavatube-sim --seed N [--rounds N] [--count N] [--scenario NAME] [-v|-vv]";

struct Asked {
    seed: u64,
    count: u64,
    settings: Settings,
    scenario: Option<(&'static str, &'static str)>,
}

fn asked() -> Result<Asked, String> {
    let settings = Settings { rounds: 6, sabotage: None, telling: Telling::Nothing };
    let mut asked = Asked { seed: 1, count: 1, settings, scenario: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--scenario" {
            let name = words.next().unwrap_or_default();
            let found = SCENARIOS.iter().find(|s| s.0 == name);
            asked.scenario = Some(*found.ok_or_else(|| format!("there is no scenario {name:?}\n{USAGE}"))?);
            continue;
        }
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} wants a number\n{USAGE}"))?;
            value.parse().map_err(|_| format!("{value:?} is no number\n{USAGE}"))
        };
        match &word[..] {
            "--seed" => asked.seed = number()?,
            "--rounds" => asked.settings.rounds = number()?,
            "--count" => asked.count = number()?,
            "-v" => asked.settings.telling = Telling::Story,
            "-vv" => asked.settings.telling = Telling::EveryCall,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let Asked { seed, count, settings, scenario } = match asked() {
        Ok(asked) => asked,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let mut wrong = 0u64;
    for seed in (0..count).map(|n| seed.wrapping_add(n)) {
        let plan = scenario.map_or(Ok(Plan::draw(seed)), |(_, text)| Plan::of_scenario(seed, text));
        let plan = match plan {
            Ok(plan) => plan,
            Err(text) => {
                eprintln!("{text}");
                return ExitCode::from(2);
            }
        };
        let ended = live_as(seed, plan, settings);
        ended.story.iter().for_each(|line| println!("{line}"));
        if let Some(what) = ended.wrong {
            wrong += 1;
            println!("seed {seed} WRONG: {what}");
            let scenario = scenario.map_or(String::new(), |(name, _)| format!(" --scenario {name}"));
            println!("  again: lavatube-sim --seed {seed} --rounds {}{scenario} -v", settings.rounds);
        } else if settings.telling != Telling::Nothing || count == 1 {
            let hash: String = ended.trace[..8].iter().map(|b| format!("{b:02x}")).collect();
            println!("seed {seed}: {} calls, {} snapshots, trace {hash}", ended.calls, ended.snapshots);
        }
    }
    println!("{count} seeds, {wrong} wrong");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
