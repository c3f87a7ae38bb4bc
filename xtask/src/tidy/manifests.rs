//! Just enough TOML to read our own `Cargo.toml` files and `Cargo.lock`.
//!
//! Both have a fixed, plain shape here, and a parser crate would be the only dependency of xtask. It must not know which
//! dependencies are welcome.

use super::{Tree, texts};
use std::collections::{BTreeMap, BTreeSet};

/// What one of our crates asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub path: String,
    pub name: String,
    /// Normal and build dependencies.
    pub needs: BTreeSet<String>,
    /// Dependencies of tests only.
    pub tests_need: BTreeSet<String>,
}

/// Every package of `crates/`.
pub fn ours(tree: &Tree) -> Vec<Manifest> {
    let all = texts(tree, "/Cargo.toml").filter(|(path, _)| path.starts_with("crates/"));
    all.map(|(path, text)| manifest(path, text)).collect()
}

fn manifest(path: &str, text: &str) -> Manifest {
    let mut found = Manifest { path: path.to_owned(), ..Manifest::default() };
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            section = head.split(']').next().unwrap_or("").to_owned();
            // `[dependencies.name]` is a dependency by its headline alone.
            if let Some((table, name)) = section.clone().rsplit_once('.') {
                found.add(table, name);
            }
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let key = key.trim().split('.').next().unwrap_or("").trim_matches('"');
            if section == "package" && key == "name" {
                found.name = value.trim().trim_matches('"').to_owned();
            }
            found.add(&section, key);
        }
    }
    found
}

impl Manifest {
    fn add(&mut self, table: &str, name: &str) {
        // The last word also covers `[target.'cfg(…)'.dependencies]`.
        match table.rsplit('.').next() {
            Some("dependencies" | "build-dependencies") => self.needs.insert(name.to_owned()),
            Some("dev-dependencies") => self.tests_need.insert(name.to_owned()),
            _ => false,
        };
    }
}

/// One `[[package]]` of the lock: its name, where it came from, and the names it needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Locked {
    pub name: String,
    pub source: Option<String>,
    pub needs: BTreeSet<String>,
}

/// The packages of a `Cargo.lock`. Versions are dropped: a forbidden crate is forbidden in all of them.
pub fn lock(text: &str) -> Vec<Locked> {
    let mut packages: Vec<Locked> = Vec::new();
    let mut in_list = false;
    for line in text.lines().map(str::trim) {
        if line == "[[package]]" {
            packages.push(Locked::default());
        }
        let Some(package) = packages.last_mut() else { continue };
        let quoted = line.split('"').nth(1);
        if in_list {
            in_list = line != "]";
            // "name", "name 1.2.3" or "name 1.2.3 (source)"
            package.needs.extend(quoted.and_then(|q| q.split(' ').next()).map(str::to_owned));
        } else if line.starts_with("dependencies = [") {
            in_list = !line.ends_with(']');
        } else if line.starts_with("name = ") {
            package.name = quoted.unwrap_or("").to_owned();
        } else if line.starts_with("source = ") {
            package.source = quoted.map(str::to_owned);
        }
    }
    packages
}

/// Name → names it needs, over all versions. For our own crates the manifest counts, which tells tests' needs apart.
pub fn graph(tree: &Tree) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = tree.get("Cargo.lock").and_then(Option::as_deref).unwrap_or("");
    for package in lock(text) {
        edges.entry(package.name).or_default().extend(package.needs);
    }
    for ours in ours(tree) {
        edges.insert(ours.name, ours.needs);
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_manifest_tells_needs_from_tests_needs() {
        let text = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = \"1\"\n# d = \"1\"\n[dependencies.e]\n\
                    version = \"1\"\n[target.'cfg(unix)'.dependencies]\nf = \"1\"\n[dev-dependencies]\ng = \"1\"\n[lints]\nworkspace = true\n";
        let found = manifest("crates/a/Cargo.toml", text);
        assert_eq!(found.name, "a");
        assert_eq!(found.needs, set(&["b", "c", "e", "f"]));
        assert_eq!(found.tests_need, set(&["g"]));
    }

    #[test]
    fn a_lock_is_read_with_versions_dropped() {
        let text = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\ndependencies = [\n \"b 1.0.0\",\n \"c\",\n]\n\n\
                    [[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        let found = lock(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].source.as_deref()), ("a", Some("registry+x")));
        assert_eq!(found[0].needs, set(&["b", "c"]));
        assert!(found[1].needs.is_empty());
    }
}
