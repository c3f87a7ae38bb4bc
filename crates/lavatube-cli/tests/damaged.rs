//! Drives that rot, die, fill up or are lost beyond parity: what can be restored is exact, what cannot is named exactly.
//!
//! Damage is done to the files of a real vault, and told apart from what the program says about it: every file of every
//! snapshot is either there, bit by bit, or named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::facts::{Facts, assert_same, look};
use common::mount::Mount;
use common::{Chance, Machine, files_below, is_root, is_shard, number, paths, seed, skipped, text};
use lavatube_format::tree::path_order;
use serde_json::Value;

/// A machine with a small source in a few folders, backed up once.
fn small(seed: u64) -> (Machine, Facts) {
    let machine = Machine::new(seed);
    common::fill(&machine.src(), &mut Chance::new(seed), 40, 1 << 20);
    machine.backup();
    let want = look(&machine.src());
    (machine, want)
}

fn flip(path: &Path, at: u64, chance: &mut Chance) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 + chance.below(255) as u8;
    file.write_all_at(&byte, at).unwrap();
}

fn remove_restored(machine: &Machine) {
    fs::remove_dir_all(machine.path("back")).unwrap();
}

#[track_caller]
fn restores_exactly(machine: &Machine, want: &Facts, what: &str) {
    let what = format!("{what}, seed {:#x}", machine.seed);
    let answer = machine.json(&["restore", "latest", "--target", "back"], 0);
    assert_eq!(number(&answer["warnings"]["count"]), 0, "{what}: {answer:#}");
    assert_same(want, &machine.path("back/src"), &what);
    remove_restored(machine);
}

#[track_caller]
fn is_clean(machine: &Machine, what: &str) {
    let (status, answer) = machine.answer(&["check", "--read-data"]);
    assert_eq!(status, 0, "{what}, seed {:#x}: {answer:#}", machine.seed);
}

#[test]
fn one_flipped_byte_in_every_file_of_every_drive_costs_nothing() {
    let (machine, want) = small(seed(41));
    let mut chance = Chance::new(machine.seed);
    // At random places, then at the same place of every file: its start, its middle and so on, its last byte.
    for place in [None, None, None, Some(0.0), Some(0.003), Some(0.3), Some(0.5), Some(0.77), Some(1.0)] {
        for file in machine.drive_files() {
            let len = file.metadata().unwrap().len();
            let at = match place {
                None => chance.below(len as usize) as u64,
                Some(share) => ((len - 1) as f64 * share) as u64,
            };
            flip(&file, at, &mut chance);
        }
        let what = format!("flipped at {place:?}");
        restores_exactly(&machine, &want, &what);
        let found = machine.json(&["check", "--read-data"], 4);
        let objects = number(&found["objects"]) as usize;
        assert_eq!(found["not_whole"].as_array().unwrap().len(), objects, "{what}: each object is named: {found:#}");
        for object in found["not_whole"].as_array().unwrap() {
            let hurt = object["shards"].as_array().unwrap();
            assert_eq!(
                (hurt.len(), &object["restorable"]),
                (6, &Value::Bool(true)),
                "each of its shards is: {object:#}"
            );
        }
        assert!(paths(&found["files"]).is_empty(), "no file is lost: {found:#}");
        let mended = machine.json(&["check", "--read-data", "--repair"], 4);
        assert_eq!(number(&mended["repair"]["mended"]) as usize, objects, "{mended:#}");
        is_clean(&machine, &what);
        // Cards and journals are as good as shards: four drives alone must do.
        for n in [chance.below(6), chance.below(6)] {
            fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).ok();
        }
        restores_exactly(&machine, &want, &format!("{what}, mended, and two drives away"));
        for n in 0..6 {
            fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).ok();
        }
        is_clean(&machine, &format!("{what}, and all drives back"));
    }
}

/// Ways in which a whole drive goes wrong.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Deleted,
    Emptied,
    Noise,
    Truncated,
}

