//! Damage of every kind the vault promises to outlive, and what it says beyond its promise.

mod world;

use lavatube_base::Verified;
use lavatube_format::shard::{ShardHeader, shard_name};
use lavatube_vault::{Depth, DriveState, ObjectKind, ReadError, ReadoptError, ShardState, Vault};
use world::{Chance, World, read, store};

const SIZES: [usize; 5] = [4 << 10, 64 << 10, 4 << 20, 9_777, 123_457];

fn flip(file: &mut [u8], at: usize) {
    let len = file.len();
    file[at % len] ^= 0x20;
}

#[test]
fn one_flipped_byte_at_the_same_place_of_every_shard_file_still_restores_and_is_mended() {
    for (k, m) in [(1, 1), (2, 1), (4, 2), (10, 4)] {
        let mut world = World::new(usize::from(k + m));
        let mut vault = world.create(k, m);
        let objects: Vec<Vec<u8>> = SIZES.iter().map(|n| world.chance.bytes(*n)).collect();
        for object in &objects {
            store(&mut vault, object);
        }
        let images = world.images();
        for place in 0..7 {
            world.restore(&images);
            for drive in &world.drives {
                for name in drive.shard_files() {
                    drive.with(|f| {
                        let file = f.get_mut(&name).unwrap();
                        let at = [0, 9, 180, file.len() / 3, file.len() / 2, file.len() - 200, file.len() - 1][place];
                        flip(file, at);
                    });
                }
            }
            let (mut vault, _) = world.open();
            for object in &objects {
                assert_eq!(read(&vault, object), Ok(()), "{k}+{m}, {} bytes, place {place}", object.len());
                let id = Verified::hash(object).id();
                let health = vault.examine(id, Depth::Bytes).unwrap();
                assert!(health.restorable && health.lost.is_empty());
                assert!(health.shards.iter().all(|s| matches!(s.state, ShardState::Damaged { .. })));
                assert_eq!(vault.mend(id).unwrap().mended.len(), usize::from(k + m));
                assert!(vault.examine(id, Depth::Bytes).unwrap().is_whole());
            }
            assert_eq!(world.images(), images, "mending restores the very bytes");
        }
    }
}

#[test]
fn one_flipped_byte_at_a_random_place_of_every_file_of_every_drive_still_restores() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let objects: Vec<Vec<u8>> = SIZES.iter().map(|n| world.chance.bytes(*n)).collect();
    for object in &objects {
        store(&mut vault, object);
    }
    let images = world.images();
    let mut chance = Chance(77);
    for round in 0..60 {
        world.restore(&images);
        for drive in &world.drives {
            drive.with(|f| f.values_mut().for_each(|file| flip(file, chance.next() as usize)));
        }
        let (mut vault, report) = world.open();
        assert!(report.drives.iter().all(|d| d.state == DriveState::Present && !d.card_whole && !d.journal_current));
        for object in &objects {
            assert_eq!(read(&vault, object), Ok(()), "round {round}, {} bytes", object.len());
        }
        if round % 10 == 0 {
            for object in &objects {
                vault.mend(Verified::hash(object).id()).unwrap();
            }
            (0..6).for_each(|slot| vault.readopt(slot, None).unwrap());
            assert_eq!(world.images(), images);
        }
    }
}

#[test]
fn any_two_of_six_drives_may_be_deleted_emptied_or_overwritten_with_noise() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let objects: Vec<Vec<u8>> = [4096, 50_001, 1 << 20].iter().map(|n| world.chance.bytes(*n)).collect();
    for object in &objects {
        store(&mut vault, object);
    }
    let images = world.images();
    for a in 0..6 {
        for b in a + 1..6 {
            for way in 0..3 {
                world.restore(&images);
                let mut drives = world.boxed();
                for lost in [a, b] {
                    match way {
                        0 => drives[lost] = None,
                        1 => world.drives[lost].delete_all(),
                        _ => world.drives[lost].noise(&mut Chance(5 + a as u64)),
                    }
                }
                let (mut vault, report) = world::open(drives, Some(world::signer())).unwrap();
                let expected = if way == 0 { DriveState::Missing } else { DriveState::Blank };
                for (slot, drive) in report.drives.iter().enumerate() {
                    let lost = [a, b].contains(&slot);
                    assert_eq!(drive.state, if lost { expected.clone() } else { DriveState::Present });
                }
                for object in &objects {
                    assert_eq!(read(&vault, object), Ok(()));
                    let health = vault.examine(Verified::hash(object).id(), Depth::Bytes).unwrap();
                    assert_eq!((health.restorable, health.losses_survivable), (true, 0));
                }
                if way > 0 {
                    [a, b].iter().for_each(|slot| vault.readopt(*slot, None).unwrap());
                    for object in &objects {
                        assert!(vault.mend(Verified::hash(object).id()).unwrap().left.is_empty());
                    }
                    assert_eq!(world.images(), images);
                }
            }
        }
    }
}

