use super::*;
use crate::memory::World;

fn world_of_two() -> World {
    let mut world = World::new();
    for _ in 0..2 {
        let mut w = world.session();
        let layer = w.layer(&[], 1);
        w.snapshot(&["/"], vec![layer]);
        w.finish();
    }
    world
}

fn load<'k>(world: &'k World, cards: &Cards<'_>) -> Sessions<'k> {
    Sessions::load(&world.far, &world.state, cards, &world.read).unwrap()
}

#[test]
fn sessions_come_in_the_order_of_their_numbers_and_open() {
    let world = world_of_two();
    let sessions = load(&world, &|_| Some(world.card()));
    let numbers: Vec<u64> = sessions.all().iter().map(|v| v.manifest.sequence).collect();
    assert_eq!(numbers, [1, 2]);
    let (snapshots, closed) = sessions.snapshots();
    assert_eq!((snapshots.len(), closed.len()), (2, 0));
    assert!(snapshots.iter().all(|s| s.pack.is_some()));
}

#[test]
fn manifests_are_fetched_once_and_then_known_without_the_vault() {
    let world = world_of_two();
    load(&world, &|_| Some(world.card()));
    assert_eq!(world.fetches(), 2);
    assert_eq!(load(&world, &|_| Some(world.card())).all().len(), 2);
    assert_eq!(world.fetches(), 0);
    world.far.manifests.lock().unwrap().clear();
    assert_eq!(load(&world, &|_| Some(world.card())).all().len(), 0, "what the vault does not list does not count");
    let cards = |_: &DepositorId| Some(world.card());
    assert_eq!(Sessions::local(&world.state, &cards, &world.read).unwrap().all().len(), 2);
}

#[test]
fn a_manifest_without_a_card_or_with_another_signature_is_not_believed() {
    let world = world_of_two();
    let sessions = load(&world, &|_| None);
    assert_eq!((sessions.all().len(), sessions.refused().len()), (0, 2));
    let other = |_: &DepositorId| {
        let mut card = world.card();
        card.public.ed25519[0] ^= 1;
        Some(card)
    };
    assert_eq!(load(&world, &other).refused().len(), 2);
    let forged = {
        let mut manifests = world.far.manifests.lock().unwrap();
        let mut bytes = manifests.values().next().unwrap().clone();
        *bytes.last_mut().unwrap() ^= 1;
        let id = Verified::hash(&bytes).id();
        manifests.insert(id, bytes);
        id
    };
    let sessions = load(&world, &|_| Some(world.card()));
    assert_eq!(sessions.all().len(), 2);
    assert_eq!(sessions.refused().iter().map(|r| r.id).collect::<Vec<_>>(), [forged]);
}

#[test]
fn a_damaged_copy_is_fetched_again() {
    let world = world_of_two();
    load(&world, &|_| Some(world.card()));
    for file in world.state.0.lock().unwrap().values_mut() {
        file[20] ^= 1;
    }
    world.fetches();
    assert_eq!(load(&world, &|_| Some(world.card())).all().len(), 2);
    assert_eq!(world.fetches(), 2);
}

#[test]
fn a_pack_has_keys_only_when_a_manifest_names_exactly_it() {
    let world = world_of_two();
    let sessions = load(&world, &|_| Some(world.card()));
    let row = Sessions::rows(&sessions.all()[0]).next().unwrap();
    assert!(sessions.keys_of(&row).unwrap().is_some());
    assert!(sessions.keys_of(&PackRow { number: 9, ..row }).unwrap().is_none());
    assert!(sessions.keys_of(&PackRow { id: ObjectId([0; 32]), ..row }).unwrap().is_none());
    assert!(sessions.keys_of(&PackRow { session: SessionId([9; 16]), ..row }).unwrap().is_none());
}
