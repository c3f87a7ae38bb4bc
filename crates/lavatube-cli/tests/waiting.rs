//! Snapshots that are safe here only, because the vault's drives were away: what waits can be listed, read and checked
//! like what was delivered, and goes to the vault as soon as a command may write to it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;

use common::facts::{Facts, assert_same, look};
use common::{Chance, Machine, files_below, number, seed, text};
use serde_json::Value;

/// Drives are unmounted, or mounted again.
fn take_away(machine: &Machine, drives: &[usize]) {
    drives.iter().for_each(|n| fs::rename(machine.drive(*n), machine.path(&format!("away{n}"))).unwrap());
}

fn bring_back(machine: &Machine, drives: &[usize]) {
    drives.iter().for_each(|n| fs::rename(machine.path(&format!("away{n}")), machine.drive(*n)).unwrap());
}

/// A machine with one snapshot in the vault; then two drives went away and a second snapshot was taken.
fn one_waits(seed: u64) -> (Machine, [Facts; 2]) {
    let machine = Machine::new(seed);
    let mut chance = Chance::new(seed);
    common::fill(&machine.src(), &mut chance, 30, 1 << 20);
    assert_eq!(machine.backup()["promise"], "safe-there");
    let first = look(&machine.src());
    take_away(&machine, &[1, 2]);
    common::fill(&machine.src().join("later"), &mut chance, 20, 1 << 20);
    fs::write(machine.src().join("letter"), "dear vault").unwrap();
    assert_eq!(machine.backup()["promise"], "safe-here");
    let second = look(&machine.src());
    (machine, [first, second])
}

#[track_caller]
fn promises(machine: &Machine, status: i32) -> Vec<String> {
    let answer = machine.json(&["snapshots"], status);
    answer["snapshots"].as_array().unwrap().iter().map(|s| text(&s["promise"])).collect()
}

#[track_caller]
fn restores(machine: &Machine, wanted: &[Facts; 2]) {
    for (words, want) in [("latest~1", &wanted[0]), ("latest", &wanted[1])] {
        let back = machine.restore(words, "back");
        assert_same(want, &back.join("src"), words);
        fs::remove_dir_all(back).unwrap();
    }
}

/// Files in the spool.
fn spooled(machine: &Machine) -> Vec<std::path::PathBuf> {
    files_below(&machine.state().join("spool"))
}

#[test]
fn what_waits_is_listed_read_and_checked_and_goes_when_a_repair_finds_the_drives() {
    let (machine, wanted) = one_waits(seed(61));
    assert_eq!(promises(&machine, 0), ["safe-there", "safe-here"]);
    restores(&machine, &wanted);
    let listed = machine.json(&["ls", "latest:src/later", "--recursive"], 0);
    assert!(listed["entries"].as_array().unwrap().len() > 20, "{listed:#}");
    assert_eq!(machine.run(&["cat", "latest:src/letter"]).stdout, b"dear vault");
    let check = machine.json(&["check", "--read-data"], 4);
    assert_eq!((&check["structure"]["snapshots"], &check["files"]), (&2.into(), &Value::Array(vec![])), "{check:#}");
    // A catalog that is lost is made again from what waits, too.
    fs::remove_dir_all(machine.state().join("catalog")).unwrap();
    restores(&machine, &wanted);

    bring_back(&machine, &[1, 2]);
    let check = machine.json(&["check", "--read-data"], 0);
    let waiting = number(&check["waiting"]);
    assert!(waiting > 1 && spooled(&machine).len() as u64 == waiting, "who only looks moves nothing: {check:#}");
    assert_eq!(promises(&machine, 0), ["safe-there", "safe-here"]);
    let repair = machine.json(&["check", "--read-data", "--repair"], 0);
    assert_eq!((number(&repair["drained"]), number(&repair["waiting"])), (waiting, 0), "{repair:#}");
    assert!(spooled(&machine).is_empty());
    assert_eq!(promises(&machine, 0), ["safe-there", "safe-there"]);

    // It is in the vault now: a machine that has only vault and keys has it, whichever two drives are gone.
    fs::remove_dir_all(machine.path("state")).unwrap();
    take_away(&machine, &[0, 4]);
    restores(&machine, &wanted);
}

