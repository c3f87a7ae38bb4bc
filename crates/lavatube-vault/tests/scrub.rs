//! A scrub finds what was damaged, all of it and nothing else, mends it, and survives being cut at any moment.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::time::WallTime;
use lavatube_base::{ObjectId, Verified};
use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord};
use lavatube_vault::scrub::{Looked, Scrub, Step};
use lavatube_vault::{Depth, Vault};
use world::{Chance, Crash, World};

const NOON: WallTime = WallTime { s: 1_800_000_000, ns: 0 };

/// A vault of some objects on `drives` drives.
fn stored(drives: usize) -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(drives);
    let objects: Vec<Vec<u8>> = [4096, 20_000, 300_000, 5_000, 70_001].iter().map(|n| world.chance.bytes(*n)).collect();
    let mut vault = world.create(4, 2);
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    (world, objects)
}

/// All steps of a scrub to its end.
fn scrub_all(vault: &mut Vault, scrub: &mut Scrub) -> Vec<Looked> {
    let mut all = Vec::new();
    while let Step::Looked(looked) = scrub.handle_step(vault, NOON) {
        all.push(*looked);
    }
    all
}

fn scrub(vault: &mut Vault) -> (ScrubRecord, Vec<Looked>) {
    let mut scrub = Scrub::begin(NOON);
    let looked = scrub_all(vault, &mut scrub);
    (scrub.record().clone(), looked)
}

#[test]
fn every_damage_is_found_in_one_scrub_and_the_counts_agree() {
    let (mut world, objects) = stored(6);
    let whole = world.images();
    for round in 0..60 {
        world.restore(&whole);
        // At most two shards of each object: any two may be lost.
        let mut hurt: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut gone = 0;
        for _ in 0..=world.chance.below(8) {
            let drive = world.chance.below(6);
            let names = world.drives[drive].shard_files();
            let name = names[world.chance.below(names.len())].clone();
            let object = name[..name.rfind('.').unwrap()].to_owned();
            let shards = hurt.entry(object).or_default();
            if shards.len() == 2 || !shards.insert(drive) {
                continue;
            }
            let chance = world.chance.next();
            gone += usize::from(chance.is_multiple_of(5));
            world.drives[drive].with(|files| {
                let bytes = files.get_mut(&name).unwrap();
                match chance % 5 {
                    0 => drop(files.remove(&name)),
                    4 => bytes.push(7),
                    1 => bytes.truncate(bytes.len() / 2),
                    2 => bytes.iter_mut().for_each(|b| *b = !*b),
                    _ => {
                        let at = (chance / 5) as usize % bytes.len();
                        bytes[at] ^= 1 << (chance % 7);
                    }
                }
            });
        }
        let injected: usize = hurt.values().map(BTreeSet::len).sum();
        let (mut vault, _) = world.open();
        let (record, looked) = scrub(&mut vault);
        let found = record.drives.iter().fold((0, 0), |sum, d| (sum.0 + d.damaged, sum.1 + d.missing));
        assert_eq!((found.0 + found.1, found.1), (injected as u64, gone as u64), "round {round}");
        assert_eq!((record.mended, record.left, record.lost), (injected as u64, 0, 0), "round {round}");
        assert_eq!(record.unsound, hurt.values().filter(|shards| !shards.is_empty()).count() as u64);
        assert_eq!((looked.len(), record.objects), (objects.len(), objects.len() as u64));
        assert_eq!(record.bytes, objects.iter().map(|o| o.len() as u64).sum::<u64>());
        // What was mended is what it was, to the byte.
        assert_eq!(world.images(), whole, "round {round}");
        assert_eq!(scrub(&mut vault).0.unsound, 0);
    }
}

#[test]
fn a_scrub_that_is_cut_anywhere_loses_nothing_and_goes_on_where_it_was() {
    let (world, objects) = stored(6);
    let whole = world.images();
    for drive in &world.drives[1..3] {
        for name in drive.shard_files() {
            drive.with(|f| f.get_mut(&name).unwrap()[700] ^= 1);
        }
    }
    let hurt = world.images();
    let count = {
        let (mut vault, _) = world.open();
        world.power.lock().unwrap().used = 0;
        scrub(&mut vault);
        world.power.lock().unwrap().used
    };
    assert!(count > 2 * objects.len());
    for crash in [Crash::None, Crash::All, Crash::Random] {
        for left in 0..count {
            world.restore(&hurt);
            let (mut vault, _) = world.open();
            world.power.lock().unwrap().left = left;
            let mut cut = Scrub::begin(NOON);
            // What is kept is what was known before the step that was cut.
            let mut kept = cut.record().clone();
            let mut seen: Vec<ObjectId> = Vec::new();
            while let Step::Looked(looked) = cut.handle_step(&mut vault, NOON) {
                if world.power.lock().unwrap().left == 0 {
                    break;
                }
                kept = cut.record().clone();
                seen.push(looked.id);
            }
            drop(vault);
            let mut chance = Chance(left as u64 + 5);
            world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
            world.power.lock().unwrap().left = usize::MAX;
            let what = format!("{crash:?} after {left} of {count}");
            let (mut vault, _) = world.open();
            objects.iter().for_each(|o| assert_eq!(world::read(&vault, o), Ok(()), "{what}"));
            let Some(mut again) = Scrub::resume(&kept) else { continue };
            // What was looked at out of turn, because it lies beside damage, is looked at again.
            assert!(again.ahead(&vault).0 >= (objects.len() - seen.len()) as u64, "{what}");
            seen.extend(scrub_all(&mut vault, &mut again).iter().map(|l| l.id));
            let record = again.record();
            assert_eq!((record.end, record.objects), (ScrubEnd::Whole, objects.len() as u64), "{what}");
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), objects.len(), "{what}: each once");
            assert_eq!(world.images(), whole, "{what}");
        }
    }
}

