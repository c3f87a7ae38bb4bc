//! Sources that change: between snapshots, while they are read, and under the eyes of someone who may not read all of it.
//!
//! Every snapshot is the folder as it was then, and whatever could not be had is listed: never a silent gap.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::facts::{assert_same, look};
use common::{Chance, Machine, files_below, is_root, number, paths, seed, text};
use serde_json::Value;

/// A folder that lives: every step changes a few things.
struct Life<'a> {
    src: PathBuf,
    chance: &'a mut Chance,
    born: usize,
}

impl Life<'_> {
    fn folders(&self) -> Vec<PathBuf> {
        let mut out = vec![self.src.clone()];
        let mut at = 0;
        while at < out.len() {
            let below = fs::read_dir(&out[at]).unwrap().map(|e| e.unwrap());
            out.extend(below.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()).collect::<Vec<_>>());
            at += 1;
        }
        out.sort();
        out
    }

    fn pick(&mut self, from: &[PathBuf]) -> Option<PathBuf> {
        (!from.is_empty()).then(|| from[self.chance.below(from.len())].clone())
    }

    fn name(&mut self) -> String {
        self.born += 1;
        // Names that sort around each other's separators, some of them used again and again.
        ["a", "a-", "a.b", "ab", "zz"]
            .get(self.chance.below(12))
            .map_or_else(|| format!("n{}", self.born), |n| (*n).to_owned())
    }

    fn step(&mut self) {
        let (files, folders) = (files_below(&self.src), self.folders());
        let place = self.pick(&folders).unwrap();
        let name = self.name();
        let new = place.join(name);
        let Some(file) = self.pick(&files) else { return };
        let free = new.symlink_metadata().is_err();
        match self.chance.below(12) {
            0 | 1 if free => fs::write(&new, self.chance.prose(3000)).unwrap(),
            2 if free => {
                fs::create_dir_all(new.join("in/side")).unwrap();
                fs::write(new.join("in/side/file"), self.chance.noise(100)).unwrap();
            }
            3 if free => fs::rename(&file, &new).unwrap(),
            4 => self.move_folder(&folders),
            5 => fs::remove_file(&file).unwrap(),
            6 if place != self.src => fs::remove_dir_all(&place).unwrap(),
            // The same name as another kind.
            7 => {
                fs::remove_file(&file).unwrap();
                symlink("elsewhere", &file).unwrap();
            }
            8 => {
                fs::remove_file(&file).unwrap();
                fs::create_dir(&file).unwrap();
                fs::write(file.join("was a file"), "now a folder").unwrap();
            }
            9 if free => fs::hard_link(&file, &new).unwrap(),
            10 => fs::set_permissions(&file, fs::Permissions::from_mode(0o600 + self.chance.below(64) as u32)).unwrap(),
            // As long as before, with the time it had.
            11 => {
                let meta = fs::metadata(&file).unwrap();
                let handle = fs::File::options().write(true).open(&file).unwrap();
                handle.write_all_at(&self.chance.noise(1), 0).unwrap();
                handle.set_modified(meta.modified().unwrap()).unwrap();
            }
            _ => fs::File::options().append(true).open(&file).unwrap().write_all(b"and more").unwrap(),
        }
    }

    /// Gives a folder with all that is in it another name, and another one's name at that when it is free.
    fn move_folder(&mut self, folders: &[PathBuf]) {
        let Some(from) = self.pick(&folders[1..]) else { return };
        let name = self.name();
        let to = self.src.join(name);
        if to.symlink_metadata().is_err() && !to.starts_with(&from) {
            fs::rename(from, to).unwrap();
        }
    }
}

#[test]
fn every_one_of_many_snapshots_restores_to_the_folder_as_it_was_then() {
    let machine = Machine::new(seed(21));
    let mut chance = Chance::new(machine.seed);
    common::fill(&machine.src(), &mut chance, 120, 300_000);
    let mut life = Life { src: machine.src(), chance: &mut chance, born: 0 };
    let mut taken = Vec::new();
    for round in 0..14 {
        // Few changes make a layer, many a full tree; none makes neither.
        for _ in 0..[1, 3, 0, 9, 2, 30, 1][round % 7] {
            life.step();
        }
        let done = machine.json(&["backup", "src", "--accept-shrink"], 0);
        taken.push((text(&done["snapshot"]), look(&machine.src())));
    }
    assert_eq!(machine.snapshots().len(), taken.len());
    // Half of them as the machine knows them, the others as one that has only vault and keys.
    for (i, (id, want)) in taken.iter().enumerate() {
        if i == taken.len() / 2 {
            fs::remove_dir_all(machine.path("state")).unwrap();
        }
        assert_same(
            want,
            &machine.restore(id, &format!("back{i}")).join("src"),
            &format!("snapshot {i}, seed {:#x}", machine.seed),
        );
    }
    machine.json(&["check", "--read-data"], 0);
}

