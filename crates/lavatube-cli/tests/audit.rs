//! Audits of real vaults: what is there is proved, what is not is named, and only then is anything *still there*.
//!
//! Damage is done to the files of a real vault behind the program's back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use common::pair::Pair;
use common::{Chance, Machine, files_below, is_shard, number, seed, show, text};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::shard::ObjectKind;
use serde_json::Value;

/// A machine with a small source, backed up twice.
fn small(n: u64) -> Machine {
    let machine = Machine::in_memory(seed(n));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 40, 1 << 20);
    machine.backup();
    fs::write(machine.src().join("second"), vec![7; 100_000]).unwrap();
    machine.backup();
    machine
}

/// The shard files of all objects of a kind, by object.
fn shards(machine: &Machine, kind: ObjectKind) -> Vec<(String, Vec<PathBuf>)> {
    shards_below(machine.path("vault/drives"), kind)
}

fn shards_below(folder: PathBuf, kind: ObjectKind) -> Vec<(String, Vec<PathBuf>)> {
    let mut out: std::collections::BTreeMap<String, Vec<PathBuf>> = Default::default();
    for file in files_below(&folder).into_iter().filter(|p| is_shard(p)) {
        if fs::read(&file).unwrap()[12] == kind.code() {
            let object = file.file_name().unwrap().to_str().unwrap()[..64].to_owned();
            out.entry(object).or_default().push(file);
        }
    }
    out.into_iter().collect()
}

fn still_there(machine: &Machine) -> Value {
    let (_, answer) = machine.answer(&["status"]);
    answer["still_there"].clone()
}

fn bad(answer: &Value, why: &str) -> BTreeSet<String> {
    let bad = answer["bad"].as_array().unwrap().iter().filter(|bad| bad["why"] == why);
    bad.map(|bad| text(if bad["pack"].is_null() { &bad["manifest"] } else { &bad["pack"] })).collect()
}

#[test]
fn all_is_proved_with_one_answer_and_only_then_still_there() {
    let machine = small(1);
    assert_eq!(still_there(&machine), Value::Null);
    machine.json(&["check", "--read-data"], 0);
    assert_eq!(still_there(&machine), Value::Null, "a check proves nothing from afar");
    let packs = shards(&machine, ObjectKind::Pack).len() as u64;
    let answer = machine.json(&["audit"], 0);
    assert_eq!((number(&answer["packs"]), number(&answer["manifests"])), (packs, 2), "{answer:#}");
    assert_eq!((number(&answer["answers"]), &answer["outcome"]), (1, &Value::from("passed")), "{answer:#}");
    assert!(number(&answer["received"]) <= 16_500, "{answer:#}");
    let seen = still_there(&machine);
    assert_eq!((number(&seen["packs"]), &seen["outcome"]), (packs, &Value::from("passed")), "{seen:#}");
    let history = machine.json(&["audit", "--history"], 0);
    assert_eq!(history["audits"].as_array().unwrap().len(), 1, "{history:#}");
    // Two drives may be away: all of it can be read still.
    fs::rename(machine.drive(0), machine.path("away0")).unwrap();
    fs::rename(machine.drive(3), machine.path("away3")).unwrap();
    assert_eq!(number(&machine.json(&["audit"], 0)["packs"]), packs);
    // Of a third nobody can tell.
    fs::rename(machine.drive(5), machine.path("away5")).unwrap();
    let answer = machine.json(&["audit"], 4);
    assert_eq!(bad(&answer, "away").len() as u64, packs + 2, "{answer:#}");
    assert_eq!(number(&still_there(&machine)["packs"]), packs, "what was proved before was so");
}

