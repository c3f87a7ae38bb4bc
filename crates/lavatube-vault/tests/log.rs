//! The log: its order through every loss of journals and drives, and who may say what it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::digest::merkle_root;
use lavatube_base::merkle::verify_consistency;
use lavatube_base::{ObjectId, Verified};
use lavatube_format::checkpoint::{Checkpoint, SignedCheckpoint};
use lavatube_format::log::Question;
use lavatube_format::shard::ShardHeader;
use lavatube_vault::{LogError, ObjectKind, StoreError, Vault};
use world::{Crash, MemoryDrive, World, signer};

fn asked(known: u64) -> Question {
    Question { nonce: [9; 16], known, objects: Vec::new() }
}

/// The signed checkpoint, verified.
fn checkpoint(vault: &mut Vault) -> Checkpoint {
    let answer = vault.answer_log(&asked(0)).unwrap();
    let note = SignedCheckpoint::decode(&answer.note).unwrap();
    note.verify(&vault.vault_key()).unwrap();
    assert_eq!(note.checkpoint.nonce, Some([9; 16]));
    assert_eq!(note.checkpoint.root, merkle_root(vault.log()), "what is told is what is in it");
    note.checkpoint
}

fn take(vault: &mut Vault, kind: ObjectKind, bytes: &[u8]) -> ObjectId {
    let object = Verified::hash(bytes);
    vault.store(kind, object).unwrap();
    object.id()
}

/// A vault with manifests, cards and packs among them; the ids that are logged, in order.
fn filled(world: &mut World) -> (Vault, Vec<ObjectId>) {
    let mut vault = world.create(4, 2);
    let mut ids = Vec::new();
    for n in 0..12 {
        let bytes = world.chance.bytes(500 + 40 * n);
        let kind = [ObjectKind::Manifest, ObjectKind::Pack, ObjectKind::DepositorCard][n % 3];
        let id = take(&mut vault, kind, &bytes);
        ids.extend(Some(id).filter(|_| kind.is_logged()));
    }
    (vault, ids)
}

fn order(vault: &Vault) -> Vec<ObjectId> {
    vault.log().iter().map(lavatube_vault::Leaf::id).collect()
}

fn lose_journals(world: &World) {
    world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal"))));
}

/// Takes the place out of all shard headers, as an older program wrote them.
fn forget_places(drive: &MemoryDrive) {
    drive.with(|files| {
        for (_, bytes) in files.iter_mut().filter(|(name, _)| name.starts_with("shards/")) {
            let len = ShardHeader::claimed_len(bytes).unwrap();
            let header = ShardHeader::decode(&bytes[..len]).unwrap();
            let header = ShardHeader { place: None, ..header }.encode();
            let end = bytes.len() - len;
            bytes[..len].copy_from_slice(&header);
            bytes[end..].copy_from_slice(&header);
        }
    });
}

#[test]
fn the_log_is_what_came_in_in_order_and_the_same_when_it_comes_again() {
    let mut world = World::new(6);
    let (mut vault, ids) = filled(&mut world);
    assert_eq!(order(&vault), ids);
    let before = checkpoint(&mut vault);
    assert_eq!((before.size, before.vault), (8, vault.id()));
    for id in &ids {
        let (mut bytes, found) = (Vec::new(), vault.find(*id).unwrap());
        vault.read(*id, 0..found.len, &mut bytes).unwrap();
        take(&mut vault, found.kind, &bytes);
    }
    assert_eq!(checkpoint(&mut vault), before);
    let new = take(&mut vault, ObjectKind::Manifest, b"one more");
    let answer = vault.answer_log(&Question { objects: vec![new, ids[3], ObjectId([1; 32])], ..asked(8) }).unwrap();
    let after = SignedCheckpoint::decode(&answer.note).unwrap().checkpoint;
    assert!(verify_consistency(8, &before.root, 9, &after.root, &answer.consistency.unwrap()));
    let places: Vec<Option<u64>> = answer.objects.iter().map(|o| o.place.as_ref().map(|(place, _)| *place)).collect();
    assert_eq!(places, [Some(8), Some(3), None]);
    assert_eq!(vault.answer_log(&asked(10)).unwrap().consistency, None, "there is no proof of what is not there");
}

#[test]
fn without_any_journal_the_shards_tell_the_same_log() {
    let mut world = World::new(6);
    let (mut vault, ids) = filled(&mut world);
    let before = checkpoint(&mut vault);
    drop(vault);
    lose_journals(&world);
    world.drives[4].delete_all();
    let (mut vault, report) = world.open();
    assert!(report.scanned);
    vault.readopt(4, None).unwrap();
    assert_eq!(order(&vault), ids);
    assert_eq!(checkpoint(&mut vault), before);
    // It goes on from there, and so does a scan.
    let new = take(&mut vault, ObjectKind::Manifest, b"one more");
    drop(vault);
    lose_journals(&world);
    let (vault, _) = world.open();
    assert_eq!(order(&vault), [&ids[..], &[new]].concat());
}

