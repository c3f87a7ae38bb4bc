//! What this machine takes to be in the vault and is not: the next backup sends it again and says so, whatever was lost and
//! however; and what waits on this machine and rots stands in nobody's way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::facts::{Facts, assert_same, look};
use common::{Chance, Machine, files_below, is_shard, number, seed};
use serde_json::Value;

fn filled(seed: u64) -> (Machine, Facts) {
    let machine = Machine::new(seed);
    common::fill(&machine.src(), &mut Chance::new(seed), 30, 1 << 20);
    let want = look(&machine.src());
    (machine, want)
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-a"]).args([from, to]).status().unwrap().success());
}

/// Takes a snapshot that must be whole, of nothing new, and restores it on this machine and on one that knows nothing.
#[track_caller]
fn comes_back(machine: &Machine, want: &Facts) -> Value {
    let done = machine.backup();
    assert_eq!(done["promise"], "safe-there", "{done:#}");
    assert_same(want, &machine.restore("latest", "back").join("src"), "on this machine");
    fs::rename(machine.path("state"), machine.path("state-kept")).unwrap();
    assert_same(want, &machine.restore("latest", "back2").join("src"), "on a machine that knows nothing");
    fs::remove_dir_all(machine.path("state")).unwrap();
    fs::rename(machine.path("state-kept"), machine.path("state")).unwrap();
    for back in ["back", "back2"] {
        fs::remove_dir_all(machine.path(back)).unwrap();
    }
    done
}

/// From here on nothing is doubted that was not, and nothing is read twice.
#[track_caller]
fn is_settled(machine: &Machine, want: &Facts) {
    let again = comes_back(machine, want);
    assert_eq!((number(&again["doubted"]), number(&again["files_read"])), (0, 0), "{again:#}");
}

#[test]
fn what_a_check_found_lost_is_sent_again_by_the_next_backup() {
    let (machine, want) = filled(seed(131));
    machine.backup();
    for n in 0..3 {
        files_below(&machine.drive(n)).iter().filter(|f| is_shard(f)).for_each(|f| fs::remove_file(f).unwrap());
    }
    machine.json(&["check", "--repair"], 5);
    let done = comes_back(&machine, &want);
    assert!(number(&done["new_bytes"]) > 1 << 19, "it went again: {done:#}");
    is_settled(&machine, &want);
}

#[test]
fn drives_that_are_away_are_not_lost() {
    let (machine, want) = filled(seed(132));
    machine.backup();
    for n in 0..3 {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
    }
    machine.json(&["check"], 5);
    for n in 0..3 {
        fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).unwrap();
    }
    is_settled(&machine, &want);
}

#[test]
fn a_vault_that_was_put_back_to_an_older_copy_gets_what_it_lacks() {
    let (machine, _) = filled(seed(133));
    machine.backup();
    copy(&machine.vault(), &machine.path("older"));
    common::fill(&machine.src().join("more"), &mut Chance::new(machine.seed + 1), 20, 1 << 20);
    machine.backup();
    let want = look(&machine.src());
    fs::remove_dir_all(machine.vault()).unwrap();
    fs::rename(machine.path("older"), machine.vault()).unwrap();
    // Its log tells: nothing is sent before a person has looked.
    machine.json(&["backup", "src"], 14);
    machine.json(&["log", "accept"], 0);
    let done = comes_back(&machine, &want);
    assert!(number(&done["doubted"]) > 0, "{done:#}");
    is_settled(&machine, &want);
}

/// Backs up while two drives are away, and brings them back.
fn with_something_waiting(seed: u64) -> (Machine, Facts) {
    let (machine, want) = filled(seed);
    fs::create_dir(machine.path("first")).unwrap();
    fs::write(machine.path("first/file"), "so that there is a vault").unwrap();
    machine.json(&["backup", "first"], 0);
    for n in [1, 2] {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
    }
    assert_eq!(machine.backup()["promise"], "safe-here");
    for n in [1, 2] {
        fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).unwrap();
    }
    (machine, want)
}

#[test]
fn a_spool_that_was_lost_is_sent_again() {
    let (machine, want) = with_something_waiting(seed(134));
    fs::remove_dir_all(machine.state().join("spool")).unwrap();
    let done = comes_back(&machine, &want);
    assert!(number(&done["doubted"]) > 0, "{done:#}");
    is_settled(&machine, &want);
}

#[test]
fn one_rotten_object_in_the_spool_stops_no_other() {
    let (machine, want) = with_something_waiting(seed(135));
    let packs = files_below(&machine.state().join("spool/packs"));
    let largest = packs.iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes[300] ^= 1;
    fs::write(largest, bytes).unwrap();
    let done = comes_back(&machine, &want);
    assert_eq!(number(&done["damaged_waiting"]), 1, "{done:#}");
    assert!(number(&done["drained"]) > 0 && number(&done["new_bytes"]) > 0, "{done:#}");
    let again = comes_back(&machine, &want);
    assert_eq!((number(&again["damaged_waiting"]), number(&again["doubted"])), (1, 0), "{again:#}");
}
