//! Disks that fail under the daemons of a link: what they cannot write or read they say, and go on with the rest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::mount::Mount;
use common::pair::{Pair, Running};
use common::{Chance, text, wait_until};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// A daemon, and what it said.
struct Daemon {
    running: Running,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Daemon {
    fn node(pair: &Pair) -> Self {
        let mut command = pair.machine.command(&["node", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| heard.lock().unwrap().push(serde_json::from_str(&line).unwrap()));
        });
        Self { running: Running(child), said }
    }

    fn count(&self, event: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|said| said["event"] == event).count()
    }
}

/// A vault that listens, and a machine where a backup waits for it.
fn waiting(own: u64) -> (Pair, Running) {
    let pair = Pair::new(own);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 12 << 20);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    pair.machine.backup();
    (pair, vault)
}

fn spooled(pair: &Pair, kind: &str) -> Vec<PathBuf> {
    common::files_below(&pair.machine.state().join("spool").join(kind))
}

#[test]
fn a_ledger_that_cannot_grow_keeps_what_waits_and_nothing_else() {
    let (pair, vault) = waiting(0x11e1);
    let before = pair.spooled();
    let ledger = pair.machine.state().join("ledger");
    fs::create_dir(&ledger).unwrap();
    assert_eq!(Running(pair.machine.start(&["node", "--once"])).ends(LONG), Some(1));
    assert_eq!(pair.spooled(), before, "nothing leaves without a receipt on the disk");
    let node = Daemon::node(&pair);
    assert!(wait_until(LONG, || node.count("not_noted") > 0));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((pair.spooled(), node.count("not_noted"), node.count("receipted")), (before, 1, 0), "said once");
    fs::remove_dir(&ledger).unwrap();
    assert!(wait_until(LONG, || pair.spooled() == 0), "{} left", pair.spooled());
    assert!(wait_until(LONG, || node.count("receipted") == before));
    node.running.stop();
    vault.stop();
    pair.is_whole_there("with a ledger that could not grow");
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_does_not_end_the_node() {
    let test = "a_disk_that_is_full_to_the_last_byte_does_not_end_the_node";
    if !common::is_root(test) {
        return;
    }
    let pair = Pair::new(0x11e2);
    let Some(_mount) = Mount::new(&pair.machine.path("state"), "64m") else {
        return common::skipped(test, "tmpfs cannot be mounted here");
    };
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 12 << 20);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    pair.machine.backup();
    let before = pair.spooled();
    let junk = pair.machine.state().join("junk");
    assert!(fs::write(&junk, vec![0; 64 << 20]).is_err());
    let mut node = Daemon::node(&pair);
    assert!(wait_until(LONG, || node.count("not_noted") > 0), "{:?}", node.said.lock().unwrap());
    assert_eq!((node.running.ends(Duration::from_secs(3)), pair.spooled()), (None, before));
    fs::remove_file(junk).unwrap();
    assert!(wait_until(LONG, || pair.spooled() == 0), "{} left", pair.spooled());
    node.running.stop();
    vault.stop();
}

#[test]
fn an_object_that_cannot_be_read_is_told_and_does_not_keep_others() {
    let (pair, vault) = waiting(0x11e3);
    let packs = spooled(&pair, "packs");
    assert!(packs.len() >= 2, "{packs:?}");
    // What is longer than any object cannot be read, whoever one is; the other one has rotted.
    let (unreadable, damaged, aside) = (&packs[0], &packs[1], pair.machine.path("aside"));
    fs::rename(unreadable, &aside).unwrap();
    fs::File::create(unreadable).unwrap().set_len(1 << 40).unwrap();
    let right = fs::read(damaged).unwrap();
    let mut wrong = right.clone();
    wrong[77] ^= 1;
    fs::write(damaged, wrong).unwrap();
    let node = Daemon::node(&pair);
    assert!(wait_until(LONG, || node.count("unreadable") == 1 && node.count("damaged") == 1));
    let left = || spooled(&pair, "packs").len();
    assert!(wait_until(LONG, || left() == 2), "others leave: {} left", left());
    assert!(wait_until(LONG, || pair.machine.json(&["status"], 0)["stuck"] == 2));
    let stuck = pair.machine.json(&["link", "status"], 0)["stuck"].clone();
    assert!(stuck.as_array().unwrap().iter().all(|one| !text(&one["reason"]).is_empty()), "{stuck:#}");
    let words = pair.machine.run(&["link", "status"]);
    assert!(String::from_utf8_lossy(&words.stdout).contains("here cannot be sent"), "{words:?}");
    fs::rename(&aside, unreadable).unwrap();
    fs::write(damaged, right).unwrap();
    assert!(wait_until(LONG + LONG, || pair.spooled() == 0), "{} left", pair.spooled());
    assert_eq!((node.count("unreadable"), node.count("damaged")), (1, 1), "said once");
    assert!(wait_until(LONG, || pair.machine.json(&["status"], 0)["stuck"] == 0));
    node.running.stop();
    vault.stop();
    pair.is_whole_there("with objects that could not be read for a while");
}

