//! The walk: steps of `docs/WALK.md` and the files they are made of name each other.
//!
//! The walk is the first thing a newcomer reads, and the first thing to rot. A step is a row of its table that begins with
//! a number; the row links its files, and each of them says in its `//!` heading which steps it has. It must not know what
//! a step does.

use super::{Finding, Tree, texts};
use std::collections::{BTreeMap, BTreeSet};

const WALK: &str = "docs/WALK.md";

/// Steps that are not there, files that do not know their step, and types that are not there any more.
pub fn walk(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.get(WALK).and_then(Option::as_deref) else { return Vec::new() };
    let steps = steps(text);
    let headings: BTreeMap<&str, BTreeSet<u32>> = texts(tree, ".rs").map(|(p, t)| (p, cited(&heading(t)))).collect();
    let mut findings = Vec::new();
    for (path, cited) in &headings {
        for step in cited.iter().filter(|step| !steps.contains_key(step)) {
            let what = format!("its heading is about step {step}, which {WALK} does not have");
            findings.push(Finding::new(*path, what, "correct the number"));
        }
    }
    for (step, files) in &steps {
        for file in files.iter().filter(|file| headings.get(file.as_str()).is_some_and(|cited| !cited.contains(step))) {
            let what = format!("{WALK} names it in step {step}, and its heading does not");
            findings.push(Finding::new(file, what, format!("write `Step {step} of the walk.` into its `//!`")));
        }
    }
    for name in types(text).filter(|name| !texts(tree, ".rs").any(|(_, code)| defines(code, name))) {
        let mend = "name what it is called now";
        findings.push(Finding::new(WALK, format!("names `{name}`, which no file defines"), mend));
    }
    findings
}

/// The steps of the table, each with the paths of the files it links.
fn steps(text: &str) -> BTreeMap<u32, Vec<String>> {
    let mut steps = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let first = row.split('|').next().unwrap_or("").trim();
        let (from, to) = first.split_once('-').unwrap_or((first, first));
        let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) else { continue };
        let files = row.split("](../").skip(1).filter_map(|link| link.split(')').next()).map(str::to_owned);
        let files: Vec<String> = files.collect();
        steps.extend((from..=to).map(|step| (step, files.clone())));
    }
    steps
}

/// The lines that open a file, as one text.
fn heading(code: &str) -> String {
    let lines = code.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The numbers after `step` or `steps`: 3; 3 and 4; 7, 17 and 20; 2 to 4; 14 (write) and 18 (repair).
fn cited(text: &str) -> BTreeSet<u32> {
    let mut cited = BTreeSet::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if !["step", "steps"].contains(&word.trim_start_matches('(').to_lowercase().as_str()) {
            continue;
        }
        let (mut last, mut range) = (None, false);
        while let Some(word) = words.peek() {
            let bare = word.trim_end_matches([',', '.', ')', ';', ':']);
            match (bare, bare.parse::<u32>()) {
                (_, Ok(step)) => {
                    cited.extend(if range { last.unwrap_or(step)..=step } else { step..=step });
                    (last, range) = (Some(step), false);
                }
                ("to", _) => range = true,
                ("and", _) => {}
                _ if word.starts_with('(') => {}
                _ => break,
            }
            words.next();
        }
    }
    cited
}

/// Names of types in backticks: they begin with a capital.
fn types(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric))
}

fn defines(code: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    ["struct ", "trait ", "enum ", "type "].iter().any(|kind| {
        let whole = format!("{kind}{name}");
        code.match_indices(&whole).any(|(at, _)| ends(&code[at + whole.len()..]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn steps_are_understood_as_people_write_them() {
        let of = |text| cited(text).into_iter().collect::<Vec<_>>();
        assert_eq!(of("Step 3 of the walk. It has 12 rows"), [3]);
        assert_eq!(of("does it. Steps 7, 17 and 20 of the walk in one"), [7, 17, 20]);
        assert_eq!(of("Step 14 (write), 18 (repair) and 20 (read) of"), [14, 18, 20]);
        assert_eq!(of("(steps 1 and 21); steps 14 and 18 to 20 of"), [1, 14, 18, 19, 20, 21]);
        assert_eq!(of("No step of the walk: every step may fail."), []);
    }

    #[test]
    fn files_and_steps_that_do_not_know_each_other_are_found() {
        let table = "| # | where |\n|---|---|\n| 1 | a `Pack` | [a](../crates/a.rs), [b](../crates/b.rs) |\n| 2-4 | `Gone` here |\n";
        let found = walk(&tree(&[
            (WALK, table),
            ("crates/a.rs", "//! A. Steps 1 to\n//! 4 of the walk.\nstruct Pack;\nstruct GoneBefore;"),
            ("crates/b.rs", "//! B. Step 5.\n"),
        ]));
        let at: Vec<(&str, bool)> = found.iter().map(|f| (f.at.as_str(), f.what.contains("step 5"))).collect();
        assert_eq!(at, [("crates/b.rs", true), ("crates/b.rs", false), (WALK, false)]);
    }
}
