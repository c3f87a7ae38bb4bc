//! HKDF-SHA512 (RFC 5869) in the two shapes FORMAT uses, over `aws-lc-rs`.
//!
//! It exists so that no other file handles pseudo-random keys by hand. It must not know what is derived.

use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Prk, Salt};
use lavatube_format::key_file::Secret;
use zeroize::{Zeroize, Zeroizing};

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Extract.
pub(crate) fn extract(salt: &[u8], ikm: &[u8; 32]) -> Prk {
    Salt::new(HKDF_SHA512, salt).extract(ikm)
}

/// HKDF-Expand to 32 bytes.
pub(crate) fn expand32(prk: &Prk, info: &[&[u8]]) -> Secret {
    let mut out = [0; 32];
    fill(prk, info, &mut out);
    let secret = Secret::new(out);
    out.zeroize();
    secret
}

/// HKDF-Expand to 64 bytes, as AEAD key and commitment.
pub(crate) fn key_and_commitment(prk: &Prk, info: &[&[u8]]) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let mut out = Zeroizing::new([0; 64]);
    fill(prk, info, &mut out[..]);
    let (mut key, mut commitment) = (Zeroizing::new([0; 32]), [0; 32]);
    key.copy_from_slice(&out[..32]);
    commitment.copy_from_slice(&out[32..]);
    (key, commitment)
}

fn fill(prk: &Prk, info: &[&[u8]], out: &mut [u8]) {
    prk.expand(info, Len(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("HKDF-SHA512 gives up to 16,320 bytes and is asked for 64 at most");
}
