//! Drives die one after the other, nobody replaces them, and room ends: what is left sinks evenly, and what most hangs on last.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use std::collections::BTreeSet;

use lavatube_base::sign::PairSigner;
use lavatube_base::{ObjectId, SessionId, Verified};
use lavatube_format::manifest::{Manifest, Preciousness, Retention};
use lavatube_vault::{Depth, Drive, ObjectKind, Vault};
use world::{Chance, Crash, World, read};

const DRIVES: usize = 14;
const OBJECTS: usize = 60;
const LEN: usize = 32_000;

/// A vault of 6 + 4 on fourteen drives, which are full to so many per cent, with a few short objects of another kind.
fn filled(percent: usize) -> (World, Vec<Vec<u8>>, Vec<ObjectId>) {
    let mut world = World::new(DRIVES);
    let objects: Vec<Vec<u8>> =
        (0..OBJECTS).map(|n| world.chance.bytes(if n % 10 == 0 { 2000 } else { LEN })).collect();
    let mut vault = world.create(6, 4);
    let mut precious = Vec::new();
    for (n, object) in objects.iter().enumerate() {
        let kind = if n % 10 == 0 { ObjectKind::Manifest } else { ObjectKind::Pack };
        vault.store(kind, Verified::hash(object)).unwrap();
        precious.extend((n % 10 == 0).then(|| Verified::hash(object).id()));
    }
    let held = |d: &world::MemoryDrive| d.with(|f| f.values().map(Vec::len).sum::<usize>());
    let all: usize = world.drives.iter().map(held).sum();
    world.drives.iter().for_each(|d| d.state.lock().unwrap().limit = Some(all / DRIVES * 102 / percent));
    (world, objects, precious)
}

fn open_without(world: &World, dead: usize) -> Vault {
    let drives: Vec<Option<Box<dyn Drive>>> =
        world.boxed().into_iter().enumerate().map(|(slot, drive)| drive.filter(|_| slot >= dead)).collect();
    world::open(drives, Some(world::signer())).unwrap().0
}

/// Repairs as the node does.
fn repair(vault: &mut Vault) {
    let order: Vec<ObjectId> = vault.by_need().into_iter().map(|o| o.id).collect();
    order.into_iter().for_each(|id| drop(vault.refill(id)));
}

fn spares(vault: &Vault) -> Vec<u8> {
    let of = |id| vault.examine(id, Depth::Bytes).unwrap();
    vault.objects().map(|o| of(o.id)).map(|h| if h.restorable { h.losses_survivable } else { u8::MAX }).collect()
}

#[test]
fn what_is_left_sinks_evenly_and_nothing_is_lost_while_there_is_any_way() {
    let (world, objects, _) = filled(70);
    let mut told = Vec::new();
    // Seven of fourteen die: what is left has room for hardly more than six shards and one of each object.
    for dead in 1..=7 {
        let mut vault = open_without(&world, dead);
        repair(&mut vault);
        let spares = spares(&vault);
        assert!(!spares.contains(&u8::MAX), "nothing is lost with {dead} dead: {spares:?}");
        told.push((dead, *spares.iter().min().unwrap(), *spares.iter().max().unwrap()));
        objects.iter().for_each(|o| assert_eq!(read(&vault, o), Ok(())));
    }
    eprintln!("dead drives, least and most losses that an object outlives: {told:?}");
    assert_eq!(told[2], (3, 4, 4), "while there is room all are whole: {told:?}");
    assert!(told[4].1 >= 2 && told[5].1 >= 1, "{told:?}");
}

#[test]
fn without_giving_up_anything_objects_come_to_nothing_sooner() {
    let told = [true, false].map(|thins| {
        let (world, ..) = filled(80);
        (1..=7).map(|dead| at_risk(&world, dead, thins)).collect::<Vec<_>>()
    });
    let [with, without] = &told;
    eprintln!(
        "four fifths full, 1 to 7 dead, (lost, next) of {OBJECTS}: {with:?}, and if nothing is given up: {without:?}"
    );
    assert!(with[5].0 == 0 && without[5].0 > 0, "{told:?}");
    assert!(with[6].0 < without[6].0, "{told:?}");
}

/// Repairs with so many drives dead, and counts the objects that are lost, and those that the next loss may take. Unless it `thins`, whatever would be given up stays.
fn at_risk(world: &World, dead: usize, thins: bool) -> (usize, usize) {
    let mut vault = open_without(world, dead);
    let order: Vec<ObjectId> = vault.by_need().into_iter().map(|o| o.id).collect();
    for id in order {
        let (images, files) = (world.images(), names(world));
        let _ = vault.refill(id);
        if !thins && !files.is_subset(&names(world)) {
            world.restore(&images);
            vault = open_without(world, dead);
        }
    }
    let spares = spares(&vault);
    let count = |what: u8| spares.iter().filter(|s| **s == what).count();
    (count(u8::MAX), count(0))
}

fn names(world: &World) -> BTreeSet<(usize, String)> {
    let of =
        |(slot, drive): (usize, &world::MemoryDrive)| drive.shard_files().into_iter().map(move |name| (slot, name));
    world.drives.iter().enumerate().flat_map(of).collect()
}

