//! What a user is told is true: of drives that wear, of what is lost, of keys that nobody was told about, of names that are no text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{Chance, Machine, is_shard, output, paths, seed, show, text};
use serde_json::Value;

/// A machine with some files, backed up.
fn saved(own: u64) -> Machine {
    let machine = Machine::new(seed(own));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 30, 1 << 20);
    machine.backup();
    machine
}

#[track_caller]
fn screen(machine: &Machine, args: &[&str], status: i32) -> String {
    let out = machine.run(args);
    assert_eq!(out.status.code(), Some(status), "{}", show(args, &out));
    show(args, &out)
}

/// The shards of the longest object.
fn largest(machine: &Machine) -> Vec<PathBuf> {
    let shards: Vec<_> = machine.drive_files().into_iter().filter(|f| is_shard(f)).collect();
    let largest = shards.iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    shards.iter().filter(|f| f.file_stem() == largest.file_stem()).cloned().collect()
}

/// Noise in place of what is behind the header.
fn spoil(shard: &Path, chance: &mut Chance) {
    let len = shard.metadata().unwrap().len() as usize;
    let file = fs::File::options().write(true).open(shard).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &chance.noise(len / 2), len as u64 / 4).unwrap();
}

#[test]
fn status_says_as_check_does_that_a_drive_is_worn() {
    let machine = saved(91);
    let journal = machine.drive(2).join("journal");
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() / 2]).unwrap();
    let check = machine.json(&["check"], 4);
    let status = machine.json(&["status"], 4);
    assert_eq!(check["drives"][2]["worn"], status["drives"][2]["worn"]);
    assert!(text(&status["drives"][2]["worn"]).contains("journal"), "{status:#}");
    assert!(status["drives"][1]["worn"].is_null(), "{status:#}");
    assert!(screen(&machine, &["status"], 4).contains("worn"));
    machine.json(&["check", "--repair"], 4);
    machine.json(&["status"], 0);
}

#[test]
fn what_a_check_found_lost_is_not_called_still_there() {
    let machine = saved(92);
    screen(&machine, &["check", "--read-data"], 0);
    machine.json(&["audit"], 0);
    assert!(screen(&machine, &["status"], 0).contains("still there just now"));
    let mut chance = Chance::new(machine.seed);
    let shards = largest(&machine);
    let whole: Vec<_> = shards.iter().map(|f| fs::read(f).unwrap()).collect();
    shards.iter().for_each(|shard| spoil(shard, &mut chance));
    machine.json(&["check", "--read-data"], 5);
    for _ in 0..2 {
        let status = screen(&machine, &["status"], 5);
        assert!(status.contains("not there") && !status.contains("still there"), "{status}");
        // A share that is sound proves nothing of the others.
        machine.answer(&["check", "--read-data=1%"]);
    }
    shards.iter().zip(whole).for_each(|(shard, bytes)| fs::write(shard, bytes).unwrap());
    machine.json(&["check", "--read-data"], 0);
    machine.json(&["status"], 0);
}

#[test]
fn a_quick_check_names_the_files_of_packs_that_are_lost() {
    let machine = saved(96);
    // The largest pack is full, and has nothing but a part of this file.
    fs::write(machine.path("src/huge"), Chance::new(machine.seed).noise(24 << 20)).unwrap();
    machine.backup();
    for shard in largest(&machine).iter().take(3) {
        fs::remove_file(shard).unwrap();
    }
    let quick = machine.json(&["check"], 5);
    let named: BTreeSet<_> = paths(&quick["files"]).into_iter().collect();
    let whole = machine.json(&["check", "--read-data"], 5);
    let want: BTreeSet<_> = paths(&whole["files"]).into_iter().collect();
    assert!(named.len() == 1 && named == want, "{quick:#} {whole:#}");
    let told = screen(&machine, &["check"], 5);
    assert!(!told.contains("manifest: sound\n") && !told.contains("not named here can be restored"), "{told}");
    assert!(screen(&machine, &["check", "--read-data"], 5).contains("not named here can be restored"));
    // What is named is what a restore cannot bring back.
    let (_, back) = machine.answer(&["restore", "latest", "--target", "back"]);
    let failed: BTreeSet<_> = paths(&back["failed"]).into_iter().collect();
    assert_eq!(failed, want, "{back:#}");
}

#[test]
fn keys_that_nobody_was_told_about_are_told_by_the_next_init() {
    for next in ["init", "backup"] {
        let machine = Machine::new(seed(93));
        fs::write(machine.path("src/f"), "x").unwrap();
        // A drive that cannot be one is found out before there are keys.
        fs::write(machine.path("file"), "").unwrap();
        let out = machine.run(&["init", "--drives", "a,file,b", "--parity", "1"]);
        assert_eq!(out.status.code(), Some(1), "{}", show(&[], &out));
        assert!(!machine.path("keys").exists(), "keys were made for nothing: {}", show(&[], &out));
        // Keys of a run that was cut short after they were made.
        machine.json(&["init", "--vault", "other"], 0);
        let args: &[&str] = if next == "init" { &["init"] } else { &["backup", "src"] };
        let told = screen(&machine, args, 0);
        assert!(told.contains("recovery-key.txt"), "{told}");
    }
    let machine = Machine::new(seed(94));
    let quiet = screen(&machine, &["init", "--quiet"], 0);
    assert!(quiet.contains("recovery-key.txt"), "a warning is not kept quiet: {quiet}");
    fs::remove_file(machine.path("keys/recovery-key.txt")).unwrap();
    assert!(!screen(&machine, &["init"], 0).contains("recovery-key"));
}