const HARMS: [Harm; 4] = [Harm::Deleted, Harm::Emptied, Harm::Noise, Harm::Truncated];

fn harm(machine: &Machine, drive: usize, how: Harm, chance: &mut Chance) {
    let folder = machine.drive(drive);
    match how {
        Harm::Deleted => fs::remove_dir_all(folder).unwrap(),
        Harm::Emptied => {
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir(folder).unwrap();
        }
        Harm::Noise => {
            for file in files_below(&folder) {
                let len = file.metadata().unwrap().len() as usize;
                fs::write(file, chance.noise(len)).unwrap();
            }
        }
        Harm::Truncated => {
            for file in files_below(&folder) {
                let len = file.metadata().unwrap().len() as usize;
                fs::File::options().write(true).open(file).unwrap().set_len(chance.below(len) as u64).unwrap();
            }
        }
    }
}

#[test]
fn any_two_drives_may_be_deleted_emptied_or_overwritten_with_noise() {
    let (machine, want) = small(seed(42));
    let mut chance = Chance::new(machine.seed);
    let pairs: Vec<(usize, usize)> = (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b))).collect();
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let (first, second) = (HARMS[i % 4], HARMS[(i / 4 + i) % 4]);
        let what = format!("drive {a} {first:?}, drive {b} {second:?}");
        harm(&machine, a, first, &mut chance);
        harm(&machine, b, second, &mut chance);
        restores_exactly(&machine, &want, &what);
        let (status, answer) = machine.answer(&["check", "--read-data", "--repair"]);
        assert_eq!(status, 4, "{what}, seed {:#x}: {answer:#}", machine.seed);
        assert_eq!(number(&answer["repair"]["shards_left"]), 0, "{what}: {answer:#}");
        is_clean(&machine, &what);
        // Full redundancy again means that two others may go now: the next pair proves it, and the last one here.
    }
    for n in [0, 1] {
        harm(&machine, n, Harm::Deleted, &mut chance);
    }
    restores_exactly(&machine, &want, "two others at last");
}

/// Facts by path as JSON has them.
fn by_json_path(machine: &Machine, facts: &Facts) -> BTreeMap<String, String> {
    let root = machine.src().canonicalize().unwrap();
    let path = |below: &[u8]| {
        root.join(std::str::from_utf8(below).unwrap()).to_str().unwrap().trim_end_matches('/').to_owned()
    };
    facts.iter().map(|(below, fact)| (path(below), fact.line.clone())).collect()
}

fn is_in_range(path: &str, range: &Value) -> bool {
    let (path, from) = (path.as_bytes(), text(&range["from"]));
    let before =
        |a: &[u8], b: &[u8]| path_order(a.strip_prefix(b"/").unwrap_or(a), b.strip_prefix(b"/").unwrap_or(b)).is_lt();
    !before(path, from.as_bytes()) && range["until"].as_str().is_none_or(|until| before(path, until.as_bytes()))
}

/// Restores `snapshot` from a damaged vault: whatever is not as it was must be named, whatever is named must be gone.
/// Returns the paths of files that are lost by name.
fn exact_account(machine: &Machine, snapshot: &str, want: &Facts) -> Option<BTreeSet<String>> {
    let (status, answer) = machine.answer(&["restore", snapshot, "--target", "back"]);
    if answer["error"].is_object() {
        // A machine that never saw the manifest cannot know the snapshot, but that something is missing.
        let unknown = text(&answer["error"]["code"]) == "no-snapshot";
        assert!(status == 5 || (unknown && is_something_refused(machine)), "{answer:#}");
        return None;
    }
    let have = by_json_path(machine, &look(&machine.path("back/src")));
    let failed: BTreeSet<String> = paths(&answer["failed"]).into_iter().collect();
    assert!(answer["failed"].as_array().unwrap().iter().all(|f| f["fault"] == "lost"), "{answer:#}");
    let ranges = answer["lost"].as_array().unwrap();
    for (path, fact) in by_json_path(machine, want) {
        let named = failed.contains(&path) || ranges.iter().any(|r| is_in_range(&path, r));
        match have.get(&path) {
            Some(other) if *other == fact => {
                assert!(!failed.contains(&path), "{path} is there and called lost: {answer:#}")
            }
            Some(other) => assert!(named && other.starts_with("Directory"), "{path} is wrong: {other}\n{answer:#}"),
            None => assert!(named, "{path} is silently missing: {answer:#}"),
        }
    }
    assert_eq!(status, if failed.is_empty() && ranges.is_empty() { 0 } else { 5 }, "{answer:#}");
    remove_restored(machine);
    ranges.is_empty().then_some(failed)
}

