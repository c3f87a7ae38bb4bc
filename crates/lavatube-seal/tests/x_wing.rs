//! X-Wing a second time. `hpke` and the crate that `backends` compares it with share one implementation, so here the KEM is
//! put together by hand from others: ML-KEM-768 of `fips203`, X25519 and SHA3-256 of `aws-lc-rs`. What one side wraps the
//! other opens, in both directions.

#![expect(clippy::unwrap_used, reason = "tests")]

use aes_gcm::aead::{Aead, KeyInit};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{SHA3_256, digest};
use fips203::ml_kem_768::{CipherText, DecapsKey, EncapsKey, KG};
use fips203::traits::{Decaps, Encaps, KeyGen, SerDes};
use hkdf::Hkdf;
use lavatube_base::{DepositorId, SessionId};
use lavatube_format::key_file::Secret;
use lavatube_format::manifest::Wrap;
use lavatube_seal::{Root, Session, SessionKeys, Unwrap};
use proptest::prelude::*;
use sha2::Sha512;
use sha3::Shake256;
use sha3::digest::{ExtendableOutput, Update, XofReader};

const SESSION: SessionId = SessionId([7; 16]);
const DEPOSITOR: DepositorId = DepositorId([8; 32]);
const CT_M_LEN: usize = 1088;
const PK_M_LEN: usize = 1184;

/// A key pair of draft-connolly-cfrg-xwing-kem, section 5.2.
struct XWing {
    decaps: DecapsKey,
    x25519: PrivateKey,
    public: Vec<u8>,
}

impl XWing {
    fn from_seed(seed: &[u8; 32]) -> Self {
        let mut expanded = [[0; 32]; 3];
        let mut reader = Shake256::default().chain(seed).finalize_xof();
        expanded.iter_mut().for_each(|part| reader.read(part));
        let [d, z, x] = expanded;
        let (encaps, decaps) = KG::keygen_from_seed(d, z);
        let x25519 = PrivateKey::from_private_key(&X25519, &x).unwrap();
        let public = [&encaps.into_bytes()[..], x25519.compute_public_key().unwrap().as_ref()].concat();
        Self { decaps, x25519, public }
    }

    /// Section 5.5.
    fn decapsulate(&self, ct: &[u8]) -> Vec<u8> {
        let (ct_m, ct_x) = ct.split_at(CT_M_LEN);
        let ss_m = self.decaps.try_decaps(&CipherText::try_from_bytes(ct_m.try_into().unwrap()).unwrap()).unwrap();
        combine(&ss_m.into_bytes(), &exchange(&self.x25519, ct_x), ct_x, &self.public[PK_M_LEN..])
    }
}

/// Section 5.4: shared secret and ciphertext.
fn encapsulate(public: &[u8], coins: &[u8; 32], ephemeral: &[u8; 32]) -> (Vec<u8>, Vec<u8>) {
    let (pk_m, pk_x) = public.split_at(PK_M_LEN);
    let (ss_m, ct_m) = EncapsKey::try_from_bytes(pk_m.try_into().unwrap()).unwrap().encaps_from_seed(coins);
    let ephemeral = PrivateKey::from_private_key(&X25519, ephemeral).unwrap();
    let ct_x = ephemeral.compute_public_key().unwrap();
    let shared = combine(&ss_m.into_bytes(), &exchange(&ephemeral, pk_x), ct_x.as_ref(), pk_x);
    (shared, [&ct_m.into_bytes()[..], ct_x.as_ref()].concat())
}

fn exchange(private: &PrivateKey, public: &[u8]) -> Vec<u8> {
    agree(private, UnparsedPublicKey::new(&X25519, public), (), |shared| Ok(shared.to_vec())).unwrap()
}

/// Section 5.3.
fn combine(ss_m: &[u8], ss_x: &[u8], ct_x: &[u8], pk_x: &[u8]) -> Vec<u8> {
    digest(&SHA3_256, &[ss_m, ss_x, ct_x, pk_x, br"\.//^\"].concat()).as_ref().to_vec()
}

/// The one message of an HPKE base mode context (RFC 9180 section 5.1): its cipher and its nonce.
fn hpke(shared: &[u8], info: &[u8]) -> (aes_gcm::Aes256Gcm, [u8; 12]) {
    let suite = [&b"HPKE"[..], &0x647au16.to_be_bytes(), &3u16.to_be_bytes(), &2u16.to_be_bytes()].concat();
    let extract = |salt: &[u8], label: &[u8], ikm: &[u8]| {
        Hkdf::<Sha512>::extract(Some(salt), &[b"HPKE-v1", &suite[..], label, ikm].concat())
    };
    let hash = |label: &[u8], ikm: &[u8]| extract(b"", label, ikm).0.to_vec();
    let context = [&[0][..], &hash(b"psk_id_hash", b""), &hash(b"info_hash", info)].concat();
    let secret = extract(shared, b"secret", b"").1;
    let expand = |label: &[u8], out: &mut [u8]| {
        let len = u16::try_from(out.len()).unwrap().to_be_bytes();
        secret.expand(&[&len[..], b"HPKE-v1", &suite, label, &context].concat(), out).unwrap();
    };
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    expand(b"key", &mut key);
    expand(b"base_nonce", &mut nonce);
    (aes_gcm::Aes256Gcm::new_from_slice(&key).unwrap(), nonce)
}

fn info() -> Vec<u8> {
    [&b"lavatube/1 session"[..], &SESSION.0, &DEPOSITOR.0].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn keys_from_one_seed_are_alike(root: [u8; 32]) {
        let root = Root::new(Secret::new(root));
        let seed = root.read_body("default").unwrap().x_wing_seed;
        prop_assert_eq!(root.read_public().unwrap().to_bytes(), XWing::from_seed(seed.bytes()).public);
    }

    #[test]
    fn the_other_opens_what_we_wrap(root: [u8; 32], secret: [u8; 32], mut dice: [u8; 64]) {
        let root = Root::new(Secret::new(root));
        let mut entropy = |out: &mut [u8]| {
            out.copy_from_slice(&dice[..out.len()]);
            dice.rotate_left(out.len());
        };
        let wrap =
            Session::wrap(&root.read_public().unwrap(), SESSION, DEPOSITOR, &Secret::new(secret), &mut entropy).unwrap();
        let key = XWing::from_seed(root.read_body("default").unwrap().x_wing_seed.bytes());
        let (cipher, nonce) = hpke(&key.decapsulate(&wrap.enc), &info());
        prop_assert_eq!(cipher.decrypt(&nonce.into(), &wrap.ct[..]).unwrap(), secret);
    }

    #[test]
    fn we_open_what_the_other_wraps(root: [u8; 32], secret: [u8; 32], coins: [u8; 32], ephemeral: [u8; 32]) {
        let root = Root::new(Secret::new(root));
        let keys = root.read_keys("default").unwrap();
        let (shared, enc) = encapsulate(&keys.read_public().to_bytes(), &coins, &ephemeral);
        let (cipher, nonce) = hpke(&shared, &info());
        let ct = cipher.encrypt(&nonce.into(), &secret[..]).unwrap();
        let opened = keys.open_session(SESSION, DEPOSITOR, &[Wrap { key_id: keys.read_public().id(), enc, ct }]).unwrap();
        let expected = SessionKeys::derive(SESSION, &root.tenant("default").psk, &Secret::new(secret));
        let (opened, expected) = (opened.pack(0, 0), expected.pack(0, 0));
        prop_assert_eq!(opened.header(), expected.header());
    }
}
