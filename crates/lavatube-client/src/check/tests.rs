use super::*;
use crate::memory::{World, dir, noise};

fn snapshots(world: &mut World) -> (ChunkId, ChunkId, ObjectId) {
    let mut w = world.session();
    let mut entries = vec![dir("d"), w.file("d/a", &[b"one"])];
    w.cut_pack();
    entries.push(w.file("d/b", &[&noise(1, 9000), &noise(2, 9000)]));
    entries.push(w.file("d/c", &[b"three"]));
    let pack = w.cut_pack();
    let first = w.tree(&["/d"], &entries);
    w.finish();
    let mut w = world.session();
    entries.remove(2);
    let second = w.tree(&["/d"], &entries);
    w.finish();
    (first, second, pack)
}

fn check(world: &World) -> (Structure, Damage) {
    world.reading(|fetcher| {
        let found = structure(fetcher, &Meter::default()).unwrap();
        let damage = damage(fetcher, &found.bad).unwrap();
        (found, damage)
    })
}

fn touched(damage: &Damage) -> Vec<(ChunkId, String)> {
    damage.files.iter().map(|f| (f.snapshot, String::from_utf8_lossy(&f.path).into_owned())).collect()
}

#[test]
fn a_whole_vault_is_sound() {
    let mut world = World::new();
    snapshots(&mut world);
    let (found, damage) = check(&world);
    assert!(found.is_sound(), "{found:?}");
    assert!(damage.is_none());
    assert_eq!((found.manifests, found.packs, found.snapshots), (2, 6, 2));
}

#[test]
fn a_missing_pack_touches_exactly_its_files_in_every_snapshot() {
    let mut world = World::new();
    let (first, second, pack) = snapshots(&mut world);
    world.reading(|_| {});
    world.far.packs.lock().unwrap().remove(&pack);
    let (found, damage) = check(&world);
    assert_eq!(found.bad.packs.keys().collect::<Vec<_>>(), [&pack]);
    let path = |p: &str| p.to_owned();
    assert_eq!(touched(&damage), [(first, path("d/b")), (first, path("d/c")), (second, path("d/c"))]);
}

#[test]
fn a_gap_and_a_fork_in_the_chain_are_found() {
    let mut world = World::new();
    for _ in 0..4 {
        let mut w = world.session();
        w.chunk(b"x");
        w.finish();
    }
    let depositor = world.deposit.depositor();
    let ids: Vec<ObjectId> = world.reading(|f| f.archive().sessions.all().iter().map(|v| v.id).collect());
    let whole = world.far.manifests.lock().unwrap().clone();
    world.far.manifests.lock().unwrap().remove(&ids[1]);
    world.far.manifests.lock().unwrap().remove(&ids[2]);
    let faults = check(&world).0.chain;
    assert_eq!(faults, [ChainFault::Missing { depositor, sequence: 4, id: ids[2] }]);
    assert!(faults[0].is_loss());

    *world.far.manifests.lock().unwrap() = whole;
    let mut twin = World::new();
    let mut w = twin.session();
    w.chunk(b"another first session");
    w.finish();
    let (id, bytes) = twin.far.manifests.lock().unwrap().pop_first().unwrap();
    world.far.manifests.lock().unwrap().insert(id, bytes);
    let faults = check(&world).0.chain;
    assert_eq!(faults, [ChainFault::Forked { depositor, ends: vec![(1, id), (4, ids[3])] }]);
    assert!(!faults[0].is_loss());
}

#[test]
fn what_was_kept_here_tells_a_manifest_that_never_arrived_from_one_that_was_withdrawn() {
    use crate::memory::receipt_for;
    use crate::spool::SpoolKind;

    let mut world = World::new();
    for _ in 0..3 {
        let mut w = world.session();
        w.chunk(b"x");
        w.finish();
    }
    let depositor = world.deposit.depositor();
    crate::chain::Chain::survey(&world.state, &world.deposit, &world.far).unwrap();
    let ids: Vec<ObjectId> = world.reading(|f| f.archive().sessions.all().iter().map(|v| v.id).collect());
    world.far.manifests.lock().unwrap().remove(&ids[1]);
    assert_eq!(check(&world).0.chain, [ChainFault::Unsent { depositor, sequence: 2, id: ids[1] }]);
    for (n, id) in [(2, ids[1]), (3, ids[2])] {
        world.far.manifests.lock().unwrap().remove(&id);
        let (signer, receipt) = receipt_for(SpoolKind::Manifest, id);
        crate::ledger::note(&world.state, &signer, SpoolKind::Manifest, id, &receipt).unwrap();
        let faults = check(&world).0.chain;
        assert!(faults.contains(&ChainFault::Withdrawn { depositor, sequence: n, id }), "{faults:?}");
        assert!(faults.iter().all(ChainFault::is_loss), "{faults:?}");
    }
}

