//! Asking a vault over a played link: played time runs while one waits and at no other time, and who waits is let go when it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lavatube_channel::Way;
use lavatube_client::far::FarError;
use lavatube_node::depositor::VaultPlan;
use lavatube_node::embedded::DriveSpec;
use lavatube_node::far_vault::{Asking, FarVault};
use lavatube_node::pace::Pace;
use lavatube_node::rehearsal::{Plan, Rehearsal};
use lavatube_node::stage::{self, Stage};

const START: lavatube_base::Instant = lavatube_base::Instant(1_800_000_000 * 1_000_000_000);
const LIGHT: Duration = Duration::from_secs(600);

fn ways() -> [Way; 2] {
    [(); 2].map(|()| Way::new(20_000_000, LIGHT))
}

fn set(folder: &Path) -> Stage {
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let stage = stage::set(folder, &VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() }).unwrap();
    stage.promise(&ways(), START).unwrap();
    stage
}

fn far(stage: &Stage, pace: Arc<Pace>) -> FarVault {
    let mut vault = FarVault::open(&stage.near, "a test", Asking::default(), Duration::ZERO).unwrap();
    vault.keep_pace(pace);
    vault
}

fn plan<'p>(stage: &'p Stage, fast: bool, stop: &'p AtomicBool) -> Plan<'p> {
    let (near, far) = (&stage.near, &*stage.far.vault);
    Plan { near, far, ways: ways(), seed: 1, start: START, fast, blackouts: Vec::new(), stop }
}

#[test]
fn an_echo_takes_the_way_there_and_back_and_work_between_two_takes_no_time() {
    let (dir, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let stage = set(dir.path());
    let plan = plan(&stage, true, &stop);
    let mut rehearsal = Rehearsal::open(&plan).unwrap();
    rehearsal.drain(&mut |_, _| {}).unwrap().unwrap();
    let began = Instant::now();
    let asked = rehearsal.read(&mut |_, _| {}, |pace| {
        let vault = far(&stage, pace);
        let first = vault.ping().unwrap();
        // Played time would run thousands of times as fast.
        std::thread::sleep(Duration::from_millis(300));
        (first, vault.ping().unwrap(), vault.tally().rounds())
    });
    let (home, (first, second, rounds)) = asked.unwrap().unwrap();
    for echo in [first, second] {
        assert!((2 * LIGHT..2 * LIGHT + Duration::from_secs(1)).contains(&echo), "{echo:?}");
    }
    assert_eq!(rounds, 2);
    assert!(home.took >= 4 * LIGHT && home.took < 4 * LIGHT + Duration::from_secs(180), "{home:?}");
    assert!(home.lens.iter().all(|len| *len > 0) && home.open == home.took, "{home:?}");
    assert!(began.elapsed() < LIGHT, "nobody waited for light");
}

#[test]
fn who_waits_is_let_go_when_the_rehearsal_is_stopped() {
    for fast in [true, false] {
        let (dir, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let stage = set(dir.path());
        let plan = plan(&stage, fast, &stop);
        let mut rehearsal = Rehearsal::open(&plan).unwrap();
        let mut said = None;
        let asked = rehearsal.read(&mut |_, _| {}, |pace| {
            let vault = far(&stage, pace);
            stop.store(true, Ordering::Relaxed);
            said = Some(vault.ping());
        });
        assert!(asked.unwrap().is_none(), "it was stopped");
        assert!(matches!(said, Some(Err(FarError::Away(_)))), "{said:?}");
    }
}
