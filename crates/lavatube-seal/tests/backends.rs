//! Two backends, one answer: what `aws-lc-rs` and `hpke` compute is computed again with RustCrypto, and both are held
//! against published vectors. A bug or a back door would have to be in both (SECURITY, adversary A6). X-Wing, which `hpke`
//! takes from RustCrypto, has its second in `x_wing`.

#![expect(clippy::unwrap_used, reason = "tests")]

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aws_lc_rs::{aead, hkdf as aws_hkdf};
use ed25519_dalek::{Signer, Verifier};
use hkdf::Hkdf;
use lavatube_base::digest::sha256;
use lavatube_base::sign::{PairSigner, verify_ed25519};
use lavatube_base::{ChunkId, DepositorId, SessionId};
use lavatube_format::key_file::{ReadBody, Secret};
use lavatube_format::manifest::Note;
use lavatube_seal::{ReadKeys, ReadPublic, Root, Session, SessionKeys, Unwrap};
use ml_dsa::MlDsa65;
use sha2::Sha512;
use x_wing::{Decapsulate, DecapsulationKey, KeyExport};

const SESSION: SessionId = SessionId([7; 16]);
const DEPOSITOR: DepositorId = DepositorId([8; 32]);

fn unhex(s: &str) -> Vec<u8> {
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(s: &str) -> [u8; N] {
    unhex(s).try_into().unwrap()
}

struct Len(usize);

impl aws_hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

#[test]
fn hkdf_sha512_agrees_with_wycheproof_in_both_backends() {
    // C2SP/wycheproof testvectors/hkdf_sha512_test.json, tcId 11, 12 and 18: ikm, salt, info, okm.
    let vectors = [
        (
            "5d3db20e8238a90b62a600fa57fdb318",
            "1d6f3b38a1e607b5e6bcd4af1800a9d3",
            "2bc5f39032b6fc87da69ba8711ce735b169646fd",
            "8c3cf7122dcb5eb7efaf02718f1faf70bca20dcb75070e9d0871a413a6c05fc195a75aa9ffc349d70aae",
        ),
        (
            "8677dc79233ef3480777c4c601ef4f0b",
            "ad88db718244e2cb60e35f874d7ad81f",
            "a38f634d947819a9bfa792174b42baa20c9fce15",
            "918e9cda37bf7f52506111048a878e64a503f9869d0c2615047b995f1efedc4f\
             713b4dbcc940838e68f6a2bf772ebefae9154e9075da80ea1fd68b9df580ad76",
        ),
        (
            "6cf725e939e8824d4392233eeac75d30",
            "1e72f24b05a91a0093f34306ffced79e7003055b0833c6d0f27a4f33a1bd",
            "495425d9727fee2e2b7e78899868c1c3e7735e1d",
            "379e6d4fc3c9b344754a1094eac60b71e47e281695515987abbc3b22c1e267d9\
             5b101592896e08c869557ea82ba075d9c9524d3cb79d7d8cabb33364f5252968",
        ),
    ];
    for (ikm, salt, info, okm) in vectors {
        let (ikm, salt, info, okm) = (unhex(ikm), unhex(salt), unhex(info), unhex(okm));
        let mut out = vec![0; okm.len()];
        Hkdf::<Sha512>::new(Some(&salt), &ikm).expand(&info, &mut out).unwrap();
        assert_eq!(out, okm);
        let prk = aws_hkdf::Salt::new(aws_hkdf::HKDF_SHA512, &salt).extract(&ikm);
        prk.expand(&[&info], Len(okm.len())).unwrap().fill(&mut out).unwrap();
        assert_eq!(out, okm);
    }
}

#[test]
fn aes_256_gcm_agrees_with_the_specification_in_both_backends() {
    // McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14: plaintext, ciphertext and tag.
    let vectors = [
        ("", "530f8afbc74536b9a963b4f1c4cb738b"),
        ("00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ];
    for (plain, sealed) in vectors {
        let other = aes_gcm::Aes256Gcm::new_from_slice(&[0; 32]).unwrap();
        assert_eq!(other.encrypt(&[0; 12].into(), &unhex(plain)[..]).unwrap(), unhex(sealed));
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, &[0; 32]).unwrap());
        let mut buf = unhex(plain);
        let nonce = aead::Nonce::assume_unique_for_key([0; 12]);
        key.seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut buf).unwrap();
        assert_eq!(buf, unhex(sealed));
    }
}

