//! The oracle, the properties and the golden vector of the chunker.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const SMALL: ChunkSizes = ChunkSizes { min: 64, mean: 700, max: 2_000 };

/// The rule as the module's opening states it, one position at a time, in plain arithmetic.
fn naive_cuts(secret: &[u8; 32], sizes: ChunkSizes, stream: &[u8]) -> Vec<usize> {
    let mut keys = [0u8; 80];
    blake3::Hasher::new_derive_key(KEY_CONTEXT).update(secret).finalize_xof().fill(&mut keys);
    let word = |bytes: &[u8], i: usize| u128::from(u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap()));
    let two_64 = 1u128 << 64;
    let bar = u64::MAX / (2 * (sizes.mean - sizes.min) / 65).max(1) as u64;
    let (mut start, mut cuts) = (0, Vec::new());
    while start < stream.len() {
        let rest = &stream[start..];
        let mut p = sizes.min;
        let length = loop {
            if p >= sizes.max || p > rest.len() {
                break rest.len().min(sizes.max);
            }
            let window = &rest[p - 64..p];
            let mut nh = 0u128;
            for i in [0, 2, 4, 6] {
                let left = (word(window, i) + word(&keys[16..], i)) % two_64;
                let right = (word(window, i + 1) + word(&keys[16..], i + 1)) % two_64;
                nh = nh.wrapping_add(left * right);
            }
            let mut out = nh.to_le_bytes().into();
            Aes128::new_from_slice(&keys[..16]).unwrap().encrypt_block(&mut out);
            if u64::from_le_bytes(out[..8].try_into().unwrap()) < bar {
                break p;
            }
            p += 1 + usize::from(out[8]) % 64;
        };
        start += length;
        cuts.push(length);
    }
    cuts
}

/// Cuts the whole stream, showing the chunker `arrivals[i]` more bytes each time it asks.
fn cuts(secret: &[u8; 32], sizes: ChunkSizes, stream: &[u8], arrivals: &[usize]) -> Vec<usize> {
    let mut chunker = Chunker::new(&ChunkerKey::from_secret(secret), sizes);
    let mut arrivals = arrivals.iter().copied().chain(std::iter::repeat(usize::MAX));
    let (mut start, mut shown, mut cuts) = (0, 0, Vec::new());
    loop {
        let eof = shown == stream.len();
        match chunker.cut(&stream[start..shown], eof) {
            Some(length) => {
                start += length;
                cuts.push(length);
            }
            None if eof => return cuts,
            None => shown = shown.saturating_add(arrivals.next().unwrap()).min(stream.len()),
        }
    }
}

fn noise(label: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn digests(stream: &[u8], cuts: &[usize]) -> HashSet<blake3::Hash> {
    let mut rest = stream;
    let mut chunk = |&len: &usize| {
        let (head, tail) = rest.split_at(len);
        rest = tail;
        blake3::hash(head)
    };
    cuts.iter().map(&mut chunk).collect()
}

proptest! {
    #[test]
    fn the_fast_chunker_agrees_with_the_naive_one_however_the_bytes_arrive(
        secret: [u8; 32],
        stream in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12_000),
            prop::collection::vec(0u8..2, 0..12_000),
            (any::<u8>(), 0usize..12_000).prop_map(|(byte, len)| vec![byte; len]),
        ],
        arrivals in prop::collection::vec(0usize..3_000, 0..40),
        sizes in (64usize..300, 1usize..1_500, 1usize..3_000)
            .prop_map(|(min, mean, max)| ChunkSizes { min, mean: min + mean, max: min + mean + max }),
    ) {
        let expected = naive_cuts(&secret, sizes, &stream);
        prop_assert_eq!(&cuts(&secret, sizes, &stream, &[]), &expected);
        prop_assert_eq!(&cuts(&secret, sizes, &stream, &arrivals), &expected);
        prop_assert_eq!(expected.iter().sum::<usize>(), stream.len());
        prop_assert!(expected.iter().all(|&len| 0 < len && len <= sizes.max));
        prop_assert!(expected.iter().rev().skip(1).all(|&len| len >= sizes.min));
    }

    #[test]
    fn an_edit_spoils_only_chunks_near_it(seed: u64, at in 0usize..200_000, cut_out in 0usize..500, put_in in 0usize..500) {
        let before = noise(&seed.to_string(), 200_000);
        let tail = (at + cut_out).min(before.len());
        let after = [&before[..at], &noise("edit", put_in), &before[tail..]].concat();
        let known = digests(&before, &cuts(&[7; 32], SMALL, &before, &[]));
        let new = digests(&after, &cuts(&[7; 32], SMALL, &after, &[]));
        prop_assert!(new.difference(&known).count() <= 60, "{} of {}", new.difference(&known).count(), new.len());
    }
}

