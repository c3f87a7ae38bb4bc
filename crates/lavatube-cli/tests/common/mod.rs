//! What the tests of the real command share: a machine of its own, seeded chance, and an eye for what is really there.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod before;
pub mod facts;
pub mod mount;
pub mod pair;
pub mod strace;

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A machine of its own: a home folder, and below it vault, state and keys.
pub struct Machine {
    pub dir: TempDir,
    /// Printed with every failure.
    pub seed: u64,
}

impl Machine {
    /// A machine with an empty folder `src`; `seed` is told when something fails.
    pub fn new(seed: u64) -> Self {
        eprintln!("seed {seed:#x}");
        let dir = tempfile::Builder::new().prefix("lavatube-test-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        Self { dir, seed }
    }

    /// A machine whose files lie in memory, where that can be had: for tests that run the command hundreds of times.
    pub fn in_memory(seed: u64) -> Self {
        eprintln!("seed {seed:#x}");
        let mut builder = tempfile::Builder::new();
        builder.prefix("lavatube-test-");
        let dir = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        Self { dir, seed }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn src(&self) -> PathBuf {
        self.path("src")
    }

    pub fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    pub fn drive(&self, n: usize) -> PathBuf {
        self.path(&format!("vault/drives/d{n}"))
    }

    /// The drives that a backup calls degraded are those that are `away`, and else only such as are in quarantine.
    #[track_caller]
    pub fn assert_held(&self, degraded: &Value, away: &[usize], what: &str) {
        let degraded: Vec<String> = degraded.as_array().unwrap().iter().map(text).collect();
        let away: Vec<String> = away.iter().map(|n| format!("d{n}")).collect();
        assert!(away.iter().all(|label| degraded.contains(label)), "{what}: {degraded:?}, away {away:?}");
        let others: Vec<&String> = degraded.iter().filter(|label| !away.contains(label)).collect();
        if others.is_empty() {
            return;
        }
        let (_, status) = self.answer(&["vault", "status"]);
        let drives = status["drives"].as_array().unwrap();
        let is_held = |label: &str| drives.iter().any(|d| d["label"] == label && d["state"] == "quarantine");
        assert!(others.iter().all(|label| is_held(label)), "{what}: {degraded:?}, {drives:#?}");
    }

    /// The state of the one vault.
    pub fn state(&self) -> PathBuf {
        let mut all = std::fs::read_dir(self.path("state")).unwrap();
        all.next().unwrap().unwrap().path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.wrapped(Command::new(env!("CARGO_BIN_EXE_lavatube")), args)
    }

    /// `lavatube` behind another program, such as strace.
    pub fn wrapped(&self, mut command: Command, args: &[&str]) -> Command {
        command.args(args).env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path());
        for (name, folder) in [("VAULT", "vault"), ("STATE", "state"), ("KEYS", "keys")] {
            command.env(format!("LAVATUBE_{name}"), self.path(folder));
        }
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        output(self.command(args))
    }

    /// Runs with `--json`, expects `status`, and returns the answer.
    #[track_caller]
    pub fn json(&self, args: &[&str], status: i32) -> Value {
        let (got, answer) = self.answer(args);
        assert_eq!(got, status, "seed {:#x}: lavatube {}: {answer:#}", self.seed, args.join(" "));
        answer
    }

    /// Runs with `--json` and returns exit status and answer.
    #[track_caller]
    pub fn answer(&self, args: &[&str]) -> (i32, Value) {
        let mut command = self.command(args);
        command.arg("--json");
        let out = output(command);
        self.read(args, &out)
    }

    #[track_caller]
    pub fn read(&self, args: &[&str], out: &Output) -> (i32, Value) {
        let shown = || format!("seed {:#x}\n{}", self.seed, show(args, out));
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}\n{}", shown()));
        let status = out.status.code().unwrap_or_else(|| panic!("{}", shown()));
        assert_eq!(answer["exit"], status, "the answer and the status agree: {}", shown());
        (status, answer)
    }

    /// Takes a snapshot of `src` that must be whole, and returns the answer.
    #[track_caller]
    pub fn backup(&self) -> Value {
        self.json(&["backup", "src"], 0)
    }

    /// Restores `snapshot` into a fresh folder and returns that.
    #[track_caller]
    pub fn restore(&self, snapshot: &str, target: &str) -> PathBuf {
        let target = self.path(target);
        assert!(!target.exists());
        let answer = self.json(&["restore", snapshot, "--target", target.to_str().unwrap()], 0);
        assert_eq!(answer["warnings"]["count"], 0, "{answer:#}");
        target
    }

