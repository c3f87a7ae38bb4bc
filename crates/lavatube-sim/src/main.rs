//! `lavatube-sim`: lives seeds and tells their stories. The way back to what a test found.
//!
//! `lavatube-sim --seed N [--rounds N] [--count N] [-v]`. It must not know anything but the library's front door.

use std::process::ExitCode;

use lavatube_sim::{Settings, live};

const USAGE: &str = "lavatube-sim --seed N [--rounds N] [--count N] [-v]";

struct Asked {
    seed: u64,
    count: u64,
    settings: Settings,
}

fn asked() -> Result<Asked, String> {
    let settings = Settings { rounds: 6, sabotage: None, verbose: false };
    let mut asked = Asked { seed: 1, count: 1, settings };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} wants a number\n{USAGE}"))?;
            value.parse().map_err(|_| format!("{value:?} is no number\n{USAGE}"))
        };
        match &word[..] {
            "--seed" => asked.seed = number()?,
            "--rounds" => asked.settings.rounds = number()?,
            "--count" => asked.count = number()?,
            "-v" => asked.settings.verbose = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let Asked { seed, count, settings } = match asked() {
        Ok(asked) => asked,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let mut wrong = 0u64;
    for seed in (0..count).map(|n| seed.wrapping_add(n)) {
        let ended = live(seed, settings);
        ended.story.iter().for_each(|line| println!("{line}"));
        if let Some(what) = ended.wrong {
            wrong += 1;
            println!("seed {seed} WRONG: {what}");
            println!("  again: lavatube-sim --seed {seed} --rounds {} -v", settings.rounds);
        } else if settings.verbose || count == 1 {
            let hash: String = ended.trace[..8].iter().map(|b| format!("{b:02x}")).collect();
            println!("seed {seed}: {} calls, {} snapshots, trace {hash}", ended.calls, ended.snapshots);
        }
    }
    println!("{count} seeds, {wrong} wrong");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
