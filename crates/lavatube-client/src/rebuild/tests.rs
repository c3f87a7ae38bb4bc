use super::*;
use crate::memory::{World, noise};
use crate::vaulted::Sessions;

fn run(world: &World, full: bool) -> (Result<Rebuilt, RebuildError>, usize, u64) {
    let card = world.card();
    let sessions = Sessions::load(&world.far, &world.state, &|_| Some(card.clone()), &world.read).unwrap();
    let mut catalog = Catalog::open(&world.state).unwrap();
    let run = if full { rebuild } else { catch_up };
    let out = run(&world.state, &mut catalog, &sessions, &world.far, &world.ids, &Meter::default());
    (out, catalog.packs().len(), catalog.chunks())
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
    assert!(was_cut(&world.state).unwrap());
    world.far.away.lock().unwrap().clear();
    let (out, packs, chunks) = run(&world, false);
    assert_eq!((out.unwrap().packs, packs, chunks), (2, 2, 3001));
    assert!(!was_cut(&world.state).unwrap());
}
