//! BLAKE3 of many short inputs at a time: what [`blake3::hash`] and [`blake3::keyed_hash`] give, several times as fast.
//!
//! Why: BLAKE3 is fast by hashing the chunks of one input side by side, and a datagram has one chunk and a half. Here the chunks of
//! many datagrams lie side by side. It rests on `blake3::platform`, which that crate has for its own tests and does not promise:
//! if it goes, this file is the one-by-one loop at its end, and its test says whether it came out the same. It must not know
//! what the inputs are. Steps 9 to 11 of the walk.

use blake3::IncrementCounter;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};

/// First 16 bytes of BLAKE3 of each of `inputs`, in keyed mode if there is a key: appended to `out`, in order.
pub fn h16_many(key: Option<&[u8; 32]>, inputs: &[&[u8]], out: &mut Vec<[u8; 16]>) {
    let mut rest = inputs;
    while !rest.is_empty() {
        let alike = rest.iter().take(LANES).take_while(|input| LENS.contains(&input.len())).count();
        match alike {
            0 | 1 => {
                out.push(one(key, rest[0]));
                rest = &rest[1..];
            }
            _ => {
                side_by_side(key, &rest[..alike], out);
                rest = &rest[alike..];
            }
        }
    }
}

/// Inputs of one whole chunk, and one whose last block is the seventh.
fn side_by_side(key: Option<&[u8; 32]>, inputs: &[&[u8]], out: &mut Vec<[u8; 16]>) {
    let platform = Platform::detect();
    let (start, flags) = match key {
        Some(key) => (words_from_le_bytes_32(key), KEYED),
        None => (IV, 0),
    };
    let (mut wholes, mut parts, mut lasts) = ([&[0; CHUNK]; LANES], [&[0; PART]; LANES], [&[][..]; LANES]);
    for (i, input) in inputs.iter().enumerate() {
        if let Some((whole, rest)) = input.split_first_chunk()
            && let Some((part, last)) = rest.split_first_chunk()
        {
            (wholes[i], parts[i], lasts[i]) = (whole, part, last);
        }
    }
    let (n, no) = (inputs.len(), || IncrementCounter::No);
    let (mut first, mut second) = ([0; LANES * 32], [0; LANES * 32]);
    platform.hash_many(&wholes[..n], &start, 0, no(), flags, CHUNK_START, CHUNK_END, &mut first[..n * 32]);
    platform.hash_many(&parts[..n], &start, 1, no(), flags, CHUNK_START, 0, &mut second[..n * 32]);
    let mut parents = [[0; 64]; LANES];
    let values = first.as_chunks::<32>().0.iter().zip(second.as_chunks::<32>().0);
    for ((parent, last), (first, second)) in parents[..n].iter_mut().zip(lasts).zip(values) {
        let (mut value, mut block) = (words_from_le_bytes_32(second), [0; 64]);
        block[..last.len()].copy_from_slice(last);
        platform.compress_in_place(&mut value, &block, last.len() as u8, 1, flags | CHUNK_END);
        parent[..32].copy_from_slice(first);
        parent[32..].copy_from_slice(&le_bytes_from_words_32(&value));
    }
    let mut refs = [&[0; 64]; LANES];
    refs.iter_mut().zip(&parents).for_each(|(to, parent)| *to = parent);
    platform.hash_many(&refs[..n], &start, 0, no(), flags | PARENT | ROOT, 0, 0, &mut first[..n * 32]);
    out.extend(first[..n * 32].as_chunks::<32>().0.iter().map(head));
}

fn one(key: Option<&[u8; 32]>, input: &[u8]) -> [u8; 16] {
    head(
        match key {
            Some(key) => blake3::keyed_hash(key, input),
            None => blake3::hash(input),
        }
        .as_bytes(),
    )
}

fn head(hash: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    out
}

/// Inputs side by side: as many as the widest machine takes.
const LANES: usize = 16;
const CHUNK: usize = 1024;
/// Six blocks; a seventh follows, whole or not.
const PART: usize = 384;
/// Lengths that are hashed side by side: those of full datagrams and of their symbols.
const LENS: std::ops::RangeInclusive<usize> = CHUNK + PART + 1..=CHUNK + PART + 64;

// BLAKE3's own constants (its paper, tables 1 and 3).
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;
const KEYED: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hashes_are_what_each_is_alone() {
        let bytes: Vec<u8> = (0..4000u32).map(|i| ((i * i) >> 3) as u8).collect();
        let lens = [0, 1, 1024, 1408, 1409, 1410, 1456, 1456, 1471, 1472, 1473, 1500, 2048, 2049];
        for n in [0, 1, 2, 5, 15, 16, 17, 40] {
            for shift in 0..lens.len() {
                let mixed = |i: usize| &bytes[i..i + lens[(i + shift) % lens.len()]];
                let alike = |i: usize| &bytes[i..i + lens[4 + shift % 6]];
                for inputs in [(0..n).map(mixed).collect::<Vec<_>>(), (0..n).map(alike).collect()] {
                    for key in [None, Some(&[9; 32])] {
                        let mut out = vec![[7; 16]];
                        h16_many(key, &inputs, &mut out);
                        assert_eq!(out[1..], inputs.iter().map(|input| one(key, input)).collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
