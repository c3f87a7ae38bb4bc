//! Care of a vault with the real command, on real folders: scrubs that are killed and go on, what is mended, and what is left.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::facts::{assert_same, look};
use common::pair::{Pair, Running};
use common::{Chance, Machine, files_below, number, seed, text, wait_until};
use lavatube_format::scrub_record::{ScrubEnd, decode_scrubs};

fn machine(seed: u64, bytes: usize) -> Machine {
    let machine = Machine::in_memory(seed);
    common::fill(&machine.src(), &mut Chance::new(seed), 20, bytes);
    machine.backup();
    machine
}

fn shards_of(machine: &Machine, drive: usize) -> Vec<PathBuf> {
    files_below(&machine.drive(drive).join("shards"))
}

/// All shard files with their bytes.
fn images(machine: &Machine) -> Vec<(PathBuf, Vec<u8>)> {
    let shards = machine.drive_files().into_iter().filter(|p| common::is_shard(p));
    shards.map(|p| (p.clone(), fs::read(p).unwrap())).collect()
}

fn flip(shard: &Path, at: usize) {
    let mut bytes = fs::read(shard).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x20;
    fs::write(shard, bytes).unwrap();
}

#[test]
fn a_scrub_mends_what_rotted_and_status_tells_of_it() {
    let machine = machine(seed(0xca01), 3_000_000);
    let whole = images(&machine);
    let answer = machine.json(&["vault", "status"], 0);
    assert_eq!(answer["scrubs"], serde_json::json!([]));
    let (mut chance, mut hurt) = (Chance::new(machine.seed), 0);
    for drive in [1, 4] {
        for shard in shards_of(&machine, drive) {
            match chance.below(3) {
                0 => fs::remove_file(&shard).unwrap(),
                _ => flip(&shard, chance.below(1 << 30)),
            }
            hurt += 1;
        }
    }
    fs::write(machine.drive(2).join("drive.card"), "not a card").unwrap();
    let answer = machine.json(&["vault", "scrub"], 4);
    let scrub = &answer["scrub"];
    assert_eq!((number(&scrub["mended"]), number(&scrub["left"]), number(&scrub["lost"])), (hurt, 0, 0), "{answer:#}");
    assert_eq!(answer["renewed"], serde_json::json!(["d2"]));
    assert_eq!(images(&machine), whole, "mended to the byte");
    let labels: Vec<String> = scrub["drives"].as_array().unwrap().iter().map(|d| text(&d["label"])).collect();
    assert!(labels.len() == 2 && labels.contains(&"d1".into()) && labels.contains(&"d4".into()), "{answer:#}");
    // The history is shown, and the next scrub has nothing to do.
    machine.json(&["vault", "scrub"], 0);
    let answer = machine.json(&["vault", "status"], 0);
    let scrubs = answer["scrubs"].as_array().unwrap();
    assert_eq!((number(&scrubs[0]["mended"]), number(&scrubs[1]["not_whole"])), (hurt, 0), "{answer:#}");
    let screen = String::from_utf8(machine.run(&["vault", "status"]).stdout).unwrap();
    assert!(screen.contains("nothing was wrong") && screen.contains("mended"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn a_killed_scrub_goes_on_where_it_was_and_mends_all_in_the_end() {
    let machine = machine(seed(0xca02), 40_000_000);
    let objects = number(&machine.json(&["vault", "status"], 0)["vault"]["objects"]);
    let whole = images(&machine);
    shards_of(&machine, 0).iter().chain(&shards_of(&machine, 3)).for_each(|shard| flip(shard, 5000));
    let place = machine.path("vault/scrubs");
    let so_far = || fs::read(&place).ok().map(|b| decode_scrubs(&b).unwrap().pop().unwrap());
    let (mut kills, mut before) = (0, 0);
    while before + 1 < objects && kills < 4 {
        let mut child = machine.start(&["vault", "scrub", "--rate", "2MB"]);
        assert!(wait_until(Duration::from_secs(30), || so_far().is_some_and(|s| s.objects > before)));
        child.kill().unwrap();
        child.wait().unwrap();
        let record = so_far().unwrap();
        if record.end == ScrubEnd::Whole {
            break;
        }
        // What it says that it mended is mended.
        before = record.objects;
        assert!(record.objects <= objects && record.mended > 0, "{record:?}");
        kills += 1;
    }
    assert!(kills > 0, "it was too quick to be killed");
    // One that was at its end before the kill has mended all, and the next finds nothing.
    let is_over = so_far().is_some_and(|s| s.end == ScrubEnd::Whole);
    let answer = machine.json(&["vault", "scrub"], if is_over { 0 } else { 4 });
    assert!(is_over || number(&answer["resumed"]) >= before.min(1), "{answer:#}");
    assert_eq!(number(&answer["scrub"]["objects"]), objects, "each was looked at once: {answer:#}");
    assert_eq!(answer["scrub"]["left"], 0);
    assert_eq!(images(&machine), whole);
}

#[test]
fn a_scrub_of_a_time_goes_on_and_one_that_is_begun_anew_does_not() {
    let machine = machine(seed(0xca03), 3_000_000);
    let objects = number(&machine.json(&["vault", "status"], 0)["vault"]["objects"]);
    let answer = machine.json(&["vault", "scrub", "--for", "0s"], 0);
    assert_eq!((answer["complete"].as_bool(), number(&answer["ahead"]["objects"])), (Some(false), objects));
    assert_eq!(machine.json(&["vault", "status"], 0)["scrubs"][0]["end"], "open");
    let answer = machine.json(&["vault", "scrub", "--anew"], 0);
    assert_eq!((answer["complete"].as_bool(), number(&answer["resumed"])), (Some(true), 0));
    let ends = machine.json(&["vault", "status"], 0)["scrubs"].clone();
    assert_eq!((&ends[0]["end"], &ends[1]["end"]), (&"dropped".into(), &"whole".into()));
}

#[test]
fn others_use_the_vault_while_a_slow_scrub_rests() {
    let machine = machine(seed(0xca04), 3_000_000);
    let mut child = machine.start(&["vault", "scrub", "--rate", "10kB"]);
    let place = machine.path("vault/scrubs");
    assert!(wait_until(Duration::from_secs(30), || place.exists()));
    fs::write(machine.src().join("another"), "one more").unwrap();
    let (status, answer) = machine.answer(&["backup", "src", "--lock-wait", "30"]);
    assert_eq!(status, 0, "{answer:#}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success(), "told to end, it ends well");
    let open = decode_scrubs(&fs::read(&place).unwrap()).unwrap().pop().unwrap();
    assert_eq!(open.end, ScrubEnd::Open);
    machine.json(&["vault", "scrub"], 0);
}

#[test]
fn what_is_beyond_parity_is_named_and_left_as_it_is() {
    let machine = machine(seed(0xca05), 400_000);
    let shard = shards_of(&machine, 0).into_iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let object = shard.file_stem().unwrap().to_owned();
    let of_object: Vec<_> =
        machine.drive_files().into_iter().filter(|p| p.file_stem() == Some(&object) && common::is_shard(p)).collect();
    for shard in &of_object[..3] {
        let mut bytes = fs::read(shard).unwrap();
        bytes.iter_mut().for_each(|b| *b = b.wrapping_mul(29) ^ 0x33);
        fs::write(shard, bytes).unwrap();
    }
    let hurt = images(&machine);
    let answer = machine.json(&["vault", "scrub"], 5);
    assert_eq!(answer["scrub"]["lost_ids"], serde_json::json!([object.to_str().unwrap()]), "{answer:#}");
    assert_eq!(images(&machine), hurt);
    machine.json(&["vault", "status"], 5);
    machine.json(&["vault", "repair"], 5);
}

#[test]
fn a_dead_drive_is_made_good_on_others_or_it_is_said_why_not() {
    let machine = Machine::in_memory(seed(0xca06));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 20, 400_000);
    let drives: Vec<String> = (0..7).map(|n| format!("vault/drives/d{n}")).collect();
    machine.json(&["init", "--drives", &drives.join(","), "--data", "4", "--parity", "2"], 0);
    machine.backup();
    let want = look(&machine.src());
    let away = |n: usize| {
        fs::rename(machine.drive(n), machine.path(&format!("away{n}"))).unwrap();
        // A file where the folder was: it cannot simply be made anew.
        fs::write(machine.drive(n), "").unwrap();
    };
    away(2);
    let before = machine.json(&["vault", "status"], 4);
    assert!(number(&before["redundancy"][1]) > 0, "{before:#}");
    // A scrub does not write a drive's shards elsewhere: it may come back.
    let scrubbed = machine.json(&["vault", "scrub"], 4);
    assert_eq!((number(&scrubbed["scrub"]["mended"]), number(&scrubbed["scrub"]["degraded"]) > 0), (0, true));
    let answer = machine.json(&["vault", "repair"], 4);
    assert_eq!((number(&answer["degraded"]["objects"]), number(&answer["shards_left"])), (0, 0), "{answer:#}");
    assert!(number(&answer["shards_written"]) > 0, "{answer:#}");
    // Dead as it is, it can be retired: nothing is on it that is not elsewhere, and then nobody misses it.
    let retired = machine.json(&["vault", "drive", "retire", "d2"], 0);
    assert_eq!((number(&retired["objects"]), &retired["retired"]), (0, &true.into()), "{retired:#}");
    assert_eq!(machine.answer(&["vault", "status"]).0, 0);
    // Six drives for six shards: with one more gone, each object stays one short.
    away(5);
    let answer = machine.json(&["vault", "repair"], 4);
    let objects = number(&answer["objects"]);
    assert_eq!(number(&answer["degraded"]["objects"]), objects, "{answer:#}");
    let why = text(&answer["degraded"]["why"][0]["reason"]);
    assert!(why.contains("5 drives are there for 6 shards"), "{why}");
    assert_same(&want, &machine.restore("latest", "back").join("src"), "with five of seven drives");
    // They come back, and all is well without writing anything again but what they lack.
    for n in [2, 5] {
        fs::remove_file(machine.drive(n)).unwrap();
        fs::rename(machine.path(&format!("away{n}")), machine.drive(n)).unwrap();
    }
    machine.answer(&["vault", "repair"]);
    let answer = machine.json(&["vault", "repair"], 0);
    assert_eq!(number(&answer["shards_written"]), 0, "{answer:#}");
    machine.json(&["vault", "scrub"], 0);
}

#[test]
fn what_the_answers_hold_is_documented() {
    let machine = machine(seed(0xca07), 100_000);
    for verb in ["status", "scrub", "repair"] {
        let answer = machine.json(&["vault", verb], 0);
        let help = String::from_utf8(machine.run(&["vault", verb, "--help"]).stdout).unwrap().replace('\n', " ");
        let fields = &help[help.find("JSON fields").unwrap()..help.find("Usage:").unwrap()];
        for field in answer.as_object().unwrap().keys() {
            let told = fields.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == field);
            assert!(told && help.contains("Examples:"), "{field} of vault {verb} is not documented");
        }
    }
}

#[test]
fn a_drive_is_exchanged_for_a_new_one_while_everything_stays_readable() {
    let machine = machine(seed(0xca08), 400_000);
    let want = look(&machine.src());
    // Six drives for six shards: none can go before another has come.
    let (status, answer) = machine.answer(&["vault", "drive", "retire", "d1"]);
    assert_eq!((status, answer["error"]["code"].as_str()), (13, Some("refused")), "{answer:#}");
    let added = machine.json(&["vault", "drive", "add", "new,label=N1,shelf=left,maker=Far Side"], 0);
    assert_eq!((text(&added["drive"]["label"]), number(&added["drive"]["slot"])), ("N1".into(), 6));
    let (status, answer) = machine.answer(&["vault", "drive", "add", "new"]);
    assert_eq!((status, answer["error"]["code"].as_str()), (13, Some("exists")), "{answer:#}");
    let retired = machine.json(&["vault", "drive", "retire", "d1"], 0);
    assert!(
        retired["retired"] == true && number(&retired["moved"]) > 0 && number(&retired["left"]) == 0,
        "{retired:#}"
    );
    fs::remove_dir_all(machine.drive(1)).unwrap();
    // Nobody misses it, new backups do not go there, and any two others may go.
    for verb in
        [&["vault", "status"][..], &["status"], &["check", "--read-data"], &["vault", "scrub"], &["vault", "repair"]]
    {
        machine.json(verb, 0);
    }
    fs::write(machine.src().join("more"), "one more file").unwrap();
    assert_eq!(machine.backup()["degraded_drives"], serde_json::json!([]));
    assert!(!machine.drive(1).exists(), "it was not made anew");
    fs::rename(machine.drive(0), machine.path("away0")).unwrap();
    fs::rename(machine.drive(3), machine.path("away3")).unwrap();
    assert_same(&look(&machine.src()), &machine.restore("latest", "back").join("src"), "without d0, d1 and d3");
    assert_same(&want, &machine.restore("latest~1", "older").join("src"), "the older one");
}

#[test]
fn a_drive_is_called_otherwise_on_all_drives() {
    let machine = machine(seed(0xca09), 100_000);
    machine.json(&["vault", "drive", "label", "d2", "--label", "A3", "--shelf", "left", "--maker", "WD"], 0);
    let drives = machine.json(&["vault", "status"], 0)["drives"].clone();
    assert_eq!([&drives[2]["label"], &drives[2]["shelf"], &drives[2]["maker"]], ["A3", "left", "WD"]);
    for n in 0..6 {
        assert!(fs::read_to_string(machine.drive(n).join("README.txt")).unwrap().contains("A3 (shelf left, WD)"));
    }
    assert_eq!(machine.answer(&["vault", "drive", "label", "nobody", "--shelf", "x"]).0, 2);
    assert_eq!(machine.answer(&["vault", "drive", "label", "A3"]).0, 2);
    assert_eq!(machine.answer(&["vault", "drive", "label", "A3", "--label", "d4"]).0, 2);
    machine.json(&["check", "--read-data"], 0);
}

#[test]
fn a_drive_verb_that_is_killed_anywhere_is_done_again() {
    for (n, step) in (0..24u64).enumerate() {
        let machine = machine(seed(0xca10 + step), 100_000);
        let delay = Duration::from_micros(400 * n as u64);
        machine.killed(&["vault", "drive", "add", "new"], delay);
        machine.json(&["check"], if machine.answer(&["vault", "status"]).0 == 0 { 0 } else { 4 });
        let (status, answer) = machine.answer(&["vault", "drive", "add", "new"]);
        assert!(status == 0 || answer["error"]["code"] == "exists", "after {delay:?}: {answer:#}");
        machine.killed(&["vault", "drive", "retire", "d4"], delay);
        machine.answer(&["vault", "drive", "retire", "d4"]);
        // A cut change of the cards is completed by whoever writes next.
        machine.backup();
        let drives = machine.json(&["vault", "status"], 0)["drives"].clone();
        assert_eq!((&drives[4]["state"], &drives[6]["state"]), (&"retired".into(), &"present".into()), "{drives:#}");
        machine.json(&["vault", "scrub"], 0);
    }
}

#[test]
fn a_daemon_scrubs_while_it_serves() {
    let pair = Pair::new(0xca11);
    let shards: Vec<_> = files_below(&pair.far().join("drives")).into_iter().filter(|p| common::is_shard(p)).collect();
    let whole: Vec<_> = shards.iter().map(|p| fs::read(p).unwrap()).collect();
    shards[..2].iter().for_each(|shard| flip(shard, 200));
    let args = ["vault", "serve", "--listen", "127.0.0.1:0", "--scrub-every", "1s", "--lock-wait", "20"];
    let mut child = pair.at_far(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let place = pair.far().join("scrubs");
    let mended = || {
        let all = fs::read(&place).ok().and_then(|bytes| decode_scrubs(&bytes).ok()).unwrap_or_default();
        all.iter().map(|s| s.mended).sum::<u64>() == 2 && all.iter().filter(|s| s.end == ScrubEnd::Whole).count() > 1
    };
    let is_mended = wait_until(Duration::from_secs(30), mended);
    // It is looked at beside the daemon, which holds the vault.
    let status = pair.far_json(&["vault", "status"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_mended, "{status:#}");
    assert_eq!(status["used_by"], "lavatube vault serve");
    let now: Vec<_> = shards.iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(now == whole, "mended to the byte");
}

#[test]
fn a_drive_that_missed_a_backup_is_held_back_until_it_was_read_wholly() {
    let machine = machine(seed(0xca20), 400_000);
    for (round, way) in
        [&["vault", "scrub"][..], &["vault", "drive", "admit", "d2"], &["vault", "repair"], &["check", "--repair"]]
            .into_iter()
            .enumerate()
    {
        fs::rename(machine.drive(2), machine.path("away2")).unwrap();
        fs::write(machine.src().join(format!("more{round}")), format!("one more file, the {round}th")).unwrap();
        assert_eq!(machine.backup()["degraded_drives"][0], "d2");
        fs::rename(machine.path("away2"), machine.drive(2)).unwrap();
        // One that it has is gone: of a pack, since a backup looks whether its own card is whole.
        let largest = shards_of(&machine, 2).into_iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
        fs::remove_file(largest).unwrap();
        let status = machine.json(&["vault", "status"], 4);
        assert_eq!(
            [&status["drives"][2]["state"], &status["drives"][2]["quarantine"]],
            ["quarantine", "away"],
            "{status:#}"
        );
        let (state, screen) = (machine.json(&["status"], 4), machine.run(&["vault", "status"]).stdout);
        assert_eq!(state["drives"][2]["quarantine"], "away");
        assert!(String::from_utf8(screen).unwrap().contains("put back to an older state"));
        // Nothing new goes there.
        let before = images(&machine);
        fs::write(machine.src().join("between"), format!("and another, the {round}th")).unwrap();
        assert_eq!(machine.backup()["degraded_drives"], serde_json::json!(["d2"]));
        let on_it = |all: &[(PathBuf, Vec<u8>)]| {
            all.iter().filter(|(p, _)| p.starts_with(machine.drive(2))).cloned().collect::<Vec<_>>()
        };
        assert!(on_it(&before) == on_it(&images(&machine)));
        let (status, answer) = machine.answer(way);
        match round {
            0 => assert_eq!((status, &answer["admitted"]), (4, &serde_json::json!(["d2"])), "{answer:#}"),
            1 => assert_eq!((status, number(&answer["tried"]["found"]), number(&answer["tried"]["left"])), (0, 1, 0)),
            2 => assert_eq!((status, &answer["tried"][0]["admitted"]), (0, &true.into()), "{answer:#}"),
            _ => assert_eq!(answer["repair"]["admitted"], serde_json::json!(["d2"]), "{answer:#}"),
        }
        machine.json(&["vault", "repair"], 0);
        machine.json(&["vault", "status"], 0);
    }
    machine.json(&["check", "--read-data"], 0);
    assert_same(&look(&machine.src()), &machine.restore("latest", "back").join("src"), "after all");
    // It is trusted already; and one that is away cannot be read.
    machine.json(&["vault", "drive", "admit", "d2"], 0);
}

#[test]
fn a_daemon_cares_only_while_there_is_power() {
    let pair = Pair::new(0xca21);
    let place = pair.far().join("scrubs");
    let plan = pair.far().join("plan");
    let run = |lines: &str, limit: Duration| {
        fs::write(&plan, lines).unwrap();
        let args =
            ["vault", "serve", "--listen", "127.0.0.1:0", "--scrub-every", "1s", "--awake", plan.to_str().unwrap()];
        let mut child = pair.at_far(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let scrubbed = wait_until(limit, || place.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        scrubbed
    };
    assert!(!run("awake +3600 +7200", Duration::from_secs(3)), "it is night");
    assert!(run("awake +0 +3600   # day", Duration::from_secs(30)));
    fs::write(&plan, "contact +0 +5 up 9").unwrap();
    let args = ["vault", "serve", "--awake", plan.to_str().unwrap()];
    assert_eq!(pair.at_far(&args).output().unwrap().status.code(), Some(2));
}

#[test]
fn what_a_drive_held_that_stays_away_is_made_anew_and_one_that_comes_back_is_read_first() {
    let pair = Pair::new(0xca22);
    let drive = |n: usize| pair.far().join(format!("drives/d{n}"));
    pair.far_json(&["vault", "drive", "add", pair.far().join("new").to_str().unwrap()]);
    let gone = (0..6).find(|n| !files_below(&drive(*n).join("shards")).is_empty()).unwrap();
    let serve = || {
        let args = ["vault", "serve", "--listen", "127.0.0.1:0", "--repair-after", "1s", "--lock-wait", "20"];
        Running(pair.at_far(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let status = || {
        let (args, mut command) = (["vault", "status"], pair.at_far(&["vault", "status", "--json"]));
        command.stdin(Stdio::null());
        pair.machine.read(&args, &common::output(command)).1
    };
    let objects = number(&status()["vault"]["objects"]);
    let daemon = serve();
    // It goes while the daemon has it open.
    fs::rename(drive(gone), pair.far().join("away")).unwrap();
    let is_whole = || {
        let status = status();
        status["drives"][gone]["state"] == "missing" && status["redundancy"] == serde_json::json!([0, 0, objects])
    };
    assert!(wait_until(Duration::from_secs(60), is_whole), "{:#}", status());
    fs::rename(pair.far().join("away"), drive(gone)).unwrap();
    let is_back = || status()["drives"][gone]["state"] == "present" && status()["exit"] == 0;
    let was_held =
        wait_until(Duration::from_secs(60), || status()["drives"][gone]["quarantine"] == "away" || is_back());
    assert!(was_held && wait_until(Duration::from_secs(60), is_back), "{:#}", status());
    daemon.stop();
    pair.far_json(&["vault", "scrub"]);
}
