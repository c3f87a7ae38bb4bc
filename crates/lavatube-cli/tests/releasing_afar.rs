//! Releases that are signed far from the vault, with real daemons over real sockets: what is forgotten goes there, what is kept comes back, and whatever
//! is cut on the way is undone or done.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::facts::{assert_same, look};
use common::pair::{Pair, Running};
use common::{Chance, copy_folder, files_below, number, text};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// Bytes of shards on the far drives.
fn stored(pair: &Pair) -> u64 {
    let shards = files_below(&pair.far().join("drives")).into_iter().filter(|path| common::is_shard(path));
    shards.map(|path| path.metadata().unwrap().len()).sum()
}

/// Lets all that waits cross to the vault at `address`.
#[track_caller]
fn crosses(pair: &Pair, address: &str) {
    assert_eq!(pair.start_node(address).ends(LONG), Some(0));
}

/// A vault that serves, with two backups of which the first is forgotten: of a file that only that has, and of eight others of which half are gone in the second.
fn halved(own: u64) -> (Pair, Running, String, Vec<String>) {
    let pair = Pair::new(own);
    let (machine, mut chance) = (&pair.machine, Chance::new(pair.machine.seed));
    (0..8).for_each(|n| fs::write(machine.src().join(format!("photo{n}")), chance.noise(700_000)).unwrap());
    machine.backup();
    fs::write(machine.src().join("passing"), chance.noise(1_500_000)).unwrap();
    machine.backup();
    ["photo1", "photo2", "photo4", "photo7", "passing"]
        .iter()
        .for_each(|name| fs::remove_file(machine.src().join(name)).unwrap());
    machine.backup();
    let all = machine.snapshots();
    machine.json(&["forget", &all[0], &all[1]], 0);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    crosses(&pair, &address);
    (pair, vault, address, all)
}

/// The vault has what is kept and gives it back, over the link too, and to who knows nothing.
#[track_caller]
fn all_is_well(pair: &Pair, what: &str) {
    let machine = &pair.machine;
    let back = machine.path("over-the-link");
    machine.json(&["restore", "latest", "--target", back.to_str().unwrap(), "--refresh"], 0);
    assert_same(&look(&machine.src()), &back.join("src"), what);
    fs::remove_dir_all(&back).unwrap();
    let mut fresh = machine.command(&["restore", "latest", "--target", back.to_str().unwrap(), "--json"]);
    fresh.env("LAVATUBE_STATE", machine.path("fresh-state"));
    assert_eq!(machine.read(&["restore"], &common::output(fresh)).0, 0);
    assert_same(&look(&machine.src()), &back.join("src"), what);
    fs::remove_dir_all(&back).unwrap();
    // What newer layers hide may be gone, and whoever never knew it finds nothing wrong.
    let mut check = machine.command(&["check", "--json"]);
    check.env("LAVATUBE_STATE", machine.path("fresh-state"));
    assert_eq!(machine.read(&["check"], &common::output(check)).0, 0, "{what}");
    fs::remove_dir_all(machine.path("fresh-state")).unwrap();
}

/// The same at the drives, with no daemon running.
#[track_caller]
fn all_is_well_there(pair: &Pair, what: &str) {
    pair.is_whole_there(what);
    pair.far_json(&["vault", "scrub"]);
    pair.far_json(&["log", "verify"]);
}

/// Waits until what a release frees is gone from the drives: packs that stay in part are rewritten by and by.
#[track_caller]
fn is_freed(pair: &Pair, before: u64, least: u64) {
    let gone = common::wait_until(LONG, || stored(pair) + least < before);
    assert!(gone, "of {before} bytes {} are there, and {least} at least should have gone", stored(pair));
}

#[test]
fn what_only_forgotten_snapshots_need_is_freed_far_away_and_the_rest_comes_back() {
    let (pair, vault, address, all) = halved(0xfa1);
    let (machine, before) = (&pair.machine, stored(&pair));
    let would = machine.json(&["release", "--dry-run"], 0);
    assert_eq!((&would["snapshots"], &would["release"]), (&json!([all[0], all[1]]), &Value::Null), "{would:#}");
    assert!(machine.json(&["status"], 0)["release"].is_null());
    let done = machine.json(&["release"], 0);
    let release = &done["release"];
    assert_eq!((&release["answered"], &release["followed"]), (&true.into(), &true.into()), "{done:#}");
    assert_eq!((&done["bytes"], &done["thinned_bytes"]), (&would["bytes"], &would["thinned_bytes"]));
    assert!(number(&done["packs"]) > 0 && number(&done["thinned_packs"]) > 0, "whole ones and parts: {done:#}");
    let freed = number(&done["bytes"]) + number(&done["thinned_bytes"]);
    assert!(freed > 3_500_000, "{done:#}");
    is_freed(&pair, before, freed * 13 / 10);
    let last = machine.json(&["status"], 0)["release"]["last"].clone();
    assert_eq!((&last["number"], &last["refusal"], &last["id"]), (&1.into(), &Value::Null, &release["id"]));
    all_is_well(&pair, "after the release");
    assert_eq!(machine.snapshots(), &all[2..]);

    // A second one has nothing to do; what comes again is sent again, and is there.
    assert_eq!(machine.json(&["release"], 0)["release"], Value::Null);
    fs::write(machine.src().join("photo1"), {
        let mut c = Chance::new(pair.machine.seed);
        c.noise(700_000);
        c.noise(700_000)
    })
    .unwrap();
    let again = machine.backup();
    assert!(number(&again["new_bytes"]) > 600_000, "{again:#}");
    crosses(&pair, &address);
    all_is_well(&pair, "after a backup behind it");
    assert_eq!(machine.json(&["audit"], 0)["exit"], 0);
    let status = machine.json(&["vault", "status"], 0);
    assert_eq!(status["release"]["last"]["standing"], "done", "{status:#}");
    let screen = String::from_utf8(machine.run(&["status"]).stdout).unwrap();
    assert!(screen.contains("release 1 is done"), "{screen}");
    vault.stop();
    all_is_well_there(&pair, "at the drives");
}

