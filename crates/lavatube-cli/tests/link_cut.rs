//! A link that is cut while a command reads over it: daemons killed, commands killed, and what is asked for all the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::facts::{assert_same, look};
use common::mount::Mount;
use common::pair::{Pair, Running};
use common::{Chance, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A vault that has all that is here, and listens at an address that is known here. It may send `bit_s`.
fn stored(own: u64, len: usize, bit_s: u64) -> (Pair, Running, String) {
    let pair = Pair::new(own);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, len);
    fs::write(pair.machine.path("src/letter"), chance.noise(50_000)).unwrap();
    pair.machine.backup();
    let settings = pair.far().join("link.toml");
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains("rate_up_bit_s = 200000000"));
    fs::write(&settings, text.replace("rate_up_bit_s = 200000000", &format!("rate_up_bit_s = {bit_s}"))).unwrap();
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    (pair, vault, address)
}

/// Begins to restore all, and waits until something came.
fn begin(pair: &Pair) -> (Running, PathBuf) {
    let target = pair.machine.path("back");
    let restore = Running(pair.machine.start(&["restore", "latest", "--target", target.to_str().unwrap()]));
    let parts = pair.machine.state().join("desk/parts");
    assert!(wait_until(LONG, || parts.is_dir() && !common::files_below(&parts).is_empty()), "nothing comes");
    (restore, target)
}

#[test]
fn a_restore_goes_on_when_the_vaults_daemon_is_killed_and_started_again() {
    let (pair, vault, address) = stored(0x11d1, 24 << 20, 40_000_000);
    let (mut restore, target) = begin(&pair);
    vault.kill();
    let (vault, _) = pair.serve(&address);
    assert_eq!(restore.ends(LONG), Some(0));
    assert_same(&look(&pair.machine.src()), &target.join("src"), "with its daemon killed");
    vault.stop();
}

#[test]
fn a_restore_goes_on_when_whoever_turned_the_link_is_no_more() {
    let (pair, vault, address) = stored(0x11d2, 24 << 20, 40_000_000);
    let node = Running(pair.machine.start(&["node", "--peer", &address]));
    assert!(wait_until(LONG, || pair.machine.json(&["link", "status"], 0)["age_s"] == 0));
    let (mut restore, target) = begin(&pair);
    node.kill();
    assert_eq!(restore.ends(LONG), Some(0));
    assert_same(&look(&pair.machine.src()), &target.join("src"), "with the daemon killed");
    vault.stop();
}

#[test]
fn what_a_killed_command_asked_for_does_not_take_the_link_from_others() {
    let (pair, vault, _) = stored(0x11d3, 48 << 20, 6_000_000);
    let (restore, _) = begin(&pair);
    restore.kill();
    // Somebody else reads over the link; what nobody wants any more is not sent for long.
    let target = pair.machine.path("letters");
    let letter = ["restore", "latest:letter", "--link-wait", "60", "--target", target.to_str().unwrap()];
    let begun = Instant::now();
    pair.machine.json(&letter, 0);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let left = || pair.far_json(&["link", "status"])["outgoing"]["blocks"].as_u64();
    let node = Running(pair.machine.start(&["node"]));
    assert!(wait_until(Duration::from_secs(15), || left() == Some(0)), "{:?} blocks that nobody wants", left());
    node.stop();
    vault.stop();
}

#[test]
fn a_vault_that_cannot_note_how_far_the_link_came_stores_all_the_same() {
    let pair = Pair::new(0x11d4);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 8 << 20);
    pair.machine.backup();
    let (mut vault, address) = pair.serve("127.0.0.1:0");
    // Notes of counters are written beside this and put in its place, which fails as on a full disk.
    let notes = pair.far().join("link/counters");
    fs::remove_file(&notes).unwrap();
    fs::create_dir_all(notes.join("in the way")).unwrap();
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0), "{} left", pair.spooled());
    assert_eq!((pair.spooled(), vault.ends(Duration::from_millis(1500))), (0, None));
}

#[test]
fn a_disk_that_is_full_of_what_waits_does_not_keep_it_from_leaving() {
    let test = "a_disk_that_is_full_of_what_waits_does_not_keep_it_from_leaving";
    if !common::is_root(test) {
        return;
    }
    let pair = Pair::new(0x11d5);
    let mut chance = Chance::new(pair.machine.seed);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    let (disk, link) = (pair.machine.path("state"), pair.machine.vault().join("link"));
    for folder in [&disk, &link] {
        fs::create_dir_all(folder).unwrap();
    }
    let Some(_mounts) = Mount::new(&disk, "24m").map(|mount| (mount.also_at(&link), mount)) else {
        return common::skipped(test, "tmpfs cannot be mounted here");
    };
    for len in [4 << 20, 1 << 20, 64 << 10, 1 << 10] {
        let full = (0..40).any(|n| {
            let file = pair.machine.path(&format!("src/{len}-{n}"));
            fs::write(&file, chance.noise(len)).unwrap();
            let full = pair.machine.answer(&["backup", "src"]).0 == 13;
            if full {
                fs::remove_file(file).unwrap();
            }
            full
        });
        assert!(full, "there was room for all of {len}");
    }
    let waiting =
        || common::files_below(&disk).iter().filter(|file| file.components().any(|c| c.as_os_str() == "spool")).count();
    assert!(waiting() > 0);
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0), "{} left", waiting());
    assert_eq!(waiting(), 0);
    vault.stop();
}

#[test]
fn a_backup_does_not_wait_for_a_vault_that_refuses_it() {
    let pair = Pair::new(0x11d6);
    let mut chance = Chance::new(pair.machine.seed);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    // Keys that another authority vouches for.
    fs::rename(pair.machine.path("keys"), pair.machine.path("keys-before")).unwrap();
    let other = pair.machine.path("other");
    pair.machine.json(&["init", "--vault", other.to_str().unwrap()], 0);
    common::fill(&pair.machine.src(), &mut chance, 5, 100_000);
    let answer = pair.machine.json(&["backup", "src", "--wait", "there"], 12);
    assert!(common::text(&answer["error"]["message"]).contains("does not take"), "{answer:#}");
    vault.stop();
}

#[test]
fn what_is_gone_from_here_without_a_receipt_is_not_safe_there() {
    let (pair, vault, _) = stored(0x11d7, 1 << 20, 200_000_000);
    vault.kill();
    let mut chance = Chance::new(pair.machine.seed);
    fs::write(pair.machine.path("src/new"), chance.noise(100_000)).unwrap();
    let mut backup = Running(pair.machine.start(&["backup", "src", "--wait", "there"]));
    assert!(wait_until(LONG, || pair.spooled() > 1));
    // It waits by now for what it has made.
    std::thread::sleep(Duration::from_secs(2));
    fs::remove_dir_all(pair.machine.state().join("spool")).unwrap();
    assert_eq!(backup.ends(LONG), Some(12));
}