#[test]
fn beyond_the_promise_the_account_is_exact_and_the_rest_is_read() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(300_001);
    let id = Verified::hash(&object).id();
    store(&mut vault, &object);
    drop(vault);
    let indexes: Vec<usize> = world
        .drives
        .iter()
        .map(|d| {
            let name = d.shard_files().remove(0);
            usize::from_str_radix(name.rsplit('.').next().unwrap(), 16).unwrap()
        })
        .collect();
    let len = 300_001u64;
    let shard = 300_001usize.div_ceil(4).next_multiple_of(64) as u64;
    let images = world.images();
    for a in 0..6 {
        for b in a + 1..6 {
            for c in b + 1..6 {
                world.restore(&images);
                [a, b, c].iter().for_each(|d| world.drives[*d].delete_all());
                let (mut vault, _) = world.open();
                let mut gone: Vec<u64> = [a, b, c].iter().map(|d| indexes[*d] as u64).filter(|i| *i < 4).collect();
                gone.sort_unstable();
                let health = vault.examine(id, Depth::Bytes).unwrap();
                assert!(!health.restorable || gone.is_empty());
                let lost: u64 = health.lost.iter().map(|r| r.end - r.start).sum();
                let bytes_of = |i: &u64| (len.min((i + 1) * shard)) - i * shard;
                assert_eq!(lost, gone.iter().map(bytes_of).sum::<u64>());
                assert_eq!(vault.examine(id, Depth::Headers).unwrap().lost, health.lost);
                let mut out = vec![1, 2, 3];
                if !gone.is_empty() {
                    let error = vault.read(id, 0..len, &mut out).unwrap_err();
                    assert!(matches!(error, ReadError::Lost { ranges, .. } if ranges == health.lost));
                    assert_eq!(out, [1, 2, 3]);
                    assert!(vault.mend(id).is_err());
                }
                for i in (0..4u64).filter(|i| !gone.contains(i)) {
                    let (from, to) = (i * shard, len.min((i + 1) * shard));
                    out.clear();
                    vault.read(id, from..to, &mut out).unwrap();
                    assert_eq!(out, &object[from as usize..to as usize]);
                }
            }
        }
    }
}

#[test]
fn a_vault_without_any_journal_is_rebuilt_from_its_shards() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let objects: Vec<Vec<u8>> = (1..20).map(|n| world.chance.bytes(n * 3000)).collect();
    let mut kept = Vec::new();
    for object in &objects {
        store(&mut vault, object);
        kept.push(Verified::hash(object).id());
    }
    world.drives.iter().for_each(|d| drop(d.with(|f| f.remove("journal"))));
    world.drives[0].with(|f| f.insert("journal".into(), Vec::new()));
    world.drives[2].delete_all();
    let (mut vault, report) = world.open();
    assert_eq!((report.scanned, report.adopted, report.records), (true, 19, 0));
    for (object, id) in objects.iter().zip(&kept) {
        assert_eq!(read(&vault, object), Ok(()));
        assert!(vault.receipt_for(*id).is_some(), "the new journal makes it durable again");
    }
    let (vault, report) = world.open();
    assert_eq!((report.scanned, report.records), (false, 19));
    assert_eq!(vault.objects().count(), 19);
}

#[test]
fn a_stale_drive_put_back_does_not_hide_what_came_since() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let old = world.chance.bytes(40_000);
    store(&mut vault, &old);
    let stale = world.drives[1].with(|f| f.clone());
    let new = world.chance.bytes(50_000);
    store(&mut vault, &new);
    world.drives[1].with(|f| *f = stale);
    let (mut vault, report) = world.open();
    assert!(!report.drives[1].journal_current && report.drives[0].journal_current);
    assert_eq!((read(&vault, &old), read(&vault, &new)), (Ok(()), Ok(())));
    let id = Verified::hash(&new).id();
    assert_eq!(vault.mend(id).unwrap().mended.len(), 1);
    assert!(vault.examine(id, Depth::Bytes).unwrap().is_whole());
    store(&mut vault, &world.chance.bytes(10));
    assert!(!world.open().1.drives[1].journal_current, "it is held back");
    assert_eq!(world::admit(&mut vault), 1);
    assert!(world.open().1.drives.iter().all(|d| d.journal_current));
}

