//! Witnesses with the real command and real folders: two depositors that a vault shows two futures are told so by the witness
//! that both ask, and nothing else is an alarm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;

use common::pair::Pair;
use common::{Chance, Machine, copy_folder, number, output, seed, text};
use serde_json::Value;

const ALARM: i32 = 14;

/// A machine with some snapshots.
fn machine(own: u64) -> Machine {
    let machine = Machine::in_memory(seed(own));
    grow(&machine, 0);
    grow(&machine, 1);
    machine
}

fn grow(machine: &Machine, round: u64) {
    let mut chance = Chance::new(machine.seed ^ round);
    fs::write(machine.src().join(format!("new{round}")), chance.noise(20_000)).unwrap();
    machine.backup();
}

/// The witness needs nothing but its book: another machine, as far as the command can tell.
fn witness(machine: &Machine, request: &str, more: &[&str], status: i32) -> Value {
    let args = [&["log", "witness", request, "--book", "book", "--output", "reply", "--json"], more].concat();
    let mut command = machine.command(&args);
    for name in ["VAULT", "STATE", "KEYS"] {
        command.env(format!("LAVATUBE_{name}"), "/nowhere");
    }
    let (got, answer) = machine.read(&args, &output(command));
    assert_eq!(got, status, "{answer:#}");
    answer
}

#[test]
fn a_witness_signs_each_log_that_goes_on_from_the_last_and_log_verify_asks_for_it() {
    let machine = machine(0x3171);
    let asked = machine.json(&["log", "request", "--output", "first"], 0);
    assert_eq!((number(&asked["old"]), number(&asked["size"])), (0, 3));
    let key = text(&asked["vault_key"]);
    let new = ["--name", "ann.example", "--vault-key", &key];
    witness(&machine, "first", &["--name", "ann.example"], 2);
    let signed = witness(&machine, "first", &new, 0);
    assert_eq!((number(&signed["size"]), &signed["before"]), (3, &Value::Null));
    // Not before it is trusted; from then on its word is asked for.
    assert_eq!(machine.json(&["log", "cosigned", "reply"], 16)["error"]["code"], "not-proven");
    machine.json(&["log", "trust", &text(&signed["witness"])], 0);
    let lacking = machine.json(&["log", "verify"], ALARM);
    assert!(lacking["faults"][0].as_str().unwrap().contains("has signed nothing"), "{lacking:#}");
    let taken = machine.json(&["log", "cosigned", "reply"], 0);
    assert_eq!((number(&taken["size"]), &taken["witnesses"][0]["witness"]), (3, &signed["witness"]));
    let sound = machine.json(&["log", "verify"], 0);
    assert_eq!((number(&sound["witnesses"][0]["size"]), &sound["witnesses"][0]["goes_on"]), (3, &true.into()));
    // Evidence of now has the witness's word, and its date.
    let line = text(&signed["witness"]);
    machine.json(&["prove", "src/new0", "--output", "evidence"], 0);
    let seen = machine.json(&["verify", "evidence", "src/new0", "--witness", &line], 0);
    assert_eq!(seen["witnesses"][0]["witness"], "ann.example");
    assert!(text(&seen["witnesses"][0]["time"]).starts_with("20"), "{seen:#}");
    // The log grows; the proof begins where the witness was.
    grow(&machine, 2);
    assert_eq!(machine.json(&["log", "verify"], 0)["witnesses"][0]["goes_on"], true);
    // Of the longer log it has said nothing yet.
    machine.json(&["prove", "src/new2", "--output", "later"], 0);
    machine.json(&["verify", "later", "src/new2"], 0);
    let lacking = machine.json(&["verify", "later", "src/new2", "--witness", &line], 16);
    assert!(text(&lacking["error"]["message"]).contains("ann.example has not signed"), "{lacking:#}");
    let asked = machine.json(&["log", "request", "--output", "second"], 0);
    assert_eq!((number(&asked["old"]), number(&asked["size"])), (3, 4));
    let signed = witness(&machine, "second", &[], 0);
    assert_eq!((number(&signed["size"]), number(&signed["before"])), (4, 3));
    machine.json(&["log", "cosigned", "reply"], 0);
    // A request that begins elsewhere is told from where; one that was changed, or an older one, is not signed.
    grow(&machine, 3);
    machine.json(&["log", "request", "--output", "third", "--old", "2"], 0);
    let refused = witness(&machine, "third", &[], 2);
    assert!(text(&refused["error"]["hint"]).contains("--old 4"), "{refused:#}");
    let changed = fs::read_to_string(machine.path("third")).unwrap().replace("\n5\n", "\n6\n");
    fs::write(machine.path("changed"), changed).unwrap();
    assert_eq!(witness(&machine, "changed", &[], 16)["error"]["code"], "not-proven");
    assert_eq!(witness(&machine, "first", &[], ALARM)["error"]["code"], "log-alarm");
    // Untrusted, it is not asked for.
    machine.json(&["log", "trust", "--no-more", &text(&signed["witness"])], 0);
    assert_eq!(machine.json(&["log", "verify"], 0)["witnesses"], Value::Array(Vec::new()));
}

