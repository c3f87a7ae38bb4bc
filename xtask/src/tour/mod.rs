//! `cargo xtask try [FOLDER]`: the whole of lavatube on one machine, explained step by step.
//!
//! It is the README's first command and a test in one: a folder goes into a fresh vault of six drives, two drives die,
//! and what comes back is compared with what went in by code that shares nothing with lavatube. It must not know any
//! layout or key: it starts the `lavatube` program as a user would, and looks at folders.

mod compare;
mod sample;

use crate::run::{Outcome, cargo, flush, must, output, root, show};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is called, where it keeps things, and what it is asked. Change these when the command changes.
const PROGRAM: &str = "lavatube";
const PACKAGE: &str = "lavatube-cli";
const ENV_CONFIG: &str = "LAVATUBE_CONFIG";
const ENV_VAULT: &str = "LAVATUBE_VAULT";
const ENV_STATE: &str = "LAVATUBE_STATE";
const ENV_KEYS: &str = "LAVATUBE_KEYS";
const DRIVES_IN_VAULT: &str = "drives";
const DRIVES: usize = 6;
const INIT: &[&str] = &["init"];
const BACKUP: &[&str] = &["backup"];
const SNAPSHOTS: &[&str] = &["snapshots"];
const CHECK: &[&str] = &["check", "--read-data"];
const REPAIR: &[&str] = &["check", "--repair"];
const RESTORE: &[&str] = &["restore", "latest", "--target"];

/// Exit status of a check that mended what it found (docs/ERRORS.md).
const REPAIRED: i32 = 4;

/// Which drive is deleted and which is overwritten.
const DELETED: usize = 1;
const NOISY: usize = 4;

const STEPS: usize = 10;
const DIFFERENCES_SHOWN: usize = 20;

/// What the user asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    folder: Option<PathBuf>,
    keep: bool,
    program: Option<PathBuf>,
}

fn wish(args: &[String]) -> Result<Wish, String> {
    let mut wish = Wish::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => wish.keep = true,
            "--lavatube" => wish.program = Some(args.next().ok_or("--lavatube needs the path of a program")?.into()),
            option if option.starts_with('-') => {
                return Err(format!("there is no option {option}; there are --keep and --lavatube PROGRAM"));
            }
            folder if wish.folder.is_none() => wish.folder = Some(folder.into()),
            more => return Err(format!("one folder at a time, please; `{more}` is the second")),
        }
    }
    Ok(wish)
}

/// Runs the tour in a temporary directory and removes it, unless it failed or is to be kept.
pub fn run(args: &[String]) -> Outcome {
    let wish = wish(args)?;
    let temp = fs::canonicalize(std::env::temp_dir()).map_err(|e| format!("the temporary directory: {e}"))?;
    let place = temp.join(format!("lavatube-try-{}", std::process::id()));
    fs::create_dir(&place).map_err(|e| format!("cannot make {}: {e}", place.display()))?;
    let outcome = Tour { place: place.clone(), program: PathBuf::new(), step: 0 }.walk(&wish);
    if outcome.is_err() || wish.keep {
        println!("\nEverything is left in {}", place.display());
    } else {
        fs::remove_dir_all(&place).map_err(|e| format!("cannot remove {}: {e}", place.display()))?;
        println!("\nThe temporary directory is removed again (--keep leaves it).");
    }
    outcome
}

struct Tour {
    place: PathBuf,
    program: PathBuf,
    step: usize,
}

impl Tour {
    fn walk(&mut self, wish: &Wish) -> Outcome {
        // An empty configuration, so that the user's own is not read.
        fs::write(self.place.join("config.toml"), "").map_err(|e| format!("{}: {e}", self.place.display()))?;
        let source = self.source(wish)?;
        self.build(wish)?;
        self.first_backup(&source)?;
        self.second_backup(&source)?;
        let drives = self.look_at_a_drive()?;
        self.break_two_drives(&drives)?;
        self.check_with_damage()?;
        let restored = self.restore(&source)?;
        self.compare(&source, &restored)?;
        self.repair(&drives)?;
        self.what_next();
        Ok(())
    }

    /// Says where we are and why.
    fn say(&mut self, title: &str, why: &str) {
        self.step += 1;
        println!("\n── Step {} of {STEPS}: {title}\n{why}\n", self.step);
        flush();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let at = |name: &str| self.place.join(name);
        command.args(args).envs([
            (ENV_CONFIG, at("config.toml")),
            (ENV_VAULT, at("vault")),
            (ENV_STATE, at("state")),
            (ENV_KEYS, at("keys")),
        ]);
        command
    }

