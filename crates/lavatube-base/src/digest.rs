//! Digests, and the one way to a [`Verified`] object.
//!
//! Two hash families are kept for every pack (SECURITY: integrity can be renewed when one of them ages). `Verified` is a
//! proof by type: whoever holds one knows that the bytes were hashed and what came out. Step 13 of the
//! walk.

use crate::ObjectId;

/// BLAKE3-256 and SHA-256 of the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// BLAKE3-256: the object's id.
    pub blake3: [u8; 32],
    /// SHA-256, of another family, for the day the first one breaks.
    pub sha256: [u8; 32],
}

impl Digests {
    /// Hashes `bytes` with both.
    pub fn of(bytes: &[u8]) -> Self {
        Self { blake3: *blake3::hash(bytes).as_bytes(), sha256: sha256(bytes) }
    }
}

/// Both digests of bytes that come one after the other.
pub struct Digester {
    blake3: blake3::Hasher,
    sha256: aws_lc_rs::digest::Context,
}

impl Default for Digester {
    fn default() -> Self {
        Self { blake3: blake3::Hasher::new(), sha256: aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256) }
    }
}

impl Digester {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.sha256.update(bytes);
    }

    /// The digests of all that came.
    pub fn finish(self) -> Digests {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        Digests { blake3: *self.blake3.finalize().as_bytes(), sha256 }
    }
}

/// SHA-256 of `bytes` (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

/// First 16 bytes of BLAKE3 of the concatenation of `parts`: `H16` of `docs/FORMAT.md`.
pub fn h16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    out
}

/// Fills `out` from BLAKE3 in keyed mode of the concatenation of `parts`, as an extendable output.
pub fn keyed_stream(key: &[u8; 32], parts: &[&[u8]], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize_xof().fill(out);
}

/// Bytes together with the id that was computed from them: an object nobody needs to hash again.
#[derive(Clone, Copy)]
pub struct Verified<'a> {
    id: ObjectId,
    bytes: &'a [u8],
}

impl<'a> Verified<'a> {
    /// Hashes `bytes`; the only constructor.
    pub fn hash(bytes: &'a [u8]) -> Self {
        Self { id: ObjectId(*blake3::hash(bytes).as_bytes()), bytes }
    }

    /// Hashes `bytes` and compares with `expected`; `None` when they differ.
    pub fn check(bytes: &'a [u8], expected: ObjectId) -> Option<Self> {
        Some(Self::hash(bytes)).filter(|v| v.id == expected)
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The object's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl std::fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({}, {} bytes)", self.id, self.bytes.len())
    }
}

/// RFC 6962 section 2.1 Merkle tree hash over `leaves`, with SHA-256. The hash of no leaves is that of the empty string.
pub fn merkle_root<L: AsRef<[u8]>>(leaves: &[L]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [leaf] => sha256(&[&[0u8], leaf.as_ref()].concat()),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            sha256(&[&[1u8][..], &merkle_root(left), &merkle_root(right)].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_accepts_only_the_bytes_it_names() {
        let id = Verified::hash(b"moon").id();
        assert!(Verified::check(b"moon", id).is_some());
        assert!(Verified::check(b"m00n", id).is_none());
    }

    #[test]
    fn digests_of_parts_are_those_of_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
        let mut digester = Digester::default();
        [&bytes[..0], &bytes[..1], &bytes[1..3000], &bytes[3000..]].into_iter().for_each(|part| digester.update(part));
        assert_eq!(digester.finish(), Digests::of(&bytes));
    }

    #[test]
    fn merkle_root_splits_as_rfc_6962_says() {
        let leaf = |b: &[u8]| sha256(&[&[0u8], b].concat());
        let node = |a: [u8; 32], b: [u8; 32]| sha256(&[&[1u8][..], &a, &b].concat());
        let (a, b, c) = (leaf(b"a"), leaf(b"b"), leaf(b"c"));
        assert_eq!(merkle_root(&["a", "b", "c"]), node(node(a, b), c));
        let (d, e) = (leaf(b"d"), leaf(b"e"));
        assert_eq!(merkle_root(&["a", "b", "c", "d", "e"]), node(node(node(a, b), node(c, d)), e));
    }
}