#[test]
fn it_waits_for_a_contact_and_what_became_of_it_comes_home() {
    let (pair, vault, address, _) = halved(0xfa2);
    let (machine, before) = (&pair.machine, stored(&pair));
    let left = machine.json(&["release", "--no-wait"], 0);
    assert_eq!(
        (&left["release"]["answered"], &left["release"]["followed"]),
        (&false.into(), &false.into()),
        "{left:#}"
    );
    assert_eq!(machine.json(&["status"], 0)["release"]["unanswered"]["number"], 1);
    // A second one does not overtake it, and one that is taken back is gone.
    let refused = machine.json(&["release", "--no-wait"], 13);
    assert!(text(&refused["error"]["message"]).contains("release 1 is under way already"), "{refused:#}");
    assert_eq!(machine.json(&["release", "--withdraw"], 0)["withdrawn"], 1);
    assert_eq!(machine.json(&["release", "--withdraw"], 2)["error"]["code"], "usage");
    machine.json(&["release", "--no-wait"], 0);
    vault.stop();
    let away = machine.json(&["release", "--link-wait", "1"], 12);
    assert!(text(&away["error"]["hint"]).contains("it waits here for the next contact"), "{away:#}");
    assert!(stored(&pair) == before);
    // The daemon takes it along, whoever left it. This machine may have had something under way: the vault waits until it says that it knows.
    let (vault, _) = pair.serve(&address);
    crosses(&pair, &address);
    let last = machine.json(&["status"], 0)["release"].clone();
    assert_eq!((&last["unanswered"], &last["last"]["standing"]), (&Value::Null, &"waits".into()), "{last:#}");
    machine.backup();
    crosses(&pair, &address);
    is_freed(&pair, before, 4_000_000);
    assert_eq!(machine.json(&["vault", "status"], 0)["release"]["last"]["standing"], "done");
    all_is_well(&pair, "after it was followed");
    vault.stop();
    all_is_well_there(&pair, "at the drives");
}

#[test]
fn one_that_is_outdated_a_strangers_or_signed_with_another_key_frees_nothing_and_says_so() {
    let (pair, vault, address, _) = halved(0xfa3);
    let machine = &pair.machine;
    let asked = machine.state().join("desk/asked");
    machine.json(&["release", "--no-wait"], 0);
    // Something comes to the vault before it does.
    vault.stop();
    fs::write(machine.src().join("more"), "one more").unwrap();
    pair.far_json(&["backup", "src"]);
    let before = stored(&pair);
    let (vault, _) = pair.serve(&address);
    crosses(&pair, &address);
    let last = machine.json(&["status"], 0)["release"]["last"].clone();
    assert!(text(&last["refusal"]).contains("the release was made for a log of"), "{last:#}");
    assert_eq!((&last["standing"], stored(&pair)), (&"refused".into(), before), "{last:#}");
    assert!(String::from_utf8(machine.run(&["status"]).stdout).unwrap().contains("release 1 was not taken"));

    // Another archive's authority.
    let (stranger, strangers_vault, _, _) = halved(0xfa4);
    let key = stranger.machine.path("keys/recovery-key.txt");
    let wrong = machine.json(&["release", "--recovery-key", key.to_str().unwrap()], 11);
    assert_eq!(wrong["error"]["code"], "wrong-key");
    stranger.machine.json(&["release", "--no-wait"], 0);
    strangers_vault.stop();
    let theirs = files_below(&stranger.machine.state().join("desk/asked"));
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    fs::copy(&theirs[0], asked.join(theirs[0].file_name().unwrap())).unwrap();
    fs::rename(machine.path("keys/recovery-key.txt"), machine.path("paper.txt")).unwrap();
    assert_eq!(machine.json(&["release"], 11)["error"]["code"], "no-key");
    let done = machine.json(&["release", "--recovery-key", "paper.txt"], 0);
    let refusal = text(&done["earlier"]["refusal"]);
    assert!(refusal.contains("signature"), "{done:#}");
    // And one of our own that looks at all that is there now is taken.
    assert_eq!((&done["release"]["number"], &done["release"]["answered"]), (&1.into(), &true.into()), "{done:#}");
    all_is_well(&pair, "after those that were refused");
    vault.stop();
    all_is_well_there(&pair, "at the drives");
}