#[test]
fn a_torn_journal_tail_on_every_drive_loses_nothing() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let objects: Vec<Vec<u8>> = (1..5).map(|n| world.chance.bytes(n * 5000)).collect();
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    for drive in &world.drives {
        drive.with(|f| {
            let journal = f.get_mut("journal").unwrap();
            journal.truncate(journal.len() - 40);
        });
    }
    let (mut vault, report) = world.open();
    assert_eq!((report.scanned, report.records, report.adopted), (true, 3, 1));
    objects.iter().for_each(|o| assert_eq!(read(&vault, o), Ok(())));
    store(&mut vault, &world.chance.bytes(77));
    let (vault, report) = world.open();
    assert_eq!((report.scanned, report.records), (false, 5));
    objects.iter().for_each(|o| assert_eq!(read(&vault, o), Ok(())));
}

#[test]
fn drives_handed_in_in_another_order_find_their_slots() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(100_000);
    store(&mut vault, &object);
    let mut drives = world.boxed();
    drives.rotate_left(2);
    drives[0] = None;
    let (vault, report) = world::open(drives, None).unwrap();
    assert_eq!(report.drives[2].state, DriveState::Missing);
    assert_eq!(read(&vault, &object), Ok(()));
}

#[test]
fn a_drive_whose_card_is_gone_is_known_by_its_shards() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(100_000);
    store(&mut vault, &object);
    world.drives[3].with(|f| f.remove("drive.card"));
    let mut drives = world.boxed();
    drives.rotate_left(1);
    let (mut vault, report) = world::open(drives, Some(world::signer())).unwrap();
    assert_eq!(report.drives[3].state, DriveState::CardDamaged);
    assert_eq!(vault.examine(Verified::hash(&object).id(), Depth::Bytes).unwrap().losses_survivable, 2);
    vault.readopt(3, None).unwrap();
    assert!(world.open().1.drives.iter().all(|d| d.card_whole));
}

