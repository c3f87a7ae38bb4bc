//! Packs of which a release frees some: what stays is there after anything that may happen, and what went takes no room.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use std::ops::Range;

use lavatube_base::limits::AUDIT_BLOCK_LEN as BLOCK;
use lavatube_base::sign::PairSigner;
use lavatube_base::slice::{SLICE_LEN, verify_slice};
use lavatube_base::{Denial, DepositorId, ObjectId, SessionId, Stays, Verified};
use lavatube_format::depositor_card::depositor_id;
use lavatube_format::manifest::{Manifest, Preciousness, Retention};
use lavatube_format::release::{RELEASE_CONTEXT, Release, SignedRelease};
use lavatube_format::spot::{Pick, SpotQuestion};
use lavatube_vault::spot::SpotProver;
use lavatube_vault::{DepositError, Depth, ObjectKind, ReadError, ReleaseError, Standing, StoreError, Vault};
use world::{Crash, World};

/// A vault with two packs of one session, and whose it is.
fn filled(world: &mut World, blocks: usize) -> (Vault, DepositorId, Vec<Vec<u8>>) {
    let mut vault = world.create(4, 2);
    let signer = PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap();
    vault.deposit_card(&world::card(&signer, &world::authority())).unwrap();
    let packs: Vec<Vec<u8>> = (0..2).map(|_| world.chance.bytes(blocks * BLOCK)).collect();
    packs.iter().for_each(|pack| world::keep(&mut vault, pack));
    let leaves = world::leaves(&packs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let manifest = Manifest { session: SessionId([1; 16]), ..world::manifest(&signer, leaves) };
    vault.deposit_manifest(&world::signed(manifest, &signer)).unwrap();
    (vault, depositor_id(&signer.public()), packs)
}

fn id(pack: &[u8]) -> ObjectId {
    Verified::hash(pack).id()
}

fn stays(runs: &[u32]) -> Stays {
    Stays::from_runs(runs.to_vec()).unwrap()
}

/// A release that frees all of these packs, and some of those.
fn release(vault: &Vault, all: &[&[u8]], some: &[(&[u8], &Stays)], settled: &[DepositorId]) -> Vec<u8> {
    let sight = vault.look_at_log(0, &[]).unwrap().checkpoint;
    let mut thins: Vec<_> = some.iter().map(|(pack, stays)| (id(pack), (*stays).clone())).collect();
    thins.sort();
    let release = Release {
        vault: vault.id(),
        nonce: [8; 32],
        size: sight.size,
        root: sight.root,
        number: vault.releases() + 1,
        objects: all.iter().map(|pack| id(pack)).collect(),
        settled: settled.to_vec(),
        note: vec![9; 32 + 16 + 256],
        lifts: Vec::new(),
        thins,
    };
    let body = release.encode_body();
    let signature = world::authority().sign(RELEASE_CONTEXT, &body).unwrap();
    SignedRelease { release, body, signature }.encode()
}

fn settle(vault: &mut Vault) {
    while vault.settle_releases().unwrap() {}
}

/// Bytes of shard files on all drives.
fn room(world: &World) -> usize {
    let files =
        |f: &mut world::Files| f.iter().filter(|(name, _)| name.starts_with("shards/")).map(|f| f.1.len()).sum();
    world.drives.iter().map(|drive| drive.with(|f| -> usize { files(f) })).sum()
}

fn read(vault: &Vault, pack: ObjectId, range: &Range<usize>) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    vault.read(pack, range.start as u64..range.end as u64, &mut out).map(|_| out)
}

/// Whether these bytes of a pack are read as they were.
fn is_right(vault: &Vault, pack: &[u8], range: &Range<usize>) -> bool {
    let read = read(vault, id(pack), range);
    assert!(read.is_ok(), "{:?}", read.err());
    read.as_deref() == Ok(&pack[range.clone()])
}

