//! Drives that are not trusted: known when they come back, read last, written nothing new to, and let in after a full read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::Verified;
use lavatube_base::time::WallTime;
use lavatube_format::scrub_record::ScrubRecord;
use lavatube_vault::scrub::{Judged, Scrub, Step};
use lavatube_vault::{Depth, Distrust, Drive, DriveState, OpenReport, Vault};
use world::{Chance, Crash, World, read, store};

const LENS: [usize; 5] = [4096, 20_000, 5_000, 70_001, 300_000];

/// A vault with some objects; and further ones that are not stored yet.
fn stored(drives: usize) -> (World, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut world = World::new(drives);
    let [old, new] = [0, 1].map(|_| LENS.iter().map(|n| world.chance.bytes(*n)).collect::<Vec<_>>());
    let mut vault = world.create(4, 2);
    old.iter().for_each(|o| world::keep(&mut vault, o));
    (world, old, new)
}

fn open_without(world: &World, away: &[usize]) -> (Vault, OpenReport) {
    let drives: Vec<Option<Box<dyn Drive>>> =
        world.boxed().into_iter().enumerate().map(|(slot, drive)| drive.filter(|_| !away.contains(&slot))).collect();
    world::open(drives, Some(world::signer())).unwrap()
}

fn states(vault: &Vault) -> Vec<DriveState> {
    vault.status().drives.into_iter().map(|d| d.state).collect()
}

fn scrub(vault: &mut Vault, before: Option<&ScrubRecord>) -> (ScrubRecord, Judged) {
    let now = WallTime { s: 1_800_000_000, ns: 0 };
    let mut scrub = Scrub::begin(now);
    while let Step::Looked(_) = scrub.handle_step(vault, now) {}
    let judged = scrub.finish(vault, before).unwrap();
    (scrub.record().clone(), judged)
}

fn is_whole(vault: &Vault, object: &[u8]) -> bool {
    vault.examine(Verified::hash(object).id(), Depth::Bytes).unwrap().is_whole()
}

fn read_on(world: &World, drive: usize) -> usize {
    std::mem::take(&mut world.drives[drive].state.lock().unwrap().read)
}

#[test]
fn a_drive_that_was_away_is_held_back_read_last_and_let_in_after_a_scrub() {
    let (mut world, old, new) = stored(8);
    let (mut vault, _) = open_without(&world, &[3]);
    new.iter().for_each(|o| world::keep(&mut vault, o));
    drop(vault);
    // It comes back, with a shard the less.
    let gone = world.drives[3].shard_files().remove(0);
    world.drives[3].with(|f| f.remove(&gone));
    let (mut vault, report) = world.open();
    assert_eq!(states(&vault)[3], DriveState::Quarantined(Distrust::Away));
    assert_eq!(report.drives[3].state, DriveState::Quarantined(Distrust::Away));
    assert!(!vault.status().drives[3].is_well());
    read_on(&world, 3);
    old.iter().chain(&new).for_each(|o| assert_eq!(read(&vault, o), Ok(())));
    assert_eq!(read_on(&world, 3), 0, "the others are enough");
    let before = world.drives[3].with(|f| f.clone());
    let more = world.chance.bytes(50_000);
    store(&mut vault, &more);
    assert_eq!(world.drives[3].with(|f| f.clone()), before, "nothing new is written to it");
    let (record, judged) = scrub(&mut vault, None);
    assert_eq!((record.left, &judged.admitted[..], &judged.held[..]), (0, &[3][..], &[][..]), "{record:?}");
    assert!(world.drives[3].with(|f| f.contains_key(&gone)), "mended in its place");
    for vault in [vault, world.open().0] {
        assert!(vault.status().drives.iter().all(|d| d.is_well()), "{:?}", vault.status().drives);
        old.iter().chain(&new).chain([&more]).for_each(|o| assert!(is_whole(&vault, o)));
    }
}

