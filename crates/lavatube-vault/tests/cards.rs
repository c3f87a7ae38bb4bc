//! Drives are named anew, added and retired, with the power failing between any two writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::limits::MANDATE_LEAP_MAX;
use lavatube_base::sign::PairSigner;
use lavatube_base::{DriveId, VaultId, Verified};
use lavatube_format::drive_card::SlotCard;
use lavatube_format::mandate::{MANDATE_CONTEXT, Mandate, SignedMandate, Task};
use lavatube_vault::{CardError, Depth, Drive, DriveState, MandateError, OpenReport, Vault};
use world::{Chance, Crash, MemoryDrive, World};

const CRASHES: [Crash; 3] = [Crash::None, Crash::All, Crash::Random];

fn card(label: &str) -> SlotCard {
    let [shelf, maker, model] = ["attic", "Far Side", "F1"].map(str::to_owned);
    SlotCard { drive: DriveId([99; 16]), label: label.into(), shelf, maker, model, retired: false }
}

/// A vault of some objects on `drives` drives, and a drive that is in none.
fn stored(drives: usize) -> (World, MemoryDrive, Vec<Vec<u8>>) {
    let mut world = World::new(drives);
    let objects: Vec<Vec<u8>> = [4096, 20_000, 70_001].iter().map(|n| world.chance.bytes(*n)).collect();
    let mut vault = world.create(4, 2);
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    let extra = MemoryDrive::new(&world.power);
    (world, extra, objects)
}

fn open(world: &World, extra: Option<&MemoryDrive>) -> (Vault, OpenReport) {
    let mut drives = world.boxed();
    drives.extend(extra.map(|d| Some(Box::new(d.clone()) as Box<dyn Drive>)));
    world::open(drives, Some(world::signer())).unwrap()
}

/// Everything can be read, and after one more object every card and journal is as it should be.
fn check_after(world: &World, extra: Option<&MemoryDrive>, objects: &[Vec<u8>], what: &str) -> Vault {
    world.power.lock().unwrap().left = usize::MAX;
    let (mut vault, _) = open(world, extra);
    objects.iter().for_each(|o| assert_eq!(world::read(&vault, o), Ok(()), "{what}"));
    world::keep(&mut vault, what.as_bytes());
    let (vault, report) = open(world, extra);
    let well = |d: &lavatube_vault::DriveReport| d.state == DriveState::Retired || (d.card_whole && d.journal_current);
    assert!(report.drives.iter().all(well), "{what}: {:?}", report.drives);
    vault
}

fn lose_power(world: &World, extra: &MemoryDrive, crash: Crash, seed: usize) {
    let mut chance = Chance(seed as u64 + 7);
    world.drives.iter().chain([extra]).for_each(|d| d.lose_power(crash, &mut chance));
}

/// Runs `act` with the power failing at each of its operations.
fn cut_everywhere(world: &World, extra: &MemoryDrive, act: impl Fn(), check: impl Fn(&str)) {
    let (images, blank) = (world.images(), extra.with(|f| f.clone()));
    world.power.lock().unwrap().used = 0;
    act();
    let count = world.power.lock().unwrap().used;
    assert!(count > 10);
    for crash in CRASHES {
        for left in 0..=count {
            world.restore(&images);
            extra.with(|f| *f = blank.clone());
            world.power.lock().unwrap().left = left;
            act();
            lose_power(world, extra, crash, left);
            world.power.lock().unwrap().left = usize::MAX;
            check(&format!("{crash:?} after {left} of {count}"));
        }
    }
}

#[test]
fn a_drive_is_called_the_old_or_the_new_way_wherever_it_is_cut() {
    let (world, extra, objects) = stored(6);
    let rename = || {
        let (mut vault, _) = open(&world, None);
        vault.rename_drive(3, card("A3"))
    };
    let check = |what: &str| {
        let vault = check_after(&world, None, &objects, what);
        let drive = vault.status().drives[3].clone();
        assert!(["d3", "A3"].contains(&&*drive.label), "{what}: {drive:?}");
        assert_eq!(drive.drive, DriveId([4; 16]), "its id stays");
        assert_eq!(rename(), Ok(()), "{what}");
        assert_eq!(open(&world, None).0.status().drives[3].shelf, "attic");
        let readme = world.drives[0].with(|f| String::from_utf8_lossy(&f["README.txt"]).into_owned());
        assert!(readme.contains("A3 (shelf attic, Far Side F1)"), "{readme}");
    };
    cut_everywhere(&world, &extra, || drop(rename()), check);
}

