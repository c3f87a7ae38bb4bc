//! A vault that cannot be written to can be read: on a read-only medium, and by a user with no more than read rights.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::facts::{assert_same, look};
use common::{Chance, Machine, has_program, is_root, output, seed, show, skipped};

/// A second view of a folder that cannot be written to.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(of: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let done = |command: &mut Command| command.output().is_ok_and(|o| o.status.success());
        done(Command::new("mount").arg("--bind").args([of, at])).then_some(())?;
        let mounted = Self(at.to_owned());
        done(Command::new("mount").args(["-o", "remount,ro,bind"]).arg(at)).then_some(mounted)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A machine with some files, backed up.
fn saved(own: u64) -> Machine {
    let machine = Machine::new(seed(own));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 30, 1 << 20);
    machine.backup();
    machine
}

#[test]
fn a_vault_on_a_read_only_medium_is_listed_checked_and_restored() {
    let test = "a_vault_on_a_read_only_medium_is_listed_checked_and_restored";
    if !is_root(test) {
        return;
    }
    let machine = saved(83);
    for lock in ["with its lock", "without"] {
        if lock == "without" {
            fs::remove_file(machine.vault().join("lock")).unwrap();
        }
        let Some(ro) = ReadOnly::new(&machine.vault(), &machine.path("ro")) else {
            return skipped(test, "nothing can be mounted here");
        };
        let vault = ro.0.to_str().unwrap();
        machine.json(&["snapshots", "--vault", vault], 0);
        machine.json(&["ls", "latest", "--vault", vault], 0);
        machine.json(&["status", "--vault", vault], 0);
        machine.json(&["check", "--read-data", "--vault", vault], 0);
        assert!(machine.run(&["cat", "latest:src/large-prose", "--vault", vault]).status.success());
        let back = machine.path("back");
        machine.json(&["restore", "latest", "--target", "back", "--vault", vault], 0);
        assert_same(&look(&machine.src()), &back.join("src"), lock);
        fs::remove_dir_all(back).unwrap();
        let refused = machine.json(&["backup", "src", "--vault", vault], 1);
        assert_eq!(refused["error"]["code"], "io", "what writes says so: {refused:#}");
    }
    machine.backup();
}

#[test]
fn a_user_with_read_rights_only_can_list_and_restore() {
    let test = "a_user_with_read_rights_only_can_list_and_restore";
    if !is_root(test) || !has_program(test, "setpriv") {
        return;
    }
    let machine = saved(84);
    fs::create_dir(machine.path("theirs")).unwrap();
    // The program may lie in a folder of ours.
    fs::copy(env!("CARGO_BIN_EXE_lavatube"), machine.path("lavatube")).unwrap();
    let sh = "chmod 755 . && chmod -R a+rX vault lavatube && cp -a keys theirs && chown -R 65534:65534 theirs";
    assert!(Command::new("sh").args(["-c", sh]).current_dir(machine.dir.path()).status().unwrap().success());
    let run = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(machine.path("lavatube"));
        let mut command = machine.wrapped(command, args);
        command.env("LAVATUBE_STATE", machine.path("theirs/state")).env("LAVATUBE_KEYS", machine.path("theirs/keys"));
        let out = output(command);
        assert_eq!(out.status.code(), Some(0), "{}", show(args, &out));
    };
    run(&["snapshots"]);
    run(&["restore", "latest", "--target", "theirs/back"]);
    fs::remove_file(machine.vault().join("lock")).unwrap();
    run(&["check"]);
    run(&["status"]);
    assert!(!machine.vault().join("lock").exists());
}