#[test]
fn any_range_of_an_object_reads_as_its_bytes_whatever_is_damaged() {
    for (k, m) in [(1, 0), (2, 1), (4, 2), (10, 4)] {
        let mut world = World::new(usize::from(k + m));
        let mut vault = world.create(k, m);
        let object = world.chance.bytes(700_003);
        let id = Verified::hash(&object).id();
        store(&mut vault, &object);
        for damage in 0..2 {
            if damage == 1 && m > 0 {
                (0..usize::from(m)).for_each(|d| world.drives[d].delete_all());
            }
            let (vault, _) = world.open();
            let mut chance = Chance(3 + u64::from(k));
            for _ in 0..100 {
                let a = chance.below(object.len() + 1);
                let b = if chance.below(2) == 0 {
                    chance.below(object.len() + 1)
                } else {
                    (a + chance.below(5000)).min(object.len())
                };
                let (a, b) = (a.min(b), a.max(b));
                let mut out = Vec::new();
                vault.read(id, a as u64..b as u64, &mut out).unwrap();
                assert!(out == object[a..b], "{k}+{m} {a}..{b}");
            }
            assert!(vault.read(id, 0..object.len() as u64 + 1, &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn an_object_may_be_stored_again_and_heals_by_it() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(200_000);
    let receipt = store(&mut vault, &object);
    assert_eq!(store(&mut vault, &object), receipt);
    receipt.verify(&vault.vault_key()).unwrap();
    let images = world.images();
    for drive in &world.drives[..4] {
        drive.with(|f| f.retain(|name, _| !name.starts_with("shards/")));
    }
    let (mut vault, _) = world.open();
    assert!(read(&vault, &object).is_err());
    assert_eq!(store(&mut vault, &object), receipt);
    assert_eq!(world.images(), images);
}

#[test]
fn too_few_drives_are_refused_and_one_short_is_taken() {
    let mut world = World::new(6);
    drop(world.create(4, 2));
    let object = world.chance.bytes(30_000);
    let mut drives = world.boxed();
    drives[5] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    store(&mut vault, &object);
    let health = vault.examine(Verified::hash(&object).id(), Depth::Bytes).unwrap();
    assert_eq!(
        (health.losses_survivable, health.shards.iter().filter(|s| s.state == ShardState::NotStored).count()),
        (1, 1)
    );
    assert_eq!(vault.status().redundancy, [0, 1]);
    let (mut vault, _) = world.open();
    // The drive that comes back is not trusted before it was read.
    assert_eq!(vault.mend(Verified::hash(&object).id()).unwrap().mended.len(), 0);
    assert_eq!(world::admit(&mut vault), 1);
    assert_eq!(vault.mend(Verified::hash(&object).id()).unwrap().mended.len(), 1);
    assert_eq!(vault.status().redundancy, [0, 0, 1]);
    drop(vault);
    let (vault, _) = world.open();
    assert!(vault.examine(Verified::hash(&object).id(), Depth::Bytes).unwrap().is_whole());
    let mut drives = world.boxed();
    (drives[0], drives[1]) = (None, None);
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    assert!(vault.store(ObjectKind::Pack, Verified::hash(b"more")).is_err());
    assert_eq!(read(&vault, &object), Ok(()));
}

#[test]
fn a_receipt_is_given_again_for_what_is_durable_here_and_for_nothing_else() {
    let mut world = World::new(6);
    drop(world.create(4, 2));
    let (mut vault, _) = world.open();
    let object = world.chance.bytes(30_000);
    let receipt = store(&mut vault, &object);
    let id = receipt.body.object;
    assert_eq!(vault.receipt_for(id), Some(receipt.clone()), "the very same");
    assert_eq!(vault.receipt_for(Verified::hash(b"never seen").id()), None);
    drop(vault);
    let (mut vault, _) = world.open();
    let again = vault.receipt_for(id).unwrap();
    assert_eq!(again, receipt, "and after a restart");
    again.verify(&vault.vault_key()).unwrap();
    let (mut vault, _) = world::open(world.boxed(), None).unwrap();
    assert_eq!(vault.receipt_for(id), None, "who has no key signs nothing");
    // The journals are lost, and with too few drives no new one is durable.
    world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal"))));
    let mut drives = world.boxed();
    drives[..3].fill_with(|| None);
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    assert_eq!(vault.receipt_for(id), None);
    let (mut vault, _) = world.open();
    vault.receipt_for(id).unwrap().verify(&vault.vault_key()).unwrap();
}

#[test]
fn a_shard_of_another_generation_is_as_good_as_none() {
    //= FORMAT#F15
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(90_000);
    let id = Verified::hash(&object).id();
    store(&mut vault, &object);
    for drive in &world.drives[..2] {
        let name = drive.shard_files().remove(0);
        drive.with(|files| {
            let file = files.get_mut(&name).unwrap();
            let len = ShardHeader::claimed_len(file).unwrap();
            let mut header = ShardHeader::decode(&file[..len]).unwrap();
            header.generation += 1;
            let at = file.len() - len;
            file[..len].copy_from_slice(&header.encode());
            file[at..].copy_from_slice(&header.encode());
        });
    }
    for journal in [true, false] {
        if !journal {
            world.drives.iter().for_each(|d| drop(d.with(|f| f.remove("journal"))));
        }
        let (vault, _) = world.open();
        assert_eq!(read(&vault, &object), Ok(()));
        let health = vault.examine(id, Depth::Bytes).unwrap();
        let others = health.shards.iter().filter(|s| s.state != ShardState::Good).count();
        assert_eq!((others, health.losses_survivable), (2, 0));
    }
}

#[test]
fn several_threads_read_at_once() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let objects: Vec<Vec<u8>> = (1..6).map(|n| world.chance.bytes(n * 60_000)).collect();
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    world.drives[0].delete_all();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| objects.iter().for_each(|o| assert_eq!(read(&vault, o), Ok(()))));
        }
    });
}

