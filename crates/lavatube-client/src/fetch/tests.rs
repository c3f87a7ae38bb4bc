use super::*;
use crate::memory::{World, noise};
use lavatube_format::tree::Ref;

fn get(world: &World, r: &Ref) -> Result<Vec<u8>, FetchError> {
    world.reading(|fetcher| fetcher.chunk(&r.id, Some(r.len)).map(|o| o.content().to_vec()))
}

#[test]
fn a_chunk_comes_back_whether_its_length_is_known_or_not() {
    let mut world = World::new();
    let mut w = world.session();
    let refs: Vec<Ref> = (0..40).map(|i| w.chunk(&noise(i, 5000))).collect();
    w.finish();
    world.reading(|fetcher| {
        for (i, r) in refs.iter().enumerate() {
            assert_eq!(fetcher.chunk(&r.id, Some(r.len)).unwrap().content(), noise(i as u64, 5000));
            assert_eq!(fetcher.chunk(&r.id, None).unwrap().content(), noise(i as u64, 5000));
        }
        assert!(fetcher.chunk(&refs[0].id, Some(4999)).is_err());
        assert!(fetcher.chunk(&refs[39].id, Some(6000)).is_err());
    });
}

#[test]
fn an_unknown_chunk_is_named() {
    let world = World::new();
    let id = ChunkId([0xab; 24]);
    let error = world.reading(|fetcher| fetcher.chunk(&id, None).err()).unwrap();
    assert_eq!((error.chunk, error.cause.clone()), (id, FetchCause::Unknown));
    assert!(error.to_string().starts_with("chunk abababab: "), "{error}");
}

#[test]
fn neighbours_are_read_in_few_large_ranges_when_they_are_expected() {
    let mut world = World::new();
    let mut w = world.session();
    let mut refs = Vec::new();
    for i in 0..40 {
        refs.push(w.chunk(&noise(i, 20_000)));
        w.cut_frame();
    }
    w.finish();
    world.reading(|fetcher| {
        let places: Vec<Place> = refs.iter().map(|r| fetcher.place(&r.id).unwrap()).collect();
        world.fetches();
        fetcher.expect(places);
        for r in &refs {
            fetcher.chunk(&r.id, Some(r.len)).unwrap();
        }
        assert!(world.fetches() <= 2, "800 KB are one range");
    });
}

#[test]
fn nothing_beyond_a_frame_is_read_when_nothing_is_expected() {
    let mut world = World::new();
    let mut w = world.session();
    let refs: Vec<Ref> = (0..40).map(|i| (w.chunk(&noise(i, 20_000)), w.cut_frame()).0).collect();
    w.finish();
    world.reading(|fetcher| {
        let meter = Meter::default();
        let mut fetcher = Fetcher::new(fetcher.archive(), CACHE_BYTES).unwrap().counting(&meter);
        fetcher.chunk(&refs[7].id, Some(20_000)).unwrap();
        assert!(meter.stored_bytes.now() <= 3 * 16_384);
    });
}

#[test]
fn damage_beyond_the_wanted_frame_does_no_harm() {
    let mut world = World::new();
    let mut w = world.session();
    let refs: Vec<Ref> = (0..20).map(|i| (w.chunk(&noise(i, 20_000)), w.cut_frame()).0).collect();
    let pack = w.cut_pack();
    w.finish();
    world.reading(|_| {});
    world.far.packs.lock().unwrap().get_mut(&pack).unwrap()[96 + 16_400 * 6] ^= 1;
    world.reading(|fetcher| {
        let places: Vec<Place> = refs.iter().map(|r| fetcher.place(&r.id).unwrap()).collect();
        fetcher.expect(places);
        let lost: Vec<usize> = (0..20).filter(|i| fetcher.chunk(&refs[*i].id, Some(20_000)).is_err()).collect();
        assert_eq!(lost, [4, 5], "the frames that touch piece 6");
    });
}

#[test]
fn a_difference_is_undone_and_its_id_derived_again() {
    let mut world = World::new();
    let mut w = world.session();
    let (base, mut second) = (noise(1, 50_000), noise(1, 50_000));
    second[100] ^= 1;
    let mut third = second.clone();
    third.extend_from_slice(b"more");
    let base_ref = w.chunk(&base);
    w.cut_pack();
    let second_ref = w.delta(&second, base_ref.id, &base);
    let third_ref = w.delta(&third, second_ref.id, &second);
    w.finish();
    assert_eq!(get(&world, &second_ref).unwrap(), second);
    assert_eq!(get(&world, &third_ref).unwrap(), third);
}

#[test]
fn a_ring_of_differences_ends() {
    let mut world = World::new();
    let mut w = world.session();
    let id = |w: &World, b: &[u8]| w.ids.id(b);
    let (a, b) = (noise(1, 100), noise(2, 100));
    let (a_id, b_id) = {
        let world = World::new();
        (id(&world, &a), id(&world, &b))
    };
    let r = w.delta(&a, b_id, &b);
    w.delta(&b, a_id, &a);
    w.finish();
    assert!(matches!(get(&world, &r).unwrap_err().cause, FetchCause::Damaged(_)));
}

