//! The completion script in a real bash: it loads, and completes a verb and an option.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::process::Command;

use common::{Machine, has_program, output, seed};

/// What bash would offer for the last of `words`.
fn offered(machine: &Machine, words: &[&str]) -> Vec<String> {
    let mut bash = Command::new("/usr/bin/env");
    bash.args(["bash", "--norc", "-c"]).env("PATH", "/usr/bin:/bin");
    let script = "set -eu; source ./lavatube.bash; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
        complete -p lavatube > /dev/null
        _lavatube lavatube \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    bash.args([script, "bash"]).args(words).current_dir(machine.dir.path());
    let out = output(bash);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && error.is_empty(), "{words:?}: {}: {error}", out.status);
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_and_options() {
    if !has_program("bash_completes_verbs_and_options", "bash") {
        return;
    }
    let machine = Machine::new(seed(121));
    let script = machine.run(&["completions", "bash"]);
    assert!(script.status.success());
    fs::write(machine.path("lavatube.bash"), script.stdout).unwrap();
    assert_eq!(offered(&machine, &["lavatube", "res"]), ["restore"]);
    assert_eq!(offered(&machine, &["lavatube", "check", "--read-d"]), ["--read-data"]);
    assert_eq!(offered(&machine, &["lavatube", "key", "move"]), ["move-read"]);
    assert_eq!(offered(&machine, &["lavatube", "restore", "latest", "--overwrite", "ch"]), ["changed"]);
}