#[test]
fn a_drive_never_gets_the_card_of_another_drive_whose_shards_it_does_not_hold() {
    let (mut world, foreign) = (World::new(6), World::new(6));
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(90_000);
    store(&mut vault, &object);
    let mut spec = foreign.spec(4, 2);
    spec.vault = lavatube_base::VaultId([8; 16]);
    store(&mut Vault::create(spec).unwrap(), &object);
    for drive in [&world.drives[0], &world.drives[1], &foreign.drives[0]] {
        drive.with(|files| files.get_mut("drive.card").unwrap().fill(0));
    }
    // Handed in at each other's places, they are known by their shards all the same.
    let mut drives = world.boxed();
    drives.swap(0, 1);
    let (mut vault, report) = world::open(drives, Some(world::signer())).unwrap();
    let found: Vec<_> = report.drives[..2].iter().map(|d| (d.state.clone(), d.position)).collect();
    assert_eq!(found, [(DriveState::CardDamaged, Some(1)), (DriveState::CardDamaged, Some(0))]);
    let before = (world.images(), foreign.images());
    for (slot, drive) in [(0, &world.drives[1]), (1, &world.drives[0]), (0, &foreign.drives[0])] {
        assert_eq!(vault.readopt(slot, Some(Box::new(drive.clone()))), Err(ReadoptError::Foreign));
    }
    assert_eq!((world.images(), foreign.images()), before, "nothing was written");
    (0..2).for_each(|slot| vault.readopt(slot, None).unwrap());
    // Now any four of them do.
    for away in [[2, 3], [0, 5], [1, 4]] {
        let mut drives = world.boxed();
        away.iter().for_each(|n| drives[*n] = None);
        let (vault, report) = world::open(drives, None).unwrap();
        assert!(report.drives.iter().all(|d| d.position.is_none_or(|at| at == d.slot)));
        assert_eq!(read(&vault, &object), Ok(()));
    }
}

#[test]
fn a_drive_of_another_vault_is_left_alone() {
    let (mut world, other) = (World::new(6), World::new(6));
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(90_000);
    store(&mut vault, &object);
    let mut spec = other.spec(4, 2);
    spec.vault = lavatube_base::VaultId([8; 16]);
    drop(Vault::create(spec).unwrap());
    let mut drives = world.boxed();
    drives[2] = Some(Box::new(other.drives[2].clone()));
    let before = other.images();
    let (mut vault, report) = world::open(drives, Some(world::signer())).unwrap();
    assert_eq!(report.drives[2].state, DriveState::Foreign);
    assert_eq!(read(&vault, &object), Ok(()));
    store(&mut vault, b"something more");
    assert!(vault.readopt(2, None).is_err());
    assert_eq!(other.images(), before);
    assert!(Vault::create(world.spec(4, 2)).is_err(), "a drive that has a card is not taken for a new vault");
}

#[test]
fn a_scan_gives_each_shard_a_drive_of_its_own_whatever_earlier_attempts_have_left() {
    let mut world = World::new(4);
    drop(world.create(2, 2));
    let blank = world.images();
    let objects: Vec<Vec<u8>> = (0..24).map(|_| world.chance.bytes(5000)).collect();
    // An attempt without one drive, which did not end: its shards lie where other ones of the same stripe will lie.
    let drives = world.boxed().into_iter().enumerate().map(|(n, drive)| drive.filter(|_| n != 2)).collect();
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    let left = world.images();
    world.restore(&blank);
    let (mut vault, _) = world.open();
    objects.iter().for_each(|o| world::keep(&mut vault, o));
    for (drive, left) in world.drives.iter().zip(left) {
        drive.with(|files| {
            files.remove("journal");
            let shards = left.into_iter().filter(|(name, _)| name.starts_with("shards/"));
            shards.for_each(|(name, bytes)| {
                files.entry(name).or_insert(bytes);
            });
        });
    }
    let (mut vault, report) = world.open();
    assert_eq!((report.scanned, report.adopted), (true, objects.len() as u64));
    world::keep(&mut vault, b"with this, the journal says what was found");
    for object in &objects {
        vault.mend(Verified::hash(object).id()).unwrap();
    }
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let drives =
            world.boxed().into_iter().enumerate().map(|(n, drive)| drive.filter(|_| n != a && n != b)).collect();
        let (vault, _) = world::open(drives, None).unwrap();
        for object in &objects {
            assert_eq!(world::read(&vault, object), Ok(()), "without drives {a} and {b}");
        }
    }
}