#[test]
fn a_byte_that_parity_does_not_cover_is_named_with_the_files_it_costs() {
    let machine = small(2);
    // Of the largest pack, three shards: one more than parity has. The first three have data, while padding is in the last.
    let (pack, files) = shards(&machine, ObjectKind::Pack)
        .into_iter()
        .max_by_key(|(_, files)| files[0].metadata().unwrap().len())
        .unwrap();
    let index = |file: &PathBuf| file.extension().unwrap().to_str().unwrap().to_owned();
    let first = files.iter().filter(|file| ["00", "01", "02"].contains(&index(file).as_str()));
    for file in first {
        let file = fs::File::options().read(true).write(true).open(file).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).unwrap();
        // Every byte of the body, so that no column of the code can be mended.
        let head = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        bytes[head..len - head].iter_mut().for_each(|b| *b ^= 0x55);
        file.write_all_at(&bytes, 0).unwrap();
    }
    let answer = machine.json(&["audit"], 5);
    assert_eq!(bad(&answer, "lost"), [pack].into(), "{answer:#}");
    let touched = ["files", "lost", "unreadable"].map(|what| answer[what].as_array().unwrap().len());
    assert!(touched.iter().sum::<usize>() > 0, "{answer:#}");
    assert_eq!(still_there(&machine), Value::Null);
    let (status, _) = machine.answer(&["status"]);
    assert_eq!(status, 5, "what is lost is remembered");
}

#[test]
fn objects_that_are_gone_from_all_drives_are_named_packs_tags_and_manifests() {
    for (n, kind, why) in
        [(3, ObjectKind::Pack, "lost"), (4, ObjectKind::Tags, "tags"), (5, ObjectKind::Manifest, "lost")]
    {
        let machine = small(n);
        machine.json(&["audit"], 0);
        let (object, files) = shards(&machine, kind).remove(0);
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        let answer = machine.json(&["audit"], if kind == ObjectKind::Tags { 4 } else { 5 });
        let named = bad(&answer, why);
        match kind {
            ObjectKind::Tags => {
                assert!(!named.is_empty(), "the packs whose tags they were: {answer:#}");
                assert_eq!(answer["outcome"], "away");
            }
            _ => assert!(named.contains(&object), "{object}: {answer:#}"),
        }
        // What was proved before is history; that it is not there now is said beside it.
        let (_, status) = machine.answer(&["status"]);
        assert!(!status["still_there"].is_null() && !status["not_proved"].is_null(), "{status:#}");
    }
}

#[test]
fn an_object_whose_journal_forgot_it_is_named_too() {
    let machine = small(6);
    let (object, files) = shards(&machine, ObjectKind::Pack).remove(0);
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    for n in 0..6 {
        fs::remove_file(machine.drive(n).join("journal")).unwrap();
    }
    let answer = machine.json(&["audit"], 5);
    assert_eq!(bad(&answer, "absent"), [object].into(), "{answer:#}");
}

#[test]
fn a_manifest_names_tags_for_all_of_its_packs_and_a_session_cut_in_the_middle_has_them_too() {
    let machine = Machine::in_memory(seed(7));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 300, 30 << 20);
    machine.json(&["init"], 0);
    let mut delay = 20;
    while machine.killed(&["backup", "src"], Duration::from_millis(delay)).is_some() {
        delay /= 2;
    }
    machine.backup();
    let manifests = files_below(&machine.state().join("manifests"));
    assert!(!manifests.is_empty());
    for manifest in manifests {
        let signed = SignedManifest::decode(&fs::read(&manifest).unwrap()).unwrap();
        assert_eq!(signed.manifest.tags.is_empty(), signed.manifest.leaves.is_empty(), "{}", manifest.display());
    }
    assert!(!machine.state().join("open-tags").exists());
    let answer = machine.json(&["audit"], 0);
    assert_eq!(number(&answer["untagged"]), 0, "{answer:#}");
}

#[test]
fn what_waits_here_is_not_asked_for_and_an_empty_vault_proves_nothing() {
    let machine = Machine::in_memory(seed(8));
    machine.json(&["init"], 0);
    let args = ["audit"];
    let out = machine.run(&args);
    assert!(out.status.success(), "{}", show(&args, &out));
    assert!(machine.json(&["audit", "--history"], 0)["audits"].as_array().unwrap().is_empty());
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 10, 1 << 20);
    machine.backup();
    let before = machine.json(&["audit"], 0);
    for n in 0..4 {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
    }
    fs::write(machine.src().join("new"), "new").unwrap();
    machine.json(&["backup", "src"], 0);
    for n in 0..4 {
        fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).unwrap();
    }
    let after = machine.json(&["audit"], 0);
    assert_eq!(before["packs"], after["packs"], "{after:#}");
}