#[test]
fn a_vault_that_shows_two_depositors_two_futures_is_found_out_by_their_witness() {
    let machine = machine(0x3172);
    let asked = machine.json(&["log", "request", "--output", "first"], 0);
    let signed = witness(&machine, "first", &["--name", "ann", "--vault-key", &text(&asked["vault_key"])], 0);
    machine.json(&["log", "trust", &text(&signed["witness"])], 0);
    machine.json(&["log", "cosigned", "reply"], 0);
    // From here on there are two: each is sound for who sees it alone.
    let other = Machine::in_memory(seed(0x3173));
    for folder in ["vault", "state", "keys"] {
        copy_folder(&machine.path(folder), &other.path(folder));
    }
    grow(&machine, 10);
    grow(&other, 20);
    for depositor in [&machine, &other] {
        assert_eq!(depositor.json(&["log", "verify"], 0)["witnesses"][0]["goes_on"], true);
        depositor.json(&["log", "request", "--output", "next"], 0);
    }
    witness(&machine, "next", &[], 0);
    fs::copy(other.path("next"), machine.path("others")).unwrap();
    let told = witness(&machine, "others", &[], ALARM);
    assert!(text(&told["error"]["message"]).contains("two futures"), "{told:#}");
    let kept = fs::read_dir(machine.path("book")).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        path.to_string_lossy().contains("forked")
            && fs::read(path).unwrap() == fs::read(machine.path("others")).unwrap()
    });
    assert!(kept, "the book keeps what the vault signed");
    // And the other depositor sees it as soon as the word of the witness reaches it.
    other.json(&["log", "cosigned", machine.path("reply").to_str().unwrap()], 0);
    let verdict = other.json(&["log", "verify"], ALARM);
    assert!(verdict["faults"][0].as_str().unwrap().contains("does not go on"), "{verdict:#}");
    machine.json(&["log", "cosigned", "reply"], 0);
    machine.json(&["log", "verify"], 0);
}

#[test]
fn over_a_link_evidence_and_requests_to_witnesses_are_had_like_anywhere() {
    let pair = Pair::new(0x3174);
    fs::write(pair.machine.src().join("letter"), b"from the far side").unwrap();
    fs::write(pair.machine.src().join("other"), Chance::new(pair.machine.seed).noise(50_000)).unwrap();
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    assert_eq!(pair.start_node(&address).ends(std::time::Duration::from_secs(60)), Some(0));
    let proved = pair.machine.json(&["prove", "src/letter", "--output", "e", "--link-wait", "60"], 0);
    assert_eq!((number(&proved["files"]), number(&proved["entries"])), (2, 2));
    pair.machine.json(&["verify", "e", "src/letter"], 0);
    pair.machine.json(&["verify", "e", "src/other"], 16);
    let asked = pair.machine.json(&["log", "request", "--output", "request"], 0);
    let key = text(&asked["vault_key"]);
    let signed = witness(&pair.machine, "request", &["--name", "ann", "--vault-key", &key], 0);
    pair.machine.json(&["log", "trust", &text(&signed["witness"])], 0);
    pair.machine.json(&["log", "cosigned", "reply"], 0);
    let again = pair.machine.json(&["log", "request", "--output", "request"], 0);
    assert_eq!(number(&again["old"]), number(&signed["size"]));
    // A sample of what the far vault has.
    let spot = pair.machine.json(&["audit", "--spot", "50", "--save", "sample", "--link-wait", "60"], 0);
    assert_eq!((number(&spot["slices"]), spot["missed"].as_array().unwrap().len()), (50, 0));
    assert!(number(&spot["received"]) > 50 * 1024 && number(&spot["sent"]) < 50 * 40);
    pair.machine.json(&["verify", "sample"], 0);
    // With nothing left here but the keys.
    fs::remove_dir_all(pair.machine.path("state")).unwrap();
    let proved = pair.machine.json(&["prove", "latest:src/letter", "--output", "e2", "--link-wait", "60"], 0);
    assert_eq!(number(&proved["files"]), 2);
    pair.machine.json(&["verify", "e2", "src/letter"], 0);
    vault.stop();
}
