//! `lavatube plan`, as a script would use it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

use std::process::{Command, Output};

use serde_json::Value;

fn plan(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lavatube"));
    command.args(["plan", "durability"]).args(args).env_clear().output().unwrap()
}

fn answer(args: &[&str]) -> Value {
    let output = plan(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_published_figures_come_out() {
    // Backblaze, 2018: 17+3, 0.405 % a year, 6.5 days.
    let vault = answer(&["--drives", "20", "--code", "17+3", "--afr", "0.405%", "--repair", "6.5d", "--lives", "1"]);
    let yearly = vault["by_formula"]["windows_yearly"].as_f64().unwrap();
    assert!((yearly / 7.354e-12 - 1.0).abs() < 1e-3, "{yearly:e}");
}

#[test]
fn a_goal_gets_a_code_and_the_data_stays_the_same() {
    let asked =
        ["--drives", "24", "--full", "40%", "--years", "5", "--batch", "none", "--shelf-afr", "0%", "--lives", "100"];
    let vault = answer(&[&asked[..], &["--goal", "1e-9"]].concat());
    let found = &vault["cheapest"];
    assert!(found["lost_share"].as_f64().unwrap() <= 1e-9, "{found}");
    // 40 % with 4+2 are two thirds of that in data.
    let (full, expansion) = (found["full"].as_f64().unwrap(), found["expansion"].as_f64().unwrap());
    assert!((full / expansion - 0.4 / 1.5).abs() < 1e-9, "{found}");
    assert!(answer(&[&asked[..], &["--goal", "1e-300", "--widest", "4"]].concat())["cheapest"].is_null());
}

#[test]
fn it_says_what_makes_no_sense() {
    for (args, word) in
        [(["--drives", "10", "--code", "20+8"], "28 drives"), (["--years", "0", "--drives", "60"], "years")]
    {
        let output = plan(&args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(word), "{text}");
    }
}

#[test]
fn a_person_sees_years_losses_and_what_is_left() {
    let output = plan(&["--drives", "60", "--years", "10", "--lives", "50"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["20+8", "514 TB of data", "expected loss", "drives left", "room for all parity", "nobody replaces any"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}