#[test]
fn what_lies_on_no_other_drive_is_read_from_one_in_quarantine() {
    let (world, old, new) = stored(8);
    let (mut vault, _) = open_without(&world, &[3]);
    world::keep(&mut vault, &new[0]);
    drop(vault);
    // Of what the drive has a shard of, more is lost than parity covers without it.
    let hex = |o: &[u8]| Verified::hash(o).id().to_string();
    let on = |drive: usize, o: &[u8]| world.drives[drive].shard_files().iter().any(|n| n.contains(&hex(o)));
    let object = old.iter().find(|o| on(3, o)).unwrap();
    let others: Vec<usize> = (0..8).filter(|d| *d != 3 && on(*d, object)).take(2).collect();
    for drive in others {
        world.drives[drive].with(|f| f.retain(|name, _| !name.contains(&hex(object))));
    }
    let (vault, _) = world.open();
    assert_eq!(states(&vault)[3], DriveState::Quarantined(Distrust::Away));
    assert_eq!(read(&vault, object), Ok(()));
}

#[test]
fn a_drive_that_was_put_back_or_went_on_apart_is_found_out_though_nobody_saw_it_go() {
    for apart in [false, true] {
        let (world, old, new) = stored(8);
        let image = world.drives[5].with(|f| f.clone());
        let (mut vault, _) = world.open();
        new.iter().for_each(|o| world::keep(&mut vault, o));
        drop(vault);
        let others = world.images();
        world.drives[5].with(|f| *f = image.clone());
        if apart {
            // What it has is the beginning of another future, which more than half of the drives once had.
            let behind: Vec<_> = world.images();
            (0..8).for_each(|d| world.drives[d].with(|f| *f = if d == 5 { image.clone() } else { behind[d].clone() }));
            world.drives[5].with(|f| {
                let own = f.get_mut("journal").unwrap();
                let record = lavatube_format::journal::Record::Admitted { slot: 2 };
                let (mut at, mut check, mut sequence) = (0, lavatube_format::journal::FIRST_CHECK, 1);
                while let Ok((line, n)) = lavatube_format::journal::Line::decode(&own[at..], sequence, &check) {
                    (at, check, sequence) = (at + n, line.check, sequence + 1);
                }
                record.encode(sequence, &check, own);
                // It has all that it should have.
                others[5].iter().filter(|(name, _)| name.starts_with("shards/")).for_each(|(name, bytes)| {
                    f.insert(name.clone(), bytes.clone());
                });
            });
        }
        let (mut vault, _) = world.open();
        assert_eq!(states(&vault)[5], DriveState::Quarantined(Distrust::Away), "apart: {apart}");
        old.iter().chain(&new).for_each(|o| assert_eq!(read(&vault, o), Ok(())));
        let mut chance = Chance(3);
        store(&mut vault, &chance.bytes(9000));
        // The journal knows it by now, whatever the drive says.
        drop(vault);
        let whole = world.drives[0].with(|f| f["journal"].clone());
        world.drives[5].with(|f| f.insert("journal".into(), whole));
        let (mut vault, _) = world.open();
        assert_eq!(states(&vault)[5], DriveState::Quarantined(Distrust::Away));
        assert_eq!(world::admit(&mut vault), 1);
        old.iter().chain(&new).for_each(|o| assert!(is_whole(&vault, o)));
        assert!(world.open().0.status().drives.iter().all(|d| d.is_well()));
    }
}