/// Whether just this stays of a pack: all of it is read, nothing else is, and slices of it prove it.
fn is_thinned(vault: &Vault, pack: &[u8], stays: &Stays) {
    let id = id(pack);
    assert!(vault.is_thinned(id) && vault.contains(id) && !vault.is_released(id));
    for range in stays.ranges() {
        for range in [range.start + 100..range.end - 7, range] {
            assert!(is_right(vault, pack, &range), "{range:?}");
        }
    }
    for gone in stays.gone() {
        for range in [gone.clone(), gone.start - 1..gone.start + 1, gone.end - 1..gone.end + 1, 0..pack.len()] {
            let refused = read(vault, id, &range).unwrap_err();
            assert_eq!((refused.denial(), refused), (Denial::Absent, ReadError::Freed { pack: id }));
        }
    }
    let numbers = 0..(pack.len() / SLICE_LEN) as u64;
    let picks: Vec<Pick> = numbers.map(|number| Pick { pack: id, number }).collect();
    let mut prover = SpotProver::new(SpotQuestion { nonce: [5; 32], picks: picks.clone() });
    while prover.step(vault) {}
    for (pick, slice) in picks.iter().zip(prover.into_answer().slices) {
        let at = usize::try_from(pick.number).unwrap() * SLICE_LEN;
        match slice {
            Ok(slice) => assert!(verify_slice(id, pack.len() as u64, pick.number, &slice)),
            Err(denial) => assert!(denial == Denial::Absent && stays.gone().any(|gone| gone.contains(&at))),
        }
    }
}

#[test]
fn what_stays_of_a_pack_is_read_and_proved_and_what_went_takes_no_room() {
    let mut world = World::new(6);
    let (mut vault, depositor, packs) = filled(&mut world, 16);
    let before = room(&world);
    let first = stays(&[1, 3, 4, 7, 1]);
    vault.deposit_release(&release(&vault, &[], &[(&packs[0], &first)], &[depositor])).unwrap();
    settle(&mut vault);
    is_thinned(&vault, &packs[0], &first);
    assert!(vault.open_releases().is_empty());
    assert_eq!(world::read(&vault, &packs[1]), Ok(()));
    // Ten blocks of sixteen went, of all shards.
    let freed = before - room(&world);
    assert!(freed > 9 * BLOCK * 6 / 4 && freed < 10 * BLOCK * 6 / 4, "{freed}");
    let kept: Vec<u64> = vault.thinned().map(|(_, len)| len).collect();
    assert!(kept.len() == 1 && (6 * BLOCK as u64..6 * BLOCK as u64 + 400).contains(&kept[0]), "{kept:?}");
    let again = vault.store(ObjectKind::Pack, Verified::hash(&packs[0]));
    assert_eq!(again, Err(StoreError::Released(id(&packs[0]))), "it does not come back");
}

#[test]
fn what_stays_of_a_precious_pack_is_as_precious() {
    let of = |first: Preciousness| {
        let mut world = World::new(6);
        let mut vault = world.create(4, 2);
        let signer = PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap();
        vault.deposit_card(&world::card(&signer, &world::authority())).unwrap();
        let packs: Vec<Vec<u8>> = (0..2).map(|_| world.chance.bytes(16 * BLOCK)).collect();
        let other = if first == Preciousness::High { Preciousness::Low } else { Preciousness::High };
        for (n, (pack, precious)) in (1..).zip(packs.iter().zip([first, other])) {
            world::keep(&mut vault, pack);
            let retention = Retention { precious, ..Retention::default() };
            let leaves = world::leaves(&[pack.as_slice()]);
            let manifest = Manifest { session: SessionId([n; 16]), retention, ..world::manifest(&signer, leaves) };
            vault.deposit_manifest(&world::signed(manifest, &signer)).unwrap();
        }
        let stays = stays(&[1, 3, 4, 7, 1]);
        let thins = [(packs[0].as_slice(), &stays), (packs[1].as_slice(), &stays)];
        let release = release(&vault, &[], &thins, &[depositor_id(&signer.public())]);
        vault.deposit_release(&release).unwrap();
        settle(&mut vault);
        packs.iter().for_each(|pack| is_thinned(&vault, pack, &stays));
        let in_order = vault.by_need().into_iter().filter(|object| object.kind == ObjectKind::Remnant);
        let in_order: Vec<ObjectId> = in_order.map(|object| vault.pack_of(object.id)).collect();
        (in_order, [id(&packs[0]), id(&packs[1])])
    };
    let (order, [first, second]) = of(Preciousness::High);
    assert_eq!(order, [first, second]);
    let (order, [first, second]) = of(Preciousness::Low);
    assert_eq!(order, [second, first]);
}

