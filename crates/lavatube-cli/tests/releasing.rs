//! Releases by the real command: what only forgotten snapshots need is gone from the drives, and nothing else is touched.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::pair::Pair;
use common::{Chance, Machine, copy_folder, number, seed, text};
use serde_json::Value;

/// A machine with three snapshots: of three files, of which each later one lacks one and has another.
fn thrice(own: u64) -> (Machine, Vec<String>) {
    let machine = Machine::in_memory(seed(own));
    let mut chance = Chance::new(machine.seed);
    fs::write(machine.src().join("always"), chance.noise(300_000)).unwrap();
    for n in 0..3 {
        fs::write(machine.src().join(format!("only{n}")), chance.noise(1_500_000)).unwrap();
        machine.backup();
        fs::remove_file(machine.src().join(format!("only{n}"))).unwrap();
    }
    let all = machine.snapshots();
    (machine, all)
}

fn same(a: &Path, b: &Path) -> bool {
    let status = std::process::Command::new("diff").arg("-r").args([a, b]).stdout(Stdio::null()).status();
    status.unwrap().success()
}

fn all_is_well(machine: &Machine) {
    let answer = machine.json(&["check", "--read-data"], 0);
    assert_eq!(answer["exit"], 0, "{answer:#}");
    machine.json(&["audit"], 0);
}

#[test]
fn what_only_forgotten_snapshots_need_is_gone_and_all_else_is_byte_for_byte_as_it_was() {
    let (machine, all) = thrice(0xe0);
    let before = machine.restore(&all[2], "before");
    assert_eq!(number(&machine.json(&["release"], 0)["packs"]), 0, "nothing is forgotten");
    machine.json(&["forget", "--keep-last", "1"], 0);
    let stored = machine.stored_bytes();
    let would = machine.json(&["release", "--dry-run"], 0);
    assert_eq!((would["snapshots"].as_array().unwrap().len(), &would["release"]), (2, &Value::Null), "{would:#}");
    assert!(number(&would["bytes"]) + number(&would["thinned_bytes"]) > 2_500_000, "{would:#}");
    assert_eq!(machine.stored_bytes(), stored, "a dry run frees nothing");

    let done = machine.json(&["release"], 0);
    assert_eq!((&done["release"]["followed"], &done["bytes"]), (&Value::from(true), &would["bytes"]), "{done:#}");
    let freed = stored - machine.stored_bytes();
    assert!(freed > 3_000_000, "with parity {freed} bytes are really gone");
    all_is_well(&machine);
    assert_eq!(machine.snapshots(), &all[2..]);
    assert_eq!(machine.json(&["snapshots", "--all"], 0)["snapshots"].as_array().unwrap().len(), 1);
    assert!(same(&before, &machine.restore(&all[2], "after")));
    assert_eq!(machine.json(&["forget", "--undo", &all[0]], 1)["error"]["code"], "no-snapshot");
    // A second release has nothing to do, and the next backups build on nothing that is gone.
    assert_eq!(number(&machine.json(&["release"], 0)["packs"]), 0);
    fs::write(machine.src().join("only0"), Chance::new(machine.seed).noise(1_800_000).split_off(300_000)).unwrap();
    let again = machine.backup();
    assert!(number(&again["new_bytes"]) > 300_000, "what was freed is sent again: {again:#}");
    assert_eq!(
        (number(&again["files_read"]), number(&again["doubted"])),
        (1, 0),
        "and nothing else is read: {again:#}"
    );
    all_is_well(&machine);
    assert!(
        same(&machine.src(), &machine.restore("latest", "last").join("src"))
            || same(&machine.src(), &machine.path("last"))
    );
    machine.json(&["vault", "scrub"], 0);
    let log = machine.json(&["log", "verify"], 0);
    assert_eq!(log["exit"], 0, "{log:#}");
}

