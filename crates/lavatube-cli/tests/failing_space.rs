//! Writes of the real command that find no space, are cut short, do nothing, or are interrupted by a signal.
//!
//! As in `failing_writes`, every call in turn; here on two drives, of which neither can be spared, so that a backup has to
//! say which one is full, or keep what it made on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::process::Command;

use common::before::Before;
use common::strace::{Injected, can_trace};
use common::{output, seed, text};
use serde_json::{Value, json};

/// A run that ended well reported a snapshot, and where it is.
fn reported(run: &Injected, answer: &Value) -> Option<String> {
    (run.status() == Some(0)).then(|| text(&answer["snapshot"]))
}

#[test]
fn no_space_is_told_with_the_drive_or_file_that_has_none() {
    if !can_trace("no_space_is_told_with_the_drive_or_file_that_has_none") {
        return;
    }
    let before = Before::new(seed(73), 1, 1);
    before.sweep(&["write", "writev", "mkdirat", "renameat2"], "error=ENOSPC", |run, answer, what| {
        let drives = run.drives(&before.machine);
        match run.status() {
            Some(0) if drives.is_empty() => assert!(run.calls[0].contains("/lock>"), "{what}: {answer:#}"),
            // A journal that cannot grow: the drive is left out, and the snapshot waits here.
            Some(0) => {
                assert_eq!(answer["degraded_drives"], json!(drives), "{what}: {answer:#}");
                assert_eq!(answer["promise"], "safe-here", "{what}: {answer:#}");
            }
            status => {
                assert_eq!((status, &answer["error"]["code"]), (Some(13), &json!("full")), "{what}: {answer:#}");
                let message = text(&answer["error"]["message"]);
                let own = run.calls.iter().any(|call| !call.contains("/drives/"));
                assert!(own || drives.iter().any(|label| message.contains(label)), "{what}: {message}");
            }
        }
        reported(run, answer)
    });
}

#[test]
fn writes_that_write_nothing_do_not_go_on_for_ever() {
    if !can_trace("writes_that_write_nothing_do_not_go_on_for_ever") {
        return;
    }
    let before = Before::new(seed(74), 1, 1);
    before.sweep(&["write", "writev"], "retval=0", |run, answer, what| {
        assert!([Some(0), Some(1)].contains(&run.status()), "{what}: {answer:#}");
        reported(run, answer)
    });
}

#[test]
fn writes_that_a_signal_interrupts_are_made_again() {
    if !can_trace("writes_that_a_signal_interrupts_are_made_again") {
        return;
    }
    let before = Before::new(seed(75), 1, 1);
    before.sweep(&["write", "writev"], "error=EINTR", |run, answer, what| {
        assert_eq!((run.status(), &answer["promise"]), (Some(0), &"safe-there".into()), "{what}: {answer:#}");
        reported(run, answer)
    });
}

#[test]
fn a_write_that_is_cut_short_leaves_nothing_half_visible() {
    let before = Before::new(seed(76), 1, 1);
    let machine = &before.machine;
    let longest = machine.drive_files().iter().map(|f| f.metadata().unwrap().len()).max().unwrap();
    let mut cut = 0;
    // No file may grow beyond the limit: the write that would is done in part, and the next one fails.
    for blocks in (0..=longest.div_ceil(512) + 20).step_by(3) {
        before.put_back();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &blocks.to_string()]);
        shell.arg(env!("CARGO_BIN_EXE_lavatube"));
        let out = output(machine.wrapped(shell, &["backup", "src", "--json"]));
        let (status, answer) = machine.read(&["backup", "src"], &out);
        let what = format!("{blocks} blocks of 512 bytes, seed {:#x}: {answer:#}", machine.seed);
        cut += usize::from(status != 0);
        assert!([0, 1, 13].contains(&status), "{what}");
        let reported = (status == 0).then(|| text(&answer["snapshot"]));
        before.is_outlived(&what, reported.as_deref());
    }
    assert!(cut > 3, "{cut} runs met the limit");
}