#[test]
fn releases_add_up_and_a_later_one_frees_the_rest() {
    let mut world = World::new(6);
    let (mut vault, depositor, packs) = filled(&mut world, 16);
    let (first, second) = (stays(&[1, 3, 4, 7, 1]), stays(&[2, 3, 9, 1, 1]));
    for one in [&first, &second] {
        vault.deposit_release(&release(&vault, &[], &[(&packs[0], one), (&packs[1], &second)], &[depositor])).unwrap();
        settle(&mut vault);
    }
    let both = first.and(&second).unwrap();
    assert_eq!(both.runs(), [1, 4, 3, 7, 1]);
    // By the journals, and by the shards alone.
    for lose in [false, true] {
        if lose {
            world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal"))));
        }
        let (mut vault, report) = world.open();
        assert_eq!((report.scanned, report.incomplete.len()), (lose, 0));
        is_thinned(&vault, &packs[0], &both);
        is_thinned(&vault, &packs[1], &second);
        settle(&mut vault);
        assert!(vault.open_releases().is_empty());
        is_thinned(&vault, &packs[0], &both);
    }
    let (mut vault, report) = world.open();
    assert!(!report.scanned);
    is_thinned(&vault, &packs[0], &both);
    let (before, remnants) = (room(&world), vault.objects_of(ObjectKind::Remnant).count());
    vault.deposit_release(&release(&vault, &[&packs[0]], &[], &[depositor])).unwrap();
    assert!(vault.is_released(id(&packs[0])) && !vault.contains(id(&packs[0])));
    assert_eq!(vault.objects_of(ObjectKind::Remnant).count() + 1, remnants);
    assert!(before - room(&world) > 4 * BLOCK);
    // As well as by the journals.
    for vault in [vault, world.open().0] {
        assert!(vault.is_released(id(&packs[0])) && !vault.contains(id(&packs[0])));
        is_thinned(&vault, &packs[1], &second);
        for object in vault.objects().collect::<Vec<_>>() {
            assert!(vault.examine(object.id, Depth::Bytes).unwrap().is_whole());
        }
    }
}

#[test]
fn it_waits_like_any_release_and_names_only_packs_as_they_are() {
    let mut world = World::new(6);
    let (mut vault, _, packs) = filled(&mut world, 4);
    let refusal = |vault: &mut Vault, pack: &[u8], stays: &Stays| {
        let bytes = release(vault, &[], &[(pack, stays)], &[]);
        match vault.deposit_release(&bytes) {
            Err(DepositError::Release(e)) => e,
            other => panic!("{other:?}"),
        }
    };
    let strange = world.chance.bytes(4 * BLOCK);
    assert_eq!(refusal(&mut vault, &strange, &stays(&[1, 2, 1])), ReleaseError::Unknown(id(&strange)));
    assert_eq!(
        refusal(&mut vault, &packs[0], &stays(&[1, 6, 1])),
        ReleaseError::Unknown(id(&packs[0])),
        "of another length"
    );
    world::keep(&mut vault, &strange);
    assert_eq!(refusal(&mut vault, &strange, &stays(&[1, 2, 1])), ReleaseError::Unnamed(id(&strange)));
    vault.deposit_release(&release(&vault, &[], &[(&packs[0], &stays(&[1, 2, 1]))], &[])).unwrap();
    settle(&mut vault);
    assert!(matches!(vault.open_releases()[0].standing, Some(Standing::Waits(_))));
    assert_eq!(world::read(&vault, &packs[0]), Ok(()), "a session under way may lean on it");
}

