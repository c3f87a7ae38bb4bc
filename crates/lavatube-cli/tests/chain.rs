//! The chain of manifests through everything an operator is told to do: a new deposit key, a state folder that was lost or
//! put back, two states with one key, drives that are away meanwhile. Nothing of it may look like a vault that lost data,
//! and a vault that was put back may not look like anything else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use common::facts::{assert_same, look};
use common::{Chance, Machine, copy_folder, files_below, number, output, paths, seed, show, text, wait_until};
use lavatube_base::SessionId;
use lavatube_format::manifest::{Manifest, SignedManifest};
use lavatube_format::tree_cache::CacheHead;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn stir(machine: &Machine, round: u64) {
    let mut chance = Chance::new(machine.seed ^ round);
    fs::write(machine.src().join(format!("new{round}")), chance.noise(30_000)).unwrap();
}

/// A backup of something new, which must succeed.
fn backup(machine: &Machine, round: u64) -> Value {
    stir(machine, round);
    machine.backup()
}

/// Everything is sound, and `latest` is what the source holds now.
#[track_caller]
fn sound(machine: &Machine) {
    machine.json(&["check", "--read-data"], 0);
    let back = machine.restore("latest", "back");
    assert_same(&look(&machine.src()), &back.join("src"), "latest");
    fs::remove_dir_all(back).unwrap();
}

