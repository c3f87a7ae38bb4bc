//! Text that people read: links that lead somewhere, and nothing that is true on one machine only.
//!
//! It exists because a clone has neither our folders nor our mirrors. It must not know what the text says.

use super::{Finding, Tree, texts};

/// Beginnings of paths of the machine this was written on. Put together here so that this file does not contain them.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "target")];

/// Settings that point an installer at a mirror.
const MIRRORS: &[&str] = &[
    concat!("--index", "-url"),
    concat!("--extra-index", "-url"),
    concat!("replace", "-with ="),
    concat!("PIP_", "INDEX_URL"),
    concat!("sparse", "+http"),
];

/// Every relative link of a Markdown file names a file or folder of this repository.
pub fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts(tree, ".md") {
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            for target in targets(line).filter(|_| !fenced) {
                if !leads_somewhere(tree, path, &target) {
                    let mend =
                        "correct the path, relative to the file it stands in; a link does not leave the repository";
                    findings.push(Finding::new(
                        format!("{path}:{}", index + 1),
                        format!("link to `{target}` leads nowhere"),
                        mend,
                    ));
                }
            }
        }
    }
    findings
}

/// What a line's Markdown links and images point at, and the sources of its HTML images.
fn targets(line: &str) -> impl Iterator<Item = String> + '_ {
    // What stands in backticks is code.
    let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let cut = |text: &str, open: &str, close: char| -> Vec<String> {
        text.split(open)
            .skip(1)
            .filter_map(|rest| rest.split_once(close).map(|(target, _)| target.to_owned()))
            .collect()
    };
    let mut found = cut(&text, "](", ')');
    found.extend(cut(&text, "src=\"", '"'));
    found.extend(cut(&text, "srcset=\"", '"'));
    found.into_iter()
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let outside = target.contains("://") || target.starts_with("mailto:") || target.starts_with('#');
    let path = target.split(['#', ' ']).next().unwrap_or("");
    outside || resolve(from, path).is_some_and(|path| exists(tree, &path))
}

fn exists(tree: &Tree, path: &str) -> bool {
    let folder = format!("{}/", path.trim_end_matches('/'));
    path.is_empty()
        || tree.contains_key(path)
        || tree.range(folder.clone()..).next().is_some_and(|(p, _)| p.starts_with(&folder))
}

/// The path from the root, or nothing when it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// No file names a folder or a mirror of the machine it was written on.
pub fn machine(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts(tree, "") {
        for (index, line) in text.lines().enumerate() {
            for word in MACHINE.iter().chain(MIRRORS).filter(|word| names(line, word)) {
                let mend = "say it relative to the project, or to a place the reader has";
                findings.push(Finding::new(format!("{path}:{}", index + 1), format!("names `{word}`"), mend));
            }
        }
    }
    findings
}

/// Whether the line contains the word at the start of a path, not in the middle of one (as in `a/work/b`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._~-".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](b.md) [c](../README.md#x) [d](gone.md) ![e](pic.svg) [f](https://x.y/z) [g](#h) `[i](code.md)` [j](../../out.md) [k](sub/)\n\
                    ```\n[l](in-a-fence.md)\n```\n<img src=\"lost.svg\">\n";
        let tree = tree(&[
            ("docs/a.md", text),
            ("docs/b.md", ""),
            ("README.md", ""),
            ("docs/pic.svg", ""),
            ("docs/sub/x.md", ""),
        ]);
        let what: Vec<String> = links(&tree).into_iter().map(|f| f.what).collect();
        let nowhere = |target: &str| format!("link to `{target}` leads nowhere");
        assert_eq!(what, [nowhere("gone.md"), nowhere("../../out.md"), nowhere("lost.svg")]);
    }

    #[test]
    fn machine_paths_and_mirrors_are_found() {
        let text = format!("cd {}shared\nfine/{}x\npip install {} x\n", MACHINE[0], &MACHINE[0][1..], MIRRORS[0]);
        let at: Vec<String> = machine(&tree(&[("a.sh", &text)])).into_iter().map(|f| f.at).collect();
        assert_eq!(at, ["a.sh:1", "a.sh:3"]);
    }
}
