//! The envelope that manifests and depositor cards share: magic, length, body, and the two signatures of a pair.
//!
//! It exists so that both are cut in one place. It must not know what a body says, or whether a signature is good.

use lavatube_base::sign::{ED25519_SIGNATURE_LEN, ML_DSA_65_SIGNATURE_LEN, PairSignature};

use crate::wire::{Malformed, Reader};

/// Bytes of an envelope that are not its body.
pub(crate) const OVERHEAD: usize = 8 + 4 + ED25519_SIGNATURE_LEN + ML_DSA_65_SIGNATURE_LEN;

/// Puts the envelope around `body`.
pub(crate) fn encode(magic: &[u8; 8], body: &[u8], signature: &PairSignature) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("bodies are limited to a few MiB");
    assert_eq!(signature.ml_dsa_65.len(), ML_DSA_65_SIGNATURE_LEN, "an ML-DSA-65 signature has one length");
    let mut out = Vec::with_capacity(body.len() + OVERHEAD);
    out.extend_from_slice(magic);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&signature.ed25519);
    out.extend_from_slice(&signature.ml_dsa_65);
    out
}

/// Takes the envelope off: body and signature, neither of them judged.
///
/// # Errors
/// [`Malformed`] on a wrong magic, a body beyond `max`, or a length that does not fit.
pub(crate) fn decode<'a>(
    what: &'static str,
    magic: &[u8; 8],
    max: usize,
    bytes: &'a [u8],
) -> Result<(&'a [u8], PairSignature), Malformed> {
    let mut r = Reader::new(what, bytes);
    let found = r.take(8)?;
    r.ensure(found == magic, "does not begin with its magic and version 1")?;
    let len = r.u32()?;
    let len = usize::try_from(len).ok().filter(|n| *n <= max).ok_or_else(|| r.fail("body exceeds its limit"))?;
    let body = r.take(len)?;
    let ed25519 = r.array()?;
    let ml_dsa_65 = r.take(ML_DSA_65_SIGNATURE_LEN)?.to_vec();
    r.finish()?;
    Ok((body, PairSignature { ed25519, ml_dsa_65 }))
}
