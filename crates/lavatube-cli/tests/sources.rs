//! What a backup is of: never the program's own folders, links as POSIX resolves them, file systems that are mounted below.
//!
//! The source of truth is what `ls` lists afterwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use common::{Machine, is_root, number, output, paths, show, skipped};

/// The command as a user has it who set nothing: all places are below `home`.
fn at_home(machine: &Machine, home: &Path, args: &[&str]) -> Command {
    let mut command = machine.command(args);
    for name in ["VAULT", "STATE", "KEYS"] {
        command.env_remove(format!("LAVATUBE_{name}"));
    }
    command.env("HOME", home);
    command
}

/// Backs up `home` on a machine that has never run the command, twice, and lists what came of it.
#[track_caller]
fn own_folders_are_left_out(machine: &Machine, home: &Path) {
    fs::write(home.join("letter"), "Dear Ann").unwrap();
    for source in [home.to_str().unwrap(), "."] {
        let args = ["backup", source];
        let out = output(at_home(machine, home, &args));
        assert_eq!(out.status.code(), Some(0), "{}", show(&args, &out));
        let args = ["ls", "-R", "latest", "--json"];
        let out = output(at_home(machine, home, &args));
        let listed = paths(&machine.read(&args, &out).1["entries"]);
        assert!(listed.iter().any(|p| p.ends_with("/letter")), "{listed:?}");
        let folder =
            |name: &str| listed.iter().find(|p| p.contains(&format!("/{name}/")) || p.contains("recovery-key"));
        assert_eq!(["lavatube/vault", "lavatube/keys", "state/lavatube", "elsewhere/lavatube"].map(folder), [None; 4]);
    }
}

#[test]
fn a_first_backup_of_the_home_leaves_out_the_folders_that_it_makes_itself() {
    let machine = Machine::new(81);
    let home = machine.path("h");
    fs::create_dir(&home).unwrap();
    own_folders_are_left_out(&machine, &home);
}

#[test]
fn folders_of_ours_are_left_out_by_whatever_link_they_are_named() {
    let machine = Machine::new(82);
    let home = machine.path("h");
    fs::create_dir_all(home.join("elsewhere")).unwrap();
    fs::create_dir(home.join(".local")).unwrap();
    symlink("../elsewhere", home.join(".local/state")).unwrap();
    symlink("h", machine.path("link")).unwrap();
    own_folders_are_left_out(&machine, &machine.path("link/"));
}
