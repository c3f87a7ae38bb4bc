//! A journal that there is no room for in memory: it is read from the drives, past what has rotted there, and copied in parts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::{ObjectId, Verified};
use lavatube_format::journal::{FIRST_CHECK, NO_SLOT, Record};
use lavatube_format::shard::{Geometry, ObjectKind};
use lavatube_vault::Vault;

use world::{Crash, World};

/// It is written in two parts.
const PACKS: u64 = 60_000;

fn id(n: u64) -> ObjectId {
    Verified::hash(&n.to_le_bytes()).id()
}

/// The journal of so many packs on the first five of six drives.
fn journal(packs: u64) -> Vec<u8> {
    let (mut out, mut check) = (Vec::new(), FIRST_CHECK);
    for sequence in 1..=packs {
        let record = Record::Stored {
            kind: ObjectKind::Pack,
            object: id(sequence),
            geometry: Geometry::new(16 << 20, 4, 2).unwrap(),
            generation: 1,
            slots: vec![0, 1, 2, 3, 4, NO_SLOT],
        };
        check = record.encode(sequence, &check, &mut out);
    }
    out
}

/// A vault of which the last drive has half of the journal.
fn world() -> World {
    let world = World::new(6);
    world.create(4, 2);
    let whole = journal(PACKS);
    let half = journal(PACKS / 2);
    for (slot, drive) in world.drives.iter().enumerate() {
        let own = if slot == 5 { &half } else { &whole };
        drive.with(|files| drop(files.insert("journal".into(), own.clone())));
    }
    world
}

fn open(world: &World) -> Vault {
    Vault::open_with(world.boxed(), Some(world::signer()), 0).unwrap().0
}

fn journals(world: &World) -> Vec<Vec<u8>> {
    world.drives.iter().map(|drive| drive.with(|files| files.get("journal").cloned().unwrap_or_default())).collect()
}

#[test]
fn every_pack_is_found_while_one_drive_has_its_record() {
    let world = world();
    let vault = open(&world);
    assert_eq!(vault.status().objects, PACKS);
    let all: Vec<ObjectId> = vault.objects().map(|object| object.id).collect();
    assert!(all.len() as u64 == PACKS && all.is_sorted());
    let from = all[all.len() / 3];
    assert_eq!(vault.find(from).map(|object| object.len), Some(16 << 20));
    assert!(vault.find(id(0)).is_none() && vault.find(id(PACKS + 1)).is_none());
    // Records rot while it is open: another one on each drive, and one on all that have all of it.
    let len = journal(1).len();
    let rots = |slot: usize, n: u64| {
        world.drives[slot].with(|files| files.get_mut("journal").unwrap()[len * (n as usize - 1) + len / 2] ^= 1);
    };
    (0..5).for_each(|slot| rots(slot, 1000 * (slot as u64 + 1)));
    (0..5).for_each(|slot| assert!(vault.contains(id(1000 * (slot + 1))), "{slot}"));
    assert_eq!(vault.status().objects, PACKS);
    (0..5).for_each(|slot| rots(slot, 55_555));
    assert!(!vault.contains(id(55_555)) && vault.contains(id(55_556)));
    assert_eq!(vault.objects().count() as u64, PACKS - 1);
    assert_eq!((vault.status().objects, vault.status().lost), (PACKS, 1));
    assert_eq!(vault.objects_on(2).len() as u64, PACKS - 1, "those behind it are not lost sight of");
    drop(vault);
    // Opened anew it is made of all copies together, and in memory until a drive has it.
    rots(4, 55_555);
    let (vault, report) = Vault::open_with(world.boxed(), Some(world::signer()), 0).unwrap();
    assert_eq!((report.records, report.scanned, vault.status().objects), (PACKS, false, PACKS));
}

#[test]
fn a_drive_that_is_behind_gets_all_of_it() {
    let world = world();
    let mut vault = open(&world);
    let pack = b"one more";
    world::store(&mut vault, pack);
    assert!(vault.contains(Verified::hash(pack).id()) && vault.contains(id(PACKS)));
    let all = journals(&world);
    assert!(all.iter().all(|journal| *journal == all[0]) && all[0].len() > 4 << 20, "{:?}", all[5].len());
    // One whose journal has rotted, and an empty one.
    world.drives[5].with(|files| files.get_mut("journal").unwrap()[3 << 20] ^= 1);
    let mut vault = open(&world);
    world::store(&mut vault, b"and another");
    assert!(journals(&world).iter().all(|journal| *journal == journals(&world)[0]));
    drop(vault);
    world.drives[5].delete_all();
    let mut vault = open(&world);
    vault.readopt(5, None).unwrap();
    world::store(&mut vault, b"and a third");
    assert!(journals(&world).iter().all(|journal| *journal == journals(&world)[0]));
    let again = open(&world);
    assert_eq!(again.status().objects, PACKS + 3);
}

#[test]
fn where_power_fails_while_it_is_copied_nothing_is_lost() {
    let mut world = world();
    let images = world.images();
    for at in 0.. {
        world.restore(&images);
        let mut vault = open(&world);
        world.power.lock().unwrap().left = at;
        let stored = vault.store(ObjectKind::Pack, Verified::hash(b"one more")).is_ok();
        drop(vault);
        let mut chance = world.chance.clone();
        world.drives.iter().for_each(|drive| drive.lose_power(Crash::Random, &mut chance));
        world.chance = chance;
        world.power.lock().unwrap().left = usize::MAX;
        let vault = open(&world);
        assert_eq!(vault.find(id(PACKS)).map(|object| object.id), Some(id(PACKS)), "at {at}");
        assert!(!stored || vault.contains(Verified::hash(b"one more").id()), "at {at}");
        drop(vault);
        if stored {
            assert!(at > 8, "each step is tried");
            break;
        }
    }
}