fn is_something_refused(machine: &Machine) -> bool {
    let (status, answer) = machine.answer(&["snapshots"]);
    assert!([4, 5].contains(&status), "{answer:#}");
    !answer["refused"].as_array().unwrap().is_empty()
}

/// Shards of all drives by object.
fn shards_by_object(machine: &Machine) -> BTreeMap<String, Vec<PathBuf>> {
    let mut out: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in machine.drive_files().into_iter().filter(|f| is_shard(f)) {
        out.entry(file.file_stem().unwrap().to_str().unwrap().to_owned()).or_default().push(file);
    }
    out
}

#[test]
fn beyond_parity_exactly_the_lost_files_are_named_and_all_others_restored() {
    let machine = Machine::new(seed(43));
    let mut chance = Chance::new(machine.seed);
    let mut snapshots: Vec<(String, Facts)> = Vec::new();
    for round in 0..3 {
        common::fill(&machine.src().join(format!("round{round}")), &mut chance, 30, 1 << 20);
        let done = machine.backup();
        snapshots.push((text(&done["snapshot"]), look(&machine.src())));
    }
    let (mut named, mut seen_kinds) = (0, BTreeSet::new());
    for (object, shards) in shards_by_object(&machine) {
        assert_eq!(shards.len(), 6);
        let kind = fs::read(&shards[0]).unwrap()[12];
        seen_kinds.insert(kind);
        let gone: Vec<&PathBuf> = shards.iter().skip(chance.below(4)).take(3).collect();
        for (i, shard) in gone.iter().enumerate() {
            fs::rename(shard, machine.path(&format!("gone{i}"))).unwrap();
        }
        let what = format!("object {object} of kind {kind}, seed {:#x}", machine.seed);
        // As this machine knows it, and as one that has only vault and keys does.
        for fresh in [false, true] {
            if fresh {
                fs::remove_dir_all(machine.path("state")).unwrap();
            }
            let (status, check) = machine.answer(&["check", "--read-data"]);
            if check["error"].is_object() {
                assert_eq!(status, 5, "{what}: {check:#}");
                continue;
            }
            let lost = ["files", "lost", "unreadable"].iter().any(|part| !check[part].as_array().unwrap().is_empty());
            assert_eq!(status, if matches!(kind, 1 | 4) && !lost { 4 } else { 5 }, "{what}: {check:#}");
            let hurt = check["not_whole"].as_array().unwrap().iter().find(|o| o["object"] == *object);
            assert_eq!(hurt.unwrap()["restorable"], false, "{what}: the object is named: {check:#}");
            // Some packs cost nobody anything: what survives of their data shards may be all that was ever used.
            for (id, want) in &snapshots {
                let files = check["files"].as_array().unwrap().iter().filter(|f| f["snapshot"] == **id);
                let checked: BTreeSet<String> = files.map(|f| text(&f["path"])).collect();
                if let Some(failed) = exact_account(&machine, id, want) {
                    // Where a pack's index is lost, a machine whose catalog knows what lies where loses less than a
                    // fresh one.
                    assert_eq!(checked, failed, "{what}: exactly what is lost is named");
                    named += failed.len();
                }
            }
        }
        for (i, shard) in gone.iter().enumerate() {
            fs::rename(machine.path(&format!("gone{i}")), shard).unwrap();
        }
    }
    assert!(named > 20 && seen_kinds.len() == 4, "the test saw losses of every kind: {named} {seen_kinds:?}");
    for (id, want) in &snapshots {
        assert_eq!(exact_account(&machine, id, want), Some(BTreeSet::new()), "all of it is back");
    }
    is_clean(&machine, "all of it is back");
}

