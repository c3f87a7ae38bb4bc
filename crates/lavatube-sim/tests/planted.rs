//! Planted bugs: each is found within a few hundred seeds, or the simulator is blind.

use lavatube_sim::{Plan, SCENARIOS, Sabotage, Settings, Telling, live, live_as, live_put_back};

#[test]
fn every_planted_bug_is_found() {
    for sabotage in Sabotage::ALL {
        let settings = Settings { rounds: 5, sabotage: Some(sabotage), telling: Telling::Nothing };
        let found = (1..=300).find_map(|seed| live(seed, settings).wrong.map(|wrong| (seed, wrong)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{sabotage:?} was not found within 300 seeds"));
        println!("{sabotage:?}: seed {seed}: {wrong}");
    }
}

#[test]
fn a_bug_in_how_releases_are_signed_is_found() {
    for (sabotage, scenario) in Sabotage::OF_RELEASES {
        let text = SCENARIOS.iter().find(|(name, _)| *name == scenario).unwrap().1;
        let settings = Settings { rounds: 8, sabotage: Some(sabotage), telling: Telling::Nothing };
        let lived = |seed| live_as(seed, Plan::of_scenario(seed, text).unwrap(), settings).wrong;
        let found = (1..=100).find_map(|seed| lived(seed).map(|wrong| (seed, wrong)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{sabotage:?} was not found within 100 seeds"));
        println!("{sabotage:?}: seed {seed}: {wrong}");
    }
}

/// Such a vault breaks no contract of a drive: it is whole, and every receipt it gives is true. Only its log tells.
#[test]
fn a_vault_that_forgets_a_manifest_or_goes_on_in_two_ways_is_caught_by_its_log() {
    for seed in 1..=30 {
        let plan = Plan { restless: 0, link: 0, beyond_promise: 0, ..Plan::draw(seed) };
        for forks in [false, true] {
            if let Some(wrong) = live_put_back(seed, plan, forks).wrong {
                panic!("seed {seed}, forks {forks}: {wrong}");
            }
        }
    }
}
