//! System calls of the real command that fail, one after the other, all of them.
//!
//! A run before has left one snapshot. Then the n-th `fsync`, `writev`, … of a backup fails, for every n there is: what was
//! reported is kept, what was not whole is not seen, the error names the drive or file, and the next run carries on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::before::Before;
use common::strace::{Injected, can_trace};
use common::{Machine, seed, text};
use serde_json::{Value, json};

/// Calls that change something on a drive or in the state.
const WRITES: [&str; 6] = ["write", "writev", "rename", "renameat2", "mkdirat", "unlink"];

/// Calls that make it durable.
const SYNCS: [&str; 2] = ["fsync", "fdatasync"];

/// What must be so after calls failed with EIO: a drive is left out and named, anything else ends the run and is named.
fn is_named(machine: &Machine, run: &Injected, answer: &Value, what: &str) -> Option<String> {
    // What a lock's file says is for people only.
    let own: Vec<_> = run.calls.iter().filter(|c| !c.contains("/drives/") && !c.contains("/lock>")).collect();
    if own.is_empty() {
        assert_eq!(run.status(), Some(0), "{what}: {answer:#}");
        assert_eq!(answer["degraded_drives"], json!(run.drives(machine)), "{what}: {answer:#}");
        return Some(text(&answer["snapshot"]));
    }
    assert_eq!((run.status(), &answer["error"]["code"]), (Some(1), &json!("io")), "{what}: {answer:#}");
    let message = text(&answer["error"]["message"]);
    assert!(own.iter().any(|call| names_what(call, &message)), "{what}: {message}");
    None
}

/// Whether a message names the file of the state that a call was about, or one in the folder it was about.
fn names_what(call: &str, message: &str) -> bool {
    // The folder that all states are in was made durable in the one above.
    if call.split(['<', '>']).any(|part| part.starts_with('/') && message.contains(&format!("{part}/state:"))) {
        return true;
    }
    let is_of_state = |part: &&str| part.contains("/state/") || part.ends_with("/state");
    let Some(path) = call.split(['<', '>', '"']).find(is_of_state) else { return false };
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.trim_start_matches('.').trim_end_matches(".lavatube-new");
    let is_whole_state = name.len() == 32;
    is_whole_state || message.contains(name)
}

#[test]
fn writes_that_fail_cost_no_snapshot_and_are_named() {
    if can_trace("writes_that_fail_cost_no_snapshot_and_are_named") {
        let before = Before::new(seed(71), 1, 2);
        before.sweep(&WRITES, "error=EIO", |run, answer, what| is_named(&before.machine, run, answer, what));
    }
}

#[test]
fn syncs_that_fail_cost_no_snapshot_and_are_named() {
    if can_trace("syncs_that_fail_cost_no_snapshot_and_are_named") {
        let before = Before::new(seed(72), 1, 2);
        before.sweep(&SYNCS, "error=EIO", |run, answer, what| is_named(&before.machine, run, answer, what));
    }
}