#[test]
fn everything_derived_from_the_root_is_derived_alike_by_the_other_backend() {
    let seed = [0x42; 32];
    let root = Root::new(Secret::new(seed));
    let derive = |label: &str| {
        let mut out = [0; 32];
        Hkdf::<Sha512>::new(Some(b"lavatube/1"), &seed).expand(label.as_bytes(), &mut out).unwrap();
        out
    };
    let (tenant, body) = (root.tenant("grüße"), root.read_body("grüße").unwrap());
    assert_eq!(*tenant.psk.bytes(), derive("tenant/grüße/psk"));
    assert_eq!(*tenant.chunk_id_key.bytes(), derive("tenant/grüße/chunk-id"));
    assert_eq!(*tenant.chunker_secret.bytes(), derive("tenant/grüße/chunker"));
    assert_eq!(*body.x_wing_seed.bytes(), derive("read/x-wing"));
    assert_eq!((body.psk, body.chunk_id_key), (tenant.psk, tenant.chunk_id_key));
    let ed = ed25519_dalek::SigningKey::from_bytes(&derive("authority/ed25519"));
    assert_eq!(body.authority.ed25519, ed.verifying_key().to_bytes());
    let ml = ml_dsa::SigningKey::<MlDsa65>::from_seed(&derive("authority/ml-dsa-65").into());
    assert_eq!(body.authority.ml_dsa_65, ml.expanded_key().verifying_key().encode().to_vec());
    let x_wing = DecapsulationKey::from(derive("read/x-wing"));
    let public = x_wing::Decapsulator::encapsulation_key(&x_wing).to_bytes();
    assert_eq!(root.read_public().unwrap().to_bytes(), public.to_vec());
    assert_eq!(root.read_public().unwrap().id(), blake3::hash(&public).as_bytes()[..8]);
}

#[test]
fn x_wing_agrees_with_the_vectors_of_its_draft() {
    // draft-connolly-cfrg-xwing-kem, spec/test-vectors.json: seed, eseed, ss, SHA-256 of pk, SHA-256 of ct.
    let vectors = [
        (
            "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
            "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
             35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
            "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
            "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
            "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
        ),
        (
            "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
            "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdef\
             aee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
            "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
            "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
            "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
        ),
    ];
    for (seed, eseed, ss, pk, ct) in vectors {
        let key = DecapsulationKey::from(array::<32>(seed));
        let public = x_wing::Decapsulator::encapsulation_key(&key).to_bytes().to_vec();
        assert_eq!(sha256(&public), array(pk));
        let mut given = unhex(eseed);
        let mut entropy = |out: &mut [u8]| out.copy_from_slice(&given.drain(..out.len()).collect::<Vec<_>>());
        let to = ReadPublic::from_bytes(&public).unwrap();
        let wrap = Session::wrap(&to, SESSION, DEPOSITOR, &Secret::new([9; 32]), &mut entropy).unwrap();
        assert_eq!(sha256(&wrap.enc), array(ct));
        assert_eq!(key.decapsulate(&wrap.enc.as_slice().try_into().unwrap())[..], unhex(ss));
    }
}

/// RFC 9180 section 5.1, base mode, by hand.
fn hpke_key_schedule(shared: &[u8], info: &[u8]) -> ([u8; 32], [u8; 12]) {
    let suite = [&b"HPKE"[..], &0x647au16.to_be_bytes(), &3u16.to_be_bytes(), &2u16.to_be_bytes()].concat();
    let extract = |salt: &[u8], label: &[u8], ikm: &[u8]| {
        Hkdf::<Sha512>::extract(Some(salt), &[&b"HPKE-v1"[..], &suite, label, ikm].concat()).0.to_vec()
    };
    let expand = |prk: &[u8], label: &[u8], context: &[u8], out: &mut [u8]| {
        let len = u16::try_from(out.len()).unwrap().to_be_bytes();
        let info = [&len[..], b"HPKE-v1", &suite, label, context].concat();
        Hkdf::<Sha512>::from_prk(prk).unwrap().expand(&info, out).unwrap();
    };
    let context = [&[0u8][..], &extract(b"", b"psk_id_hash", b""), &extract(b"", b"info_hash", info)].concat();
    let secret = extract(shared, b"secret", b"");
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    expand(&secret, b"key", &context, &mut key);
    expand(&secret, b"base_nonce", &context, &mut nonce);
    (key, nonce)
}

#[test]
fn a_wrap_opens_by_hand_with_the_other_backend() {
    let root = Root::new(Secret::new([0x42; 32]));
    let secret = Secret::new([0x55; 32]);
    let mut entropy = |out: &mut [u8]| out.fill(0x66);
    let wrap = Session::wrap(&root.read_public().unwrap(), SESSION, DEPOSITOR, &secret, &mut entropy).unwrap();
    assert_eq!((wrap.enc.len(), wrap.ct.len()), (1120, 48));
    let seed = root.read_body("default").unwrap().x_wing_seed;
    let shared = DecapsulationKey::from(*seed.bytes()).decapsulate(&wrap.enc.as_slice().try_into().unwrap());
    let info = [&b"lavatube/1 session"[..], &SESSION.0, &DEPOSITOR.0].concat();
    let (key, nonce) = hpke_key_schedule(&shared, &info);
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&key).unwrap();
    assert_eq!(cipher.decrypt(&nonce.into(), &wrap.ct[..]).unwrap(), secret.bytes());
}