#[test]
fn a_shard_that_a_journal_forgot_because_its_drive_was_away_is_found_again() {
    let mut world = World::new(3);
    let object = world.chance.bytes(5000);
    let mut vault = world.create(1, 1);
    world::keep(&mut vault, &object);
    drop(vault);
    let id = Verified::hash(&object).id();
    let holder = |world: &World, index| {
        let has = |drive: &world::MemoryDrive| drive.with(|files| files.contains_key(&shard_name(id, index)));
        world.drives.iter().position(has).unwrap()
    };
    let (first, second) = (holder(&world, 0), holder(&world, 1));
    // Its record is torn on every drive, and written anew where only the second shard can be seen.
    for drive in &world.drives {
        drive.with(|files| {
            let journal = files.get_mut("journal").unwrap();
            journal.truncate(journal.len() - 30);
        });
    }
    let drives = world.boxed().into_iter().enumerate().map(|(n, drive)| drive.filter(|_| n == second)).collect();
    let (mut vault, report) = world::open(drives, Some(world::signer())).unwrap();
    assert_eq!(report.adopted, 1);
    vault.readopt(second, None).unwrap();
    drop(vault);
    world.drives[second].with(|files| files.remove(&shard_name(id, 1)));
    let (mut vault, _) = world.open();
    assert_eq!(world::read(&vault, &object), Ok(()), "before anything is mended");
    let report = vault.mend(id).unwrap();
    assert_eq!((report.mended.len(), report.left.len()), (1, 0));
    assert_eq!(world::read(&vault, &object), Ok(()));
    drop(vault);
    // For good: either drive is enough.
    for gone in [first, second] {
        let drives = world.boxed().into_iter().enumerate().map(|(n, drive)| drive.filter(|_| n != gone)).collect();
        let (vault, _) = world::open(drives, None).unwrap();
        assert_eq!(world::read(&vault, &object), Ok(()), "without drive {gone}");
    }
}

#[test]
fn what_is_known_to_be_missing_is_filled_up_from_as_many_shards_as_it_takes() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let objects: Vec<Vec<u8>> = [1 << 20, 300_001].iter().map(|n| world.chance.bytes(*n)).collect();
    for object in &objects {
        store(&mut vault, object);
    }
    let images = world.images();
    for (gone, is_hurt) in (0..6).flat_map(|gone| [(gone, false), (gone, true)]) {
        world.restore(&images);
        world.drives[gone].with(|f| f.retain(|name, _| !name.starts_with("shards/")));
        // And a block of another shard is wrong: if that is met, it is mended too; if not, it is no obstacle.
        let hurt = (gone + 1) % 6;
        let name = world.drives[hurt].shard_files().remove(0);
        if is_hurt {
            world.drives[hurt].with(|f| {
                let file = f.get_mut(&name).unwrap();
                let at = file.len() / 2;
                flip(file, at);
            });
        }
        let (mut vault, _) = world.open();
        for object in &objects {
            let id = Verified::hash(object).id();
            world.drives.iter().for_each(|drive| drive.state.lock().unwrap().read = 0);
            let report = vault.refill(id).unwrap();
            assert!(report.mended.iter().any(|s| s.state == ShardState::Missing) && report.left.is_empty());
            let read: usize = world.drives.iter().map(|drive| drive.state.lock().unwrap().read).sum();
            let headers = 5 * 2 * (176 + 16 * object.len().div_ceil(4).div_ceil(16 << 10));
            let shards = if is_hurt { 9 } else { 4 };
            assert!(read <= shards * (object.len().div_ceil(4) + 64) + 2 * headers, "{read} of {}", object.len());
            vault.mend(id).unwrap();
            assert!(vault.examine(id, Depth::Bytes).unwrap().is_whole());
        }
        assert_eq!(world.images(), images);
    }
}

#[test]
fn what_lies_behind_the_end_of_a_shard_is_damage_and_is_mended() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let object = world.chance.bytes(50_001);
    store(&mut vault, &object);
    let images = world.images();
    let name = world.drives[2].shard_files().remove(0);
    world.drives[2].with(|f| f.get_mut(&name).unwrap().extend([0; 700]));
    let (mut vault, _) = world.open();
    let id = Verified::hash(&object).id();
    assert_eq!(read(&vault, &object), Ok(()));
    let health = vault.examine(id, Depth::Headers).unwrap();
    let states: Vec<_> =
        health.shards.iter().filter(|s| s.state != ShardState::Good).map(|s| s.state.clone()).collect();
    assert_eq!(states, [ShardState::Damaged { header_copies: 1, blocks: Vec::new() }]);
    assert_eq!(vault.mend(id).unwrap().mended.len(), 1);
    assert_eq!(world.images(), images);
}