    fn build(&mut self, wish: &Wish) -> Outcome {
        self.say("build lavatube", "A release build, as you would use it. The first time this takes a few minutes.");
        if let Some(program) = &wish.program {
            self.program = fs::canonicalize(program).map_err(|e| format!("{}: {e}", program.display()))?;
            println!("Using {} as it is.", self.program.display());
            return Ok(());
        }
        must(cargo().args(["build", "--release", "--quiet", "--package", PACKAGE]))?;
        self.program = target_dir()?.join("release").join(PROGRAM);
        Ok(())
    }

    fn source(&mut self, wish: &Wish) -> Result<PathBuf, String> {
        let Some(folder) = &wish.folder else {
            let source = self.place.join("sample");
            self.say(
                "make something worth keeping",
                "A small folder with one of everything that backups tend to lose:",
            );
            for line in sample::make(&source).map_err(|e| format!("making the sample: {e}"))? {
                println!("  {line}");
            }
            return Ok(source);
        };
        let source = fs::canonicalize(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        if !source.is_dir() {
            return Err(format!("{} is not a folder", source.display()));
        }
        if self.place.starts_with(&source) {
            return Err(format!(
                "{} contains the temporary directory, and would be backed up into itself",
                source.display()
            ));
        }
        self.say("your folder", &format!("{} is only read, never changed.", source.display()));
        println!("The vault takes up to one and a half times its size, and the restored copy its size once more,");
        println!("both in {}. Files that change meanwhile will show as differences.", self.place.display());
        Ok(source)
    }

    fn first_backup(&mut self, source: &Path) -> Outcome {
        self.say(
            "make keys and a vault, and back up",
            "`init` makes the keys and a vault of six drives: here six folders, in earnest six disks. It prints the recovery\n\
             key: keep it on paper, it opens the archive when everything else is gone. `backup` cuts files into chunks, packs\n\
             and seals them, and spreads each pack over the six drives, so that any four give it back.",
        );
        must(&mut self.command(INIT))?;
        must(self.command(BACKUP).arg(source))
    }

    fn second_backup(&mut self, source: &Path) -> Outcome {
        self.say("back up again", "Nothing has changed, so no file is read and next to nothing is stored.");
        must(self.command(BACKUP).arg(source))?;
        must(&mut self.command(SNAPSHOTS))
    }

    fn look_at_a_drive(&mut self) -> Result<Vec<PathBuf>, String> {
        self.say(
            "look at a drive",
            "Every file on it explains itself (docs/FORMAT.md, section 6). None tells what was backed up.",
        );
        let folder = self.place.join("vault").join(DRIVES_IN_VAULT);
        let drives = children(&folder)?;
        if drives.len() != DRIVES {
            return Err(format!("{} holds {} drives, not {DRIVES}", folder.display(), drives.len()));
        }
        let mut files = Vec::new();
        files_below(&drives[0], &mut files)?;
        println!("{}", drives[0].display());
        let (shards, others): (Vec<_>, Vec<_>) =
            files.iter().partition(|(path, _)| path.starts_with(drives[0].join("shards")));
        for (path, bytes) in others.iter().chain(shards.iter().take(3)) {
            println!("  {bytes:>10}  {}", path.strip_prefix(&drives[0]).unwrap_or(path).display());
        }
        println!("  {} shard files in all, {} bytes", shards.len(), shards.iter().map(|(_, bytes)| bytes).sum::<u64>());
        Ok(drives)
    }

    fn break_two_drives(&mut self, drives: &[PathBuf]) -> Outcome {
        self.say(
            "break two of the six drives",
            "One is gone altogether. The other answers, with noise in place of every byte.",
        );
        fs::remove_dir_all(&drives[DELETED]).map_err(|e| format!("{}: {e}", drives[DELETED].display()))?;
        println!("deleted      {}", drives[DELETED].display());
        let mut files = Vec::new();
        files_below(&drives[NOISY], &mut files)?;
        for (path, bytes) in &files {
            make_writable(path)?;
            fs::write(path, sample::noise(*bytes)).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        println!("overwritten  {} ({} files)", drives[NOISY].display(), files.len());
        Ok(())
    }

    fn check_with_damage(&mut self) -> Outcome {
        self.say(
            "ask what is wrong",
            "`check --read-data` reads every shard, names what is damaged, and says what that means for your files.",
        );
        let mut command = self.command(CHECK);
        println!("$ {}", show(&command));
        flush();
        let status = command.status().map_err(|e| format!("cannot start {}: {e}", self.program.display()))?;
        match status.code() {
            Some(code) => println!("(exit status {code})"),
            None => return Err(format!("`{}` ended with {status}", show(&command))),
        }
        Ok(())
    }

    fn restore(&mut self, source: &Path) -> Result<PathBuf, String> {
        self.say("restore", "With two drives lost, everything is put together from the other four.");
        let target = self.place.join("restored");
        must(self.command(RESTORE).arg(&target))?;
        let candidates = [
            target.join(source.strip_prefix("/").unwrap_or(source)),
            target.join(source.file_name().unwrap_or_default()),
        ];
        Ok(candidates.into_iter().find(|path| path.is_dir()).unwrap_or(target))
    }

    fn compare(&mut self, source: &Path, restored: &Path) -> Outcome {
        self.say(
            "compare",
            "Done by this script, not by lavatube: names, kinds, contents, modes, times, links, holes, attributes.",
        );
        let found = compare::trees(source, restored).map_err(|e| format!("comparing: {e}"))?;
        println!("{}", found.summary());
        for note in &found.notes {
            println!("note: {note}");
        }
        for difference in found.differences.iter().take(DIFFERENCES_SHOWN) {
            println!("DIFFERENT  {difference}");
        }
        match found.differences.len() {
            0 => {
                println!("No difference.");
                Ok(())
            }
            n => Err(format!("{n} difference(s) between {} and {}", source.display(), restored.display())),
        }
    }

    fn repair(&mut self, drives: &[PathBuf]) -> Outcome {
        self.say(
            "repair",
            "An empty drive takes the place of the one that is gone. `check --repair` makes what is lost anew from the good\n\
             drives, so that two more may die. The last check must find nothing.",
        );
        if !drives[DELETED].exists() {
            fs::create_dir(&drives[DELETED]).map_err(|e| format!("{}: {e}", drives[DELETED].display()))?;
            println!("empty drive  {}", drives[DELETED].display());
        }
        // 4: damage was found, and mended.
        let mut repair = self.command(REPAIR);
        println!("$ {}", show(&repair));
        flush();
        let status = repair.status().map_err(|e| format!("cannot start {}: {e}", self.program.display()))?;
        if status.code() != Some(REPAIRED) {
            return Err(format!("`{}` ended with {status}", show(&repair)));
        }
        must(&mut self.command(CHECK))
    }

    fn what_next(&self) {
        println!("\n── What next\n");
        println!("That was all of it: nothing of yours was changed. For real:\n");
        println!("  cargo install --path crates/{PACKAGE}");
        println!("  {PROGRAM} backup ~/Documents        makes keys and a vault at first use, and says where");
        println!("  {PROGRAM} restore latest --target /tmp/back\n");
        println!("README.md says where keys lie and how to keep the recovery key; docs/OPERATING.md the rest.");
    }
}

/// Where cargo puts what it builds.
pub fn target_dir() -> Result<PathBuf, String> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let text = String::from_utf8_lossy(&metadata).into_owned();
    let path = text.split("\"target_directory\":\"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(path.map_or_else(|| root().join("target"), PathBuf::from))
}

/// What is in a folder, sorted.
fn children(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Regular files below a folder with their sizes, sorted.
fn files_below(dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> Outcome {
    for path in children(dir)? {
        let meta = fs::symlink_metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if meta.is_dir() {
            files_below(&path, files)?;
        } else if meta.is_file() {
            files.push((path, meta.len()));
        }
    }
    Ok(())
}

/// Shard files may be read-only; noise does not ask.
fn make_writable(path: &Path) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mode = fs::Permissions::from_mode(meta.mode() | 0o200);
    fs::set_permissions(path, mode).map_err(|e| format!("{}: {e}", path.display()))
}

/// Whether two streams have the same bytes.
fn same_bytes(a: &mut impl Read, b: &mut impl Read) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (n, m) = (fill(a, &mut left)?, fill(b, &mut right)?);
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match from.read(&mut buffer[have..])? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_may_come_in_any_order() {
        let args = ["--keep", "a", "--lavatube", "b"].map(str::to_owned);
        let expected = Wish { folder: Some("a".into()), keep: true, program: Some("b".into()) };
        assert_eq!(wish(&args), Ok(expected));
        assert!(wish(&["--help".to_owned()]).is_err());
        assert!(wish(&["a", "b"].map(str::to_owned)).is_err());
    }

    #[test]
    fn streams_differ_by_a_byte_or_by_length() {
        let long = vec![7u8; 200_000];
        let mut other = long.clone();
        assert!(same_bytes(&mut &long[..], &mut &other[..]).expect("memory"));
        other[150_000] ^= 1;
        assert!(!same_bytes(&mut &long[..], &mut &other[..]).expect("memory"));
        assert!(!same_bytes(&mut &long[..], &mut &long[..199_999]).expect("memory"));
    }
}
