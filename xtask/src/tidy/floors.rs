//! Floors and forbidden dependencies: the walls that are lines in `Cargo.toml`.
//!
//! The tables here are the plan of `ARCHITECTURE.md` in a form a machine can keep. Whoever moves a wall moves it here, in
//! ARCHITECTURE and in a decision record, in one commit. It must not know what the crates do.

use super::manifests::{self, graph, ours};
use super::{Finding, Tree};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Crates by floor, from the ground up. A crate may depend on lower floors only.
const FLOORS: &[&[&str]] = &[
    &["lavatube-base", "lavatube-codes"],
    &["lavatube-bundle", "lavatube-channel", "lavatube-format", "lavatube-odds", "lavatube-seal"],
    &["lavatube-client", "lavatube-link", "lavatube-vault"],
    &["lavatube-bucket", "lavatube-node", "lavatube-s3", "lavatube-dash"],
    &["lavatube-cli", "lavatube-emulator", "lavatube-sim"],
];

/// Neighbours on one floor of which one may know the other, and why.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (
        "lavatube-seal",
        "lavatube-format",
        "sealing fills the fields of key files and manifests, whose layouts only format may draw (decision 0001)",
    ),
    (
        "lavatube-node",
        "lavatube-bucket",
        "drives are opened in one place, and a bucket is one kind; async stays in a room of its own (decision 0023)",
    ),
];

/// What a crate must not reach, not even through others, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "lavatube-vault",
        &["lavatube-seal", "lavatube-bundle", "zstd", "aes", "aes-gcm", "chacha20poly1305", "hpke", "argon2"],
        "the vault cannot decrypt because nothing that decrypts is in its dependency tree",
    ),
    (
        "lavatube-vault",
        &["lavatube-bucket", "tokio", "object_store"],
        "the vault knows drives, not networks, and is synchronous",
    ),
    (
        "lavatube-bucket",
        &["lavatube-seal", "lavatube-client", "zstd", "aes-gcm", "hpke", "argon2"],
        "a drive keeps sealed bytes and cannot open them",
    ),
    (
        "lavatube-client",
        // `lavatube-codes` it reaches through seal, whose audit keys add up in one of its fields (decision 0014).
        &["lavatube-vault", "lavatube-bundle"],
        "the client knows packs, not shards or drives, nor what carries them",
    ),
    ("lavatube-bundle", &["zstd", "argon2"], "bundles carry payloads and do not look at them"),
    ("lavatube-format", &["lavatube-seal", "zstd", "argon2"], "format knows layouts, not keys or compressors"),
    ("lavatube-seal", &["zstd"], "sealing does not look at what it seals"),
    (
        "lavatube-link",
        &["lavatube-client", "lavatube-vault", "lavatube-seal", "lavatube-bundle", "zstd", "aes"],
        "the link carries blocks and does not read them; of format it knows only its own datagrams",
    ),
];

/// Crates that bring time, chance, sockets or a terminal, and the only crates of ours that may ask for them.
const KEPT_APART: &[(&[&str], &[&str], &str)] = &[
    (&["clap", "indicatif"], &["lavatube-cli"], "only the command knows a terminal"),
    (
        &["rustix", "libc", "nix"],
        &["lavatube-node", "lavatube-cli", "lavatube-emulator"],
        "only node knows a real computer, and the emulator its two network devices",
    ),
    (&["tun-rs"], &["lavatube-emulator"], "nobody else makes network devices"),
    (&["rand", "getrandom"], &["lavatube-node"], "entropy is handed in by node or sim"),
    (
        &["tokio", "tokio-rustls", "hyper", "object_store", "rustls"],
        &["lavatube-bucket"],
        "async lives on the thread of a drive in a bucket and nowhere else (decision 0023)",
    ),
    (&["async-std", "smol"], &[], "there is one runtime, for drives in buckets"),
];