#[test]
fn what_an_older_program_stored_is_logged_by_its_journal_and_can_be_given_its_place() {
    let mut world = World::new(6);
    let (mut vault, ids) = filled(&mut world);
    let before = checkpoint(&mut vault);
    world.drives.iter().for_each(forget_places);
    let (mut vault, report) = world.open();
    assert!(!report.scanned);
    assert_eq!(checkpoint(&mut vault), before);
    assert!(ids.iter().all(|id| vault.has_shards_without_place(*id)));
    for id in vault.objects().map(|o| o.id).collect::<Vec<_>>() {
        let shards = vault.mark_place(id).unwrap();
        assert_eq!(shards, if ids.contains(&id) { 6 } else { 0 });
        assert_eq!(vault.mark_place(id), Ok(0), "once");
        assert!(!vault.has_shards_without_place(id));
    }
    drop(vault);
    lose_journals(&world);
    let (mut vault, _) = world.open();
    assert_eq!(checkpoint(&mut vault), before);
}

#[test]
fn what_an_attempt_left_that_did_not_end_takes_nobodys_place() {
    let mut world = World::new(6);
    let (mut vault, ids) = filled(&mut world);
    // All shards are there, and the power fails before the journal has a word of it.
    let left = world.chance.bytes(700);
    let need = {
        let mut trial = World::new(6);
        let (mut other, _) = filled(&mut trial);
        let before = trial.power.lock().unwrap().used;
        take(&mut other, ObjectKind::Manifest, &left);
        trial.power.lock().unwrap().used - before
    };
    // Six appends and six syncs of the journal come last.
    world.power.lock().unwrap().left = need - 12;
    assert!(vault.store(ObjectKind::Manifest, Verified::hash(&left)).is_err());
    drop(vault);
    let mut chance = world.chance.clone();
    world.drives.iter().for_each(|drive| drive.lose_power(Crash::None, &mut chance));
    world.power.lock().unwrap().left = usize::MAX;
    let (mut vault, _) = world.open();
    assert_eq!(order(&vault), ids, "it was not stored");
    let next = take(&mut vault, ObjectKind::Manifest, b"the next one");
    let last = take(&mut vault, ObjectKind::Manifest, b"and one after it");
    let before = checkpoint(&mut vault);
    drop(vault);
    // The leftover and the next claim one place. Whichever has it, nothing before it has moved, and nothing is gone.
    lose_journals(&world);
    let (vault, _) = world.open();
    let now = order(&vault);
    assert_eq!((&now[..8], now.len() as u64), (&ids[..], before.size + 1));
    assert!([next, last].iter().all(|id| now.contains(id)));
}

#[test]
fn a_log_is_signed_only_when_enough_drives_have_it_and_looked_at_only_when_nothing_can_be_missing() {
    let mut world = World::new(6);
    let (vault, ids) = filled(&mut world);
    drop(vault);
    let open = |present: usize, writes: bool| {
        let mut drives = world.boxed();
        drives[present..].iter_mut().for_each(|drive| *drive = None);
        world::open(drives, Some(signer()).filter(|_| writes)).unwrap().0
    };
    assert!(open(5, true).answer_log(&asked(0)).is_ok());
    let few = open(4, true).answer_log(&asked(0));
    assert!(matches!(few, Err(LogError::Store(StoreError::Shortfall { need: 5, have: 4 }))), "{few:?}");
    assert_eq!(open(5, false).answer_log(&asked(0)), Err(LogError::Store(StoreError::ReadOnly)));
    // Any two drives have one with every record that five have; one alone may be the sixth.
    assert_eq!(open(2, false).look_at_log(0, &[]).unwrap().checkpoint.size, ids.len() as u64);
    assert_eq!(open(1, false).look_at_log(0, &[]), Err(LogError::Shortfall { need: 2, have: 1 }));
}

#[test]
fn a_drive_that_was_away_shows_no_older_log() {
    let mut world = World::new(6);
    let (vault, _) = filled(&mut world);
    drop(vault);
    let mut drives = world.boxed();
    drives[5] = None;
    let (mut vault, _) = world::open(drives, Some(signer())).unwrap();
    take(&mut vault, ObjectKind::Manifest, b"while one was away");
    drop(vault);
    let mut drives = world.boxed();
    drives[..5].iter_mut().for_each(|drive| *drive = None);
    let (vault, _) = world::open(drives, None).unwrap();
    assert_eq!(vault.look_at_log(0, &[]), Err(LogError::Shortfall { need: 2, have: 1 }));
    let (vault, _) = world.open();
    assert_eq!(vault.look_at_log(0, &[]).unwrap().checkpoint.size, 9);
}

#[test]
fn drives_that_were_retired_are_not_needed_to_tell_what_the_log_is_and_do_not_tell_it() {
    let mut world = World::new(12);
    let mut vault = world.create(4, 2);
    (6..12).for_each(|slot| vault.retire(slot).unwrap());
    let all = world.drives.clone();
    world.drives.truncate(6);
    let (vault, _) = world.open();
    assert_eq!(vault.look_at_log(0, &[]).unwrap().checkpoint.size, 0);
    // Whatever those have, it is of a time when they were in use.
    world.drives = all[6..].to_vec();
    let (vault, _) = world.open();
    assert_eq!(vault.look_at_log(0, &[]), Err(LogError::Shortfall { need: 2, have: 0 }));
}
