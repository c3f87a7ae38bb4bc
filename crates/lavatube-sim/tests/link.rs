//! Worlds whose vault is far: short seeds, and planted bugs of the link.
//!
//! `LAVATUBE_SIM_SEED` chooses the first of the short seeds; empty or absent, it is 1.

use lavatube_sim::{Plan, SCENARIOS, Sabotage, Settings, Telling, live_as};

const SETTINGS: Settings = Settings { rounds: 5, sabotage: None, telling: Telling::Nothing };

fn plan(seed: u64) -> Plan {
    let scenario = SCENARIOS.iter().find(|s| s.0 == "link").expect("there is a scenario of links");
    Plan::of_scenario(seed, scenario.1).expect("a scenario can be read")
}

#[test]
fn short_seeds_over_a_link_end_well() {
    #[expect(clippy::disallowed_methods, reason = "a person chooses the first seed of a test run")]
    let asked = std::env::var("LAVATUBE_SIM_SEED").unwrap_or_default();
    let first: u64 = if asked.is_empty() { 1 } else { asked.parse().expect("LAVATUBE_SIM_SEED is a number") };
    let mut snapshots = 0;
    for seed in first..first + 40 {
        let ended = live_as(seed, plan(seed), SETTINGS);
        if let Some(wrong) = ended.wrong {
            let again = format!("--seed {seed} --rounds {} --scenario link -v", SETTINGS.rounds);
            panic!("seed {seed}: {wrong}\n  again: cargo run -p lavatube-sim -- {again}");
        }
        snapshots += ended.snapshots;
    }
    assert!(snapshots > 80, "the worlds are not all in ruins: {snapshots} snapshots");
}

#[test]
fn every_planted_bug_of_the_link_is_found() {
    for sabotage in Sabotage::OF_LINK {
        let settings = Settings { sabotage: Some(sabotage), ..SETTINGS };
        let found = (1..=300).find_map(|seed| live_as(seed, plan(seed), settings).wrong.map(|wrong| (seed, wrong)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{sabotage:?} was not found within 300 seeds"));
        println!("{sabotage:?}: seed {seed}: {wrong}");
    }
}
