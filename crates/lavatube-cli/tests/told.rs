//! What a user is told is true: of drives that wear, of what is lost, of keys that nobody was told about, of names that are no text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;

use common::{Machine, seed, show};

#[track_caller]
fn screen(machine: &Machine, args: &[&str], status: i32) -> String {
    let out = machine.run(args);
    assert_eq!(out.status.code(), Some(status), "{}", show(args, &out));
    show(args, &out)
}

#[test]
fn keys_that_nobody_was_told_about_are_told_by_the_next_init() {
    for next in ["init", "backup"] {
        let machine = Machine::new(seed(93));
        fs::write(machine.path("src/f"), "x").unwrap();
        // A drive that cannot be one is found out before there are keys.
        fs::write(machine.path("file"), "").unwrap();
        let out = machine.run(&["init", "--drives", "a,file,b", "--parity", "1"]);
        assert_eq!(out.status.code(), Some(1), "{}", show(&[], &out));
        assert!(!machine.path("keys").exists(), "keys were made for nothing: {}", show(&[], &out));
        // Keys of a run that was cut short after they were made.
        machine.json(&["init", "--vault", "other"], 0);
        let args: &[&str] = if next == "init" { &["init"] } else { &["backup", "src"] };
        let told = screen(&machine, args, 0);
        assert!(told.contains("recovery-key.txt"), "{told}");
    }
    let machine = Machine::new(seed(94));
    let quiet = screen(&machine, &["init", "--quiet"], 0);
    assert!(quiet.contains("recovery-key.txt"), "a warning is not kept quiet: {quiet}");
    fs::remove_file(machine.path("keys/recovery-key.txt")).unwrap();
    assert!(!screen(&machine, &["init"], 0).contains("recovery-key"));
}