#[test]
fn what_two_sessions_have_is_restored_while_one_of_them_is_whole() {
    let (machine, want) = small(seed(52));
    let mut chance = Chance::new(machine.seed);
    let first = shards_by_object(&machine);
    // Another state knows nothing of the first one's chunks, and sends them again.
    fs::rename(machine.path("state"), machine.path("state-0")).unwrap();
    machine.backup();
    fs::rename(machine.path("state"), machine.path("state-1")).unwrap();
    let mut second = shards_by_object(&machine);
    second.retain(|object, _| !first.contains_key(object));
    is_clean(&machine, "both");

    for (number, session) in [first, second].into_iter().enumerate() {
        // But for the pack with the snapshot's own record, which no other session has.
        let mut hidden = Vec::new();
        for (object, shards) in session.into_iter().filter(|(_, shards)| fs::read(&shards[0]).unwrap()[12] == 1) {
            // More than parity covers, or all.
            let from = if number == 0 { chance.below(3) } else { 0 };
            let gone: Vec<(PathBuf, PathBuf)> = shards[from..if number == 0 { from + 4 } else { 6 }]
                .iter()
                .map(|shard| (shard.clone(), machine.path(shard.file_name().unwrap().to_str().unwrap())))
                .collect();
            gone.iter().for_each(|(shard, aside)| fs::rename(shard, aside).unwrap());
            if machine.answer(&["snapshots"]).0 == 0 {
                hidden.push((object, gone));
            } else {
                gone.iter().for_each(|(shard, aside)| fs::rename(aside, shard).unwrap());
            }
        }
        assert!(!hidden.is_empty());
        for state in ["state-0", "state-1", "state-fresh"] {
            let what = format!("session {number} is lost, with {state}");
            let _ = fs::remove_dir_all(machine.path("state"));
            if machine.path(state).exists() {
                common::copy_folder(&machine.path(state), &machine.path("state"));
            }
            for snapshot in ["latest", "latest~1"] {
                assert_eq!(exact_account(&machine, snapshot, &want), Some(BTreeSet::new()), "{what}");
                machine.json(&["ls", snapshot, "--recursive"], 0);
            }
            for args in [&["check"][..], &["check", "--read-data"], &["check", "--repair"]] {
                let check = machine.json(args, 4);
                let lost = check["not_whole"].as_array().unwrap().iter().filter(|o| o["restorable"] == false);
                let lost: BTreeSet<String> = lost.map(|o| text(&o["object"])).collect();
                assert_eq!(lost, hidden.iter().map(|(object, _)| object.clone()).collect(), "{what}: {check:#}");
                for part in ["files", "lost", "unreadable"] {
                    assert!(check[part].as_array().unwrap().is_empty(), "{what}: {check:#}");
                }
            }
        }
        for (shard, aside) in hidden.iter().flat_map(|(_, gone)| gone) {
            fs::rename(aside, shard).unwrap();
        }
    }
    is_clean(&machine, "all of it is back");
}