#[test]
fn damage_of_what_stays_is_found_and_mended() {
    let mut world = World::new(6);
    let (mut vault, depositor, packs) = filled(&mut world, 16);
    let kept = stays(&[1, 3, 4, 7, 1]);
    vault.deposit_release(&release(&vault, &[], &[(&packs[0], &kept)], &[depositor])).unwrap();
    settle(&mut vault);
    let remnant = vault.objects().find(|o| o.kind == ObjectKind::Remnant).unwrap();
    let name = format!("{}.", remnant.id);
    for drive in &world.drives[..2] {
        drive.with(|files| {
            let (_, file) = files.iter_mut().find(|(file, _)| file.contains(&name)).unwrap();
            let middle = file.len() / 2;
            file[middle] ^= 1;
        });
    }
    is_thinned(&vault, &packs[0], &kept);
    assert!(!vault.examine(remnant.id, Depth::Bytes).unwrap().is_whole());
    vault.mend(remnant.id).unwrap();
    assert!(vault.examine(remnant.id, Depth::Bytes).unwrap().is_whole());
    // Beyond what parity can tell it says which bytes of the pack are lost.
    for drive in &world.drives[..3] {
        drive.with(|files| files.retain(|file, _| !file.contains(&name)));
    }
    let (vault, _) = world.open();
    let lost = kept.ranges().filter_map(|range| match read(&vault, id(&packs[0]), &range) {
        Err(ReadError::Lost { ranges, .. }) => Some((range, ranges)),
        _ => None,
    });
    for (range, lost) in lost {
        assert!(lost.iter().all(|lost| range.start as u64 <= lost.start && lost.end <= range.end as u64), "{lost:?}");
    }
    assert!(vault.examine(remnant.id, Depth::Bytes).is_ok_and(|health| !health.restorable));
}

#[test]
fn a_drive_that_was_away_gives_up_what_went_and_no_pack_gets_fewer_shards() {
    let mut world = World::new(6);
    let (vault, depositor, packs) = filled(&mut world, 16);
    let bytes = release(&vault, &[], &[(&packs[0], &stays(&[1, 14, 1]))], &[depositor]);
    drop(vault);
    let mut drives = world.boxed();
    drives[2] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    vault.deposit_release(&bytes).unwrap();
    settle(&mut vault);
    assert_eq!(vault.open_releases()[0].standing, Some(Standing::Followed));
    is_thinned(&vault, &packs[0], &stays(&[1, 14, 1]));
    drop(vault);
    let (mut vault, _) = world.open();
    settle(&mut vault);
    let named = format!("{}.", id(&packs[0]));
    assert!(world.drives.iter().all(|d| d.shard_files().iter().all(|name| !name.contains(&named))));
    assert!(vault.open_releases().is_empty());
    is_thinned(&vault, &packs[0], &stays(&[1, 14, 1]));
}