/// What a check says of the chain, of which nothing is lost.
#[track_caller]
fn forked(machine: &Machine, args: &[&str]) -> String {
    let answer = machine.json(args, 4);
    assert!(paths(&answer["files"]).is_empty(), "{answer:#}");
    let chain = answer["structure"]["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 1, "{answer:#}");
    let told = text(&chain[0]);
    assert!(told.contains("the chain of manifests has 2 ends"), "{told}");
    told
}

/// A machine with a few snapshots.
fn machine(own: u64) -> Machine {
    let machine = Machine::in_memory(seed(own));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 20, 300_000);
    machine.backup();
    backup(&machine, 1);
    machine
}

fn replace(folder: &Path, with: &Path) {
    fs::remove_dir_all(folder).unwrap();
    copy_folder(with, folder);
}

/// Makes a new deposit key from the recovery key.
fn renew_deposit_key(machine: &Machine) {
    fs::remove_file(machine.path("keys/deposit.key")).unwrap();
    let args = ["key", "import-recovery"];
    let mut command = machine.command(&args);
    command.stdin(File::open(machine.path("keys/recovery-key.txt")).unwrap());
    let out = output(command);
    assert!(out.status.success(), "{}", show(&args, &out));
}

fn take_drives(machine: &Machine, drives: &[usize]) {
    drives.iter().for_each(|n| fs::rename(machine.drive(*n), machine.path(&format!("away{n}"))).unwrap());
}

fn bring_drives(machine: &Machine, drives: &[usize]) {
    drives.iter().for_each(|n| fs::rename(machine.path(&format!("away{n}")), machine.drive(*n)).unwrap());
}

/// The manifests of the deposit key that the state knows.
fn manifests(machine: &Machine) -> Vec<Manifest> {
    let files = files_below(&machine.state().join("manifests"));
    files.iter().map(|f| SignedManifest::decode(&fs::read(f).unwrap()).unwrap().manifest).collect()
}

/// Starts a backup of something large, and waits until a pack of it is noted.
fn half_a_backup(machine: &Machine) -> std::process::Child {
    let mut chance = Chance::new(machine.seed);
    for n in 0..10 {
        fs::write(machine.path(&format!("src/large{n}")), chance.noise(4 << 20)).unwrap();
    }
    let mut child = machine.start(&["backup", "src"]);
    let log = machine.state().join("open-session");
    let noted = wait_until(Duration::from_secs(60), || log.metadata().is_ok_and(|m| m.len() > 3000));
    assert!(noted && child.try_wait().unwrap().is_none(), "it is caught in its middle");
    child
}

#[test]
fn a_session_that_was_cut_is_taken_up_under_a_new_deposit_key() {
    let machine = machine(0x201);
    let mut child = half_a_backup(&machine);
    child.kill().unwrap();
    child.wait().unwrap();
    renew_deposit_key(&machine);
    let done = machine.backup();
    assert!(number(&done["recovered"]["packs"]) > 0, "{done:#}");
    assert_eq!(done["promise"], "safe-there");
    sound(&machine);
    fs::remove_dir_all(machine.path("state")).unwrap();
    sound(&machine);
}

#[test]
fn a_state_that_was_copied_in_the_middle_of_a_session_and_put_back_ends_no_session_twice() {
    let machine = machine(0x202);
    let (state, copy) = (machine.path("state"), machine.path("copy"));
    let mut child = half_a_backup(&machine);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    copy_folder(&state, &copy);
    kill_process(pid, Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
    replace(&state, &copy);
    let done = backup(&machine, 2);
    assert_eq!(number(&done["chain"]["strange"]), 1, "it is told: {done:#}");
    sound(&machine);
    let all = manifests(&machine);
    let sessions: BTreeSet<SessionId> = all.iter().map(|m| m.session).collect();
    assert_eq!((all.len(), sessions.len()), (4, 4), "one manifest for each of four sessions");
    assert_eq!(number(&backup(&machine, 3)["chain"]["strange"]), 0, "it is told once");
}

#[test]
fn a_new_deposit_key_begins_a_chain_of_its_own() {
    let machine = machine(0x203);
    renew_deposit_key(&machine);
    for round in 2..4 {
        backup(&machine, round);
        sound(&machine);
    }
    let mut chains: Vec<_> = manifests(&machine).into_iter().map(|m| (m.depositor, m.sequence)).collect();
    chains.sort_unstable();
    assert_eq!(chains.iter().map(|c| c.1).collect::<Vec<_>>(), [1, 2, 1, 2]);
}

#[test]
fn an_older_state_and_two_states_with_one_key_go_on_from_what_the_vault_has() {
    let machine = machine(0x204);
    let (state, copy) = (machine.path("state"), machine.path("copy"));
    copy_folder(&state, &copy);
    backup(&machine, 2);
    let other = machine.path("other");
    copy_folder(&state, &other);
    replace(&state, &copy);
    for round in 3..7 {
        let done = backup(&machine, round);
        assert_eq!(number(&done["chain"]["strange"]), 1, "each wonders at what the other did: {done:#}");
        sound(&machine);
        let waiting = machine.path("waiting");
        fs::rename(&state, &waiting).unwrap();
        fs::rename(&other, &state).unwrap();
        fs::rename(&waiting, &other).unwrap();
    }
}

#[test]
fn two_states_that_did_not_see_each_other_fork_the_chain_and_the_next_backup_joins_it() {
    let machine = machine(0x205);
    let (state, other) = (machine.path("state"), machine.path("other"));
    copy_folder(&state, &other);
    let swap = || {
        let waiting = machine.path("waiting");
        fs::rename(&state, &waiting).unwrap();
        fs::rename(&other, &state).unwrap();
        fs::rename(&waiting, &other).unwrap();
    };
    let drives = [0, 2, 5];
    take_drives(&machine, &drives);
    for round in 2..4 {
        assert_eq!(backup(&machine, round)["promise"], "safe-here");
        swap();
    }
    bring_drives(&machine, &drives);
    assert_eq!(backup(&machine, 4)["promise"], "safe-there");
    sound(&machine);
    swap();
    // The second hands over what waits and signs nothing: both are there, and neither knows of the other.
    let told = forked(&machine, &["check", "--repair"]);
    assert!(told.contains("the next backup joins them"), "{told}");
    let out = machine.run(&["check"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("No file that the vault has is lost.") && !said.contains("Data are lost"), "{said}");
    assert_eq!(backup(&machine, 5)["promise"], "safe-there");
    sound(&machine);
}

#[test]
fn a_state_that_is_lost_while_drives_are_away_still_backs_up_and_is_joined_later() {
    let machine = machine(0x206);
    let drives = [1, 3, 4];
    take_drives(&machine, &drives);
    fs::remove_dir_all(machine.path("state")).unwrap();
    for round in 2..4 {
        let done = backup(&machine, round);
        assert_eq!((text(&done["promise"]), number(&done["chain"]["unread"])), ("safe-here".into(), 2), "{done:#}");
    }
    let numbers: Vec<u64> = manifests(&machine).iter().map(|m| m.sequence).collect();
    assert_eq!(numbers, [3, 4], "no number is used again");
    bring_drives(&machine, &drives);
    forked(&machine, &["check", "--read-data"]);
    let back = machine.restore("latest", "early");
    assert_same(&look(&machine.src()), &back.join("src"), "the newest of two ends");
    assert_eq!(backup(&machine, 4)["promise"], "safe-there");
    sound(&machine);
    fs::remove_dir_all(machine.path("state")).unwrap();
    sound(&machine);
    assert_eq!(machine.snapshots().len(), 5);
}

#[test]
fn a_vault_that_was_put_back_is_found_out_by_check_and_by_the_next_backup() {
    let machine = machine(0x207);
    let older = machine.path("older");
    copy_folder(&machine.vault(), &older);
    backup(&machine, 2);
    replace(&machine.vault(), &older);
    let answer = machine.json(&["check"], 14);
    let told = text(&answer["structure"]["chain"][0]);
    assert!(told.contains("the vault signed for manifest 3"), "{told}");
    stir(&machine, 3);
    machine.json(&["backup", "src"], 14);
    machine.json(&["log", "accept"], 0);
    let (_, done) = machine.answer(&["backup", "src", "--read-all"]);
    assert_eq!(number(&done["chain"]["withdrawn"]), 1, "{done:#}");
    // A reader who knows nothing sees that something was followed that is not there.
    fs::remove_dir_all(machine.path("state")).unwrap();
    let (status, answer) = machine.answer(&["check"]);
    assert_eq!(status, 5, "{answer:#}");
    assert!(text(&answer["structure"]["chain"][0]).contains("is missing"), "{answer:#}");
}

#[test]
fn a_clock_that_is_behind_the_newest_snapshot_is_told() {
    let machine = machine(0x208);
    assert!(backup(&machine, 2)["clock_behind"].is_null());
    let trees = files_below(&machine.state().join("trees"));
    let file = trees.iter().find(|f| f.extension().is_some_and(|e| e == "head")).unwrap();
    let bytes = fs::read(file).unwrap();
    let mut head = CacheHead::decode(&bytes).unwrap();
    head.started.s += 3 * 365 * 86_400;
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    fs::write(file, bytes).unwrap();
    stir(&machine, 3);
    let args = ["backup", "src"];
    let out = machine.run(&args);
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("the clock of this machine is behind"),
        "{}",
        show(&args, &out)
    );
    sound(&machine);
}
