//! The vault's log with the real command and real folders: what is put back, forked, taken out or hidden is told at the
//! next contact, nothing is sent before a person has looked, and what only looks like it is no alarm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;

use common::facts::{assert_same, look};
use common::{Chance, Machine, copy_folder, files_below, number, seed, show, text};
use lavatube_format::checkpoint::SignedCheckpoint;
use serde_json::Value;

const ALARM: i32 = 14;

/// A machine with three snapshots.
fn machine(own: u64) -> Machine {
    let machine = Machine::in_memory(seed(own));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 20, 300_000);
    machine.backup();
    backup(&machine, 1);
    backup(&machine, 2);
    machine
}

fn stir(machine: &Machine, round: u64) {
    let mut chance = Chance::new(machine.seed ^ round);
    fs::write(machine.src().join(format!("new{round}")), chance.noise(30_000)).unwrap();
}

fn backup(machine: &Machine, round: u64) -> Value {
    stir(machine, round);
    machine.backup()
}

fn replace(folder: &Path, with: &Path) {
    fs::remove_dir_all(folder).unwrap();
    copy_folder(with, folder);
}

/// The id of the newest manifest that went out.
fn newest_manifest(machine: &Machine) -> String {
    let files = files_below(&machine.state().join("manifests"));
    files.last().unwrap().to_str().unwrap().rsplit('-').next().unwrap().to_owned()
}

fn lose(machine: &Machine, of: impl Fn(&str) -> bool) -> usize {
    let files = machine.drive_files().into_iter().filter(|file| of(file.file_name().unwrap().to_str().unwrap()));
    files.map(|file| fs::remove_file(file).unwrap()).count()
}

/// All commands that look tell the alarm, and a backup sends nothing; returns what it says.
#[track_caller]
fn alarmed(machine: &Machine) -> String {
    let before = machine.stored_bytes();
    stir(machine, 99);
    let (status, answer) = machine.answer(&["backup", "src"]);
    assert_eq!((status, &answer["error"]["code"]), (ALARM, &"log-alarm".into()), "{answer:#}");
    assert_eq!(machine.stored_bytes(), before, "nothing was sent");
    assert!(machine.json(&["status"], ALARM)["log_alarm"]["reason"].is_string());
    let evidence = fs::read_to_string(machine.state().join("log/alarm")).unwrap();
    for block in ["\nbefore\n", "\nthen\n"] {
        let (_, lines) = evidence.split_once(block).unwrap_or_else(|| panic!("{evidence}"));
        let note: String = lines.lines().map_while(|l| l.strip_prefix("    ")).flat_map(|l| [l, "\n"]).collect();
        SignedCheckpoint::decode(note.as_bytes()).unwrap_or_else(|e| panic!("{e}: {evidence}"));
    }
    text(&answer["error"]["message"])
}

/// A person has looked; the next backup goes through, and the vault is believed.
#[track_caller]
fn goes_on(machine: &Machine) {
    let accepted = machine.json(&["log", "accept"], 0);
    assert!(Path::new(&text(&accepted["evidence"])).exists(), "{accepted:#}");
    assert_eq!(backup(machine, 50)["log"]["verdict"], "sound");
    machine.json(&["log"], 0);
    assert_eq!(machine.json(&["log", "accept"], 0)["accepted"], false, "there is nothing more to accept");
    let back = machine.restore("latest", "back");
    assert_same(&look(&machine.src()), &back.join("src"), "latest");
}

#[test]
fn a_log_grows_with_each_backup_and_is_verified_whole() {
    let machine = machine(0x301);
    let log = machine.json(&["log"], 0);
    let kinds: Vec<String> = log["entries"].as_array().unwrap().iter().map(|e| text(&e["kind"])).collect();
    assert_eq!(kinds, ["depositor-card", "manifest", "manifest", "manifest"]);
    assert_eq!((number(&log["size"]), number(&log["known"]), &log["alarm"]), (4, 4, &Value::Null), "{log:#}");
    let verified = machine.json(&["log", "verify"], 0);
    assert_eq!((number(&verified["entries"]), number(&verified["receipted"])), (4, 3), "{verified:#}");
    assert_eq!(number(&verified["unplaced"]), 0);
    let status = machine.json(&["status"], 0);
    assert_eq!((&status["log"]["verdict"], &status["log_alarm"]), (&"sound".into(), &Value::Null));
    assert_eq!(machine.json(&["check"], 0)["log"]["verdict"], "sound");
}

#[test]
fn a_vault_that_is_put_back_is_found_out_and_nothing_is_sent_before_a_person_has_looked() {
    let machine = machine(0x302);
    let older = machine.path("older");
    copy_folder(&machine.vault(), &older);
    backup(&machine, 3);
    replace(&machine.vault(), &older);
    let told = machine.json(&["check"], ALARM);
    assert_eq!(told["log"]["kind"], "shrunk");
    let why = alarmed(&machine);
    assert!(why.contains("its log has 4 entries and had 5"), "{why}");
    alarmed(&machine);
    goes_on(&machine);
}

