//! The real command killed with SIGKILL at random moments, in the middle of every verb that writes.
//!
//! After each kill the next run carries on; what was reported once is never lost; half a snapshot is never seen; what the
//! vault has is not sent again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::facts::{Facts, assert_same, differences, look};
use common::{Chance, Machine, files_below, number, seed, text, wait_until};

/// How long something takes when nobody kills it.
fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// Removes a whole folder that a killed restore may have left in any state.
fn clear(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
}

/// Changes some files so that the next snapshot has something to say.
fn stir(src: &Path, chance: &mut Chance, round: usize) {
    let files = files_below(src);
    for _ in 0..8 {
        let file = &files[chance.below(files.len())];
        let len = 1000 + chance.below(40_000);
        fs::write(file, chance.noise(len)).unwrap();
    }
    fs::write(src.join(format!("new{round}")), chance.noise(300_000)).unwrap();
}

#[test]
fn init_killed_anywhere_is_completed_by_the_next() {
    let machine = Machine::new(seed(31));
    let mut chance = Chance::new(machine.seed);
    fs::write(machine.path("src/f"), "x").unwrap();
    let whole = timed(|| drop(machine.json(&["init"], 0)));
    for round in 0..12 {
        for folder in ["vault", "state", "keys"] {
            clear(&machine.path(folder));
        }
        let delay = chance.upto(whole);
        for _ in 0..2 {
            machine.killed(&["init"], delay);
        }
        // The very first command of a user carries on just as well as another init.
        let args: &[&str] = if round % 2 == 0 { &["backup", "src"] } else { &["init"] };
        let (status, answer) = machine.answer(args);
        assert_eq!(status, 0, "round {round}, killed after {delay:?}, seed {:#x}: {answer:#}", machine.seed);
        machine.backup();
        machine.json(&["check", "--read-data"], 0);
        assert!(machine.path("keys/recovery-key.txt").exists(), "round {round}: {delay:?}");
        clear(&machine.path("back"));
        machine.restore("latest", "back");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story: what is remembered of each round is needed at its end")]
fn backups_killed_anywhere_lose_nothing_and_send_nothing_twice() {
    let machine = Machine::new(seed(32));
    let mut chance = Chance::new(machine.seed);
    let src = machine.src();
    common::fill(&src, &mut chance, 250, 6 << 20);
    let mut reported: BTreeMap<String, Facts> = BTreeMap::new();
    let first = machine.backup();
    reported.insert(text(&first["snapshot"]), look(&src));
    let mut whole = timed(|| {
        stir(&src, &mut chance, 99);
        machine.json(&["backup", "src", "--read-all"], 0);
    });
    // That one is the clock only.
    let clock_only = machine.snapshots().pop().unwrap();
    let (mut kills, mut resumed) = (0, 0);
    // What snapshots that a killed run took may look like: a manifest that was signed goes to the vault with the next run.
    let mut tried: Vec<Facts> = Vec::new();
    let mut told_by_none: BTreeMap<String, Vec<Facts>> = BTreeMap::new();
    for round in 0..24 {
        stir(&src, &mut chance, round);
        tried.push(look(&src));
        let delay = chance.upto(whole);
        let listed = machine.snapshots();
        let ended = machine.killed(&["backup", "src"], delay);
        assert!(ended.is_none_or(|status| status == 0), "round {round}: {ended:?}");
        kills += usize::from(ended.is_none());
        if ended.is_some() {
            // Whatever else the machine is doing, most runs shall be killed.
            whole = whole * 3 / 4;
        }
        let now = machine.snapshots();
        assert!(now.starts_with(&listed), "round {round}: {listed:?} {now:?}");
        assert!(
            now.len() > listed.len() || ended.is_none(),
            "round {round}: a snapshot that was reported is not there"
        );
        for new in &now[listed.len()..] {
            told_by_none.insert(new.clone(), tried.clone());
        }
        if chance.below(3) == 0 {
            let begin = Instant::now();
            let before = machine.snapshots();
            let done = machine.backup();
            whole = begin.elapsed();
            resumed += u64::from(number(&done["recovered"]["packs"]) > 0);
            let id = text(&done["snapshot"]);
            for new in machine.snapshots().into_iter().filter(|s| *s != id && !before.contains(s)) {
                told_by_none.insert(new, tried.clone());
            }
            reported.insert(id, look(&src));
            tried.clear();
        }
    }
    let done = machine.backup();
    let id = text(&done["snapshot"]);
    reported.insert(id, look(&src));
    eprintln!("{kills} kills, {resumed} sessions taken up, {} snapshots that nobody was told of", told_by_none.len());
    assert!(kills >= 12, "most runs were really killed: {kills}");
    let listed = machine.snapshots();
    for id in &listed {
        let back = machine.restore(id, "back");
        let have = look(&back.join("src"));
        let matches = |want: &Facts| differences(want, &have).is_empty();
        match reported.remove(id) {
            Some(want) => assert_same(&want, &back.join("src"), id),
            // The clock's, or one of the last run, which took up what the one before had signed.
            None => match told_by_none.get(id) {
                Some(wants) => {
                    assert!(wants.iter().any(matches), "{id} is none of what was tried: {:#x}", machine.seed)
                }
                None => assert!(*id == clock_only || tried.iter().any(matches), "{id} came from nowhere"),
            },
        }
        clear(&back);
    }
    assert!(reported.is_empty(), "reported and gone: {:?}, seed {:#x}", reported.keys(), machine.seed);
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn a_first_backup_killed_late_is_not_sent_again() {
    let machine = Machine::new(seed(33));
    let mut chance = Chance::new(machine.seed);
    machine.json(&["init"], 0);
    for i in 0..12 {
        fs::write(machine.path(&format!("src/noise{i}")), chance.noise(4 << 20)).unwrap();
    }
    let source = 12 * (4 << 20);
    let mut child = machine.start(&["backup", "src"]);
    // 4 + 2: what is stored is half as much again.
    let half_way = wait_until(Duration::from_secs(60), || machine.stored_bytes() > source * 3 / 4);
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(half_way && ended.code().is_none(), "it was killed in its middle: {ended}");
    assert!(machine.snapshots().is_empty(), "half a snapshot is none");
    let at_kill = machine.stored_bytes();
    let done = machine.backup();
    let recovered = number(&done["recovered"]["bytes"]);
    let sent = number(&done["stored_bytes"]);
    assert!(recovered >= source / 4, "what was delivered is kept: {done:#}");
    assert!(recovered + sent < source + source / 8, "and not sent again: {done:#}");
    let total = machine.stored_bytes();
    // One pack may have been on its way to the note about it.
    let pack = 16 << 20;
    assert!(total < (source + pack) * 3 / 2 + source / 8, "{at_kill} bytes at the kill, {total} now: {done:#}");
    assert_same(&look(&machine.src()), &machine.restore("latest", "back").join("src"), "restored");
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn restores_killed_anywhere_are_completed_by_the_next() {
    let machine = Machine::new(seed(34));
    let mut chance = Chance::new(machine.seed);
    let src = machine.src();
    common::fill(&src, &mut chance, 300, 12 << 20);
    fs::hard_link(src.join("large-noise"), src.join("dir0/link")).unwrap();
    std::os::unix::fs::symlink("x", src.join("dir1/symlink")).unwrap();
    let want = look(&src);
    machine.backup();
    let args = ["restore", "latest", "--target", "back"];
    let whole = timed(|| drop(machine.json(&args, 0)));
    clear(&machine.path("back"));
    let mut half_done = 0;
    for round in 0..10 {
        for _ in 0..=chance.below(2) {
            machine.killed(&args, chance.upto(whole));
        }
        let there = if machine.path("back").exists() { files_below(&machine.path("back")).len() } else { 0 };
        let done = machine.json(&args, 0);
        half_done += u64::from(there > 0 && number(&done["files"]) > 0);
        assert_same(&want, &machine.path("back/src"), &format!("round {round}, seed {:#x}", machine.seed));
        clear(&machine.path("back"));
    }
    assert!(half_done > 0, "no kill ever came between two files");
}

#[test]
fn repairs_killed_anywhere_are_completed_by_the_next() {
    let machine = Machine::new(seed(35));
    let mut chance = Chance::new(machine.seed);
    let src = machine.src();
    common::fill(&src, &mut chance, 60, 12 << 20);
    machine.backup();
    let want = look(&src);
    let hurt = |chance: &mut Chance| {
        let first = chance.below(6);
        let second = (first + 1 + chance.below(5)) % 6;
        clear(&machine.drive(first));
        for file in files_below(&machine.drive(second)).iter().filter(|f| common::is_shard(f)) {
            let len = file.metadata().unwrap().len() as usize;
            fs::write(file, chance.noise(len)).unwrap();
        }
    };
    hurt(&mut chance);
    let whole = timed(|| drop(machine.json(&["check", "--read-data", "--repair"], 4)));
    for round in 0..8 {
        hurt(&mut chance);
        for _ in 0..2 {
            machine.killed(&["check", "--read-data", "--repair"], chance.upto(whole));
        }
        if round % 2 == 0 {
            let back = machine.restore("latest", "back");
            assert_same(&want, &back.join("src"), "between kill and repair");
            clear(&back);
        }
        let (status, answer) = machine.answer(&["check", "--read-data", "--repair"]);
        assert!([0, 4].contains(&status), "round {round}, seed {:#x}: {answer:#}", machine.seed);
        machine.json(&["check", "--read-data"], 0);
        // Nothing half-made is left lying about for ever.
        machine.backup();
        for n in 0..6 {
            let tmp = machine.drive(n).join("tmp");
            let left = if tmp.exists() { files_below(&tmp).len() } else { 0 };
            assert_eq!(left, 0, "drive {n}, round {round}");
        }
    }
    assert_same(&want, &machine.restore("latest", "back").join("src"), "restored");
}
