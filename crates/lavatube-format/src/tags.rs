//! Tags of a session's packs: what an audit compares the packs with (FORMAT section 17).
//!
//! A tag is 16 bytes for each 16 KiB of a sealed pack, made on Earth under a secret. The tags of all packs of a session
//! follow each other, cut into objects; whose tag is where follows from the manifest alone. Steps 6 and 18 of the walk.
//! It must not know how tags are made.

use std::ops::Range;

use lavatube_base::limits::{AUDIT_BLOCK_LEN, OBJECT_LEN_MAX, TAGS_MAX};
use lavatube_base::{ObjectId, Stays};

use crate::manifest::Leaf;
use crate::pack::class_len;
use crate::wire::{Malformed, Reader, has_check, put_check};

/// First eight bytes of every object of tags.
pub const MAGIC: &[u8; 8] = b"LVTTAGS\x01";
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// Blocks of an object of `len` bytes, and so tags of it.
pub fn blocks(len: u64) -> u64 {
    len.div_ceil(AUDIT_BLOCK_LEN as u64)
}

/// Tags of all packs of a session.
pub fn tags_of(leaves: &[Leaf]) -> u64 {
    leaves.iter().map(|leaf| blocks(class_len(leaf.class) as u64)).sum()
}

/// Objects that the tags of a session are cut into.
pub fn objects_of(leaves: &[Leaf]) -> u64 {
    tags_of(leaves).div_ceil(TAGS_MAX as u64)
}

/// An object of tags, from their bytes.
pub fn encode(tags: &[u8]) -> Vec<u8> {
    assert!(!tags.is_empty() && tags.len().is_multiple_of(TAG_LEN) && tags.len() <= TAGS_MAX * TAG_LEN, "whole tags");
    [MAGIC, tags].concat()
}

/// The tags in an object.
///
/// # Errors
/// [`Malformed`] when it is none.
pub fn decode(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut r = Reader::new("tags", bytes);
    let magic = r.take(MAGIC.len())?;
    r.ensure(magic == MAGIC, "not tags of version 1")?;
    let len = r.left();
    r.ensure(len > 0 && len.is_multiple_of(TAG_LEN) && len <= TAGS_MAX * TAG_LEN, "whole tags, one at least")?;
    r.take(len)
}

/// Takes the blocks of a pack that went out of both sums of a proof: nothing times a block is nothing.
pub fn clear_weights(stays: &Stays, weights: &mut [u8]) {
    //= FORMAT#F53 of a pack that was thinned what stays is proved
    for gone in stays.gone() {
        weights[gone.start / AUDIT_BLOCK_LEN * TAG_LEN..gone.end / AUDIT_BLOCK_LEN * TAG_LEN].fill(0);
    }
}

/// The bytes within the objects of a session that the `n` tags from number `first` on are in: which object, and where in it.
pub fn places(first: u64, n: u64) -> impl Iterator<Item = (usize, Range<u64>)> {
    let max = TAGS_MAX as u64;
    let end = first + n;
    (first / max..end.div_ceil(max)).map(move |object| {
        let at = |tag: u64| MAGIC.len() as u64 + (tag - object * max) * TAG_LEN as u64;
        let range = at(first.max(object * max))..at(end.min((object + 1) * max));
        (usize::try_from(object).unwrap_or(usize::MAX), range)
    })
}

/// The tags of one pack in the log of the session that is open (FORMAT section 9).
pub fn put_entry(out: &mut Vec<u8>, pack: ObjectId, tags: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&u32::try_from(tags.len()).expect("tags of one object").to_le_bytes());
    out.extend_from_slice(&pack.0);
    out.extend_from_slice(tags);
    put_check(out, start);
}

/// How many bytes an entry that begins like this has; `None` for one that is none.
pub fn entry_len(head: &[u8; 4]) -> Option<usize> {
    let tags = usize::try_from(u32::from_le_bytes(*head)).ok()?;
    (tags <= TAG_LEN * OBJECT_LEN_MAX / AUDIT_BLOCK_LEN).then_some(ENTRY_OWN_LEN + tags)
}

/// The pack and its tags in an entry.
///
/// # Errors
/// [`Malformed`] when it is torn or none.
pub fn read_entry(bytes: &[u8]) -> Result<(ObjectId, &[u8]), Malformed> {
    let mut r = Reader::new("entry of tags", bytes);
    let whole = has_check(bytes);
    r.ensure(whole, "its check does not match")?;
    let head: [u8; 4] = r.array()?;
    r.ensure(entry_len(&head) == Some(bytes.len()), "another length than it says")?;
    let pack = ObjectId(r.array()?);
    Ok((pack, r.take(bytes.len() - ENTRY_OWN_LEN)?))
}

/// Bytes of an entry beside its tags.
const ENTRY_OWN_LEN: usize = 4 + ObjectId::LEN + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_lie_one_after_the_other_in_as_many_objects_as_they_need() {
        let max = TAGS_MAX as u64;
        assert_eq!(places(0, 4).collect::<Vec<_>>(), [(0, 8..72)]);
        assert_eq!(places(max - 1, 3).collect::<Vec<_>>(), [(0, 8 + 16 * (max - 1)..8 + 16 * max), (1, 8..40)]);
        assert_eq!(places(max, 1).collect::<Vec<_>>(), [(1, 8..24)]);
        let leaf = |class| Leaf { class, digests: lavatube_base::digest::Digests::of(b"") };
        assert_eq!(tags_of(&[0, 1, 2, 7].map(leaf)), 1 + 1 + 4 + 4096);
        assert_eq!((objects_of(&[]), objects_of(&[leaf(0)]), objects_of(&vec![leaf(7); 65])), (0, 1, 2));
    }

    #[test]
    fn what_is_torn_changed_or_too_long_is_none() {
        let object = encode(&[7; 48]);
        assert_eq!(decode(&object), Ok(&[7; 48][..]));
        for bad in [&object[..8], &object[..30], &[&b"LVTTAGS\x02"[..], &[7; 16]].concat()] {
            assert!(decode(bad).is_err());
        }
        assert!(decode(&[&MAGIC[..], &vec![0; TAGS_MAX * TAG_LEN]].concat()).is_ok());
        assert!(decode(&[&MAGIC[..], &vec![0; (TAGS_MAX + 1) * TAG_LEN]].concat()).is_err());

        let mut entry = Vec::new();
        put_entry(&mut entry, ObjectId([3; 32]), &[9; 32]);
        assert_eq!(read_entry(&entry), Ok((ObjectId([3; 32]), &[9; 32][..])));
        for at in 0..entry.len() {
            assert!(read_entry(&entry[..at]).is_err());
            let mut bad = entry.clone();
            bad[at] ^= 1;
            assert!(read_entry(&bad).is_err());
        }
        assert_eq!((entry_len(&[0, 0, 1, 0]), entry_len(&[16, 0, 1, 0])), (Some(65_536 + 52), None));
    }
}