#[test]
fn it_takes_the_recovery_key_of_this_archive() {
    let (machine, all) = thrice(0xe1);
    machine.json(&["forget", &all[0]], 0);
    let (key, away) = (machine.path("keys/recovery-key.txt"), machine.path("paper.txt"));
    fs::rename(&key, &away).unwrap();
    let stored = machine.stored_bytes();
    assert_eq!(machine.json(&["release"], 11)["error"]["code"], "no-key");
    machine.json(&["release", "--dry-run"], 0);
    let (stranger, _) = thrice(0xe2);
    let strange = stranger.path("keys/recovery-key.txt");
    let refused = machine.json(&["release", "--recovery-key", strange.to_str().unwrap()], 11);
    assert_eq!(refused["error"]["code"], "wrong-key");
    fs::write(machine.path("no-key.txt"), "LVT1-AAAAA").unwrap();
    assert_eq!(machine.json(&["release", "--recovery-key", "no-key.txt"], 11)["error"]["code"], "wrong-key");
    assert_eq!(machine.stored_bytes(), stored);
    let done = machine.json(&["release", "--recovery-key", "paper.txt"], 0);
    assert_eq!(done["release"]["followed"], true, "{done:#}");
    all_is_well(&machine);
}

#[test]
fn in_doubt_nothing_is_freed() {
    let (machine, all) = thrice(0xe3);
    machine.json(&["forget", &all[0]], 0);
    let stored = machine.stored_bytes();
    // Three drives of six are away: nobody can read a manifest.
    for n in 0..3 {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
    }
    let (status, answer) = machine.answer(&["release"]);
    assert!([12, 15].contains(&status), "{answer:#}");
    for n in 0..3 {
        fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).unwrap();
    }
    // A vault that was put back is an alarm.
    copy_folder(&machine.vault(), &machine.path("older"));
    machine.backup();
    fs::remove_dir_all(machine.vault()).unwrap();
    fs::rename(machine.path("older"), machine.vault()).unwrap();
    machine.json(&["release"], 14);
    assert_eq!(machine.stored_bytes(), stored);
}

#[test]
fn another_machine_is_waited_for_and_a_session_that_it_had_under_way_makes_the_release_void() {
    let (machine, all) = thrice(0xe4);
    // A second machine of the archive, with keys of its own and the same vault.
    let keys = fs::read_to_string(machine.path("keys/recovery-key.txt")).unwrap();
    let second = |args: &[&str]| {
        let mut command = machine.command(args);
        command.env("LAVATUBE_KEYS", machine.path("keys2")).env("LAVATUBE_STATE", machine.path("state2"));
        command
    };
    let mut import = second(&["key", "import-recovery"]);
    let mut child = import.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), keys.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let backs_up = || {
        let mut command = second(&["backup", "src", "--json"]);
        command.arg("--host").arg("second");
        let out = common::output(command);
        machine.read(&["backup"], &out).0
    };
    assert_eq!(backs_up(), 0);
    machine.json(&["forget", &all[0], &all[1]], 0);
    let stored = machine.stored_bytes();
    let done = machine.json(&["release"], 0);
    assert_eq!(done["release"]["followed"], false, "{done:#}");
    assert_eq!(done["release"]["waits"].as_array().unwrap().len(), 1);
    assert!(machine.stored_bytes() > stored, "nothing is freed yet");
    all_is_well(&machine);
    assert_eq!(machine.snapshots().len(), 2);
    assert_eq!(backs_up(), 0, "the second learns of it");
    assert!(machine.stored_bytes() < stored, "and then it is followed");
    all_is_well(&machine);
    assert_eq!(machine.snapshots().len(), 3);

    // It is gone for good.
    machine.json(&["forget", &all[2]], 0);
    machine.backup();
    let label = text(&done["release"]["waits"][0]["depositor"]);
    let without = machine.json(&["release", "--without", &label], 0);
    assert_eq!(without["release"]["followed"], true, "{without:#}");
    all_is_well(&machine);
    assert_eq!(machine.json(&["release", "--without", "nobody"], 2)["error"]["code"], "usage");
}

#[test]
fn a_release_that_is_killed_is_undone_or_done_and_the_next_command_goes_on() {
    let (machine, all) = thrice(0xe5);
    machine.json(&["forget", &all[0], &all[1]], 0);
    let before = machine.restore(&all[2], "before");
    for folder in ["vault", "state"] {
        copy_folder(&machine.path(folder), &machine.path(&format!("{folder}-kept")));
    }
    let stored = machine.stored_bytes();
    let begin = std::time::Instant::now();
    machine.json(&["release"], 0);
    let whole = begin.elapsed();
    let freed = machine.stored_bytes();
    let mut chance = Chance::new(machine.seed);
    let (mut undone, mut done) = (0, 0);
    for round in 0..12 {
        for folder in ["vault", "state"] {
            fs::remove_dir_all(machine.path(folder)).unwrap();
            copy_folder(&machine.path(&format!("{folder}-kept")), &machine.path(folder));
        }
        machine.killed(&["release"], whole / 3 + chance.upto(whole));
        // A backup of nothing new: it carries on with what was begun.
        machine.json(&["backup", "src"], 0);
        let now = machine.stored_bytes();
        all_is_well(&machine);
        if now < stored {
            done += 1
        } else {
            undone += 1
        }
        machine.json(&["release"], 0);
        assert!(machine.stored_bytes() < freed + 200_000, "round {round}");
        let target = format!("after{round}");
        assert!(same(&before, &machine.restore(&all[2], &target)), "round {round}");
    }
    eprintln!("{done} done, {undone} undone");
}

