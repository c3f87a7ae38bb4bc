//! Evidence with the real command and real folders: what was backed up is proved to anyone, and nothing else is, whatever it
//! looks like.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Chance, Machine, files_below, has_program, number, output, seed, text};
use serde_json::Value;

const NOT_PROVEN: i32 = 16;

/// A machine that has backed up a folder with files of all kinds.
fn machine(own: u64) -> Machine {
    let machine = Machine::in_memory(seed(own));
    let mut chance = Chance::new(machine.seed);
    common::fill(&machine.src(), &mut chance, 40, 400_000);
    let src = machine.src();
    fs::write(src.join("photo.raw"), chance.noise(3_000_000)).unwrap();
    fs::write(src.join("empty"), b"").unwrap();
    fs::write(src.join("short"), b"to be or not to be").unwrap();
    fs::write(src.join("beside"), b"not to be, or to be").unwrap();
    fs::hard_link(src.join("short"), src.join("short-too")).unwrap();
    let sparse = fs::File::create(src.join("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"an island", 2 << 20).unwrap();
    machine.backup();
    machine
}

/// Proves a file, and gives where the evidence is and what was said.
#[track_caller]
fn prove(machine: &Machine, file: &str, name: &str) -> (PathBuf, Value) {
    let answer = machine.json(&["prove", file, "--output", name], 0);
    (machine.path(name), answer)
}

/// Whoever verifies has no keys, no state and no vault.
fn stranger(evidence: &Path, file: &Path, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lavatube"));
    command.arg("verify").arg(evidence).arg(file).arg("--json").args(more).env_clear().current_dir("/");
    let out = output(command);
    (out.status.code().unwrap(), serde_json::from_slice(&out.stdout).unwrap())
}

#[track_caller]
fn refused(evidence: &Path, file: &Path, why: &str) {
    let (status, answer) = stranger(evidence, file, &[]);
    let message = answer["error"]["message"].to_string();
    assert_eq!((status, &answer["error"]["code"]), (NOT_PROVEN, &"not-proven".into()), "{answer:#}");
    assert!(message.contains(why), "{message} should say {why}");
}

#[test]
fn each_file_is_proved_to_a_stranger_and_what_looks_like_it_is_not() {
    let machine = machine(0xe51);
    let some: Vec<PathBuf> = files_below(&machine.src()).into_iter().step_by(7).collect();
    let named = ["photo.raw", "empty", "short", "short-too", "sparse"].map(|name| machine.src().join(name));
    for (n, file) in some.iter().chain(&named).enumerate() {
        let (evidence, said) = prove(&machine, file.to_str().unwrap(), &format!("e{n}"));
        let (status, answer) = stranger(&evidence, file, &[]);
        assert_eq!((status, &answer["proven"]), (0, &true.into()), "{}: {answer:#}", file.display());
        assert_eq!(answer["length"], file.metadata().unwrap().len());
        assert_eq!((&answer["sha256"], &answer["backed_up"]), (&said["sha256"], &said["backed_up"]));
        assert_eq!(answer["name"], file.file_name().unwrap().to_str().unwrap());
    }
    let (photo, bytes) = (machine.path("photo.evidence"), fs::read(machine.src().join("photo.raw")).unwrap());
    prove(&machine, "src/photo.raw", "photo.evidence");
    let look_alike = machine.path("photo.raw");
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(&look_alike, flipped).unwrap();
        refused(&photo, &look_alike, "is not the one that was backed up");
    }
    fs::write(&look_alike, Chance::new(7).noise(bytes.len())).unwrap();
    refused(&photo, &look_alike, "as long as it should be");
    fs::write(&look_alike, [&bytes[..], b"\0"].concat()).unwrap();
    refused(&photo, &look_alike, "something was added");
    fs::write(&look_alike, &bytes[..bytes.len() - 1]).unwrap();
    refused(&photo, &look_alike, "something is missing");
    fs::write(&look_alike, b"").unwrap();
    refused(&photo, &look_alike, "something is missing");
    // A copy under another name is the original; evidence of another file is none.
    fs::write(&look_alike, &bytes).unwrap();
    assert_eq!(stranger(&photo, &look_alike, &[]).0, 0);
    prove(&machine, "src/short", "short.evidence");
    refused(&machine.path("short.evidence"), &machine.src().join("beside"), "something was added");
    // Data in a hole.
    prove(&machine, "src/sparse", "sparse.evidence");
    let mut filled = fs::read(machine.src().join("sparse")).unwrap();
    fs::write(&look_alike, &filled).unwrap();
    assert_eq!(stranger(&machine.path("sparse.evidence"), &look_alike, &[]).0, 0, "holes are zeros");
    filled[100] = 1;
    fs::write(&look_alike, &filled).unwrap();
    refused(&machine.path("sparse.evidence"), &look_alike, "holes");
}

#[test]
fn evidence_that_was_changed_anywhere_proves_nothing() {
    let machine = machine(0xe52);
    let file = machine.src().join("short");
    let (path, _) = prove(&machine, "src/short", "short.evidence");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let bad = machine.path("bad.evidence");
    let mut chance = Chance::new(machine.seed);
    for (n, line) in lines.iter().enumerate() {
        // What is only claimed may be another: it is said to be.
        if line.is_empty() || line.starts_with("name ") || line.starts_with("made ") {
            continue;
        }
        let at = chance.below(line.len());
        let Some(old) = line.get(at..=at) else { continue };
        let new = if old == "7" { "5" } else { "7" };
        let changed = format!("{}{new}{}", &line[..at], &line[at + 1..]);
        let text = [&lines[..n], &[&changed], &lines[n + 1..]].concat().join("\n") + "\n";
        fs::write(&bad, text).unwrap();
        let (status, answer) = stranger(&bad, &file, &[]);
        assert_eq!(status, NOT_PROVEN, "line {n}: {line} became {changed}: {answer:#}");
    }
    for len in (0..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
        fs::write(&bad, &whole[..len]).unwrap();
        refused(&bad, &file, "no whole evidence");
    }
    fs::write(&bad, whole.replace('\n', "\r\n")).unwrap();
    assert_eq!(stranger(&bad, &file, &[]).0, 0, "as it comes by mail");
    fs::write(&bad, fs::read(machine.src().join("photo.raw")).unwrap()).unwrap();
    refused(&bad, &file, "no whole evidence");
    // Somebody else's vault proves the same file, with his own keys: whoever knows whose they should be sees it.
    let forger = Machine::in_memory(seed(0xe53));
    fs::write(forger.src().join("short"), b"to be or not to be").unwrap();
    forger.backup();
    let (forged, _) = prove(&forger, "src/short", "short.evidence");
    let (_, own) = stranger(&path, &file, &[]);
    let (authority, vault) = (text(&own["authority"]), text(&own["vault"]));
    assert_eq!(stranger(&forged, &file, &[]).0, 0);
    for anchor in [["--authority", &authority], ["--vault-key", &vault]] {
        let (status, answer) = stranger(&forged, &file, &anchor);
        assert_eq!(status, NOT_PROVEN, "{answer:#}");
        assert!(text(&answer["error"]["message"]).contains("not the one that was asked for"));
        assert_eq!(stranger(&path, &file, &anchor).0, 0);
    }
}

#[test]
fn what_did_not_change_is_proved_by_the_oldest_backup_and_what_is_new_by_its_own() {
    let machine = machine(0xe54);
    let (_, before) = prove(&machine, "src/short", "a");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    fs::write(machine.src().join("dir0/new"), b"newer").unwrap();
    fs::write(machine.src().join("changed"), b"now it is so").unwrap();
    machine.backup();
    let (_, still) = prove(&machine, "src/short", "b");
    assert_eq!((&still["backed_up"], &still["entry"]), (&before["backed_up"], &before["entry"]));
    let (evidence, new) = prove(&machine, "src/dir0/new", "c");
    assert_ne!(new["backed_up"], before["backed_up"]);
    assert_eq!(number(&new["files"]), 2, "only what that backup read");
    assert_eq!(stranger(&evidence, &machine.src().join("dir0/new"), &[]).0, 0);
    // Named in a snapshot, and without its name.
    let answer = machine.json(&["prove", "latest:src/short", "--output", "d", "--without-name"], 0);
    assert_eq!((&answer["backed_up"], &answer["name"]), (&before["backed_up"], &Value::Null));
    assert!(!fs::read_to_string(machine.path("d")).unwrap().contains("short"));
    assert_eq!(stranger(&machine.path("d"), &machine.src().join("short"), &[]).0, 0);
    // What was never backed up, or is not any more what was.
    fs::write(machine.path("other"), b"to be or not to bee").unwrap();
    let answer = machine.json(&["prove", "other"], 1);
    assert_eq!(answer["error"]["code"], "not-in-vault");
    assert!(!machine.path("other.evidence").exists());
    // What is there is not overwritten.
    assert_eq!(machine.json(&["prove", "src/short", "--output", "a"], 13)["error"]["code"], "exists");
}

#[test]
fn evidence_is_made_from_the_vault_alone_when_the_state_is_lost_or_damaged() {
    let machine = machine(0xe55);
    fs::write(machine.src().join("dir0/new"), b"newer").unwrap();
    machine.backup();
    let files = ["photo.raw", "empty", "short", "sparse", "dir0/new", "large-prose"];
    let before: Vec<Value> = files.map(|f| prove(&machine, &format!("src/{f}"), &f.replace('/', "-")).1).into();
    let rolls: Vec<PathBuf> = files_below(&machine.state().join("rolls"));
    assert_eq!(rolls.len(), 2);
    for roll in &rolls {
        let mut bytes = fs::read(roll).unwrap();
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        fs::write(roll, bytes).unwrap();
    }
    let again = |round: &str| {
        for (file, before) in files.iter().zip(&before) {
            let (evidence, after) =
                prove(&machine, &format!("src/{file}"), &format!("{round}-{}", file.replace('/', "-")));
            assert_eq!((&after["backed_up"], &after["sha256"]), (&before["backed_up"], &before["sha256"]), "{file}");
            assert_eq!(stranger(&evidence, &machine.src().join(file), &[]).0, 0, "{file}");
        }
    };
    again("damaged");
    fs::remove_dir_all(machine.path("state")).unwrap();
    again("lost");
    assert_eq!(
        machine.json(&["prove", "latest:src/short", "--output", "named"], 0)["backed_up"],
        before[2]["backed_up"]
    );
}

#[test]
fn a_backup_that_waits_is_not_proved_before_the_vault_has_signed_for_it() {
    let machine = machine(0xe56);
    fs::write(machine.src().join("late"), b"it waits").unwrap();
    for n in 0..3 {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
    }
    machine.backup();
    let (status, answer) = machine.answer(&["prove", "src/late"]);
    assert_ne!(status, 0, "{answer:#}");
    for n in 0..3 {
        fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).unwrap();
    }
    let answer = machine.json(&["prove", "src/late"], 1);
    assert!(text(&answer["error"]["message"]).contains("waits on this machine"), "{answer:#}");
    machine.backup();
    prove(&machine, "src/late", "late.evidence");
    assert_eq!(stranger(&machine.path("late.evidence"), &machine.src().join("late"), &[]).0, 0);
}

