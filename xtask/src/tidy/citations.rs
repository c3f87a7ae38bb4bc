//! Citations: every rule of `docs/FORMAT.md` has code that keeps it, and every citation names a rule that exists.
//!
//! A rule is defined where its number stands in bold, as in **(F2)**. A citation is a line comment `//= FORMAT#F2` in
//! Rust, or `#= FORMAT#F2` in the rescue reader. It must not know what the rules say.

use super::{Finding, Tree, texts};
use std::collections::{BTreeMap, BTreeSet};

const FORMAT: &str = "docs/FORMAT.md";

/// Rules nobody cites, and why that is right.
const EXCUSED: &[(u32, &str)] = &[];

/// Dangling citations, rules without one, and excuses nobody needs any more.
pub fn citations(tree: &Tree) -> Vec<Finding> {
    let text = tree.get(FORMAT).and_then(Option::as_deref).unwrap_or("");
    let rules = rules(text);
    let mut cited: BTreeMap<u32, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for (path, text) in texts(tree, ".rs").chain(texts(tree, ".py")) {
        for (index, line) in text.lines().enumerate() {
            let Some(cite) = citation(line) else { continue };
            let at = format!("{path}:{}", index + 1);
            match cite {
                Some(rule) if rules.contains(&rule) => *cited.entry(rule).or_default() += 1,
                Some(rule) => findings.push(Finding::new(
                    at,
                    format!("cites F{rule}, which {FORMAT} does not define"),
                    "correct the number",
                )),
                None => findings.push(Finding::new(at, "a citation without a rule number", "write FORMAT#F<number>")),
            }
        }
    }
    for rule in &rules {
        let excused = EXCUSED.iter().any(|(excused, _)| excused == rule);
        if excused == cited.contains_key(rule) {
            let (what, mend) = if excused {
                ("is cited and excused", "take it off EXCUSED in xtask/src/tidy/citations.rs")
            } else {
                (
                    "is cited nowhere",
                    "put `//= FORMAT#F<n>` beside the code that keeps it, or an excuse with a reason in xtask/src/tidy/citations.rs",
                )
            };
            findings.push(Finding::new(FORMAT, format!("F{rule} {what}"), mend));
        }
    }
    findings
}

/// Numbers of rules that stand in bold.
fn rules(text: &str) -> BTreeSet<u32> {
    let bold = text.split("**").skip(1).step_by(2);
    bold.flat_map(|span| span.split(|c: char| !c.is_ascii_alphanumeric())).filter_map(number).collect()
}

fn number(word: &str) -> Option<u32> {
    word.strip_prefix('F').filter(|digits| digits.chars().all(|c| c.is_ascii_digit()))?.parse().ok()
}

/// Whether a line is a citation of FORMAT and, if so, of which rule.
fn citation(line: &str) -> Option<Option<u32>> {
    let line = line.trim_start();
    let rest = line.strip_prefix("//=").or_else(|| line.strip_prefix("#="))?;
    let rest = rest.trim_start().strip_prefix("FORMAT#")?;
    Some(rest.split(|c: char| !c.is_ascii_alphanumeric()).next().and_then(number))
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn rules_are_numbers_in_bold_and_nothing_else() {
        let text = "Numbered `F9`. **Shortest form (F1)** and **(F2)**; before any piece, **F7**. F8 is **bold text**. **FF3**";
        assert_eq!(rules(text), BTreeSet::from([1, 2, 7]));
    }

    #[test]
    fn dangling_citations_and_silent_rules_are_found() {
        let code = "//! x\n    //= FORMAT#F1 shortest\n//= FORMAT#F3\n//= FORMAT#12\n//= rfc5326#6.13\n";
        let found =
            citations(&tree(&[(FORMAT, "**(F1)** **(F2)** **(F4)**"), ("a.rs", code), ("r.py", "  #= FORMAT#F4\n")]));
        let at: Vec<&str> = found.iter().map(|f| f.at.as_str()).collect();
        assert_eq!(at, ["a.rs:3", "a.rs:4", FORMAT]);
        assert!(found[2].what.starts_with("F2 "));
    }
}