#[test]
fn in_doubt_or_at_an_alarm_nothing_is_signed_and_a_hold_on_the_other_side_keeps_it() {
    let pair = Pair::new(0xfa5);
    let (machine, mut chance) = (&pair.machine, Chance::new(pair.machine.seed));
    fs::write(machine.src().join("held"), chance.noise(1_500_000)).unwrap();
    machine.json(&["backup", "src", "--hold"], 0);
    fs::remove_file(machine.src().join("held")).unwrap();
    fs::write(machine.src().join("stays"), chance.noise(100_000)).unwrap();
    machine.backup();
    let all = machine.snapshots();
    machine.json(&["forget", &all[0]], 0);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    let doubt = machine.json(&["release"], 15);
    assert!(text(&doubt["error"]["message"]).contains("wait on this machine"), "{doubt:#}");
    crosses(&pair, &address);
    let before = stored(&pair);
    let done = machine.json(&["release"], 0);
    assert_eq!((&done["release"], &done["retained"]["left_s"]), (&Value::Null, &Value::Null), "{done:#}");
    assert!(number(&done["retained"]["bytes"]) > 1_400_000, "{done:#}");
    assert_eq!(stored(&pair), before);
    let done = machine.json(&["release", "--lift", &all[0]], 0);
    assert_eq!(done["release"]["followed"], true, "{done:#}");
    is_freed(&pair, before, 1_500_000);
    all_is_well(&pair, "after the hold was lifted");

    // A vault that was put back.
    vault.stop();
    let (drives, older) = (pair.far().join("drives"), machine.path("older"));
    copy_folder(&drives, &older);
    machine.json(&["forget", &all[1]], 0);
    machine.backup();
    let (vault, _) = pair.serve(&address);
    crosses(&pair, &address);
    vault.stop();
    fs::remove_dir_all(&drives).unwrap();
    fs::rename(&older, &drives).unwrap();
    let (vault, _) = pair.serve(&address);
    let alarm = machine.json(&["release"], 14);
    assert_eq!(alarm["error"]["code"], "log-alarm", "{alarm:#}");
    vault.stop();
    let is_local = pair.far_json_status(&["release", "--no-wait"], 2);
    assert_eq!(is_local["error"]["code"], "usage");
}

/// What a round of kills begins with.
fn put_back(pair: &Pair, kept: &Path) {
    for folder in ["far", "state", "vault"] {
        fs::remove_dir_all(pair.machine.path(folder)).unwrap();
        copy_folder(&kept.join(folder), &pair.machine.path(folder));
    }
}

#[test]
fn a_kill_at_either_end_leaves_it_undone_or_done_and_the_next_command_goes_on() {
    let (pair, vault, address, _) = halved(0xfa6);
    let (machine, before) = (&pair.machine, stored(&pair));
    vault.stop();
    let kept = machine.path("kept");
    fs::create_dir(&kept).unwrap();
    for folder in ["far", "state", "vault"] {
        copy_folder(&machine.path(folder), &kept.join(folder));
    }
    let (vault, _) = pair.serve(&address);
    let begin = Instant::now();
    machine.json(&["release"], 0);
    let whole = begin.elapsed();
    vault.stop();
    let after = stored(&pair);
    let mut chance = Chance::new(machine.seed);
    let (mut here, mut there) = (0, 0);
    for round in 0..6 {
        put_back(&pair, &kept);
        let (vault, _) = pair.serve(&address);
        let mut release = machine.start(&["release", "--link-wait", "30"]);
        std::thread::sleep(whole / 4 + chance.upto(whole));
        if round % 2 == 0 {
            release.kill().unwrap();
            release.wait().unwrap();
            vault.kill();
            here += u64::from(stored(&pair) < before);
        } else {
            vault.kill();
            there += u64::from(stored(&pair) < before);
            release.kill().unwrap();
            release.wait().unwrap();
        }
        let (vault, _) = pair.serve(&address);
        all_is_well(&pair, "behind the kill");
        // Whatever was under way goes on; one more has the rest to do, or nothing.
        crosses(&pair, &address);
        machine.json(&["release", "--link-wait", "60"], 0);
        crosses(&pair, &address);
        machine.json(&["release", "--link-wait", "60"], 0);
        assert!(
            common::wait_until(LONG, || stored(&pair) < after + 200_000),
            "round {round}: {} of {after}",
            stored(&pair)
        );
        vault.stop();
        pair.is_whole_there("behind it");
    }
    eprintln!("of 3 each, {here} kills here and {there} there came after something was freed");
}
