//! The power fails at every single operation of a drive, and of what was not synced none, all or any part happened.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::Verified;
use lavatube_vault::{Depth, ObjectKind, Receipt, Vault};
use world::{Chance, Crash, World};

/// Stores a few objects, some one by one and some together; returns the receipts given before the power failed.
fn work(vault: &mut Vault, objects: &[Vec<u8>]) -> Vec<(usize, Receipt)> {
    let mut receipts = Vec::new();
    for (n, object) in objects.iter().enumerate().take(2) {
        match vault.store(ObjectKind::Pack, Verified::hash(object)) {
            Ok(receipt) => receipts.push((n, receipt)),
            Err(_) => return receipts,
        }
    }
    let batch: Vec<_> = objects[2..].iter().map(|o| (ObjectKind::Pack, Verified::hash(o))).collect();
    if let Ok(more) = vault.store_batch(&batch) {
        receipts.extend((2..).zip(more));
    }
    receipts
}

fn check_after(world: &World, objects: &[Vec<u8>], receipts: &[(usize, Receipt)], what: &str) {
    world.power.lock().unwrap().left = usize::MAX;
    let (mut vault, _) = world.open();
    for (n, receipt) in receipts {
        assert_eq!(world::read(&vault, &objects[*n]), Ok(()), "{what}: object {n} has a receipt");
        assert_eq!(vault.receipt_for(receipt.body.object).as_ref(), Some(receipt), "{what}");
    }
    for (n, object) in objects.iter().enumerate() {
        let id = Verified::hash(object).id();
        if vault.contains(id) {
            assert_eq!(world::read(&vault, object), Ok(()), "{what}: object {n} is visible");
            assert!(vault.examine(id, Depth::Bytes).unwrap().restorable);
        }
    }
    // The next run carries on, and ends with everything whole and durable on every drive.
    for object in objects {
        world::store(&mut vault, object).verify(&vault.vault_key()).unwrap();
    }
    let (vault, report) = world.open();
    assert!(report.drives.iter().all(|d| d.journal_current), "{what}");
    for object in objects {
        assert!(vault.examine(Verified::hash(object).id(), Depth::Bytes).unwrap().is_whole(), "{what}");
    }
}

#[test]
fn an_object_with_a_receipt_survives_a_crash_at_any_operation_and_none_is_half_there() {
    let mut world = World::new(6);
    let objects: Vec<Vec<u8>> = [4096, 20_000, 5_000, 70_001].iter().map(|n| world.chance.bytes(*n)).collect();
    drop(world.create(4, 2));
    let blank = world.images();
    let (mut vault, _) = world.open();
    world.power.lock().unwrap().used = 0;
    assert_eq!(work(&mut vault, &objects).len(), 4);
    let operations = world.power.lock().unwrap().used;
    for crash in [Crash::None, Crash::All, Crash::Random] {
        for left in 0..=operations {
            for seed in 1..=(if crash == Crash::Random { 6 } else { 1 }) {
                world.restore(&blank);
                let (mut vault, _) = world.open();
                world.power.lock().unwrap().left = left;
                let receipts = work(&mut vault, &objects);
                drop(vault);
                let mut chance = Chance(seed * 7919 + left as u64 + 1);
                world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
                check_after(
                    &world,
                    &objects,
                    &receipts,
                    &format!("{crash:?} after {left} of {operations}, seed {seed}"),
                );
            }
        }
    }
}

#[test]
fn what_a_killed_process_appended_is_synced_before_it_is_receipted() {
    let mut world = World::new(6);
    let objects: Vec<Vec<u8>> = [4096, 20_000, 5_000, 70_001].iter().map(|n| world.chance.bytes(*n)).collect();
    drop(world.create(4, 2));
    let blank = world.images();
    let (mut vault, _) = world.open();
    world.power.lock().unwrap().used = 0;
    work(&mut vault, &objects);
    let operations = world.power.lock().unwrap().used;
    for left in 0..=operations {
        world.restore(&blank);
        let (mut vault, _) = world.open();
        world.power.lock().unwrap().left = left;
        let mut receipts = work(&mut vault, &objects);
        drop(vault);
        // Only the process dies; the next one is asked for the same, and then the power fails.
        world.drives.iter().for_each(world::MemoryDrive::kill);
        world.power.lock().unwrap().left = usize::MAX;
        let (mut vault, _) = world.open();
        for (n, object) in objects.iter().enumerate() {
            receipts.extend(vault.receipt_for(Verified::hash(object).id()).map(|receipt| (n, receipt)));
        }
        drop(vault);
        world.drives.iter().for_each(|d| d.lose_power(Crash::None, &mut Chance(1)));
        check_after(&world, &objects, &receipts, &format!("killed after {left} of {operations}"));
    }
}

