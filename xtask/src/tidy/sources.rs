//! Habits of our Rust files: an opening, a size, reasons for silenced lints, and one home for unsafe code.
//!
//! It exists because these are the habits that erode one small exception at a time. It must not know crates.

use super::lexer::{blank, word_lines};
use super::{Finding, Tree, texts};

/// Lines of a source file, and of a file of tests.
const LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 1200;

/// The one file that may hold unsafe code.
const UNSAFE_HOME: &str = "crates/lavatube-codes/src/simd.rs";

/// What rooms below floor 3 must not say in `src/`, and why. Examples and tests may; `clippy.toml` has what they may not.
const WALLED: &[(&str, &str)] = &[
    ("Instant::now", "time is handed in as lavatube_base::Instant"),
    ("SystemTime", "time is handed in as lavatube_base::Instant"),
    ("std::fs", "files belong to lavatube-node; take a seam"),
    ("std::net", "sockets belong to lavatube-node"),
    ("std::env", "settings are handed in"),
    ("println", "only lavatube-cli knows a terminal"),
    ("eprintln", "only lavatube-cli knows a terminal"),
];

/// The rooms they are kept out of.
const WALLED_ROOMS: &[&str] = &["base", "codes", "channel", "format", "seal", "client", "vault", "link"];

/// Every file says what it is before anything else.
pub fn openings(tree: &Tree) -> Vec<Finding> {
    let mute = texts(tree, ".rs").filter(|(path, text)| !text.starts_with("//!") && !is_test(path));
    mute.map(|(path, _)| {
        let mend = "open with `//!`: what this is, why it exists, what it must not know, its step in docs/WALK.md";
        Finding::new(path, "does not open with `//!`", mend)
    })
    .collect()
}

/// Nothing is longer than one can hold in mind.
pub fn sizes(tree: &Tree) -> Vec<Finding> {
    let sized = texts(tree, ".rs")
        .map(|(path, text)| (path, text.lines().count(), if is_test(path) { TEST_LINES_MAX } else { LINES_MAX }));
    let long = sized.filter(|(_, lines, max)| lines > max);
    long.map(|(path, lines, max)| {
        let mend = "question the design of the room first, then split along a noun; tests go to foo/tests.rs";
        Finding::new(path, format!("{lines} lines, {max} at most"), mend)
    })
    .collect()
}

/// Tests beside the code (`foo/tests.rs`) and tests of a whole crate (`tests/`).
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// A silenced lint has a reason. `expect` is better: it tells when it is no longer needed.
pub fn allows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts(tree, ".rs") {
        let code = blank(text);
        for (at, _) in code.match_indices("allow(") {
            let before = code[..at].trim_end();
            let attribute = before.ends_with("#[") || before.ends_with("#![");
            let inside = code[at..].split(")]").next().unwrap_or("");
            if attribute && !inside.contains("reason") {
                let line = code[..at].matches('\n').count() + 1;
                let mend = "write #[expect(lint, reason = \"…\")]";
                findings.push(Finding::new(format!("{path}:{line}"), "a lint is silenced without a reason", mend));
            }
        }
    }
    findings
}

/// Rooms that are handed time, files and settings do not reach for them.
pub fn walls(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let walled = |path: &str| WALLED_ROOMS.iter().any(|room| path.starts_with(&format!("crates/lavatube-{room}/src/")));
    for (path, text) in texts(tree, ".rs").filter(|(path, _)| walled(path) && !is_test(path)) {
        let code = blank(text);
        for (word, mend) in WALLED {
            for line in word_lines(&code, word) {
                findings.push(Finding::new(format!("{path}:{line}"), format!("says `{word}`"), *mend));
            }
        }
    }
    findings
}

/// The word `unsafe` appears in one file.
pub fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts(tree, ".rs").filter(|(path, _)| *path != UNSAFE_HOME) {
        for line in word_lines(&blank(text), "unsafe") {
            let mend = format!("unsafe code lives in {UNSAFE_HOME} alone; find a safe way or a crate that is audited");
            findings.push(Finding::new(format!("{path}:{line}"), "unsafe code", mend));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn a_file_without_an_opening_is_found() {
        let tree = tree(&[
            ("a.rs", "//! Good.\n"),
            ("b.rs", "fn main() {}\n"),
            ("b/tests.rs", "use super::*;\n"),
            ("c.md", "text"),
        ]);
        let found = openings(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, "b.rs");
    }

    #[test]
    fn a_file_is_found_one_line_past_its_limit() {
        let lines = |n: usize| "x\n".repeat(n);
        let tree = tree(&[
            ("a.rs", &lines(LINES_MAX)),
            ("b.rs", &lines(LINES_MAX + 1)),
            ("c/tests.rs", &lines(TEST_LINES_MAX)),
            ("d/tests.rs", &lines(TEST_LINES_MAX + 1)),
        ]);
        let at: Vec<String> = sizes(&tree).into_iter().map(|f| f.at).collect();
        assert_eq!(at, ["b.rs", "d/tests.rs"]);
    }

    #[test]
    fn a_bare_allow_is_found_and_a_reasoned_one_is_not() {
        let bare = "#[allow(dead_code)]\nfn a() {}\n#![allow(\n    unused)]\n";
        let fine = "#[expect(dead_code, reason = \"x\")]\n#[allow(unused, reason = \"only on some CPUs\")]\nfn f() { allow(1) }\n// #[allow(x)]\n";
        let found = allows(&tree(&[("a.rs", bare), ("b.rs", fine)]));
        assert_eq!(found.iter().map(|f| f.at.as_str()).collect::<Vec<_>>(), ["a.rs:1", "a.rs:3"]);
    }

    #[test]
    fn a_room_that_looks_at_the_clock_is_found_but_not_its_example() {
        let text = "//! Not std::fs.\nuse std::fs;\nlet t = std::time::Instant::now();\n";
        let places = [
            "crates/lavatube-vault/src/a.rs",
            "crates/lavatube-vault/examples/speed.rs",
            "crates/lavatube-node/src/a.rs",
        ];
        let found = walls(&tree(&places.map(|path| (path, text))));
        let at: Vec<&str> = found.iter().map(|f| f.at.as_str()).collect();
        assert_eq!(at, ["crates/lavatube-vault/src/a.rs:3", "crates/lavatube-vault/src/a.rs:2"]);
    }

    #[test]
    fn unsafe_code_is_found_outside_its_home() {
        let text = "//! unsafe\n#![forbid(unsafe_code)]\nfn a() { unsafe {} }\n";
        let found = unsafe_code(&tree(&[(UNSAFE_HOME, text), ("a.rs", text)]));
        assert_eq!(found.iter().map(|f| f.at.as_str()).collect::<Vec<_>>(), ["a.rs:3"]);
    }
}
