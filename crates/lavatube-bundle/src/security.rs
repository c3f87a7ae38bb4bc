//! Signed and sealed payloads: BIB-HMAC-SHA2 and BCB-AES-GCM of RFC 9173, with keys that one pair of nodes shares.
//!
//! First a signature over payload and primary block, then encryption of both payload and signature: so a network between the
//! two learns neither what is carried nor whether two payloads are equal, and can neither change it nor put it into another
//! bundle. What nodes on the way must change (age, hops, previous node) is not covered. It must not know where keys come from.

use hardy_bpv7::block::BibCoverage;
use hardy_bpv7::bpsec::encryptor::{self, Encryptor};
use hardy_bpv7::bpsec::key::{EncAlgorithm, Key, KeyAlgorithm, KeySet, Operation, Type};
use hardy_bpv7::bpsec::rfc9173::ScopeFlags;
use hardy_bpv7::bpsec::signer::{self, Signer};
use hardy_bpv7::bpsec::{bcb, bib};
use hardy_bpv7::bundle::Bundle as Parsed;
use lavatube_base::limits::BLOCK_LEN_MAX;
use zeroize::ZeroizeOnDrop;

use crate::bundle::{PAYLOAD, parse, plain, unfit, unread};
use crate::scan::scan;
use crate::{Bundle, BundleError};

/// The keys that two nodes share, for bundles of either to the other. A bundle that comes back to its maker opens, too:
/// its source tells.
#[derive(ZeroizeOnDrop)]
pub struct PairKeys {
    /// Signs.
    pub mac: Mac,
    /// Encrypts, with AES-256-GCM under random nonces: good for 2^32 bundles.
    pub cipher: [u8; 32],
}

/// A key that signs, with the hash it signs by.
#[derive(ZeroizeOnDrop)]
pub enum Mac {
    /// HMAC-SHA-256.
    Sha256([u8; 32]),
    /// HMAC-SHA-384.
    Sha384([u8; 48]),
    /// HMAC-SHA-512.
    Sha512([u8; 64]),
}

impl Mac {
    fn key(&self, operation: Operation) -> Key {
        let (algorithm, bytes): (_, &[u8]) = match self {
            Self::Sha256(key) => (KeyAlgorithm::HS256, key),
            Self::Sha384(key) => (KeyAlgorithm::HS384, key),
            Self::Sha512(key) => (KeyAlgorithm::HS512, key),
        };
        key(bytes, algorithm, None, operation)
    }
}

impl PairKeys {
    fn cipher(&self, operation: Operation) -> Key {
        key(&self.cipher, KeyAlgorithm::Direct, Some(EncAlgorithm::A256GCM), operation)
    }
}

fn key(bytes: &[u8], algorithm: KeyAlgorithm, cipher: Option<EncAlgorithm>, operation: Operation) -> Key {
    Key {
        key_type: Type::OctetSequence { key: bytes.into() },
        key_algorithm: Some(algorithm),
        enc_algorithm: cipher,
        operations: Some([operation].into_iter().collect()),
        ..Key::default()
    }
}

impl Bundle {
    /// Its bytes with a signed payload that anybody can read.
    ///
    /// # Errors
    /// [`BundleError`] when it breaks a rule or a limit.
    pub fn sign(&self, mac: &Mac) -> Result<Vec<u8>, BundleError> {
        self.signed(mac).map(|(_, bytes)| bytes.into_vec())
    }

    fn signed(&self, mac: &Mac) -> Result<(Parsed, Box<[u8]>), BundleError> {
        let (parsed, bytes) = self.build()?;
        let key = mac.key(Operation::Sign);
        let signer = Signer::new(&parsed, &bytes)
            .sign_block(PAYLOAD, signer::Context::HMAC_SHA2(SCOPE), self.source.eid().clone(), &key)
            .map_err(|(_, e)| unfit(e))?;
        signer.rebuild_bundle().map_err(unfit)
    }

