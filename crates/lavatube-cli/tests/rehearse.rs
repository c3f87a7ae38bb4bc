//! Missions rehearsed in played time: what was backed up comes home through blackouts, shut links and losses, and nothing of
//! the machine is touched. Where no word comes back, what was sent stays here, and what is over there is what went.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::process::Command;

use common::{Chance, Machine, files_below, seed, text};
use serde_json::Value;

const DAY_S: f64 = 86_400.0;

struct Theatre {
    machine: Machine,
}

impl Theatre {
    /// A machine with some files to rehearse with, and a folder of its own for what is in the way.
    fn new(own: u64, files: usize, len: usize) -> Self {
        let machine = Machine::new(seed(own));
        common::fill(&machine.src(), &mut Chance::new(machine.seed), files, len);
        fs::create_dir(machine.path("tmp")).unwrap();
        Self { machine }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(&[&["rehearse", "src", "--fast"][..], args].concat());
        command.env("TMPDIR", self.machine.path("tmp"));
        command
    }

    #[track_caller]
    fn play(&self, args: &[&str]) -> Value {
        let mut command = self.command(args);
        command.arg("--json");
        let (status, answer) = self.machine.read(args, &common::output(command));
        assert_eq!(status, 0, "{args:?}: {answer:#}");
        assert_eq!(answer["restored"]["differences"].as_array().map(Vec::len), Some(0));
        assert_eq!(answer["restored"]["files"].as_u64().unwrap(), files_below(&self.machine.src()).len() as u64);
        assert!(answer["objects"].as_u64().unwrap() > 1);
        answer
    }

    fn is_left_alone(&self) {
        assert_eq!(fs::read_dir(self.machine.path("tmp")).unwrap().count(), 0, "its folder goes with it");
        for ours in ["vault", "state", "keys"] {
            assert!(!self.machine.path(ours).exists(), "{ours}");
        }
    }
}

fn s(answer: &Value, name: &str) -> f64 {
    answer[name].as_f64().unwrap()
}

fn at(answer: &Value, event: &str) -> Vec<f64> {
    let events = answer["timeline"].as_array().unwrap();
    events.iter().filter(|e| e["event"] == event).map(|e| s(e, "at_s")).collect()
}

#[test]
fn two_weeks_of_darkness_in_the_middle_of_a_backup_cost_two_weeks_and_few_bytes() {
    let theatre = Theatre::new(0x4e01, 40, 6 << 20);
    let plain = theatre.play(&["--seed", "3"]);
    let dark = theatre.play(&["--seed", "3", "--blackout", "14d@30%"]);
    theatre.is_left_alone();
    // The sender asks once a minute, so light is noticed within that.
    let late = s(&dark, "safe_there_s") - s(&plain, "safe_there_s") - 14.0 * DAY_S;
    assert!((0.0..90.0).contains(&late), "{late}");
    assert!(s(&plain, "safe_there_s") < 60.0 && s(&plain, "efficiency") > 0.2, "{plain:#}");
    assert_eq!([at(&dark, "blackout").len(), at(&dark, "silent").len(), at(&dark, "safe-there").len()], [1, 1, 1]);
    assert!(dark["up"]["shut"].as_u64().unwrap() > 0 && plain["up"]["shut"] == 0);
    // Much is provided for on a link that nobody has measured; the darkness costs hardly more than that.
    let needless = |answer: &Value| s(&answer["symbols"], "needless") / s(&answer["symbols"], "sent");
    let (light, darkness) = (needless(&plain), needless(&dark));
    assert!(light < 0.15 && darkness < light + 0.05, "{light} {darkness}");
    // The loss is that of the link: 1 % in spells.
    assert!(plain["up"]["lost"].as_u64().unwrap() > 0);
    comes_home_over_the_link(&dark, 260e6, 2.4);
}

/// The restore crossed the link: bytes came back, no faster than light and the rate allow.
#[track_caller]
fn comes_home_over_the_link(answer: &Value, back_bit_s: f64, round_trip_s: f64) {
    let home = &answer["restored"];
    let (asked, came) = (s(home, "asked_bytes"), s(home, "down_bytes"));
    assert!(asked > 0.9 * s(home, "bytes") && came > asked && s(home, "up_bytes") < asked / 5.0, "{home:#}");
    let rounds = s(home, "round_trips");
    assert!(rounds >= 1.0 && s(home, "requests") >= rounds, "{home:#}");
    let least = 0.9 * rounds * round_trip_s + 8.0 * asked / back_bit_s;
    assert!((least..20.0 * least).contains(&s(home, "seconds")), "{least} s at least: {home:#}");
    assert_eq!([at(answer, "asks").len(), at(answer, "home").len()], [1, 1]);
    let took = at(answer, "home")[0] - at(answer, "asks")[0];
    assert!((took - s(home, "seconds")).abs() < 1.0, "{took}");
}

