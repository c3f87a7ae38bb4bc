//! Planted bugs: each is found within a few hundred seeds, or the simulator is blind.

use lavatube_sim::{Sabotage, Settings, Telling, live};

#[test]
fn every_planted_bug_is_found() {
    for sabotage in Sabotage::ALL {
        let settings = Settings { rounds: 5, sabotage: Some(sabotage), telling: Telling::Nothing };
        let found = (1..=300).find_map(|seed| live(seed, settings).wrong.map(|wrong| (seed, wrong)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{sabotage:?} was not found within 300 seeds"));
        println!("{sabotage:?}: seed {seed}: {wrong}");
    }
}
