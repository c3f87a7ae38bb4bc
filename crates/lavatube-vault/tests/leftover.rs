//! Shards that were moved stay where they were until two scrubs have found the new ones right, and serve until then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::time::WallTime;
use lavatube_base::{ObjectId, Verified};
use lavatube_format::scrub_record::ScrubRecord;
use lavatube_vault::scrub::{Judged, Scrub, Step};
use lavatube_vault::{Depth, Drive, Vault};
use world::{Chance, Crash, World, read};

const NOW: WallTime = WallTime { s: 1_800_000_000, ns: 0 };

/// A vault on eight drives whose objects were moved off the first one while that was away. It is back, as it was.
fn moved() -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(8);
    let objects: Vec<Vec<u8>> = (1..12).map(|n| world.chance.bytes(n * 5000)).collect();
    let mut vault = world.create(4, 2);
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    drop(vault);
    let mut drives: Vec<Option<Box<dyn Drive>>> = world.boxed();
    drives[0] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    objects.iter().for_each(|o| assert!(vault.mend(id_of(o)).unwrap().left.is_empty()));
    (world, objects)
}

fn id_of(object: &[u8]) -> ObjectId {
    Verified::hash(object).id()
}

/// An object that had a shard on the first drive.
fn on_first<'o>(world: &World, objects: &'o [Vec<u8>]) -> &'o Vec<u8> {
    let names = world.drives[0].shard_files();
    objects.iter().rev().find(|o| names.iter().any(|n| n.contains(&id_of(o).to_string()))).unwrap()
}

fn scrub(vault: &mut Vault, before: Option<&ScrubRecord>) -> (ScrubRecord, Judged) {
    let mut scrub = Scrub::begin(NOW);
    while let Step::Looked(_) = scrub.handle_step(vault, NOW) {}
    let judged = scrub.finish(vault, before).unwrap();
    (scrub.record().clone(), judged)
}

#[test]
fn what_was_moved_goes_after_two_scrubs_and_not_before() {
    let (world, objects) = moved();
    let old = world.drives[0].shard_files();
    assert!(!old.is_empty());
    let (mut vault, _) = world.open();
    assert_eq!(vault.left_over(), 0, "its drive is in quarantine yet");
    let (first, judged) = scrub(&mut vault, None);
    assert_eq!((judged.admitted, judged.cleared, world.drives[0].shard_files().len()), (vec![0], 0, old.len()));
    assert_eq!(vault.left_over(), old.len() as u64);
    let (second, judged) = scrub(&mut vault, Some(&first));
    assert_eq!((judged.cleared, world.drives[0].shard_files()), (old.len() as u64, vec![]));
    assert_eq!(scrub(&mut vault, Some(&second)).1.cleared, 0);
    drop(vault);
    let (vault, report) = world.open();
    assert_eq!((vault.left_over(), report.scanned), (0, false), "the journal knows it");
    objects.iter().for_each(|o| assert!(vault.examine(id_of(o), Depth::Bytes).unwrap().is_whole()));
}

#[test]
fn what_is_not_whole_keeps_what_it_had_before() {
    let (world, objects) = moved();
    let (mut vault, _) = world.open();
    let (first, _) = scrub(&mut vault, None);
    // The drive of a shard of it is taken away: now what is left over may be all that makes up for that.
    let hex = id_of(on_first(&world, &objects)).to_string();
    let is_on = |drive: usize| world.drives[drive].shard_files().iter().any(|n| n.contains(&hex));
    let other = (1..8).find(|d| is_on(*d)).unwrap();
    drop(vault);
    let mut drives = world.boxed();
    drives[other] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    scrub(&mut vault, Some(&first));
    assert!(is_on(0));
}

