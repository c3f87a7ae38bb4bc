//! Drives that are away while backups go on, and come back between them.
//!
//! What a backup says of where its snapshot is must be so; what waits on this machine goes there when enough drives are
//! back; a mount point without its drive is left as empty as it is; and in the end everything restores and is whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::facts::{Facts, assert_same, look};
use common::{Chance, Machine, number, paths, seed, text};
use serde_json::{Value, json};

/// A vault of 4 + 2 with drives that can be taken away.
struct Shelf {
    machine: Machine,
    /// Drives that are away, and whether an empty mount point is left.
    away: BTreeMap<usize, bool>,
    /// What each snapshot that was reported has.
    reported: BTreeMap<String, Facts>,
    /// Snapshots that wait on this machine.
    waiting: Vec<String>,
}

impl Shelf {
    fn new(seed: u64) -> Self {
        let machine = Machine::in_memory(seed);
        common::fill(&machine.src(), &mut Chance::new(seed), 20, 200_000);
        machine.json(&["init"], 0);
        let mut shelf = Self { machine, away: BTreeMap::new(), reported: BTreeMap::new(), waiting: Vec::new() };
        shelf.backup("all drives");
        shelf
    }

    fn take(&mut self, drive: usize, leave_mount_point: bool) {
        fs::rename(self.machine.drive(drive), self.machine.path(&format!("away{drive}"))).unwrap();
        if leave_mount_point {
            fs::create_dir(self.machine.drive(drive)).unwrap();
        }
        self.away.insert(drive, leave_mount_point);
    }

    fn bring_back(&mut self, drive: usize) {
        if self.away.remove(&drive).unwrap() {
            // Fails when anything was written into it.
            fs::remove_dir(self.machine.drive(drive)).unwrap();
        }
        fs::rename(self.machine.path(&format!("away{drive}")), self.machine.drive(drive)).unwrap();
    }

    fn bring_all_back(&mut self) {
        for drive in self.away.clone().into_keys() {
            self.bring_back(drive);
        }
    }

    /// Backs up; what it says must fit the drives that are there.
    fn backup(&mut self, what: &str) -> Value {
        let waited = self.waiting.len();
        let (status, answer) = self.machine.answer(&["backup", "src"]);
        let what = format!("{what}, away {:?}, seed {:#x}: {answer:#}", self.away, self.machine.seed);
        assert_eq!(status, 0, "{what}");
        // Those that are away, and of those that came back the ones that were not read wholly since.
        self.machine.assert_held(&answer["degraded_drives"], &self.away.keys().copied().collect::<Vec<_>>(), &what);
        let id = text(&answer["snapshot"]);
        // One shard more than the data must find a drive, so that a drive may still fail.
        if self.away.len() <= 1 {
            assert_eq!(answer["promise"], "safe-there", "{what}");
            assert_eq!(number(&answer["drained"]) > 0, waited > 0, "{what}");
            self.waiting.clear();
        } else {
            assert_eq!((&answer["promise"], &answer["drained"]), (&json!("safe-here"), &json!(0)), "{what}");
            self.waiting.push(id.clone());
        }
        self.reported.insert(id, look(&self.machine.src()));
        answer
    }

    /// Every snapshot can be had as long as four drives are there, and is listed with the promise that holds for it.
    fn restores(&self, what: &str) {
        let listed = self.machine.json(&["snapshots"], 0);
        let listed: BTreeMap<String, String> = listed["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (text(&s["snapshot"]), text(&s["promise"])))
            .collect();
        for (id, want) in &self.reported {
            let promise = if self.waiting.contains(id) { "safe-here" } else { "safe-there" };
            assert_eq!(listed.get(id).map(String::as_str), Some(promise), "{what}: {id}, {listed:?}");
            let back = self.machine.restore(id, "back");
            assert_same(want, &back.join("src"), what);
            fs::remove_dir_all(back).unwrap();
        }
    }

    fn change(&self, chance: &mut Chance, round: usize) {
        fs::write(self.machine.src().join(format!("new{round}")), chance.noise(20_000)).unwrap();
    }
}

#[test]
fn what_is_said_of_a_backup_with_drives_away_is_so() {
    for (count, leave_mount_points) in [(1, false), (1, true), (2, false), (2, true), (3, false), (3, true)] {
        let mut shelf = Shelf::new(seed(101 + count as u64));
        let what = format!("{count} away, empty mount points: {leave_mount_points}");
        for drive in [1, 3, 4].into_iter().take(count) {
            shelf.take(drive, leave_mount_points);
        }
        shelf.change(&mut Chance::new(1), 0);
        shelf.backup(&what);
        let (status, check) = shelf.machine.answer(&["check", "--read-data"]);
        if count == 1 {
            // Safe there means that one more may fail at once.
            shelf.take(0, false);
            shelf.restores(&what);
            shelf.bring_back(0);
        }
        if count <= 2 {
            assert_eq!(status, 4, "{what}: {check:#}");
            assert!(paths(&check["files"]).is_empty(), "{what}: {check:#}");
            shelf.restores(&what);
        } else {
            assert_eq!(status, 5, "{what}: {check:#}");
        }
        let missing = |d: &&Value| d["state"] != "present";
        assert_eq!(check["drives"].as_array().unwrap().iter().filter(missing).count(), count, "{what}: {check:#}");
        shelf.bring_all_back();
        shelf.change(&mut Chance::new(2), 1);
        shelf.backup(&what);
        shelf.restores(&what);
        // What was stored while a drive was away lacks its shard until it is mended.
        let (status, check) = shelf.machine.answer(&["check", "--read-data"]);
        assert_eq!(status, if count == 1 { 4 } else { 0 }, "{what}: {check:#}");
        shelf.machine.answer(&["check", "--read-data", "--repair"]);
        shelf.machine.json(&["check", "--read-data"], 0);
    }
}

#[test]
fn drives_that_come_and_go_between_backups_cost_nothing() {
    let mut shelf = Shelf::new(seed(105));
    let mut chance = Chance::new(shelf.machine.seed);
    for round in 0..14 {
        let what = format!("round {round}");
        for drive in 0..6 {
            let is_away = shelf.away.contains_key(&drive);
            match (is_away, chance.below(3)) {
                (true, 0 | 1) => shelf.bring_back(drive),
                (false, 0) if shelf.away.len() < 4 => shelf.take(drive, chance.below(2) == 0),
                _ => {}
            }
        }
        shelf.change(&mut chance, round);
        shelf.backup(&what);
        // What was stored with one drive away has a shard less, so with another away it has none to spare.
        if shelf.away.len() <= 1 {
            shelf.restores(&what);
        }
        if chance.below(4) == 0 && shelf.away.is_empty() {
            shelf.machine.answer(&["check", "--repair"]);
        }
    }
    shelf.bring_all_back();
    shelf.backup("all back");
    shelf.machine.json(&["check", "--read-data", "--repair"], 4);
    shelf.machine.json(&["check", "--read-data"], 0);
    for (first, second) in [(0, 1), (2, 3), (4, 5)] {
        shelf.take(first, true);
        shelf.take(second, false);
        shelf.restores("mended, and two others away");
        shelf.bring_all_back();
    }
}
