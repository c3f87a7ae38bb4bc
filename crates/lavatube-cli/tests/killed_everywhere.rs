//! The real command killed with SIGKILL at every call that changes anything, of every verb that writes.
//!
//! `killed` kills large work at random times; this kills small work at every place there is. A kill comes before its call
//! is done, so the calls listed here leave every state that a kill can leave, but for empty files just created.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;

use common::before::Before;
use common::facts::{assert_same, look};
use common::strace::{can_trace, inject};
use common::{Machine, seed, text};
use rustix::fs::{FileType, Mode};

/// Calls that change what another process can see. Syncs do not: a kill at one leaves what a kill at the next change does.
const CHANGES: [&str; 16] = [
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "symlinkat",
    "mknodat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "utimensat",
    "fchmod",
];

/// Kills the command at every one of its changes, and lets `after` look at what is left. `before` makes all as it was.
fn kill_everywhere(machine: &Machine, args: &[&str], before: impl Fn(), after: impl Fn(&str)) {
    let mut kills = 0;
    for call in CHANGES {
        for n in 1.. {
            before();
            let Some(run) = inject(machine, args, call, "signal=KILL", n, &[]) else { break };
            if run.is_over() {
                break;
            }
            let story = run.calls.join(" and ");
            assert_eq!(run.status(), None, "{story}");
            kills += 1;
            after(&format!("{} killed at {call} {n}, seed {:#x}: {story}", args[0], machine.seed));
        }
    }
    eprintln!("{args:?}: {kills} kills");
    assert!(kills >= 3, "{args:?}: {kills} kills");
}

fn clear(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn init_killed_at_every_change_is_completed_by_the_next() {
    if !can_trace("init_killed_at_every_change_is_completed_by_the_next") {
        return;
    }
    let machine = Machine::in_memory(seed(91));
    fs::write(machine.path("src/f"), "x").unwrap();
    let init = ["init", "--drives", "vault/drives/d0,vault/drives/d1", "--data", "1", "--parity", "1"];
    let nothing = || ["vault", "state", "keys"].iter().for_each(|folder| clear(&machine.path(folder)));
    kill_everywhere(&machine, &init, nothing, |what| {
        let (status, answer) = machine.answer(&init);
        if status != 0 {
            // The vault was there, its first objects were not: told to leave the options away, we do.
            assert_eq!((status, &answer["error"]["code"]), (13, &"exists".into()), "{what}: {answer:#}");
            machine.json(&["init"], 0);
        }
        assert_eq!(text(&machine.backup()["promise"]), "safe-there", "{what}");
        assert!(machine.path("keys/recovery-key.txt").exists(), "{what}");
        machine.restore("latest", "back");
        clear(&machine.path("back"));
        machine.json(&["check", "--read-data"], 0);
    });
}

#[test]
fn backups_killed_at_every_change_lose_nothing() {
    if can_trace("backups_killed_at_every_change_lose_nothing") {
        let before = Before::new(seed(92), 1, 1);
        let after = |what: &str| before.is_outlived(what, None);
        kill_everywhere(&before.machine, &["backup", "src"], || before.put_back(), after);
    }
}

#[test]
fn restores_killed_at_every_change_are_completed_by_the_next() {
    if !can_trace("restores_killed_at_every_change_are_completed_by_the_next") {
        return;
    }
    let before = Before::new(seed(93), 1, 1);
    let machine = &before.machine;
    fs::hard_link(machine.path("src/new"), machine.path("src/link")).unwrap();
    std::os::unix::fs::symlink("new", machine.path("src/symlink")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, machine.path("src/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    machine.backup();
    let want = look(&machine.src());
    let args = ["restore", "latest", "--target", "back"];
    kill_everywhere(
        machine,
        &args,
        || clear(&machine.path("back")),
        |what| {
            machine.json(&args, 0);
            assert_same(&want, &machine.path("back/src"), what);
        },
    );
}

#[test]
fn repairs_killed_at_every_change_are_completed_by_the_next() {
    if !can_trace("repairs_killed_at_every_change_are_completed_by_the_next") {
        return;
    }
    let before = Before::new(seed(94), 1, 2);
    let machine = &before.machine;
    let hurt = || {
        before.put_back();
        clear(&machine.drive(0));
        fs::create_dir(machine.drive(0)).unwrap();
        let shard = machine.drive_files().into_iter().find(|f| common::is_shard(f)).unwrap();
        let torn = fs::metadata(&shard).unwrap().len() / 2;
        fs::File::options().write(true).open(shard).unwrap().set_len(torn).unwrap();
    };
    let args = ["check", "--repair"];
    kill_everywhere(machine, &args, hurt, |what| {
        machine.restore("latest", "back");
        clear(&machine.path("back"));
        let (status, answer) = machine.answer(&args);
        assert!([0, 4].contains(&status), "{what}: {answer:#}");
        let (status, answer) = machine.answer(&["check", "--read-data"]);
        assert_eq!(status, 0, "{what}: {answer:#}");
    });
}

#[test]
fn a_read_key_on_its_way_is_never_nowhere() {
    if !can_trace("a_read_key_on_its_way_is_never_nowhere") {
        return;
    }
    let before = Before::new(seed(95), 1, 1);
    let machine = &before.machine;
    let (away, home) = (machine.path("stick/read.key"), machine.path("keys/read.key"));
    let at_home = || {
        before.put_back();
        clear(&machine.path("stick"));
        fs::create_dir(machine.path("stick")).unwrap();
    };
    let is_somewhere = |what: &str| {
        let key = if home.exists() { &home } else { &away };
        let (status, answer) = machine.answer(&["snapshots", "--read-key", key.to_str().unwrap()]);
        assert_eq!(status, 0, "{what}: {answer:#}");
    };
    kill_everywhere(machine, &["key", "move-read", "stick"], at_home, is_somewhere);
    let away_only = || {
        at_home();
        fs::rename(&home, &away).unwrap();
    };
    kill_everywhere(machine, &["key", "bring-read", "stick/read.key"], away_only, |what| {
        if !home.exists() {
            machine.json(&["key", "bring-read", "stick/read.key"], 0);
        }
        is_somewhere(what);
    });
}