#[test]
fn a_restore_takes_what_was_moved_from_where_it_was_when_too_much_is_lost() {
    let (world, objects) = moved();
    let object = on_first(&world, &objects);
    let hex = id_of(object).to_string();
    let old: Vec<String> = world.drives[0].shard_files().into_iter().filter(|n| n.contains(&hex)).collect();
    assert_eq!(old.len(), 1);
    // The new one and two more are lost: more than parity covers.
    let mut lost = 0;
    for drive in &world.drives[1..] {
        for name in drive.shard_files().into_iter().filter(|n| n.contains(&hex)) {
            if name == old[0] || lost < 2 {
                lost += usize::from(name != old[0]);
                drive.with(|f| f.remove(&name));
            }
        }
    }
    assert_eq!(lost, 2);
    let (mut vault, _) = world.open();
    assert_eq!(read(&vault, object), Ok(()));
    world::admit(&mut vault);
    assert!(vault.mend(id_of(object)).unwrap().left.is_empty());
    assert!(vault.examine(id_of(object), Depth::Bytes).unwrap().is_whole());
    // Without it, it would have been lost.
    let (world, objects) = moved();
    let object = on_first(&world, &objects);
    world.drives[0].with(|f| f.retain(|name, _| !name.starts_with("shards/")));
    let hex = id_of(object).to_string();
    let holders: Vec<usize> =
        (1..8).filter(|d| world.drives[*d].shard_files().iter().any(|n| n.contains(&hex))).take(3).collect();
    holders.iter().for_each(|d| world.drives[*d].with(|f| f.retain(|name, _| !name.contains(&hex))));
    assert!(read(&world.open().0, object).is_err());
}

#[test]
fn a_full_drive_is_relieved_of_what_is_only_kept_to_be_safe() {
    let (world, _) = moved();
    let (mut vault, _) = world.open();
    scrub(&mut vault, None);
    let before = vault.left_over();
    assert!(before > 0);
    world.drives[0].state.lock().unwrap().full = true;
    let mut chance = Chance(5);
    for n in 1..12 {
        world::store(&mut vault, &chance.bytes(n * 100));
    }
    assert!(vault.left_over() < before);
}

#[test]
fn what_could_lose_least_and_what_most_hangs_on_is_repaired_first() {
    let (world, objects) = moved();
    let (mut vault, _) = world.open();
    world::admit(&mut vault);
    // Of two objects shards are lost with a drive that has none of the others.
    let tags = Chance(9).bytes(3000);
    vault.store(lavatube_vault::ObjectKind::Tags, Verified::hash(&tags)).unwrap();
    let order: Vec<ObjectId> = vault.by_need().into_iter().map(|o| o.id).collect();
    assert_eq!(order.last(), Some(&id_of(&tags)), "all are whole, and nothing is read with tags");
    drop(vault);
    let on =
        |drive: usize, o: &[u8]| world.drives[drive].shard_files().iter().any(|n| n.contains(&id_of(o).to_string()));
    let is_fit = |d: &usize| on(*d, &tags) && objects.iter().any(|o| !on(*d, o)) && objects.iter().any(|o| on(*d, o));
    let gone = (1..8).find(is_fit).unwrap();
    let mut drives = world.boxed();
    drives[gone] = None;
    let (vault, _) = world::open(drives, Some(world::signer())).unwrap();
    let order: Vec<ObjectId> = vault.by_need().into_iter().map(|o| o.id).collect();
    let at = |o: &[u8]| order.iter().position(|id| *id == id_of(o)).unwrap();
    let (hurt, whole): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) = objects.iter().partition(|o| on(gone, o));
    assert!(!hurt.is_empty() && !whole.is_empty());
    assert!(hurt.iter().all(|h| at(h) < at(&tags)) && whole.iter().all(|w| at(&tags) < at(w)));
}

