//! Short seeds, the seeds that once found something, the scenarios, and the promise that a seed repeats.
//!
//! `LAVATUBE_SIM_SEED` chooses the first of the short seeds; empty or absent, it is 1.

use lavatube_sim::{Ended, Fuse, Plan, SCENARIOS, Settings, Telling, When, live, live_as, live_until};

const SETTINGS: Settings = Settings { rounds: 5, sabotage: None, telling: Telling::Nothing };

fn first_seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a person chooses the first seed of a test run")]
    let asked = std::env::var("LAVATUBE_SIM_SEED").unwrap_or_default();
    if asked.is_empty() { 1 } else { asked.parse().expect("LAVATUBE_SIM_SEED is a number") }
}

fn assert_well(seed: u64, rounds: u64, what: &str, ended: &Ended) {
    if let Some(wrong) = &ended.wrong {
        panic!(
            "seed {seed} ({what}): {wrong}\n  again: cargo run -p lavatube-sim -- --seed {seed} --rounds {rounds} -v {what}"
        );
    }
}

#[test]
fn short_seeds_end_well() {
    let first = first_seed();
    let mut snapshots = 0;
    for seed in first..first + 80 {
        let ended = live(seed, SETTINGS);
        assert_well(seed, SETTINGS.rounds, "", &ended);
        snapshots += ended.snapshots;
    }
    assert!(snapshots > 200, "the worlds are not all in ruins: {snapshots} snapshots");
}

#[test]
fn seeds_that_once_found_something_end_well() {
    let list = include_str!("../../../scenarios/seeds/regress.txt");
    for line in list.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (seed, rounds) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        let text = SCENARIOS.iter().find(|s| s.0 == words[2]).map_or("", |s| s.1);
        let plan = Plan::of_scenario(seed, text).unwrap();
        let ended = live_as(seed, plan, Settings { rounds, ..SETTINGS });
        assert_well(seed, rounds, words[2], &ended);
    }
}

#[test]
fn scenarios_end_well() {
    for (name, text) in SCENARIOS {
        for seed in 1..=10 {
            let plan = Plan::of_scenario(seed, text).unwrap();
            let ended = live_as(seed, plan, SETTINGS);
            assert_well(seed, SETTINGS.rounds, &format!("--scenario {name}"), &ended);
        }
    }
}

/// Without damage, failing and missing drives and lost machines nothing hangs on the random id of a manifest. (A failed write leaves a shard
/// to be written, which scrubs do in the order of ids.)
#[test]
fn a_seed_gives_the_same_trace_twice() {
    let mut long = 0;
    for seed in 1..=40 {
        let plan = Plan { spare: 0, damage: 0, moods: 0, missing: 0, away: 0, loss: 0, fault: 0, ..Plan::draw(seed) };
        let [a, b] = [(); 2].map(|()| live_as(seed, plan, SETTINGS));
        assert_eq!((a.calls, a.trace), (b.calls, b.trace), "seed {seed}");
        long += u64::from(a.calls > 500);
    }
    assert!(long > 20, "something happened in most of them");
    assert_ne!(live(1, SETTINGS).trace, live(2, SETTINGS).trace);
}

#[test]
fn a_backup_may_die_at_any_change() {
    let plan = Plan { k: 2, m: 1, spare: 0, restless: 0, ..Plan::draw(5) };
    for when in [When::Before, When::During, When::After] {
        let mut deaths = 0;
        for at in 0.. {
            let (ended, died) = live_until(5, plan, Fuse { at, when });
            if let Some(wrong) = ended.wrong {
                panic!("dying {when:?} change {at}: {wrong}");
            }
            if !died {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 20, "there are many changes to die at: {deaths}");
    }
}