#[test]
fn what_least_hangs_on_goes_first() {
    let (world, _, precious) = filled(100);
    for dead in 1..4 {
        repair(&mut open_without(&world, dead));
    }
    let mut vault = open_without(&world, 4);
    repair(&mut vault);
    let of = |id: ObjectId| vault.examine(id, Depth::Bytes).unwrap().losses_survivable;
    let mean = |ids: &[ObjectId]| ids.iter().map(|id| f64::from(of(*id))).sum::<f64>() / ids.len() as f64;
    let packs: Vec<ObjectId> = vault.objects_of(ObjectKind::Pack).map(|o| o.id).collect();
    eprintln!("with four of fourteen full drives dead: {} and {}", mean(&precious), mean(&packs));
    assert!(mean(&precious) > mean(&packs) + 1.0 && mean(&packs) > 0.5);
}

/// A vault as in [`filled`], of three sessions of sixteen packs each, and those, the most precious first; or all are like most.
fn sessions(percent: usize, differ: bool) -> (World, Vec<Vec<ObjectId>>) {
    let mut world = World::new(DRIVES);
    let mut vault = world.create(6, 4);
    let depositor = PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap();
    vault.deposit_card(&world::card(&depositor, &world::authority())).unwrap();
    let mut all: Vec<(Preciousness, Vec<ObjectId>)> = Vec::new();
    for (n, precious) in (1..).zip([Preciousness::Low, Preciousness::High, Preciousness::Normal]) {
        let packs: Vec<Vec<u8>> = (0..16).map(|_| world.chance.bytes(LEN)).collect();
        packs.iter().for_each(|pack| world::keep(&mut vault, pack));
        let leaves = world::leaves(&packs.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let said = if differ { precious } else { Preciousness::Normal };
        let retention = Retention { precious: said, ..Retention::default() };
        // Of three ends of a chain each is as good as another here.
        let manifest = Manifest { session: SessionId([n; 16]), retention, ..world::manifest(&depositor, leaves) };
        vault.deposit_manifest(&world::signed(manifest, &depositor)).unwrap();
        all.push((precious, packs.iter().map(|pack| Verified::hash(pack).id()).collect()));
    }
    drop(vault);
    let held = |d: &world::MemoryDrive| d.with(|f| f.values().map(Vec::len).sum::<usize>());
    let sum: usize = world.drives.iter().map(held).sum();
    world.drives.iter().for_each(|d| d.state.lock().unwrap().limit = Some(sum / DRIVES * 102 / percent));
    all.sort_by_key(|(precious, _)| *precious);
    (world, all.into_iter().map(|(_, ids)| ids).collect())
}

#[test]
fn packs_of_precious_sessions_keep_their_redundancy_longest() {
    let outlive = |percent: usize, dead: usize, differ: bool| {
        let (world, sessions) = sessions(percent, differ);
        for dead in 1..=dead {
            repair(&mut open_without(&world, dead));
        }
        let vault = open_without(&world, dead);
        let of = |id: &ObjectId| vault.examine(*id, Depth::Bytes).unwrap();
        let mean = |ids: &Vec<ObjectId>| {
            ids.iter().map(|id| f64::from(of(id).losses_survivable)).sum::<f64>() / ids.len() as f64
        };
        let lost = sessions.iter().flatten().filter(|id| !of(id).restorable).count();
        // Repair serves those first that stand worst beside others.
        let order: Vec<ObjectId> = vault.by_need().into_iter().map(|object| object.id).collect();
        let step = |id: &ObjectId| sessions.iter().position(|ids| ids.contains(id)).map(|n| if differ { n } else { 0 });
        let spare = |id: &ObjectId| usize::from(of(id).losses_survivable);
        let standings: Vec<usize> = order.iter().filter_map(|id| Some(spare(id) + step(id)?)).collect();
        assert!(lost > 0 || standings.is_sorted(), "{standings:?}");
        (sessions.iter().map(mean).collect::<Vec<f64>>(), lost)
    };
    for (percent, dead) in [(80, 5), (80, 6), (90, 5)] {
        let [(means, lost), (alike, before)] = [true, false].map(|differ| outlive(percent, dead, differ));
        eprintln!(
            "{percent} % full, {dead} dead: the most precious first {means:?}, {lost} lost; all like most {alike:?}, {before} lost"
        );
        assert!(means[0] > means[1] && means[1] > means[2] && means[0] > alike[0], "{means:?} and {alike:?}");
    }
}

#[test]
fn wherever_thinning_is_cut_nothing_is_lost() {
    let (world, objects, _) = filled(70);
    let mut vault = open_without(&world, 4);
    repair(&mut vault);
    drop(vault);
    let images = world.images();
    let act = || {
        let mut vault = open_without(&world, 5);
        let order: Vec<ObjectId> = vault.by_need().into_iter().map(|o| o.id).collect();
        order.into_iter().take(12).for_each(|id| drop(vault.refill(id)));
    };
    world.power.lock().unwrap().used = 0;
    act();
    let count = world.power.lock().unwrap().used;
    for (crash, step) in [(Crash::None, 5), (Crash::All, 7), (Crash::Random, 3)] {
        for left in (0..=count).step_by(step) {
            world.restore(&images);
            world.power.lock().unwrap().left = left;
            act();
            let mut chance = Chance(left as u64 + 3);
            world.drives.iter().for_each(|d| d.lose_power(crash, &mut chance));
            world.power.lock().unwrap().left = usize::MAX;
            let vault = open_without(&world, 5);
            for object in objects.iter().step_by(3) {
                assert_eq!(read(&vault, object), Ok(()), "{crash:?} after {left} of {count}");
            }
        }
    }
}
