//! What a repair must not make worse, and what a check must not call harmless.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::facts::{assert_same, look};
use common::{Chance, Machine, files_below, seed, text};
use lavatube_format::shard::ShardHeader;
use serde_json::Value;

fn small(seed: u64) -> Machine {
    let machine = Machine::in_memory(seed);
    common::fill(&machine.src(), &mut Chance::new(seed), 20, 400_000);
    machine.backup();
    machine
}

/// Damages all of a file but its two headers, which stay as they are.
fn damage_body(shard: &Path) {
    let mut bytes = fs::read(shard).unwrap();
    let len = bytes.len();
    let header = ShardHeader::len_in_file(len as u64).unwrap();
    bytes[header..len - header].iter_mut().for_each(|b| *b ^= 0x55);
    fs::write(shard, bytes).unwrap();
}

/// Exchanges two drives in the vault's list.
fn swap_in_list(machine: &Machine, a: &str, b: &str) {
    let list = machine.path("vault/vault.toml");
    let swapped = fs::read_to_string(&list).unwrap().replace(a, "\0").replace(b, a).replace('\0', b);
    fs::write(&list, swapped).unwrap();
}

fn shards_of(machine: &Machine, drive: usize) -> Vec<PathBuf> {
    files_below(&machine.drive(drive).join("shards"))
}

#[test]
fn drives_listed_in_another_order_get_back_their_own_cards() {
    let machine = small(seed(61));
    let want = look(&machine.src());
    swap_in_list(&machine, "drives/d0", "drives/d1");
    for drive in [0, 1] {
        fs::write(machine.drive(drive).join("drive.card"), "not a card").unwrap();
    }
    shards_of(&machine, 2).iter().for_each(|shard| damage_body(shard));
    assert_same(&want, &machine.restore("latest", "before").join("src"), "before the repair");
    let answer = machine.json(&["check", "--read-data", "--repair"], 4);
    assert_eq!(answer["repair"]["readopted"], serde_json::json!(["d0", "d1"]), "{answer:#}");
    machine.json(&["check", "--read-data"], 0);
    // Parity is whole again: any two drives may go, in whatever order they are listed.
    for away in [[0, 1], [2, 3], [1, 5]] {
        away.iter().for_each(|n| fs::rename(machine.drive(*n), machine.path(&format!("away{n}"))).unwrap());
        let target = format!("without-{}-{}", away[0], away[1]);
        assert_same(&want, &machine.restore("latest", &target).join("src"), &target);
        away.iter().for_each(|n| fs::rename(machine.path(&format!("away{n}")), machine.drive(*n)).unwrap());
    }
}

#[test]
fn an_emptied_drive_is_filled_where_it_is_and_not_where_the_list_would_have_it() {
    let machine = small(seed(62));
    let want = look(&machine.src());
    swap_in_list(&machine, "drives/d0", "drives/d1");
    let cards: Vec<_> = (0..6).map(|n| fs::read(machine.drive(n).join("drive.card")).unwrap()).collect();
    fs::remove_dir_all(machine.drive(1)).unwrap();
    let answer = machine.json(&["check", "--read-data", "--repair"], 4);
    assert_eq!(answer["repair"]["readopted"], serde_json::json!(["d1"]), "{answer:#}");
    for (n, card) in cards.iter().enumerate() {
        assert_eq!(fs::read(machine.drive(n).join("drive.card")).unwrap(), *card, "d{n}");
    }
    machine.json(&["check", "--read-data"], 0);
    assert_same(&want, &machine.restore("latest", "back").join("src"), "after the repair");
}

#[test]
fn a_manifest_that_is_not_believed_is_lost_data() {
    let machine = small(seed(63));
    let snapshot = machine.snapshots().pop().unwrap();
    // Objects by the shards that have them: the manifest is the one that `check` does not name as pack.
    let mut shards: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for shard in (0..6).flat_map(|n| shards_of(&machine, n)) {
        let object = shard.file_stem().unwrap().to_string_lossy().into_owned();
        shards.entry(object).or_default().push(shard);
    }
    for drive in 0..3 {
        shards_of(&machine, drive).iter().for_each(|shard| damage_body(shard));
    }
    let found = machine.json(&["check", "--read-data"], 5);
    let kinds = found["not_whole"].as_array().unwrap().iter().map(|o| (text(&o["object"]), text(&o["kind"])));
    let kinds: BTreeMap<_, _> = kinds.collect();
    let is_manifest = |object: &String| kinds[object] == "manifest";
    // Only the manifests stay damaged.
    for (_, paths) in shards.iter().filter(|(object, _)| !is_manifest(object)) {
        paths.iter().filter(|path| (0..3).any(|n| path.starts_with(machine.drive(n)))).for_each(|p| damage_body(p));
    }
    fs::remove_dir_all(machine.path("state")).unwrap();
    // Shards' heads are whole; who needs the manifest finds out.
    let answer = machine.json(&["check"], 5);
    assert_eq!(answer["structure"]["snapshots"], 0, "{answer:#}");
    assert_eq!(answer["structure"]["refused"].as_array().unwrap().len(), 1, "{answer:#}");
    let said = machine.run(&["check"]);
    assert_eq!(said.status.code(), Some(5));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("is not believed") && said.contains("Data are lost."), "{said}");
    assert!(!said.contains("no file is lost") && !said.contains("Everything that is not named"), "{said}");
    let (_, status): (_, Value) = machine.answer(&["status"]);
    assert_eq!(status["checked"]["verdict"], "lost", "{status:#}");
    assert_ne!(machine.answer(&["restore", &snapshot, "--target", "back"]).0, 0);
}