#[test]
fn where_the_others_are_too_few_a_drive_is_used_and_that_is_said() {
    let (world, old, mut new) = stored(6);
    for away in [2, 4] {
        let (mut vault, _) = open_without(&world, &[away]);
        store(&mut vault, &new.pop().unwrap());
    }
    let (mut vault, _) = world.open();
    let status = vault.status();
    let used: Vec<_> = status.drives.iter().filter(|d| d.state == DriveState::Present && !d.is_well()).collect();
    let held = states(&vault).iter().filter(|s| matches!(s, DriveState::Quarantined(_))).count();
    assert_eq!((used.len(), held), (1, 1), "five are needed: {:?}", status.drives);
    store(&mut vault, &new.pop().unwrap());
    // One more dies while it is written to: the one that is held back is better than none.
    world.drives[0].state.lock().unwrap().fail_sync = true;
    store(&mut vault, &new.pop().unwrap());
    let held = states(&vault).iter().filter(|s| matches!(s, DriveState::Quarantined(_))).count();
    assert_eq!(held, 0);
    world.drives[0].state.lock().unwrap().fail_sync = false;
    drop(vault);
    let (mut vault, _) = world.open();
    assert_eq!(vault.distrust(0), Some(Distrust::Failed));
    assert_eq!(world::admit(&mut vault), 3);
    old.iter().for_each(|o| assert!(is_whole(&vault, o)));
    assert!(world.open().0.status().drives.iter().all(|d| d.is_well()));
}

#[test]
fn a_drive_that_rots_in_two_scrubs_running_is_held_back_until_one_finds_nothing() {
    // Without drives to spare: else what is damaged there is written to others, and nothing is left on it to be wrong again.
    let (world, old, _) = stored(6);
    let rot = |drive: usize| {
        for name in world.drives[drive].shard_files() {
            world.drives[drive].with(|f| f.get_mut(&name).unwrap()[500] ^= 1);
        }
    };
    let (mut vault, _) = world.open();
    let mut before = None;
    let mut held = Vec::new();
    for round in 0..5 {
        if round < 3 {
            rot(1);
        }
        let (record, judged) = scrub(&mut vault, before.as_ref());
        held.push((judged.held, judged.admitted));
        before = Some(record);
        // What it holds is mended all the same.
        old.iter().for_each(|o| assert!(is_whole(&vault, o)));
    }
    let wrong = vec![(1, Distrust::Wrong)];
    let want = [(vec![], vec![]), (wrong, vec![]), (vec![], vec![]), (vec![], vec![1]), (vec![], vec![])];
    assert_eq!(held, want, "the third found it wrong again, the fourth nothing");
}

#[test]
fn a_drive_that_takes_far_longer_than_the_others_is_held_back_until_it_does_not() {
    let (mut world, ..) = stored(8);
    let (mut vault, _) = world.open();
    (0..60).for_each(|n| world::keep(&mut vault, &world.chance.bytes(1000 + n)));
    let slow = |ms: u64| {
        for (slot, drive) in world.drives.iter().enumerate() {
            drive.state.lock().unwrap().read_ns = if slot == 6 { ms * 1_000_000 } else { 5_000_000 };
        }
    };
    slow(40);
    assert_eq!(scrub(&mut vault, None).1, Judged::default(), "slow, and not far slower");
    slow(200);
    assert_eq!(scrub(&mut vault, None).1.held, [(6, Distrust::Slow)]);
    assert_eq!(states(&vault)[6], DriveState::Quarantined(Distrust::Slow));
    // Read wholly and right, and as slow as before.
    assert_eq!(scrub(&mut vault, None).1, Judged::default());
    slow(6);
    assert_eq!(scrub(&mut vault, None).1.admitted, [6]);
    assert!(world.open().0.status().drives.iter().all(|d| d.is_well()));
}

#[test]
fn a_scrub_in_which_a_drive_was_away_or_that_it_came_to_late_does_not_let_it_in() {
    let (world, _, new) = stored(8);
    let now = WallTime { s: 1_800_000_000, ns: 0 };
    let (mut vault, _) = open_without(&world, &[3]);
    world::keep(&mut vault, &new[0]);
    let mut late = Scrub::begin(now);
    while late.record().objects < 3 {
        late.handle_step(&mut vault, now);
    }
    drop(vault);
    let (mut vault, _) = world.open();
    while let Step::Looked(_) = late.handle_step(&mut vault, now) {}
    assert_eq!(late.finish(&mut vault, None), Ok(Judged::default()));
    // On trial from the beginning, and away in between.
    let mut begun = Scrub::begin(now);
    begun.handle_step(&mut vault, now);
    drop(vault);
    let (mut vault, _) = open_without(&world, &[3]);
    while begun.record().objects < 5 {
        begun.handle_step(&mut vault, now);
    }
    drop(vault);
    let (mut vault, _) = world.open();
    while let Step::Looked(_) = begun.handle_step(&mut vault, now) {}
    assert_eq!(begun.finish(&mut vault, None), Ok(Judged::default()));
    assert_eq!(scrub(&mut vault, None).1.admitted, [3]);
}

