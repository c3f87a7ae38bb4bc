//! Each single file of a vault's own is taken away, emptied, or has a bit flipped, in its folder and on its drives: it is healed, or named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::facts::{assert_same, look};
use common::pair::Pair;
use common::{Chance, Machine, files_below, number, seed, text};

const LONG: Duration = Duration::from_secs(60);

/// Files of which only history is lost with them, or nothing.
const HISTORY: [&str; 4] = ["scrubs", "scrubs.lock", "orders", "orders.lock"];

fn harm(file: &Path, way: usize, chance: &mut Chance) {
    match way {
        0 => fs::remove_file(file).unwrap(),
        1 => fs::write(file, "").unwrap(),
        _ => {
            let mut bytes = fs::read(file).unwrap();
            if !bytes.is_empty() {
                let at = chance.below(bytes.len());
                bytes[at] ^= 1 << chance.below(8);
            }
            fs::write(file, bytes).unwrap();
        }
    }
}

#[test]
fn any_file_of_a_vault_that_is_lost_or_flipped_is_healed_from_what_else_there_is() {
    let machine = Machine::in_memory(seed(0x0f11));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 8, 60_000);
    machine.backup();
    machine.json(&["vault", "scrub"], 0);
    machine.json(&["vault", "orders", "claim", "add-drives"], 0);
    let want = look(&machine.src());
    let mut chance = Chance::new(machine.seed);
    let files = files_below(&machine.vault());
    let names: Vec<String> =
        files.iter().map(|f| f.strip_prefix(machine.vault()).unwrap().display().to_string()).collect();
    for name in ["vault.toml", "vault.key", "vault.toml.copy", "vault.key.copy", "lock", "scrubs", "orders"] {
        assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
    }
    let (mut own, mut shards) = (0, 0);
    for (file, name) in files.iter().zip(&names) {
        let is_shard = common::is_shard(file);
        // Of shards a few stand for all: they have tests of their own.
        if is_shard && chance.below(8) > 0 {
            continue;
        }
        (own, shards) = (own + usize::from(!is_shard), shards + usize::from(is_shard));
        let before = fs::read(file).unwrap();
        for way in 0..3 {
            harm(file, way, &mut chance);
            let what = format!("{name}, way {way}, seed {:#x}", machine.seed);
            let back = machine.restore("latest", "back");
            assert_same(&want, &back.join("src"), &what);
            fs::remove_dir_all(back).unwrap();
            let (status, answer) = machine.answer(&["vault", "scrub"]);
            assert!([0, 4].contains(&status), "{what}: {answer:#}");
            assert_eq!((number(&answer["scrub"]["left"]), number(&answer["scrub"]["lost"])), (0, 0), "{what}");
            assert_eq!(machine.answer(&["vault", "status"]).0, 0, "{what}");
            let is_history = HISTORY.contains(&name.as_str()) || name == "lock";
            assert!(is_history || fs::read(file).unwrap() == before, "{what}: it is not what it was");
        }
    }
    assert!(own >= 6 * 3 + 7 && shards > 2, "{own} own files and {shards} shards");
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn what_is_lost_with_its_copy_is_named_with_what_to_do() {
    let machine = Machine::in_memory(seed(0x0f12));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 4, 20_000);
    machine.backup();
    for name in ["vault.key", "vault.key.copy"] {
        fs::remove_file(machine.vault().join(name)).unwrap();
    }
    // Reading needs no key of the vault's own.
    machine.restore("latest", "back");
    let (status, answer) = machine.answer(&["vault", "scrub"]);
    assert!(status > 5 && text(&answer["error"]["message"]).contains("vault.key"), "{answer:#}");
}

#[test]
fn two_ends_of_a_link_go_on_whatever_single_files_of_theirs_are_lost_or_flipped() {
    let pair = Pair::new(0x0f13);
    let (mut chance, machine) = (Chance::new(pair.machine.seed), &pair.machine);
    common::fill(&machine.src(), &mut chance, 4, 20_000);
    let cross = |round: usize| {
        fs::write(machine.path(&format!("src/new{round}")), [round as u8; 5000]).unwrap();
        machine.backup();
        let (vault, address) = pair.serve("127.0.0.1:0");
        pair.knows(&address);
        assert_eq!(pair.start_node(&address).ends(LONG), Some(0), "round {round}, seed {:#x}", machine.seed);
        machine.json(&["vault", "status", "--link-wait", "20"], 0);
        assert_eq!(pair.spooled(), 0, "round {round}");
        vault.stop();
    };
    cross(0);
    let (mains, copies) =
        (["link.toml", "link.key", "link/counters"], ["link.toml.copy", "link.key.copy", "link/counters.copy"]);
    let further = ["link/kept", "link/begun", "link/weather", "link/status.json", "mandates"];
    for round in 1..=4 {
        for folder in [machine.vault(), pair.far()] {
            // Of each file one of the two; what has none costs work, or history.
            for name in if round < 4 { mains } else { copies } {
                harm(&folder.join(name), round % 3, &mut chance);
            }
            for name in further.iter().filter(|name| folder.join(name).exists()) {
                harm(&folder.join(name), round % 3, &mut chance);
            }
        }
        cross(round);
        for folder in [machine.vault(), pair.far()] {
            for (main, copy) in mains.iter().zip(copies) {
                assert_eq!(
                    fs::read(folder.join(main)).unwrap(),
                    fs::read(folder.join(copy)).unwrap(),
                    "{main}, round {round}"
                );
            }
        }
    }
    pair.is_whole_there("after all of that");
}
