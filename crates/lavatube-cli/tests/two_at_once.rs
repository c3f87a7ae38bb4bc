//! Two commands at once on one vault: one works, the other waits or is told who is in its way; a holder that dies frees.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::facts::{assert_same, look};
use common::{Chance, Machine, seed, show, text, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A machine with one snapshot and a source whose next backup takes a while.
fn busy(seed: u64) -> Machine {
    let machine = Machine::new(seed);
    fs::write(machine.path("src/first"), "first").unwrap();
    machine.backup();
    let mut chance = Chance::new(seed);
    for i in 0..6 {
        fs::write(machine.path(&format!("src/noise{i}")), chance.noise(3 << 20)).unwrap();
    }
    machine
}

/// A command that holds the vault, stopped in its middle; killed at the latest when dropped.
struct Holder(Child);

impl Holder {
    fn stopped(machine: &Machine, args: &[&str]) -> Self {
        let child = machine.start(args);
        let holder = Self(child);
        let lock = machine.path("vault/lock");
        let own = format!("{}\t", holder.0.id());
        assert!(wait_until(Duration::from_secs(20), || fs::read_to_string(&lock).unwrap().contains(&own)));
        holder.signal(Signal::STOP);
        assert!(fs::read_to_string(&lock).unwrap().contains(&own), "it was stopped while it held the lock");
        holder
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn finish(mut self) -> Option<i32> {
        self.signal(Signal::CONT);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn names(failure: &Value, holder: &Holder, command: &str) {
    assert_eq!(text(&failure["error"]["code"]), "locked");
    let message = text(&failure["error"]["message"]);
    let pid = format!("pid {}", holder.0.id());
    assert!(message.contains(&pid) && message.contains(command), "who holds it: {message}");
    assert!(message.contains(" s") || message.contains("min"), "and for how long: {message}");
    assert!(text(&failure["error"]["hint"]).contains("--lock-wait"), "{failure:#}");
}

#[test]
fn a_second_writer_is_told_who_holds_the_vault_and_changes_nothing() {
    let machine = busy(seed(51));
    let holder = Holder::stopped(&machine, &["backup", "src"]);
    for args in [&["backup", "src"][..], &["check", "--repair"], &["init"]] {
        let (status, answer) = machine.answer(args);
        if args == ["init"] && status == 0 {
            assert_eq!(answer["vault"]["made"], false, "nothing to do, nothing to wait for");
            continue;
        }
        assert_eq!(status, 10, "{args:?}: {answer:#}");
        names(&answer, &holder, "lavatube backup");
    }
    let want = look(&machine.src());
    assert_eq!(holder.finish(), Some(0), "the holder was not disturbed");
    assert_eq!(machine.snapshots().len(), 2);
    assert_same(&want, &machine.restore("latest", "back").join("src"), "what the holder took");
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn readers_wait_for_a_writer_or_are_told() {
    let machine = busy(seed(52));
    let holder = Holder::stopped(&machine, &["backup", "src"]);
    for args in [&["restore", "latest", "--target", "back"][..], &["snapshots"], &["check"]] {
        let answer = machine.json(args, 10);
        names(&answer, &holder, "lavatube backup");
    }
    assert!(!machine.path("back").exists() || fs::read_dir(machine.path("back")).unwrap().next().is_none());
    // With patience a restore sees either the state before or after, whole.
    let waiting = machine.command(&["restore", "latest", "--target", "back", "--lock-wait", "60"]);
    let waiting = std::thread::spawn(move || common::output(waiting));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished(), "it waits");
    assert_eq!(holder.finish(), Some(0));
    let out = waiting.join().unwrap();
    assert!(out.status.success(), "{}", show(&[], &out));
    assert_same(&look(&machine.src()), &machine.path("back/src"), "after waiting");
    // A writer waits for a reader as well.
    let reader = Holder::stopped(&machine, &["check", "--read-data"]);
    let answer = machine.json(&["backup", "src"], 10);
    names(&answer, &reader, "lavatube check");
    assert_eq!(reader.finish(), Some(0));
}

#[test]
fn a_killed_holder_is_in_nobodys_way() {
    let machine = busy(seed(53));
    for round in 0..4 {
        let holder = Holder::stopped(&machine, &["backup", "src"]);
        assert_eq!(machine.json(&["snapshots"], 10)["exit"], 10);
        holder.signal(Signal::KILL);
        drop(holder);
        let begin = Instant::now();
        let snapshots = machine.snapshots();
        assert!(begin.elapsed() < Duration::from_secs(10), "round {round}: nobody waits for the dead");
        assert_eq!(snapshots.len(), 1, "and half a snapshot is none");
    }
    machine.backup();
    assert_same(&look(&machine.src()), &machine.restore("latest", "back").join("src"), "at last");
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn many_at_once_all_get_their_turn_when_they_wait() {
    let machine = busy(seed(54));
    let run = |args: &'static [&'static str]| {
        let mut command = machine.command(args);
        command.args(["--lock-wait", "80", "--json"]);
        std::thread::spawn(move || (args, common::output(command)))
    };
    let all: Vec<_> = [
        &["backup", "src", "--tag", "a"][..],
        &["backup", "src/first", "--tag", "b"],
        &["restore", "latest", "--target", "back1"],
        &["backup", "src", "--tag", "c"],
        &["check", "--read-data"],
        &["check", "--repair"],
        &["snapshots"],
    ]
    .into_iter()
    .map(run)
    .collect();
    for one in all {
        let (args, out) = one.join().unwrap();
        assert!(out.status.success(), "{}", show(args, &out));
    }
    assert_eq!(machine.snapshots().len(), 4);
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn first_runs_at_once_make_one_set_of_keys_and_its_recovery_key_opens_all() {
    for round in 0..6 {
        let machine = Machine::in_memory(seed(55));
        fs::write(machine.path("src/file"), "first of all").unwrap();
        let first_run = |vault: &str| {
            let command = machine.command(&["backup", "src", "--vault", vault, "--json"]);
            std::thread::spawn(move || common::output(command))
        };
        for run in ["one", "two", "three"].map(first_run) {
            let out = run.join().unwrap();
            assert!(out.status.success(), "round {round}: {}", show(&["backup"], &out));
        }
        // All is lost but the paper.
        let paper = fs::read(machine.path("keys/recovery-key.txt")).unwrap();
        ["keys", "state"].iter().for_each(|folder| fs::remove_dir_all(machine.path(folder)).unwrap());
        let mut import = machine.command(&["key", "import-recovery"]);
        let mut import = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(&paper).unwrap();
        assert!(import.wait().unwrap().success());
        for vault in ["one", "two", "three"] {
            let target = format!("back-{vault}");
            machine.json(&["restore", "latest", "--target", &target, "--vault", vault], 0);
            assert_same(&look(&machine.src()), &machine.path(&target).join("src"), vault);
        }
    }
}