#[test]
fn two_drives_that_die_after_the_crash_take_no_receipted_object_with_them() {
    let mut world = World::new(6);
    let objects: Vec<Vec<u8>> = [4096, 20_000, 5_000, 7_001].iter().map(|n| world.chance.bytes(*n)).collect();
    drop(world.create(4, 2));
    let blank = world.images();
    let operations = {
        let (mut vault, _) = world.open();
        world.power.lock().unwrap().used = 0;
        work(&mut vault, &objects);
        world.power.lock().unwrap().used
    };
    for left in 0..=operations {
        world.restore(&blank);
        let (mut vault, _) = world.open();
        world.power.lock().unwrap().left = left;
        let receipts = work(&mut vault, &objects);
        drop(vault);
        let mut chance = Chance(left as u64 + 99);
        world.drives.iter().for_each(|d| d.lose_power(Crash::Random, &mut chance));
        world.power.lock().unwrap().left = usize::MAX;
        let first = chance.below(6);
        world.drives[first].delete_all();
        world.drives[(first + 1 + chance.below(5)) % 6].noise(&mut chance);
        let (vault, _) = world.open();
        for (n, _) in receipts {
            assert_eq!(world::read(&vault, &objects[n]), Ok(()), "after {left}");
        }
    }
}

#[test]
fn a_crash_while_mending_or_readopting_loses_nothing() {
    let mut world = World::new(6);
    let objects: Vec<Vec<u8>> = [4096, 300_000].iter().map(|n| world.chance.bytes(*n)).collect();
    let mut vault = world.create(4, 2);
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    drop(vault);
    world.drives[0].delete_all();
    for drive in &world.drives[2..4] {
        for name in drive.shard_files() {
            drive.with(|f| f.get_mut(&name).unwrap()[700] ^= 1);
        }
    }
    let hurt = world.images();
    let mend = |world: &World| {
        let (mut vault, _) = world.open();
        let _ = vault.readopt(0, None);
        objects.iter().for_each(|o| drop(vault.mend(Verified::hash(o).id())));
    };
    world.power.lock().unwrap().used = 0;
    mend(&world);
    let operations = world.power.lock().unwrap().used;
    for crash in [Crash::None, Crash::All, Crash::Random] {
        for left in 0..operations {
            world.restore(&hurt);
            world.power.lock().unwrap().left = left;
            mend(&world);
            let mut chance = Chance(left as u64 + 5);
            world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
            world.power.lock().unwrap().left = usize::MAX;
            let (vault, _) = world.open();
            objects.iter().for_each(|o| assert_eq!(world::read(&vault, o), Ok(()), "{crash:?} after {left}"));
            drop(vault);
            mend(&world);
            let (vault, report) = world.open();
            assert!(report.drives.iter().all(|d| d.card_whole && d.journal_current));
            objects.iter().for_each(|o| {
                assert!(
                    vault.examine(Verified::hash(o).id(), Depth::Bytes).unwrap().is_whole(),
                    "{crash:?} after {left}"
                );
            });
        }
    }
}

#[test]
fn drives_that_fail_while_storing_are_left_out_and_the_rest_suffices() {
    let mut world = World::new(6);
    let objects: Vec<Vec<u8>> = [4096, 20_000, 5_000, 7_001].iter().map(|n| world.chance.bytes(*n)).collect();
    let mut vault = world.create(4, 2);
    world.drives[4].state.lock().unwrap().fail_sync = true;
    assert_eq!(work(&mut vault, &objects).len(), 4);
    assert_eq!(vault.status().redundancy, [0, 4]);
    world.drives[1].state.lock().unwrap().dead = true;
    assert!(vault.store(ObjectKind::Pack, Verified::hash(b"one too many")).is_err());
    assert!(!vault.contains(Verified::hash(b"one too many").id()));
    objects.iter().for_each(|o| assert_eq!(world::read(&vault, o), Ok(())));
    drop(vault);
    world.drives[4].state.lock().unwrap().fail_sync = false;
    world.drives[1].state.lock().unwrap().dead = false;
    let (mut vault, _) = world.open();
    assert!(!vault.contains(Verified::hash(b"one too many").id()));
    assert_eq!(world::admit(&mut vault), 1);
    for object in &objects {
        assert!(vault.mend(Verified::hash(object).id()).unwrap().left.is_empty());
    }
    assert_eq!(vault.status().redundancy, [0, 0, 4]);
}