#[test]
fn an_empty_drive_in_the_place_of_a_stale_one_is_taken_in_at_once() {
    let (world, old, new) = stored(6);
    let (mut vault, _) = open_without(&world, &[3]);
    world::keep(&mut vault, &new[0]);
    drop(vault);
    world.drives[3].delete_all();
    let (mut vault, _) = world.open();
    assert_eq!(states(&vault)[3], DriveState::Blank);
    vault.readopt(3, None).unwrap();
    drop(vault);
    let (mut vault, _) = world.open();
    assert!(vault.status().drives.iter().all(|d| d.is_well()));
    for object in old.iter().chain(&new[..1]) {
        assert!(vault.mend(Verified::hash(object).id()).unwrap().left.is_empty());
    }
}

#[test]
fn the_quarantine_survives_a_power_cut_at_every_operation_of_it() {
    let (world, old, new) = stored(7);
    let images = world.images();
    // Writing without a drive; then the drive is there, something is written, and it is read wholly and let in.
    let act = || {
        let (mut vault, _) = open_without(&world, &[3]);
        let stored: Vec<bool> = new[..2].iter().map(|o| try_store(&mut vault, o)).collect();
        drop(vault);
        let (mut vault, _) = world.open();
        try_store(&mut vault, &new[2]);
        let Some(mut trial) = lavatube_vault::Trial::begin(&vault, 3) else { return (stored, false, false) };
        while trial.handle_step(&mut vault).is_some() {}
        (stored, trial.left == 0, trial.finish(&mut vault).unwrap_or(false))
    };
    world.power.lock().unwrap().used = 0;
    assert_eq!(act(), (vec![true; 2], true, true));
    let count = world.power.lock().unwrap().used;
    let mut admitted = 0;
    for crash in [Crash::None, Crash::All, Crash::Random] {
        for left in 0..=count {
            world.restore(&images);
            world.power.lock().unwrap().left = left;
            let (stored, is_right, is_in) = act();
            let mut chance = Chance(left as u64 + 11);
            world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
            world.power.lock().unwrap().left = usize::MAX;
            let what = format!("{crash:?} after {left} of {count}");
            let (mut vault, _) = world.open();
            let missed = stored.iter().any(|s| *s);
            match states(&vault)[3] {
                // What was receipted without it is known to be missed, until it was let in.
                DriveState::Present => assert!(!missed || is_right, "{what}: {stored:?}"),
                DriveState::Quarantined(Distrust::Away) => assert!(!is_in, "{what}"),
                ref other => panic!("{what}: {other:?}"),
            }
            admitted += usize::from(is_in);
            old.iter().for_each(|o| assert_eq!(read(&vault, o), Ok(()), "{what}"));
            new.iter().zip(&stored).filter(|(_, s)| **s).for_each(|(o, _)| assert_eq!(read(&vault, o), Ok(())));
            new.iter().for_each(|o| world::keep(&mut vault, o));
            world::admit(&mut vault);
            for object in old.iter().chain(&new) {
                assert!(vault.mend(Verified::hash(object).id()).unwrap().left.is_empty(), "{what}");
                assert!(is_whole(&vault, object), "{what}");
            }
            assert!(world.open().0.status().drives.iter().all(|d| d.is_well()), "{what}");
        }
    }
    assert!(admitted > 0);
}

fn try_store(vault: &mut Vault, bytes: &[u8]) -> bool {
    vault.store(lavatube_vault::ObjectKind::Pack, Verified::hash(bytes)).is_ok()
}