#[test]
fn a_full_vault_refuses_and_a_release_makes_room_again() {
    let test = "a_full_vault_refuses_and_a_release_makes_room_again";
    if !common::is_root(test) {
        return;
    }
    let machine = Machine::new(seed(0xe6));
    let disk = machine.path("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_mount) = common::mount::Mount::new(&disk, "48m") else {
        return common::skipped(test, "nothing can be mounted");
    };
    let vault = disk.join("vault");
    let backs_up = |chance: &mut Chance| {
        fs::write(machine.src().join("changes"), chance.noise(4_000_000)).unwrap();
        machine.answer(&["backup", "src", "--vault", vault.to_str().unwrap()])
    };
    let mut chance = Chance::new(machine.seed);
    let mut taken = Vec::new();
    let refused = loop {
        let (status, answer) = backs_up(&mut chance);
        if status != 0 {
            break answer;
        }
        taken.push(text(&answer["snapshot"]));
        assert!(taken.len() < 20, "it is never full");
    };
    assert_eq!(refused["error"]["code"], "full", "{refused:#}");
    let with = |args: &[&str]| machine.json(&[args, &["--vault", vault.to_str().unwrap()]].concat(), 0);
    assert_eq!(with(&["snapshots"])["snapshots"].as_array().unwrap().len(), taken.len(), "nothing was evicted");
    with(&["forget", "--keep-last", "1"]);
    // What the refused run had stored is taken up, and goes as well.
    let answer = with(&["release"]);
    assert_eq!(answer["release"]["followed"], true, "{answer:#}");
    let (status, answer) = backs_up(&mut chance);
    assert_eq!(status, 0, "there is room again: {answer:#}");
    with(&["check", "--read-data"]);
}

#[test]
fn what_a_backup_retains_or_holds_stays_whoever_signs() {
    let machine = Machine::in_memory(seed(0xe7));
    let mut chance = Chance::new(machine.seed);
    fs::write(machine.src().join("old"), chance.noise(400_000)).unwrap();
    machine.backup();
    fs::remove_file(machine.src().join("old")).unwrap();
    fs::write(machine.src().join("kept"), chance.noise(400_000)).unwrap();
    assert_eq!(machine.run(&["backup", "src", "--retain", "soon"]).status.code(), Some(2));
    machine.json(&["backup", "src", "--retain", "10y"], 0);
    fs::remove_file(machine.src().join("kept")).unwrap();
    fs::write(machine.src().join("late"), chance.noise(400_000)).unwrap();
    machine.backup();
    fs::remove_file(machine.src().join("late")).unwrap();
    fs::write(machine.src().join("last"), chance.noise(400_000)).unwrap();
    machine.backup();
    let all = machine.snapshots();
    machine.json(&["forget", "--keep-last", "1"], 0);
    let stored = machine.stored_bytes();
    let done = machine.json(&["release"], 0);
    assert_eq!(done["snapshots"], serde_json::json!([all[2]]), "only what came after it goes: {done:#}");
    let ten_years = 10 * 31_557_600;
    let left = number(&done["retained"]["left_s"]);
    assert!((ten_years - 600..=ten_years).contains(&left) && number(&done["retained"]["packs"]) >= 2, "{done:#}");
    assert!(machine.stored_bytes() < stored - 400_000);
    machine.restore(&all[0], "old-back");
    machine.restore(&all[1], "kept-back");
    all_is_well(&machine);

    // Of another vault: a hold, and its end.
    let machine = Machine::in_memory(seed(0xe8));
    fs::write(machine.src().join("held"), chance.noise(400_000)).unwrap();
    machine.json(&["backup", "src", "--hold"], 0);
    fs::remove_file(machine.src().join("held")).unwrap();
    fs::write(machine.src().join("last"), chance.noise(100_000)).unwrap();
    machine.backup();
    let all = machine.snapshots();
    machine.json(&["forget", &all[0]], 0);
    let done = machine.json(&["release"], 0);
    assert_eq!((&done["release"], &done["retained"]["left_s"]), (&Value::Null, &Value::Null), "{done:#}");
    assert_eq!(machine.json(&["release", "--lift", &all[1]], 2)["error"]["code"], "usage");
    let stored = machine.stored_bytes();
    let done = machine.json(&["release", "--lift", &all[0]], 0);
    assert_eq!(done["release"]["followed"], true, "{done:#}");
    assert!(machine.stored_bytes() < stored - 400_000, "lifted and freed with one word");
    all_is_well(&machine);
}

