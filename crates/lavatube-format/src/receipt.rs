//! Receipts: the vault's signed word that an object is durable, quoting the journal record that made it so.
//!
//! `docs/FORMAT.md` section 6. It must not know what durable means: `lavatube-vault` hands one out only for its proof
//! token. Step 17 of the walk.

use lavatube_base::sign::{ED25519_SIGNATURE_LEN, EdSigner, SignError, verify_ed25519};
use lavatube_base::{ObjectId, VaultId};
use minicbor::{Decoder, Encoder};

use crate::Malformed;
use crate::cbor::{check_same, malformed};
use crate::journal::Check;
use crate::shard::ObjectKind;

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptBody {
    /// The vault that keeps the object.
    pub vault: VaultId,
    /// Sequence number of the journal record.
    pub sequence: u64,
    /// What the object is.
    pub kind: ObjectKind,
    /// The object.
    pub object: ObjectId,
    /// The journal record's check.
    pub check: Check,
}

/// A receipt with its signature; not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it says.
    pub body: ReceiptBody,
    /// Ed25519 signature by the vault key.
    pub signature: [u8; ED25519_SIGNATURE_LEN],
}

/// More than any receipt has.
pub const RECEIPT_LEN_MAX: usize = 256;

impl ReceiptBody {
    /// The receipt's CBOR body, which is what is signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        self.write(&mut e).expect("writing to memory does not fail");
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.map(5)?.u8(1)?.bytes(&self.vault.0)?.u8(2)?.u64(self.sequence)?.u8(3)?.u8(self.kind.code())?;
        e.u8(4)?.bytes(&self.object.0)?.u8(5)?.bytes(&self.check)?.ok()
    }

    /// Signs the body with the vault key.
    pub fn sign(self, signer: &EdSigner) -> Receipt {
        let signature = signer.sign(CONTEXT, &self.encode());
        Receipt { body: self, signature }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let body = read(bytes).map_err(malformed(WHAT))?;
        check_same(WHAT, bytes, &body.encode())?;
        Ok(body)
    }
}

fn read(bytes: &[u8]) -> Result<ReceiptBody, minicbor::decode::Error> {
    let mut d = Decoder::new(bytes);
    d.map()?;
    d.u8()?;
    let vault = VaultId(array(d.bytes()?)?);
    d.u8()?;
    let sequence = d.u64()?;
    d.u8()?;
    let code = d.u8()?;
    let kind = ObjectKind::from_code(code).ok_or_else(|| minicbor::decode::Error::message("object kind"))?;
    d.u8()?;
    let object = ObjectId(array(d.bytes()?)?);
    d.u8()?;
    let check = array(d.bytes()?)?;
    Ok(ReceiptBody { vault, sequence, kind, object, check })
}

impl Receipt {
    /// The receipt's bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.body.encode()[..], &self.signature].concat()
    }

    /// Reads a receipt from exactly its bytes, without verifying the signature.
    ///
    /// # Errors
    /// [`Malformed`] when they are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let too_short = Malformed { what: WHAT, at: bytes.len(), rule: "shorter than its signature" };
        let (body, signature) = bytes.split_last_chunk::<ED25519_SIGNATURE_LEN>().ok_or(too_short)?;
        Ok(Self { body: ReceiptBody::decode(body)?, signature: *signature })
    }

    /// Verifies the signature against the vault's public key.
    ///
    /// # Errors
    /// [`SignError::Signature`] when it is not the vault's.
    pub fn verify(&self, vault_key: &[u8; 32]) -> Result<(), SignError> {
        verify_ed25519(vault_key, CONTEXT, &self.body.encode(), &self.signature)
    }
}

/// `bytes` as an array, or CBOR's kind of error.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], minicbor::decode::Error> {
    bytes.try_into().map_err(|_| minicbor::decode::Error::message("byte string of another length"))
}

const WHAT: &str = "receipt";
const CONTEXT: &str = "lavatube/1 receipt";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Receipt {
        let body = ReceiptBody {
            vault: VaultId([1; 16]),
            sequence: 300,
            kind: ObjectKind::Pack,
            object: ObjectId([2; 32]),
            check: [3; 16],
        };
        body.sign(&EdSigner::from_seed(&[4; 32]).unwrap())
    }

    #[test]
    fn the_golden_receipt_stays_as_it_is() {
        let golden = include_bytes!("../../../vectors/receipt-v1.bin");
        assert_eq!(sample().encode(), golden);
        assert_eq!(Receipt::decode(golden), Ok(sample()));
    }

    #[test]
    fn a_receipt_verifies_under_its_vault_key_only() {
        let receipt = sample();
        let key = EdSigner::from_seed(&[4; 32]).unwrap().public();
        receipt.verify(&key).unwrap();
        assert!(receipt.verify(&EdSigner::from_seed(&[5; 32]).unwrap().public()).is_err());
        let bytes = receipt.encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Receipt::decode(&bad).is_err() || Receipt::decode(&bad).unwrap().verify(&key).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(receipt) = Receipt::decode(&bytes) {
                prop_assert_eq!(receipt.encode(), bytes);
            }
        }

        #[test]
        fn receipts_survive(vault: [u8; 16], sequence: u64, object: [u8; 32], check: [u8; 16], half: [u8; 32]) {
            let body = ReceiptBody { vault: VaultId(vault), sequence, kind: ObjectKind::Manifest, object: ObjectId(object), check };
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&half);
            let receipt = Receipt { body, signature };
            prop_assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
        }
    }
}