#[test]
fn a_reference_that_leads_nowhere_is_found_with_its_file() {
    let mut world = World::new();
    let mut w = world.session();
    let mut lost = w.file("f", &[b"there"]);
    if let Kind::File(content) = &mut lost.kind {
        content.refs[0].id = ChunkId([9; 24]);
    }
    let good = w.file("g", &[b"there too"]);
    let id = w.tree(&["/"], &[lost, good]);
    w.finish();
    let (found, damage) = check(&world);
    assert_eq!(found.bad.chunks.keys().collect::<Vec<_>>(), [&ChunkId([9; 24])]);
    assert_eq!(touched(&damage), [(id, "f".to_owned())]);
}

#[test]
fn reading_all_data_finds_what_the_structure_does_not_show() {
    let mut world = World::new();
    let mut w = world.session();
    let right = w.file("right", &[&noise(1, 40_000)]);
    w.cut_frame();
    let wrong = w.chunk_as(ChunkId([9; 24]), b"not what the id says");
    let wrong = crate::memory::file_of("wrong", vec![wrong], b"not what the id says");
    let id = w.tree(&["/"], &[right, wrong]);
    w.finish();
    assert!(check(&world).0.is_sound());
    world.reading(|fetcher| {
        let archive = fetcher.archive();
        let meter = Meter::default();
        let mut bad = Bad::default();
        for row in packs_to_read(archive.sessions, Turn::All) {
            bad.absorb(read_pack(&archive, row, &meter).unwrap());
        }
        assert_eq!(bad.chunks.keys().collect::<Vec<_>>(), [&ChunkId([9; 24])]);
        assert_eq!(touched(&damage(fetcher, &bad).unwrap()), [(id, "wrong".to_owned())]);
    });
}

#[test]
fn rot_in_one_piece_spoils_the_frames_that_touch_it_and_no_others() {
    let mut world = World::new();
    let mut w = world.session();
    let entries: Vec<_> =
        (0..10u64).map(|i| (w.file(&format!("f{i}"), &[&noise(i, 20_000)]), w.cut_frame()).0).collect();
    let pack = w.cut_pack();
    let id = w.tree(&["/"], &entries);
    w.finish();
    world.reading(|_| {});
    world.far.packs.lock().unwrap().get_mut(&pack).unwrap()[96 + 16_400 * 6] ^= 1;
    world.reading(|fetcher| {
        let archive = fetcher.archive();
        let row = *archive.catalog.packs().iter().find(|r| r.id == pack).unwrap();
        let read = read_pack(&archive, row, &Meter::default()).unwrap();
        assert_eq!((read.good, read.bad.len(), read.is_sound()), (8, 2, false));
        let mut bad = Bad::default();
        bad.absorb(read);
        let files = touched(&damage(fetcher, &bad).unwrap());
        assert_eq!(files, [(id, "f4".to_owned()), (id, "f5".to_owned())]);
    });
}

#[test]
fn a_pack_whose_header_is_gone_spoils_all_that_is_in_it() {
    let mut world = World::new();
    let (first, second, pack) = snapshots(&mut world);
    world.reading(|_| {});
    world.far.packs.lock().unwrap().get_mut(&pack).unwrap()[0] ^= 1;
    world.reading(|fetcher| {
        let archive = fetcher.archive();
        let row = *archive.catalog.packs().iter().find(|r| r.id == pack).unwrap();
        let mut bad = Bad::default();
        bad.absorb(read_pack(&archive, row, &Meter::default()).unwrap());
        assert_eq!(bad.packs.len(), 1);
        let files = touched(&damage(fetcher, &bad).unwrap());
        assert_eq!(files, [(first, "d/b".into()), (first, "d/c".into()), (second, "d/c".into())]);
    });
}

