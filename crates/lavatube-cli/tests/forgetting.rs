//! Snapshots that are forgotten: by rules and by name, for all machines of an archive, and back again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::time::Duration;

use common::pair::Pair;
use common::{Machine, number, seed, text};
use serde_json::Value;

/// A machine with `n` snapshots, one file more in each.
fn with_snapshots(own: u64, n: usize) -> Machine {
    let machine = Machine::in_memory(seed(own));
    for i in 0..n {
        fs::write(machine.src().join(format!("file{i}")), vec![i as u8; 50_000 + i]).unwrap();
        let tags: &[&str] = if i == 0 { &["--tag", "first"] } else { &[] };
        machine.json(&[&["backup", "src"], tags].concat(), 0);
    }
    machine
}

fn kept(answer: &Value) -> Vec<bool> {
    answer["snapshots"].as_array().unwrap().iter().map(|s| s["keep"].as_bool().unwrap()).collect()
}

#[test]
fn what_rules_do_not_keep_is_marked_hidden_and_still_there_by_its_id() {
    let machine = with_snapshots(0xf0, 4);
    let all = machine.snapshots();
    let rules = ["forget", "--keep-last", "2", "--keep-tag", "first"];
    let said = machine.json(&[&rules[..], &["--dry-run"]].concat(), 0);
    assert_eq!(kept(&said), [true, false, true, true], "{said:#}");
    assert_eq!(said["snapshots"][0]["reasons"][0], "tag first");
    assert_eq!(machine.snapshots(), all, "a dry run does nothing");

    let stored = machine.stored_bytes();
    let said = machine.json(&rules, 0);
    assert_eq!((number(&said["marked"]), &said["promise"]), (1, &Value::from("safe-there")), "{said:#}");
    assert_eq!(machine.snapshots(), [&all[0][..], &all[2], &all[3]]);
    assert!(machine.stored_bytes() > stored, "a mark frees nothing");
    let listed = machine.json(&["snapshots", "--all"], 0);
    let forgotten: Vec<_> = listed["snapshots"].as_array().unwrap().iter().map(|s| s["forgotten"] == true).collect();
    assert_eq!(forgotten, [false, true, false, false]);
    assert_eq!(number(&machine.json(&["forget", "--keep-last", "3"], 0)["marked"]), 0, "it is judged no more");

    machine.restore(&all[1], "back");
    let status = machine.run(&["restore", "latest~3", "--target", "nothing"]).status;
    assert!(!status.success(), "a forgotten one is no latest");
    machine.json(&["check", "--read-data"], 0);

    let said = machine.json(&["forget", "--undo", &all[1][..12]], 0);
    assert_eq!(number(&said["marked"]), 1, "{said:#}");
    assert_eq!(machine.snapshots(), all);
    machine.json(&["forget", &all[1], &all[3]], 0);
    assert_eq!(machine.snapshots(), [&all[0][..], &all[2]], "forgotten again, and `latest` by name");
    // What is backed up next goes on from what was forgotten, and is whole.
    machine.backup();
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn another_machine_sees_the_marks_and_a_vault_that_was_put_back_is_noticed() {
    let machine = with_snapshots(0xf1, 3);
    let all = machine.snapshots();
    common::copy_folder(&machine.vault(), &machine.path("older"));
    machine.json(&["forget", &all[0]], 0);
    fs::rename(machine.path("state"), machine.path("state-of-the-first")).unwrap();
    assert_eq!(machine.snapshots(), &all[1..], "a state that knows nothing learns it from the vault");
    fs::remove_dir_all(machine.path("state")).unwrap();
    fs::rename(machine.path("state-of-the-first"), machine.path("state")).unwrap();
    // Who hides a mark hides a manifest.
    fs::remove_dir_all(machine.vault()).unwrap();
    fs::rename(machine.path("older"), machine.vault()).unwrap();
    let (status, answer) = machine.answer(&["check"]);
    assert_eq!(status, 14, "{answer:#}");
}

#[test]
fn it_takes_both_keys_and_something_to_go_by() {
    let machine = with_snapshots(0xf2, 2);
    let all = machine.snapshots();
    assert_eq!(machine.json(&["forget"], 2)["error"]["code"], "usage");
    assert_eq!(machine.json(&["forget", "--keep-last", "1", "--group-by", "weather"], 2)["error"]["code"], "usage");
    assert_eq!(machine.json(&["forget", "ffffffffffff"], 1)["error"]["code"], "no-snapshot");
    for (key, status) in [("read.key", 11), ("deposit.key", 11)] {
        let (here, away) = (machine.path("keys").join(key), machine.path(key));
        fs::rename(&here, &away).unwrap();
        assert_eq!(machine.json(&["forget", &all[0]], status)["error"]["code"], "no-key");
        fs::rename(&away, &here).unwrap();
    }
    assert_eq!(machine.snapshots(), all);
    let said = machine.json(&["forget", "--keep-tag", "none-has-this"], 0);
    assert_eq!(
        (kept(&said), text(&said["snapshots"][1]["reasons"][0])),
        (vec![false, true], "the newest: of no group all are forgotten".to_owned())
    );
}

#[test]
fn over_a_link_marks_wait_like_a_backup_and_arrive() {
    let pair = Pair::new(0xf3);
    for n in 0..2 {
        fs::write(pair.machine.src().join(format!("file{n}")), vec![n; 50_000]).unwrap();
        pair.machine.backup();
    }
    let all = pair.machine.snapshots();
    let said = pair.machine.json(&["forget", &all[0]], 0);
    assert_eq!((number(&said["marked"]), &said["promise"]), (1, &Value::from("safe-here")), "{said:#}");
    assert_eq!(pair.machine.snapshots(), &all[1..]);
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(Duration::from_secs(60)), Some(0));
    vault.stop();
    let there = pair.far_json(&["snapshots"]);
    assert_eq!((there["snapshots"].as_array().unwrap().len(), number(&there["forgotten"])), (1, 1), "{there:#}");
    assert_eq!(there["snapshots"][0]["snapshot"], all[1].as_str());
}