#[test]
fn a_pack_under_another_packs_name_is_refused() {
    let mut world = World::new();
    let mut w = world.session();
    let one = w.chunk(&noise(1, 1000));
    let first = w.cut_pack();
    w.chunk(&noise(2, 1000));
    let second = w.cut_pack();
    w.finish();
    world.reading(|_| {});
    {
        let mut packs = world.far.packs.lock().unwrap();
        let swapped = packs[&second].clone();
        packs.insert(first, swapped);
    }
    let error = get(&world, &one).unwrap_err();
    assert!(matches!(error.cause, FetchCause::Seal(SealError::OtherPack { .. })), "{error}");
    assert_eq!(error.pack, Some(first));
}

#[test]
fn a_lost_pack_is_asked_for_once() {
    let mut world = World::new();
    let mut w = world.session();
    let refs: Vec<Ref> = (0..40).map(|i| w.chunk(&noise(i, 100))).collect();
    let pack = w.cut_pack();
    w.finish();
    world.reading(|_| {});
    world.far.packs.lock().unwrap().remove(&pack);
    world.reading(|fetcher| {
        world.fetches();
        assert!(refs.iter().all(|r| fetcher.chunk(&r.id, Some(r.len)).is_err()));
        assert_eq!(world.fetches(), 1);
    });
}

/// A world with the same chunks in three packs, each of a session of its own, and those packs, the newest first.
fn three_of_each() -> (World, Vec<Ref>, [ObjectId; 3]) {
    let mut world = World::new();
    let mut refs = Vec::new();
    let packs = [3, 2, 1].map(|_| {
        let mut w = world.session();
        refs = (0..40)
            .map(|i| {
                (
                    w.chunk(&noise(i, 3000)),
                    if i % 7 == 0 {
                        w.cut_frame()
                    },
                )
                    .0
            })
            .collect();
        let pack = w.cut_pack();
        w.finish();
        pack
    });
    world.reading(|_| {});
    let [oldest, second, newest] = packs;
    (world, refs, [newest, second, oldest])
}

/// All of them, their lengths known or not.
fn all(world: &World, refs: &[Ref]) -> Result<(), FetchError> {
    world.reading(|fetcher| {
        for (i, r) in refs.iter().enumerate() {
            let content = noise(i as u64, 3000);
            assert_eq!(fetcher.chunk(&r.id, Some(r.len))?.content(), content);
            assert_eq!(fetcher.chunk(&r.id, None)?.content(), content);
        }
        Ok(())
    })
}

#[test]
fn a_chunk_in_several_packs_is_had_while_one_of_them_is_whole() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [Harm; 4] = [
        |pack| pack[3] ^= 1,
        |pack| pack[96 + 16_400] ^= 1,
        |pack| *pack.last_mut().unwrap() ^= 1,
        |pack| (0..pack.len()).step_by(16_400).for_each(|at| pack[at] ^= 1),
    ];
    for (kind, harm) in harms.iter().enumerate() {
        for hurt in 0..7 {
            let (world, refs, packs) = three_of_each();
            for pack in (0..3).filter(|n| hurt >> n & 1 == 1).map(|n| &packs[n]) {
                harm(world.far.packs.lock().unwrap().get_mut(pack).unwrap());
            }
            all(&world, &refs).unwrap_or_else(|e| panic!("harm {kind} to {hurt:b}: {e}"));
        }
    }
}

#[test]
fn what_is_lost_in_all_packs_is_lost_and_the_newest_is_named() {
    let (world, refs, packs) = three_of_each();
    for lost in packs {
        all(&world, &refs).unwrap();
        world.far.packs.lock().unwrap().remove(&lost);
    }
    let error = all(&world, &refs).unwrap_err();
    assert_eq!((error.pack, &error.cause), (Some(packs[0]), &FetchCause::Far(FarError::Absent(packs[0]))));
    assert_eq!(error.cause.fault(), Fault::Lost);
}

#[test]
fn nothing_is_called_lost_while_a_pack_that_has_it_is_away() {
    let (world, refs, packs) = three_of_each();
    world.far.packs.lock().unwrap().remove(&packs[0]);
    world.far.away.lock().unwrap().insert(packs[1]);
    assert!(all(&world, &refs).unwrap_err().cause.is_away());
    world.far.away.lock().unwrap().clear();
    all(&world, &refs).unwrap();
}

#[test]
fn a_chunk_under_anothers_id_does_not_hide_the_right_one() {
    let mut world = World::new();
    let mut w = world.session();
    let right = w.chunk(b"what the id says");
    w.finish();
    let mut w = world.session();
    w.chunk_as(right.id, b"what it does not");
    w.finish();
    assert_eq!(get(&world, &right).unwrap(), b"what the id says");
}

#[test]
fn a_base_is_looked_for_in_all_packs_that_have_it() {
    let mut world = World::new();
    let mut w = world.session();
    let base = noise(1, 50_000);
    let second = [&base[..], b"more"].concat();
    let base_ref = w.chunk(&base);
    w.finish();
    let mut w = world.session();
    w.chunk(&base);
    let lost = w.cut_pack();
    let second_ref = w.delta(&second, base_ref.id, &base);
    w.finish();
    assert_eq!(get(&world, &second_ref).unwrap(), second);
    world.far.packs.lock().unwrap().remove(&lost);
    assert_eq!(get(&world, &second_ref).unwrap(), second);
}