#[test]
fn a_drive_that_is_added_is_in_or_can_be_added_again_wherever_it_is_cut() {
    for is_list_lost in [false, true] {
        let (world, extra, objects) = stored(6);
        let listed = std::cell::Cell::new(false);
        let add = || -> Result<(), CardError> {
            let (mut vault, report) = open(&world, listed.get().then_some(&extra));
            if report.drives.len() == 7 {
                return Ok(());
            }
            let prepared = vault.prepare_drive(&extra, card("new"))?;
            // Here `vault.toml` is written, at once or not at all.
            if is_list_lost && world.power.lock().unwrap().left < 1000 {
                return Err(CardError::NoDrive(6));
            }
            listed.set(true);
            vault.add_drive(prepared, Box::new(extra.clone())).map(drop)
        };
        let act = || {
            listed.set(false);
            let _ = add();
        };
        let check = |what: &str| {
            let is_listed = || listed.get().then_some(&extra);
            check_after(&world, is_listed(), &objects, what);
            assert_eq!(add(), Ok(()), "{what}");
            let mut vault = check_after(&world, is_listed(), &objects, what);
            let status = vault.status();
            assert_eq!((status.drives.len(), &*status.drives[6].label), (7, "new"), "{what}");
            // New objects come to it, and it may be one of two that die.
            for n in 0..6u8 {
                world::keep(&mut vault, &[n; 500]);
            }
            assert!(!extra.shard_files().is_empty(), "{what}");
        };
        cut_everywhere(&world, &extra, act, check);
    }
}

#[test]
fn a_drive_is_emptied_and_retired_or_in_use_wherever_it_is_cut() {
    let (world, extra, objects) = stored(7);
    let retire = || -> Result<(), CardError> {
        let (mut vault, _) = open(&world, None);
        vault.may_retire(2)?;
        for id in vault.objects_on(2) {
            // Where the power failed it is tried again.
            let _ = vault.move_off(id, 2);
        }
        vault.retire(2)
    };
    let check = |what: &str| {
        check_after(&world, None, &objects, what);
        match retire() {
            Ok(()) => {}
            Err(e) => assert_eq!(e, CardError::NoDrive(2), "{what}: it is retired already"),
        }
        // What is stored afterwards does not go there, and nobody misses it when it is taken away.
        let before = world.drives[2].shard_files();
        let vault = check_after(&world, None, &objects, what);
        assert_eq!(world.drives[2].shard_files(), before, "{what}");
        assert_eq!(vault.status().drives[2].state, DriveState::Retired, "{what}");
        drop(vault);
        let mut drives = world.boxed();
        drives[2] = None;
        let (vault, report) = world::open(drives, Some(world::signer())).unwrap();
        assert_eq!(report.drives[2].state, DriveState::Retired);
        for object in &objects {
            let health = vault.examine(Verified::hash(object).id(), Depth::Bytes).unwrap();
            assert!(health.is_whole(), "{what}: {health:?}");
        }
        assert_eq!(vault.status().redundancy[..2], [0, 0], "{what}");
    };
    cut_everywhere(&world, &extra, || drop(retire()), check);
}

#[test]
fn without_drives_enough_nothing_is_retired_and_without_most_of_them_no_card_is_changed() {
    let (world, extra, _) = stored(6);
    let (mut vault, _) = world.open();
    assert_eq!(vault.retire(0), Err(CardError::TooFew { have: 5, need: 6 }));
    assert_eq!(vault.rename_drive(0, card("d1")), Err(CardError::SameLabel("d1".into())));
    assert_eq!(vault.prepare_drive(&world.drives[1], card("x")).unwrap_err(), CardError::Taken);
    let long = SlotCard { label: "x".repeat(70_000), ..card("") };
    assert_eq!(vault.rename_drive(0, long), Err(CardError::TooLong));
    drop(vault);
    let before = world.images();
    let mut drives = world.boxed();
    (0..3).for_each(|slot| drives[slot] = None);
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    assert!(matches!(vault.rename_drive(4, card("A4")), Err(CardError::Store(_))));
    assert!(matches!(vault.prepare_drive(&extra, card("new")), Err(CardError::Store(_))));
    assert_eq!(world.images(), before);
}