#[test]
fn shards_of_a_drive_that_is_away_are_left_alone_and_damage_elsewhere_is_mended() {
    let (world, objects) = stored(8);
    let whole = world.images();
    let mut drives = world.boxed();
    drives[0] = None;
    let there = world.drives[3].shard_files();
    there.iter().for_each(|name| world.drives[3].with(|f| f.get_mut(name).unwrap()[300] ^= 4));
    let hurt = world.images();
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    let away = world.drives[0].shard_files().len() as u64;
    let (record, _) = scrub(&mut vault);
    assert_eq!((record.degraded, record.unsound, record.mended), (away, there.len() as u64, there.len() as u64));
    let found = |on: &ScrubDrive| (on.damaged + on.missing, on.away, on.left);
    let mut drives: Vec<_> = record.drives.iter().map(found).collect();
    drives.sort_unstable();
    assert_eq!(drives, [(0, away, 0), (there.len() as u64, 0, 0)]);
    drop(vault);
    assert_eq!(world.images()[0], whole[0], "nothing moved, and the drive that comes back fits");
    let is_as_it_was = |name: &String| world.drives[3].with(|f| f[name] == hurt[3][name]);
    assert!(there.iter().all(is_as_it_was), "what was damaged is not written over");
    let (vault, _) = world.open();
    for object in &objects {
        assert!(vault.examine(Verified::hash(object).id(), Depth::Bytes).unwrap().is_whole());
    }
}

#[test]
fn what_is_lost_is_counted_and_named_and_nothing_is_written_over_it() {
    let (world, objects) = stored(6);
    let id = Verified::hash(&objects[2]).id();
    let hex = id.to_string();
    let ours = |name: &String| name.contains(&hex);
    for drive in &world.drives[..3] {
        let name = drive.shard_files().into_iter().find(ours).unwrap();
        drive.with(|f| f.get_mut(&name).unwrap().iter_mut().for_each(|b| *b = b.wrapping_mul(31) ^ 0x5a));
    }
    let hurt = world.images();
    let (mut vault, _) = world.open();
    let (record, looked) = scrub(&mut vault);
    assert_eq!((record.lost, record.lost_ids, record.mended, record.left), (1, vec![id], 0, 3));
    assert!(looked.iter().any(|l| l.id == id && l.lost && !l.restorable));
    assert_eq!(world.images(), hurt, "what is left may still serve");
    // With a drive away, the same shards are not lost: it may bring them back.
    drop(vault);
    let mut drives = world.boxed();
    drives[0] = None;
    drives[1] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    let (record, looked) = scrub(&mut vault);
    assert_eq!((record.lost, record.degraded), (0, objects.len() as u64));
    assert!(looked.iter().any(|l| l.id == id && !l.restorable && !l.lost));
}

#[test]
fn a_drive_that_takes_nothing_leaves_its_shards_as_they_are_and_says_so() {
    let (world, _) = stored(6);
    for name in world.drives[4].shard_files() {
        world.drives[4].with(|f| f.get_mut(&name).unwrap()[700] ^= 1);
    }
    world.drives[4].state.lock().unwrap().fail_sync = true;
    let (mut vault, _) = world.open();
    let (record, looked) = scrub(&mut vault);
    assert_eq!((record.mended, record.left, record.unsound), (0, 5, 5));
    assert!(looked.iter().all(|l| l.restorable && l.left.len() == 1));
}

#[test]
fn what_lies_beside_damage_is_looked_at_at_once() {
    let mut world = World::new(8);
    let objects: Vec<Vec<u8>> = (0..60).map(|n| world.chance.bytes(3000 + n)).collect();
    let mut vault = world.create(4, 2);
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    // A cluster of bad sectors: the shards of ten objects that were written one after the other.
    let hex = |o: &Vec<u8>| Verified::hash(o).id().to_string();
    let cluster: Vec<String> = objects[20..30].iter().map(hex).collect();
    let mut hurt = 0;
    for name in world.drives[3].shard_files() {
        if cluster.iter().any(|id| name.contains(id)) {
            world.drives[3].with(|f| f.get_mut(&name).unwrap()[300] ^= 2);
            hurt += 1;
        }
    }
    assert!(hurt > 4);
    let (record, looked) = scrub(&mut vault);
    assert_eq!((record.objects, record.mended, record.unsound), (60, hurt, hurt), "each is counted once");
    let order: Vec<bool> = looked.iter().map(|l| !l.found.is_empty()).collect();
    let (first, last) = (order.iter().position(|bad| *bad).unwrap(), order.iter().rposition(|bad| *bad).unwrap());
    assert!(last - first < 30, "found within {} looks of {}", last - first, order.len());
    assert_eq!(looked.iter().map(|l| l.id).collect::<BTreeSet<_>>().len(), looked.len(), "each is read once");
}