#[test]
fn status_remembers_what_the_last_checks_saw() {
    let (machine, _) = small(seed(50));
    let status = machine.json(&["status"], 0);
    assert!(status["checked"].is_null() && status["read"].is_null(), "nobody has looked: {status:#}");
    machine.json(&["check"], 0);
    let status = machine.json(&["status"], 0);
    assert_eq!((&status["checked"]["verdict"], &status["checked"]["snapshots"]), (&"sound".into(), &1.into()));
    assert!(status["read"].is_null(), "heads are not data: {status:#}");

    let mut chance = Chance::new(machine.seed);
    for file in machine.drive_files().iter().filter(|f| is_shard(f)) {
        flip(file, file.metadata().unwrap().len() - 1, &mut chance);
    }
    let found = machine.json(&["check", "--read-data"], 4);
    let damaged = machine.json(&["status"], 0);
    let read = &damaged["read"];
    assert_eq!((&read["verdict"], &read["share"], read), (&"damaged".into(), &1.0.into(), &damaged["checked"]));
    assert_eq!(number(&read["not_whole"]) as usize, found["not_whole"].as_array().unwrap().len());
    assert_eq!((&read["packs"], number(&read["bytes"]) > 1 << 18), (&found["data"]["packs"], true), "{damaged:#}");
    machine.json(&["check", "--read-data", "--repair"], 4);
    assert_eq!(machine.json(&["status"], 0)["read"]["verdict"], "mended");

    // A share is no less a look, and without the read key there is less to see.
    machine.json(&["check", "--read-data=50%"], 0);
    fs::rename(machine.path("keys/read.key"), machine.path("read.key")).unwrap();
    machine.json(&["check"], 0);
    let status = machine.json(&["status"], 0);
    let share = status["read"]["share"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&share) && status["read"]["snapshots"] == 1, "{status:#}");
    assert_eq!((&status["checked"]["share"], &status["checked"]["snapshots"]), (&0.0.into(), &Value::Null));

    // A record that is damaged says nothing.
    for name in ["last", "read"] {
        flip(&machine.state().join("checks").join(name), chance.below(82) as u64, &mut chance);
    }
    let status = machine.json(&["status"], 0);
    assert!(status["checked"].is_null() && status["read"].is_null(), "{status:#}");
}

#[test]
fn checks_of_a_share_come_round_to_a_flipped_byte() {
    let (machine, _) = small(seed(51));
    let object = shards_by_object(&machine).into_values().max_by_key(|shards| fs::metadata(&shards[0]).unwrap().len());
    flip(&object.unwrap()[0], 5000, &mut Chance::new(machine.seed));
    let (mut found, mut read) = (0, 0.0);
    while read < 1.0 {
        let (status, answer) = machine.answer(&["check", "--read-data=1%"]);
        assert!(number(&answer["data"]["packs"]) > 0, "no check of data reads none: {answer:#}");
        read += answer["data"]["share"].as_f64().unwrap();
        found += i32::from(status == 4);
    }
    assert!((1..=2).contains(&found), "it was read in a round, and at most at the beginning of the next: {found}");
}

#[test]
fn three_drives_gone_is_told_and_heals_when_one_comes_back() {
    let (machine, want) = small(seed(44));
    for n in 1..4 {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
    }
    machine.json(&["check", "--read-data"], 5);
    // Three data shards may be enough for some files: then those are exact, and all others named.
    exact_account(&machine, "latest", &want);
    // A repair must not make anything worse.
    machine.answer(&["check", "--repair"]);
    fs::remove_dir_all(machine.drive(2)).ok();
    fs::rename(machine.path("away2"), machine.drive(2)).unwrap();
    if machine.path("back").exists() {
        remove_restored(&machine);
    }
    restores_exactly(&machine, &want, "with one of them back");
    machine.json(&["check", "--read-data", "--repair"], 4);
    is_clean(&machine, "repaired");
}