#[test]
fn a_drive_that_was_away_gets_the_new_card_when_it_is_back() {
    let (world, _, objects) = stored(6);
    let mut drives = world.boxed();
    drives[5] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    vault.rename_drive(4, card("A4")).unwrap();
    vault.rename_drive(5, card("A5")).unwrap();
    drop(vault);
    let (vault, report) = world.open();
    assert_eq!(report.drives.iter().filter(|d| !d.card_whole).count(), 1);
    assert_eq!((&*vault.status().drives[4].label, &*vault.status().drives[5].label), ("A4", "A5"));
    check_after(&world, None, &objects, "all are back");
}

fn mandate(vault: VaultId, number: u64, by: &PairSigner) -> Vec<u8> {
    let mandate = Mandate { vault, number, task: Task::Retire { drive: DriveId([1; 16]) } };
    let body = mandate.encode_body();
    let signature = by.sign(MANDATE_CONTEXT, &body).unwrap();
    SignedMandate { mandate, body, signature }.encode()
}

#[test]
fn a_mandate_is_the_authoritys_for_this_vault_and_its_number_is_taken_once() {
    let (world, _, _) = stored(6);
    let (mut vault, _) = world.open();
    let (id, authority) = (vault.id(), world::authority());
    let thief = PairSigner::from_seeds(&[77; 32], &[78; 32]).unwrap();
    let read = |vault: &Vault, bytes: &[u8]| vault.read_mandate(bytes).map(|mandate| mandate.number);
    assert_eq!(read(&vault, &mandate(id, 1, &authority)), Ok(1));
    assert!(matches!(read(&vault, &mandate(id, 1, &thief)), Err(MandateError::Signature(_))));
    let elsewhere = mandate(VaultId([9; 16]), 1, &authority);
    assert_eq!(read(&vault, &elsewhere), Err(MandateError::OtherVault(VaultId([9; 16]))));
    let mut changed = mandate(id, 1, &authority);
    changed[8 + 4 + 16] ^= 1;
    assert!(read(&vault, &changed).is_err(), "another number under the same signatures");
    assert!(matches!(read(&vault, b"nothing"), Err(MandateError::Malformed(_))));
    assert_eq!((vault.may_follow(1), vault.may_follow(MANDATE_LEAP_MAX)), (Ok(()), Ok(())));
    let far = MANDATE_LEAP_MAX + 1;
    assert_eq!(vault.may_follow(far), Err(MandateError::Leaps { number: far, last: 0 }));
    vault.take_mandate(3).unwrap();
    // All journals are lost, and most drives: it was on the cards.
    drop(vault);
    for (n, drive) in world.drives.iter().enumerate() {
        drive.with(|files| if n < 2 { files.clear() } else { drop(files.remove("journal")) });
    }
    world.power.lock().unwrap().left = usize::MAX;
    let (vault, _) = world.open();
    assert_eq!((vault.last_mandate(), vault.may_follow(4)), (3, Ok(())));
    for number in [0, 2, 3] {
        assert_eq!(vault.may_follow(number), Err(MandateError::Overtaken { number, last: 3 }));
    }
}

#[test]
fn the_number_of_a_mandate_is_taken_or_not_wherever_power_fails() {
    let (world, extra, objects) = stored(6);
    let took = std::cell::Cell::new(false);
    let act = || {
        let (mut vault, _) = open(&world, None);
        took.set(vault.take_mandate(1).is_ok());
    };
    cut_everywhere(&world, &extra, act, |what| {
        let seen = open(&world, None).0.last_mandate();
        let after = check_after(&world, None, &objects, what).last_mandate();
        assert!(!took.get() || after == 1, "{what}: it said so");
        assert_eq!(after, seen, "{what}: what counts is seen at once, and stays");
    });
}