#[test]
fn a_crash_at_any_operation_leaves_the_pack_whole_or_its_remnant_whole() {
    let mut world = World::new(6);
    let (mut vault, depositor, packs) = filled(&mut world, 4);
    let kept = stays(&[1, 2, 1]);
    // A pack that is thinned, and one that is thinned once more.
    let more = stays(&[1, 1, 2]);
    vault.deposit_release(&release(&vault, &[], &[(&packs[1], &more)], &[depositor])).unwrap();
    settle(&mut vault);
    let bytes = release(&vault, &[], &[(&packs[0], &kept), (&packs[1], &kept)], &[depositor]);
    drop(vault);
    let before = world.images();
    let (mut vault, _) = world.open();
    world.power.lock().unwrap().used = 0;
    vault.deposit_release(&bytes).unwrap();
    let operations = world.power.lock().unwrap().used;
    is_thinned(&vault, &packs[0], &kept);
    drop(vault);
    assert!(operations > 60, "{operations}");
    let (mut undone, mut done) = (0, 0);
    for at in 0..=operations {
        for (crash, lose) in [(Crash::None, false), (Crash::All, false), (Crash::Random, false), (Crash::Random, true)]
        {
            let receipt = world.cut(&before, at, crash, |vault| vault.deposit_release(&bytes).ok());
            if lose {
                world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal"))));
            }
            let what = format!("operation {at}, {crash:?}, journals lost: {lose}");
            let (mut vault, _) = world.open();
            // Before anything is written it can be read.
            for pack in &packs {
                for range in kept.ranges() {
                    assert!(is_right(&vault, pack, &range), "{what}");
                }
            }
            settle(&mut vault);
            // What is left of one that was not stored wholly is none.
            let here = world::read(&vault, &bytes) == Ok(());
            assert!(here || receipt.is_none(), "{what}: a receipt means that it is in the log");
            if here {
                is_thinned(&vault, &packs[0], &kept);
                assert!(vault.open_releases().is_empty(), "{what}");
                done += 1;
            } else {
                assert_eq!(world::read(&vault, &packs[0]), Ok(()), "{what}");
                is_thinned(&vault, &packs[1], &more);
                undone += 1;
            }
            // Carried on with, it ends the same way, and nothing is left of what went.
            vault.deposit_release(&bytes).unwrap();
            settle(&mut vault);
            packs.iter().for_each(|pack| is_thinned(&vault, pack, &kept));
            let remnants = vault.objects_of(ObjectKind::Remnant).count();
            assert_eq!(remnants, 2, "{what}");
            assert!(vault.objects().all(|o| o.kind != ObjectKind::Pack), "{what}");
        }
    }
    assert!(done > 10 && undone > 10, "{done} done, {undone} undone");
}

/// What is to be there of a pack: `None` when it was freed wholly.
type Model = Vec<(Vec<u8>, Option<Stays>)>;

/// Some blocks of a pack, by chance.
fn some(world: &mut World, pack: &[u8]) -> Stays {
    let blocks = (0..pack.len() / BLOCK).filter(|_| world.chance.below(2) == 0).map(|b| b * BLOCK..b * BLOCK + 1);
    Stays::touching(pack.len(), blocks.collect::<Vec<_>>()).unwrap()
}

/// A release that chance makes, and what is to be there then; `None` when it would free nothing.
fn chosen(world: &mut World, vault: &Vault, depositor: DepositorId, model: &Model) -> Option<(Vec<u8>, Model)> {
    let (mut after, mut all, mut thins) = (model.clone(), Vec::new(), Vec::new());
    for (pack, kept) in after.iter_mut().filter(|(_, kept)| kept.is_some()) {
        match world.chance.below(6) {
            0 => {
                all.push(pack.clone());
                *kept = None;
            }
            1..4 => {
                let stays = some(world, pack);
                *kept = kept.as_ref().and_then(|kept| kept.and(&stays));
                thins.extend((!stays.is_whole()).then(|| (pack.clone(), stays)));
            }
            _ => {}
        }
    }
    all.sort_by_key(|pack| id(pack));
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    let some: Vec<(&[u8], &Stays)> = thins.iter().map(|(pack, stays)| (pack.as_slice(), stays)).collect();
    (all.len() + some.len() > 0).then(|| (release(vault, &all, &some, &[depositor]), after))
}

/// Whether all is as it should be, and when nothing is open, whether nothing is left on the drives of packs that went.
fn fits(world: &World, vault: &Vault, model: &Model, what: &str) {
    for (pack, kept) in model {
        match kept {
            None => assert!(vault.is_released(id(pack)) && !vault.contains(id(pack)), "{what}"),
            // What cannot be rewritten now is there still.
            Some(kept) if !vault.open_releases().is_empty() => {
                assert!(kept.ranges().all(|range| is_right(vault, pack, &range)), "{what}");
            }
            Some(kept) if kept.is_whole() => assert_eq!(world::read(vault, pack), Ok(()), "{what}"),
            Some(kept) => {
                assert!(vault.is_thinned(id(pack)), "{what}");
                assert!(kept.ranges().all(|range| is_right(vault, pack, &range)), "{what}");
                let refused = |gone| matches!(read(vault, id(pack), &gone), Err(ReadError::Freed { .. }));
                assert!(kept.gone().all(refused), "{what}");
            }
        }
    }
    if vault.open_releases().is_empty() {
        let went = model.iter().filter(|(_, kept)| kept.as_ref().is_none_or(|kept| !kept.is_whole()));
        let went: Vec<String> = went.map(|(pack, _)| id(pack).to_string()).collect();
        for name in world.drives.iter().flat_map(|drive| drive.shard_files()) {
            assert!(!went.iter().any(|id| name.contains(id.as_str())), "{what}: {name} is left");
        }
    }
}

