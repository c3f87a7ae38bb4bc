//! `test`, `ci` and `bench`: what is run, in which order, and what is skipped aloud.
//!
//! It exists so that CI and a person run the same thing. It must not know what the tests test.

use crate::run::{Outcome, cargo, must, root, skip, works};
use crate::{tidy, tour};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Rust tests, those of the real command among them, then the rescue reader's.
pub fn test(args: &[String]) -> Outcome {
    no_args(args)?;
    let mut tests = cargo();
    tests.args(["test", "--workspace"]).args(FEATURES);
    if std::env::var_os(THREADS).is_none() {
        // Many tests wait for a link, a disk or a process that was started: others go on meanwhile.
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        tests.env(THREADS, (2 * cores).to_string());
    }
    must(&mut tests)?;
    rescue()
}

/// Everything CI checks, each part with its name and its time.
pub fn ci(args: &[String]) -> Outcome {
    no_args(args)?;
    let mut rows = Vec::new();
    let mut step = |name: &'static str, part: &dyn Fn() -> Outcome| -> Outcome {
        println!("\n==== ci: {name}");
        let start = Instant::now();
        let outcome = part().map_err(|why| format!("{name}: {why}"));
        rows.push(format!("{name:8} {:7.1} s", start.elapsed().as_secs_f64()));
        outcome
    };
    step("fmt", &|| must(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", &|| {
        must(cargo().args(["clippy", "--workspace", "--all-targets"]).args(FEATURES).args(["--", "-D", "warnings"]))
    })?;
    step("tidy", &|| tidy::run(&[]))?;
    step("doc", &|| {
        must(cargo().args(["doc", "--workspace", "--no-deps"]).args(FEATURES).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("deny", &deny)?;
    // Tests wait a lot: a peer that comes as source alone is compiled meanwhile.
    let mut peer = Command::new("nice")
        .arg(root().join("scripts/interop"))
        .arg("--install-dtn7")
        .spawn()
        .map_err(|e| format!("scripts/interop: {e}"))?;
    let tested = step("test", &|| test(&[]));
    let installed = peer.wait();
    tested?;
    installed.map_err(|e| format!("scripts/interop: {e}"))?;
    let built = tour::target_dir()?.join("debug/lavatube");
    // Of the command as the tests have built it: a release build takes minutes, and differs in speed.
    step("try", &|| tour::run(&["--lavatube".into(), built.display().to_string()]))?;
    step("s3", &|| must(Command::new(root().join("scripts/s3")).env("LAVATUBE", &built).current_dir(root())))?;
    step("interop", &|| must(Command::new(root().join("scripts/interop")).arg("--dtn7").current_dir(root())))?;
    println!("\nci: all parts passed\n  {}", rows.join("\n  "));
    Ok(())
}

/// `bench backup`: hands over to the script that installs and measures the peers.
pub fn bench(args: &[String]) -> Outcome {
    let Some((name, rest)) = args.split_first() else {
        return Err("say what to measure: cargo xtask bench backup".into());
    };
    let script = root().join("tools").join(format!("bench-{name}.py"));
    if !script.exists() {
        return Err(format!("tools/bench-{name}.py is not there yet, so there is nothing to run"));
    }
    must(Command::new("python3").arg(script).args(rest).current_dir(root()))
}

fn deny() -> Outcome {
    if works("cargo", &["deny", "--version"]) {
        return must(cargo().args(["deny", "check"]));
    }
    skip(
        "cargo deny (licences, advisories, sources)",
        "`cargo install --locked cargo-deny` adds it; deny.toml is its configuration",
    );
    Ok(())
}

/// Runs every `rescue/test_*.py`, when the modules the rescue reader imports are here.
fn rescue() -> Outcome {
    let dir = root().join("rescue");
    let scripts = files(&dir, ".py");
    let tests: Vec<&PathBuf> = scripts.iter().filter(|p| name(p).starts_with("test_")).collect();
    if tests.is_empty() {
        skip("the rescue reader's tests", "there is no rescue/test_*.py");
        return Ok(());
    }
    if !works("python3", &["-c", "import sys; assert sys.version_info >= (3, 9)"]) {
        skip("the rescue reader's tests", "python3 (3.9 or newer) is not installed");
        return Ok(());
    }
    let mut missing = Vec::new();
    for module in imports(&scripts)? {
        if !works("python3", &["-c", &format!("import {module}")]) {
            missing.push(module);
        }
    }
    if !missing.is_empty() {
        let why = format!("python3 lacks {}; see rescue/ for how to install them", missing.join(", "));
        skip("the rescue reader's tests", &why);
        return Ok(());
    }
    tests.into_iter().try_for_each(|script| must(Command::new("python3").arg(script).current_dir(root())))
}

/// Modules that the scripts import at the top level, but for those that lie beside them.
fn imports(scripts: &[PathBuf]) -> Result<BTreeSet<String>, String> {
    let mut modules = BTreeSet::new();
    for script in scripts {
        let text = fs::read_to_string(script).map_err(|e| format!("{}: {e}", script.display()))?;
        modules.extend(text.lines().flat_map(imported));
    }
    let here: BTreeSet<String> = scripts.iter().map(|p| name(p).trim_end_matches(".py").to_owned()).collect();
    Ok(modules.difference(&here).cloned().collect())
}

/// `import a.b, c as d` → a, c; `from e.f import g` → e; anything else → nothing.
fn imported(line: &str) -> Vec<String> {
    let first = |path: &str| path.split(['.', ' ', '#']).next().unwrap_or("").to_owned();
    let found = if let Some(list) = line.strip_prefix("import ") {
        list.split(',').map(|item| first(item.trim())).collect()
    } else if let Some(rest) = line.strip_prefix("from ") {
        vec![first(rest)]
    } else {
        Vec::new()
    };
    found.into_iter().filter(|module| !module.is_empty() && module != "__future__").collect()
}

/// Files of a folder with this ending, sorted; none when there is no such folder.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| name(p).ends_with(ending)).collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// With what the command is checked and tested, always the same, so that everything is compiled once: drives in buckets too, which a build has only when asked.
const FEATURES: &[&str] = &["--features", "lavatube-cli/s3"];

fn no_args(args: &[String]) -> Outcome {
    if args.is_empty() { Ok(()) } else { Err(format!("takes no arguments, not {args:?}")) }
}

/// How many tests of one program run at a time, to Rust's test runner.
const THREADS: &str = "RUST_TEST_THREADS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_imports_are_found_at_the_top_level_only() {
        assert_eq!(imported("import a.b, c as d  # why"), ["a", "c"]);
        assert_eq!(imported("from e.f import g"), ["e"]);
        assert!(imported("from __future__ import annotations").is_empty());
        assert!(imported("    import inner").is_empty());
    }
}
