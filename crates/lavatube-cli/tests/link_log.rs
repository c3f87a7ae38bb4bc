//! The log of a vault at the other end of a link: asked for at each contact, and an alarm stops what is sent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::time::Duration;

use common::pair::Pair;
use common::{Chance, copy_folder, number, text, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A backup, and a contact in which it crosses.
#[track_caller]
fn cross(pair: &Pair, round: u64, status: i32) {
    let mut chance = Chance::new(pair.machine.seed ^ round);
    fs::write(pair.machine.path(&format!("src/new{round}")), chance.noise(20_000)).unwrap();
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(status), "round {round}");
    vault.stop();
}

#[test]
fn a_far_vault_that_is_put_back_is_found_out_at_the_next_contact() {
    let pair = Pair::new(0x311);
    common::fill(&pair.machine.src(), &mut Chance::new(pair.machine.seed), 10, 200_000);
    (0..3).for_each(|round| cross(&pair, round, 0));
    let seen = |pair: &Pair| number(&pair.machine.json(&["log"], 0)["seen"]["size"]);
    assert!(seen(&pair) >= 3, "two manifests and a card at least were there when it was last asked");
    // The drives alone: a vault whose counters are put back as well is not heard any more.
    let (drives, older) = (pair.far().join("drives"), pair.machine.path("older"));
    copy_folder(&drives, &older);
    (3..6).for_each(|round| cross(&pair, round, 0));
    fs::remove_dir_all(&drives).unwrap();
    fs::rename(&older, &drives).unwrap();
    cross(&pair, 6, 14);
    for args in [&["status"][..], &["log"]] {
        pair.machine.json(args, 14);
    }
    let answer = pair.machine.json(&["backup", "src"], 14);
    assert!(text(&answer["error"]["message"]).contains("put back to an older state"), "{answer:#}");
    // A daemon that runs on tells it, too, and sends nothing.
    let (vault, address) = pair.serve("127.0.0.1:0");
    let waiting = pair.spooled();
    let node = common::pair::Running(pair.machine.start(&["node", "--peer", &address]));
    let told = wait_until(LONG, || pair.machine.answer(&["link", "status"]).1["log"]["verdict"] == "alarm");
    assert!(told && pair.spooled() == waiting);
    node.stop();
    vault.stop();
    let accepted = pair.machine.json(&["log", "accept"], 0);
    assert_eq!(accepted["accepted"], true);
    cross(&pair, 7, 0);
    assert!(pair.machine.json(&["log"], 0)["alarm"].is_null());
    // What the vault lacks now is a matter of what it holds, not of its log.
    assert_eq!(pair.spooled(), 0);
}