/// Hands a release over while the power fails, sooner or later or not at all.
fn cut(world: &mut World, mut vault: Vault, release: &[u8]) -> Vault {
    world.power.lock().unwrap().left = world.chance.below(200);
    let _ = vault.deposit_release(release);
    drop(vault);
    let mut chance = world.chance.clone();
    world.drives.iter().for_each(|drive| drive.lose_power(Crash::Random, &mut chance));
    world.chance = chance;
    world.power.lock().unwrap().left = usize::MAX;
    world.open().0
}

#[test]
fn whatever_comes_in_whatever_order_what_stays_is_there_and_nothing_else() {
    for seed in 1..=6u64 {
        let mut world = World::new(6);
        world.chance = world::Chance(seed * 7919);
        let mut vault = world.create(4, 2);
        let signer = PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap();
        vault.deposit_card(&world::card(&signer, &world::authority())).unwrap();
        let depositor = depositor_id(&signer.public());
        let (mut model, mut sequence, mut previous): (Model, u64, _) = (Vec::new(), 0, None);
        for step in 0..40 {
            let what = format!("seed {seed}, step {step}");
            match world.chance.below(5) {
                0 | 1 => {
                    let blocks = 4 << world.chance.below(2);
                    let pack = world.chance.bytes(blocks * BLOCK);
                    world::keep(&mut vault, &pack);
                    sequence += 1;
                    let leaves = world::leaves(&[&pack]);
                    let session = SessionId([u8::try_from(sequence).unwrap(); 16]);
                    let releases = vault.releases();
                    let manifest = world::manifest(&signer, leaves);
                    let bytes = world::signed(Manifest { session, sequence, previous, releases, ..manifest }, &signer);
                    vault.deposit_manifest(&bytes).unwrap();
                    previous = Some(id(&bytes));
                    let all = Stays::all(pack.len());
                    model.push((pack, all));
                }
                2 => {
                    // Opened anew, by the shards alone at times, or while a drive is away.
                    drop(vault);
                    let mut drives = world.boxed();
                    match world.chance.below(3) {
                        0 => world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal")))),
                        1 => drives[world.chance.below(6)] = None,
                        _ => {}
                    }
                    vault = world::open(drives, Some(world::signer())).unwrap().0;
                    fits(&world, &vault, &model, &what);
                    world::admit(&mut vault);
                    settle(&mut vault);
                }
                _ => {
                    let Some((bytes, after)) = chosen(&mut world, &vault, depositor, &model) else { continue };
                    if world.chance.below(2) == 0 {
                        vault.deposit_release(&bytes).unwrap();
                    } else {
                        vault = cut(&mut world, vault, &bytes);
                    }
                    settle(&mut vault);
                    if world::read(&vault, &bytes) == Ok(()) {
                        model = after;
                    }
                }
            }
            let is_done = vault.open_releases().is_empty();
            let is_well = vault.status().drives.iter().all(lavatube_vault::DriveStatus::is_well);
            assert!(is_done || !is_well, "{what}: {:?}", vault.open_releases());
            fits(&world, &vault, &model, &what);
        }
        drop(vault);
        let (mut vault, _) = world.open();
        world::admit(&mut vault);
        settle(&mut vault);
        assert!(vault.open_releases().is_empty(), "seed {seed}: {:?}", vault.open_releases());
        for object in vault.objects().collect::<Vec<_>>() {
            vault.mend(object.id).unwrap();
            assert!(vault.examine(object.id, Depth::Bytes).unwrap().is_whole(), "seed {seed}");
        }
        fits(&world, &vault, &model, &format!("seed {seed}, at the end"));
    }
}