#[test]
fn two_futures_of_one_vault_are_found_out() {
    let machine = machine(0x303);
    let (copy, state) = (machine.path("copy"), machine.path("state"));
    copy_folder(&machine.vault(), &copy);
    backup(&machine, 3);
    // Another machine, whose state is older, goes on from the copy, further than this one did.
    let own = machine.path("own");
    let this = machine.path("this");
    fs::rename(machine.vault(), &this).unwrap();
    fs::rename(&copy, machine.vault()).unwrap();
    copy_folder(&state, &own);
    fs::remove_dir_all(&state).unwrap();
    backup(&machine, 4);
    backup(&machine, 5);
    replace(&state, &own);
    let why = alarmed(&machine);
    assert!(why.contains("does not go on from the one of 5"), "{why}");
    // The vault it was comes back: what stands, stands until a person has looked.
    let fork = machine.path("fork");
    fs::rename(machine.vault(), &fork).unwrap();
    fs::rename(&this, machine.vault()).unwrap();
    assert_eq!(machine.json(&["log"], ALARM)["verdict"], "sound");
    let (status, _) = machine.answer(&["backup", "src"]);
    assert_eq!(status, ALARM);
}

#[test]
fn all_journals_are_lost_and_the_log_is_the_same() {
    let machine = machine(0x304);
    let before = machine.json(&["log"], 0);
    assert_eq!(lose(&machine, |name| name == "journal"), 6);
    // Nobody knows yet whether what a scan finds is all.
    assert_eq!(machine.json(&["status"], 4)["log"]["verdict"], "unknown");
    machine.json(&["check", "--repair"], 4);
    let after = machine.json(&["log"], 0);
    for field in ["size", "root", "entries"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(backup(&machine, 3)["log"]["verdict"], "sound");
    machine.json(&["log", "verify"], 0);
}

#[test]
fn a_manifest_that_is_taken_out_is_missed() {
    for newest in [true, false] {
        let machine = machine(0x305);
        let id = newest_manifest(&machine);
        if !newest {
            backup(&machine, 3);
        }
        assert_eq!(lose(&machine, |name| name.starts_with(&id)), 6);
        // With the journals the vault knows what it had: the loss is told, and the log is whole.
        let answer = machine.json(&["check"], 5);
        assert_eq!(answer["log"]["verdict"], "sound", "{answer:#}");
        // Without them it looks as if it had never been there.
        lose(&machine, |name| name == "journal");
        let why = alarmed(&machine);
        assert!(why.contains(if newest { "had 4" } else { "has 4 entries and had 5" }), "{why}");
        goes_on(&machine);
    }
}

#[test]
fn drives_that_are_away_are_no_alarm() {
    let machine = machine(0x306);
    let away = |n: usize| machine.path(&format!("away{n}"));
    let take = |n: usize| fs::rename(machine.drive(n), away(n)).unwrap();
    let bring = |n: usize| fs::rename(away(n), machine.drive(n)).unwrap();
    take(5);
    assert_eq!(backup(&machine, 3)["log"]["verdict"], "sound");
    // Five knew of it; the sixth alone, and any others, never look like an older vault.
    bring(5);
    [0, 1].into_iter().for_each(take);
    let done = backup(&machine, 4);
    assert_eq!((&done["promise"], &done["log"]["verdict"]), (&"safe-here".into(), &"sound".into()), "{done:#}");
    [2, 3, 4].into_iter().for_each(take);
    assert_eq!(machine.json(&["status"], 5)["log"]["verdict"], "unknown");
    (0..5).for_each(bring);
    assert_eq!(backup(&machine, 5)["log"]["verdict"], "sound");
    machine.json(&["log", "verify"], 0);
}

#[test]
fn a_state_that_is_lost_or_put_back_is_no_alarm() {
    let machine = machine(0x307);
    let (state, copy) = (machine.path("state"), machine.path("copy"));
    copy_folder(&state, &copy);
    backup(&machine, 3);
    replace(&state, &copy);
    assert_eq!(number(&backup(&machine, 4)["log"]["size"]), 6);
    fs::remove_dir_all(&state).unwrap();
    stir(&machine, 5);
    let args = ["backup", "src"];
    let out = machine.run(&args);
    assert!(out.status.success(), "{}", show(&args, &out));
    machine.json(&["log", "verify"], 0);
}

#[test]
fn a_checkpoint_that_is_put_back_or_damaged_here_is_not_believed() {
    let machine = machine(0x308);
    let seen = machine.state().join("log/seen");
    let good = fs::read_to_string(&seen).unwrap();
    // A changed root is one that the vault never signed: it is as if none had been seen.
    let root = good.lines().nth(4).unwrap();
    let other = good.replace(root, &root.chars().rev().collect::<String>());
    fs::write(&seen, other).unwrap();
    assert_eq!(machine.json(&["status"], 0)["log"]["first_sight"], true);
    assert_eq!(backup(&machine, 3)["log"]["verdict"], "sound");
    fs::write(&seen, good).unwrap();
    assert_eq!(number(&backup(&machine, 4)["log"]["size"]), 6);
}
