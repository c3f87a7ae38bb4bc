//! Daemons of a link that stand still for a while, as with a laptop's lid closed, and two of them on one folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::time::Duration;

use common::facts::{assert_same, look};
use common::pair::{Pair, Running};
use common::{Chance, text, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(80);
/// Longer than any patience of the link.
const STILL: Duration = Duration::from_secs(12);

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.0), signal).unwrap();
}

fn stands_still(running: &Running) {
    signal(running, Signal::STOP);
    std::thread::sleep(STILL);
    signal(running, Signal::CONT);
}

/// A machine where a backup waits that takes seconds to cross, and a vault that listens.
fn slow(own: u64) -> (Pair, Running, String) {
    let pair = Pair::new(own);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 24 << 20);
    for folder in [pair.machine.vault(), pair.far()] {
        let settings = folder.join("link.toml");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, text.replace("rate_up_bit_s = 200000000", "rate_up_bit_s = 30000000")).unwrap();
    }
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    (pair, vault, address)
}

#[test]
fn a_delivery_goes_on_when_either_daemon_has_stood_still() {
    let (pair, vault, address) = slow(0x11f1);
    let mut node = pair.start_node(&address);
    let received = || pair.far_json(&["link", "status"])["datagrams"]["received"].as_u64();
    assert!(wait_until(LONG, || received() > Some(1000)), "nothing crosses");
    stands_still(&node);
    assert_eq!(node.ends(Duration::from_millis(100)), None, "there is more to send");
    stands_still(&vault);
    assert_eq!(node.ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    pair.is_whole_there("with daemons that stood still");
}

#[test]
fn a_restore_goes_on_when_the_vaults_daemon_has_stood_still() {
    let (pair, vault, address) = slow(0x11f2);
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    let target = pair.machine.path("back");
    let mut restore = Running(pair.machine.start(&["restore", "latest", "--target", target.to_str().unwrap()]));
    let parts = pair.machine.state().join("desk/parts");
    assert!(wait_until(LONG, || parts.is_dir() && !common::files_below(&parts).is_empty()), "nothing comes");
    stands_still(&vault);
    assert_eq!(restore.ends(LONG), Some(0));
    assert_same(&look(&pair.machine.src()), &target.join("src"), "with a daemon that stood still");
    vault.stop();
}

#[test]
fn a_second_daemon_of_a_folder_is_told_who_is_the_first() {
    let (pair, vault, address) = slow(0x11f3);
    let node = Running(pair.machine.start(&["node"]));
    assert!(wait_until(LONG, || pair.machine.answer(&["link", "status"]).1["age_s"] == 0));
    for (failure, first, command) in [
        (pair.machine.json(&["node"], 10), &node, "lavatube node"),
        (pair.far_json_status(&["vault", "serve"], 10), &vault, "lavatube vault serve"),
        (pair.far_json_status(&["vault", "serve", "--listen", &address], 10), &vault, "lavatube vault serve"),
    ] {
        let message = text(&failure["error"]["message"]);
        let pid = format!("pid {}", first.0.id());
        assert!(message.contains(command) && message.contains(&pid), "{message}");
    }
    node.stop();
    vault.stop();
}
