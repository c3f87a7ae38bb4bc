use lavatube_format::catalog::{PAGE_LEN, PAGE_RECORDS, RunHeader};

use super::*;
use crate::memory::{World, noise};
use crate::vaulted::Sessions;

fn run(world: &World, full: bool) -> (Result<Rebuilt, RebuildError>, usize, u64) {
    let card = world.card();
    let sessions = Sessions::load(&world.far, &world.state, &|_| Some(card.clone()), &world.read).unwrap();
    let mut catalog = Catalog::open(&world.state).unwrap();
    let (far, ids, meter) = (&world.far, &world.ids, Meter::default());
    let out = match full {
        true => rebuild(&mut catalog, &sessions, far, ids, &meter),
        false => catch_up(&world.state, &mut catalog, &sessions, far, ids, &meter),
    };
    (out, catalog.packs().len(), catalog.chunks())
}

fn is_marked(world: &World) -> bool {
    Catalog::open(&world.state).unwrap().is_marked().unwrap()
}

fn two_sessions() -> (World, [ObjectId; 2]) {
    let mut world = World::new();
    let mut w = world.session();
    for i in 0..3000u64 {
        w.chunk(&i.to_le_bytes());
    }
    let first = w.cut_pack();
    w.finish();
    let mut w = world.session();
    w.chunk(&noise(1, 100));
    let second = w.cut_pack();
    w.finish();
    (world, [first, second])
}

#[test]
fn a_fresh_machine_learns_every_chunk() {
    let (world, _) = two_sessions();
    let (out, packs, chunks) = run(&world, true);
    let out = out.unwrap();
    assert_eq!((out.packs, out.chunks, out.lost.len()), (2, 3001, 0));
    assert_eq!((packs, chunks), (2, 3001));
    assert_eq!(run(&world, true).2, 3001, "and again the same");
}

#[test]
fn catching_up_reads_only_packs_that_are_new() {
    let (world, _) = two_sessions();
    run(&world, false).0.unwrap();
    world.fetches();
    assert_eq!(run(&world, false).0.unwrap().packs, 0);
    assert_eq!(world.fetches(), 0);
}

#[test]
fn a_lost_pack_is_reported_and_asked_for_again() {
    let (world, [first, _]) = two_sessions();
    let pack = world.far.packs.lock().unwrap().remove(&first).unwrap();
    let (out, packs, chunks) = run(&world, true);
    assert_eq!(out.unwrap().lost.iter().map(|l| l.0).collect::<Vec<_>>(), [first]);
    assert_eq!((packs, chunks), (1, 1));
    world.far.packs.lock().unwrap().insert(first, pack);
    assert_eq!(run(&world, false).2, 3001);
}

#[test]
fn after_a_cut_the_catalog_is_filled_from_nothing() {
    let (world, [_, second]) = two_sessions();
    world.far.away.lock().unwrap().insert(second);
    assert!(matches!(run(&world, true).0, Err(RebuildError::Away(_))));
    assert!(is_marked(&world));
    world.far.away.lock().unwrap().clear();
    let (out, packs, chunks) = run(&world, false);
    assert_eq!((out.unwrap().packs, packs, chunks), (2, 2, 3001));
    assert!(!is_marked(&world));
}

/// Flips a byte in each of the catalog's pages.
fn hurt_pages(world: &World) {
    let mut files = world.state.0.lock().unwrap();
    let runs: Vec<_> = files.iter_mut().filter(|(name, _)| name.ends_with(".run")).collect();
    assert!(!runs.is_empty());
    for (_, bytes) in runs {
        let records = RunHeader::decode(bytes.first_chunk().unwrap()).unwrap().records;
        for page in 1..=records.div_ceil(PAGE_RECORDS as u64) as usize {
            bytes[page * PAGE_LEN + 30] ^= 1;
        }
    }
}

