//! The keys of audits: they make tags of sealed packs, and tell whether a vault's answer fits them.
//!
//! A tag of a block is its POLYVAL under a secret, masked by a number that only the keys give; both add up over blocks like
//! the blocks themselves, so that a sum of all blocks can be checked against the sum of their tags, without any block
//! (the private-key scheme of Shacham and Waters; docs/THREATS.md says what it proves). Whoever deposits and whoever
//! reads has them. Steps 5 and 18 of the walk. It must not know manifests, challenges or the vault.

use lavatube_base::ObjectId;
use lavatube_base::digest::keyed_stream;
use lavatube_base::limits::AUDIT_BLOCK_LEN;
use lavatube_codes::field::{ELEMENT_LEN, element, elements};
use lavatube_codes::{Polyval, Sums, inner_product};
use lavatube_format::key_file::Secret;
use lavatube_format::tags::blocks;
use zeroize::Zeroizing;

use crate::kdf::{expand32, extract};

/// The audit keys of one tenant.
pub struct AuditKeys {
    mask: Secret,
    hash: Polyval,
}

impl std::fmt::Debug for AuditKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKeys")
    }
}

impl AuditKeys {
    /// Those of the tenant with this PSK.
    pub fn of(psk: &Secret) -> Self {
        let prk = extract(LABEL, psk.bytes());
        let hash = expand32(&prk, &[b"hash"]);
        let hash = Polyval::new(element(&hash.bytes()[..ELEMENT_LEN]), AUDIT_BLOCK_LEN);
        Self { mask: expand32(&prk, &[b"mask"]), hash }
    }

    /// The tags of object `id`, whose bytes these are.
    pub fn tags(&self, id: ObjectId, object: &[u8]) -> Vec<u8> {
        let mut out = self.masks(id, object.len() as u64).to_vec();
        for (tag, block) in out.chunks_exact_mut(ELEMENT_LEN).zip(object.chunks(AUDIT_BLOCK_LEN)) {
            let sum = element(tag) ^ self.hash.of(block);
            tag.copy_from_slice(&sum.to_le_bytes());
        }
        out
    }

    /// What an answer must fit: nothing yet.
    pub fn expect(&self) -> Expected<'_> {
        Expected { keys: self, masks: 0, known: Sums::new(AUDIT_BLOCK_LEN) }
    }

    fn masks(&self, id: ObjectId, len: u64) -> Zeroizing<Vec<u8>> {
        let blocks = usize::try_from(blocks(len)).expect("blocks of an object");
        let mut out = Zeroizing::new(vec![0; blocks * ELEMENT_LEN]);
        keyed_stream(self.mask.bytes(), &[&id.0], &mut out);
        out
    }
}

/// What a vault's answer must fit.
pub struct Expected<'k> {
    keys: &'k AuditKeys,
    masks: u128,
    known: Sums,
}

impl Expected<'_> {
    /// Object `id` of `len` bytes, which has tags, each of its blocks times its number (16 bytes each).
    pub fn add_tagged(&mut self, id: ObjectId, len: u64, weights: &[u8]) {
        self.masks ^= inner_product(&self.keys.masks(id, len), weights);
    }

    /// An object whose bytes are at hand, and which has no tags.
    pub fn add_known(&mut self, object: &[u8], weights: &[u8]) {
        let weights: Vec<u128> = elements(weights).collect();
        self.known.add(&weights, object);
    }

    /// Whether these are the sums of all the blocks, and of the tags there are. Of others it says so but for chance: once
    /// in 2^118 attempts.
    pub fn fits(&self, blocks: &[u8], tags: u128) -> bool {
        let [sum, known] = [blocks, &self.known.sum()].map(|block| self.keys.hash.of(block));
        sum ^ known ^ self.masks == tags
    }
}

const LABEL: &[u8] = b"lavatube/1 audit";

#[cfg(test)]
mod tests {
    use lavatube_base::Verified;
    use lavatube_codes::field::dot;

    use super::*;

    #[test]
    fn a_weighted_sum_of_blocks_fits_that_of_their_tags_and_a_changed_bit_does_not() {
        let keys = AuditKeys::of(&Secret::new([7; 32]));
        let object: Vec<u8> = (0..3 * AUDIT_BLOCK_LEN + 5000).map(|i| (i * i % 251) as u8).collect();
        let id = Verified::hash(&object).id();
        let tags = keys.tags(id, &object);
        assert_eq!(tags.len(), 4 * ELEMENT_LEN);
        let weights: Vec<u8> = (0..64).map(|i: u8| i.wrapping_mul(91)).collect();
        let numbers: Vec<u128> = weights.chunks(ELEMENT_LEN).map(element).collect();
        let fits = |object: &[u8], keys: &AuditKeys| {
            let mut sums = Sums::new(AUDIT_BLOCK_LEN);
            sums.add(&numbers, object);
            let of_tags = tags.chunks(ELEMENT_LEN).zip(&numbers).fold(0, |sum, (t, n)| sum ^ dot(element(t), *n));
            let mut expected = keys.expect();
            expected.add_tagged(id, object.len() as u64, &weights);
            // And a second object, whose bytes are at hand.
            expected.add_known(b"manifest", &weights[..ELEMENT_LEN]);
            sums.add(&numbers[..1], b"manifest");
            expected.fits(&sums.sum(), of_tags)
        };
        assert!(fits(&object, &keys));
        for at in [0, AUDIT_BLOCK_LEN, object.len() - 1] {
            let mut changed = object.clone();
            changed[at] ^= 0x40;
            assert!(!fits(&changed, &keys), "byte {at}");
        }
        assert!(!fits(&object, &AuditKeys::of(&Secret::new([8; 32]))));
    }
}