#[test]
fn what_waits_goes_with_a_repair_without_the_read_key_and_with_the_next_backup() {
    let (machine, wanted) = one_waits(seed(62));
    fs::rename(machine.path("keys/read.key"), machine.path("read.key")).unwrap();
    let early = machine.json(&["check"], 4);
    assert!(number(&early["waiting"]) > 1 && early["structure"].is_null(), "{early:#}");
    bring_back(&machine, &[1, 2]);
    let repair = machine.json(&["check", "--repair"], 0);
    assert_eq!((&repair["drained"], number(&repair["waiting"])), (&early["waiting"], 0), "{repair:#}");
    fs::rename(machine.path("read.key"), machine.path("keys/read.key")).unwrap();
    restores(&machine, &wanted);

    take_away(&machine, &[3, 5]);
    fs::write(machine.src().join("third"), "and one more").unwrap();
    assert_eq!(machine.backup()["promise"], "safe-here");
    bring_back(&machine, &[3, 5]);
    let last = machine.backup();
    assert_eq!((&last["promise"], number(&last["drained"]) > 1), (&"safe-there".into(), true), "{last:#}");
    assert_eq!(promises(&machine, 0), ["safe-there"; 4]);
}

#[test]
fn with_too_few_drives_to_read_what_waits_can_still_be_read_and_is_the_latest() {
    // Little enough for one pack of 4 KiB: a quarter of it on each of four drives, and all of them wanted. Of a larger pack
    // chance may leave on three drives just what the list needs.
    let machine = Machine::new(seed(63));
    fs::write(machine.src().join("note"), "written first").unwrap();
    machine.backup();
    take_away(&machine, &[0, 1, 2]);
    fs::create_dir(machine.path("other")).unwrap();
    fs::write(machine.path("other/note"), "written later").unwrap();
    assert_eq!(machine.json(&["backup", "other"], 0)["promise"], "safe-here");
    let listed = machine.json(&["snapshots"], 5);
    assert_eq!((promises(&machine, 5), listed["unreadable"].as_array().unwrap().len()), (vec!["safe-here".into()], 1));
    let back = machine.restore("latest", "back");
    assert_eq!(fs::read(back.join("other/note")).unwrap(), b"written later");
    let older = machine.json(&["restore", "latest~1", "--target", "older"], 5);
    assert_eq!(older["error"]["code"], "lost", "the one before cannot be read now: {older:#}");
}

#[test]
fn rot_in_what_waits_is_named_and_nothing_wrong_is_restored() {
    let (machine, wanted) = one_waits(seed(64));
    let packs: Vec<_> = spooled(&machine).into_iter().filter(|f| f.parent().unwrap().ends_with("packs")).collect();
    let largest = packs.iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes[200] ^= 1;
    fs::write(largest, bytes).unwrap();
    let check = machine.json(&["check", "--read-data"], 5);
    let named = common::paths(&check["files"]);
    let answer = machine.json(&["restore", "latest", "--target", "back"], 5);
    assert_eq!(common::paths(&answer["failed"]), named);
    let have = look(&machine.path("back/src"));
    for (path, fact) in &wanted[1] {
        let there = have.get(path).is_some_and(|h| h.line == fact.line);
        let full = machine.src().canonicalize().unwrap().join(std::str::from_utf8(path).unwrap());
        let is_named = named.iter().any(|n| full == std::path::Path::new(n));
        assert_ne!(there, is_named, "{} is there, or named: {named:?}", full.display());
    }
    assert!(!named.is_empty());
    let left = have.keys().filter(|path| path.ends_with(b".lavatube-part")).count();
    assert_eq!(left, 0, "nothing is left of files that failed");
}