#[test]
fn a_seed_is_not_forgotten_while_another_command_works_with_the_state() {
    let (pair, vault) = waiting(0x11e4);
    let disk = pair.machine.path("disk");
    fs::create_dir(&disk).unwrap();
    pair.machine.json(&["seed", "export", disk.to_str().unwrap()], 0);
    let lock = fs::File::options().append(true).open(pair.machine.state().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let failure = pair.machine.json(&["seed", "forget"], 10);
    assert_eq!(failure["error"]["code"], "locked", "{failure:#}");
    drop(lock);
    assert!(common::number(&pair.machine.json(&["seed", "forget"], 0)["objects"]) > 0);
    vault.stop();
}

#[test]
fn a_restore_for_which_there_is_no_room_says_so_before_it_asks() {
    let test = "a_restore_for_which_there_is_no_room_says_so_before_it_asks";
    if !common::is_root(test) {
        return;
    }
    let (pair, vault) = waiting(0x11e5);
    assert_eq!(Running(pair.machine.start(&["node", "--once"])).ends(LONG), Some(0));
    let state = pair.machine.path("state");
    let aside = pair.machine.path("state-before");
    fs::rename(&state, &aside).unwrap();
    let Some(mount) = Mount::new(&state, "64m") else {
        return common::skipped(test, "tmpfs cannot be mounted here");
    };
    for entry in fs::read_dir(&aside).unwrap() {
        let path = entry.unwrap().path();
        common::copy_folder(&path, &state.join(path.file_name().unwrap()));
    }
    let used: u64 = common::files_below(&state).iter().map(|file| file.metadata().unwrap().len()).sum();
    mount.resize(&format!("{}k", (used >> 10) + 4096));
    let target = pair.machine.path("back");
    let restore = ["restore", "latest", "--target", target.to_str().unwrap()];
    let failure = pair.machine.json(&restore, 13);
    assert_eq!(failure["error"]["code"], "full", "{failure:#}");
    assert!(text(&failure["error"]["message"]).contains("MiB left"), "{failure:#}");
    mount.resize("64m");
    pair.machine.json(&restore, 0);
    vault.stop();
}

#[test]
fn what_was_lost_there_is_taken_anew_when_it_comes_again() {
    let (pair, vault) = waiting(0x11e6);
    let (spool, aside) = (pair.machine.state().join("spool"), pair.machine.path("aside"));
    common::copy_folder(&spool, &aside);
    assert_eq!(Running(pair.machine.start(&["node", "--once"])).ends(LONG), Some(0));
    vault.stop();
    let pack = common::files_below(&aside.join("packs")).remove(0);
    let pack = pack.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned();
    let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
    let shards = common::files_below(&pair.far()).into_iter().filter(|file| name(file).starts_with(&pack));
    assert!(shards.map(|shard| fs::remove_file(shard).unwrap()).count() > 2);
    pair.far_json_status(&["check"], 5);
    // As after a power cut that undid that the spool let go of it.
    fs::remove_dir_all(&spool).unwrap();
    common::copy_folder(&aside, &spool);
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    pair.is_whole_there("with a pack that was lost and came again");
}
