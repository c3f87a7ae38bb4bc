//! `cargo xtask tidy`: the walls of the house, checked by reading the sources as text.
//!
//! The plan says what a room must never know; this says when it does. Each check takes the tree in memory, so that its
//! tests are small strings, and answers with findings that say what, where and how to mend it. It must not change
//! anything.

mod citations;
mod floors;
mod lexer;
mod manifests;
mod prose;
mod sources;
mod walk;

use crate::run::{Outcome, output, root};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every file that is committed or could be: path from the root with `/`, and its text when it is text.
pub type Tree = BTreeMap<String, Option<String>>;

/// One thing that is not as the plan says.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, or file and line.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// How to put it right.
    pub mend: String,
}

impl Finding {
    pub fn new(at: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into(), mend: mend.into() }
    }
}

/// A check: its name, what holds when it is silent, and itself.
type Check = (&'static str, &'static str, fn(&Tree) -> Vec<Finding>);

const CHECKS: &[Check] = &[
    ("floors", "a crate depends only on lower floors", floors::floors),
    ("forbidden", "no room reaches what it must never know", floors::forbidden),
    ("walls", "rooms below floor 3 know no clock, file or terminal", sources::walls),
    ("sources", "every crate comes from the public index", floors::public_sources),
    ("openings", "every Rust file opens by saying what it is", sources::openings),
    ("sizes", "no file is too long to read at a sitting", sources::sizes),
    ("allows", "no lint is silenced without a reason", sources::allows),
    ("unsafe", "unsafe code lives in one file", sources::unsafe_code),
    ("citations", "every rule of FORMAT is cited, every citation has its rule", citations::citations),
    ("walk", "steps of the walk and their files name each other", walk::walk),
    ("links", "relative links lead somewhere", prose::links),
    ("machine", "nothing names the machine it was written on", prose::machine),
];

/// Runs every check and prints what it found.
pub fn run(args: &[String]) -> Outcome {
    if !args.is_empty() {
        return Err(format!("tidy takes no arguments, not {args:?}"));
    }
    let tree = load(&root())?;
    let mut total = 0;
    for (name, holds, check) in CHECKS {
        let findings = check(&tree);
        let mark = if findings.is_empty() { "ok  " } else { "FAIL" };
        println!("tidy: {mark} {name:10} {holds}");
        for finding in &findings {
            println!("  {}\n    {}\n    mend: {}", finding.at, finding.what, finding.mend);
        }
        total += findings.len();
    }
    if total == 0 { Ok(()) } else { Err(format!("{total} finding(s) in {} files", tree.len())) }
}

/// Files git knows or would add; without git, everything but `target`.
fn load(root: &Path) -> Result<Tree, String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let mut names = Vec::new();
    if root.join(".git").exists() {
        let listed = output(&mut git)?;
        names.extend(
            listed.split(|b| *b == 0).filter(|n| !n.is_empty()).map(|n| String::from_utf8_lossy(n).into_owned()),
        );
    } else {
        walk(root, "", &mut names)?;
    }
    let mut tree = Tree::new();
    for name in names {
        // A file may have been removed but not yet committed as such.
        if let Ok(bytes) = fs::read(root.join(&name)) {
            tree.insert(name, String::from_utf8(bytes).ok());
        }
    }
    Ok(tree)
}

fn walk(dir: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), String> {
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(|e| format!("{name}: {e}"))?;
        if kind.is_dir() && name != "target" {
            walk(&entry.path(), &format!("{name}/"), names)?;
        } else if kind.is_file() {
            names.push(name);
        }
    }
    Ok(())
}

/// Text files with this ending.
fn texts<'a>(tree: &'a Tree, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let with_text = tree.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)));
    with_text.filter(move |(path, _)| path.ends_with(ending))
}

#[cfg(test)]
pub fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned()))).collect()
}
