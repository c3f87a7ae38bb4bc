//! A machine as it is before a backup that will be disturbed, and what must hold after it.

use std::fs;

use serde_json::Value;

use super::facts::{Facts, assert_same, look};
use super::strace::{Injected, inject};
use super::{Chance, Machine, copy_folder, text};

/// One snapshot is in the vault, the source has changed since, and all of it can be put back as it was.
pub struct Before {
    pub machine: Machine,
    first: String,
    then: Facts,
    now: Facts,
}

const PARTS: [&str; 3] = ["vault", "state", "keys"];

impl Before {
    /// A vault of `data` and `parity` shards on as many drives, and a few small files.
    pub fn new(seed: u64, data: usize, parity: usize) -> Self {
        let machine = Machine::in_memory(seed);
        let mut chance = Chance::new(seed);
        let drives: Vec<String> = (0..data + parity).map(|n| format!("vault/drives/d{n}")).collect();
        let (drives, data, parity) = (drives.join(","), data.to_string(), parity.to_string());
        machine.json(&["init", "--drives", &drives, "--data", &data, "--parity", &parity], 0);
        super::fill(&machine.src(), &mut chance, 6, 40_000);
        let (first, then) = (text(&machine.backup()["snapshot"]), look(&machine.src()));
        fs::write(machine.path("src/new"), chance.noise(5000)).unwrap();
        fs::remove_file(machine.path("src/large-prose")).unwrap();
        let now = look(&machine.src());
        fs::create_dir(machine.path("saved")).unwrap();
        for part in PARTS {
            copy_folder(&machine.path(part), &machine.path("saved"));
        }
        Self { machine, first, then, now }
    }

    /// Puts vault, state and keys back as they were.
    pub fn put_back(&self) {
        for part in PARTS {
            fs::remove_dir_all(self.machine.path(part)).unwrap();
            copy_folder(&self.machine.path("saved").join(part), &self.machine.dir.path().join(part));
        }
    }

    /// Does `what` to every one of these calls of a backup, one in each run. `judge` says what must be so then, and which
    /// snapshot was reported; what must be so with every run is looked at here.
    pub fn sweep(&self, calls: &[&str], what: &str, judge: impl Fn(&Injected, &Value, &str) -> Option<String>) {
        let mut met = 0;
        for call in calls {
            for n in 1.. {
                self.put_back();
                let Some(run) = inject(&self.machine, &["backup", "src"], call, what, n, &[]) else { break };
                if run.is_over() {
                    break;
                }
                met += 1;
                let story = format!("{call} {n} {what}, seed {:#x}: {}", self.machine.seed, run.calls.join(" and "));
                let answer = serde_json::from_slice(&run.out.stdout).unwrap_or_else(|e| panic!("{story}: {e}"));
                let reported = judge(&run, &answer, &story);
                self.is_outlived(&story, reported.as_deref());
            }
        }
        eprintln!("{met} calls of {calls:?} met {what}");
        assert!(met >= 10, "{met} calls of {calls:?} met {what}");
    }

    /// After a disturbed backup: the snapshot before it is there, `reported` is or comes with the next run, nothing half
    /// made is visible, and the next run and all later ones find nothing in their way.
    #[track_caller]
    pub fn is_outlived(&self, what: &str, reported: Option<&str>) {
        let listed = self.machine.snapshots();
        assert_eq!(listed[0], self.first, "{what}: {listed:?}");
        self.restore_all(&listed[1..], what);
        let (status, next) = self.machine.answer(&["backup", "src"]);
        assert_eq!(status, 0, "{what}, the next run: {next:#}");
        assert_eq!(next["promise"], "safe-there", "{what}, the next run: {next:#}");
        // A drive that failed is in quarantine until it was read wholly.
        self.machine.assert_held(&next["degraded_drives"], &[], &format!("{what}, the next run: {next:#}"));
        let after = self.machine.snapshots();
        assert!(after.starts_with(&listed), "{what}: {listed:?} {after:?}");
        for id in reported.into_iter().chain([text(&next["snapshot"]).as_str()]) {
            assert!(after.iter().any(|a| a == id), "{what}: {id} was reported: {after:?}");
        }
        self.restore_all(&after[..1], what);
        self.restore_all(&after[listed.len()..], what);
        let (status, repaired) = self.machine.answer(&["check", "--read-data", "--repair"]);
        assert!([0, 4].contains(&status), "{what}: {repaired:#}");
        assert_eq!(repaired["repair"]["shards_left"], 0, "{what}: {repaired:#}");
        let states = self.machine.json(&["vault", "status"], 0)["drives"].clone();
        assert!(states.as_array().unwrap().iter().all(|d| d["state"] == "present"), "{what}: {states:#}");
    }

    /// Every snapshot is the first or shows the source as it is now.
    #[track_caller]
    fn restore_all(&self, ids: &[String], what: &str) {
        for id in ids {
            let back = self.machine.restore(id, "back");
            let want = if *id == self.first { &self.then } else { &self.now };
            assert_same(want, &back.join("src"), what);
            fs::remove_dir_all(back).unwrap();
        }
    }
}
