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

#[test]
fn a_link_is_followed_with_a_slash_behind_it_and_warned_of_without() {
    let machine = Machine::new(85);
    fs::create_dir_all(machine.path("disk/Documents")).unwrap();
    fs::write(machine.path("disk/Documents/letter"), "Dear Ann").unwrap();
    symlink("disk", machine.path("lnk")).unwrap();
    symlink("Documents", machine.path("disk/docs")).unwrap();
    symlink("disk/Documents/letter", machine.path("letter")).unwrap();
    for source in ["lnk/docs/", "lnk/docs/.", "lnk/Documents/", "lnk/Documents"] {
        let out = machine.run(&["backup", source]);
        assert_eq!(out.status.code(), Some(0), "{}", show(&[source], &out));
        assert!(!show(&[], &out).contains("symbolic link"), "{}", show(&[source], &out));
        let listed = paths(&machine.json(&["ls", "-R", "latest"], 0)["entries"]);
        assert!(listed.iter().any(|p| p.ends_with("/disk/Documents/letter")), "{source}: {listed:?}");
    }
    for (source, remedy) in [("lnk/docs", "write lnk/docs/ to save"), ("letter", "name what it leads to")] {
        let out = machine.run(&["backup", source, "--allow-empty", "--quiet"]);
        assert_eq!(out.status.code(), Some(0), "{}", show(&[source], &out));
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(told.contains("symbolic link, and only the link is saved") && told.contains(remedy), "{told}");
        let listed = machine.json(&["ls", "-R", "latest"], 0);
        assert_eq!(listed["entries"][0]["type"], "symlink", "{listed:#}");
    }
    // What is no folder cannot have a slash behind it.
    machine.json(&["backup", "letter/"], 1);
}

#[test]
fn a_file_system_that_is_not_crossed_leaves_its_mount_point() {
    let test = "a_file_system_that_is_not_crossed_leaves_its_mount_point";
    if !is_root(test) {
        return;
    }
    let machine = Machine::new(86);
    let mount = machine.path("src/disk");
    fs::create_dir(&mount).unwrap();
    fs::write(machine.path("src/letter"), "Dear Ann").unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&mount).output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        return skipped(test, "tmpfs cannot be mounted here");
    }
    fs::write(mount.join("inside"), "not this").unwrap();
    let saved = machine.answer(&["backup", "src", "-x"]);
    let crossed = machine.answer(&["backup", "src"]);
    let _ = Command::new("umount").arg("-l").arg(&mount).status();
    let counted =
        |answer: &serde_json::Value| [&answer["files"], &answer["directories"], &answer["excluded"]].map(number);
    assert_eq!((saved.0, counted(&saved.1)), (0, [1, 2, 1]), "{:#}", saved.1);
    assert_eq!((crossed.0, counted(&crossed.1)), (0, [2, 2, 0]), "{:#}", crossed.1);
    let back = machine.restore("latest~1", "back");
    assert_eq!(fs::read_dir(back.join("src/disk")).unwrap().count(), 0);
}