#[test]
fn lost_lists_and_journals_are_made_again_and_never_cost_what_the_drives_hold() {
    let (machine, want) = small(seed(45));
    for n in 0..6 {
        fs::remove_file(machine.drive(n).join("journal")).unwrap();
    }
    restores_exactly(&machine, &want, "without any journal");
    machine.answer(&["check", "--repair"]);
    is_clean(&machine, "without any journal, repaired");
    // The list of drives is the one small file outside of them.
    let list = machine.path("vault/vault.toml");
    for state in ["kept", "lost"] {
        fs::remove_file(&list).unwrap();
        // It is had from its copy, unless that is lost, too.
        restores_exactly(&machine, &want, "without the list");
        fs::remove_file(machine.path("vault/vault.toml.copy")).unwrap();
        if state == "lost" {
            fs::remove_dir_all(machine.path("state")).unwrap();
        }
        let restore = machine.json(&["restore", "latest", "--target", "back"], 12);
        assert_eq!(text(&restore["error"]["code"]), "no-vault");
        let made = machine.json(&["init"], 0);
        assert_eq!(made["vault"]["made"], false, "no new vault over an old one: {made:#}");
        restores_exactly(&machine, &want, "after the list was lost and init was run");
        machine.backup();
        is_clean(&machine, "after init");
    }
    // With its key gone too nothing may be made in its place.
    fs::remove_file(&list).unwrap();
    fs::remove_file(machine.path("vault/vault.toml.copy")).unwrap();
    fs::remove_file(machine.path("vault/vault.key.copy")).unwrap();
    fs::rename(machine.path("vault/vault.key"), machine.path("vault.key")).unwrap();
    let refused = machine.json(&["init"], 13);
    assert_eq!(text(&refused["error"]["code"]), "exists");
    fs::rename(machine.path("vault.key"), machine.path("vault/vault.key")).unwrap();
    machine.json(&["init"], 0);
    restores_exactly(&machine, &want, "with list and key back");
}

#[test]
fn what_the_machine_knows_by_heart_can_be_lost_or_damaged() {
    let (machine, _) = small(seed(46));
    let mut chance = Chance::new(machine.seed);
    let known = |machine: &Machine, part: &str| -> Vec<PathBuf> {
        let files = files_below(&machine.state());
        files.into_iter().filter(|f| f.parent().unwrap().ends_with(part) && f.metadata().unwrap().len() > 0).collect()
    };
    type Harm<'h> = &'h dyn Fn(&Machine, &mut Chance);
    let harms: [(&str, Harm<'_>); 6] = [
        ("state folder deleted", &|m, _| fs::remove_dir_all(m.path("state")).unwrap()),
        ("catalog's index damaged", &|m, c| {
            for file in runs(m) {
                flip(&file, c.below(16) as u64, c);
                flip(&file, file.metadata().unwrap().len() - 1 - c.below(32) as u64, c);
            }
        }),
        ("catalog run cut", &|m, _| {
            for file in known(m, "catalog") {
                let len = file.metadata().unwrap().len();
                fs::File::options().write(true).open(file).unwrap().set_len(len / 2).unwrap();
            }
        }),
        ("tree cache damaged", &|m, c| {
            let files = known(m, "trees");
            assert!(!files.is_empty());
            for file in files {
                flip(&file, c.below(file.metadata().unwrap().len() as usize) as u64, c);
            }
        }),
        ("tree cache's heads deleted", &|m, _| {
            for file in known(m, "trees").iter().filter(|f| f.extension().is_some_and(|e| e == "head")) {
                fs::remove_file(file).unwrap();
            }
        }),
        ("tree bodies deleted", &|m, _| {
            for file in known(m, "trees").iter().filter(|f| f.extension().is_none_or(|e| e != "head")) {
                fs::remove_file(file).unwrap();
            }
        }),
    ];
    for round in 0..2 {
        for (i, (what, harm)) in harms.iter().enumerate() {
            let what = format!("{what}, seed {:#x}", machine.seed);
            harm(&machine, &mut chance);
            fs::write(machine.src().join(format!("new{round}{i}")), chance.noise(5000)).unwrap();
            let want = look(&machine.src());
            if round == 1 {
                // A look with the read key comes first and puts the catalog right.
                restores_nothing_wrong(&machine, &what);
            }
            // Without the read key nothing can be put right: some is sent again then, and that is told.
            let done = machine.backup();
            let damaged = round == 0 && what.contains("catalog");
            assert_eq!(done["catalog_incomplete"], damaged, "{what}: {done:#}");
            if round == 1 {
                let sent = number(&done["stored_bytes"]);
                assert!(sent < 200_000, "{what}: what the vault has is not sent again: {sent}");
            }
            restores_exactly(&machine, &want, &what);
            is_clean(&machine, &what);
        }
    }
}

/// The catalog's runs.
fn runs(machine: &Machine) -> Vec<PathBuf> {
    let files = files_below(&machine.state().join("catalog"));
    let runs: Vec<_> = files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "run")).collect();
    assert!(!runs.is_empty());
    runs
}

