//! Encoding and rebuilding, against the naive twin and against golden bytes.
//!
//! Why: "any `k` shards suffice" is the promise everything else in the vault leans on, so small
//! shapes are tried exhaustively and large ones at random. What it must not know: engines; that all
//! of them compute the same is tested beside them.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::naive;

/// A source of bytes that a seed repeats (splitmix64).
pub(crate) fn noise(mut seed: u64) -> impl FnMut(usize) -> Vec<u8> {
    move |len| {
        let byte = |_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed.wrapping_mul(0x94d0_49bb_1331_11eb) >> 56) as u8
        };
        (0..len).map(byte).collect()
    }
}

/// All `k + m` shards of random data.
pub(crate) fn stripe(code: &Code, len: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut noise = noise(seed);
    let mut shards: Vec<Vec<u8>> = (0..code.k()).map(|_| noise(len)).collect();
    let mut parity: Vec<Vec<u8>> = (0..code.m()).map(|_| noise(len)).collect();
    let data: Vec<&[u8]> = shards.iter().map(|shard| &shard[..]).collect();
    let mut out: Vec<&mut [u8]> = parity.iter_mut().map(|shard| &mut shard[..]).collect();
    code.encode(&data, &mut out);
    shards.extend(parity);
    shards
}

/// Rebuilds `want` from `have`, both shard numbers of the stripe, and compares.
fn rebuilds(code: &Code, stripe: &[Vec<u8>], have: &[usize], want: &[usize]) {
    let have: Vec<(usize, &[u8])> = have.iter().map(|&shard| (shard, &stripe[shard][..])).collect();
    let mut buffers = vec![vec![0xee; stripe[0].len()]; want.len()];
    let mut out: Vec<(usize, &mut [u8])> =
        want.iter().zip(&mut buffers).map(|(&shard, buffer)| (shard, &mut buffer[..])).collect();
    code.rebuild(&have, &mut out).expect("k shards suffice");
    for (&shard, buffer) in want.iter().zip(&buffers) {
        assert!(*buffer == stripe[shard], "shard {shard} from {have:?}");
    }
}

/// Shapes that exist, the edges among them.
pub(crate) fn shape() -> impl Strategy<Value = (usize, usize)> {
    let known = vec![(4, 2), (10, 4), (20, 8), (64, 16), (17, 3), (1, 254), (255, 0), (254, 1), (127, 128)];
    prop_oneof![select(known), (1usize..40, 0usize..20)]
}

#[test]
fn golden_parity_never_changes() {
    for (k, m, golden) in GOLDEN {
        let code = Code::new(k, m).expect("shape");
        let byte = |shard: usize, i: usize| ((shard * 31 + i * 7) & 0xff) as u8;
        let data: Vec<Vec<u8>> = (0..k).map(|j| (0..16).map(|i| byte(j, i)).collect()).collect();
        let views: Vec<&[u8]> = data.iter().map(|shard| &shard[..]).collect();
        let mut parity = vec![vec![0; 16]; m];
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(|shard| &mut shard[..]).collect();
        code.encode(&views, &mut out);
        let hex = |shard: &Vec<u8>| shard.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(parity.iter().map(hex).collect::<Vec<_>>(), golden, "{k}+{m}");
        assert_eq!(parity, naive::encode(m, &data), "{k}+{m}");
    }
}

#[test]
fn any_k_shards_rebuild_all_others_in_every_small_code() {
    for (k, m) in (1..=7).flat_map(|k| (0..=7 - k).map(move |m| (k, m))) {
        let code = Code::new(k, m).expect("shape");
        let stripe = stripe(&code, 37, (k * 8 + m) as u64);
        assert_eq!(stripe[k..], naive::encode(m, &stripe[..k]), "{k}+{m}");
        for mask in 0..1u32 << (k + m) {
            let (have, lost): (Vec<usize>, Vec<usize>) = (0..k + m).partition(|s| mask >> s & 1 == 1);
            if have.len() < k {
                continue;
            }
            rebuilds(&code, &stripe, &have, &lost);
            if have.len() == k {
                let have: Vec<_> = have.iter().map(|&s| (s, stripe[s].clone())).collect();
                assert_eq!(naive::decode(k, m, &have), stripe[..k], "naive from {mask:b}");
            }
        }
    }
}

