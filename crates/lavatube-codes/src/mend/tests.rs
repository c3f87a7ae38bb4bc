//! Mending: what is promised is mended, what cannot be is left and said, what is sound is not
//! touched.
//!
//! Why: this runs when a row is otherwise lost, so nobody can check it then. What it must not know:
//! how the columns are solved.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::code::tests::stripe;

/// Every shard a suspect, except those absent.
fn suspects<'a>(shards: &'a mut [Vec<u8>], absent: &[usize]) -> Vec<Block<'a>> {
    let block = |(shard, bytes): (usize, &'a mut Vec<u8>)| match absent.contains(&shard) {
        true => Block::Absent,
        false => Block::Suspect(bytes),
    };
    shards.iter_mut().enumerate().map(block).collect()
}

fn code(k: usize, m: usize) -> Code {
    Code::new(k, m).expect("shape")
}

/// A whole row with its parity at fault in no column.
fn satisfies(code: &Code, shards: &[Vec<u8>]) -> bool {
    let mut blocks: Vec<Block> = shards.iter().map(|shard| Block::Sound(shard)).collect();
    code.mend(&mut blocks).expect("a row").is_consistent()
}

#[test]
fn one_flipped_byte_in_every_shard_of_a_4_2_row_is_mended() {
    let code = code(4, 2);
    let good = stripe(&code, 40_000, 1);
    let mut bad = good.clone();
    let flips = [(0, 5), (5, 6), (1, 700), (3, 16_383), (2, 16_384), (4, 39_999)];
    for (shard, column) in flips {
        bad[shard][column] ^= 0x10;
    }
    let mended = code.mend(&mut suspects(&mut bad, &[])).expect("a row");
    assert_eq!(mended, Mended { changed: flips.to_vec(), unsolved: 0 });
    assert!(bad == good);
}

#[test]
fn every_position_and_value_of_one_error_is_found() {
    for (k, m, absent) in [(4, 2, vec![]), (3, 3, vec![1]), (3, 3, vec![4]), (1, 2, vec![])] {
        let code = code(k, m);
        let good = stripe(&code, 255, 7);
        for shard in (0..k + m).filter(|shard| !absent.contains(shard)) {
            let mut bad = good.clone();
            (1..=255).zip(&mut bad[shard]).for_each(|(error, byte)| *byte ^= error);
            let mended = code.mend(&mut suspects(&mut bad, &absent)).expect("a row");
            assert!(mended.is_consistent() && mended.changed.len() == 255, "{k}+{m} shard {shard}");
            assert!(bad == good, "{k}+{m} shard {shard}");
        }
    }
}

#[test]
fn what_cannot_be_solved_is_left_and_counted() {
    // One check is left: it shows that something is wrong, not where.
    let code = code(4, 2);
    let mut bad = stripe(&code, 100, 3);
    bad[2][50] ^= 1;
    bad[0][51] ^= 1;
    let before = bad.clone();
    let mended = code.mend(&mut suspects(&mut bad, &[1])).expect("a row");
    assert_eq!(mended, Mended { changed: vec![], unsolved: 2 });
    assert!(bad == before);
}

#[test]
fn a_row_with_no_check_left_is_not_judged() {
    let code = code(4, 2);
    let mut bad = stripe(&code, 100, 3);
    bad[2][50] ^= 1;
    let mended = code.mend(&mut suspects(&mut bad, &[0, 5])).expect("a row");
    assert_eq!(mended, Mended::default());
}

#[test]
fn a_clean_or_empty_row_is_not_changed() {
    for len in [0, 1, 31, 20_000] {
        let code = code(10, 4);
        let mut shards = stripe(&code, len, 9);
        let mended = code.mend(&mut suspects(&mut shards, &[])).expect("a row");
        assert_eq!(mended, Mended::default());
    }
}

#[test]
fn sound_blocks_are_never_blamed() {
    // The true culprit is called sound: nobody else alone can explain the column.
    let code = code(4, 2);
    let mut shards = stripe(&code, 64, 4);
    shards[2][9] ^= 0x55;
    let lied = shards[2].clone();
    let mut blocks = suspects(&mut shards, &[]);
    blocks[2] = Block::Sound(&lied);
    let mended = code.mend(&mut blocks).expect("a row");
    assert_eq!(mended, Mended { changed: vec![], unsolved: 1 });
}

#[test]
fn misfitting_rows_are_refused() {
    let code = code(2, 1);
    let (mut a, mut b) = ([1; 8], [2; 7]);
    let few = code.mend(&mut [Block::Sound(&[1]), Block::Sound(&[1])]);
    assert_eq!(few, Err(CodeError::BlockCount { need: 3, have: 2 }));
    let lost = code.mend(&mut [Block::Absent, Block::Sound(&[1]), Block::Absent]);
    assert_eq!(lost, Err(CodeError::Shortfall { need: 2, have: 1 }));
    let unequal = code.mend(&mut [Block::Absent, Block::Suspect(&mut a), Block::Suspect(&mut b)]);
    assert_eq!(unequal, Err(CodeError::Length { shard: 2, bytes: 7, expected: 8 }));
}

/// A shape, the shards absent from it, and for some columns which two shards are wrong by how much.
type Damage = (usize, usize, Vec<usize>, Vec<(usize, Vec<usize>, u8)>);

fn damage() -> impl Strategy<Value = Damage> {
    select(vec![(4, 2), (4, 3), (10, 4), (20, 8), (64, 16), (3, 5)])
        .prop_flat_map(|(k, m)| (Just((k, m)), subsequence((0..k + m).collect::<Vec<_>>(), 0..=m)))
        .prop_flat_map(|((k, m), absent)| {
            let there: Vec<usize> = (0..k + m).filter(|shard| !absent.contains(shard)).collect();
            let most = ((m - absent.len()) / 2).min(UNKNOWNS_MAX);
            let wrong = (0..LEN, subsequence(there, 0..=most), 1..=255u8);
            (Just(k), Just(m), Just(absent), prop::collection::vec(wrong, 0..20))
        })
        .prop_map(|(k, m, absent, mut wrong)| {
            wrong.sort_by_key(|(column, ..)| *column);
            wrong.dedup_by_key(|(column, ..)| *column);
            (k, m, absent, wrong)
        })
}

const LEN: usize = 300;

proptest! {
    #[test]
    fn errors_within_reach_are_mended_exactly((k, m, absent, wrong) in damage(), seed in any::<u64>()) {
        let code = code(k, m);
        let good = stripe(&code, LEN, seed);
        let mut bad = good.clone();
        let mut injected = Vec::new();
        for (column, shards, error) in wrong {
            for (nth, shard) in shards.into_iter().enumerate() {
                bad[shard][column] ^= error.rotate_left(nth as u32);
                injected.push((shard, column));
            }
        }
        let mended = code.mend(&mut suspects(&mut bad, &absent)).expect("a row");
        prop_assert_eq!(mended, Mended { changed: injected, unsolved: 0 });
        prop_assert!(bad == good);
    }

    #[test]
    fn rubbish_never_panics_and_the_answer_is_true(
        (k, m) in select(vec![(4, 2), (2, 5), (6, 1), (5, 0)]),
        columns in prop::collection::vec(any::<[u8; 7]>(), 1..50),
    ) {
        let code = code(k, m);
        let mut shards: Vec<Vec<u8>> =
            (0..k + m).map(|shard| columns.iter().map(|column| column[shard]).collect()).collect();
        let mended = code.mend(&mut suspects(&mut shards, &[])).expect("a row");
        prop_assert_eq!(mended.is_consistent(), satisfies(&code, &shards));
    }
}