#[test]
fn damaged_records_of_the_catalog_cost_nothing() {
    let (machine, mut want) = small(seed(48));
    let mut chance = Chance::new(machine.seed);
    for round in 0..12 {
        let files = files_below(&machine.state().join("catalog"));
        let what = format!("round {round}, seed {:#x}", machine.seed);
        for file in files {
            let len = file.metadata().unwrap().len() as usize;
            // Runs begin with a page of zeros, nearly: their records, keys and digests lie behind it.
            let from = if file.ends_with("packs") || chance.below(4) == 0 { 0 } else { 4096 };
            for _ in 0..1 + chance.below(10) {
                flip(&file, (from + chance.below(len - from)) as u64, &mut chance);
            }
        }
        if chance.below(2) == 0 {
            // A machine without the read key goes on all the same.
            fs::write(machine.src().join("new"), chance.noise(300_000)).unwrap();
            want = look(&machine.src());
            machine.backup();
        }
        restores_exactly(&machine, &want, &what);
        is_clean(&machine, &what);
    }
}

fn restores_nothing_wrong(machine: &Machine, what: &str) {
    let (status, answer) = machine.answer(&["snapshots"]);
    assert_eq!(status, 0, "{what}: {answer:#}");
}

#[test]
fn a_full_drive_is_told_and_nothing_half_done_is_visible() {
    let test = "a_full_drive_is_told_and_nothing_half_done_is_visible";
    if !is_root(test) {
        return;
    }
    let machine = Machine::new(seed(47));
    let mut chance = Chance::new(machine.seed);
    let Some(mount) = Mount::new(&machine.vault(), "40m") else {
        return skipped(test, "tmpfs cannot be mounted here");
    };
    common::fill(&machine.src(), &mut chance, 40, 2 << 20);
    let first = machine.backup();
    let want = look(&machine.src());
    fs::create_dir(machine.src().join("large")).unwrap();
    for i in 0..4 {
        fs::write(machine.src().join(format!("large/noise{i}")), chance.noise(10 << 20)).unwrap();
    }
    for _ in 0..2 {
        let refused = machine.json(&["backup", "src"], 13);
        assert_eq!(text(&refused["error"]["code"]), "full", "{refused:#}");
        let message = text(&refused["error"]["message"]);
        assert!(message.contains("full") || message.contains("space"), "{message}");
        assert_eq!(machine.snapshots(), [text(&first["snapshot"])], "what was there is, and nothing else");
        restores_exactly(&machine, &want, "from full drives");
    }
    let (status, check) = machine.answer(&["check", "--read-data"]);
    assert!([0, 4].contains(&status), "nothing is lost: {check:#}");
    mount.resize("128m");
    let done = machine.backup();
    assert!(number(&done["stored_bytes"]) < 32 << 20, "what had found room before is not sent again: {done:#}");
    restores_exactly(&machine, &look(&machine.src()), "after room was made");
    machine.answer(&["check", "--repair"]);
    is_clean(&machine, "after room was made");
}

