//! The same promise for every shape of code: any `m` drives, and a flipped byte or bit in whatever is left.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::Verified;
use lavatube_vault::{Depth, ReadError};
use proptest::prelude::*;
use world::{Chance, World, read, store};

const CODES: [(u8, u8); 5] = [(1, 0), (1, 1), (2, 1), (4, 2), (10, 4)];

/// Empties `lost` drives and flips in every shard file left: a byte, or one bit when `bit`.
fn hurt(world: &World, lost: usize, bit: bool, chance: &mut Chance) {
    let mut order: Vec<usize> = (0..world.drives.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, chance.below(i + 1));
    }
    for &d in &order[..lost] {
        world.drives[d].delete_all();
    }
    for &d in &order[lost..] {
        for name in world.drives[d].shard_files() {
            world.drives[d].with(|files| {
                let file = files.get_mut(&name).unwrap();
                let at = chance.below(file.len());
                let error = if bit { 1 << chance.below(8) } else { 1 + chance.below(255) };
                file[at] ^= u8::try_from(error).unwrap();
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_but_one_of_the_losses_promised_and_a_flipped_byte_in_every_file_left(
        seed in 1u64.., len in 1usize..400_000, code in 1usize..5,
    ) {
        let (k, m) = CODES[code];
        let mut chance = Chance(seed);
        let world = World::new(usize::from(k + m));
        let mut vault = world.create(k, m);
        let object = chance.bytes(len);
        store(&mut vault, &object);
        let images = world.images();
        hurt(&world, usize::from(m) - 1, false, &mut chance);
        let (mut vault, _) = world.open();
        prop_assert_eq!(read(&vault, &object), Ok(()));
        (0..usize::from(k + m)).for_each(|slot| vault.readopt(slot, None).unwrap());
        vault.mend(Verified::hash(&object).id()).unwrap();
        prop_assert_eq!(world.images(), images);
    }

    #[test]
    fn all_the_losses_promised_and_a_flipped_bit_in_every_file_left(
        seed in 1u64.., len in 1usize..6_000, code in 0usize..5,
    ) {
        let (k, m) = CODES[code];
        let mut chance = Chance(seed);
        let world = World::new(usize::from(k + m));
        let mut vault = world.create(k, m);
        let object = chance.bytes(len);
        store(&mut vault, &object);
        // With one drive and no parity its journal and card are all there is.
        hurt(&world, usize::from(m), true, &mut chance);
        let (vault, _) = world.open();
        prop_assert_eq!(read(&vault, &object), Ok(()));
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn whatever_is_overwritten_is_read_rightly_or_named_as_lost(
        seed in 1u64.., len in 1usize..120_000, code in 0usize..5, runs in 1usize..12,
    ) {
        let (k, m) = CODES[code];
        let mut chance = Chance(seed);
        let world = World::new(usize::from(k + m));
        let mut vault = world.create(k, m);
        let object = chance.bytes(len);
        let id = Verified::hash(&object).id();
        store(&mut vault, &object);
        for _ in 0..runs {
            let drive = &world.drives[chance.below(world.drives.len())];
            let name = drive.shard_files().remove(0);
            drive.with(|files| {
                let file = files.get_mut(&name).unwrap();
                let at = chance.below(file.len());
                let to = (at + 100 + chance.below(40_000)).min(file.len());
                let noise = chance.bytes(to - at);
                file[at..to].copy_from_slice(&noise);
            });
        }
        let (mut vault, _) = world.open();
        let health = vault.examine(id, Depth::Bytes).unwrap();
        let mut out = Vec::new();
        match vault.read(id, 0..len as u64, &mut out) {
            Ok(_) => {
                prop_assert!(health.restorable && out == object);
                vault.mend(id).unwrap();
                prop_assert!(vault.examine(id, Depth::Bytes).unwrap().is_whole());
            }
            Err(ReadError::Lost { ranges, .. }) => {
                prop_assert!(!health.restorable);
                prop_assert_eq!(&ranges, &health.lost);
                // Everything between the lost ranges is there, and right.
                let mut from = 0;
                for range in ranges.iter().cloned().chain(std::iter::once(len as u64..len as u64)) {
                    out.clear();
                    vault.read(id, from..range.start, &mut out).unwrap();
                    prop_assert!(out == object[from as usize..range.start as usize]);
                    prop_assert!(range.is_empty() || vault.read(id, range.clone(), &mut out).is_err());
                    from = range.end;
                }
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
