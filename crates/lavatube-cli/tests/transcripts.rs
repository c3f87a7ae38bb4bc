//! Whole screens of the real command: what a person sees, with the exit status, compared with files in `snapshots`.
//!
//! Ids, times, sizes that depend on keys, and folders of the test are filtered. After a change on purpose:
//! `INSTA_UPDATE=always cargo test -p lavatube-cli`, then look at the difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A machine of its own: a home folder with a few files in `photos`.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let photos = dir.path().join("photos");
        std::fs::create_dir_all(photos.join("moon")).unwrap();
        std::fs::write(photos.join("moon/a.txt"), "one small step\n").unwrap();
        std::fs::write(photos.join("moon/b.txt"), "for a file\n").unwrap();
        std::fs::write(photos.join("earth.raw"), noise(200_000)).unwrap();
        std::os::unix::fs::symlink("moon/a.txt", photos.join("link")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn vault(&self, name: &str) -> PathBuf {
        self.path(".local/share/lavatube/vault").join(name)
    }

    fn keys(&self, name: &str) -> PathBuf {
        self.path(".config/lavatube/keys").join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lavatube"));
        command.args(args).env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a person would see.
    fn screen(&self, args: &[&str]) -> String {
        show(args, &self.run(args))
    }

    fn screens(&self, all: &[&[&str]]) -> String {
        all.iter().map(|args| self.screen(args)).collect::<Vec<_>>().join("\n")
    }

    fn backup(&self) {
        let out = self.run(&["backup", "photos", "--host", "box"]);
        assert!(out.status.success(), "{}", show(&[], &out));
    }

    fn json(&self, args: &[&str], status: i32) -> serde_json::Value {
        let out = self.run(args);
        assert_eq!(out.status.code(), Some(status), "{}", show(args, &out));
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", show(args, &out)))
    }
}

fn show(args: &[&str], out: &Output) -> String {
    let mut text = format!("$ lavatube {}\n{}", args.join(" "), String::from_utf8_lossy(&out.stdout));
    if !out.stderr.is_empty() {
        let _ = write!(text, "--- on standard error\n{}", String::from_utf8_lossy(&out.stderr));
    }
    let _ = writeln!(text, "[exit {}]", out.status.code().unwrap_or(-1));
    text
}

fn noise(len: usize) -> Vec<u8> {
    let mut x = 1u32;
    let step = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

#[test]
fn what_is_not_wanted_is_forgotten_and_then_released() {
    let machine = Machine::new();
    let big = machine.path("photos/sky.raw");
    std::fs::write(&big, noise(5_000_000)).unwrap();
    machine.backup();
    std::fs::remove_file(big).unwrap();
    machine.backup();
    let text = machine.screens(&[
        &["forget", "--keep-last", "1", "--dry-run"],
        &["release", "--dry-run"],
        &["forget", "--keep-last", "1"],
        &["snapshots"],
        &["snapshots", "--all"],
        &["release", "--dry-run"],
        &["release", "--without", "nobody"],
        &["release"],
        &["release"],
        &["snapshots", "--all"],
        &["check"],
        &["log"],
    ]);
    compare(&machine, "forgotten", &text);
}

#[test]
fn a_vault_far_away_is_paired_and_what_is_for_it_waits() {
    let machine = Machine::new();
    machine.json(&["init", "--json"], 0);
    std::fs::rename(machine.vault(""), machine.path("moon")).unwrap();
    let moon = machine.path("moon");
    let moon = moon.to_str().unwrap();
    let mut text = machine.screens(&[&["pair"], &["pair", "--vault", moon], &["node", "--once"], &["link", "status"]]);
    let (here, there) = (machine.json(&["pair", "--json"], 0), machine.json(&["pair", "--vault", moon, "--json"], 0));
    let (here, there) = (here["line"].as_str().unwrap(), there["line"].as_str().unwrap());
    text.push('\n');
    text += &machine.screens(&[
        &["pair", here],
        &["pair", &there[..40]],
        &["pair", there, "--peer", "moon"],
        &["pair", there, "--peer", "moon.example:4556"],
        &["pair", here, "--vault", moon],
        &["backup", "photos", "--host", "box"],
        &["snapshots"],
        &["restore", "latest", "--target", "back"],
        &["init"],
        &["link", "status"],
        &["vault", "serve"],
        &["node", "--vault", moon],
        &["vault", "serve", "--vault", moon, "--listen", "nowhere"],
    ]);
    compare(&machine, "far_vault", &text);
}

/// Compares a transcript with its file.
fn compare(machine: &Machine, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for folder in [std::fs::canonicalize(machine.dir.path()).unwrap().as_path(), machine.dir.path()] {
        settings.add_filter(&folder.to_string_lossy().replace('.', "\\."), "~");
    }
    settings.add_filter(r"(gone|stays|thinned) +[0-9.]+ [kM]?B  (of )?\d+ packs?", "$1     [bytes]  $2[n] packs");
    settings.add_filter(r"idle +[0-9.]+ [kM]?B", "idle     [bytes]");
    settings.add_filter(r"there are: \S+ \(", "there are: [host] (");
    settings.add_filter(r"\d+ of the object's bytes", "[n] of the object's bytes");
    settings.add_filter(r"LVTP1-[0-9A-Z]+", "[line]");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[object]");
    settings.add_filter(r"\b[0-9a-f]{48}\b", "[snapshot]");
    settings.add_filter(r"\b[0-9a-f]{32}\b", "[vault]");
    settings.add_filter(r"\b[0-9a-f]{8}\b", "xxxxxxxx");
    settings.add_filter(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d", "2026-01-02${1}03:04:05");
    settings.add_filter(r"[0-9.]+ m?s at [0-9.]+ \S?B/s", "[time] at [rate]");
    settings.add_filter(r"  [0-9.]+ s\n", "  [time]\n");
    settings.add_filter(r"present +[0-9.]+ [kMGT]B", "present        [free]");
    // How much goes into a pack, and which blocks of a shard it lies in, depends on keys.
    settings.add_filter(r"\b[0-9,]+ (more )?(object|pack|shard|block|chunk)s?\b", "[n] ${1}${2}s");
    settings.add_filter(r"\d+ not whole", "[n] not whole");
    settings.add_filter(r"[0-9.]+ % read wholly", "[share] read wholly");
    settings.add_filter(r"(objects +)\d+, [0-9.]+ \S?B ", "${1}[n], [bytes] ");
    settings.add_filter(r" \d+  (outlive|cannot be read wholly)", " [n]  $1");
    settings.add_filter(r"(stored +)[0-9.]+ k?B  .*", "${1}[bytes]");
    settings.add_filter(r"[0-9.]+ [kM]?B( are lost| before parity)", "[bytes]$1");
    settings.add_filter(r"[0-9.]+ % read", "[share] % read");
    settings.add_filter(r"read \([0-9.]+ [kM]?B\)", "read ([bytes])");
    settings.add_filter(r"pid \d+ on \S+\)", "pid [pid] on [host])");
    settings.add_filter(r"(lrwxrwxrwx|[d-][rwx-]{9}) +\d+ +\d+ ", "$1 [owner] ");
    settings.add_filter(r"\(\S+-linux, \w+ build\)", "([target], [profile] build)");
    settings.add_filter(r"\) for \d+ s\n", ") for [age]\n");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_fresh_machine_backs_up_looks_and_restores() {
    let machine = Machine::new();
    let mut text = machine.screens(&[
        &["backup", "photos", "--host", "box"],
        &["backup", "photos", "--host", "box"],
        &["snapshots"],
        &["ls", "latest"],
        &["ls", "-lR", "latest:photos"],
        &["cat", "latest:photos/moon/a.txt"],
        &["restore", "latest", "--target", "back"],
        &["restore", "latest", "--target", "back"],
        &["check", "--read-data"],
        &["status"],
        &["key"],
    ]);
    let mut diff = Command::new("diff");
    diff.args(["-r", "--no-dereference", "photos", "back/photos"]).current_dir(machine.dir.path());
    let _ = write!(text, "\n$ diff -r photos back/photos\n[exit {}]\n", diff.status().unwrap().code().unwrap());
    compare(&machine, "fresh_machine", &text);
    let recovery = machine.keys("recovery-key.txt");
    assert_eq!(recovery.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn drives_of_ones_own_choice_are_shown_with_their_labels() {
    let machine = Machine::new();
    let text = machine.screens(&[
        &[
            "init",
            "--data",
            "2",
            "--parity",
            "1",
            "--drive",
            "a,shelf=left,maker=WD",
            "--drive",
            "b,label=B,shelf=right",
            "--drive",
            "c,model=X 1",
        ],
        &["status"],
        &["init"],
        &["init", "--parity", "1"],
        &["init", "--vault", "other", "--drives", "d,e", "--data", "4"],
        &["init", "--vault", "other", "--drive", "d,size=3"],
    ]);
    compare(&machine, "drives_of_choice", &text);
}

#[test]
fn damage_is_named_and_mended_and_loss_is_named_to_the_file() {
    let machine = Machine::new();
    machine.backup();
    std::fs::remove_dir_all(machine.vault("drives/d3")).unwrap();
    std::fs::remove_dir_all(machine.vault("drives/d5")).unwrap();
    let mut text = machine.screens(&[
        &["backup", "photos", "--host", "box"],
        &["check"],
        &["restore", "latest", "--target", "back", "--quiet"],
        &["check", "--read-data", "--repair"],
        &["check", "--read-data=1%"],
    ]);
    // Most of the largest pack, on every drive: it is full, and has nothing but a part of this file.
    std::fs::write(machine.path("photos/mars.raw"), noise(24_000_000)).unwrap();
    machine.backup();
    let pack = shards(&machine.vault("drives")).into_iter().max_by_key(|s| s.metadata().unwrap().len()).unwrap();
    for shard in shards(&machine.vault("drives")).iter().filter(|s| s.file_stem() == pack.file_stem()) {
        let file = std::fs::File::options().write(true).open(shard).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(3_000_000), 60_000).unwrap();
    }
    text.push('\n');
    text.push_str(&machine.screens(&[
        &["check"],
        &["check", "--read-data"],
        &["restore", "latest", "--target", "back2"],
        &["check", "--read-data", "--repair"],
    ]));
    for drive in ["d0", "d1", "d2"] {
        std::fs::rename(machine.vault("drives").join(drive), machine.path(drive)).unwrap();
    }
    // Which small records outlive three drives is chance: it depends on where their shards lie.
    let lost = machine.screens(&[&["check"], &["restore", "latest", "--target", "back3"], &["status"]]);
    assert!(lost.contains("[exit 5]"), "{lost}");
    assert!(lost.contains("3 of 6 as they should be") && !lost.contains("whole: everything"), "{lost}");
    compare(&machine, "damage", &text);
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(shards(&path));
        } else if path.components().any(|c| c.as_os_str() == "shards") {
            out.push(path);
        }
    }
    out
}

#[test]
fn wrong_usage_and_missing_things_are_told_with_hints() {
    let machine = Machine::new();
    let mut text = machine.screens(&[
        &["backup"],
        &["backup", "nothing-here"],
        &["snapshots"],
        &["status"],
        &["backup", "photos", "--exclude", "["],
        &["backup", "photos", "--config", "none.toml"],
        &["help", "nonsense"],
        &["restore", "latest"],
    ]);
    assert!(!machine.path(".local").exists(), "nothing is made for a wrong command");
    machine.backup();
    text.push('\n');
    text.push_str(&machine.screens(&[
        &["ls", "latest:none"],
        &["ls", "fffffff"],
        &["ls", "latest~9"],
        &["cat", "latest:photos"],
        &["cat", "latest"],
        &["backup", ".local/share/lavatube/vault"],
        &["check", "--read-data=200%"],
    ]));
    std::fs::write(machine.path("bad.toml"), "exlude = ['*.tmp']\n").unwrap();
    std::fs::write(machine.path("worse.toml"), "parity = 'two'\n").unwrap();
    text.push('\n');
    text.push_str(
        &machine.screens(&[&["snapshots", "--config", "bad.toml"], &["snapshots", "--config", "worse.toml"]]),
    );
    compare(&machine, "wrong_usage", &text);
}

#[test]
fn sources_that_look_unmounted_are_refused() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("empty")).unwrap();
    let many = machine.path("many");
    std::fs::create_dir(&many).unwrap();
    for i in 0..40 {
        std::fs::write(many.join(format!("{i}")), "x").unwrap();
    }
    let mut text = machine.screens(&[
        &["backup", "empty", "--host", "box"],
        &["backup", "empty", "--host", "box", "--allow-empty", "--quiet"],
        &["backup", "many", "--host", "box", "--quiet"],
    ]);
    for i in 1..40 {
        std::fs::remove_file(many.join(format!("{i}"))).unwrap();
    }
    text.push('\n');
    text.push_str(&machine.screens(&[
        &["backup", "many", "--host", "box"],
        &["backup", "many", "--host", "box", "--accept-shrink", "--quiet"],
    ]));
    std::fs::rename(machine.vault(""), machine.path("unmounted")).unwrap();
    text.push('\n');
    text.push_str(&machine.screens(&[&["backup", "photos"], &["status"]]));
    compare(&machine, "unmounted", &text);
}

#[test]
fn a_restore_never_overwrites_unasked() {
    let machine = Machine::new();
    machine.backup();
    std::fs::create_dir_all(machine.path("back/photos/moon")).unwrap();
    std::fs::write(machine.path("back/photos/moon/a.txt"), "mine").unwrap();
    let text = machine.screens(&[
        &["restore", "latest:photos/moon/a.txt", "--target", "back/photos/moon"],
        &["restore", "latest", "--target", "back"],
        &["restore", "latest", "--target", "back", "--overwrite", "changed", "--include", "*.txt"],
        &["restore", "latest", "--target", "other", "--include", "nothing*"],
    ]);
    assert_eq!(std::fs::read_to_string(machine.path("back/photos/moon/a.txt")).unwrap(), "one small step\n");
    compare(&machine, "overwrite", &text);
}

#[test]
fn excludes_leave_out_and_our_own_folders_always_are() {
    let machine = Machine::new();
    std::fs::write(machine.path(".config-of-mine"), "x").unwrap();
    machine.backup();
    std::fs::write(machine.path("photos/core.tmp"), "x").unwrap();
    let cache = machine.path("photos/cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    let text = machine.screens(&[
        &[
            "backup",
            ".",
            "--host",
            "box",
            "--exclude",
            "*.tmp",
            "--exclude",
            "moon/",
            "--exclude-caches",
            "--tag",
            "t",
            "--description",
            "all of it",
        ],
        &["ls", "-R", "latest"],
        &["snapshots", "--tag", "t"],
    ]);
    compare(&machine, "excludes", &text);
}

