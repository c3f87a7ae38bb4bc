//! Signatures: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204), alone and as the pair a depositor uses.
//!
//! A pair is valid only when both are: no single broken algorithm lets anyone forge (promise P9). Every signature covers
//! a context string and a zero byte before the message, so that a signature for one purpose never serves another.
//! Entropy is handed in as seeds.

use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair, UnparsedPublicKey,
};

/// Bytes of an Ed25519 public key.
pub const ED25519_PUBLIC_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
pub const ED25519_SIGNATURE_LEN: usize = 64;
/// Bytes of an ML-DSA-65 public key.
pub const ML_DSA_65_PUBLIC_LEN: usize = 1952;
/// Bytes of an ML-DSA-65 signature.
pub const ML_DSA_65_SIGNATURE_LEN: usize = 3309;

/// Why a key or a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The seed or public key is not a key of this algorithm.
    #[error("not a valid {0} key")]
    Key(&'static str),
    /// The signature does not fit message and key.
    #[error("the {0} signature does not verify")]
    Signature(&'static str),
    /// The library could not sign.
    #[error("signing with {0} failed")]
    Signing(&'static str),
}

/// An Ed25519 signing key.
pub struct EdSigner(Ed25519KeyPair);

impl EdSigner {
    /// The key of a 32-byte seed (RFC 8032 private key).
    ///
    /// # Errors
    /// [`SignError::Key`] when the library refuses the seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SignError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| SignError::Key("Ed25519"))
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> [u8; ED25519_PUBLIC_LEN] {
        let mut out = [0; ED25519_PUBLIC_LEN];
        out.copy_from_slice(self.0.public_key().as_ref());
        out
    }

    /// Signs `context ‖ 0 ‖ message`.
    pub fn sign(&self, context: &str, message: &[u8]) -> [u8; ED25519_SIGNATURE_LEN] {
        let mut out = [0; ED25519_SIGNATURE_LEN];
        out.copy_from_slice(self.0.sign(&framed(context, message)).as_ref());
        out
    }

    /// Signs the text of a note as C2SP signed-note has it: bare. It has no zero byte, so that it is never a framed message.
    ///
    /// # Panics
    /// When the text has one: a mistake of our caller.
    pub fn sign_note(&self, text: &str) -> [u8; ED25519_SIGNATURE_LEN] {
        assert!(!text.contains('\0'), "a note has no zero bytes");
        let mut out = [0; ED25519_SIGNATURE_LEN];
        out.copy_from_slice(self.0.sign(text.as_bytes()).as_ref());
        out
    }
}

/// Verifies an Ed25519 signature over the bare text of a note.
///
/// # Errors
/// [`SignError::Signature`] when it does not verify, or the text is none of a note.
pub fn verify_note(public: &[u8], text: &str, signature: &[u8]) -> Result<(), SignError> {
    let fail = SignError::Signature("Ed25519");
    if text.contains('\0') {
        return Err(fail);
    }
    UnparsedPublicKey::new(&ED25519, public).verify(text.as_bytes(), signature).map_err(|_| fail)
}

/// Verifies an Ed25519 signature over `context ‖ 0 ‖ message`.
///
/// # Errors
/// [`SignError::Signature`] when it does not verify.
pub fn verify_ed25519(public: &[u8], context: &str, message: &[u8], signature: &[u8]) -> Result<(), SignError> {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&framed(context, message), signature)
        .map_err(|_| SignError::Signature("Ed25519"))
}

/// Both public keys of a pair.
#[derive(Clone, PartialEq, Eq)]
pub struct PairPublic {
    /// Ed25519 public key.
    pub ed25519: [u8; ED25519_PUBLIC_LEN],
    /// ML-DSA-65 public key, 1952 bytes.
    pub ml_dsa_65: Vec<u8>,
}

impl std::fmt::Debug for PairPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairPublic(")?;
        self.ed25519.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(", …)")
    }
}

impl PairPublic {
    /// Verifies both signatures over `context ‖ 0 ‖ message`; both must be good.
    ///
    /// # Errors
    /// [`SignError::Signature`] naming the first algorithm that refused.
    pub fn verify(&self, context: &str, message: &[u8], signature: &PairSignature) -> Result<(), SignError> {
        verify_ed25519(&self.ed25519, context, message, &signature.ed25519)?;
        UnparsedPublicKey::new(&ML_DSA_65, &self.ml_dsa_65)
            .verify(&framed(context, message), &signature.ml_dsa_65)
            .map_err(|_| SignError::Signature("ML-DSA-65"))
    }
}

/// Both signatures of a pair.
#[derive(Clone, PartialEq, Eq)]
pub struct PairSignature {
    /// Ed25519 signature.
    pub ed25519: [u8; ED25519_SIGNATURE_LEN],
    /// ML-DSA-65 signature, 3309 bytes.
    pub ml_dsa_65: Vec<u8>,
}

impl std::fmt::Debug for PairSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairSignature(…)")
    }
}

/// A depositor's or authority's pair of signing keys.
pub struct PairSigner {
    ed: EdSigner,
    ml: PqdsaKeyPair,
}

impl PairSigner {
    /// The pair of two 32-byte seeds.
    ///
    /// # Errors
    /// [`SignError::Key`] when the library refuses a seed.
    pub fn from_seeds(ed25519: &[u8; 32], ml_dsa_65: &[u8; 32]) -> Result<Self, SignError> {
        Ok(Self {
            ed: EdSigner::from_seed(ed25519)?,
            ml: PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, ml_dsa_65).map_err(|_| SignError::Key("ML-DSA-65"))?,
        })
    }

    /// Both public keys.
    pub fn public(&self) -> PairPublic {
        PairPublic { ed25519: self.ed.public(), ml_dsa_65: self.ml.public_key().as_ref().to_vec() }
    }

    /// Signs `context ‖ 0 ‖ message` with both.
    ///
    /// # Errors
    /// [`SignError::Signing`] when the library fails.
    pub fn sign(&self, context: &str, message: &[u8]) -> Result<PairSignature, SignError> {
        let mut ml_dsa_65 = vec![0; ML_DSA_65_SIGNATURE_LEN];
        let n = self.ml.sign(&framed(context, message), &mut ml_dsa_65).map_err(|_| SignError::Signing("ML-DSA-65"))?;
        ml_dsa_65.truncate(n);
        Ok(PairSignature { ed25519: self.ed.sign(context, message), ml_dsa_65 })
    }
}

fn framed(context: &str, message: &[u8]) -> Vec<u8> {
    [context.as_bytes(), &[0], message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_verifies_only_when_both_signatures_do() {
        let signer = PairSigner::from_seeds(&[1; 32], &[2; 32]).unwrap();
        let public = signer.public();
        assert_eq!(public.ml_dsa_65.len(), ML_DSA_65_PUBLIC_LEN);
        let good = signer.sign("test", b"message").unwrap();
        assert_eq!(good.ml_dsa_65.len(), ML_DSA_65_SIGNATURE_LEN);
        public.verify("test", b"message", &good).unwrap();
        assert!(public.verify("other", b"message", &good).is_err());
        assert!(public.verify("test", b"massage", &good).is_err());
        let mut bad = good.clone();
        bad.ed25519[0] ^= 1;
        assert_eq!(public.verify("test", b"message", &bad), Err(SignError::Signature("Ed25519")));
        let mut bad = good;
        bad.ml_dsa_65[9] ^= 1;
        assert_eq!(public.verify("test", b"message", &bad), Err(SignError::Signature("ML-DSA-65")));
    }
}