#[test]
fn one_inserted_byte_costs_a_few_chunks_at_default_sizes() {
    let before = noise("before", 8 << 20);
    let after = [&before[..1 << 20], b"!", &before[1 << 20..]].concat();
    let sizes = ChunkSizes::DEFAULT;
    let known = digests(&before, &cuts(&[7; 32], sizes, &before, &[]));
    let new = digests(&after, &cuts(&[7; 32], sizes, &after, &[]));
    assert!(new.difference(&known).count() <= 6, "{}", new.difference(&known).count());
}

#[test]
fn the_mean_length_is_the_one_asked_for() {
    let stream = noise("mean", 64 << 20);
    let cuts = cuts(&[9; 32], ChunkSizes::DEFAULT, &stream, &[]);
    let mean = stream.len() / cuts.len();
    assert!(mean.abs_diff(ChunkSizes::DEFAULT.mean) < 1 << 10, "{mean}");
}

#[test]
fn different_keys_share_no_more_cuts_than_chance() {
    let stream = noise("keys", 4 << 20);
    let ends = |secret| {
        let ends = cuts(&[secret; 32], ChunkSizes::DEFAULT, &stream, &[]).into_iter().scan(0, |end, len| {
            *end += len;
            Some(*end)
        });
        ends.collect::<HashSet<usize>>()
    };
    assert!(ends(1).intersection(&ends(2)).count() <= 2, "the end of the stream, and once in a while a chance hit");
}

#[test]
fn a_pending_chunk_is_not_examined_again() {
    let mut chunker = Chunker::new(&ChunkerKey::from_secret(&[1; 32]), ChunkSizes::DEFAULT);
    assert_eq!(chunker.cut(&[0; 10_000], false), None, "zeros cut only at max");
    assert!(chunker.next > 10_000);
    chunker.reset();
    assert_eq!(chunker.next, ChunkSizes::DEFAULT.min);
}

#[test]
fn a_stream_up_to_min_is_one_chunk_and_an_empty_one_none() {
    let mut chunker = Chunker::new(&ChunkerKey::from_secret(&[1; 32]), SMALL);
    assert_eq!(chunker.cut(&[], true), None);
    assert_eq!(chunker.cut(&[3; 63], false), None);
    assert_eq!(chunker.cut(&[3; 63], true), Some(63));
    assert_eq!(chunker.cut(&[3; 64], true), Some(64));
}

#[test]
fn a_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", ChunkerKey::from_secret(&[1; 32])), "ChunkerKey(secret)");
}

/// Golden: secret = bytes 0, 1, … 31; stream = the first 1 MiB of plain BLAKE3's extended output for the ASCII
/// input "lavatube chunker golden vector 1".
#[test]
fn golden_vector_1_holds() {
    let secret = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let stream = noise("lavatube chunker golden vector 1", 1 << 20);
    let roomy = ChunkSizes { min: 32 << 10, mean: 64 << 10, max: 256 << 10 };
    let tight = ChunkSizes { min: 16 << 10, mean: 64 << 10, max: 80 << 10 };
    for (sizes, golden) in [(ChunkSizes::DEFAULT, GOLDEN_DEFAULT), (roomy, GOLDEN_ROOMY), (tight, GOLDEN_TIGHT)] {
        assert_eq!(cuts(&secret, sizes, &stream, &[]), golden, "{sizes:?}");
        assert_eq!(naive_cuts(&secret, sizes, &stream), golden, "{sizes:?}");
    }
}

/// `min` 8 KiB, `mean` 16 KiB, `max` 64 KiB.
const GOLDEN_DEFAULT: &[usize] = &[
    15343, 9361, 11499, 14888, 10517, 9775, 11579, 11601, 17514, 24247, 23509, 15668, 16419, 10397, 13387, 26380, 8557,
    9582, 18880, 13332, 36594, 15930, 25323, 8720, 8461, 23284, 13061, 14662, 11636, 10770, 15295, 16784, 12697, 12192,
    14822, 11441, 11826, 9524, 11020, 42486, 9014, 10423, 15678, 34534, 23893, 17934, 12405, 16222, 34170, 11884,
    10946, 10004, 9472, 13931, 20693, 23389, 11145, 13703, 14085, 10303, 10849, 19868, 13231, 13313, 19864, 28660,
];

/// `min` 32 KiB, `mean` 64 KiB, `max` 256 KiB.
const GOLDEN_ROOMY: &[usize] =
    &[39727, 135774, 74785, 34876, 61865, 91443, 73376, 44087, 82467, 55217, 49227, 62276, 94217, 45529, 58107, 45603];

/// `min` 16 KiB, `mean` 64 KiB, `max` 80 KiB: shows forced cuts.
const GOLDEN_TIGHT: &[usize] = &[
    24704, 81920, 81920, 61742, 81920, 42386, 81920, 55334, 64631, 76218, 65244, 41127, 76476, 63795, 19588, 81920,
    47731,
];