#[test]
fn a_note_is_sealed_alike_by_the_other_backend() {
    let note = Note { tenant: "default".into(), snapshots: vec![(ChunkId([3; 24]), 4)], marks: vec![] };
    let (psk, secret) = ([1; 32], [2; 32]);
    let session = SessionKeys::derive(SESSION, &Secret::new(psk), &Secret::new(secret));
    let mut keys = [0; 64];
    let info = [&b"lavatube/1 note"[..], &SESSION.0].concat();
    Hkdf::<Sha512>::new(Some(&psk), &secret).expand(&info, &mut keys).unwrap();
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&keys[..32]).unwrap();
    let body = cipher.encrypt(&[0; 12].into(), Payload { msg: &note.encode(), aad: b"" }).unwrap();
    let sealed = session.seal_note(&note).unwrap();
    assert_eq!(sealed, [&keys[32..], &body].concat());
    assert_eq!(session.open_note(&sealed).unwrap(), note);
}

#[test]
fn signatures_of_either_backend_verify_with_the_other() {
    let ours = PairSigner::from_seeds(&[5; 32], &[6; 32]).unwrap();
    let made = ours.sign("context", b"message").unwrap();
    let framed = b"context\0message";
    let ed = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    ed.verifying_key().verify(framed, &ed25519_dalek::Signature::from_bytes(&made.ed25519)).unwrap();
    let ml = ml_dsa::SigningKey::<MlDsa65>::from_seed(&[6; 32].into());
    let signature = ml_dsa::Signature::decode(&made.ml_dsa_65.as_slice().try_into().unwrap()).unwrap();
    assert!(ml.expanded_key().verifying_key().verify_with_context(framed, &[], &signature));
    let mut theirs = made;
    theirs.ed25519 = ed.sign(framed).to_bytes();
    theirs.ml_dsa_65 = ml.expanded_key().sign_deterministic(framed, &[]).unwrap().encode().to_vec();
    ours.public().verify("context", b"message", &theirs).unwrap();
    verify_ed25519(&ours.public().ed25519, "context", b"message", &theirs.ed25519).unwrap();
}

#[test]
fn read_keys_open_what_was_wrapped_and_say_why_when_not() {
    let root = Root::new(Secret::new([0x42; 32]));
    let keys = root.read_keys("default").unwrap();
    let mut entropy = |out: &mut [u8]| out.fill(0x66);
    let wrap = Session::wrap(keys.read_public(), SESSION, DEPOSITOR, &Secret::new([5; 32]), &mut entropy).unwrap();
    let mut elsewhere = wrap.clone();
    elsewhere.key_id = [0; 8];
    let opened = keys.open_session(SESSION, DEPOSITOR, &[elsewhere.clone(), wrap.clone()]).unwrap();
    let expected = SessionKeys::derive(SESSION, &root.tenant("default").psk, &Secret::new([5; 32]));
    assert_eq!(opened.pack(0, 0).header(), expected.pack(0, 0).header());
    let wrong = keys.open_session(SESSION, DEPOSITOR, &[elsewhere]).unwrap_err();
    assert!(wrong.to_string().contains("was not made for this key"), "{wrong}");
    // Another session, another depositor, a changed wrap.
    let altered = |session, depositor, wrap| {
        let e = keys.open_session(session, depositor, &[wrap]).unwrap_err();
        assert!(e.to_string().contains("was altered or damaged"), "{e}");
    };
    altered(SessionId([0; 16]), DEPOSITOR, wrap.clone());
    altered(SESSION, DepositorId([0; 32]), wrap.clone());
    for at in [0, 500, 1087, 1088, 1119] {
        let mut bad = wrap.clone();
        bad.enc[at] ^= 1;
        altered(SESSION, DEPOSITOR, bad);
    }
    for at in 0..48 {
        let mut bad = wrap.clone();
        bad.ct[at] ^= 1;
        altered(SESSION, DEPOSITOR, bad);
    }
    let mut short = wrap;
    short.enc.pop();
    altered(SESSION, DEPOSITOR, short);
    // Through the trait object, as an agent would be used, and after a journey through a key file's body.
    let again = ReadKeys::from_body(ReadBody::decode(&keys.body().encode()).unwrap()).unwrap();
    let agent: &dyn Unwrap = &again;
    assert!(agent.open_session(SESSION, DEPOSITOR, &[]).is_err());
}