#[test]
fn a_link_that_shuts_by_its_plan_is_used_when_it_opens() {
    let theatre = Theatre::new(0x4e02, 20, 3 << 20);
    let answer = theatre.play(&["--link", "lunar-relay", "--blackout", "1h@1%", "--seed", "9"]);
    theatre.is_left_alone();
    // The first contact ends in the blackout; of those that follow, some may fail.
    let took = s(&answer, "safe_there_s");
    assert!(took >= 7200.0 && s(&answer, "open_s") < 2220.0 * 2.0, "{answer:#}");
    let opens = at(&answer, "opens");
    assert!(opens.len() >= 2 && opens[1] % 7200.0 < 1.0, "{opens:?}");
}

#[test]
fn heavy_losses_cost_what_they_must() {
    let theatre = Theatre::new(0x4e03, 20, 8 << 20);
    let answer = theatre.play(&["--loss", "10%"]);
    let (lost, sent) = (answer["up"]["lost"].as_f64().unwrap(), answer["up"]["packets"].as_f64().unwrap());
    assert!((0.02..0.25).contains(&(lost / sent)), "{lost} of {sent}");
    assert!(answer["up"]["bytes"].as_f64().unwrap() < 2.0 * s(&answer, "bytes"), "{answer:#}");
}

#[test]
fn what_is_kept_is_a_vault_like_any_other() {
    let theatre = Theatre::new(0x4e04, 10, 1 << 20);
    let answer = theatre.play(&["--link", "lan", "--keep", "kept"]);
    let kept = theatre.machine.path("kept");
    assert_eq!(answer["folder"], kept.canonicalize().unwrap().to_str().unwrap());
    let of = |name: &str| text(&kept.join(name).to_str().unwrap().into());
    let places = ["--vault", &of("far"), "--state", &of("far-state"), "--keys", &of("keys")];
    let snapshots = theatre.machine.json(&[&["snapshots"][..], &places].concat(), 0);
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 1);
    theatre.machine.json(&[&["check", "--read-data"][..], &places].concat(), 0);
    // What is there is never played over.
    let mut again = theatre.command(&["--keep", "kept", "--json"]);
    let (status, refused) = theatre.machine.read(&["--keep", "kept"], &again.output().unwrap());
    assert_eq!((status, &refused["error"]["code"]), (13, &"exists".into()));
}

#[test]
fn where_no_word_comes_back_all_stays_here_and_likely_is_there() {
    let theatre = Theatre::new(0x4e06, 20, 2 << 20);
    let answer = theatre.play(&["--link", "diode", "--loss", "3%"]);
    let one_way = &answer["one_way"];
    let objects = answer["objects"].as_u64().unwrap();
    assert_eq!([&one_way["stored_objects"], &one_way["kept_objects"]], [&Value::from(objects); 2]);
    // Each object may fail once in a million times.
    let one_in = s(one_way, "one_in");
    assert!(one_in >= 0.99e6 / objects as f64, "{one_in}");
    assert_eq!(answer["down"]["delivered"], 0);
    assert!(answer["up"]["lost"].as_u64().unwrap() > 0 && answer["safe_there_s"].is_null());
    assert_eq!([at(&answer, "safe-there").len(), at(&answer, "all-sent").len()], [0, 1]);
    assert!(answer["restored"]["asked_bytes"].is_null());
    theatre.is_left_alone();
}

#[test]
fn what_does_not_arrive_where_no_word_comes_back_is_told_by_the_rehearsal_alone() {
    let theatre = Theatre::new(0x4e07, 20, 2 << 20);
    let args = ["--link", "diode", "--blackout", "1h@20%"];
    let mut command = theatre.command(&args);
    command.arg("--json");
    let (status, answer) = theatre.machine.read(&args, &common::output(command));
    assert_eq!((status != 0, &answer["error"]["code"]), (true, &"lost".into()), "{answer:#}");
    let what = answer["error"]["message"].to_string();
    assert!(what.contains("did not arrive") && what.contains("one in"), "{what}");
    theatre.is_left_alone();
}

#[test]
fn a_link_that_nobody_knows_is_not_rehearsed() {
    let theatre = Theatre::new(0x4e05, 1, 100);
    for args in [["--link", "mars"], ["--blackout", "2w@50%"], ["--loss", "100%"]] {
        let out = theatre.command(&args).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}");
    }
    theatre.is_left_alone();
}