    /// Its bytes with a signed and encrypted payload.
    ///
    /// # Errors
    /// [`BundleError`] when it breaks a rule or a limit, or the system has no entropy.
    pub fn seal(&self, keys: &PairKeys) -> Result<Vec<u8>, BundleError> {
        let (parsed, bytes) = self.signed(&keys.mac)?;
        let key = keys.cipher(Operation::Encrypt);
        let encryptor = Encryptor::new(&parsed, &bytes)
            .encrypt_block(PAYLOAD, encryptor::Context::AES_GCM(SCOPE), self.source.eid().clone(), &key)
            .map_err(|(_, e)| unfit(e))?;
        encryptor.rebuild().map(<[u8]>::into_vec).map_err(unfit)
    }

    /// Reads a bundle whose payload is signed and not encrypted, and verifies it.
    ///
    /// # Errors
    /// [`BundleError`], also when it is not signed.
    pub fn verify(bytes: &[u8], mac: &Mac) -> Result<Self, BundleError> {
        scan(bytes)?;
        let keys = KeySet::new(vec![mac.key(Operation::Verify)]);
        let parsed = parse(bytes, &keys)?;
        if parsed.blocks.get(&PAYLOAD).is_some_and(|block| block.bcb.is_some()) {
            return Err(BundleError::Sealed);
        }
        verified(&parsed, bytes, &keys)?;
        Self::decode(bytes)
    }

    /// Reads a bundle whose payload is signed and encrypted, and proves both. One that is only one of them is refused: whoever
    /// could take protection away could change what it protected.
    ///
    /// # Errors
    /// [`BundleError`], also when it is not signed or not encrypted, or not bound to its primary block.
    pub fn open(bytes: &[u8], keys: &PairKeys) -> Result<Self, BundleError> {
        scan(bytes)?;
        let keys = KeySet::new(vec![keys.mac.key(Operation::Verify), keys.cipher(Operation::Decrypt)]);
        let parsed = parse(bytes, &keys)?;
        let block = parsed.blocks.get(&PAYLOAD).ok_or_else(|| unread("no payload"))?;
        let Some(number) = block.bcb else { return Err(BundleError::Open("encrypted")) };
        let encryption = parsed.blocks.get(&number).and_then(|block| block.payload(bytes));
        let encryption = encryption.ok_or_else(|| unread("no encryption block"))?;
        let set = hardy_cbor::decode::parse::<bcb::OperationSet>(encryption).map_err(unread)?;
        match set.operations().get(&PAYLOAD) {
            Some(bcb::Operation::AES_GCM(operation)) if operation.parameters.flags.include_primary_block => {}
            _ => return Err(BundleError::Open("encrypted together with its primary block")),
        }
        let payload = parsed.decrypt_block_data(PAYLOAD, bytes, &keys).map_err(forged)?;
        if payload.len() > BLOCK_LEN_MAX {
            return Err(BundleError::TooLong);
        }
        verified(&parsed, bytes, &keys)?;
        Self::of(&parsed, payload.as_ref().to_vec())
    }
}

/// The payload is signed together with the primary block, and the signature is that of `keys`.
fn verified(parsed: &Parsed, bytes: &[u8], keys: &KeySet) -> Result<(), BundleError> {
    let block = parsed.blocks.get(&PAYLOAD).ok_or_else(|| unread("no payload"))?;
    let number = match &block.bib {
        BibCoverage::Some(number) => *number,
        BibCoverage::None => return Err(BundleError::Open("signed")),
        BibCoverage::Maybe => return Err(BundleError::Forged("its signature cannot be decrypted".into())),
    };
    let signature = parsed.block_data(number, bytes, keys).map_err(forged)?;
    let set = hardy_cbor::decode::parse::<bib::OperationSet>(signature.as_ref()).map_err(unread)?;
    match set.operations().get(&PAYLOAD) {
        Some(bib::Operation::HMAC_SHA2(operation)) if operation.parameters.flags.include_primary_block => {}
        _ => return Err(BundleError::Open("signed together with its primary block")),
    }
    match parsed.verify_block(PAYLOAD, bytes, keys) {
        Ok(true) => Ok(()),
        Ok(false) => Err(BundleError::Open("signed")),
        Err(e) => Err(forged(e)),
    }
}

fn forged(why: impl ToString) -> BundleError {
    BundleError::Forged(plain(why))
}

/// Signature and encryption cover the primary block, the head of the payload block and their own.
const SCOPE: ScopeFlags = ScopeFlags {
    include_primary_block: true,
    include_target_header: true,
    include_security_header: true,
    unrecognised: None,
};