/// Against OpenSSL as the time-stamp authority, and as the one who verifies its signature.
#[test]
fn a_time_stamp_is_asked_for_attached_and_about_this_text_alone() {
    if !has_program("a_time_stamp_is_asked_for", "openssl") {
        return;
    }
    let machine = machine(0xe57);
    machine.json(&["prove", "src/short", "--output", "e", "--timestamp-query", "e.tsq"], 0);
    machine.json(&["prove", "src/empty", "--output", "other"], 0);
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(machine.dir.path());
        let out = output(command);
        assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    fs::write(machine.path("tsa.cnf"), TSA).unwrap();
    fs::write(machine.path("serial"), "01\n").unwrap();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "tsa.key",
        "-out",
        "tsa.pem",
        "-days",
        "30",
        "-subj",
        "/CN=tsa",
        "-config",
        "tsa.cnf",
        "-extensions",
        "tsa_ext",
    ]);
    openssl(&["ts", "-query", "-in", "e.tsq", "-text"]);
    openssl(&["ts", "-reply", "-config", "tsa.cnf", "-queryfile", "e.tsq", "-out", "e.tsr"]);
    assert_eq!(machine.json(&["prove", "other", "--attach", "e.tsr"], NOT_PROVEN)["error"]["code"], "not-proven");
    machine.json(&["prove", "e", "--attach", "e.tsr"], 0);
    let (status, answer) = stranger(&machine.path("e"), &machine.src().join("short"), &[]);
    assert_eq!((status, &answer["stamp"]["matches"]), (0, &true.into()), "{answer:#}");
    // The commands that `verify` prints.
    let out = machine.run(&["verify", "e", "src/short"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = |word: &str| {
        said.lines().find(|l| l.trim_start().starts_with(word)).unwrap_or_else(|| panic!("{said}")).trim().to_owned()
    };
    let script = format!("{}\n{}", line("sed"), line("openssl ts").replace("AUTHORITY.pem", "tsa.pem"));
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script]).current_dir(machine.dir.path());
    let out = output(shell);
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    // A token that is put into another evidence.
    let token = fs::read_to_string(machine.path("e")).unwrap();
    let token = &token[token.find("\ntoken\n").unwrap() + 1..];
    let other = fs::read_to_string(machine.path("other")).unwrap();
    fs::write(machine.path("mixed"), format!("{other}{token}")).unwrap();
    refused(&machine.path("mixed"), &machine.src().join("empty"), "time stamp is about another text");
}

const TSA: &str = "[req]
distinguished_name = dn
[dn]
[tsa_ext]
extendedKeyUsage = critical,timeStamping
basicConstraints = critical,CA:TRUE
[tsa]
default_tsa = tsa_a
[tsa_a]
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
certs = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
";