/// What a growing file has at `at`.
fn grown(at: usize) -> u8 {
    (at / 7 + at / 1021) as u8
}

/// Changes files of `src` in every way until told to stop.
fn torment(src: &Path, over: &AtomicBool, rounds: &AtomicU64) {
    let mut n = 0u64;
    let mut long = src.join("m grows").metadata().unwrap().len() as usize;
    let mut growing = fs::File::options().append(true).open(src.join("m grows")).unwrap();
    while !over.load(Ordering::Relaxed) {
        n += 1;
        let stamp = [n as u8; 1 << 16];
        let rewritten = fs::File::options().write(true).open(src.join("n rewritten")).unwrap();
        for i in 0..REWRITTEN_LEN / stamp.len() as u64 {
            rewritten.write_all_at(&stamp, i * stamp.len() as u64).unwrap();
        }
        if long < 6 << 20 {
            let more: Vec<u8> = (long..long + 5000).map(grown).collect();
            growing.write_all(&more).unwrap();
            long += more.len();
        }
        fs::write(src.join("part"), [n as u8; 3000]).unwrap();
        fs::rename(src.join("part"), src.join("o replaced")).unwrap();
        let come_and_go = src.join(format!("p comes and goes {}", n % 50));
        if fs::remove_file(&come_and_go).is_err() {
            fs::write(&come_and_go, "here").unwrap();
        }
        fs::File::options().write(true).open(src.join("q shrinks")).unwrap().set_len(1 + n % 100_000).unwrap();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

const REWRITTEN_LEN: u64 = 6 << 20;

#[test]
fn files_that_change_while_they_are_read_are_listed_and_all_others_are_exact() {
    let machine = Machine::new(seed(22));
    let mut chance = Chance::new(machine.seed);
    let src = machine.src();
    common::fill(&src.join("steady"), &mut chance, 100, 4 << 20);
    common::fill(&src.join("z steady too"), &mut chance, 100, 1 << 20);
    for (name, len) in [("m grows", 0), ("n rewritten", REWRITTEN_LEN), ("o replaced", 3000), ("q shrinks", 100_000)] {
        fs::write(src.join(name), vec![0; len as usize]).unwrap();
    }
    let steady = [look(&src.join("steady")), look(&src.join("z steady too"))];
    let mut seen_changed = false;
    for round in 0..12 {
        let (over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        let (status, done) = std::thread::scope(|scope| {
            scope.spawn(|| torment(&src, &over, &rounds));
            while rounds.load(Ordering::Relaxed) < 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let answer = machine.answer(&["backup", "src"]);
            over.store(true, Ordering::Relaxed);
            answer
        });
        let back = machine.path(&format!("back{round}"));
        machine.json(&["restore", "latest", "--target", back.to_str().unwrap()], 0);
        assert_eq!(status, if has_listed(&done) { 3 } else { 0 }, "{done:#}");
        assert_same(&steady[0], &back.join("src/steady"), "steady files before");
        assert_same(&steady[1], &back.join("src/z steady too"), "steady files after");
        nothing_is_silently_wrong(&done, &back.join("src"));
        seen_changed |= done["changed"]["count"] != 0;
        fs::remove_dir_all(back).unwrap();
        // What was a mixture then is read again now that it is quiet.
        let quiet = machine.backup();
        assert_eq!((number(&quiet["skipped"]["count"]), number(&quiet["changed"]["count"])), (0, 0));
        assert_same(&look(&src), &machine.restore("latest", &format!("quiet{round}")).join("src"), "quiet again");
        fs::remove_dir_all(machine.path(&format!("quiet{round}"))).unwrap();
        if seen_changed && round >= 2 {
            return;
        }
    }
    panic!("twelve rounds and no file was ever seen changing: seed {:#x}", machine.seed);
}

fn has_listed(done: &Value) -> bool {
    done["skipped"]["count"] != 0 || done["changed"]["count"] != 0
}

fn nothing_is_silently_wrong(done: &Value, back: &Path) {
    let changed: Vec<String> = done["changed"]["paths"].as_array().unwrap().iter().map(text).collect();
    let skipped = paths(&done["skipped"]["entries"]);
    let is_in = |list: &[String], name: &str| list.iter().any(|p| p.ends_with(&format!("/{name}")));
    let content = |name: &str| {
        let read = fs::read(back.join(name));
        assert_eq!(read.is_err(), is_in(&skipped, name), "{name} is there or listed as skipped: {done:#}");
        read.unwrap_or_default()
    };
    let growing = content("m grows");
    assert!(growing.iter().enumerate().all(|(at, b)| *b == grown(at)), "what was appended is a clean beginning");
    let rewritten = content("n rewritten");
    let mixed = rewritten.iter().any(|b| *b != rewritten[0]);
    assert!(!mixed || is_in(&changed, "n rewritten"), "a mixture is listed: {done:#}");
    let replaced = content("o replaced");
    assert!(replaced.is_empty() || replaced == [replaced[0]; 3000], "a file that is replaced is one of the two");
    content("q shrinks");
    for entry in fs::read_dir(back).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("p comes and goes") {
            let content = fs::read(&path).unwrap();
            assert!(content == b"here" || is_in(&changed, path.file_name().unwrap().to_str().unwrap()), "{done:#}");
        }
    }
}

#[test]
fn what_one_may_not_read_is_listed_and_all_the_rest_is_kept() {
    if !is_root("what_one_may_not_read_is_listed_and_all_the_rest_is_kept") {
        return;
    }
    let machine = Machine::new(seed(23));
    let src = machine.src();
    common::fill(&src, &mut Chance::new(machine.seed), 30, 100_000);
    fs::create_dir_all(src.join("shut/deep")).unwrap();
    fs::create_dir_all(src.join("listed only")).unwrap();
    for file in ["secret", "shut/inside", "shut/deep/inside", "listed only/one", "listed only/two", "another's"] {
        fs::write(src.join(file), file).unwrap();
    }
    symlink("/proc/1/root/secret", src.join("link to a secret")).unwrap();
    const NOBODY: u32 = 65_534;
    let status = Command::new("chown").args(["-R", "65534:65534"]).arg(machine.dir.path()).status().unwrap();
    assert!(status.success());
    chown(src.join("another's"), Some(0), Some(0)).unwrap();
    let program = machine.path("lavatube");
    fs::copy(env!("CARGO_BIN_EXE_lavatube"), &program).unwrap();
    let shut = [("secret", 0o200), ("shut", 0o300), ("listed only", 0o600), ("another's", 0o600)];
    for (path, mode) in shut {
        fs::set_permissions(src.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let as_nobody = |args: &[&str]| {
        let mut command = machine.wrapped(Command::new(&program), args);
        command.arg("--json").uid(NOBODY).gid(NOBODY);
        machine.read(args, &common::output(command))
    };
    let (status, done) = as_nobody(&["backup", "src"]);
    assert_eq!(status, 3, "{done:#}");
    let root = src.canonicalize().unwrap();
    let want = ["another's", "listed only/one", "listed only/two", "secret", "shut"]
        .map(|p| format!("{}/{p}", root.display()));
    assert_eq!(paths(&done["skipped"]["entries"]), want, "{done:#}");
    assert_eq!(number(&done["skipped"]["count"]), 5);
    // The record in the vault says so as well, for whoever restores.
    let (_, listing) = as_nobody(&["snapshots"]);
    assert_eq!(listing["snapshots"][0]["skipped"], 5);
    let (status, _) = as_nobody(&["restore", "latest", "--target", "back"]);
    assert_eq!(status, 0);
    let mut expected = look(&src);
    expected.retain(|path, _| {
        let path = String::from_utf8_lossy(path);
        !["secret", "another's"].contains(&&*path) && !path.starts_with("listed only/") && !path.starts_with("shut/")
    });
    assert_same(&expected, &machine.path("back/src"), "all the rest");
    // Once it may be read, it is.
    for (path, _) in shut {
        fs::set_permissions(src.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (status, done) = as_nobody(&["backup", "src"]);
    assert_eq!((status, number(&done["skipped"]["count"])), (0, 0), "{done:#}");
    // And what became unreadable later is listed, not taken from what was known before.
    fs::set_permissions(src.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let (status, done) = as_nobody(&["backup", "src"]);
    assert_eq!((status, paths(&done["skipped"]["entries"])), (3, vec![want[3].clone()]), "{done:#}");
}
