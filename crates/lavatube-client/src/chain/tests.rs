use super::*;
use crate::memory::{World, receipt_for};
use crate::spool::SpoolKind;

fn world(sessions: usize) -> World {
    let mut world = World::new();
    for _ in 0..sessions {
        write(&mut world);
    }
    world
}

fn write(world: &mut World) -> ObjectId {
    let mut w = world.session();
    w.chunk(b"x");
    w.finish();
    world.last.unwrap().1
}

fn survey(world: &World) -> Chain {
    Chain::survey(&world.state, &world.deposit, &world.far).unwrap()
}

/// Forgets the state.
fn forget(world: &World) {
    world.state.0.lock().unwrap().clear();
}

#[test]
fn a_new_chain_begins_at_one_and_a_known_one_goes_on() {
    assert_eq!(survey(&world(0)).next(), Link { sequence: 1, previous: None, joins: vec![], releases: 0 });
    let world = world(3);
    let last = world.last.unwrap().1;
    let chain = survey(&world);
    assert_eq!(chain.next(), Link { sequence: 4, previous: Some(last), joins: vec![], releases: 0 });
    assert_eq!(
        (chain.strange, chain.unread, chain.withdrawn),
        (0, 0, 0),
        "a state that knew nothing wonders at nothing"
    );
    world.fetches();
    assert_eq!(survey(&world).next().sequence, 4);
    assert_eq!(world.fetches(), 0, "what was fetched once is kept");
}

#[test]
fn an_older_state_learns_from_the_vault_and_says_so() {
    let mut world = world(2);
    survey(&world);
    let last = [write(&mut world), write(&mut world)][1];
    let chain = survey(&world);
    assert_eq!(chain.next(), Link { sequence: 5, previous: Some(last), joins: vec![], releases: 0 });
    assert_eq!(chain.strange, 2);
    assert_eq!(survey(&world).strange, 0, "once");
}

#[test]
fn a_copy_that_a_reader_made_is_this_depositors_all_the_same() {
    let world = world(2);
    world.reading(|_| {});
    world.fetches();
    assert_eq!(survey(&world).next().sequence, 3);
    assert_eq!(world.fetches(), 0);
}

#[test]
fn the_chain_of_another_deposit_key_is_another_chain() {
    let world = world(3);
    survey(&world);
    let root = lavatube_seal::Root::new(lavatube_format::key_file::Secret::new([7; 32]));
    let secret = |n| lavatube_format::key_file::Secret::new([n; 32]);
    let other = DepositKeys::new(&root, "default", "rover", secret(8), secret(9)).unwrap();
    let chain = Chain::survey(&world.state, &other, &world.far).unwrap();
    assert_eq!(chain, Chain::default());
    forget(&world);
    let chain = Chain::survey(&world.state, &other, &world.far).unwrap();
    assert_eq!(chain, Chain::default());
    assert_eq!(world.fetches(), 6);
    Chain::survey(&world.state, &other, &world.far).unwrap();
    assert_eq!(world.fetches(), 0, "whose a copy is, its name says");
}

//= FORMAT#F24 a number above all that cannot be read, and a join once it can
#[test]
fn what_cannot_be_read_now_is_neither_followed_nor_numbered_again_and_is_joined_later() {
    let world = world(3);
    let first = world.far.manifests.lock().unwrap().clone();
    forget(&world);
    world.far.away.lock().unwrap().extend(first.keys());
    let mut blind = survey(&world);
    assert_eq!(blind.unread, 3);
    assert_eq!(blind.next(), Link { sequence: 4, previous: None, joins: vec![], releases: 0 });
    // Made without sight, and gone on from.
    let last = world.last.unwrap().1;
    let bytes = world.far.manifests.lock().unwrap()[&last].clone();
    let mut manifest = SignedManifest::decode(&bytes).unwrap().manifest;
    (manifest.sequence, manifest.previous) = (4, None);
    let signed = world.deposit.sign_manifest(manifest).unwrap();
    let bytes = signed.encode();
    let twin = Verified::hash(&bytes).id();
    blind.keep(&world.state, &signed.manifest, Verified::hash(&bytes)).unwrap();
    world.far.manifests.lock().unwrap().insert(twin, bytes);
    assert_eq!(blind.next(), Link { sequence: 5, previous: Some(twin), joins: vec![], releases: 0 });
    world.far.away.lock().unwrap().clear();
    let Link { previous, joins, .. } = survey(&world).next();
    assert_eq!((previous, joins), (Some(twin), vec![last]));
}

#[test]
fn two_ends_are_joined_and_then_are_one() {
    let mut world = world(2);
    let start = world.last;
    let one = write(&mut world);
    world.last = start;
    // Another session with the same number: its own content makes it another manifest.
    let mut w = world.session();
    w.chunk(b"y");
    w.finish();
    let two = world.last.unwrap().1;
    let mut chain = survey(&world);
    let (low, high) = (one.min(two), one.max(two));
    assert_eq!(chain.next(), Link { sequence: 4, previous: Some(high), joins: vec![low], releases: 0 });
    let bytes = world.far.manifests.lock().unwrap()[&one].clone();
    let mut manifest = SignedManifest::decode(&bytes).unwrap().manifest;
    (manifest.sequence, manifest.previous, manifest.joins) = (4, Some(high), vec![low]);
    let signed = world.deposit.sign_manifest(manifest).unwrap();
    let bytes = signed.encode();
    let joint = Verified::hash(&bytes);
    chain.keep(&world.state, &signed.manifest, joint).unwrap();
    world.far.manifests.lock().unwrap().insert(joint.id(), bytes.clone());
    for chain in [chain, survey(&world)] {
        assert_eq!(chain.next(), Link { sequence: 5, previous: Some(joint.id()), joins: vec![], releases: 0 });
    }
}

#[test]
fn a_vault_that_was_put_back_is_found_out() {
    let world = world(3);
    survey(&world);
    let last = world.last.unwrap().1;
    world.far.manifests.lock().unwrap().remove(&last);
    assert_eq!(survey(&world).withdrawn, 0, "the vault never signed for it");
    let (signer, receipt) = receipt_for(SpoolKind::Manifest, last);
    ledger::note(&world.state, &signer, SpoolKind::Manifest, last, &receipt).unwrap();
    let chain = survey(&world);
    assert_eq!((chain.withdrawn, chain.next().previous), (1, Some(last)), "what was signed is followed all the same");
}

#[test]
fn what_is_not_signed_by_this_depositor_is_not_followed() {
    let world = world(1);
    let mut manifests = world.far.manifests.lock().unwrap();
    let (_, mut bytes) = manifests.pop_first().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    manifests.insert(Verified::hash(&bytes).id(), bytes);
    drop(manifests);
    assert_eq!(survey(&world), Chain::default());
}