#[test]
fn a_state_vouches_for_nothing_that_another_state_with_the_same_key_handed_over() {
    let (machine, all) = thrice(0xe9);
    machine.json(&["forget", &all[0]], 0);
    fs::rename(machine.path("state"), machine.path("state-of-before")).unwrap();
    let done = machine.json(&["release"], 0);
    assert_eq!(done["release"]["followed"], false, "something may be under way from the other: {done:#}");
    let stored = machine.stored_bytes();
    machine.backup();
    assert!(machine.stored_bytes() + 1_000_000 < stored, "a backup that knows of it was all that it waited for");
    all_is_well(&machine);
}

#[test]
fn a_release_at_a_far_vault_waits_until_who_backs_up_over_the_link_knows_of_it() {
    let pair = Pair::new(0xea);
    let (machine, mut chance) = (&pair.machine, Chance::new(pair.machine.seed));
    let backs_up = |chance: &mut Chance| {
        fs::write(machine.src().join("passing"), chance.noise(1_500_000)).unwrap();
        machine.backup();
    };
    let crosses = |asks: &[&str]| {
        let (vault, address) = pair.serve("127.0.0.1:0");
        pair.knows(&address);
        if !asks.is_empty() {
            machine.json(asks, 0);
        }
        assert_eq!(pair.start_node(&address).ends(Duration::from_secs(60)), Some(0));
        vault.stop();
    };
    let stored = || {
        let shards = common::files_below(&pair.far().join("drives"));
        shards.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    for _ in 0..3 {
        backs_up(&mut chance);
    }
    let all = machine.snapshots();
    machine.json(&["forget", &all[0], &all[1]], 0);
    crosses(&[]);
    let done = pair.far_json(&["release"]);
    assert_eq!(done["release"]["followed"], false, "{done:#}");
    // It has no word of it yet, and may have built on what would go.
    backs_up(&mut chance);
    crosses(&[]);
    let before = stored();
    let done = pair.far_json(&["release"]);
    assert_eq!((&done["release"]["number"], &done["release"]["followed"]), (&Value::from(2), &Value::from(false)));
    // The daemon asks for what is new in the log, without being told to.
    crosses(&[]);
    backs_up(&mut chance);
    assert!(stored() >= before);
    crosses(&[]);
    assert!(stored() + 1_000_000 < before, "what went is more than what came");
    pair.far_json(&["check", "--read-data"]);
    assert_eq!(pair.far_json(&["snapshots", "--all"])["snapshots"].as_array().unwrap().len(), 3);
    pair.is_whole_there("after the release");
}

/// Eight files that do not compress, of which a second snapshot has four.
fn halved(own: u64) -> (Machine, Vec<String>) {
    let machine = Machine::in_memory(seed(own));
    let mut chance = Chance::new(machine.seed);
    (0..8).for_each(|n| fs::write(machine.src().join(format!("photo{n}")), chance.noise(1_500_000)).unwrap());
    machine.backup();
    [1, 2, 4, 7].into_iter().for_each(|n| fs::remove_file(machine.src().join(format!("photo{n}"))).unwrap());
    machine.backup();
    let all = machine.snapshots();
    machine.json(&["forget", &all[0]], 0);
    (machine, all)
}

#[test]
fn of_a_pack_that_is_needed_in_part_the_rest_is_freed_and_what_stays_is_as_it_was() {
    let (machine, all) = halved(0xeb);
    let (stored, before) = (machine.stored_bytes(), machine.restore(&all[1], "before"));
    let would = machine.json(&["release", "--dry-run"], 0);
    let done = machine.json(&["release"], 0);
    let thinned = number(&done["thinned_bytes"]);
    assert_eq!((&done["release"]["followed"], &done["thinned_bytes"]), (&Value::from(true), &would["thinned_bytes"]));
    assert!(number(&done["thinned_packs"]) > 0 && thinned + number(&done["bytes"]) > 5_500_000, "{done:#}");
    // With parity half as much again is really gone.
    assert!(stored - machine.stored_bytes() > (thinned + number(&done["bytes"])) * 14 / 10);
    all_is_well(&machine);
    assert!(same(&before, &machine.restore(&all[1], "after")));
    assert_eq!(machine.snapshots(), &all[1..]);
    assert!(machine.json(&["vault", "scrub"], 0)["exit"] == 0);
    assert_eq!(machine.json(&["release"], 0)["release"], Value::Null, "nothing is left to be freed");
    machine.json(&["prove", "src/photo3", "--output", "photo3.evidence"], 0);
    machine.json(&["verify", "photo3.evidence", "src/photo3"], 0);

    // What was freed is sent again when it comes again, and a machine that knows nothing learns all of it from the vault.
    fs::write(machine.src().join("photo1"), {
        let mut chance = Chance::new(machine.seed);
        chance.noise(1_500_000);
        chance.noise(1_500_000)
    })
    .unwrap();
    let again = machine.backup();
    // But for what shares a frame with its neighbours.
    assert!(number(&again["new_bytes"]) > 1_000_000, "{again:#}");
    fs::rename(machine.path("state"), machine.path("state-of-before")).unwrap();
    all_is_well(&machine);
    let last = machine.restore("latest", "last");
    assert!(same(&machine.src(), &last.join("src")) || same(&machine.src(), &last));

    // A further release takes more of the same packs.
    [0, 3].into_iter().for_each(|n| fs::remove_file(machine.src().join(format!("photo{n}"))).unwrap());
    machine.backup();
    machine.json(&["forget", "--keep-last", "1"], 0);
    let stored = machine.stored_bytes();
    let further = machine.json(&["release"], 0);
    if further["release"]["followed"] == false {
        // The state of before may have something under way.
        machine.backup();
    }
    assert!(stored - machine.stored_bytes() > 3_500_000, "{further:#}");
    all_is_well(&machine);
    let last = machine.restore("latest", "further");
    assert!(same(&machine.src(), &last.join("src")) || same(&machine.src(), &last));
}

#[test]
fn a_machine_at_the_other_end_of_a_link_audits_and_restores_from_packs_that_were_thinned() {
    let pair = Pair::new(0xec);
    let (machine, mut chance) = (&pair.machine, Chance::new(pair.machine.seed));
    (0..6).for_each(|n| fs::write(machine.src().join(format!("photo{n}")), chance.noise(700_000)).unwrap());
    machine.backup();
    [1, 2, 4].into_iter().for_each(|n| fs::remove_file(machine.src().join(format!("photo{n}"))).unwrap());
    machine.backup();
    let crosses = |asks: &[&[&str]]| {
        let (vault, address) = pair.serve("127.0.0.1:0");
        pair.knows(&address);
        let answers: Vec<Value> = asks.iter().map(|ask| machine.json(ask, 0)).collect();
        assert_eq!(pair.start_node(&address).ends(Duration::from_secs(60)), Some(0));
        vault.stop();
        answers
    };
    machine.json(&["forget", &machine.snapshots()[0]], 0);
    crosses(&[]);
    let stored = || {
        let shards = common::files_below(&pair.far().join("drives"));
        shards.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    let before = stored();
    let done = pair.far_json(&["release"]);
    assert!(number(&done["thinned_packs"]) > 0 && done["release"]["followed"] == false, "{done:#}");
    crosses(&[&["snapshots", "--refresh"]]);
    machine.backup();
    crosses(&[]);
    assert!(stored() + 2_000_000 < before, "it was followed");
    pair.far_json(&["check", "--read-data"]);
    let answers = crosses(&[&["audit"], &["check"], &["restore", "latest", "--target", "back"]]);
    assert_eq!(answers[1]["exit"], 0, "{:#}", answers[1]);
    assert!(same(&machine.src(), &machine.path("back/src")) || same(&machine.src(), &machine.path("back")));
}