    /// Starts a command whose output nobody reads.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts a command and kills it after `delay`; tells whether it had ended by itself before, and how.
    pub fn killed(&self, args: &[&str], delay: Duration) -> Option<i32> {
        let mut child = self.start(args);
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap().code()
    }

    /// All files on the drives, by path, in order.
    pub fn drive_files(&self) -> Vec<PathBuf> {
        files_below(&self.path("vault/drives"))
    }

    /// Bytes of shards on all drives.
    pub fn stored_bytes(&self) -> u64 {
        let shards = self.drive_files().into_iter().filter(|p| is_shard(p));
        shards.map(|p| p.metadata().unwrap().len()).sum()
    }

    /// Ids of all snapshots, oldest first.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<String> {
        let answer = self.json(&["snapshots"], 0);
        answer["snapshots"].as_array().unwrap().iter().map(|s| text(&s["snapshot"])).collect()
    }
}

/// Runs a command to its end; one that does not end is killed, and the test fails.
#[track_caller]
pub fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (over, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(LONGEST) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            return true;
        }
        false
    });
    let out = child.wait_with_output().unwrap();
    drop(over);
    assert!(!watch.join().unwrap(), "it never ends: {command:?}");
    out
}

/// No command of a test takes longer, however busy the machine.
const LONGEST: Duration = Duration::from_secs(90);

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// The `path` of each element, sorted.
pub fn paths(list: &Value) -> Vec<String> {
    let mut out: Vec<_> = list.as_array().unwrap().iter().map(|e| text(&e["path"])).collect();
    out.sort();
    out
}

pub fn show(args: &[&str], out: &Output) -> String {
    let mut text = format!("$ lavatube {}\n{}", args.join(" "), String::from_utf8_lossy(&out.stdout));
    let _ = write!(text, "--- standard error\n{}", String::from_utf8_lossy(&out.stderr));
    let _ = writeln!(text, "[{}]", out.status);
    text
}

pub fn is_shard(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "shards")
}

/// All regular files below a folder, in order. A process that runs meanwhile may take some away: those are not there.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    for path in entries {
        let kind = match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            found => found.unwrap().file_type(),
        };
        if kind.is_dir() {
            out.extend(files_below(&path));
        } else if kind.is_file() {
            out.push(path);
        }
    }
    out
}

/// Copies a folder with everything in it, for experiments on the copy.
pub fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Waits until `is_so`, and says whether it came true in time.
pub fn wait_until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    is_so()
}

/// A seed: the test's own, or the one in `LAVATUBE_SEED`.
pub fn seed(own: u64) -> u64 {
    let text = std::env::var("LAVATUBE_SEED").ok();
    text.map_or(own, |t| u64::from_str_radix(t.trim_start_matches("0x"), 16).expect("LAVATUBE_SEED is hexadecimal"))
}

/// Whether the test may do what only root may; says so when not.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "it needs root");
    }
    root
}

/// Says loudly that something was not tested: the harness shows what the macros print of failed tests only, and this
/// always.
pub fn skipped(test: &str, why: &str) {
    let text = format!("\n******** SKIPPED: {test}: {why} ********\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// Whether a program is installed; says loudly when not.
pub fn has_program(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|d| d.join(program).is_file());
    if !found {
        skipped(test, &format!("{program} is not installed"));
    }
    found
}

/// Seeded chance (SplitMix64).
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }

    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.word().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// Text that compresses about three to one.
    pub fn prose(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 16);
        while out.len() < len {
            let word = self.below(2000);
            let _ = std::io::Write::write_fmt(&mut out, format_args!("w{word} "));
        }
        out.truncate(len);
        out
    }

    pub fn upto(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.below(10_000) as f64 / 10_000.0)
    }
}

/// Some hundred files in folders, and a few large ones: `bytes` altogether, about.
pub fn fill(folder: &Path, chance: &mut Chance, files: usize, bytes: usize) {
    let mean = bytes / 2 / files;
    for i in 0..files {
        let dir = folder.join(format!("dir{}/sub{}", i % 7, i % 3));
        std::fs::create_dir_all(&dir).unwrap();
        let len = chance.below(2 * mean + 1);
        let content = if i % 4 == 0 { chance.noise(len) } else { chance.prose(len) };
        std::fs::write(dir.join(format!("file{i:04}")), content).unwrap();
    }
    std::fs::write(folder.join("large-noise"), chance.noise(bytes / 4)).unwrap();
    std::fs::write(folder.join("large-prose"), chance.prose(bytes / 4)).unwrap();
}
