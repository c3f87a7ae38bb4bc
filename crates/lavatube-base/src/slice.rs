//! Slices of BLAKE3's tree: one kilobyte of an object, and what hashes with it to the object's id.
//!
//! BLAKE3 hashes chunks of 1024 bytes and pairs of hashes above them, so that any chunk is proved by some hashes beside its
//! way to the root, without the rest. It must not know which chunks are asked for, nor why. Step 18 of the walk.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};

use crate::ObjectId;

/// Bytes of a chunk of BLAKE3; the last one of an object may be shorter.
pub const SLICE_LEN: usize = blake3::CHUNK_LEN;

/// Chunks of an object of `len` bytes: at least one.
pub fn slices_of(len: u64) -> u64 {
    len.div_ceil(SLICE_LEN as u64).max(1)
}

/// A chunk of an object, and the hashes beside its way to the root, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The hashes.
    pub beside: Vec<ChainingValue>,
}

/// Slice `number` of an object; `None` when it has none. Hashes all of it.
pub fn slice(object: &[u8], number: u64) -> Option<Slice> {
    if number >= slices_of(object.len() as u64) {
        return None;
    }
    let (mut rest, mut offset, mut beside) = (object, 0u64, Vec::new());
    let at = number * SLICE_LEN as u64;
    while rest.len() > SLICE_LEN {
        let left_len = left_subtree_len(rest.len() as u64);
        let (left, right) = rest.split_at(usize::try_from(left_len).ok()?);
        if at < offset + left_len {
            beside.push(value(right, offset + left_len));
            rest = left;
        } else {
            beside.push(value(left, offset));
            (rest, offset) = (right, offset + left_len);
        }
    }
    beside.reverse();
    Some(Slice { bytes: rest.to_vec(), beside })
}

/// Whether this is slice `number` of the object of this id, whose length is known to be this.
#[must_use]
pub fn verify_slice(id: ObjectId, len: u64, number: u64, slice: &Slice) -> bool {
    if number >= slices_of(len) {
        return false;
    }
    // From the root down: on which side of each pair the slice is.
    let (mut rest, mut offset, mut sides) = (len, 0, Vec::new());
    let at = number * SLICE_LEN as u64;
    while rest > SLICE_LEN as u64 {
        let left = left_subtree_len(rest);
        let is_left = at < offset + left;
        sides.push(is_left);
        (rest, offset) = if is_left { (left, offset) } else { (rest - left, offset + left) };
    }
    if slice.bytes.len() as u64 != rest || slice.beside.len() != sides.len() {
        return false;
    }
    if sides.is_empty() {
        return *blake3::hash(&slice.bytes).as_bytes() == id.0;
    }
    let mut value = value(&slice.bytes, offset);
    for (level, (is_left, beside)) in sides.iter().rev().zip(&slice.beside).enumerate() {
        let (left, right) = if *is_left { (&value, beside) } else { (beside, &value) };
        if level + 1 == sides.len() {
            return *merge_subtrees_root(left, right, Mode::Hash).as_bytes() == id.0;
        }
        value = merge_subtrees_non_root(left, right, Mode::Hash);
    }
    false
}

/// The chaining value of a subtree whose first byte is at `offset`.
fn value(bytes: &[u8], offset: u64) -> ChainingValue {
    blake3::Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verified;

    #[test]
    fn each_slice_of_objects_of_all_lengths_verifies_and_nothing_else_does() {
        for len in [0usize, 1, 1023, 1024, 1025, 2048, 3000, 4096, 16_384, 20_000, 65_536, 70_001] {
            let object: Vec<u8> = (0..len).map(|i| (i * i % 251) as u8).collect();
            let (id, len) = (Verified::hash(&object).id(), len as u64);
            for number in 0..slices_of(len) {
                let good = slice(&object, number).unwrap();
                assert!(verify_slice(id, len, number, &good), "{number} of {len}");
                assert!(!verify_slice(id, len, number + 1, &good));
                assert!(!verify_slice(ObjectId([7; 32]), len, number, &good));
                let mut bad = good.clone();
                bad.bytes.push(0);
                assert!(!verify_slice(id, len, number, &bad));
                if let Some(byte) = good.bytes.len().checked_sub(1) {
                    let mut bad = good.clone();
                    bad.bytes[byte] ^= 1;
                    assert!(!verify_slice(id, len, number, &bad));
                }
                for level in 0..good.beside.len() {
                    let mut bad = good.clone();
                    bad.beside[level][0] ^= 1;
                    assert!(!verify_slice(id, len, number, &bad));
                }
            }
            assert_eq!(slice(&object, slices_of(len)), None);
        }
    }
}