/// All chunks of [`two_sessions`], read.
fn all_are_read(world: &World) {
    world.reading(|fetcher| {
        for i in 0..3000u64 {
            let id = world.ids.id(&i.to_le_bytes());
            assert_eq!(fetcher.chunk(&id, Some(8)).unwrap().content(), i.to_le_bytes());
        }
        let content = noise(1, 100);
        assert_eq!(fetcher.chunk(&world.ids.id(&content), Some(100)).unwrap().content(), content);
    });
}

#[test]
fn a_reader_mends_a_damaged_catalog_while_it_reads() {
    let (world, _) = two_sessions();
    run(&world, false).0.unwrap();
    hurt_pages(&world);
    all_are_read(&world);
    world.fetches();
    assert_eq!(run(&world, false).0.unwrap().packs, 0, "it stays mended");
    assert_eq!(world.fetches(), 0);
    assert!(!is_marked(&world));
    all_are_read(&world);
}

#[test]
fn a_pack_that_was_lost_while_mending_is_learnt_when_it_comes_back() {
    let (world, [first, _]) = two_sessions();
    run(&world, false).0.unwrap();
    hurt_pages(&world);
    let pack = world.far.packs.lock().unwrap().remove(&first).unwrap();
    let (lost, kept) = (world.ids.id(&7u64.to_le_bytes()), world.ids.id(&noise(1, 100)));
    world.reading(|fetcher| {
        assert_eq!(fetcher.chunk(&lost, None).unwrap_err().cause, FetchCause::Unknown);
        assert!(fetcher.chunk(&kept, None).is_ok());
    });
    assert!(is_marked(&world));
    world.far.packs.lock().unwrap().insert(first, pack);
    all_are_read(&world);
    assert!(!is_marked(&world));
}

#[test]
fn a_vault_that_is_away_while_mending_is_away_and_nothing_is_called_lost() {
    let (world, [_, second]) = two_sessions();
    run(&world, false).0.unwrap();
    hurt_pages(&world);
    world.far.away.lock().unwrap().insert(second);
    let id = world.ids.id(&7u64.to_le_bytes());
    for _ in 0..2 {
        world.reading(|fetcher| assert!(fetcher.chunk(&id, None).unwrap_err().cause.is_away()));
    }
    world.far.away.lock().unwrap().clear();
    all_are_read(&world);
}

#[test]
fn a_run_that_is_found_damaged_while_catching_up_makes_it_a_rebuild() {
    let (mut world, _) = two_sessions();
    run(&world, false).0.unwrap();
    hurt_pages(&world);
    // Enough new chunks for the runs to be merged, which reads the damaged one.
    let mut w = world.session();
    for i in 3000..6000u64 {
        w.chunk(&i.to_le_bytes());
    }
    w.cut_pack();
    w.finish();
    let (out, packs, chunks) = run(&world, false);
    assert_eq!((out.unwrap().packs, packs, chunks), (3, 3, 6001));
    assert!(!is_marked(&world));
}

#[test]
fn all_places_of_a_chunk_are_learnt_and_stay_known() {
    let (mut world, [first, _]) = two_sessions();
    let mut w = world.session();
    for i in 0..3000u64 {
        w.chunk(&i.to_le_bytes());
    }
    let third = w.cut_pack();
    w.finish();
    let known = |what: &str| {
        world.reading(|fetcher| {
            for i in 0..3000u64 {
                let id = world.ids.id(&i.to_le_bytes());
                assert!(fetcher.chunk(&id, Some(8)).is_ok());
                let catalog = fetcher.archive().catalog;
                let packs: Vec<_> =
                    catalog.places(&id).unwrap().iter().map(|p| catalog.pack(p.pack).unwrap().id).collect();
                assert_eq!(packs, [third, first], "{what}");
            }
        });
    };
    run(&world, true).0.unwrap();
    known("after a rebuild");
    hurt_pages(&world);
    all_are_read(&world);
    known("mended by a reader");
}