#[test]
fn over_a_link_all_is_proved_and_what_is_gone_there_is_named_here() {
    let pair = Pair::new(0xa0d1);
    common::fill(&pair.machine.src(), &mut Chance::new(pair.machine.seed), 40, 8 << 20);
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(Duration::from_secs(60)), Some(0));
    pair.knows(&address);
    let answer = pair.machine.json(&["audit"], 0);
    assert_eq!((number(&answer["answers"]), number(&answer["untagged"])), (1, 0), "{answer:#}");
    assert!(number(&answer["packs"]) > 0 && number(&answer["received"]) <= 16_500, "{answer:#}");
    assert_eq!(still_there(&pair.machine)["packs"], answer["packs"]);
    // Asked by one who was killed, and by the next: the vault answers the same.
    pair.machine.killed(&["audit"], Duration::from_millis(30));
    pair.machine.json(&["audit"], 0);
    vault.stop();

    let packs = shards_below(pair.far().join("drives"), ObjectKind::Pack);
    let (pack, files) = &packs[packs.len() / 2];
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    let answer = pair.machine.json(&["audit"], 5);
    assert_eq!(bad(&answer, "lost"), [pack.clone()].into(), "{answer:#}");
    vault.stop();
}

#[test]
fn a_sample_shows_what_is_there_names_what_is_not_and_is_checked_by_a_stranger() {
    let machine = small(0x51);
    let packs = shards(&machine, ObjectKind::Pack);
    let answer = machine.json(&["audit", "--spot", "300", "--save", "sample"], 0);
    assert_eq!((number(&answer["slices"]), number(&answer["packs"])), (300, packs.len() as u64), "{answer:#}");
    let certainty = answer["certainty"].as_f64().unwrap();
    assert!((certainty - (1.0 - 0.99f64.powi(300))).abs() < 1e-9);
    let received = number(&answer["received"]);
    assert!((300 * 1024..300 * 1700).contains(&received), "{received}");
    // By size, and what makes no sense.
    assert!((100..=130).contains(&number(&machine.json(&["audit", "--spot", "200KB"], 0)["slices"])));
    for bad in ["0", "1025", "5GB", "many"] {
        assert_eq!(machine.run(&["audit", "--spot", bad]).status.code(), Some(2), "{bad}");
    }
    // A stranger has the file alone.
    let stranger = |file: &str| {
        let mut command = machine.command(&["verify", file, "--json"]);
        for name in ["VAULT", "STATE", "KEYS"] {
            command.env(format!("LAVATUBE_{name}"), "/nowhere");
        }
        machine.read(&["verify", file], &common::output(command))
    };
    let (status, seen) = stranger("sample");
    assert_eq!((status, number(&seen["slices"]), seen["manifests"].as_array().unwrap().len()), (0, 300, 2), "{seen:#}");
    let whole = fs::read(machine.path("sample")).unwrap();
    let mut chance = Chance::new(machine.seed);
    for _ in 0..40 {
        let mut changed = whole.clone();
        // Behind the date, which is a claim.
        let at = 16 + chance.below(whole.len() - 16);
        changed[at] ^= 1 << chance.below(8);
        fs::write(machine.path("changed"), changed).unwrap();
        let (status, answer) = stranger("changed");
        // What changes in a manifest is another manifest: its id is told, and the picks are others if its packs are.
        let other = answer["manifests"].is_array() && answer["manifests"] != seen["manifests"];
        assert!(status == 16 || other, "byte {at}: {answer:#}");
    }
    fs::write(machine.path("cut"), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(stranger("cut").0, 16);
    // Of a pack that is gone nothing is shown, of the others all.
    let (lost, files) = packs.iter().max_by_key(|(_, files)| files[0].metadata().unwrap().len()).unwrap();
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    let answer = machine.json(&["audit", "--spot", "200", "--save", "lacking"], 5);
    let missed = answer["missed"].as_array().unwrap();
    assert!(!missed.is_empty() && missed.iter().all(|m| m["pack"] == **lost), "{answer:#}");
    let (status, answer) = stranger("lacking");
    assert_eq!(status, 16, "{answer:#}");
    assert!(text(&answer["error"]["message"]).contains("were not shown"), "{answer:#}");
}