#[test]
fn odd_lengths_encode_as_the_naive_twin_does_and_rebuild() {
    for len in [0, 1, 31, 33, 63, 64, 65, 127, 129, 4097, 8191, 8193, 16385] {
        for (k, m) in [(4, 2), (10, 4), (9, 5)] {
            let code = Code::new(k, m).expect("shape");
            let stripe = stripe(&code, len, len as u64);
            assert!(stripe[k..] == naive::encode(m, &stripe[..k]), "{k}+{m}, {len} bytes");
            let lost: Vec<usize> = (0..m).collect();
            let have: Vec<usize> = (m..k + m).rev().collect();
            rebuilds(&code, &stripe, &have, &lost);
        }
    }
}

#[test]
fn shards_that_are_there_may_be_wanted_too() {
    let code = Code::new(3, 2).expect("shape");
    rebuilds(&code, &stripe(&code, 100, 1), &[4, 3, 1, 0], &[0, 2, 4, 2]);
}

#[test]
fn dropping_the_last_parity_rows_leaves_the_others_valid() {
    let (wide, narrow) = (Code::new(20, 8).expect("shape"), Code::new(20, 5).expect("shape"));
    assert_eq!(stripe(&wide, 50, 1)[..25], stripe(&narrow, 50, 1));
}

#[test]
fn shapes_that_no_code_has_are_refused() {
    for (k, m) in [(0, 0), (0, 2), (256, 0), (200, 56), (1, 255), (1, usize::MAX), (usize::MAX, 1)] {
        assert_eq!(Code::new(k, m), Err(CodeError::Shape { k, m }));
    }
}

#[test]
fn rebuild_names_what_is_wrong_and_writes_nothing() {
    let code = Code::new(2, 2).expect("shape");
    let a = [1; 8];
    let refuse = |have: &[(usize, &[u8])], want: usize, error: CodeError| {
        let mut out = [7; 8];
        assert_eq!(code.rebuild(have, &mut [(want, &mut out)]), Err(error));
        assert_eq!(out, [7; 8]);
    };
    refuse(&[(1, &a)], 0, CodeError::Shortfall { need: 2, have: 1 });
    refuse(&[], 0, CodeError::Shortfall { need: 2, have: 0 });
    refuse(&[(1, &a), (2, &a), (1, &a)], 0, CodeError::Repeated { shard: 1 });
    refuse(&[(1, &a), (4, &a)], 0, CodeError::NoSuchShard { shard: 4 });
    refuse(&[(1, &a), (3, &a)], 9, CodeError::NoSuchShard { shard: 9 });
    refuse(&[(1, &a), (3, &a[..5])], 0, CodeError::Length { shard: 3, bytes: 5, expected: 8 });
    refuse(&[(1, &a[..5]), (3, &a[..5])], 0, CodeError::Length { shard: 0, bytes: 8, expected: 5 });
}

#[test]
#[should_panic(expected = "data shards")]
fn encode_stops_at_a_missing_shard() {
    Code::new(3, 0).expect("shape").encode(&[&[1], &[2]], &mut []);
}

#[test]
#[should_panic(expected = "outputs as long as inputs")]
fn encode_stops_at_unequal_lengths() {
    Code::new(1, 1).expect("shape").encode(&[&[1, 2]], &mut [&mut [0]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn encoding_agrees_with_the_naive_twin((k, m) in shape(), len in 0usize..400, seed in any::<u64>()) {
        let code = Code::new(k, m).expect("shape");
        let stripe = stripe(&code, len, seed);
        prop_assert!(stripe[k..] == naive::encode(m, &stripe[..k]));
    }

    #[test]
    fn any_k_shards_in_any_order_rebuild_all_others(
        ((k, m), have) in shape().prop_flat_map(|(k, m)| {
            let some = subsequence((0..k + m).collect::<Vec<_>>(), k..=k + m).prop_shuffle();
            (Just((k, m)), some)
        }),
        len in select(vec![0, 1, 31, 33, 200, 4097]),
        seed in any::<u64>(),
    ) {
        let code = Code::new(k, m).expect("shape");
        let lost: Vec<usize> = (0..k + m).filter(|shard| !have.contains(shard)).collect();
        rebuilds(&code, &stripe(&code, len, seed), &have, &lost);
    }
}

/// `(k, m, parity)` for data byte `i` of shard `j` = `(31 j + 7 i) mod 256`, 16 bytes; made by the
/// Python in the crate's documentation.
const GOLDEN: [(usize, usize, &[&str]); 2] = [
    (4, 2, &["7c00040004808c808c8004000400fc80", "61f94fa4e6bdf432e61a2eff8722ed1e"]),
    (
        10,
        4,
        &[
            "17e12b212fa16b6177615b213f21dbe1",
            "64e33e88ca7d1c042dcd2b05b71ba2aa",
            "17b88bb6a356bb9947eedf9c6fde9cde",
            "87fb4cf81e9bce062de9462af677f527",
        ],
    ),
];