#[test]
fn init_tells_of_an_existing_vault_what_it_told_of_the_new_one() {
    let machine = Machine::new(seed(95));
    let made =
        machine.json(&["init", "--drive=a,shelf=left,maker=WD", "--drive=b,label=B", "--drive=c", "--parity=1"], 0);
    let again = machine.json(&["init"], 0);
    for field in ["data", "parity", "drives"] {
        assert_eq!(made[field], again[field], "{again:#}");
    }
    assert_eq!((&again["data"], &again["drives"][0]["maker"]), (&2.into(), &"WD".into()));
}

#[test]
fn a_directory_that_is_in_the_way_is_to_be_moved_and_no_option_is_said_to_remove_it() {
    let machine = Machine::new(seed(97));
    fs::write(machine.path("src/a"), "one").unwrap();
    fs::write(machine.path("src/b"), "two").unwrap();
    machine.backup();
    fs::create_dir_all(machine.path("back/src/a/mine")).unwrap();
    for overwrite in ["never", "changed", "always"] {
        let args = ["restore", "latest", "--target", "back", "--overwrite", overwrite];
        let told = screen(&machine, &args, 3);
        assert!(told.contains("move it away") && !told.contains("--overwrite changed replaces"), "{told}");
        let args = ["restore", "latest:src/a", "--target", "back/src", "--overwrite", overwrite];
        let told = screen(&machine, &args, 13);
        assert!(told.contains("hint: move the directories that are in the way"), "{told}");
    }
    assert!(machine.path("back/src/a/mine").exists());
    fs::write(machine.path("back/src/b"), "mine").unwrap();
    let told = screen(&machine, &["restore", "latest", "--target", "back"], 13);
    assert!(told.contains("--overwrite changed replaces what differs, but no directory"), "{told}");
}

#[test]
fn nothing_is_restored_into_folders_of_ours() {
    let machine = Machine::new(seed(98));
    fs::write(machine.path("src/a"), "one").unwrap();
    machine.backup();
    std::os::unix::fs::symlink("vault/drives", machine.path("link")).unwrap();
    for target in ["vault/back", "vault", "state/back", "keys/new/back", "link/d0/back"] {
        let refused = machine.json(&["restore", "latest", "--target", target], 2);
        assert!(text(&refused["error"]["message"]).contains("nothing is restored into it"), "{refused:#}");
    }
    assert!(!machine.vault().join("back").exists());
}

#[test]
fn names_that_are_no_text_are_told_byte_by_byte() {
    let machine = Machine::new(seed(99));
    let name = OsStr::from_bytes(b"caf\xe9");
    let file = machine.src().join(name);
    fs::write(&file, Chance::new(machine.seed).noise(24 << 20)).unwrap();
    std::os::unix::fs::symlink(name, machine.path("src/link")).unwrap();
    let hex = |path: &Path| path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let want = hex(&fs::canonicalize(&file).unwrap());
    let is_there = |list: &Value| {
        let entry = list.as_array().unwrap().iter().find(|e| e["path"].as_str().unwrap().contains('\u{fffd}'));
        assert_eq!(entry.map(|e| text(&e["path_hex"])).as_ref(), Some(&want), "{list:#}");
    };
    machine.backup();
    let listed = machine.json(&["ls", "-R", "latest"], 0);
    is_there(&listed["entries"]);
    let link = listed["entries"].as_array().unwrap().iter().find(|e| e["type"] == "symlink").unwrap();
    assert_eq!((&link["target_hex"], &link["path_hex"]), (&"636166e9".into(), &Value::Null));
    // Times are told as exactly as they are kept.
    let ns = fs::symlink_metadata(machine.path("src/link")).unwrap().mtime_nsec();
    assert!(text(&link["mtime"]).ends_with(&format!(".{ns:09}Z")), "{link:#}");
    for shard in largest(&machine).iter().take(3) {
        fs::remove_file(shard).unwrap();
    }
    is_there(&machine.json(&["check"], 5)["files"]);
    is_there(&machine.json(&["restore", "latest", "--target", "back"], 5)["failed"]);
    let mut command = machine.command(&["backup", "--json"]);
    command.arg(&file);
    let out = output(command);
    let (_, named) = machine.read(&["backup"], &out);
    assert_eq!(named["paths_hex"][0], want.as_str(), "{named:#}");
}