#[test]
fn a_full_target_is_told_and_the_restore_carries_on_when_there_is_room() {
    let test = "a_full_target_is_told_and_the_restore_carries_on_when_there_is_room";
    if !is_root(test) {
        return;
    }
    let (machine, want) = small(seed(49));
    let Some(mount) = Mount::new(&machine.path("back"), "400k") else {
        return skipped(test, "tmpfs cannot be mounted here");
    };
    let stopped = machine.json(&["restore", "latest", "--target", "back"], 13);
    assert_eq!(text(&stopped["error"]["code"]), "full", "{stopped:#}");
    mount.resize("40m");
    machine.json(&["restore", "latest", "--target", "back"], 0);
    assert_same(&want, &machine.path("back/src"), "after room was made");
}

#[test]
fn a_drive_that_is_not_mounted_is_not_made_anew_on_the_disk_below() {
    let test = "a_drive_that_is_not_mounted_is_not_made_anew_on_the_disk_below";
    if !is_root(test) {
        return;
    }
    let machine = Machine::new(seed(49));
    let mut chance = Chance::new(machine.seed);
    let Some(first) = Mount::new(&machine.path("disks/first"), "64m") else {
        return skipped(test, "tmpfs cannot be mounted here");
    };
    let second = Mount::new(&machine.path("second"), "64m").unwrap();
    let plugged = second.also_at(&machine.path("disks/second"));
    // One drive is a mount point, one lies below another, two are plain folders.
    machine.json(&["init", "--data=2", "--parity=2", "--drives=a,b,disks/first,disks/second/drive"], 0);
    common::fill(&machine.src(), &mut chance, 20, 1 << 20);
    machine.backup();
    let want = look(&machine.src());
    drop((first, plugged));
    fs::remove_dir(machine.path("disks/second")).unwrap();

    let left_alone = |what: &str, drives: &[&str]| {
        let check = machine.json(&["check", "--repair"], 4);
        let refused = check["repair"]["not_readopted"].as_array().unwrap();
        let named: Vec<&str> = refused.iter().map(|r| r["drive"].as_str().unwrap()).collect();
        assert_eq!(named, drives, "{what}: {check:#}");
        for refused in refused {
            assert!(text(&refused["reason"]).contains("no disk is mounted at"), "{what}: {check:#}");
        }
        check
    };
    for _ in 0..2 {
        left_alone("unplugged", &["first", "drive"]);
        assert_eq!(fs::read_dir(machine.path("disks/first")).unwrap().count(), 0, "nothing is written below");
        assert!(!machine.path("disks/second").exists());
        restores_exactly(&machine, &want, "unplugged");
    }
    // A plain folder that is emptied meanwhile is taken in again, without asking.
    fs::remove_dir_all(machine.path("a")).unwrap();
    let plugged = second.also_at(&machine.path("disks/second"));
    let check = left_alone("one is back", &["first"]);
    assert_eq!(check["repair"]["readopted"], serde_json::json!(["a"]), "{check:#}");
    // An empty disk in the place of the one that died; later that goes as well, and the folder has to do.
    let other = Mount::new(&machine.path("disks/first"), "64m").unwrap();
    assert_eq!(number(&machine.json(&["check", "--repair"], 4)["repair"]["shards_left"]), 0);
    is_clean(&machine, "another disk");
    drop(other);
    left_alone("the other disk is gone", &["first"]);
    let file = machine.vault().join("vault.toml");
    let lines = fs::read_to_string(&file).unwrap();
    let without = lines.lines().filter(|l| !(l.contains("disks/first") && l.contains(" = \"")));
    fs::write(&file, without.map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    assert_eq!(number(&machine.json(&["check", "--repair"], 4)["repair"]["shards_left"]), 0);
    is_clean(&machine, "a folder instead");
    drop(plugged);
    left_alone("what is known of the others stays", &["drive"]);
    restores_exactly(&machine, &want, "with three of four drives");
}