#[test]
fn a_lock_is_told_with_its_holder() {
    let machine = Machine::new();
    machine.backup();
    let lock = lavatube_node::lock::Lock::acquire(
        &machine.vault("lock"),
        "lavatube backup",
        lavatube_node::lock::Mode::Exclusive,
        std::time::Duration::ZERO,
    );
    let lock = lock.unwrap();
    let text = machine.screens(&[&["backup", "photos"], &["check"]]);
    drop(lock);
    compare(&machine, "locked", &text);
}

#[test]
fn keys_move_away_come_back_and_are_made_again() {
    let machine = Machine::new();
    machine.backup();
    std::fs::create_dir(machine.path("stick")).unwrap();
    std::fs::write(machine.path("pass"), "correct horse\n").unwrap();
    std::fs::write(machine.path("wrong"), "battery staple\n").unwrap();
    let mut text = machine.screens(&[
        &["key", "move-read", "stick"],
        &["key"],
        &["snapshots"],
        &["backup", "photos", "--host", "box", "--quiet"],
        &["check"],
        &["snapshots", "--read-key", "stick/read.key"],
        &["key", "bring-read", "stick/read.key"],
        &["key", "bring-read", "stick/read.key"],
        &["key", "lock", "--passphrase-file", "pass"],
        &["key"],
        &["snapshots", "--passphrase-file", "wrong"],
        &["ls", "latest", "--passphrase-file", "pass"],
        &["key", "lock", "--remove", "--passphrase-file", "pass"],
        &["key", "recovery"],
    ]);
    std::fs::set_permissions(machine.keys("read.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    text.push('\n');
    text.push_str(&machine.screen(&["snapshots"]));
    let recovery = std::fs::read(machine.keys("recovery-key.txt")).unwrap();
    for key in ["read.key", "deposit.key", "recovery-key.txt"] {
        std::fs::remove_file(machine.keys(key)).unwrap();
    }
    text.push('\n');
    text.push_str(&machine.screen(&["backup", "photos"]));
    let import = |input: &[u8]| {
        let mut child = machine.command(&["key", "import-recovery"]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        show(&["key", "import-recovery"], &child.wait_with_output().unwrap())
    };
    let mut typo = String::from_utf8(recovery.clone()).unwrap();
    let last = typo.find("LVT1-").unwrap() + 8;
    let other = if &typo[last..=last] == "7" { "8" } else { "7" };
    typo.replace_range(last..=last, other);
    for input in [typo.as_bytes(), &recovery] {
        text.push('\n');
        text.push_str(&import(input));
    }
    text.push('\n');
    text.push_str(&machine.screens(&[&["backup", "photos", "--host", "box"], &["snapshots"]]));
    compare(&machine, "keys", &text);
}

#[test]
fn what_cannot_be_read_is_listed_and_has_its_own_status() {
    if rustix::process::geteuid().is_root() {
        return; // Root may read everything.
    }
    let machine = Machine::new();
    std::fs::set_permissions(machine.path("photos/moon/b.txt"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let out = machine.run(&["backup", "photos", "--host", "box"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&out.stderr).contains("photos/moon/b.txt"));
}

#[test]
fn help_teaches() {
    let machine = Machine::new();
    let verbs =
        ["init", "backup", "snapshots", "ls", "restore", "cat", "check", "key", "status", "completions", "version"];
    let mut text = machine.screens(&[&["help"], &["help", "statuses"], &["help", "patterns"], &["version"]]);
    for verb in verbs {
        let help = machine.screen(&["help", verb]);
        assert!(help.contains("Examples:"), "{verb}");
        assert!(help.contains("JSON fields"), "{verb}");
        // The options of all verbs once are enough.
        text.push('\n');
        text.push_str(help.split("Options of all verbs:").next().unwrap());
    }
    compare(&machine, "help", &text);
}

#[test]
fn json_has_the_documented_fields() {
    let machine = Machine::new();
    std::fs::write(machine.path("photos/core.tmp"), "x").unwrap();
    let cases: &[(&[&str], i32)] = &[
        (&["init", "--json"], 0),
        (&["backup", "photos", "--json"], 0),
        (&["snapshots", "--json"], 0),
        (&["ls", "latest", "--recursive", "--json"], 0),
        (&["restore", "latest", "--target", "back", "--json"], 0),
        (&["check", "--json", "--read-data"], 0),
        (&["key", "--json"], 0),
        (&["status", "--json"], 0),
        (&["completions", "fish", "--json"], 0),
        (&["version", "--json"], 0),
    ];
    for (args, status) in cases {
        let answer = machine.json(args, *status);
        let help = String::from_utf8(machine.run(&["help", args[0]]).stdout).unwrap().replace('\n', " ");
        let fields = &help[help.find("JSON fields").unwrap()..help.find("Usage:").unwrap()];
        for (field, _) in answer.as_object().unwrap() {
            let documented = fields.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == field);
            assert!(documented, "{field} of {args:?} is not documented");
        }
        assert_eq!(answer["exit"], *status);
    }
    let error = machine.json(&["ls", "ffff", "--json"], 1);
    assert_eq!(error["error"]["code"], "no-snapshot");
    assert_eq!(error["exit"], 1);
    assert!(!error["error"]["hint"].as_str().unwrap().is_empty());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let machine = Machine::new();
    for i in 0..3000 {
        std::fs::write(machine.path(&format!("photos/a-file-with-a-rather-long-name-{i}")), "x").unwrap();
    }
    machine.backup();
    for args in [&["ls", "-R", "latest"][..], &["cat", "latest:photos/earth.raw"], &["snapshots"]] {
        let mut child = machine.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", show(args, &out));
        assert!(out.stderr.is_empty(), "{}", show(args, &out));
    }
}
