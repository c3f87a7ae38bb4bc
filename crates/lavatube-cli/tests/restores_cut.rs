//! Restores that are cut: files that only look restored are not believed.
//!
//! What a power loss does to a file that was not synced is done by hand: right size, right time, and zeros.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::facts::{assert_same, look};
use common::strace::{can_trace, inject};
use common::{Chance, Machine, files_below, number, seed};

const ALL: [&str; 4] = ["restore", "latest", "--target", "back"];

fn machine(seed: u64) -> Machine {
    let machine = Machine::in_memory(seed);
    common::fill(&machine.src(), &mut Chance::new(seed), 12, 300_000);
    fs::hard_link(machine.path("src/large-noise"), machine.path("src/zz-link")).unwrap();
    let sparse = fs::File::create(machine.path("src/sparse")).unwrap();
    sparse.write_all_at(b"an island", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    machine.backup();
    machine
}

fn marks(target: &Path) -> usize {
    let names = fs::read_dir(target).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".lavatube-restoring-")).count()
}

/// Ends a restore right before it takes its mark away.
fn cut(machine: &Machine) {
    let run = inject(machine, &ALL, "unlinkat", "signal=KILL", 1, &[]).unwrap();
    assert_eq!(run.status(), None, "it was killed");
    assert_eq!(marks(&machine.path("back")), 1);
}

/// Makes zeros of a file, as a power loss may: nothing but its bytes changes.
fn lose(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(meta.len()).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
}

#[test]
fn files_of_zeros_are_written_again_after_a_restore_was_cut() {
    if !can_trace("files_of_zeros_are_written_again_after_a_restore_was_cut") {
        return;
    }
    let machine = machine(seed(111));
    let want = look(&machine.src());
    cut(&machine);
    assert_same(&want, &machine.path("back/src"), "all is written, nothing is synced");
    let files = files_below(&machine.path("back/src"));
    for (n, path) in files.iter().enumerate().filter(|(n, _)| n % 2 == 0 || *n == files.len() - 1) {
        // The last one is a second name of a large file, whose first name is made anew when it is found out.
        eprintln!("lost {n} {}", path.display());
        lose(path);
    }
    lose(&machine.path("back/src/sparse"));
    lose(&machine.path("back/src/zz-link"));
    let answer = machine.json(&ALL, 0);
    assert_same(&want, &machine.path("back/src"), "after the second run");
    assert!(number(&answer["files"]) > 5 && number(&answer["already_there"]) > 3, "{answer:#}");
    assert_eq!(marks(&machine.path("back")), 0, "and what is there is believed from now on");
    let answer = machine.json(&ALL, 0);
    assert_eq!((number(&answer["files"]), number(&answer["links"])), (0, 0), "{answer:#}");
}

#[test]
fn only_the_same_restore_ends_the_doubt() {
    if !can_trace("only_the_same_restore_ends_the_doubt") {
        return;
    }
    let machine = machine(seed(112));
    let want = look(&machine.src());
    cut(&machine);
    let files = files_below(&machine.path("back/src"));
    let (one, other) = (machine.path("back/src/large-prose"), files[0].clone());
    lose(&one);
    lose(&other);
    let part = machine.json(&["restore", "latest", "--target", "back", "--include", "large-prose"], 0);
    assert_eq!(number(&part["files"]), 1, "{part:#}");
    assert_eq!(marks(&machine.path("back")), 1, "of the other files it knows nothing");
    machine.json(&ALL, 0);
    assert_same(&want, &machine.path("back/src"), "after all of it");
    assert_eq!(marks(&machine.path("back")), 0);
    // What fits nothing leaves no mark.
    machine.answer(&["restore", "latest", "--target", "back", "--include", "no-such-name"]);
    assert_eq!(marks(&machine.path("back")), 0);
}