#[test]
fn wherever_clearing_is_cut_every_object_stays_whole() {
    let (world, objects) = moved();
    let (mut vault, _) = world.open();
    let (first, _) = scrub(&mut vault, None);
    drop(vault);
    let images = world.images();
    let act = || {
        let (mut vault, _) = world.open();
        let mut scrub = Scrub::begin(NOW);
        while let Step::Looked(_) = scrub.handle_step(&mut vault, NOW) {}
        scrub.finish(&mut vault, Some(&first)).map(|judged| judged.cleared)
    };
    world.power.lock().unwrap().used = 0;
    assert!(act().unwrap() > 0);
    let count = world.power.lock().unwrap().used;
    for crash in [Crash::None, Crash::All, Crash::Random] {
        for left in 0..=count {
            world.restore(&images);
            world.power.lock().unwrap().left = left;
            let _ = act();
            let mut chance = Chance(left as u64 + 3);
            world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
            world.power.lock().unwrap().left = usize::MAX;
            let (vault, _) = world.open();
            let what = format!("{crash:?} after {left} of {count}");
            objects.iter().for_each(|o| assert!(vault.examine(id_of(o), Depth::Bytes).unwrap().is_whole(), "{what}"));
            drop(vault);
            let again = act();
            assert!(
                again.is_ok(),
                "{what}: {again:?} {:?}",
                world
                    .open()
                    .0
                    .status()
                    .drives
                    .iter()
                    .map(|d| (&d.state, d.distrust))
                    .map(|s| format!("{s:?}"))
                    .collect::<Vec<_>>()
            );
            let (vault, _) = world.open();
            assert_eq!((vault.left_over(), world.drives[0].shard_files().len()), (0, 0), "{what}");
            assert!(vault.status().drives.iter().all(|d| d.is_well()), "{what}");
        }
    }
}

#[test]
fn what_is_damaged_is_written_to_another_drive_and_stays_until_two_scrubs_have_found_that_right() {
    //= FORMAT#F72
    let mut world = World::new(8);
    let object = world.chance.bytes(400_000);
    let mut vault = world.create(4, 2);
    world::keep(&mut vault, &object);
    let shards = |world: &World| -> Vec<(usize, String)> {
        let of = |slot: usize| world.drives[slot].shard_files().into_iter().map(move |name| (slot, name));
        (0..8).flat_map(of).filter(|(_, name)| name.contains(&id_of(&object).to_string())).collect()
    };
    let (slot, name) = shards(&world)[0].clone();
    world.drives[slot].with(|f| f.get_mut(&name).unwrap()[5000] ^= 1);
    let damaged = world.drives[slot].with(|f| f[&name].clone());
    let (first, _) = scrub(&mut vault, None);
    assert_eq!((first.mended, first.left, vault.left_over()), (1, 0, 1));
    let now = shards(&world);
    assert!(now.len() == 7 && world.drives[slot].with(|f| f[&name] == damaged));
    assert!(vault.examine(id_of(&object), Depth::Bytes).unwrap().is_whole());
    // Until then its good blocks serve: the new one and two others are gone.
    let images = world.images();
    let new = now.iter().find(|(s, n)| *s != slot && *n == name).unwrap();
    let gone: Vec<_> = now.iter().filter(|(_, n)| *n != name).take(2).chain([new]).collect();
    gone.iter().for_each(|(slot, name)| world.drives[*slot].with(|f| drop(f.remove(name))));
    let (hurt, _) = world.open();
    let mut out = Vec::new();
    hurt.read(id_of(&object), 50_000..60_000, &mut out).unwrap();
    assert_eq!(out, object[50_000..60_000]);
    world.restore(&images);
    let (mut vault, _) = world.open();
    let (second, _) = scrub(&mut vault, Some(&first));
    assert_eq!(vault.left_over(), 1, "the scrub that mended it does not count");
    scrub(&mut vault, Some(&second));
    assert_eq!((vault.left_over(), shards(&world).len()), (0, 6));
    assert!(vault.examine(id_of(&object), Depth::Bytes).unwrap().is_whole());
    // Where no other drive can take it, it is mended in its place.
    let mut world = World::new(6);
    let object = world.chance.bytes(50_000);
    let mut vault = world.create(4, 2);
    world::keep(&mut vault, &object);
    let name = world.drives[2].shard_files()[0].clone();
    let whole = world.images();
    world.drives[2].with(|f| f.get_mut(&name).unwrap()[5000] ^= 1);
    let (record, _) = scrub(&mut vault, None);
    assert_eq!((record.mended, record.left, vault.left_over()), (1, 0, 0));
    assert_eq!(world.images()[2][&name], whole[2][&name]);
}