#[test]
fn a_lost_index_touches_only_what_the_catalog_does_not_know() {
    let mut world = World::new();
    let mut w = world.session();
    let mut entries: Vec<_> =
        (0..10u64).map(|i| (w.file(&format!("f{i}"), &[&noise(i, 20_000)]), w.cut_frame()).0).collect();
    let pack = w.cut_pack();
    entries.push(w.file("g", &[b"in another pack"]));
    let id = w.tree(&["/"], &entries);
    w.finish();
    world.reading(|_| {});
    // The last piece has the footer; the piece in the middle has parts of two files.
    let damage_at = |at: usize| world.far.packs.lock().unwrap().get_mut(&pack).unwrap()[at] ^= 1;
    let last = world.far.packs.lock().unwrap()[&pack].len() - 1;
    damage_at(last);
    damage_at(96 + 16_400 * 6);
    world.reading(|fetcher| {
        let archive = fetcher.archive();
        let row = *archive.catalog.packs().iter().find(|r| r.id == pack).unwrap();
        let mut bad = Bad::default();
        bad.absorb(read_pack(&archive, row, &Meter::default()).unwrap());
        assert_eq!(bad.packs.len(), 1);
        let files = touched(&damage(fetcher, &bad).unwrap());
        assert_eq!(files, [(id, "f4".to_owned()), (id, "f5".to_owned())]);
    });
}

#[test]
fn a_turn_reads_its_packs_only() {
    let mut world = World::new();
    let mut w = world.session();
    for i in 0..50 {
        w.chunk(&noise(i, 10));
        w.cut_pack();
    }
    w.finish();
    world.reading(|fetcher| {
        let sessions = fetcher.archive().sessions;
        let mut all = packs_to_read(sessions, Turn::All);
        all.sort_by_key(|row| row.id);
        let part = Turn::Part { after: all[9].id, upto: all[19].id };
        let mut read = packs_to_read(sessions, part);
        read.sort_by_key(|row| row.id);
        assert_eq!((all.len(), &read[..]), (50, &all[10..20]));
    });
}

#[test]
fn what_another_pack_has_is_not_lost_and_the_damaged_pack_is_told() {
    let mut world = World::new();
    let content: Vec<Vec<u8>> = (0..10).map(|i| noise(i, 20_000)).collect();
    let mut packs = Vec::new();
    for _ in 0..2 {
        let mut w = world.session();
        let entries: Vec<_> =
            content.iter().enumerate().map(|(i, c)| (w.file(&format!("f{i}"), &[c]), w.cut_frame()).0).collect();
        packs.push(w.cut_pack());
        w.tree(&["/"], &entries);
        w.finish();
    }
    world.reading(|_| {});
    let sound: Vec<Vec<u8>> = packs.iter().map(|id| world.far.packs.lock().unwrap()[id].clone()).collect();
    // The header, a piece, the index.
    for at in [0, 96 + 16_400 * 6, sound[0].len() - 1] {
        for (id, bytes) in packs.iter().zip(&sound) {
            world.far.packs.lock().unwrap().get_mut(id).unwrap()[at] ^= 1;
            world.reading(|fetcher| {
                let archive = fetcher.archive();
                let (mut bad, mut damaged) = (Bad::default(), Vec::new());
                for row in packs_to_read(archive.sessions, Turn::All) {
                    let read = read_pack(&archive, row, &Meter::default()).unwrap();
                    damaged.extend((!read.is_sound()).then_some(row.id));
                    bad.absorb(read);
                }
                assert_eq!(damaged, [*id]);
                let damage = damage(fetcher, &bad).unwrap();
                assert!(damage.is_none(), "byte {at}: {damage:?}");
            });
            world.far.packs.lock().unwrap().insert(*id, bytes.clone());
        }
    }
    for id in &packs {
        world.far.packs.lock().unwrap().remove(id);
        let (found, damage) = check(&world);
        assert!(found.bad.packs.contains_key(id) && found.bad.chunks.is_empty());
        assert_eq!(damage.files.len(), if *id == packs[0] { 0 } else { 20 }, "both are gone then");
    }
}
