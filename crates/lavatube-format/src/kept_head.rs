//! What a depositor keeps of a pack it sent to a far vault: the parts a reader needs to find content in it (FORMAT section 9).
//!
//! Sealed bytes as they are in the pack: its header, its trees, its index. Losing them costs round trips.

use lavatube_base::digest::h16;
use lavatube_base::limits::OBJECT_LEN_MAX;

use crate::wire::{Malformed, Reader, put_len, put_varint};

const WHAT: &str = "kept head of a pack";
const MAGIC: &[u8; 8] = b"LVTHEAD\x01";
const CHECK_LEN: usize = 16;
/// Most parts: more than a pack has frames.
const PARTS_MAX: usize = 1 << 16;

/// Writes parts of a pack, each with its place; they ascend.
pub fn encode(parts: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_len(&mut out, parts.len());
    for (start, bytes) in parts {
        put_varint(&mut out, *start);
        put_len(&mut out, bytes.len());
    }
    parts.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    let check = h16(&[&out]);
    out.extend_from_slice(&check);
    out
}

/// Reads them.
///
/// # Errors
/// [`Malformed`] when they are not as they were written.
pub fn decode(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, Malformed> {
    let mut r = Reader::new(WHAT, bytes);
    let body = bytes.len().checked_sub(CHECK_LEN).map(|end| bytes.split_at(end));
    r.ensure(body.is_some_and(|(body, check)| h16(&[body]) == check), "its check is wrong")?;
    let magic: [u8; 8] = r.array()?;
    r.ensure(magic == *MAGIC, "it has another beginning")?;
    let count = r.varint_max(PARTS_MAX, "more parts than a pack has")?;
    let mut places = Vec::new();
    for _ in 0..count {
        let start = r.varint_max(OBJECT_LEN_MAX, "beyond the longest object")?;
        places.push((start as u64, r.varint_max(OBJECT_LEN_MAX - start, "beyond the longest object")?));
    }
    let parts = places.into_iter().map(|(start, len)| Ok((start, r.take(len)?))).collect::<Result<_, Malformed>>()?;
    r.take(CHECK_LEN)?;
    r.finish()?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_and_damage_is_noticed() {
        let parts = [(0, &b"header"[..]), (4096, b"a tree"), (60_000, b"")];
        let bytes = encode(&parts);
        assert_eq!(decode(&bytes).as_deref(), Ok(&parts[..]));
        for at in 0..bytes.len() {
            let mut hurt = bytes.clone();
            hurt[at] ^= 1;
            assert!(decode(&hurt).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
