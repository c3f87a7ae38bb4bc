//! Depositor cards: the authority's word that a machine may deposit (FORMAT section 5).
//!
//! A card carries a label for people and the machine's two public keys, signed by the archive's authority. Its holder's
//! [`DepositorId`] is the digest of the keys alone, so a new label is not a new depositor. This file must not know whose
//! authority is believed.

use lavatube_base::DepositorId;
use lavatube_base::limits::CARD_LEN_MAX;
use lavatube_base::sign::{ML_DSA_65_PUBLIC_LEN, PairPublic, PairSignature, SignError};
use minicbor::{Decoder, Encoder};

use crate::cbor::{check_same, malformed};
use crate::manifest::{fixed, key, signed};
use crate::wire::Malformed;

/// First eight bytes of every depositor card.
pub const MAGIC: &[u8; 8] = b"LVTCARD\x01";
/// Context of the authority's signatures.
pub const CARD_CONTEXT: &str = "lavatube/1 depositor card";

const WHAT: &str = "depositor card";

/// Who may deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositorCard {
    /// Name of the machine, for people.
    pub label: String,
    /// Its public keys.
    pub public: PairPublic,
}

/// The id of the depositor with these public keys.
pub fn depositor_id(public: &PairPublic) -> DepositorId {
    let named = [&b"lavatube/1 depositor"[..], &public.ed25519, &public.ml_dsa_65].concat();
    DepositorId(lavatube_base::digest::Verified::hash(&named).id().0)
}

impl DepositorCard {
    /// The depositor's id: digest of its public keys.
    pub fn id(&self) -> DepositorId {
        depositor_id(&self.public)
    }

    /// The body: what is signed.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        // Writing to a Vec cannot fail.
        let _: Result<(), minicbor::encode::Error<std::convert::Infallible>> = self.write(&mut e);
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.map(3)?.u8(1)?.str(&self.label)?;
        e.u8(2)?.bytes(&self.public.ed25519)?.u8(3)?.bytes(&self.public.ml_dsa_65)?;
        Ok(())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not such a map in deterministic form.
    pub fn decode_body(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > CARD_LEN_MAX {
            return Err(Malformed { what: WHAT, at: 0, rule: "body exceeds its limit" });
        }
        let out = Self::read(&mut Decoder::new(bytes)).map_err(malformed(WHAT))?;
        check_same(WHAT, bytes, &out.encode_body())?;
        Ok(out)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, minicbor::decode::Error> {
        if d.map()? != Some(3) {
            return Err(minicbor::decode::Error::message("a card has three keys"));
        }
        key(d, 1)?;
        let label = d.str()?.to_owned();
        key(d, 2)?;
        let ed25519 = fixed(d)?;
        key(d, 3)?;
        let ml_dsa_65 = fixed::<ML_DSA_65_PUBLIC_LEN>(d)?.to_vec();
        Ok(Self { label, public: PairPublic { ed25519, ml_dsa_65 } })
    }
}

/// A card with its body as it was signed, and the authority's signature. Decoding does not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCard {
    /// What the body says.
    pub card: DepositorCard,
    /// The signed bytes.
    pub body: Vec<u8>,
    /// The authority's signature.
    pub signature: PairSignature,
}

impl SignedCard {
    /// The card as an object.
    ///
    /// # Panics
    /// When the signature is not one of ML-DSA-65, or the body exceeds 4 GiB.
    pub fn encode(&self) -> Vec<u8> {
        signed::encode(MAGIC, &self.body, &self.signature)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`Malformed`] when the envelope or the body breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, signature) = signed::decode(WHAT, MAGIC, CARD_LEN_MAX, bytes)?;
        Ok(Self { card: DepositorCard::decode_body(body)?, body: body.to_vec(), signature })
    }

    /// Verifies both signatures of the authority.
    ///
    /// # Errors
    /// [`SignError::Signature`] naming the algorithm that refused.
    pub fn verify(&self, authority: &PairPublic) -> Result<(), SignError> {
        authority.verify(CARD_CONTEXT, &self.body, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::sign::PairSigner;
    use proptest::prelude::*;

    fn signed_card(label: &str) -> (SignedCard, PairPublic) {
        let authority = PairSigner::from_seeds(&[1; 32], &[2; 32]).unwrap();
        let public = PairSigner::from_seeds(&[3; 32], &[4; 32]).unwrap().public();
        let card = DepositorCard { label: label.into(), public };
        let body = card.encode_body();
        let signature = authority.sign(CARD_CONTEXT, &body).unwrap();
        (SignedCard { card, body, signature }, authority.public())
    }

    #[test]
    fn a_card_survives_and_verifies() {
        let (card, authority) = signed_card("laptop");
        let again = SignedCard::decode(&card.encode()).unwrap();
        assert_eq!(again, card);
        again.verify(&authority).unwrap();
        assert!(again.verify(&card.card.public).is_err());
    }

    #[test]
    fn the_id_is_that_of_the_keys_and_not_of_the_label() {
        let (a, _) = signed_card("laptop");
        let (b, _) = signed_card("desk");
        assert_eq!(a.card.id(), b.card.id());
        let mut other = a.card.clone();
        other.public.ml_dsa_65[0] ^= 1;
        assert_ne!(other.id(), a.card.id());
    }

    #[test]
    fn a_manifest_is_no_card() {
        let (card, _) = signed_card("laptop");
        let mut bytes = card.encode();
        bytes[..8].copy_from_slice(crate::manifest::MAGIC);
        assert!(SignedCard::decode(&bytes).is_err());
    }

    #[test]
    fn a_body_at_the_limit_is_read_and_one_past_it_is_not() {
        let (mut card, _) = signed_card("");
        let room = CARD_LEN_MAX - card.body.len() - 2;
        card.card.label = "x".repeat(room);
        assert_eq!(card.card.encode_body().len(), CARD_LEN_MAX);
        assert!(DepositorCard::decode_body(&card.card.encode_body()).is_ok());
        card.card.label.push('x');
        assert!(DepositorCard::decode_body(&card.card.encode_body()).is_err());
        card.body = card.card.encode_body();
        assert!(SignedCard::decode(&card.encode()).is_err());
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = signed_card("laptop").0.encode();
        assert!((0..bytes.len()).all(|n| SignedCard::decode(&bytes[..n]).is_err()));
    }

    proptest! {
        #[test]
        fn any_label_survives(label in "\\PC{0,60}") {
            let (card, _) = signed_card(&label);
            prop_assert_eq!(SignedCard::decode(&card.encode()), Ok(card));
        }

        #[test]
        fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SignedCard::decode(&bytes);
            let _ = DepositorCard::decode_body(&bytes);
        }
    }
}
