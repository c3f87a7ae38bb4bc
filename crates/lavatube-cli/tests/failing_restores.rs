//! Restores of the real command while a drive cannot be read, or the target cannot be written.
//!
//! A drive that answers nothing but errors costs nothing as long as parity makes up for it, and is named. In the target every call fails
//! in turn: what is not there afterwards is named, nothing is there in part, and the next run brings the rest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::before::Before;
use common::facts::{assert_same, look};
use common::strace::{can_trace, inject};
use common::{files_below, paths, seed};

const ARGS: [&str; 4] = ["restore", "latest", "--target", "back"];

#[test]
fn drives_that_cannot_be_read_cost_nothing_up_to_parity() {
    let test = "drives_that_cannot_be_read_cost_nothing_up_to_parity";
    if !can_trace(test) {
        return;
    }
    let before = Before::new(seed(81), 4, 2);
    let machine = &before.machine;
    machine.backup();
    let want = look(&machine.src());
    for (first, second) in (0..6).map(|n| (n, (n + 1 + n % 4) % 6)) {
        let mut bad = files_below(&machine.drive(first));
        bad.extend(files_below(&machine.drive(second)));
        let what = format!("drives {first} and {second}, seed {:#x}", machine.seed);
        let run = inject(machine, &ARGS, "pread64", "error=EIO", 1, &bad).unwrap();
        let (status, answer) = machine.read(&ARGS, &run.out);
        assert_eq!(status, 0, "{what}: {answer:#}");
        let labels = BTreeSet::from([first, second]).into_iter().map(|n| format!("d{n}")).collect::<Vec<_>>();
        assert_eq!(answer["hurt_drives"], serde_json::json!(labels), "{what}: {answer:#}");
        assert_same(&want, &machine.path("back/src"), &what);
        fs::remove_dir_all(machine.path("back")).unwrap();
        let check = inject(machine, &["check"], "pread64", "error=EIO", 1, &bad).unwrap();
        let (status, answer) = machine.read(&["check"], &check.out);
        assert_eq!(status, 4, "{what}: {answer:#}");
        assert!(paths(&answer["files"]).is_empty(), "{what}: {answer:#}");
    }
}

#[test]
fn what_the_target_does_not_take_is_named_and_comes_with_the_next_run() {
    let test = "what_the_target_does_not_take_is_named_and_comes_with_the_next_run";
    if !can_trace(test) {
        return;
    }
    let before = Before::new(seed(82), 1, 1);
    let machine = &before.machine;
    machine.backup();
    let want = look(&machine.src());
    let mut met = 0;
    for call in ["pwrite64", "mkdirat", "renameat2", "utimensat", "fchmod"] {
        for (n, error) in (1..).flat_map(|n| [(n, "EIO"), (n, "ENOSPC")]) {
            let Some(run) = inject(machine, &ARGS, call, &format!("error={error}"), n, &[]) else { break };
            met += 1;
            let what = format!("{call} {n} {error}, seed {:#x}: {}", machine.seed, run.calls.join(" and "));
            let (status, answer) = machine.read(&ARGS, &run.out);
            // Full is full when a file is written; a folder that cannot be made leaves others to go on with.
            assert!([Some(3), Some(13)].contains(&run.status()), "{what}: {answer:#}");
            let failed = if status == 3 { paths(&answer["failed"]) } else { vec![] };
            let have = look(&machine.path("back"));
            for (path, fact) in &want {
                let there = have.get(&[b"src/", &path[..]].concat()).is_some_and(|h| h.line == fact.line);
                let named = status == 13 || failed.iter().any(|f| f.as_bytes().ends_with(path));
                assert!(there || named, "{what}: {}: {answer:#}", path.escape_ascii());
            }
            assert!(status == 13 || !failed.is_empty(), "{what}: {answer:#}");
            let again = machine.json(&ARGS, 0);
            assert_eq!(again["warnings"]["count"], 0, "{what}: {again:#}");
            assert_same(&want, &machine.path("back/src"), &what);
            fs::remove_dir_all(machine.path("back")).unwrap();
        }
        if machine.path("back").exists() {
            fs::remove_dir_all(machine.path("back")).unwrap();
        }
    }
    assert!(met > 40, "{met} calls failed");
}