#[test]
fn a_full_drive_refuses_the_object_leaves_nothing_behind_and_may_be_tried_again() {
    let mut world = World::new(6);
    let object = world.chance.bytes(50_000);
    let mut vault = world.create(4, 2);
    let before = world.images();
    world.drives[5].state.lock().unwrap().full = true;
    let error = vault.store(ObjectKind::Pack, Verified::hash(&object)).unwrap_err();
    assert_eq!(error.to_string(), "drive d5 is full");
    assert_eq!(world.images(), before);
    world.drives[5].state.lock().unwrap().full = false;
    world::store(&mut vault, &object);
}

#[test]
fn with_more_drives_than_shards_a_full_or_dead_one_is_passed_over() {
    let mut world = World::new(9);
    let mut vault = world.create(4, 2);
    world.drives[5].state.lock().unwrap().full = true;
    world.drives[2].state.lock().unwrap().dead = true;
    for n in 1..20 {
        let object = world.chance.bytes(n * 777);
        world::store(&mut vault, &object);
        let health = vault.examine(Verified::hash(&object).id(), Depth::Bytes).unwrap();
        assert!(health.is_whole());
        assert!(health.shards.iter().all(|s| s.slot != Some(5) && s.slot != Some(2)));
    }
    drop(vault);
    // A drive dies for good: its shards move to others.
    let mut drives = world.boxed();
    drives[0] = None;
    world.drives[2].state.lock().unwrap().dead = false;
    world.drives[5].state.lock().unwrap().full = false;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    let ids: Vec<_> = vault.objects().map(|o| o.id).collect();
    ids.iter().for_each(|id| assert!(vault.mend(*id).unwrap().left.is_empty()));
    let (vault, _) = world.open();
    assert_eq!(vault.status().redundancy, [0, 0, 19]);
    ids.iter().for_each(|id| assert!(vault.examine(*id, Depth::Bytes).unwrap().is_whole()));
}

/// Whoever saw an object may rely on it, a depositor's catalog does: what a scan adopted must not vanish with the doubt
/// that made the vault scan, wherever the writing that ends the doubt is cut.
#[test]
fn an_object_that_was_adopted_once_is_never_forgotten() {
    let mut world = World::new(6);
    let objects: Vec<Vec<u8>> = [4096, 20_000].iter().map(|n| world.chance.bytes(*n)).collect();
    let mut vault = world.create(4, 2);
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    drop(vault);
    // The last record is torn on every drive.
    for drive in &world.drives {
        drive.with(|f| {
            let journal = f.get_mut("journal").unwrap();
            journal.truncate(journal.len() - 30);
        });
    }
    let torn = world.images();
    let settle = |world: &World| {
        let (mut vault, report) = world.open();
        for drive in report.drives.iter().filter(|d| !d.journal_current) {
            let _ = vault.readopt(drive.slot, None);
        }
        let _ = vault.store(ObjectKind::Pack, Verified::hash(b"another"));
    };
    world.power.lock().unwrap().used = 0;
    settle(&world);
    let operations = world.power.lock().unwrap().used;
    for crash in [Crash::None, Crash::All, Crash::Random] {
        for left in 0..=operations {
            world.restore(&torn);
            assert!(world.open().0.contains(Verified::hash(&objects[1]).id()));
            world.power.lock().unwrap().left = left;
            settle(&world);
            let mut chance = Chance(left as u64 + 77);
            world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
            world.power.lock().unwrap().left = usize::MAX;
            let (vault, _) = world.open();
            objects.iter().for_each(|o| assert_eq!(world::read(&vault, o), Ok(()), "{crash:?} after {left}"));
        }
    }
}