/// The only place crates may come from.
const PUBLIC_INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Each crate has a floor and looks down only; `codes` stands on nothing.
pub fn floors(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ours in ours(tree) {
        let Some(here) = floor(&ours.name) else {
            let mend = "give it a floor in xtask/src/tidy/floors.rs, ARCHITECTURE.md and a decision record";
            findings.push(Finding::new(&ours.path, format!("{} has no floor", ours.name), mend));
            continue;
        };
        for other in &ours.needs {
            let allowed = NEIGHBOURS.iter().any(|(who, whom, _)| *who == ours.name && whom == other);
            if let Some(there) = floor(other).filter(|there| *there >= here && !allowed) {
                let what = format!("{} (floor {here}) depends on {other} (floor {there})", ours.name);
                findings.push(Finding::new(
                    &ours.path,
                    what,
                    "move what both need to a lower floor, or hand it in through a seam",
                ));
            }
        }
        if ours.name == "lavatube-codes" && !ours.needs.is_empty() {
            let what = format!("lavatube-codes depends on {:?}", ours.needs);
            findings.push(Finding::new(&ours.path, what, "codes is arithmetic on byte slices and depends on nothing"));
        }
    }
    findings
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// Nothing forbidden is reached, in the crate or through others; tests are free except for the forbidden pair itself.
pub fn forbidden(tree: &Tree) -> Vec<Finding> {
    let edges = graph(tree);
    let mut findings = Vec::new();
    for ours in ours(tree) {
        for (_, names, why) in FORBIDDEN.iter().filter(|(who, _, _)| *who == ours.name) {
            for name in *names {
                if let Some(path) = way(&edges, &ours.name, name) {
                    let mend = format!("{why}; take the dependency out or move the code to a room that may know it");
                    findings.push(Finding::new(&ours.path, path.join(" -> "), mend));
                } else if ours.tests_need.contains(*name) {
                    let what = format!("the tests of {} depend on {name}", ours.name);
                    findings.push(Finding::new(
                        &ours.path,
                        what,
                        format!("{why}; such a test belongs in lavatube-sim"),
                    ));
                }
            }
        }
        for (names, who, why) in KEPT_APART.iter().filter(|(_, who, _)| !who.contains(&ours.name.as_str())) {
            for name in names.iter().filter(|name| ours.needs.contains(**name)) {
                let mend = if who.is_empty() { (*why).to_owned() } else { format!("{why}: {}", who.join(", ")) };
                findings.push(Finding::new(&ours.path, format!("{} depends on {name}", ours.name), mend));
            }
        }
    }
    findings
}

/// The shortest way from one crate to another, both included.
fn way(edges: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(here) = queue.pop_front() {
        for next in edges.get(here).into_iter().flatten() {
            if next != from && !came_from.contains_key(next.as_str()) {
                came_from.insert(next, here);
                queue.push_back(next);
            }
        }
    }
    let mut path = vec![to.to_owned()];
    let mut at = to;
    while at != from {
        at = came_from.get(at)?;
        path.push(at.to_owned());
    }
    path.reverse();
    Some(path)
}

/// The lock and the configuration name no registry but the public one.
pub fn public_sources(tree: &Tree) -> Vec<Finding> {
    let text = tree.get("Cargo.lock").and_then(Option::as_deref).unwrap_or("");
    let locked = manifests::lock(text).into_iter();
    let strange = locked.filter_map(|p| p.source.clone().filter(|s| s != PUBLIC_INDEX).map(|s| (p.name, s)));
    strange
        .map(|(name, source)| {
            Finding::new("Cargo.lock", format!("{name} comes from {source}"), "use a release from crates.io")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn manifest(name: &str, needs: &str, tests: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[dependencies]\n{needs}\n[dev-dependencies]\n{tests}\n")
    }

    #[test]
    fn looking_up_or_sideways_is_found() {
        let up = manifest("lavatube-format", "lavatube-client.workspace = true", "");
        let sideways = manifest("lavatube-client", "lavatube-vault.workspace = true", "");
        let down = manifest("lavatube-vault", "lavatube-base.workspace = true", "lavatube-client.workspace = true");
        let tree =
            tree(&[("crates/f/Cargo.toml", &up), ("crates/c/Cargo.toml", &sideways), ("crates/v/Cargo.toml", &down)]);
        let at: Vec<String> = floors(&tree).into_iter().map(|f| f.at).collect();
        assert_eq!(at, ["crates/c/Cargo.toml", "crates/f/Cargo.toml"]);
    }

    #[test]
    fn seal_may_know_format_but_not_the_other_way() {
        let seal = manifest("lavatube-seal", "lavatube-format.workspace = true", "");
        let format = manifest("lavatube-format", "lavatube-seal.workspace = true", "");
        assert!(floors(&tree(&[("crates/s/Cargo.toml", &seal)])).is_empty());
        assert_eq!(floors(&tree(&[("crates/f/Cargo.toml", &format)])).len(), 1);
    }

    #[test]
    fn a_crate_without_a_floor_and_codes_with_a_dependency_are_found() {
        let stranger = manifest("lavatube-attic", "", "");
        let codes = manifest("lavatube-codes", "blake3 = \"1\"", "proptest = \"1\"");
        assert_eq!(floors(&tree(&[("crates/a/Cargo.toml", &stranger), ("crates/c/Cargo.toml", &codes)])).len(), 2);
    }

    #[test]
    fn the_way_to_a_forbidden_crate_is_shown() {
        let vault = manifest("lavatube-vault", "helper = \"1\"", "");
        let lock =
            "[[package]]\nname = \"helper\"\ndependencies = [\n \"zstd 0.13.0\",\n]\n[[package]]\nname = \"zstd\"\n";
        let found = forbidden(&tree(&[("crates/v/Cargo.toml", &vault), ("Cargo.lock", lock)]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "lavatube-vault -> helper -> zstd");
    }

    #[test]
    fn a_forbidden_pair_is_found_in_tests_too_but_not_what_tests_reach_through_others() {
        let vault = manifest("lavatube-vault", "", "lavatube-seal.workspace = true\nproptest = \"1\"");
        let lock = "[[package]]\nname = \"proptest\"\ndependencies = [\n \"aes\",\n]\n";
        let found = forbidden(&tree(&[("crates/v/Cargo.toml", &vault), ("Cargo.lock", lock)]));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("tests of lavatube-vault"));
    }

    #[test]
    fn entropy_is_for_node_alone() {
        let seal = manifest("lavatube-seal", "getrandom = \"0.4\"", "");
        let node = manifest("lavatube-node", "getrandom = \"0.4\"", "");
        assert_eq!(forbidden(&tree(&[("crates/s/Cargo.toml", &seal), ("crates/n/Cargo.toml", &node)])).len(), 1);
    }

    #[test]
    fn a_strange_registry_is_found() {
        let lock = format!(
            "[[package]]\nname = \"a\"\nsource = \"{PUBLIC_INDEX}\"\n[[package]]\nname = \"b\"\nsource = \"git+https://x\"\n"
        );
        assert_eq!(public_sources(&tree(&[("Cargo.lock", &lock)])).len(), 1);
    }
}
