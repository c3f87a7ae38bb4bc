//! Simple mistakes, and the exit status and the code that `docs/ERRORS.md` has for each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::pair::Pair;
use common::{Machine, seed, text};

/// A machine with a snapshot of one file.
fn backed_up(own: u64) -> Machine {
    let machine = Machine::new(seed(own));
    fs::write(machine.path("src/letter"), "dear moon").unwrap();
    machine.json(&["init"], 0);
    machine.backup();
    fs::write(machine.path("file"), "in the way").unwrap();
    machine
}

/// Each command ends with its status and code, and says what to do.
#[track_caller]
fn fail(machine: &Machine, all: &[(&[&str], i32, &str)]) {
    for (args, status, code) in all {
        let failure = machine.json(args, *status);
        let error = &failure["error"];
        assert_eq!(error["code"], *code, "{args:?}: {failure:#}");
        assert!(!text(&error["message"]).is_empty() && !text(&error["hint"]).is_empty(), "{args:?}: {failure:#}");
    }
}

#[test]
fn wrong_paths_and_names() {
    let machine = backed_up(0x3157);
    fail(
        &machine,
        &[
            (&["backup", "nowhere"], 1, "io"),
            (&["backup", "vault"], 2, "usage"),
            (&["restore", "nosuch", "--target", "x"], 1, "no-snapshot"),
            (&["restore", "latest:nosuch", "--target", "x"], 1, "no-path"),
            (&["cat", "latest:nosuch"], 1, "no-path"),
            (&["ls", "latest:nosuch"], 1, "no-path"),
            (&["restore", "latest", "--target", "file"], 1, "io"),
            (&["restore", "latest", "--target", "file/below"], 1, "io"),
            (&["restore", "latest", "--target", "/proc/nosuch"], 1, "io"),
            (&["restore", "latest", "--target", "vault"], 2, "usage"),
        ],
    );
    fs::write(machine.path("good.toml"), "").unwrap();
    fs::write(machine.path("bad.toml"), "bad = [").unwrap();
    fs::write(machine.path("strange.toml"), "nonsense = 1").unwrap();
    fail(
        &machine,
        &[
            (&["backup", "src", "--config", "nosuch.toml"], 2, "config"),
            (&["backup", "src", "--config", "bad.toml"], 2, "config"),
            (&["backup", "src", "--config", "strange.toml"], 2, "config"),
        ],
    );
    machine.json(&["backup", "src", "--config", "good.toml"], 0);
}

#[test]
fn wrong_folders_for_vault_and_state() {
    let machine = backed_up(0x3158);
    fs::create_dir(machine.path("empty")).unwrap();
    fail(
        &machine,
        &[
            (&["backup", "src", "--vault", "empty"], 12, "no-vault"),
            (&["backup", "src", "--vault", "file"], 12, "no-vault"),
            (&["status", "--vault", "empty"], 12, "no-vault"),
            (&["check", "--vault", "empty"], 12, "no-vault"),
            (&["snapshots", "--vault", "empty"], 12, "no-vault"),
            (&["restore", "latest", "--vault", "empty", "--target", "x"], 12, "no-vault"),
            (&["init", "--vault", "/proc/nosuch"], 1, "io"),
            (&["backup", "src", "--state", "file"], 1, "io"),
            (&["restore", "latest", "--state", "file", "--target", "x"], 1, "io"),
        ],
    );
}

#[test]
fn missing_and_wrong_keys() {
    let machine = backed_up(0x3159);
    fs::write(machine.path("own-file"), "no key").unwrap();
    fs::set_permissions(machine.path("own-file"), fs::Permissions::from_mode(0o600)).unwrap();
    machine.json(&["init", "--vault", "other-vault", "--keys", "other-keys", "--state", "other-state"], 0);
    fail(
        &machine,
        &[
            (&["backup", "src", "--keys", "nosuch"], 11, "no-key"),
            (&["snapshots", "--keys", "nosuch"], 11, "no-key"),
            (&["restore", "latest", "--keys", "nosuch", "--target", "x"], 11, "no-key"),
            (&["snapshots", "--read-key", "nosuch"], 11, "no-key"),
            (&["snapshots", "--read-key", "file"], 11, "key-exposed"),
            (&["snapshots", "--read-key", "own-file"], 11, "wrong-key"),
            (&["snapshots", "--agent", "nosuch"], 11, "no-key"),
            (&["backup", "src", "--keys", "other-keys"], 11, "wrong-key"),
            (&["snapshots", "--keys", "other-keys"], 11, "wrong-key"),
            (&["restore", "latest", "--keys", "other-keys", "--target", "x"], 11, "wrong-key"),
            (&["snapshots", "--read-key", "other-keys/read.key"], 11, "wrong-key"),
        ],
    );
    assert_eq!(machine.snapshots().len(), 1, "the right ones read as before");
}

#[test]
fn links_that_lead_nowhere() {
    let machine = backed_up(0x315a);
    fail(
        &machine,
        &[
            (&["node"], 12, "no-vault"),
            (&["vault", "serve"], 12, "no-vault"),
            (&["ping"], 12, "no-vault"),
            (&["link", "status"], 12, "vault-away"),
            (&["link", "plan", "1G"], 12, "no-vault"),
            (&["pair", "nonsense"], 2, "usage"),
        ],
    );
    let pair = Pair::new(0x315b);
    fail(
        &pair.machine,
        &[
            (&["vault", "serve"], 12, "no-vault"),
            (&["node", "--peer", "nonsense"], 1, "io"),
            (&["node", "--listen", "nonsense"], 1, "io"),
            (&["ping", "--link-wait", "1"], 12, "vault-away"),
            (&["snapshots", "--link-wait", "1", "--refresh"], 12, "vault-away"),
        ],
    );
    assert_eq!(pair.far_json_status(&["node"], 2)["error"]["code"], "usage");
    fs::write(pair.machine.vault().join("link.toml"), "bad = [").unwrap();
    fail(&pair.machine, &[(&["node"], 2, "config"), (&["ping"], 2, "config"), (&["backup", "src"], 2, "config")]);
}
